import { readdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import sharp from "sharp";
import { describe, expect, onTestFinished, test } from "vitest";
import { anySeed, struckItems } from "../support/struck-items.ts";
import { jsonLines, processesMarked, splitrun, startSplitrun } from "../support/cli.ts";
import { temporaryFolder } from "../support/function-task.ts";
import { loopingModel } from "../support/onnx.ts";

interface Line {
  readonly index: number;
  readonly output?: unknown;
  readonly error?: { readonly code: string; readonly message: string };
  readonly attempts: number;
}

const heartbeat = { reportMs: 20, everyMs: 200, timeoutMs: 4000 };

async function folderOf(): Promise<{ readonly folder: string; readonly write: (name: string, contents: string | Buffer) => Promise<void> }> {
  const folder = await temporaryFolder(onTestFinished);
  return { folder, write: (name, contents) => writeFile(path.join(folder, name), contents) };
}

/** A job of pictures, of which the white ones never end in the model. */
async function pictureJob(whites: ReadonlySet<number>, changes: object): Promise<string> {
  const { folder, write } = await folderOf();
  for (const [name, background] of [["white.png", "#fff"], ["black.png", "#000"]] as const) {
    await sharp({ create: { width: 9, height: 9, channels: 3, background } }).png().toFile(path.join(folder, name));
  }
  await write("model.onnx", loopingModel("N"));
  await write("pictures.txt", Array.from({ length: 200 }, (_, n) => `${whites.has(n) ? "white" : "black"}.png\n`).join(""));
  const preprocess = { resize: { width: 8, height: 8, fit: "fill", kernel: "linear" }, crop: null, mean: [0, 0, 0], std: [1, 1, 1] };
  const task = { kind: "inference", model: "model.onnx", preprocess, infer: { batch: 8 }, postprocess: { activation: "none" } };
  await write("job.json", JSON.stringify({ input: "pictures.txt", task, taskManagers: 2, heartbeat, output: "out", tolerate: { failedItemsPercent: 100 }, ...changes }));
  return folder;
}

async function functionJob(source: string, items: readonly unknown[], changes: object = {}): Promise<string> {
  const { folder, write } = await folderOf();
  await write("function.mjs", source);
  await write("items.jsonl", items.map((item) => `${JSON.stringify(item)}\n`).join(""));
  const task = { kind: "function", module: "./function.mjs", concurrency: 1, threads: 1 };
  await write("job.json", JSON.stringify({ input: { from: "items.jsonl" }, task, taskManagers: 2, heartbeat, output: "out", tolerate: { failedItemsPercent: 100 }, ...changes }));
  return folder;
}

async function linesOf(folder: string): Promise<readonly Line[]> {
  const lines = await jsonLines<Line>(path.join(folder, "out", "results.jsonl"));
  return lines.sort((a, b) => a.index - b.index);
}

describe("what hangs without dying", () => {
  test("in native code is found by its time limit, and every neighbour has its result", async () => {
    const folder = await pictureJob(new Set([77]), { timeouts: { itemMs: 5000 } });
    const end = await splitrun(["run", "job.json", "--json"], { cwd: folder });
    expect(JSON.parse(end.stdout)).toMatchObject({ counts: { items: 200, succeeded: 199, failed: 1 } });
    const lines = await linesOf(folder);
    expect(lines.map(({ index }) => index)).toEqual(Array.from({ length: 200 }, (_, n) => n));
    expect(lines.filter(({ error }) => error !== undefined).map(({ index, error }) => `${index} ${error?.code}`)).toEqual(["77 ITEM_TIMEOUT"]);
    expect(lines.every(({ attempts }) => attempts === 1)).toBe(true);
  });
});

describe("a Task Manager that is given up", () => {
  test("is told of with the reason: in the run's log, and that it happened in the summary", async () => {
    const source = `
      import { existsSync, writeFileSync } from "node:fs";
      const first = (name) => { const there = existsSync(process.env.MARKS + name); writeFileSync(process.env.MARKS + name, ""); return !there; };
      export default async (n) => {
        if (n === "stop" && first(n)) process.kill(process.pid, "SIGSTOP");
        if (n === "never" && first(n)) await new Promise(() => undefined);
        return n;
      };`;
    const items = Array.from({ length: 100 }, (_, n) => (n === 20 ? "stop" : n === 80 ? "never" : n));
    const folder = await functionJob(source, items, { timeouts: { taskManagerMs: 8000 }, speculation: false });
    const end = await splitrun(["run", "job.json", "--set", `env.MARKS=${folder}/`], { cwd: folder });
    expect(end.code, end.stderr).toBe(0);
    expect(end.stderr).toMatch(/Task Managers were lost and replaced; why: .*orchestrator\.log/);
    const [run = ""] = await readdir(path.join(folder, "out", "runs"));
    const log = await readFile(path.join(folder, "out", "runs", run, "logs", "orchestrator.log"), "utf8");
    expect(log).toMatch(/tm-\d+ said nothing for [\d.]+ s \(heartbeat\.timeoutMs\)/);
    expect(log).toMatch(/tm-\d+ got no further \(timeouts\.taskManagerMs/);
  });
});

describe("a Task Manager whose orchestrator is killed is gone soon", () => {
  const mark = () => `orphans-${process.pid}-${Math.random()}`;

  async function killedWhileBusy(folder: string, busy: (marked: readonly number[]) => boolean): Promise<void> {
    const name = mark();
    const started = startSplitrun(["run", "job.json", "--json"], { cwd: folder, env: { SPLITRUN_MARK: name } });
    const marked = () => processesMarked(`SPLITRUN_MARK=${name}`);
    onTestFinished(async () => {
      for (const pid of await marked()) process.kill(pid, "SIGKILL");
    });
    while (!busy(await marked())) await sleep(50);
    // It has begun something by then.
    await sleep(1000);
    started.child.kill("SIGKILL");
    await started.ended;
    while ((await marked()).length > 0) await sleep(50);
  }
  const working = (marked: readonly number[]) => marked.length >= 2;

  test("also while user code blocks its thread", async () => {
    await killedWhileBusy(await functionJob("export default () => { for (;;); };", [1, 2, 3, 4]), working);
  });

  test("also while native code does not return", async () => {
    await killedWhileBusy(await pictureJob(new Set([0, 1, 2, 3]), {}), working);
  });

  test("also while it plays dead on purpose", async () => {
    await killedWhileBusy(await functionJob("export default (n) => n;", [1, 2, 3, 4], { faults: { stallPercent: 100 }, heartbeat: { ...heartbeat, timeoutMs: 60_000 } }), working);
  });
});

describe("faults made on purpose", () => {
  test("of every kind at once cost no item its result", async () => {
    const items = Array.from({ length: 200 }, (_, n) => n);
    const faults = { exceptionPercent: 5, delayPercent: 5, delayMaxMs: 50, killPercent: 0.6, stallPercent: 0.4, seed: anySeed() };
    const { failing, fatal } = struckItems(faults, items.length);
    const folder = await functionJob("export default (n) => n * 2;", items, { faults, attemptsMax: 2 });
    const end = await splitrun(["run", "job.json", "--json"], { cwd: folder });
    expect(JSON.parse(end.stdout), end.stderr).toMatchObject({ state: "succeeded", counts: { items: 200, succeeded: 200, failed: 0 } });
    expect((JSON.parse(end.stdout) as { taskManagerLosses: number }).taskManagerLosses > 0).toBe(fatal.length > 0);
    const lines = await linesOf(folder);
    expect(lines.map(({ output }) => output)).toEqual(items.map((n) => n * 2));
    expect(lines.filter(({ attempts }) => attempts > 1).map(({ index }) => index)).toEqual([...failing]);
  });
});

describe("memory", () => {
  test("that a Task Manager leaks ends it below its limit, and costs no item a try", async () => {
    const source = "const kept = [];\nexport default async (n) => { kept.push(Buffer.alloc(2e6, 1)); await new Promise((r) => setTimeout(r, 10)); return n; };";
    const items = Array.from({ length: 300 }, (_, n) => n);
    const folder = await functionJob(source, items, { resources: { maxRamPerWorkerMb: 350 } });
    const end = await splitrun(["run", "job.json", "--json"], { cwd: folder });
    expect(JSON.parse(end.stdout), end.stderr).toMatchObject({ counts: { items: 300, succeeded: 300, failed: 0 } });
    expect((await linesOf(folder)).every(({ attempts }) => attempts === 1)).toBe(true);
  });

  test("that one item takes alone is that item's error, and its neighbours have results", async () => {
    const source = "export default async (n) => { const big = n === 'big' ? Buffer.alloc(1.5e9, 1) : null; await new Promise((r) => setTimeout(r, big ? 600_000 : 1)); return big?.length ?? n; };";
    const items = Array.from({ length: 100 }, (_, n) => (n === 40 ? "big" : n));
    const folder = await functionJob(source, items, { resources: { maxRamPerWorkerMb: 400 } });
    await splitrun(["run", "job.json", "--json"], { cwd: folder });
    const lines = await linesOf(folder);
    expect(lines.filter(({ error }) => error !== undefined).map(({ index, error }) => `${index} ${error?.code}`)).toEqual(["40 TASK_MANAGER_LOST"]);
    expect(lines.find(({ index }) => index === 40)?.error?.message).toMatch(/tm-\d+ ended \(killed by SIGKILL.*; it said: more than 400 MB in use\)/);
    expect(lines).toHaveLength(100);
  });
});
