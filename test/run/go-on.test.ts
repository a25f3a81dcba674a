import { existsSync } from "node:fs";
import { appendFile, readFile, readdir, rename, writeFile } from "node:fs/promises";
import path from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { jsonLines, processesMarked, splitrun, startSplitrun, stopping } from "../support/cli.ts";
import { startFaultServer } from "../support/fault-server.ts";
import { temporaryFolder } from "../support/function-task.ts";
import { meanColorModel } from "../support/onnx.ts";

interface Line {
  readonly index: number;
  readonly input: string;
  readonly output?: string;
  readonly error?: { readonly code: string };
  readonly attempts: number;
}

interface Ended {
  readonly state: string;
  readonly counts: Readonly<Record<"items" | "succeeded" | "failed" | "reused" | "retried" | "copied", number>>;
}

const slow = `export default async (x) => { await new Promise((r) => setTimeout(r, 20)); return x.toUpperCase(); };`;
/** The same, at once as soon as there is the file \`hurry\`. */
const slowUntil = (hurry: string) => `
  import { existsSync } from "node:fs";
  export default async (x) => {
    if (!existsSync(${JSON.stringify(hurry)})) await new Promise((r) => setTimeout(r, 20));
    return x.toUpperCase();
  };`;
/** So many that a run of the slow ones takes minutes. */
const many = 20_000;

async function folderWith(source: string, list: readonly string[]): Promise<string> {
  const folder = await temporaryFolder(onTestFinished);
  await writeFile(path.join(folder, "task.mjs"), source);
  await writeFile(path.join(folder, "list.txt"), list.map((line) => `${line}\n`).join(""));
  return folder;
}

const runArgs = ["run", "--json", "--input", "list.txt", "--output", "out", "--set", "task.kind=function", "--set", "task.module=./task.mjs", "--set", "heartbeat.reportMs=20"];

async function run(folder: string, ...more: readonly string[]): Promise<Ended> {
  const end = await splitrun([...runArgs, ...more], { cwd: folder });
  expect([0, 1], end.stderr).toContain(end.code);
  return JSON.parse(end.stdout) as Ended;
}

const letters = (count: number, prefix = "item") => Array.from({ length: count }, (_, n) => `${prefix} ${n}`);
const journal = (folder: string) => jsonLines<Line>(path.join(folder, "out", "results.jsonl"));

async function untilStored(folder: string, lines: number): Promise<void> {
  for (;;) {
    const text = await readFile(path.join(folder, "out", "results.jsonl"), "utf8").catch(() => "");
    if (text.split("\n").length > lines) return;
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

async function hurryFile(): Promise<string> {
  return path.join(await temporaryFolder(onTestFinished), "hurry");
}

describe("Ctrl-C", () => {
  test("once ends what is begun, exits with 130 and says how to go on; resume does the rest", async () => {
    const hurry = await hurryFile();
    const folder = await folderWith(slowUntil(hurry), letters(many));
    const started = startSplitrun(runArgs, { cwd: folder });
    await untilStored(folder, 20);
    started.child.kill("SIGINT");
    const end = await started.ended;
    expect(end.code, end.stderr).toBe(130);
    expect(end.stderr).toMatch(/splitrun resume .*out/);
    const cancelled = JSON.parse(end.stdout) as Ended;
    expect(cancelled.state).toBe("cancelled");
    expect(cancelled.counts.succeeded).toBeGreaterThan(19);
    expect(cancelled.counts.succeeded).toBeLessThan(many);
    expect((await journal(folder)).length).toBe(cancelled.counts.succeeded);

    await writeFile(hurry, "");
    const resumed = await splitrun(["resume", "out", "--json"], { cwd: folder });
    expect(resumed.code, resumed.stderr).toBe(0);
    expect(JSON.parse(resumed.stdout)).toMatchObject({ state: "succeeded", counts: { items: many, succeeded: many, reused: cancelled.counts.succeeded } });
    expect((await journal(folder)).map(({ index }) => index).sort((a, b) => a - b)).toEqual(Array.from({ length: many }, (_, n) => n));
  });

  test("before the list was read to its end is told with the length of the list, about", async () => {
    const folder = await folderWith(slow, letters(many));
    const started = startSplitrun(runArgs, { cwd: folder });
    await untilStored(folder, 20);
    started.child.kill("SIGINT");
    const end = await started.ended;
    const { counts, itemsAre } = JSON.parse(end.stdout) as { counts: { items: number }; itemsAre: string };
    expect(itemsAre).toBe("about");
    expect(Math.abs(counts.items - many)).toBeLessThan(4000);
    expect(end.stderr).toMatch(/about [\d,]+ items: .*about [\d,]+ still to do/);
  });

  test("twice stops at once, even when the function hangs, and leaves no process", async () => {
    const begun = path.join(await temporaryFolder(onTestFinished), "begun");
    const folder = await folderWith(`import { writeFileSync } from "node:fs"; export default () => { writeFileSync(${JSON.stringify(begun)}, ""); for (;;); };`, letters(10));
    const mark = `SPLITRUN_MARK=twice-${process.pid}`;
    const started = startSplitrun(runArgs, { cwd: folder, env: { SPLITRUN_MARK: `twice-${process.pid}` } });
    await untilExists(begun);
    started.child.kill("SIGINT");
    await started.untilSaid(stopping);
    started.child.kill("SIGINT");
    const end = await started.ended;
    expect(end.code, end.stderr).toBe(130);
    expect(await processesMarked(mark)).toEqual([]);
  });
});

async function untilExists(file: string): Promise<void> {
  while (!existsSync(file)) await new Promise((resolve) => setTimeout(resolve, 25));
}

describe("running again into a home", () => {
  const quick = "export default (x) => { if (x.startsWith('bad')) throw new Error('bad'); return x.toUpperCase(); };";

  test("does only what is new, wherever it stands in the list, and drops what is gone", async () => {
    const folder = await folderWith(quick, letters(100));
    expect((await run(folder)).counts).toMatchObject({ items: 100, succeeded: 100, reused: 0 });
    const changed = ["new first", ...letters(100).slice(10).reverse(), "new last"];
    await writeFile(path.join(folder, "list.txt"), changed.map((line) => `${line}\n`).join(""));
    expect((await run(folder)).counts).toMatchObject({ items: 92, succeeded: 92, reused: 90 });
    const lines = (await journal(folder)).sort((a, b) => a.index - b.index);
    expect(lines.map(({ input }) => input)).toEqual(changed);
    expect(lines.every(({ input, output }) => output === input.toUpperCase())).toBe(true);
    expect((await jsonLines<Line>(path.join(folder, "out", "stale.jsonl"))).length).toBe(10);
    expect((await splitrun(["verify", "out"], { cwd: folder })).code).toBe(0);
  });

  test("tries errors again, resume only when asked; failed.jsonl is an input as it is", async () => {
    const folder = await folderWith(quick, ["a", "bad 1", "b", "bad 2"]);
    expect((await run(folder, "--set", "attemptsMax=1")).counts).toMatchObject({ succeeded: 2, failed: 2 });
    const kept = await splitrun(["resume", "out", "--json"], { cwd: folder });
    expect(kept.code).toBe(1);
    expect(JSON.parse(kept.stdout)).toMatchObject({ counts: { items: 4, succeeded: 2, failed: 2, reused: 2 } });

    const failed = await splitrun(["run", "--json", "--input", "out/failed.jsonl", "--output", "again", ...runArgs.slice(6)], { cwd: folder });
    expect(JSON.parse(failed.stdout)).toMatchObject({ counts: { items: 2, failed: 2 } });

    const retried = await splitrun(["resume", "out", "--retry-failed", "--json"], { cwd: folder });
    expect(JSON.parse(retried.stdout)).toMatchObject({ counts: { items: 4, succeeded: 2, failed: 2 } });
    expect((await splitrun(["verify", "out"], { cwd: folder })).code).toBe(0);
  });

  test("another function reuses nothing, and the first one's results are taken up when it returns", async () => {
    const folder = await folderWith(quick, letters(20));
    await run(folder);
    await writeFile(path.join(folder, "task.mjs"), "export default (x) => x.length;");
    expect((await run(folder)).counts).toMatchObject({ succeeded: 20, reused: 0 });
    await writeFile(path.join(folder, "task.mjs"), quick);
    expect((await run(folder)).counts).toMatchObject({ succeeded: 20, reused: 20 });
  });

  test("--fresh starts anew and leaves foreign files alone", async () => {
    const folder = await folderWith(quick, letters(5));
    await run(folder);
    await writeFile(path.join(folder, "out", "mine.txt"), "mine");
    expect((await run(folder, "--fresh")).counts).toMatchObject({ succeeded: 5, reused: 0 });
    expect(await readFile(path.join(folder, "out", "mine.txt"), "utf8")).toBe("mine");
  });

  test("resume refuses a list that has changed, and names run", async () => {
    const folder = await folderWith(quick, letters(5));
    await run(folder);
    await appendFile(path.join(folder, "list.txt"), "another\n");
    const end = await splitrun(["resume", "out"], { cwd: folder });
    expect(end.code).toBe(2);
    expect(end.stderr).toMatch(/splitrun run/);
  });

  test("resume goes on with the run that was the last, also after the clock was set back", async () => {
    const folder = await folderWith("export default (x) => { if (x === 'bad') throw new Error('no'); return x; };", ["a", "bad"]);
    await run(folder, "--set", "attemptsMax=2");
    const runs = path.join(folder, "out", "runs");
    const [first = ""] = await readdir(runs);
    await rename(path.join(runs, first), path.join(runs, "20991231-235959999-ffff"));
    await run(folder, "--set", "attemptsMax=1");
    const second = (await readdir(runs)).find((name) => !name.startsWith("2099"));
    expect(second).toMatch(/^21000101-000000000-[0-9a-f]{4}$/);
    expect((await splitrun(["resume", "out", "--retry-failed", "--json"], { cwd: folder })).code).toBe(1);
    expect((await journal(folder)).map(({ index, attempts }) => `${index} ${attempts}`).sort()).toEqual(["0 1", "1 1"]);
  });

  test("resume refuses another input, and names run", async () => {
    const folder = await folderWith(quick, letters(5));
    await run(folder);
    const end = await splitrun(["resume", "out", "--set", "input.limit=3"], { cwd: folder });
    expect(end.code).toBe(2);
    expect(end.stderr).toMatch(/input\.limit=3.*splitrun run/s);
  });

  test("a list from stdin is copied, so that resume can read it again", async () => {
    const folder = await folderWith(slow, []);
    const started = startSplitrun(runArgs.map((arg) => (arg === "list.txt" ? "-" : arg)), { cwd: folder, stdin: letters(300).map((line) => `${line}\n`).join("") });
    await untilStored(folder, 20);
    started.child.kill("SIGKILL");
    await started.ended;
    const end = await splitrun(["resume", "out", "--json"], { cwd: folder });
    expect(end.code, end.stderr).toBe(0);
    expect(JSON.parse(end.stdout)).toMatchObject({ state: "succeeded", counts: { items: 300, succeeded: 300 } });
  });
});

describe("output", () => {
  test("without --output every line is printed as it is stored, and the home is below .splitrun", async () => {
    const folder = await folderWith("export default (x) => x.length;", letters(30));
    const end = await splitrun(["run", "--input", "list.txt", "--set", "task.kind=function", "--set", "task.module=./task.mjs"], { cwd: folder });
    expect(end.code, end.stderr).toBe(0);
    const printed = end.stdout.trim().split("\n").map((line) => JSON.parse(line) as Line);
    expect(printed.map(({ index }) => index).sort((a, b) => a - b)).toEqual(Array.from({ length: 30 }, (_, n) => n));
    const [home = ""] = await readdir(path.join(folder, ".splitrun"));
    expect(await jsonLines(path.join(folder, ".splitrun", home, "results.jsonl"))).toEqual(printed);
  });

  test("with --json stdout has one object with the promised fields, and nothing else", async () => {
    const folder = await folderWith("export default (x) => x.length;", letters(30));
    const end = await splitrun(["run", "--json", "--input", "list.txt", "--set", "task.kind=function", "--set", "task.module=./task.mjs"], { cwd: folder });
    expect(Object.keys(JSON.parse(end.stdout) as object)).toEqual(
      expect.arrayContaining(["runId", "state", "counts", "makespanMs", "itemsPerSecond", "home", "runDir", "output"]),
    );
    expect(end.stdout.trim().split("\n").length).toBe(1);
  });

  test("a reader that goes away ends the run, which can be resumed", async () => {
    const hurry = await hurryFile();
    const folder = await folderWith(slowUntil(hurry), letters(many));
    const started = startSplitrun(["run", "--input", "list.txt", "--output", "print", "--set", "task.kind=function", "--set", "task.module=./task.mjs", "--set", "heartbeat.reportMs=20"], { cwd: folder });
    started.child.stdout?.once("data", () => started.child.stdout?.destroy());
    const end = await started.ended;
    expect(end.code, end.stderr).toBe(130);
    const [home = ""] = await readdir(path.join(folder, ".splitrun"));
    await writeFile(hurry, "");
    const resumed = await splitrun(["resume", path.join(".splitrun", home), "--json"], { cwd: folder });
    expect(JSON.parse(resumed.stdout)).toMatchObject({ counts: { items: many, succeeded: many } });
  });

  test("csv in the order of the list, when the job says so", async () => {
    const folder = await folderWith("export default (x) => ({ length: x.length });", letters(50));
    await run(folder, "--set", 'output={"to":"out","format":"csv","order":"input"}');
    const rows = (await readFile(path.join(folder, "out", "results.csv"), "utf8")).trim().split(/\r?\n/);
    expect(rows[0]).toMatch(/^index,/);
    expect(rows.slice(1).map((row) => Number(row.split(",")[0]))).toEqual(Array.from({ length: 50 }, (_, n) => n));
  });

  test("a recorded run is replayed with the same decisions; a changed record is noticed", async () => {
    const folder = await folderWith("export default (x) => { if (x.endsWith('7')) throw new Error('seven'); return x.length; };", letters(200));
    const ended = (await run(folder)) as Ended & { readonly runDir: string };
    const same = await splitrun(["replay", ended.runDir], { cwd: folder });
    expect(same.code, same.stdout + same.stderr).toBe(0);
    const events = path.join(ended.runDir, "events.jsonl");
    const lines = (await readFile(events, "utf8")).trim().split("\n");
    lines.splice(lines.findIndex((line) => line.includes("items-ended")), 1);
    await writeFile(events, `${lines.join("\n")}\n`);
    expect((await splitrun(["replay", ended.runDir], { cwd: folder })).code).toBe(1);
    const home = await splitrun(["replay", "out"], { cwd: folder });
    expect(home.code).toBe(2);
    expect(home.stderr).toContain(ended.runDir);
  });
});

describe("secrets", () => {
  test("of URLs and headers reach no log, event, summary or recorded job", async () => {
    const server = await startFaultServer();
    onTestFinished(() => server.stop());
    const origin = server.origin.replace("http://", "http://user:PASSWORD@");
    const urls = ["/status/404/a.jpg", "/status/500/b.jpg", "/html", "/ok.jpg"].map((place) => `${origin}${place}?X-Amz-Signature=SIGNATURE&token=TOKEN`);
    const folder = await folderWith("", urls);
    await writeFile(path.join(folder, "model.onnx"), meanColorModel({ input: ["N", 3, "H", "W"] }));
    await writeFile(
      path.join(folder, "job.yaml"),
      "input: list.txt\ntask:\n  kind: inference\n  model: model.onnx\n  download: { headers: { authorization: { env: SPLITRUN_TEST_KEY } } }\nattemptsMax: 2\noutput: out\n",
    );
    const end = await splitrun(["run", "job.yaml", "--json"], { cwd: folder, env: { SPLITRUN_TEST_KEY: "HEADERVALUE" } });
    expect(end.code, end.stderr).toBe(1);
    const secret = /PASSWORD|SIGNATURE|TOKEN|HEADERVALUE/;
    expect(end.stdout + end.stderr).not.toMatch(secret);
    const ended = JSON.parse(end.stdout) as { readonly runDir: string; readonly errors: readonly unknown[] };
    expect(ended.errors.length).toBeGreaterThan(1);
    for (const entry of await readdir(ended.runDir, { recursive: true, withFileTypes: true })) {
      if (entry.isFile()) expect(await readFile(path.join(entry.parentPath, entry.name), "utf8"), entry.name).not.toMatch(secret);
    }
  });
});

describe("policies", () => {
  for (const policy of ["none", "default", "policy-1", "policy-2", "policy-3", "./policy.mjs#threes"]) {
    test(`${policy}: every item is done once`, async () => {
      const folder = await folderWith("export default (x) => x.length;", letters(28));
      await writeFile(path.join(folder, "policy.mjs"), "export const threes = () => ({ splitSize: 3 });");
      const ended = await run(folder, "--policy", policy, "--set", "splitSize=4");
      expect(ended.counts).toMatchObject({ items: 28, succeeded: 28 });
      expect((await splitrun(["verify", "out"], { cwd: folder })).code).toBe(0);
    });
  }

  test("a list from stdin is counted first, where the policy needs its length", async () => {
    const folder = await folderWith("export default (x) => x.length;", []);
    const end = await splitrun([...runArgs.map((arg) => (arg === "list.txt" ? "-" : arg)), "--policy", "policy-1"], { cwd: folder, stdin: letters(30).map((line) => `${line}\n`).join("") });
    expect(end.code, end.stderr).toBe(0);
    expect(JSON.parse(end.stdout)).toMatchObject({ counts: { items: 30, succeeded: 30 } });
  });

  test("plan prints every value with the rule it came from, and starts nothing", async () => {
    const folder = await folderWith("export default (x) => x;", letters(100));
    const end = await splitrun(["plan", "--input", "list.txt", "--output", "out", "--policy", "policy-1", "--set", "task.kind=function", "--set", "task.module=./task.mjs"], { cwd: folder });
    expect(end.code, end.stderr).toBe(0);
    expect(end.stdout).toMatch(/policy-1/);
    expect(end.stdout).toMatch(/taskManagers/);
    expect(await readdir(folder)).not.toContain("out");
  });
});
