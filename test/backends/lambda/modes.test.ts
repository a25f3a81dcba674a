import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import path from "node:path";
import sharp from "sharp";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import type { Usage } from "../../../orchestrator/backends/types.ts";
import { createOrchestrator } from "../../../orchestrator/service/orchestrator.ts";
import { runJob } from "../../../orchestrator/service/run-job.ts";
import { jsonLines } from "../../support/cli.ts";
import type { TaskManagerMessage } from "../../../task-manager/protocol.ts";
import { functionTask, temporaryFolder } from "../../support/function-task.ts";
import { deployFunction } from "../../support/lambda/deployed.ts";
import { startLambdaEmulator, type LambdaEmulator } from "../../support/lambda/emulator.ts";
import { meanColorModel } from "../../support/onnx.ts";
import { startS3Server, type S3Server } from "../../support/s3/server.ts";
import { backendWith, environmentOf, runFunction, type ResultLine } from "./support.ts";

let s3: S3Server;
let lambda: LambdaEmulator;
beforeAll(async () => {
  s3 = await startS3Server();
  s3.createBucket("staging");
  // The other tests run under Amazon's client where it is there; so both are held to the same.
  lambda = await startLambdaEmulator({ client: "own", variables: { AWS_ENDPOINT_URL_S3: s3.endpoint } });
  for (const key of [lambda.credentials, lambda.roleCredentials]) s3.keys.set(key.accessKeyId, key);
  Object.assign(process.env, environmentOf(lambda), { AWS_ENDPOINT_URL_S3: s3.endpoint });
  await deployFunction(lambda, { timeoutSeconds: 20 });
  // What is counted of one test is no other's.
  for (const name of ["buffered", "no-streams", "kept-warm", "cold"]) await deployFunction(lambda, { name, timeoutSeconds: 20 });
});
afterAll(async () => {
  await lambda.stop();
  await s3.stop();
});

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 10));
}

const invocationsOf = (name: string) => lambda.invocations.filter(({ functionName }) => functionName === name);

const numbers = Array.from({ length: 300 }, (_, at) => at);
const isWork = (payload: Buffer) => payload.includes('"kind":"work"');

describe("buffered: the answer is read at its end", () => {
  test("every item is done once, and no response is a stream", async () => {
    const { lines } = await runFunction(await temporaryFolder(onTestFinished), "export default (item) => item * 2;", numbers, { backend: { kind: "lambda", functionName: "buffered", buffered: true } });
    expect(lines.map(({ output }) => output)).toEqual(numbers.map((item) => item * 2));
    expect(invocationsOf("buffered").some(({ streamed }) => streamed)).toBe(false);
  });

  test("answers that are lost are done again, and a poisonous item is found though nobody said what was begun", async () => {
    const lost = lambda.faults.push({ kind: "lose-response", times: 2, when: isWork });
    const source = 'export default async (item) => { if (item === 40) process.kill(process.pid, "SIGKILL"); return item; };';
    const { result, lines } = await runFunction(await temporaryFolder(onTestFinished), source, numbers, { backend: { kind: "lambda", buffered: true } });
    expect(lost.taken).toBe(2);
    expect(result.counts).toMatchObject({ succeeded: 299, failed: 1 });
    expect(lines[40]?.error?.code).toBe("TASK_MANAGER_LOST");
  });

  test("an item that hangs, and memory that runs short, leave the answer whole: who worked on it is replaced, its environment is not", async () => {
    const hang = 'export default async (item) => { if (item === 40) for (;;); return item * 2; };';
    const hung = await runFunction(await temporaryFolder(onTestFinished), hang, numbers, { backend: { kind: "lambda", buffered: true }, timeouts: { itemMs: 3000 } });
    expect(hung.lines[40]?.error?.code).toBe("ITEM_TIMEOUT");
    expect(hung.lines.filter(({ output, index }) => output === index * 2)).toHaveLength(299);
    expect(hung.result.summary.taskManagerLosses).toBe(0);
    // Near the limit of 700 MB and below it, for as long as it takes to be replaced: 4 s.
    const hoard = "export default async (item) => { if (item === 0) globalThis.kept = Buffer.alloc(520e6, 1); await new Promise((r) => setTimeout(r, 10)); return item * 2; };";
    const many = Array.from({ length: 700 }, (_, at) => at);
    const leaked = await runFunction(await temporaryFolder(onTestFinished), hoard, many, {
      backend: { kind: "lambda", buffered: true }, taskManagers: 1, policy: "none", splitSize: 700, resources: { maxRamPerWorkerMb: 700 },
      task: { kind: "function", module: "function.mjs", threads: 1 }, speculation: false,
    });
    expect(leaked.lines.map(({ output }) => output)).toEqual(many.map((item) => item * 2));
    expect(leaked.result.summary).toMatchObject({ taskManagerLosses: 0, memoryShort: { ended: 0 } });
  });

  test("what does not fit into an answer is handed out again, or goes through S3 where there is a bucket", async () => {
    const source = 'export default async (item) => { await new Promise((r) => setTimeout(r, 5)); return "x".repeat(200_000); };';
    const run = async (stagingBucket: string | null) => {
      const { lines, result } = await runFunction(await temporaryFolder(onTestFinished), source, numbers.slice(0, 60), {
        backend: { kind: "lambda", buffered: true, stagingBucket }, policy: "none", splitSize: 60, taskManagers: 1, speculation: false,
      });
      expect(lines.every(({ output }) => String(output).length === 200_000)).toBe(true);
      expect(new Set(lines.map(({ attempts }) => attempts))).toEqual(new Set([1]));
      return result.summary.cost?.storageRequestsUsd ?? NaN;
    };
    const before = lambda.invocations.length;
    expect(await run(null)).toBe(0);
    expect(lambda.invocations.length - before).toBeGreaterThan(3);
    const puts = s3.count("PutObject");
    const costUsd = await run("staging");
    expect(s3.count("PutObject")).toBeGreaterThan(puts);
    // Each was put by the function and read here.
    const spilled = s3.count("PutObject") - puts;
    expect(costUsd).toBeGreaterThanOrEqual(spilled * (0.000005 + 0.0000004) - 1e-12);
  });

  test("it is fallen back on where responses cannot be streamed", async () => {
    const refused = lambda.faults.push({ kind: "refuse", functionName: "no-streams", status: 400, code: "ModeNotSupportedException" });
    await runFunction(await temporaryFolder(onTestFinished), "export default (item) => item;", numbers, { backend: { kind: "lambda", functionName: "no-streams" } });
    expect(refused.taken).toBe(1);
    expect(invocationsOf("no-streams").some(({ streamed }) => streamed)).toBe(false);
  });
});

describe("artifacts travel", () => {
  const large = (bytes: number) => `const weight = "${"x".repeat(bytes)}"; export default (item) => item + weight.length;`;

  test("a module of megabytes in the request, asked for once an environment", async () => {
    const { lines } = await runFunction(await temporaryFolder(onTestFinished), large(1_200_000), numbers, { taskManagers: 2 });
    expect(lines[7]?.output).toBe(1_200_007);
  });

  test("a larger one through S3, staged once by its hash; without a bucket it is refused with the way out", async () => {
    const folder = await temporaryFolder(onTestFinished);
    await expect(runFunction(folder, large(4_000_000), numbers)).rejects.toMatchObject({ code: "LAMBDA_ARTIFACT", message: expect.stringContaining("backend.stagingBucket") as string });
    const backend = { kind: "lambda", stagingBucket: "s3://staging/some/prefix" } as const;
    for (const output of ["a", "b"]) {
      const { lines } = await runFunction(folder, large(4_000_000), numbers, { backend, taskManagers: 2, output: path.join(folder, output) });
      expect(lines[7]?.output).toBe(4_000_007);
    }
    const staged = s3.keysOf("staging").filter((key) => key.startsWith("some/prefix/"));
    expect(staged).toHaveLength(1);
  });
});

test("what is asked of S3 to stage an artifact, and by the function to fetch it, is paid for", async () => {
  const source = `const weight = "${"y".repeat(4_000_000)}"; export default (item) => item + weight.length;`;
  // With one at a time no environment still fetches when all is done.
  const { result } = await runFunction(await temporaryFolder(onTestFinished), source, numbers, { backend: { kind: "lambda", stagingBucket: "s3://staging/paid/" }, taskManagers: 1 });
  const methods = s3.requests.filter(({ key }) => key.startsWith("paid/")).map(({ method }) => method);
  const reads = methods.filter((method) => method === "GET" || method === "HEAD").length;
  const writes = methods.length - reads;
  expect(Math.min(reads, writes)).toBeGreaterThan(0);
  expect(result.summary.cost?.storageRequestsUsd).toBeCloseTo(reads * 0.0000004 + writes * 0.000005, 12);
});

test("what is given up is paid for, and told as work that came to nothing", async () => {
  const folder = await temporaryFolder(onTestFinished);
  const { task, artifacts } = await functionTask(folder, "export default () => new Promise(() => {});");
  const backend = await backendWith();
  const usages: Usage[] = [];
  backend.meter?.onUsage((usage) => usages.push(usage));
  const launched = await backend.launch({ name: "tm-1", env: {}, logPath: null, maxRamMb: null, artifacts, comeBackWithinMs: 60_000 });
  const heard = (kind: TaskManagerMessage["kind"]) => new Promise<void>((resolve) => launched.channel.onMessage((message) => message.kind === kind && resolve()));
  void launched.channel.send({ kind: "configure", task, reportMs: 20, heartbeatMs: 100, itemTimeoutMs: 60_000, profile: "off", faults: null, memoryLimitMb: null });
  await heard("configured");
  void launched.channel.send({ kind: "assign", assignment: 1, items: [0, 1], inputs: [1], endWithinMs: null, reversed: false });
  await heard("begun");
  expect(backend.meter?.inFlight()).toMatchObject([{ taskManager: "tm-1", memoryMb: 1769, region: "us-east-1" }]);
  await backend.stop(launched);
  await until(() => usages.length === 2);
  expect(usages).toMatchObject([{ source: "report", wasted: false, invocations: 1 }, { source: "computed", wasted: true, invocations: 1, memoryMb: 1769 }]);
  expect(backend.meter?.inFlight()).toEqual([]);
  await backend.close();
});

test("what a job allows a host holds over all invocations", async () => {
  const folder = await temporaryFolder(onTestFinished);
  const picture = await sharp({ create: { width: 8, height: 8, channels: 3, background: "#f00" } }).png().toBuffer();
  let underWay = 0;
  let most = 0;
  const server = createServer((_request, response) => {
    most = Math.max(most, ++underWay);
    setTimeout(() => {
      // Once it is sent the next may be asked for.
      underWay -= 1;
      response.end(picture);
    }, 10);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => void server.close().closeAllConnections());
  await writeFile(path.join(folder, "model.onnx"), meanColorModel({ input: ["N", 3, "H", "W"] }));
  const { port } = server.address() as AddressInfo;
  const { counts } = await runJob({
    baseDir: folder, input: numbers.slice(0, 80).map((at) => `http://127.0.0.1:${port}/${at}`), task: { model: "model.onnx", download: { perHost: { concurrency: 3 } } },
    backend: "lambda", taskManagers: 2, output: path.join(folder, "out"),
  });
  expect(counts).toMatchObject({ succeeded: 80 });
  // While a share changes hands, what was begun by the old one ends. Without a limit there are 16 at once.
  expect(most).toBeLessThanOrEqual(5);
});

test("environments are kept warm by pings that overlap", async () => {
  const backend = await backendWith({ functionName: "kept-warm", keepWarm: { taskManagers: 3, everyMs: 60_000 } });
  await until(() => invocationsOf("kept-warm").length === 3);
  await backend.close();
  expect(new Set(invocationsOf("kept-warm").map(({ environmentId }) => environmentId)).size).toBe(3);
});

test("what keeping warm costs is told beside what a run costs", async () => {
  const folder = await temporaryFolder(onTestFinished);
  process.env["SPLITRUN_CACHE_DIR"] = path.join(folder, "cache");
  await writeFile(path.join(folder, "f.mjs"), "export default (item) => item;");
  const orchestrator = createOrchestrator({ backends: ["lambda"] });
  expect(orchestrator.keptWarm).toBeNull();
  const backend = { kind: "lambda", keepWarm: { taskManagers: 2, everyMs: 60_000 } } as const;
  const job = { baseDir: folder, input: numbers, task: { kind: "function", module: "f.mjs" }, backend, taskManagers: 1, output: path.join(folder, "out") } as const;
  await orchestrator.runJob(job);
  await until(() => (orchestrator.keptWarm?.invocations ?? 0) > 0);
  const { summary } = await orchestrator.runJob({ ...job, input: [...numbers, -1] });
  expect(orchestrator.keptWarm?.usd).toBeGreaterThan(0);
  expect(summary.notes).toEqual([expect.stringMatching(/^Keeping environments warm \(backend\.keepWarm\) has cost \$0\.0/)]);
  await orchestrator.close();
});

test("the requests of an output in S3 are part of what a run costs", async () => {
  s3.createBucket("results");
  const puts = () => s3.count("PutObject") + s3.count("UploadPart");
  const before = puts();
  const folder = await temporaryFolder(onTestFinished);
  process.env["SPLITRUN_CACHE_DIR"] = path.join(folder, "cache");
  await writeFile(path.join(folder, "f.mjs"), "export default (item) => item;");
  const { summary } = await runJob({
    baseDir: folder, input: numbers, task: { kind: "function", module: "f.mjs" }, backend: "lambda", taskManagers: 1,
    output: { to: "s3://results/cost/", partItems: 50 },
  });
  expect(summary.state).toBe("succeeded");
  // Six parts, the manifest, _SUCCESS and more; what ends the lease is sent when it has been told.
  expect(puts() - before).toBeGreaterThanOrEqual(8);
  expect(summary.cost?.storageRequestsUsd).toBeGreaterThanOrEqual((puts() - before - 2) * 0.000005);
});

test("with forceColdStart every environment of a job is a new one", async () => {
  const folder = await temporaryFolder(onTestFinished);
  const run = (output: string, forceColdStart: boolean) => runFunction(folder, "export default (item) => item;", [1, 2, 3], {
    backend: { kind: "lambda", functionName: "cold", forceColdStart }, taskManagers: 1, output: path.join(folder, output),
  });
  await run("first", false);
  const firstOfRun = async (output: string, forceColdStart: boolean) => {
    const before = invocationsOf("cold").length;
    await run(output, forceColdStart);
    return invocationsOf("cold")[before]?.cold;
  };
  expect(await firstOfRun("warm", false)).toBe(false);
  expect(await firstOfRun("cold", true)).toBe(true);
});

test("an assignment larger than a request goes out as several invocations, one after the other", async () => {
  const folder = await temporaryFolder(onTestFinished);
  process.env["SPLITRUN_CACHE_DIR"] = path.join(folder, "cache");
  await writeFile(path.join(folder, "f.mjs"), "export default (item) => item.length;");
  const { home } = await runJob({
    baseDir: folder, input: Array.from({ length: 40 }, () => "y".repeat(300_000)), task: { kind: "function", module: "f.mjs" },
    backend: "lambda", policy: "none", splitSize: 40, taskManagers: 1, output: path.join(folder, "out"),
  });
  const lines = await jsonLines<ResultLine>(path.join(home, "results.jsonl"));
  expect(lines).toHaveLength(40);
  expect(lines.every(({ output }) => output === 300_000)).toBe(true);
});

test("work that waits for its turn when it is told to end goes back at once", async () => {
  const folder = await temporaryFolder(onTestFinished);
  const { task, artifacts } = await functionTask(folder, "export default (item) => item;");
  const backend = await backendWith();
  onTestFinished(() => backend.close());
  const launched = await backend.launch({ name: "tm-1", env: {}, logPath: null, maxRamMb: null, artifacts, comeBackWithinMs: 60_000 });
  const messages: TaskManagerMessage[] = [];
  launched.channel.onMessage((message) => messages.push(message));
  void launched.channel.send({ kind: "configure", task, reportMs: 20, heartbeatMs: 100, itemTimeoutMs: 60_000, profile: "off", faults: null, memoryLimitMb: null });
  await until(() => messages.some(({ kind }) => kind === "configured"));
  const throttled = lambda.faults.push({ kind: "throttle", reason: "FunctionInvocationRateLimitExceeded", times: 1000, when: isWork });
  onTestFinished(() => throttled.remove());
  void launched.channel.send({ kind: "assign", assignment: 1, items: [0, 2], inputs: ["a", "b"], endWithinMs: null, reversed: false });
  await until(() => throttled.taken > 0);
  void launched.channel.send({ kind: "stop", how: "drain" });
  expect(await launched.exited).toMatchObject({ exitCode: 0 });
  expect(messages.filter(({ kind }) => kind === "returned")).toEqual([{ kind: "returned", assignment: 1, items: [0, 2], cause: "DRAIN" }]);
});
