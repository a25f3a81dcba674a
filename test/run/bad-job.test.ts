import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { readdir, readFile, stat, writeFile } from "node:fs/promises";
import path from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { cliPath, jsonLines, splitrun, startSplitrun, type CliEnd } from "../support/cli.ts";
import { temporaryFolder } from "../support/function-task.ts";
import { meanColorModel } from "../support/onnx.ts";

async function folderWith(files: Readonly<Record<string, string | Buffer>>): Promise<string> {
  const folder = await temporaryFolder(onTestFinished);
  for (const [name, content] of Object.entries(files)) await writeFile(path.join(folder, name), content);
  return folder;
}

function functionJob(...args: readonly string[]): readonly string[] {
  return ["--set", "task.kind=function", "--set", "task.module=./task.mjs", ...args];
}

/** Refused: exit 2, a message that names the trouble, and nothing made. */
async function refused(folder: string, end: CliEnd, message: RegExp): Promise<void> {
  expect(end.stderr).toMatch(message);
  expect(end.code).toBe(2);
  expect(await readdir(folder)).not.toContain("out");
}

/** Takes gray images of 64 x 64. */
const digits = path.resolve(import.meta.dirname, "../../examples/demo/digits.onnx");
const model = meanColorModel({ input: ["N", 3, 224, 224] });

describe("a job that cannot work is refused before anything is made", () => {
  const cases: readonly (readonly [name: string, model: Buffer | string | null, message: RegExp])[] = [
    ["a model that is not there, with the nearest name", null, /models?\.onnx.*did you mean/is],
    ["a model that is not ONNX", "this is no model", /not.*ONNX|ONNX/i],
    ["a model that is cut off", model.subarray(0, model.length / 2), /ONNX|model/i],
    ["a model of another rank", meanColorModel({ input: ["N", 3, 32, 32] }), /32.*32/s],
  ];
  for (const [name, content, message] of cases) {
    test(name, async () => {
      const folder = await folderWith({ "list.txt": "http://127.0.0.1:9/a.jpg\n", [content === null ? "modell.onnx" : "model.onnx"]: content ?? model });
      const end = await splitrun(["run", "--input", "list.txt", "--model", "model.onnx", "--output", "out"], { cwd: folder });
      await refused(folder, end, message);
    });
  }

  test("Task Managers that do not start, with what they printed", async () => {
    const folder = await folderWith({ "task.mjs": "export default (x) => x;", "list.txt": "a\n" });
    const end = await splitrun(["run", "--input", "list.txt", "--output", "out", ...functionJob("--set", "env.NODE_OPTIONS=--no-such-option")], { cwd: folder });
    await refused(folder, end, /ended while it started \(exit code 9; it printed: .*--no-such-option is not allowed/);
  });

  test("an input file that is not there", async () => {
    const folder = await folderWith({ "task.mjs": "export default (x) => x;", "liste.txt": "a\n" });
    const end = await splitrun(["run", "--input", "list.txt", "--output", "out", ...functionJob()], { cwd: folder });
    await refused(folder, end, /list\.txt.*liste\.txt/s);
  });

  test("a wrong name in the job, with the nearest right one", async () => {
    const folder = await folderWith({ "task.mjs": "export default (x) => x;", "list.txt": "a\n" });
    const end = await splitrun(["run", "--input", "list.txt", "--output", "out", ...functionJob("--set", "taskManager=2")], { cwd: folder });
    await refused(folder, end, /taskManager.*did you mean `?taskManagers/s);
  });

  test("a backend that there is not, with the nearest one", async () => {
    const folder = await folderWith({ "task.mjs": "export default (x) => x;", "list.txt": "a\n" });
    const end = await splitrun(["run", "--input", "list.txt", "--output", "out", "--backend", "locl", ...functionJob()], { cwd: folder });
    await refused(folder, end, /backend(\.kind)?: "locl" is not allowed; did you mean local\?/);
  });

  test("with --json, stdout has one object that names code and field", async () => {
    const folder = await folderWith({ "list.txt": "a\n" });
    const end = await splitrun(["run", "--json", "--input", "list.txt", "--model", "nowhere.onnx", "--output", "out"], { cwd: folder });
    expect(end.code).toBe(2);
    expect(JSON.parse(end.stdout)).toMatchObject({ error: { code: "MODEL_NOT_FOUND", field: "task.model" } });
  });

  test("a model of another size and colour gets every setting that has to change", async () => {
    const folder = await folderWith({ "list.txt": "http://127.0.0.1:9/a.jpg\n", "model.onnx": await readFile(digits) });
    const end = await splitrun(["run", "--input", "list.txt", "--model", "model.onnx", "--output", "out"], { cwd: folder });
    await refused(folder, end, /colorOrder: gray, mean: \[0\.5\], std: \[0\.5\], resize: \{ width: 64, height: 64, fit: fill \}, crop: null/);
    const settings = ["colorOrder=gray", "mean=[0.5]", "std=[0.5]", 'resize={"width":64,"height":64,"fit":"fill"}', "crop=null"].flatMap((text) => ["--set", `task.preprocess.${text}`]);
    const taken = await splitrun(["run", "--input", "list.txt", "--model", "model.onnx", "--output", "out", "--set", "attemptsMax=1", ...settings], { cwd: folder });
    expect(taken.code, taken.stderr).toBe(1);
  });

  test("a flag that is no number is quoted as it was given", async () => {
    const folder = await folderWith({ "task.mjs": "export default (x) => x;", "list.txt": "a\n" });
    const end = await splitrun(["run", "--input", "list.txt", "--limit", "many", "--output", "out", ...functionJob()], { cwd: folder });
    await refused(folder, end, /limit.*"many"/s);
  });

  test("an unknown flag exits with 2 and says which is meant", async () => {
    const end = await splitrun(["run", "--inputs", "x"], { cwd: await folderWith({}) });
    expect(end.code).toBe(2);
    expect(end.stderr).toMatch(/--input\b/);
  });
});

describe("homes", () => {
  test("an output directory that cannot be written is refused", async () => {
    const folder = await folderWith({ "task.mjs": "export default (x) => x;", "list.txt": "a\n", file: "a file, where a directory is wanted" });
    const end = await splitrun(["run", "--input", "list.txt", "--output", "file/out", ...functionJob()], { cwd: folder });
    expect(end.code).toBe(2);
    expect(end.stderr).toMatch(/file\/out/);
  });

  test("an output directory where none can ever be made is refused", async () => {
    const folder = await folderWith({ "task.mjs": "export default (x) => x;", "list.txt": "a\n" });
    const end = await splitrun(["run", "--input", "list.txt", "--output", "/proc/out/deep", ...functionJob()], { cwd: folder });
    expect(end.code).toBe(2);
    expect(end.stderr).toMatch(/\/proc\/out/);
  });

  test("a home in use by a live run is refused, and free once that run is killed", async () => {
    const folder = await folderWith({ "task.mjs": "export default () => new Promise(() => {});", "list.txt": "a\n" });
    const first = startSplitrun(["run", "--input", "list.txt", "--output", "out", ...functionJob()], { cwd: folder });
    await untilExists(path.join(folder, "out", "runs"));
    const second = await splitrun(["run", "--input", "list.txt", "--output", "out", ...functionJob()], { cwd: folder });
    expect(second.code).toBe(2);
    expect(second.stderr).toMatch(new RegExp(`in use.*${first.child.pid}`, "s"));
    first.child.kill("SIGKILL");
    await first.ended;
    await writeFile(path.join(folder, "task.mjs"), "export default (x) => x;");
    const third = await splitrun(["run", "--input", "list.txt", "--output", "out", ...functionJob()], { cwd: folder });
    expect(third.code, third.stderr).toBe(0);
  });

  test("an empty input finishes with no items and exit 0", async () => {
    const folder = await folderWith({ "task.mjs": "export default (x) => x;", "list.txt": "" });
    const end = await splitrun(["run", "--json", "--input", "list.txt", "--output", "out", ...functionJob()], { cwd: folder });
    expect(end.code, end.stderr).toBe(0);
    expect(JSON.parse(end.stdout)).toMatchObject({
      state: "succeeded", counts: { items: 0, succeeded: 0, failed: 0 }, notes: [`Nothing is listed at ${path.join(folder, "list.txt")}.`],
    });
    const person = await splitrun(["run", "--input", "list.txt", "--output", "again", ...functionJob()], { cwd: folder });
    expect(person.stderr).toContain("Nothing is listed at");
  });

  test("everything in a home is for its owner alone", async () => {
    const folder = await folderWith({ "task.mjs": "export default (x) => x;", "list.txt": "a\nb\n" });
    await splitrun(["run", "--input", "list.txt", "--output", "out", ...functionJob()], { cwd: folder });
    for (const entry of await readdir(path.join(folder, "out"), { recursive: true, withFileTypes: true })) {
      const { mode } = await stat(path.join(entry.parentPath, entry.name));
      expect(mode & 0o077, entry.name).toBe(0);
    }
  });
});

test("a full disk stops the run with exit 3, and resume ends it once there is room", async () => {
  const folder = await folderWith({
    "task.mjs": "export default (x) => x + ' '.repeat(2000);",
    "list.txt": Array.from({ length: 2000 }, (_, n) => `item ${n}\n`).join(""),
  });
  // The shell's limit of file size stands for the disk: 512-byte blocks, so about 1 MB a file.
  const limited = await new Promise<CliEnd>((resolve) => {
    const child = spawn("sh", ["-c", 'trap "" XFSZ; ulimit -f 2000; exec "$0" "$@"', process.execPath, cliPath, "run", "--quiet", "--json", "--input", "list.txt", "--output", "out", ...functionJob()], {
      cwd: folder,
      env: { ...process.env, SPLITRUN_CACHE_DIR: path.join(folder, ".cache") },
    });
    let stdout = "";
    let stderr = "";
    child.stdout.on("data", (text) => (stdout += text));
    child.stderr.on("data", (text) => (stderr += text));
    child.once("close", (code, signal) => resolve({ code, signal, stdout, stderr }));
  });
  expect(limited.code, limited.stderr).toBe(3);
  const stopped = JSON.parse(limited.stdout) as { state: string; reason: string; counts: { succeeded: number } };
  expect(stopped).toMatchObject({ state: "failed", reason: "disk" });
  // Quiet or not, nobody has to look for the reason.
  expect(limited.stderr).toMatch(/^Stopped early\. .+\nGo on with: splitrun resume \S+\n$/);
  const end = await splitrun(["resume", "out", "--json"], { cwd: folder });
  expect(end.code, end.stderr).toBe(0);
  expect(JSON.parse(end.stdout)).toMatchObject({ state: "succeeded", counts: { items: 2000, succeeded: 2000 } });
  const lines = await jsonLines<{ index: number }>(path.join(folder, "out", "results.jsonl"));
  expect(new Set(lines.map(({ index }) => index)).size).toBe(2000);
  expect((await splitrun(["verify", "out"], { cwd: folder })).code).toBe(0);
});

async function untilExists(place: string): Promise<void> {
  while (!existsSync(place)) await new Promise((resolve) => setTimeout(resolve, 25));
}

test("a job that says what has no effect runs, and says so once, when it starts", async () => {
  const folder = await folderWith({ "task.mjs": "export default async (item) => item;\n", "list.jsonl": "1\n2\n" });
  const end = await splitrun(["run", "--input", "list.jsonl", ...functionJob("--set", "splitSize=7", "--set", "heterogeneousSplits=[1]"), "--output", "out"], { cwd: folder });
  expect(end.code, end.stderr).toBe(0);
  expect(end.stderr.match(/^Note: splitSize \(7\) has no effect: .*$/gm)).toHaveLength(1);
  expect(end.stderr.indexOf("Note: splitSize")).toBeLessThan(end.stderr.indexOf("Done:"));
});
