import { createHash } from "node:crypto";
import { cp, mkdir, readFile, readdir, rename, rm, stat, symlink, utimes, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { afterEach, describe, expect, onTestFinished, test } from "vitest";
import { prepareArtifacts, type PreparedArtifacts } from "../../orchestrator/jobs/artifacts.ts";
import { defaultCacheDir } from "../../orchestrator/jobs/content-cache.ts";
import { taskSpec, type FunctionTask, type InferenceTask } from "../../task-manager/protocol.ts";
import { mountOwnDisk, ownDisk } from "../support/own-disk.ts";
import { forgetConfiguration, setCredentials } from "../support/s3/client.ts";
import { startS3Server } from "../support/s3/server.ts";
import type { S3Server } from "../support/s3/server.ts";
import { directoryWith, resolve, smallJob, temporaryDirectory } from "./jobs-fixture.ts";

const hashOf = (content: string) => createHash("sha256").update(content).digest("hex");

async function prepare(job: unknown, options: { cacheDir: string; environment?: Record<string, string>; baseDir?: string }): Promise<PreparedArtifacts> {
  const { environment = {}, baseDir = "/base", cacheDir } = options;
  return prepareArtifacts((await resolve(job, { environment, baseDir })).job, { cacheDir, environment });
}

const withModel = (model: string, more: object = {}) => ({ ...smallJob, task: { ...smallJob.task, model, ...more } });
const withModule = (module: string, more: object = {}) => ({ input: [1], task: { kind: "function", module, ...more } });

describe("a model", () => {
  test("is kept by its content, for this user alone, and described completely", async () => {
    const directory = await directoryWith({ "m.onnx": "a model", "labels.txt": "\uFEFFcat\r\ndog\r\n\r\n", "ca.pem": "PEM" });
    const cacheDir = path.join(directory, "cache", "deep");
    const job = withModel("m.onnx", {
      download: { headers: { "X-Who": { env: "WHO" } }, certificateAuthorities: ["ca.pem"] },
      postprocess: { labels: "labels.txt" },
    });
    const { task, artifacts } = await prepare(job, { cacheDir, baseDir: directory, environment: { WHO: "me", HTTPS_PROXY: "http://p:1", no_proxy: "localhost" } });

    const place = path.join(cacheDir, `${hashOf("a model")}.onnx`);
    expect(taskSpec.parse(task)).toEqual(task);
    expect(task).toMatchObject({
      model: { sha256: hashOf("a model"), bytes: 7, name: "m.onnx" },
      download: { headers: { "X-Who": "me" }, proxy: { http: "", https: "http://p:1", noProxy: "localhost" }, certificateAuthorities: ["PEM"] },
      postprocess: { activation: "softmax", topK: 1, labels: ["cat", "dog"] },
    });
    expect(artifacts).toEqual(new Map([[hashOf("a model"), { path: place, bytes: 7 }]]));
    expect(await readFile(place, "utf8")).toBe("a model");
    expect((await stat(cacheDir)).mode & 0o777).toBe(0o700);
    expect((await stat(place)).mode & 0o777).toBe(0o600);
  });

  test("of the same content is kept once, and a changed one is a second", async () => {
    const directory = await directoryWith({ "a.onnx": "one", "b.onnx": "one" });
    const cacheDir = path.join(directory, "cache");
    const hash = async (name: string) => ((await prepare(withModel(name), { cacheDir, baseDir: directory })).task as InferenceTask).model.sha256;
    expect([await hash("a.onnx"), await hash("b.onnx")]).toEqual([hashOf("one"), hashOf("one")]);
    await writeFile(path.join(directory, "a.onnx"), "two");
    expect(await hash("a.onnx")).toBe(hashOf("two"));
    expect((await readdir(cacheDir)).filter((name) => name !== "index").sort()).toEqual([`${hashOf("one")}.onnx`, `${hashOf("two")}.onnx`].sort());
  });

  test("that was not changed since is not read again; one whose copy was damaged is", async () => {
    const directory = await directoryWith({ "a.onnx": "one" });
    const file = path.join(directory, "a.onnx");
    const cacheDir = path.join(directory, "cache");
    await utimes(file, 1000, 1000);
    const place = async () => [...(await prepare(withModel(file), { cacheDir })).artifacts.values()][0]?.path ?? "";
    const copy = await place();
    await writeFile(copy, "ONE");
    await place();
    expect(await readFile(copy, "utf8")).toBe("ONE");
    await writeFile(copy, "on");
    await place();
    expect(await readFile(copy, "utf8")).toBe("one");
  });

  test("that is not there is named, with the nearest one", async () => {
    const directory = await directoryWith({ "model.onnx": "x" });
    await expect(prepare(withModel("modle.onnx"), { cacheDir: path.join(directory, "c"), baseDir: directory })).rejects.toMatchObject({
      code: "MODEL_NOT_FOUND", field: "task.model",
      message: `task.model: ${path.join(directory, "modle.onnx")} does not exist; did you mean ${path.join(directory, "model.onnx")}?`,
    });
    await expect(prepare(withModel("."), { cacheDir: path.join(directory, "c"), baseDir: directory })).rejects.toMatchObject({ code: "MODEL_UNREADABLE", field: "task.model" });
  });

  test("needs labels that are there", async () => {
    const directory = await directoryWith({ "m.onnx": "x", "empty.txt": "\n" });
    const options = { cacheDir: path.join(directory, "c"), baseDir: directory };
    await expect(prepare(withModel("m.onnx", { postprocess: { labels: "labels.txt" } }), options)).rejects.toMatchObject({ code: "LABELS_NOT_FOUND", field: "task.postprocess.labels" });
    await expect(prepare(withModel("m.onnx", { postprocess: { labels: "empty.txt" } }), options)).rejects.toMatchObject({ code: "LABELS_INVALID" });
    await expect(prepare(withModel("m.onnx", { download: { certificateAuthorities: ["ca.pem"] } }), options)).rejects.toMatchObject({ code: "CERTIFICATE_NOT_FOUND", field: "task.download.certificateAuthorities.0" });
  });
});

describe("a model at a URL", () => {
  const servers: Server[] = [];
  afterEach(() => {
    for (const server of servers.splice(0)) {
      server.closeAllConnections();
      server.close();
    }
  });

  async function serve(answers: Readonly<Record<string, string>>): Promise<{ origin: string; headers: unknown[] }> {
    const headers: unknown[] = [];
    const server = createServer((request, response) => {
      headers.push(request.headers);
      const body = answers[(request.url ?? "").split("?")[0] ?? ""];
      response.writeHead(body === undefined ? 404 : 200).end(body);
    });
    servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return { origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, headers };
  }

  test("is downloaded and kept by its content; the items' headers are not sent", async () => {
    const cacheDir = await temporaryDirectory();
    const { origin, headers } = await serve({ "/nets/tiny.onnx": "weights" });
    const { task, artifacts } = await prepare(withModel(`${origin}/nets/tiny.onnx?sig=hush`, { download: { headers: { Authorization: "hush" } } }), { cacheDir });
    expect((task as InferenceTask).model).toEqual({ sha256: hashOf("weights"), bytes: 7, name: "tiny.onnx" });
    expect(await readFile(artifacts.get(hashOf("weights"))?.path ?? "", "utf8")).toBe("weights");
    expect(headers).toEqual([expect.not.objectContaining({ authorization: "hush" })]);
    expect((await readdir(cacheDir)).sort()).toEqual([`${hashOf("weights")}.onnx`, "index"].sort());
  });

  test("that is not there is an error without its signature, and leaves nothing behind", async () => {
    const cacheDir = await temporaryDirectory();
    const { origin } = await serve({});
    const missing = await prepare(withModel(`${origin}/m.onnx?sig=hush`), { cacheDir }).catch((error: unknown) => error as Error);
    expect(missing).toMatchObject({ code: "MODEL_DOWNLOAD", field: "task.model", value: `${origin}/m.onnx?…` });
    expect(String(missing)).toContain(`${origin}/m.onnx?… could not be downloaded: 404`);
    expect(String(missing)).not.toContain("hush");
    expect(await readdir(cacheDir)).toEqual(["index"]);
  });

  interface Versions {
    readonly origin: string;
    /** What goes by that path now. */
    readonly now: { body: string; headers: Readonly<Record<string, string>>; redirect?: string };
    /** Of each request: its path, what it has already, and the status that it got. */
    readonly seen: string[];
  }

  /** Answers as RFC 9110 wants it to requests for what has changed. */
  async function serveVersions(): Promise<Versions> {
    const versions: { -readonly [Key in keyof Versions]: Versions[Key] } = { origin: "", now: { body: "one", headers: {} }, seen: [] };
    const server = createServer((request, response) => {
      const { body, headers, redirect } = versions.now;
      const { "if-none-match": tag, "if-modified-since": since } = request.headers;
      const same = tag !== undefined ? tag === headers["etag"] : since !== undefined && since === headers["last-modified"];
      const moved = redirect !== undefined && request.url === "/m.onnx";
      const status = moved ? 302 : same ? 304 : 200;
      versions.seen.push(`${request.url} ${tag ?? since ?? "-"} ${status}`);
      response.writeHead(status, moved ? { location: redirect } : headers).end(status === 200 ? body : undefined);
    });
    servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    versions.origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    return versions;
  }

  async function contentOf(url: string, cacheDir: string): Promise<string> {
    const { task, artifacts } = await prepare(withModel(url), { cacheDir });
    return readFile(artifacts.get((task as InferenceTask).model.sha256)?.path ?? "", "utf8");
  }

  test("is not downloaded again until it has changed, by its tag", async () => {
    const cacheDir = await temporaryDirectory();
    const server = await serveVersions();
    const url = `${server.origin}/m.onnx`;
    server.now.headers = { etag: '"1"' };
    expect(await contentOf(url, cacheDir)).toBe("one");
    expect(await contentOf(url, cacheDir)).toBe("one");
    Object.assign(server.now, { body: "two", headers: { etag: '"2"' } });
    expect(await contentOf(url, cacheDir)).toBe("two");
    expect(await contentOf(url, cacheDir)).toBe("two");
    expect(server.seen).toEqual(["/m.onnx - 200", '/m.onnx "1" 304', '/m.onnx "1" 200', '/m.onnx "2" 304']);
  });

  test("by its date, unless that is of this very minute", async () => {
    const cacheDir = await temporaryDirectory();
    const server = await serveVersions();
    const url = `${server.origin}/m.onnx`;
    const old = "Sat, 01 Nov 2025 10:00:00 GMT";
    server.now.headers = { "last-modified": old };
    await contentOf(url, cacheDir);
    expect(await contentOf(url, cacheDir)).toBe("one");
    const young = new Date().toUTCString();
    Object.assign(server.now, { body: "two", headers: { "last-modified": young } });
    expect(await contentOf(url, cacheDir)).toBe("two");
    server.now.body = "in the same second";
    expect(await contentOf(url, cacheDir)).toBe("in the same second");
    expect(server.seen).toEqual(["/m.onnx - 200", `/m.onnx ${old} 304`, `/m.onnx ${old} 200`, `/m.onnx ${old} 200`]);
  });

  test("is downloaded where its copy is gone, where nothing tells its version, and from where it has moved to", async () => {
    const cacheDir = await temporaryDirectory();
    const server = await serveVersions();
    const url = `${server.origin}/m.onnx`;
    server.now.headers = { etag: '"1"' };
    await contentOf(url, cacheDir);
    await rm(path.join(cacheDir, `${hashOf("one")}.onnx`));
    expect(await contentOf(url, cacheDir)).toBe("one");
    Object.assign(server.now, { body: "moved", redirect: "/elsewhere.onnx?sig=1" });
    expect(await contentOf(url, cacheDir)).toBe("moved");
    Object.assign(server.now, { redirect: "/elsewhere.onnx?sig=2" });
    expect(await contentOf(url, cacheDir)).toBe("moved");
    Object.assign(server.now, { body: "anything", headers: {}, redirect: undefined });
    expect(await contentOf(url, cacheDir)).toBe("anything");
    expect(server.seen).toEqual([
      "/m.onnx - 200", "/m.onnx - 200",
      '/m.onnx "1" 302', "/elsewhere.onnx?sig=1 - 200",
      "/m.onnx - 302", '/elsewhere.onnx?sig=2 "1" 304',
      "/m.onnx - 200",
    ]);
  });

  test("of a cloud's metadata service is refused", async () => {
    const cacheDir = await temporaryDirectory();
    await expect(prepare(withModel("http://169.254.169.254/latest/m.onnx"), { cacheDir })).rejects.toMatchObject({ code: "MODEL_DOWNLOAD", message: expect.stringContaining("metadata") });
  });
});

describe("in S3", () => {
  async function serverWith(objects: Readonly<Record<string, string>>): Promise<S3Server> {
    forgetConfiguration();
    const server = await startS3Server();
    onTestFinished(() => server.stop());
    server.createBucket("b");
    for (const [key, text] of Object.entries(objects)) server.put("b", key, text);
    setCredentials(server.credentials);
    process.env["AWS_REGION"] = "us-east-1";
    process.env["AWS_ENDPOINT_URL_S3"] = server.endpoint;
    return server;
  }

  test("a model and labels are kept by their content, and not read again until they are others", async () => {
    const server = await serverWith({ "models/m.onnx": "a model", "labels.txt": "cat\ndog\n" });
    const cacheDir = path.join(await temporaryDirectory(), "cache");
    const job = withModel("s3://b/models/m.onnx", { postprocess: { labels: "s3://b/labels.txt" } });
    const first = await prepare(job, { cacheDir });
    expect(first.task).toMatchObject({ model: { sha256: hashOf("a model"), bytes: 7, name: "m.onnx" }, postprocess: { labels: ["cat", "dog"] }, download: { s3: { requesterPays: false, forcePathStyle: null } } });
    expect(first.artifacts).toEqual(new Map([[hashOf("a model"), { path: path.join(cacheDir, `${hashOf("a model")}.onnx`), bytes: 7 }]]));
    expect(await readFile(path.join(cacheDir, `${hashOf("a model")}.onnx`), "utf8")).toBe("a model");
    expect(await prepare(job, { cacheDir })).toEqual(first);
    expect(server.count("GetObject")).toBe(2);
    server.put("b", "models/m.onnx", "another");
    expect((await prepare(job, { cacheDir })).task).toMatchObject({ model: { sha256: hashOf("another") } });
    expect(server.count("GetObject")).toBe(3);
  });

  test("a model of many pieces comes whole, though connections break", async () => {
    const content = "0123456789abcdef".repeat(2 ** 21 + 3);
    const server = await serverWith({ "m.onnx": content });
    server.fault({ kind: "cut-answer", afterBytes: 1000 }, { operation: "GetObject", times: 2 });
    const { task } = await prepare(withModel("s3://b/m.onnx"), { cacheDir: path.join(await temporaryDirectory(), "cache") });
    expect(task).toMatchObject({ model: { sha256: hashOf(content), bytes: content.length } });
    expect(server.count("GetObject")).toBe(5);
  });

  test("a module is bundled; one that imports what is beside it is refused by its own name", async () => {
    await serverWith({ "mine.ts": "export default async (n: number): Promise<number> => n + 1;", "other.mjs": 'export { default } from "./mine.ts";' });
    const cacheDir = path.join(await temporaryDirectory(), "cache");
    const { task, artifacts, fingerprint } = await prepare(withModule("s3://b/mine.ts"), { cacheDir });
    const [file] = artifacts.values();
    await expect(((await import(pathToFileURL(file?.path ?? "").href)) as { default: (n: number) => Promise<number> }).default(1)).resolves.toBe(2);
    expect(task).toMatchObject({ module: { name: "mine.mjs" } });
    const elsewhere = await prepare(withModule("s3://b/mine.ts"), { cacheDir: path.join(await temporaryDirectory(), "cache") });
    expect(elsewhere.fingerprint).toBe(fingerprint);
    await expect(prepare(withModule("s3://b/other.mjs"), { cacheDir })).rejects.toMatchObject({
      code: "MODULE_INVALID", field: "task.module",
      message: 'task.module: s3://b/other.mjs:1:25: Could not resolve "./mine.ts"; a module in S3 must have all that it imports inside: bundle it first',
    });
  });

  test("what is not there, or not ours to read, is named with the way out", async () => {
    const server = await serverWith({ "m.onnx": "a model" });
    const cacheDir = path.join(await temporaryDirectory(), "cache");
    const refused = (job: unknown) => prepare(job, { cacheDir }).then(() => null, (error: unknown) => error);
    expect(await refused(withModel("s3://b/none.onnx"))).toMatchObject({ code: "MODEL_NOT_FOUND", field: "task.model", message: "task.model: s3://b/none.onnx does not exist; check bucket and key, and account and endpoint in use" });
    expect(await refused(withModel("s3://none/m.onnx"))).toMatchObject({ code: "MODEL_NOT_FOUND", message: expect.stringContaining("s3://none/m.onnx does not exist") });
    expect(await refused(withModel("s3://b/m.onnx", { postprocess: { labels: "s3://b/none.txt" } }))).toMatchObject({ code: "LABELS_NOT_FOUND", field: "task.postprocess.labels" });
    setCredentials({ ...server.credentials, secretAccessKey: "wrong" });
    expect(await refused(withModel("s3://b/m.onnx"))).toMatchObject({ code: "MODEL_UNREADABLE", message: expect.stringContaining("are refused") });
    delete process.env["AWS_ACCESS_KEY_ID"];
    expect(await refused(withModule("s3://b/mine.ts"))).toMatchObject({ code: "MODULE_UNREADABLE", field: "task.module", message: expect.stringContaining("AWS_PROFILE") });
  });
});

describe("a user's module", () => {
  const load = async ({ artifacts, task }: PreparedArtifacts) => {
    const { path: file = "" } = artifacts.get((task as FunctionTask).module.sha256) ?? {};
    return (await import(pathToFileURL(file).href)) as { default: (item: unknown) => unknown };
  };

  test("is bundled with its dependencies, whatever they are written in", async () => {
    const directory = await directoryWith({
      "mine.ts": 'import double from "./double.ts"; import { half } from "halves"; import os from "node:os"; export default async (item: number) => [double(item), half(item), typeof os.EOL];',
      "double.ts": "const double = (x: number): number => x * 2; export default double;",
    });
    await mkdir(path.join(directory, "node_modules/halves"), { recursive: true });
    await writeFile(path.join(directory, "node_modules/halves/package.json"), '{"name":"halves","main":"main.cjs"}');
    await writeFile(path.join(directory, "node_modules/halves/main.cjs"), 'const fs = require("fs"); exports.half = (x) => (fs.existsSync("/") ? x / 2 : 0);');
    const prepared = await prepare(withModule("mine.ts"), { cacheDir: path.join(directory, "cache"), baseDir: directory });
    expect(prepared.task).toMatchObject({ kind: "function", module: { name: "mine.mjs" }, concurrency: 1, threads: 4 });
    const moved = await temporaryDirectory();
    await rename(path.join(directory, "node_modules"), path.join(moved, "node_modules"));
    expect(await (await load(prepared)).default(8)).toEqual([16, 4, "string"]);
  });

  test("keeps the places of its source, so that breakpoints and stack traces show the user's file", async () => {
    const directory = await directoryWith({ "mine.mjs": "export default () => 1;" });
    const prepared = await prepare(withModule("mine.mjs"), { cacheDir: path.join(directory, "cache"), baseDir: directory });
    const code = await readFile([...prepared.artifacts.values()][0]?.path ?? "", "utf8");
    const map = JSON.parse(Buffer.from(/sourceMappingURL=data:application\/json;base64,(\S+)/.exec(code)?.[1] ?? "", "base64").toString()) as { sourceRoot: string; sources: string[] };
    expect(map.sources.map((source) => new URL(source, map.sourceRoot).href)).toContain(pathToFileURL(path.join(directory, "mine.mjs")).href);
  });

  test("may declare a require of its own", async () => {
    const directory = await directoryWith({ "mine.mjs": 'import { createRequire } from "node:module"; const require = createRequire(import.meta.url); export default () => require("node:path").sep;' });
    expect((await load(await prepare(withModule("mine.mjs"), { cacheDir: path.join(directory, "cache"), baseDir: directory }))).default(0)).toBe("/");
  });

  test("finds native packages where it came from", async () => {
    const directory = await directoryWith({ "mine.mjs": 'import sharp from "sharp"; import { InferenceSession } from "onnxruntime-node"; import { answer } from "gyp"; export default () => [typeof sharp, typeof InferenceSession, answer];' });
    await mkdir(path.join(directory, "node_modules/gyp"), { recursive: true });
    await writeFile(path.join(directory, "node_modules/gyp/package.json"), '{"name":"gyp","main":"main.js"}');
    await writeFile(path.join(directory, "node_modules/gyp/binding.gyp"), "{}");
    await writeFile(path.join(directory, "node_modules/gyp/main.js"), "exports.answer = __dirname;");
    for (const name of ["sharp", "onnxruntime-node"]) await symlink(path.resolve(import.meta.dirname, "../../node_modules", name), path.join(directory, "node_modules", name));
    const prepared = await prepare(withModule("mine.mjs"), { cacheDir: path.join(directory, "cache"), baseDir: directory });
    expect((await load(prepared)).default(0)).toEqual(["function", "function", path.join(directory, "node_modules/gyp")]);
  });

  test.each([
    ["export default async (item) => {\n  retrun item;\n};", ':2:10: Expected ";" but found "item"'],
    ['import nothing from "no-such-package";\nexport default nothing;', ':1:21: Could not resolve "no-such-package"'],
    ["export const run = () => 1;", " has no default export (it exports run); write `export default async (item, context) => …`"],
    ["", " has no default export (it exports nothing)"],
  ])("that is wrong is refused with the place: %j", async (text, message) => {
    const directory = await directoryWith({ "mine.mjs": text });
    await expect(prepare(withModule("mine.mjs"), { cacheDir: path.join(directory, "c"), baseDir: directory })).rejects.toMatchObject({
      code: "MODULE_INVALID", field: "task.module", message: expect.stringContaining(path.join(directory, "mine.mjs") + message),
    });
  });

  test("that is not there is named, with the nearest one", async () => {
    const directory = await directoryWith({ "mine.mjs": "" });
    await expect(prepare(withModule("mien.mjs"), { cacheDir: path.join(directory, "c"), baseDir: directory })).rejects.toMatchObject({ code: "MODULE_NOT_FOUND", message: expect.stringContaining("did you mean") });
  });
});

test("what all Task Managers together may ask of a host is no part of the task", async () => {
  const directory = await directoryWith({ "m.onnx": "m" });
  const { task } = await prepare(withModel("m.onnx", { download: { perHost: { concurrency: 4 } } }), { cacheDir: path.join(directory, "cache"), baseDir: directory });
  const alone = await prepare(withModel("m.onnx"), { cacheDir: path.join(directory, "cache"), baseDir: directory });
  expect(task).toEqual(alone.task);
});

describe("the fingerprint", () => {
  async function prints(jobs: readonly unknown[], files: Readonly<Record<string, string>>): Promise<readonly string[]> {
    const directory = await directoryWith(files);
    const found: string[] = [];
    for (const job of jobs) found.push((await prepare(job, { cacheDir: path.join(directory, "cache"), baseDir: directory })).fingerprint);
    return found;
  }
  const files = { "m.onnx": "m", "copy.onnx": "m", "n.onnx": "n", "labels.txt": "a\nb", "other.txt": "a\nc", "f.mjs": "export default () => 1", "g.mjs": "export default () => 2" };

  test("stays when only how it is done changes", async () => {
    const same = await prints([
      withModel("m.onnx", { postprocess: { labels: "labels.txt" } }),
      withModel("copy.onnx", { postprocess: { labels: ["a", "b"] } }),
      { ...withModel("m.onnx", {
        postprocess: { labels: "labels.txt" }, preprocess: { preset: "torchvision-imagenet", concurrency: 7, maxPixels: 9 },
        infer: { batch: 3, sessions: 9 }, download: { concurrency: 1, headers: { A: "b" }, perHost: { concurrency: 4 } },
      }), speculation: false, faults: { exceptionPercent: 1 }, share: 2, priority: 1, taskManagers: 2, splitSize: 3, policy: "none", name: "other", input: ["x"], output: "elsewhere" },
    ], files);
    expect(new Set(same).size).toBe(1);
    expect(same[0]).toMatch(/^[0-9a-f]{64}$/);
    const functions = await prints([withModule("f.mjs"), withModule("f.mjs", { threads: 9, concurrency: 3 })], files);
    expect(new Set(functions).size).toBe(1);
  });

  test("changes with the model, each part of preprocessing and postprocessing, the labels, the module", async () => {
    const different = await prints([
      withModel("m.onnx"),
      withModel("n.onnx"),
      ...["off-sample", "fast"].map((preset) => withModel("m.onnx", { preprocess: { preset } })),
      ...[{ layout: "nhwc" }, { colorOrder: "bgr" }, { dtype: "uint8" }, { scale: 1 }, { mean: [0, 0, 0] }, { std: [1, 1, 1] }, { crop: null }, { resize: { width: 300 } }]
        .map((preprocess) => withModel("m.onnx", { preprocess })),
      ...[{ topK: 2 }, { activation: "none" }, { labels: "labels.txt" }, { labels: "other.txt" }, { preset: "off-sample" }].map((postprocess) => withModel("m.onnx", { postprocess })),
      withModule("f.mjs"),
      withModule("g.mjs"),
    ], files);
    expect(new Set(different).size).toBe(different.length);
  });

  test("of a module moves with its folder, and changes with what it imports", async () => {
    const directory = await directoryWith({ "mine.mjs": 'import { x } from "./x.cjs"; import { y } from "./y.mjs"; export default () => x + y;', "x.cjs": "exports.x = 1;", "y.mjs": "export const y = 1;" });
    const moved = path.join(await temporaryDirectory(), "moved");
    await cp(directory, moved, { recursive: true });
    const cacheDir = await temporaryDirectory();
    const print = async (baseDir: string) => (await prepare(withModule("mine.mjs"), { cacheDir, baseDir })).fingerprint;
    const before = await print(directory);
    expect(await print(moved)).toBe(before);
    await writeFile(path.join(moved, "mine.mjs"), 'import { x } from "./x.cjs";\n// a comment\nimport { y } from "./y.mjs";\nexport default () => x + y;\n');
    expect(await print(moved)).toBe(before);
    await writeFile(path.join(moved, "y.mjs"), "export const y = 2;");
    expect(await print(moved)).not.toBe(before);
  });
});

test("the fingerprint of a module does not say how far away its dependencies are", async () => {
  const root = await temporaryDirectory();
  for (const folder of ["node_modules/dep", "one", "two/deep"]) await mkdir(path.join(root, folder), { recursive: true });
  await writeFile(path.join(root, "node_modules/dep/index.js"), "exports.x = 1;");
  const fingerprints: string[] = [];
  for (const folder of ["one", "two/deep"]) {
    await writeFile(path.join(root, folder, "mine.mjs"), 'import { x } from "dep"; export default () => x;');
    fingerprints.push((await prepare(withModule("mine.mjs"), { cacheDir: path.join(root, "cache"), baseDir: path.join(root, folder) })).fingerprint);
  }
  expect(fingerprints[0]).toBe(fingerprints[1]);
});

test("the cache is where the user wants it, else in the user's cache directory", () => {
  expect(defaultCacheDir({ SPLITRUN_CACHE_DIR: "/fast/disk", XDG_CACHE_HOME: "/x" })).toBe("/fast/disk");
  expect(defaultCacheDir({ XDG_CACHE_HOME: "/x" })).toBe("/x/splitrun");
  expect(defaultCacheDir({ XDG_CACHE_HOME: "relative" })).toMatch(/\/\.cache\/splitrun$/);
  expect(defaultCacheDir({})).toMatch(/\/\.cache\/splitrun$/);
});

test.skipIf(!ownDisk)("a cache whose disk is full says so, and leaves room again (needs root, for a filesystem of its own)", async () => {
  const disk = await mountOwnDisk("256k");
  const cacheDir = path.join(disk, "cache");
  const large = "x".repeat(400_000);
  const directory = await directoryWith({ "m.onnx": large, "mine.mjs": `export default () => ${JSON.stringify(large)};` });
  const server = createServer((_request, response) => response.end(large));
  onTestFinished(() => void server.close());
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/m.onnx`;
  for (const job of [withModel("m.onnx"), withModule("mine.mjs"), withModel(url)]) {
    await expect(prepare(job, { cacheDir, baseDir: directory })).rejects.toMatchObject({
      code: "CACHE_UNUSABLE", message: expect.stringMatching(/is full: .*ENOSPC.*set SPLITRUN_CACHE_DIR/),
    });
  }
  expect(await readdir(cacheDir, { recursive: true })).toEqual(["index", "index/.pruned"]);
  await writeFile(path.join(directory, "m.onnx"), "small enough");
  await expect(prepare(withModel("m.onnx"), { cacheDir, baseDir: directory })).resolves.toBeDefined();
});

test("a cache that cannot be used says which variable moves it", async () => {
  const directory = await directoryWith({ "m.onnx": "m" });
  await expect(prepare(withModel("m.onnx"), { cacheDir: path.join(directory, "m.onnx"), baseDir: directory })).rejects.toMatchObject({
    code: "CACHE_UNUSABLE", message: expect.stringContaining("set SPLITRUN_CACHE_DIR"),
  });
});
