import { createServer } from "node:http";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import sharp from "sharp";
import { describe, expect, onTestFinished, test } from "vitest";
import type { Job } from "../../../orchestrator/jobs/schema.ts";
import { runJob } from "../../../orchestrator/service/run-job.ts";
import { jsonLines, splitrun, startSplitrun } from "../../support/cli.ts";
import { temporaryFolder } from "../../support/function-task.ts";
import { meanColorModel } from "../../support/onnx.ts";
import { emulated, runFunction, type ResultLine } from "./support.ts";

const emulator = emulated({ concurrency: 4 }, [{}, { name: "large", memoryMb: 3538 }]);
const backends = ["sequential", "local", "lambda"] as const;

/** Its lines by index, as they are written. */
async function sortedLines(home: string): Promise<readonly string[]> {
  const lines = (await readFile(path.join(home, "results.jsonl"), "utf8")).split("\n").filter((line) => line !== "");
  return lines.sort((a, b) => (JSON.parse(a) as ResultLine).index - (JSON.parse(b) as ResultLine).index);
}

/** The same job on each of the backends: what they wrote. */
async function onEach(folder: string, job: Omit<Job, "backend" | "output">): Promise<readonly (readonly string[])[]> {
  process.env["SPLITRUN_CACHE_DIR"] = path.join(folder, "cache");
  const written: (readonly string[])[] = [];
  for (const backend of backends) {
    const { home } = await runJob({ ...job, backend, taskManagers: 2, output: path.join(folder, backend) });
    written.push(await sortedLines(home));
  }
  return written;
}

/** Pictures of many colours, and a few that are none. */
async function servePictures(count: number): Promise<readonly string[]> {
  const pictures = await Promise.all(Array.from({ length: 7 }, (_, at) =>
    sharp({ create: { width: 40 + at, height: 30, channels: 3, background: { r: 37 * at, g: 255 - 30 * at, b: (91 * at) % 256 } } }).jpeg().toBuffer()));
  const server = createServer(({ url = "" }, response) => {
    const at = Number(/\d+/.exec(url)?.[0]);
    if (at % 10 === 9) response.writeHead(404).end("none");
    else response.end(at % 10 === 8 ? "no picture" : pictures[at % pictures.length]);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => {
    server.close();
    server.closeAllConnections();
  });
  return Array.from({ length: count }, (_, at) => `http://127.0.0.1:${(server.address() as AddressInfo).port}/${at}.jpg`);
}

describe("the same job gives the same bytes on sequential, local and lambda", () => {
  test("inference of images over HTTP, bad ones among them", async () => {
    const folder = await temporaryFolder(onTestFinished);
    await writeFile(path.join(folder, "model.onnx"), meanColorModel({ input: ["N", 3, "H", "W"] }));
    const [sequential, local, lambda] = await onEach(folder, {
      baseDir: folder,
      input: await servePictures(100),
      task: { model: "model.onnx", postprocess: { labels: ["red", "green", "blue"], topK: 3 } },
    });
    expect(sequential).toHaveLength(100);
    expect(local).toEqual(sequential);
    expect(lambda).toEqual(sequential);
    expect(lambda?.filter((line) => line.includes('"error"'))).toHaveLength(20);
  });

  test("a function, and what it throws", async () => {
    const folder = await temporaryFolder(onTestFinished);
    await writeFile(path.join(folder, "f.mjs"), 'export default (item, { index }) => { if (item === 50) throw Object.assign(new Error("fifty"), { retryable: false }); return { item, index, text: "ä€😀" }; };');
    const [sequential, local, lambda] = await onEach(folder, { baseDir: folder, input: Array.from({ length: 500 }, (_, at) => at), task: { kind: "function", module: "f.mjs" } });
    expect(sequential).toHaveLength(500);
    expect(local).toEqual(sequential);
    expect(lambda).toEqual(sequential);
  });
});

test("kill -9 of the orchestrator in the middle, and resume: every item once", async () => {
  const folder = await temporaryFolder(onTestFinished);
  const out = path.join(folder, "out");
  const hurry = path.join(folder, "hurry");
  await writeFile(path.join(folder, "f.mjs"), `import { existsSync } from "node:fs"; export default async (item) => { if (!existsSync(${JSON.stringify(hurry)})) await new Promise((r) => setTimeout(r, 20)); return item; };`);
  // A minute's work, until there is the file.
  await writeFile(path.join(folder, "items.jsonl"), Array.from({ length: 8000 }, (_, at) => `${at}\n`).join(""));
  await writeFile(path.join(folder, "job.yaml"), `input: items.jsonl\ntask: { kind: function, module: f.mjs }\nbackend: lambda\ntaskManagers: 3\nheartbeat: { reportMs: 20 }\noutput: ${out}\n`);
  const { child, ended } = startSplitrun(["run", "job.yaml"], { cwd: folder });
  const stored = async () => (await jsonLines<ResultLine>(path.join(out, "results.jsonl")).catch(() => [])).length;
  while ((await stored()) < 100) await new Promise((resolve) => setTimeout(resolve, 20));
  child.kill("SIGKILL");
  await ended;
  expect(await stored()).toBeLessThan(8000);
  await writeFile(hurry, "");
  const resumed = await splitrun(["resume", out, "--json"], { cwd: folder });
  expect(resumed.code).toBe(0);
  expect(JSON.parse(resumed.stdout)).toMatchObject({ state: "succeeded", counts: { items: 8000, succeeded: 8000 } });
  expect((await splitrun(["verify", out], { cwd: folder })).code).toBe(0);
});

test("Ctrl-C waits for what runs, hands out nothing more, and leaves a job that can be resumed, on this machine too", async () => {
  const folder = await temporaryFolder(onTestFinished);
  const out = path.join(folder, "out");
  await writeFile(path.join(folder, "f.mjs"), "export default async (item) => { await new Promise((r) => setTimeout(r, 20)); return item; };");
  await writeFile(path.join(folder, "items.jsonl"), Array.from({ length: 2000 }, (_, at) => `${at}\n`).join(""));
  await writeFile(path.join(folder, "job.yaml"), `input: items.jsonl\ntask: { kind: function, module: f.mjs }\nbackend: { kind: lambda, splitSeconds: 2 }\ntaskManagers: 2\nheartbeat: { reportMs: 20 }\noutput: ${out}\n`);
  const { child, ended } = startSplitrun(["run", "job.yaml", "--json"], { cwd: folder });
  const stored = async () => (await jsonLines<ResultLine>(path.join(out, "results.jsonl")).catch(() => [])).length;
  while ((await stored()) < 50) await new Promise((resolve) => setTimeout(resolve, 20));
  child.kill("SIGINT");
  const { code, stdout } = await ended;
  expect(code).toBe(130);
  expect(JSON.parse(stdout)).toMatchObject({ state: "cancelled" });
  const losses = JSON.parse(await readFile(path.join((JSON.parse(stdout) as { runDir: string }).runDir, "summary.json"), "utf8")) as { taskManagerLosses: number };
  expect(losses.taskManagerLosses).toBe(0);
  expect(emulator.lambda.invocations.at(-1)?.error).toBeNull();
  const invocations = emulator.lambda.invocations.length;
  const resumed = await splitrun(["resume", out, "--set", "backend=local", "--set", "task.concurrency=50", "--json"], { cwd: folder });
  expect(resumed.code, resumed.stderr).toBe(0);
  const { counts, runDir } = JSON.parse(resumed.stdout) as { readonly counts: unknown; readonly runDir: string };
  expect(counts).toMatchObject({ items: 2000, succeeded: 2000 });
  expect(emulator.lambda.invocations).toHaveLength(invocations);
  // So many invocations at once are no guide for processes here.
  expect(JSON.parse(await readFile(path.join(runDir, "job.json"), "utf8"))).toMatchObject({ backend: "local", taskManagers: 1 });
});

test("what cannot be invoked is refused before anything is made, with the way out", async () => {
  const folder = await temporaryFolder(onTestFinished);
  const run = (backend: Job["backend"], input: Job["input"] = [1]) => runFunction(folder, "export default (item) => item;", input as readonly number[], { backend: backend ?? "lambda" });
  await expect(run({ kind: "lambda", functionName: "absent" })).rejects.toMatchObject({ code: "LAMBDA_NOT_DEPLOYED", message: expect.stringContaining("splitrun deploy") as string });
  await expect(run({ kind: "lambda", qualifier: "none" })).rejects.toMatchObject({ code: "LAMBDA_NOT_DEPLOYED" });
  const secret = process.env["AWS_SECRET_ACCESS_KEY"];
  process.env["AWS_SECRET_ACCESS_KEY"] = "wrong";
  await expect(run({ kind: "lambda" })).rejects.toMatchObject({ code: "LAMBDA_CREDENTIALS" });
  process.env["AWS_SECRET_ACCESS_KEY"] = secret;
});

test("pictures that are files of this machine are refused, and in a list that is read later are errors one by one", async () => {
  const folder = await temporaryFolder(onTestFinished);
  process.env["SPLITRUN_CACHE_DIR"] = path.join(folder, "cache");
  await writeFile(path.join(folder, "model.onnx"), meanColorModel({ input: ["N", 3, "H", "W"] }));
  await writeFile(path.join(folder, "list.txt"), "a.jpg\n/b.jpg\n");
  const job: Omit<Job, "input"> = { baseDir: folder, task: { model: "model.onnx" }, backend: "lambda", output: path.join(folder, "out") };
  await expect(runJob({ ...job, input: ["https://example.com/a.jpg", "b.jpg"] })).rejects.toMatchObject({ code: "JOB_INVALID", field: "input", message: expect.stringContaining("b.jpg") as string });
  await expect(runJob({ ...job, input: folder })).rejects.toMatchObject({ code: "JOB_INVALID", field: "input" });
  const { home } = await runJob({ ...job, input: "list.txt" });
  const lines = await jsonLines<ResultLine>(path.join(home, "results.jsonl"));
  expect(lines.map(({ error }) => error?.code)).toEqual(["INPUT_SCHEME", "INPUT_SCHEME"]);
});

test("a function with more memory uses more cores, unless the job says how many", async () => {
  const folder = await temporaryFolder(onTestFinished);
  const source = 'import { threadId } from "node:worker_threads"; export default async () => { await new Promise((r) => setTimeout(r, 30)); return threadId; };';
  const threads = async (changes: Partial<Job>) => {
    const { lines } = await runFunction(folder, source, Array.from({ length: 40 }, (_, at) => at), { taskManagers: 1, backend: { kind: "lambda", functionName: "large" }, ...changes });
    return new Set(lines.map(({ output }) => output)).size;
  };
  expect(await threads({ output: path.join(folder, "two") })).toBe(2);
  expect(await threads({ output: path.join(folder, "one"), task: { kind: "function", module: "function.mjs", threads: 1 } })).toBe(1);
});

test("no more invocations run at once than the account may have, and the rest waits without a try", async () => {
  const folder = await temporaryFolder(onTestFinished);
  const { result, lines } = await runFunction(folder, "export default async (item) => { await new Promise((r) => setTimeout(r, 10)); return item; };",
    Array.from({ length: 300 }, (_, at) => at), { taskManagers: 6, backend: { kind: "lambda" } });
  expect(result.state).toBe("succeeded");
  expect(new Set(lines.map(({ attempts }) => attempts))).toEqual(new Set([1]));
  expect(emulator.lambda.invocations.every(({ error }) => error === null)).toBe(true);
});
