import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { MessageChannel, Worker } from "node:worker_threads";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createDownloader } from "../../task-manager/pipeline/download.ts";
import type { Downloader } from "../../task-manager/pipeline/download.ts";
import { HostBusy, ItemFailure } from "../../task-manager/pipeline/failure.ts";
import type { DownloadSpec, JsonValue } from "../../task-manager/protocol.ts";
import { downloadSpec } from "../support/download-spec.ts";
import { startFaultServer } from "../support/fault-server.ts";
import type { FaultServer } from "../support/fault-server.ts";
import { asOrdinaryUser } from "../support/ordinary-user.ts";

let server: FaultServer;
let folder: string;
const downloaders: Downloader[] = [];

beforeAll(async () => {
  server = await startFaultServer();
  folder = mkdtempSync(join(tmpdir(), "splitrun-download-"));
});

afterAll(async () => {
  await Promise.all(downloaders.map((downloader) => downloader.close()));
  await server.stop();
  rmSync(folder, { recursive: true, force: true });
});

function downloaderWith(changes: Partial<DownloadSpec> = {}): Downloader {
  const downloader = createDownloader(downloadSpec(changes));
  downloaders.push(downloader);
  return downloader;
}

/** The error of an item, while neighbours of the same downloader succeed before, beside and after it. */
async function errorOf(input: JsonValue, changes: Partial<DownloadSpec> = {}): Promise<Error> {
  const downloader = downloaderWith(changes);
  const neighbour = () => downloader.download(`${server.origin}/ok/neighbour.jpg`);
  await neighbour();
  const [outcome, beside] = await Promise.all([
    downloader.download(input).then(() => new Error("it was downloaded"), (error: unknown) => error),
    neighbour(),
  ]);
  expect(beside.bytes.equals(server.okJpeg)).toBe(true);
  expect((await neighbour()).bytes.equals(server.okJpeg)).toBe(true);
  if (!(outcome instanceof Error)) throw new Error(`not an error: ${String(outcome)}`);
  return outcome;
}

async function failureOf(input: JsonValue, changes: Partial<DownloadSpec> = {}): Promise<ItemFailure> {
  const error = await errorOf(input, changes);
  if (!(error instanceof ItemFailure)) throw error;
  expect(error.stage).toBe("download");
  return error;
}

const at = (path: string): string => server.origin + path;

/** A port that was free a moment ago. */
async function closedPort(): Promise<number> {
  const listener = createServer();
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  const { port } = listener.address() as AddressInfo;
  await new Promise<void>((resolve) => listener.close(() => resolve()));
  return port;
}

describe("what can be downloaded is", () => {
  test("an image, byte by byte, named without its query", async () => {
    const downloaded = await downloaderWith().download(at("/ok.jpg?X-Amz-Signature=abc"));
    expect(downloaded.bytes.equals(server.okJpeg)).toBe(true);
    expect(downloaded.name).toBe(at("/ok.jpg"));
  });

  test.each(["/ok.jpg", "/close-ok", "/gzip-ok"])("bytes of %s can be moved to another thread without a copy", async (path) => {
    const { bytes } = await downloaderWith().download(at(path));
    expect(bytes.byteOffset).toBe(0);
    expect(bytes.buffer.byteLength).toBe(bytes.byteLength);
    const { port1, port2 } = new MessageChannel();
    port1.postMessage(bytes, [bytes.buffer]);
    expect(bytes.buffer.byteLength).toBe(0);
    port1.close();
    port2.close();
  });

  test.each([
    "/close-ok", "/slow-ok?delayMs=50", "/gzip-ok", "/br-ok", "/deflate-ok", "/raw-deflate-ok", "/redirect/1", "/redirect/5",
  ])("%s", async (path) => {
    const { bytes } = await downloaderWith().download(at(path));
    expect(bytes.equals(server.okJpeg)).toBe(true);
  });

  test("connections are used again", async () => {
    const alone = await startFaultServer();
    const downloader = downloaderWith();
    for (let n = 0; n < 5; n += 1) await downloader.download(`${alone.origin}/ok.jpg`);
    for (let n = 0; n < 3; n += 1) await downloader.download(`${alone.origin}/status/404`).catch(() => undefined);
    // One may still be settling when the next request comes.
    expect(alone.connections).toBeLessThanOrEqual(2);
    await alone.stop();
  });

  test("an error that ends after a while is downloaded when asked for again", async () => {
    const downloader = downloaderWith();
    const ask = () => downloader.download(at("/then-ok/500/2/again"));
    await expect(ask()).rejects.toMatchObject({ code: "DOWNLOAD_STATUS", retryable: true });
    await expect(ask()).rejects.toMatchObject({ code: "DOWNLOAD_STATUS", retryable: true });
    expect((await ask()).bytes.equals(server.okJpeg)).toBe(true);
    expect(server.requests("/then-ok/500/2/again")).toBe(3);
  });

  test("request headers of the job are sent, over the defaults, and so are a user and password in the URL", async () => {
    const downloader = downloaderWith({ headers: { "X-Token": "s3cret", "User-Agent": "mine" } });
    const { bytes } = await downloader.download(at("/headers").replace("//", "//ann:p%40ss@"));
    expect(JSON.parse(bytes.toString())).toMatchObject({
      "x-token": "s3cret",
      "user-agent": "mine",
      "accept-encoding": "identity",
      "authorization": `Basic ${Buffer.from("ann:p@ss").toString("base64")}`,
    });
  });

  test("a redirect to another origin takes none of the job's headers along but harmless ones", async () => {
    const other = await startFaultServer();
    const downloader = downloaderWith({ headers: { "X-Token": "s3cret", "authorization": "Bearer s3cret", "cookie": "a=1", "user-agent": "mine" } });
    const there = encodeURIComponent(`${other.origin}/headers`);
    const seen = JSON.parse((await downloader.download(at(`/redirect-to?url=${there}`))).bytes.toString()) as Record<string, string>;
    expect(seen["user-agent"]).toBe("mine");
    expect(seen).not.toHaveProperty("x-token");
    expect(seen).not.toHaveProperty("authorization");
    expect(seen).not.toHaveProperty("cookie");
    const here = JSON.parse((await downloader.download(at("/redirect-to?url=/headers"))).bytes.toString()) as Record<string, string>;
    expect(here["x-token"]).toBe("s3cret");
    await other.stop();
  });
});

describe("what cannot be downloaded is that item's error, and its neighbours go on", () => {
  test.each<[name: string, path: string, changes: Partial<DownloadSpec>, code: string, retryable: boolean]>([
    ["404", "/status/404", {}, "DOWNLOAD_STATUS", false],
    ["410", "/status/410", {}, "DOWNLOAD_STATUS", false],
    ["403", "/status/403", {}, "DOWNLOAD_STATUS", false],
    ["304, which was not asked for", "/status/304", {}, "DOWNLOAD_STATUS", false],
    ["206, which was not asked for", "/status/206", {}, "DOWNLOAD_STATUS", false],
    ["408", "/status/408", {}, "DOWNLOAD_STATUS", true],
    ["425", "/status/425", {}, "DOWNLOAD_STATUS", true],
    ["500", "/status/500", {}, "DOWNLOAD_STATUS", true],
    ["503 that does not say for how long", "/status/503", {}, "DOWNLOAD_STATUS", true],
    ["a server that never answers", "/never", { idleTimeoutMs: 1000 }, "DOWNLOAD_IDLE", true],
    ["headers, then silence", "/headers-then-silence", { idleTimeoutMs: 1000 }, "DOWNLOAD_IDLE", true],
    ["a byte now and then", "/byte-a-second?everyMs=50", { timeoutMs: 1000 }, "DOWNLOAD_TIMEOUT", true],
    ["bytes too far apart", "/byte-a-second?everyMs=3000", { idleTimeoutMs: 1000 }, "DOWNLOAD_IDLE", true],
    ["never, total time-out", "/never", { timeoutMs: 1000 }, "DOWNLOAD_TIMEOUT", true],
    ["reset before the answer", "/reset/", {}, "DOWNLOAD_RESET", true],
    ["reset in mid-body", "/reset-mid-body", {}, "DOWNLOAD_RESET", true],
    ["a body shorter than said", "/short-body", {}, "DOWNLOAD_RESET", true],
    ["a chunked body cut short", "/cut-chunked", {}, "DOWNLOAD_RESET", true],
    ["an answer that is not HTTP", "/not-http", {}, "DOWNLOAD_RESET", true],
    ["redirects for ever", "/redirect-loop", {}, "DOWNLOAD_REDIRECTS", false],
    ["one redirect too many", "/redirect/6", {}, "DOWNLOAD_REDIRECTS", false],
    ["a redirect to a file", "/redirect-to-file", {}, "INPUT_SCHEME", false],
    ["a redirect to nonsense", "/redirect-to?url=http%3A%2F%2F%5Bx", {}, "DOWNLOAD_REDIRECTS", false],
    ["a redirect to cloud metadata", "/redirect-to-metadata", {}, "DOWNLOAD_FORBIDDEN_ADDRESS", false],
    ["10 GB by its own word", "/huge-content-length", {}, "DOWNLOAD_TOO_LARGE", false],
    ["a body without end", "/endless", { maxBytes: 1_000_000 }, "DOWNLOAD_TOO_LARGE", false],
    ["a gzip bomb", "/gzip-bomb", { maxBytes: 1_000_000 }, "DOWNLOAD_TOO_LARGE", false],
    ["not gzip, whatever it says", "/broken-gzip", {}, "DOWNLOAD_ENCODING", false],
    ["an encoding nobody knows", "/unknown-encoding", {}, "DOWNLOAD_ENCODING", false],
    ["no byte at all", "/empty", {}, "DOWNLOAD_EMPTY", false],
    ["no content", "/status/204", {}, "DOWNLOAD_EMPTY", false],
  ])("%s", async (_name, path, changes, code, retryable) => {
    const failure = await failureOf(at(path), changes);
    expect(failure, failure.message).toMatchObject({ code, retryable });
  });

  test("a name that does not resolve", async () => {
    const resolved = await failureOf("http://nowhere.invalid/a.jpg");
    // Where there is no name server at all, the resolver cannot say more than "not now".
    expect(["ENOTFOUND", "EAI_AGAIN"].some((code) => resolved.message.includes(code))).toBe(true);
    expect(resolved).toMatchObject({ code: "DOWNLOAD_DNS", retryable: resolved.message.includes("EAI_AGAIN") });
  });

  test("a refused connection", async () => {
    const failure = await failureOf(`http://127.0.0.1:${await closedPort()}/a.jpg`);
    expect(failure).toMatchObject({ code: "DOWNLOAD_CONNECT", retryable: true });
    expect(failure.message).toContain("ECONNREFUSED");
  });

  test("TLS asked of a server that has none", async () => {
    expect(await failureOf(at("/ok.jpg").replace("http:", "https:"))).toMatchObject({ code: "DOWNLOAD_TLS", retryable: false });
  });

  test.each<[JsonValue, string]>([
    ["http://", "INPUT_INVALID"],
    ["http://[half/a.jpg", "INPUT_INVALID"],
    ["http://a b/c.jpg", "INPUT_INVALID"],
    ["relative/path.jpg", "INPUT_INVALID"],
    ["", "INPUT_INVALID"],
    [42, "INPUT_INVALID"],
    [null, "INPUT_INVALID"],
    [{ url: "http://a/" }, "INPUT_INVALID"],
    ["file://elsewhere/a.jpg", "INPUT_INVALID"],
    ["s3://bucket", "INPUT_INVALID"],
    ["ftp://host/a.jpg", "INPUT_SCHEME"],
    ["data:image/png;base64,AAAA", "INPUT_SCHEME"],
  ])("input %j", async (input, code) => {
    expect(await failureOf(input)).toMatchObject({ code, retryable: false });
  });

  test("messages show neither query, nor user and password, nor headers", async () => {
    const secretly = (url: string): string => `${url.replace("//", "//ann:s3cret@")}?sig=s3cret#s3cret`;
    for (const input of [secretly(at("/status/404")), secretly(at("/redirect-loop")), secretly("ftp://host/a"), "http://a:s3cret@[x/?s3cret", "relative?s3cret"]) {
      const failure = await failureOf(input, { headers: { "x-token": "s3cret" } });
      expect(failure.message).not.toContain("s3cret");
    }
  });
});

test("a thread that was too busy to read what had come in time does not blame the server", async () => {
  // Of another thread, so that it answers while this one stands still.
  const answered = new Int32Array(new SharedArrayBuffer(4));
  const answering = new Worker(`
    const { createServer } = require("node:http");
    const { parentPort, workerData: answered } = require("node:worker_threads");
    const server = createServer((request, response) => {
      parentPort.postMessage("asked");
      // The other thread goes on well after the answer was there, and after its time was over.
      setTimeout(() => response.end("in time", () => setTimeout(() => {
        Atomics.store(answered, 0, 1);
        Atomics.notify(answered, 0);
      }, 1500)), 100);
    });
    server.listen(0, "127.0.0.1", () => parentPort.postMessage(server.address().port));
  `, { eval: true, workerData: answered });
  const [port] = await once(answering, "message") as [number];
  const downloading = downloaderWith({ idleTimeoutMs: 500 }).download(`http://127.0.0.1:${port}/`);
  await once(answering, "message");
  Atomics.wait(answered, 0, 0);
  expect((await downloading).bytes.toString()).toBe("in time");
  await answering.terminate();
});

describe("a host that asks for fewer requests", () => {
  test.each<[path: string, retryAfterMs: number | null]>([
    ["/status/429", null],
    ["/status/429?retryAfter=7", 7000],
    ["/status/429?retryAfter=soon", null],
    ["/status/503?retryAfter=2", 2000],
    [`/status/503?retryAfter=${encodeURIComponent("Wed, 21 Oct 2015 07:28:00 GMT")}`, 0],
  ])("%s is told apart, with how long it asked for", async (path, retryAfterMs) => {
    const busy = await errorOf(at(path));
    expect(busy).toBeInstanceOf(HostBusy);
    expect(busy).toMatchObject({ host: `127.0.0.1:${server.port}`, retryAfterMs });
  });

  test("a date says how long from now", async () => {
    const date = new Date(Date.now() + 100_000).toUTCString();
    const busy = await errorOf(at(`/status/429?retryAfter=${encodeURIComponent(date)}`));
    if (!(busy instanceof HostBusy)) throw busy;
    expect(busy.retryAfterMs).toBeGreaterThan(0);
    expect(busy.retryAfterMs).toBeLessThanOrEqual(100_000);
  });

  test("the host is the item's own, also behind a redirect", async () => {
    const other = await startFaultServer();
    const busy = await errorOf(at(`/redirect-to?url=${encodeURIComponent(`${other.origin}/status/429`)}`));
    expect(busy).toMatchObject({ host: `127.0.0.1:${server.port}` });
    await other.stop();
  });
});

describe("local files", () => {
  function fileWith(name: string, content: string | Buffer): string {
    const path = join(folder, name);
    writeFileSync(path, content);
    return path;
  }

  test.each(["plain.jpg", "with spaces and 100 %.jpg", "größe 写真 🖼.jpg"])("%s is read, by path and by URL", async (name) => {
    const path = fileWith(name, server.okJpeg);
    const downloader = downloaderWith();
    const byPath = await downloader.download(path);
    const byUrl = await downloader.download(pathToFileURL(path).href);
    expect(byPath.name).toBe(path);
    expect(byPath.bytes.equals(server.okJpeg)).toBe(true);
    expect(byPath.bytes.buffer.byteLength).toBe(server.okJpeg.length);
    expect(byUrl.bytes.equals(server.okJpeg)).toBe(true);
  });

  test("not there", async () => {
    const path = join(folder, "missing.jpg");
    expect(await failureOf(path)).toMatchObject({ code: "INPUT_NOT_FOUND", retryable: false });
    expect(await failureOf(pathToFileURL(path).href)).toMatchObject({ code: "INPUT_NOT_FOUND" });
    expect(await failureOf(join(fileWith("file", "x"), "below-a-file"))).toMatchObject({ code: "INPUT_NOT_FOUND" });
  });

  test("a folder", async () => {
    mkdirSync(join(folder, "folder.jpg"));
    expect(await failureOf(join(folder, "folder.jpg"))).toMatchObject({ code: "INPUT_UNREADABLE", retryable: false });
  });

  test("a named pipe that nobody writes to", async () => {
    const path = join(folder, "pipe.jpg");
    execFileSync("mkfifo", [path]);
    expect(await failureOf(path)).toMatchObject({ code: "INPUT_UNREADABLE", retryable: false });
  });

  test("without permission", async () => {
    const path = fileWith("secret.jpg", "x");
    chmodSync(path, 0);
    const failure = await asOrdinaryUser([folder, path], () => failureOf(path));
    expect(failure).toMatchObject({ code: "INPUT_UNREADABLE", retryable: false });
    expect(failure.message).toMatch(/EACCES|permission/);
  });

  test("too large, or empty", async () => {
    expect(await failureOf(fileWith("large.jpg", Buffer.alloc(50_001)), { maxBytes: 50_000 })).toMatchObject({ code: "INPUT_TOO_LARGE" });
    expect(await failureOf(fileWith("empty.jpg", ""))).toMatchObject({ code: "DOWNLOAD_EMPTY" });
  });

  test("a path that no file can have", async () => {
    expect(await failureOf("/a\0b")).toMatchObject({ code: "INPUT_INVALID" });
  });
});
