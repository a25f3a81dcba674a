// A cold start in the emulator, from the call to the first item's result, against functions from the same zip that do
// less, in turn: `libraries` imports onnxruntime-node and sharp and answers; `bare` is the shortest program for one image.
// --trace: when what happened. --pieces: processor time of what a start is made of, each in a process of its own.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { loadavg, tmpdir } from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { CreateFunctionCommand, InvokeWithResponseStreamCommand, LambdaClient, waitUntilFunctionActiveV2 } from "@aws-sdk/client-lambda";
import sharp from "sharp";
import { presets } from "../orchestrator/jobs/presets.ts";
import type { LambdaRequest, TaskSpec } from "../task-manager/protocol.ts";
import { protocolVersion } from "../task-manager/protocol.ts";
import { downloadSpec } from "../test/support/download-spec.ts";
import { startLambdaEmulator } from "../test/support/lambda/emulator.ts";
import { runtimeProgram } from "../test/support/lambda/runtimes.ts";
import { zipOf } from "../test/support/lambda/zip.ts";

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "10" },
    runtime: { type: "string", default: "nodejs22.x" },
    trace: { type: "boolean", default: false },
    pieces: { type: "boolean", default: false },
  },
});
const memoryMb = 1769;
const ticksPerSecond = 100;
const cli = path.resolve("dist/cli.js");
const model = path.resolve("node_modules/.cache/splitrun/models/tiny.onnx");

const functions = {
  libraries: { handler: "bench-libraries.handler" },
  bare: { handler: "bench-bare.handler" },
  splitrun: { handler: "lambda.handler" },
} as const;
type Name = keyof typeof functions;

const librariesHandler = `
import "onnxruntime-node";
import "sharp";
export const handler = awslambda.streamifyResponse(async (event, stream) => {
  stream.end("done\\n");
});
`;

const bareHandler = `
import { request } from "node:http";
import { buffer } from "node:stream/consumers";
import ort from "onnxruntime-node";
import sharp from "sharp";
export const handler = awslambda.streamifyResponse(async ({ url, model }, stream) => {
  const session = await ort.InferenceSession.create(model, { intraOpNumThreads: 1, interOpNumThreads: 1 });
  const encoded = await new Promise((resolve, reject) => request(url, (response) => buffer(response).then(resolve, reject)).on("error", reject).end());
  const data = await sharp(encoded).resize(224, 224, { fit: "cover" }).raw().toBuffer();
  const pixels = new Float32Array(3 * 224 * 224);
  for (let at = 0; at < 224 * 224; at++) for (let c = 0; c < 3; c++) pixels[c * 224 * 224 + at] = data[at * 3 + c] / 255;
  const outputs = await session.run({ [session.inputNames[0]]: new ort.Tensor("float32", pixels, [1, 3, 224, 224]) });
  stream.end(JSON.stringify({ kind: "items", values: [...outputs[session.outputNames[0]].data] }) + "\\n");
});
`;

/** What of the function's time goes where, told to its log; needs hooks, so it is never on in a round that counts. */
const traceModule = `
import Module from "node:module";
import diagnostics from "node:diagnostics_channel";
import { isMainThread, threadId, workerData } from "node:worker_threads";
const who = isMainThread ? "main" : workerData?.splitrunRole ?? "thread " + threadId;
const tell = (what, fromMs, toMs) => process._rawDebug("TRACE " + JSON.stringify({ who, what, fromMs, toMs }));
const now = () => performance.timeOrigin + performance.now();
tell("started", performance.timeOrigin, now());
const dlopen = process.dlopen;
process.dlopen = function (...words) {
  const fromMs = now();
  try { return dlopen.apply(this, words); } finally { tell("dlopen " + words[1].split("/").pop(), fromMs, now()); }
};
const load = Module._load;
Module._load = function (name, ...rest) {
  if (!["onnxruntime-node", "sharp"].includes(name)) return load.call(this, name, ...rest);
  const fromMs = now();
  const loaded = load.call(this, name, ...rest);
  tell("require " + name, fromMs, now());
  if (name === "onnxruntime-node" && !loaded.traced) {
    loaded.traced = true;
    const create = loaded.InferenceSession.create;
    loaded.InferenceSession.create = async function (...words) {
      const fromMs = now();
      const session = await create.apply(this, words);
      tell("create session", fromMs, now());
      const run = session.run;
      session.run = async function (...words) { const fromMs = now(); const out = await run.apply(this, words); tell("run", fromMs, now()); return out; };
      return session;
    };
  }
  return loaded;
};
let requestMs = 0;
diagnostics.subscribe("undici:request:create", () => { requestMs = now(); });
diagnostics.subscribe("undici:request:trailers", () => tell("download", requestMs, now()));
`;

interface ColdStart {
  /** From the call to the first result. */
  readonly wallMs: number;
  /** Of all processes and threads of the environment, at its end. */
  readonly cpuMs: number;
  /** When which line of the answer came, from the call on. */
  readonly lines: readonly { readonly kind: string; readonly atMs: number }[];
  readonly startedAtMs: number;
}

const folder = await mkdtemp(path.join(tmpdir(), "splitrun-bench-"));
const packed = path.join(folder, "package");
const traceFile = path.join(folder, "trace.mjs");
await writeFile(traceFile, traceModule);
const image = await sharp({ create: { width: 640, height: 480, channels: 3, background: "#7a9" } }).jpeg().toBuffer();
const images = createServer((_request, response) => response.writeHead(200, { "content-type": "image/jpeg", "content-length": image.length }).end(image));
images.listen(0, "127.0.0.1");
await once(images, "listening");
const url = `http://127.0.0.1:${(images.address() as AddressInfo).port}/1.jpg`;
const emulator = await startLambdaEmulator({ loop: path.resolve("test/support/lambda/runtime-loop.mjs") });
const client = new LambdaClient({ endpoint: emulator.endpoint, region: emulator.region, credentials: emulator.credentials, maxAttempts: 1 });
try {
  const modelBytes = await readFile(model);
  const sha256 = createHash("sha256").update(modelBytes).digest("hex");
  await deployAll();
  if (values.pieces) await showPieces();
  else if (values.trace) await showTrace(requestFor(sha256, modelBytes.length));
  else await compare(requestFor(sha256, modelBytes.length), sha256);
} finally {
  client.destroy();
  await emulator.stop();
  images.close();
  images.closeAllConnections();
  await rm(folder, { recursive: true, force: true });
}

/** The zip that `deploy` makes, with the other handlers in it. */
async function deployAll(): Promise<void> {
  execFileSync(process.execPath, [cli, "deploy", "--package", packed, "--model", model], {
    env: { ...process.env, SPLITRUN_CACHE_DIR: path.join(folder, "cache") }, stdio: ["ignore", "ignore", "inherit"],
  });
  const files: Record<string, Buffer | string> = { "bench-libraries.js": librariesHandler, "bench-bare.js": bareHandler };
  for (const entry of await readdir(packed, { recursive: true, withFileTypes: true })) {
    const file = path.join(entry.parentPath, entry.name);
    if (entry.isFile()) files[path.relative(packed, file)] = await readFile(file);
  }
  const ZipFile = await zipOf(Object.fromEntries(Object.entries(files).map(([name, content]) => [name, { content }])));
  const Role = emulator.createRole("bench");
  for (const [name, { handler }] of Object.entries(functions)) {
    await client.send(new CreateFunctionCommand({
      FunctionName: name, Runtime: values.runtime as "nodejs22.x", Handler: handler, MemorySize: memoryMb, Timeout: 60, Role, Code: { ZipFile },
      Environment: { Variables: values.trace ? { NODE_OPTIONS: `--import ${traceFile}` } : {} },
    }));
    await waitUntilFunctionActiveV2({ client, maxWaitTime: 30, minDelay: 0.02, maxDelay: 0.1 }, { FunctionName: name });
  }
}

function requestFor(sha256: string, bytes: number): LambdaRequest {
  const artifact = { sha256, bytes, name: "tiny.onnx" };
  const task: TaskSpec = {
    kind: "inference",
    model: artifact,
    download: downloadSpec({ concurrency: 32 }),
    preprocess: { concurrency: 1, maxPixels: 268_402_689, ...presets["torchvision-imagenet"] },
    infer: { batch: 8, sessions: 1, intraOpThreads: 1, interOpThreads: 1, batchWaitMs: 50, executionProviders: ["cpu"] },
    postprocess: { activation: "softmax", labels: null, topK: 1 },
  };
  return {
    protocol: protocolVersion, kind: "work", taskManager: "bench", coresByMemory: true, env: {}, artifacts: [{ ...artifact, inline: null, s3: null }],
    configure: { kind: "configure", task, reportMs: 250, heartbeatMs: 2000, itemTimeoutMs: 300_000, profile: "off", faults: null, memoryLimitMb: null },
    grants: [], beginWithinMs: 50_000, buffered: null,
    assigns: [{ kind: "assign", assignment: 1, items: [0, 1], inputs: [url], endWithinMs: null, reversed: false }],
  };
}

async function coldStart(name: Name, event: unknown): Promise<ColdStart> {
  emulator.reclaim();
  while (emulator.environments.length > 0) await new Promise((resolve) => setTimeout(resolve, 5));
  const lines: { kind: string; atMs: number }[] = [];
  let wallMs: number | null = null;
  const startedAtMs = performance.timeOrigin + performance.now();
  const beganMs = performance.now();
  const answer = await client.send(new InvokeWithResponseStreamCommand({ FunctionName: name, Payload: JSON.stringify(event) }));
  let text = "";
  for await (const { PayloadChunk, InvokeComplete } of answer.EventStream ?? []) {
    if (InvokeComplete?.ErrorCode !== undefined) throw new Error(`${name}: ${InvokeComplete.ErrorCode} ${InvokeComplete.ErrorDetails}`);
    text += Buffer.from(PayloadChunk?.Payload ?? []).toString();
    const parts = text.split("\n");
    text = parts.pop() ?? "";
    for (const line of parts) {
      const kind = line === "done" ? line : (JSON.parse(line) as { kind: string }).kind;
      const atMs = performance.now() - beganMs;
      lines.push({ kind, atMs });
      if (kind === "items" || kind === "done") wallMs ??= atMs;
      if (kind === "refused" || (kind === "items" && line.includes('"errors":[{'))) throw new Error(`${name}: ${line}`);
    }
  }
  if (wallMs === null) throw new Error(`${name} gave no result: ${JSON.stringify(lines)} ${emulator.logMessages(`/aws/lambda/${name}`).join("")}`);
  const pid = emulator.environments[0]?.pid ?? null;
  return { wallMs, cpuMs: pid === null ? NaN : cpuMsOf(pid), lines, startedAtMs };
}

function cpuMsOf(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return ((Number(fields[11]) + Number(fields[12])) * 1000) / ticksPerSecond;
}

async function compare(request: LambdaRequest, sha256: string): Promise<void> {
  const events: Record<Name, unknown> = { libraries: {}, bare: { url, model: `./artifacts/${sha256}` }, splitrun: request };
  const names = Object.keys(functions) as Name[];
  for (const name of names) await coldStart(name, events[name]);
  const rounds: Record<Name, ColdStart>[] = [];
  for (let round = 0; round < Number(values.rounds); round++) {
    const order = round % 2 === 0 ? names : [...names].reverse();
    const measured: Partial<Record<Name, ColdStart>> = {};
    for (const name of order) measured[name] = await coldStart(name, events[name]);
    rounds.push(measured as Record<Name, ColdStart>);
  }
  console.log(`${rounds.length} rounds, ${emulator.describeRuntime(values.runtime)}, load ${loadavg().map((load) => load.toFixed(1)).join(" ")}`);
  for (const name of names) console.log(`${name}: wall ${spread(rounds.map((round) => round[name].wallMs))} ms, CPU ${spread(rounds.map((round) => round[name].cpuMs))} ms`);
  for (const name of ["bare", "splitrun"] as const) {
    console.log(`${name} / libraries: wall ${spread(rounds.map((round) => round[name].wallMs / round.libraries.wallMs), 2)}, CPU ${spread(rounds.map((round) => round[name].cpuMs / round.libraries.cpuMs), 2)}`);
  }
  const kinds = [...new Set(rounds.flatMap(({ splitrun }) => splitrun.lines.map(({ kind }) => kind)))];
  for (const kind of kinds) console.log(`  ${kind} at ${spread(rounds.map(({ splitrun }) => splitrun.lines.find((line) => line.kind === kind)?.atMs ?? NaN))} ms`);
}

/** Least of so many processes: what disturbs adds to it. */
async function showPieces(): Promise<void> {
  const loop = path.resolve("test/support/lambda/runtime-loop.mjs");
  const { node, description } = runtimeProgram(values.runtime, "own", loop);
  const session = `const { InferenceSession } = require("onnxruntime-node"); await InferenceSession.create(${JSON.stringify(model)}, { intraOpNumThreads: 1, interOpNumThreads: 1 });`;
  const pieces = {
    "Node alone": "",
    "onnxruntime-node": 'require("onnxruntime-node");',
    "onnxruntime-node, and a first session": session,
    "sharp": 'require("sharp");',
    "onnxruntime-node and sharp": 'require("onnxruntime-node"); require("sharp");',
    "a thread": 'const { Worker } = require("node:worker_threads"); await new Promise((resolve) => new Worker("", { eval: true }).on("exit", resolve));',
    "the handler's own code": 'require("node:worker_threads").Worker = class { on() { return this; } }; await import("./lambda.js");',
  };
  console.log(`${description}, least of ${values.rounds}`);
  for (const [name, code] of Object.entries(pieces)) {
    const file = path.join(packed, "bench-piece.mjs");
    await writeFile(file, `import { createRequire } from "node:module";\nconst require = createRequire(import.meta.url);\n${code}\nconst { user, system } = process.cpuUsage();\nconsole.log((user + system) / 1000);\nprocess.exit(0);\n`);
    const times = Array.from({ length: Number(values.rounds) }, () => Number(execFileSync(node, [file], { env: { LAMBDA_TASK_ROOT: packed, TMPDIR: folder } }).toString()));
    console.log(`${Math.min(...times).toFixed(0).padStart(6)} ms CPU  ${name}`);
  }
}

/** Median (quartiles). */
function spread(numbers: readonly number[], digits = 0): string {
  const sorted = [...numbers].sort((a, b) => a - b);
  const at = (share: number) => (sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? NaN).toFixed(digits);
  return `${at(0.5)} (${at(0.25)}–${at(0.75)}, least ${at(0)})`;
}

async function showTrace(request: LambdaRequest): Promise<void> {
  await coldStart("splitrun", request);
  for (let round = 0; round < 3; round++) {
    const before = emulator.logMessages("/aws/lambda/splitrun").length;
    const { lines, startedAtMs } = await coldStart("splitrun", request);
    await new Promise((resolve) => setTimeout(resolve, 100));
    const told = emulator.logMessages("/aws/lambda/splitrun").slice(before).join("").split("\n").filter((line) => line.startsWith("TRACE "));
    const steps = told.map((line) => JSON.parse(line.slice(6)) as { who: string; what: string; fromMs: number; toMs: number });
    const rows = [
      ...steps.map(({ who, what, fromMs, toMs }) => ({ fromMs: fromMs - startedAtMs, toMs: toMs - startedAtMs, what: `${who}: ${what}` })),
      ...lines.map(({ kind, atMs }) => ({ fromMs: atMs, toMs: atMs, what: `line ${kind}` })),
    ].sort((a, b) => a.fromMs - b.fromMs);
    for (const { fromMs, toMs, what } of rows) console.log(`${fromMs.toFixed(0).padStart(6)} .. ${toMs.toFixed(0).padStart(6)}  ${(toMs - fromMs).toFixed(0).padStart(5)}  ${what}`);
    console.log();
  }
}
