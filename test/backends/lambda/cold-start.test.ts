import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { copyFile, mkdir, readFile, symlink, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { availableParallelism } from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import sharp from "sharp";
import { describe, expect, onTestFinished, test } from "vitest";
import { packageFiles } from "../../../infra/package-files.ts";
import type { JsonValue, LambdaRequest, TaskSpec } from "../../../task-manager/protocol.ts";
import { protocolVersion } from "../../../task-manager/protocol.ts";
import { temporaryFolder } from "../../support/function-task.ts";
import { colors, inferenceTask } from "../../support/inference-task.ts";
import { codeFiles } from "../../support/lambda/code-files.ts";

const root = path.resolve(import.meta.dirname, "../../..");

interface Called {
  /** Names of threads. */
  readonly startedAtInit: readonly string[];
  readonly started: readonly string[];
  readonly ended: readonly string[];
  /** Node's own modules that its main thread had loaded when the first item was done. */
  readonly builtins: readonly string[];
  readonly lines: readonly { readonly kind: string; readonly results?: readonly { readonly output: unknown }[]; readonly errors?: readonly { readonly code: string }[] }[];
}

/** The built function in a process of its own, called once with one item. */
async function called(folder: string, task: TaskSpec, artifact: { readonly sha256: string; readonly path: string }, input: JsonValue, { manifest = {}, memoryMb = 1769 }: { readonly manifest?: object; readonly memoryMb?: number } = {}): Promise<Called> {
  const code = path.join(folder, "code");
  await mkdir(path.join(code, "artifacts"), { recursive: true });
  for (const { name, path: source } of await codeFiles()) await copyFile(source, path.join(code, name));
  await writeFile(path.join(code, "package.json"), JSON.stringify({ type: "module", ...manifest }));
  await symlink(path.join(root, "node_modules"), path.join(code, "node_modules"));
  await copyFile(artifact.path, path.join(code, "artifacts", artifact.sha256));
  const request: LambdaRequest = {
    protocol: protocolVersion, kind: "work", taskManager: "one", coresByMemory: true, env: {}, artifacts: [],
    configure: { kind: "configure", task, reportMs: 50, heartbeatMs: 1000, itemTimeoutMs: 60_000, profile: "off", faults: null, memoryLimitMb: null },
    grants: [], beginWithinMs: 200_000, buffered: null,
    assigns: [{ kind: "assign", assignment: 1, items: [0, 1], inputs: [input], endWithinMs: null, reversed: false }],
  };
  const file = path.join(folder, "request.json");
  await writeFile(file, JSON.stringify(request));
  // A handler that never ends must not outlast its test.
  const over = new AbortController();
  onTestFinished(() => over.abort());
  const { stdout } = await promisify(execFile)(process.execPath, [path.join(root, "test/support/lambda/handler-process.mjs"), code, file], { env: { ...process.env, TMPDIR: folder, AWS_LAMBDA_FUNCTION_MEMORY_SIZE: String(memoryMb) }, maxBuffer: 2 ** 24, signal: over.signal });
  return JSON.parse(stdout) as Called;
}

async function pictureUrl(): Promise<string> {
  const picture = await sharp({ create: { width: 24, height: 16, channels: 3, background: colors.green } }).png().toBuffer();
  const server = createServer((_request, response) => response.end(picture)).listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => {
    server.close();
    server.closeAllConnections();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/green.png`;
}

function outputsOf({ lines }: Called): readonly unknown[] {
  return lines.flatMap(({ results = [] }) => results.map(({ output }) => output));
}

describe("a new environment", () => {
  test("has its thread started before it is called, loads nothing that one picture does not need, and lets it wait for no company", async () => {
    const folder = await temporaryFolder(onTestFinished);
    // A part-full batch that waited for others would wait for longer than the test.
    const { task, modelPath } = await inferenceTask(folder, { infer: { batchWaitMs: 600_000 } });
    const done = await called(folder, task, { sha256: task.model.sha256, path: modelPath }, await pictureUrl());
    expect(outputsOf(done)).toMatchObject([{ label: "green" }]);
    expect(done.startedAtInit).toEqual(["splitrun-infer"]);
    expect(done.started).toEqual(done.startedAtInit);
    expect(done.builtins).toContain("http");
    // HTTP/2, TLS and Node's own fetch: what undici whole, WebSockets or an import of node:http as an ES module bring.
    expect(done.builtins.filter((name) => ["http2", "tls", "internal/deps/undici/undici"].includes(name))).toEqual([]);
  });

  test.runIf(availableParallelism() > 1)("with memory for two cores decodes on a thread of its own", async () => {
    const folder = await temporaryFolder(onTestFinished);
    const { task, modelPath } = await inferenceTask(folder);
    const done = await called(folder, task, { sha256: task.model.sha256, path: modelPath }, await pictureUrl(), { memoryMb: 3538 });
    expect(outputsOf(done)).toMatchObject([{ label: "green" }]);
    expect(done.startedAtInit).toEqual(["splitrun-infer", "splitrun-decode"]);
    expect(done.started.filter((name) => name === "splitrun-decode")).toHaveLength(1);
  });

  test("ends the thread that it has prepared when its task is a function", async () => {
    const done = await doubled(await temporaryFolder(onTestFinished));
    expect(done.startedAtInit).toEqual(["splitrun-infer"]);
    expect(done.ended).toEqual(done.startedAtInit);
  });

  test("prepares no threads where only modules were deployed", async () => {
    const folder = await temporaryFolder(onTestFinished);
    const artifact = { sha256: "0".repeat(64), bytes: 1, path: path.join(folder, "some-file") };
    await writeFile(artifact.path, "x");
    const manifestWith = async (...names: readonly string[]) => {
      const files = await packageFiles({ architecture: process.arch === "arm64" ? "arm64" : "x86_64", artifacts: names.map((name) => ({ ...artifact, name })), cacheDir: folder });
      const source = files.find(({ name }) => name === "package.json")?.source;
      return JSON.parse(source !== undefined && "text" in source ? source.text : "") as { readonly splitrun?: object };
    };
    expect(await manifestWith()).not.toHaveProperty("splitrun");
    expect(await manifestWith("model.onnx", "function.mjs")).not.toHaveProperty("splitrun");
    expect((await doubled(folder, await manifestWith("function.mjs"))).startedAtInit).toEqual([]);
  });
});

async function doubled(folder: string, manifest: object = {}): Promise<Called> {
  const module = path.join(folder, "double.mjs");
  await writeFile(module, "export default (item) => item * 2;");
  const sha256 = createHash("sha256").update(await readFile(module)).digest("hex");
  const task: TaskSpec = { kind: "function", module: { sha256, bytes: 34, name: "double.mjs" }, concurrency: 1, threads: 1 };
  const done = await called(folder, task, { sha256, path: module }, 21, { manifest });
  expect(outputsOf(done)).toEqual([42]);
  return done;
}

test("the parts of undici that are built in are enough for a tunnel through a proxy", async () => {
  const folder = await temporaryFolder(onTestFinished);
  const tunnels: unknown[] = [];
  const proxy = createServer().on("connect", ({ url }, socket) => {
    tunnels.push(url);
    socket.end("HTTP/1.1 502 Bad Gateway\r\n\r\n");
  });
  await once(proxy.listen(0, "127.0.0.1"), "listening");
  onTestFinished(() => void proxy.close());
  const { task, modelPath } = await inferenceTask(folder);
  const https = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`;
  const proxied = { ...task, download: { ...task.download, proxy: { http: "", https, noProxy: "" } } };
  const done = await called(folder, proxied, { sha256: task.model.sha256, path: modelPath }, "https://pictures.example/1.jpg");
  expect(tunnels).toEqual(["pictures.example:443"]);
  expect(done.lines.flatMap(({ errors = [] }) => errors.map(({ code }) => code))).toEqual(["DOWNLOAD_PROXY"]);
});

test("the Task Manager's files import nothing as an ES module but what they are made of", async () => {
  for (const { name, path: file } of (await codeFiles()).filter(({ name }) => name !== "task-manager-s3.js")) {
    const text = await readFile(file, "utf8");
    const imported = [...text.matchAll(/(?:\bfrom|\bimport)\s*"([^"]+)"/g)].map(([, from]) => from);
    expect(imported.filter((from) => from?.startsWith("node:") && from !== "node:module"), name).toEqual([]);
  }
});
