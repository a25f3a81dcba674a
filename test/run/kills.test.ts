import { randomInt } from "node:crypto";
import { existsSync } from "node:fs";
import { readdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { jsonLines, processesMarked, splitrun, startSplitrun } from "../support/cli.ts";
import { temporaryFolder } from "../support/function-task.ts";
import { createRandom } from "../support/random.ts";

interface Line {
  readonly index: number;
  readonly input: number;
  readonly output?: number;
  readonly error?: unknown;
}

const items = 3000;
const rounds = Number(process.env["SPLITRUN_KILL_ROUNDS"] ?? 3);

async function job(folder: string): Promise<string> {
  await writeFile(path.join(folder, "double.mjs"), `export default async (n) => { await new Promise((r) => setTimeout(r, 1)); return n * 2; };\n`);
  await writeFile(path.join(folder, "numbers.jsonl"), Array.from({ length: items }, (_, n) => `${n}\n`).join(""));
  const file = path.join(folder, "job.json");
  await writeFile(
    file,
    JSON.stringify({
      input: { from: "numbers.jsonl" },
      task: { kind: "function", module: "./double.mjs", concurrency: 4, threads: 1 },
      taskManagers: 2,
      heartbeat: { reportMs: 20 },
      output: "out",
    }),
  );
  return file;
}

describe("kill -9 at any moment", () => {
  test("of the orchestrator loses nothing acknowledged, repeats nothing, leaves no process, and resume ends the job", async () => {
    const seed = Number(process.env["SPLITRUN_SEED"] ?? randomInt(2 ** 31));
    console.log(`kills of the orchestrator: SPLITRUN_SEED=${seed}`);
    const random = createRandom(seed);
    for (let round = 0; round < rounds; round++) {
      const folder = await temporaryFolder(onTestFinished);
      const mark = `SPLITRUN_MARK=orchestrator-${process.pid}-${seed}-${round}`;
      const env = { SPLITRUN_MARK: mark.slice("SPLITRUN_MARK=".length) };
      const file = await job(folder);
      const journal = path.join(folder, "out", "results.jsonl");
      let acknowledged: readonly Line[] = [];
      let ends = 0;
      for (let kills = 0; ; kills++) {
        const started = startSplitrun((await hasRun(folder)) ? ["resume", "out", "--json"] : ["run", file, "--json"], { cwd: folder, env });
        const timer = kills < 4 ? setTimeout(() => started.child.kill("SIGKILL"), random.between(150, 1500)) : undefined;
        const end = await started.ended;
        clearTimeout(timer);
        if (existsSync(journal)) acknowledged = await keepsAll(journal, acknowledged);
        if (end.signal === "SIGKILL") continue;
        expect(end.code, end.stderr).toBe(0);
        expect(JSON.parse(end.stdout)).toMatchObject({ state: "succeeded", counts: { items, succeeded: items, failed: 0 } });
        ends += 1;
        break;
      }
      expect(ends).toBe(1);
      const lines = await jsonLines<Line>(journal);
      expect(lines.map(({ index }) => index).sort((a, b) => a - b)).toEqual(Array.from({ length: items }, (_, n) => n));
      expect(lines.every(({ input, output }) => output === input * 2)).toBe(true);
      expect((await splitrun(["verify", "out"], { cwd: folder })).code).toBe(0);
      await goneSoon(mark);
    }
  }, rounds * 60_000);

  test("of Task Managers costs no item its result", async () => {
    const seed = Number(process.env["SPLITRUN_SEED"] ?? randomInt(2 ** 31));
    console.log(`kills of Task Managers: SPLITRUN_SEED=${seed}`);
    const random = createRandom(seed);
    const folder = await temporaryFolder(onTestFinished);
    const mark = `SPLITRUN_MARK=task-managers-${process.pid}-${seed}`;
    const started = startSplitrun(["run", await job(folder), "--json"], { cwd: folder, env: { SPLITRUN_MARK: mark.slice("SPLITRUN_MARK=".length) } });
    let ended = false;
    void started.ended.then(() => (ended = true));
    // Before that, the one Task Manager that tries the task out is started again a few times only.
    while (!(await hasRun(folder)) && !ended) await new Promise((resolve) => setTimeout(resolve, 20));
    for (let kills = 0; kills < 5 && !ended; ) {
      await new Promise((resolve) => setTimeout(resolve, random.between(100, 400)));
      const victims = (await processesMarked(mark)).filter((pid) => pid !== started.child.pid);
      const victim = victims[random.between(0, victims.length)];
      if (victim === undefined || ended) continue;
      process.kill(victim, "SIGKILL");
      kills += 1;
    }
    const end = await started.ended;
    expect(end.code, end.stderr).toBe(0);
    const lines = await jsonLines<Line>(path.join(folder, "out", "results.jsonl"));
    expect(lines.map(({ index }) => index).sort((a, b) => a - b)).toEqual(Array.from({ length: items }, (_, n) => n));
    await goneSoon(mark);
  }, 120_000);
});

/** What was in the journal, whole lines, is in it still. */
async function keepsAll(journal: string, before: readonly Line[]): Promise<readonly Line[]> {
  const text = await readFile(journal, "utf8");
  const lines = text.slice(0, text.lastIndexOf("\n") + 1).split("\n").filter((line) => line !== "").map((line) => JSON.parse(line) as Line);
  const indexes = new Set(lines.map(({ index }) => index));
  expect(indexes.size).toBe(lines.length);
  for (const { index } of before) expect(indexes.has(index)).toBe(true);
  return lines;
}

/** Before a run has recorded its job there is nothing to resume, and nothing was done. */
async function hasRun(folder: string): Promise<boolean> {
  const runs = await readdir(path.join(folder, "out", "runs")).catch(() => []);
  return runs.some((name) => existsSync(path.join(folder, "out", "runs", name, "job.json")));
}

async function goneSoon(mark: string): Promise<void> {
  for (let tries = 0; tries < 100; tries++) {
    if ((await processesMarked(mark)).length === 0) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  expect(await processesMarked(mark)).toEqual([]);
}
