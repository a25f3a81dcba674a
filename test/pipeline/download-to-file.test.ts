import { createHash } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { createHttpClient } from "../../task-manager/http-client.ts";
import type { HttpClient } from "../../task-manager/http-client.ts";
import { downloadSpec } from "../support/download-spec.ts";
import { startFaultServer } from "../support/fault-server.ts";
import type { FaultServer } from "../support/fault-server.ts";

const limits = { maxBytes: 1_000_000, timeoutMs: 20_000, known: null };
let server: FaultServer;
let client: HttpClient;
let folder: string;

beforeAll(async () => { server = await startFaultServer(); });
afterAll(async () => { await server.stop(); });
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "splitrun-file-"));
  client = createHttpClient(downloadSpec({ idleTimeoutMs: 2000, maxBytes: 1000 }));
});
afterEach(async () => {
  await client.close();
  rmSync(folder, { recursive: true, force: true });
});

test.each(["/ok.jpg", "/close-ok", "/gzip-ok", "/br-ok", "/redirect/3"])("%s is in the file, hashed", async (path) => {
  const file = join(folder, "model.onnx");
  const content = await client.downloadToFile(server.origin + path, file, limits);
  expect(content).toEqual({ sha256: createHash("sha256").update(server.okJpeg).digest("hex"), bytes: server.okJpeg.length, validators: null });
  expect(readFileSync(file).equals(server.okJpeg)).toBe(true);
  expect(statSync(file).mode & 0o777).toBe(0o600);
  expect(readdirSync(folder)).toEqual(["model.onnx"]);
});

test("more bytes than memory would want go through", async () => {
  const file = join(folder, "large.bin");
  const zeros = 512 * 1_048_576 / 8;
  const before = process.memoryUsage().rss;
  await expect(client.downloadToFile(`${server.origin}/endless`, file, { ...limits, maxBytes: zeros })).rejects.toMatchObject({ code: "DOWNLOAD_TOO_LARGE" });
  expect(process.memoryUsage().rss - before).toBeLessThan(zeros);
});

test.each([
  ["/status/404", "DOWNLOAD_STATUS"],
  ["/short-body", "DOWNLOAD_RESET"],
  ["/reset-mid-body", "DOWNLOAD_RESET"],
  ["/endless", "DOWNLOAD_TOO_LARGE"],
  ["/huge-content-length", "DOWNLOAD_TOO_LARGE"],
  ["/gzip-bomb", "DOWNLOAD_TOO_LARGE"],
  ["/broken-gzip", "DOWNLOAD_ENCODING"],
  ["/headers-then-silence", "DOWNLOAD_IDLE"],
  ["/empty", "DOWNLOAD_EMPTY"],
  ["/redirect-to-metadata", "DOWNLOAD_FORBIDDEN_ADDRESS"],
])("%s is an error, and what was in the file stays", async (path, code) => {
  const file = join(folder, "model.onnx");
  writeFileSync(file, "the old one");
  await expect(client.downloadToFile(server.origin + path, file, limits)).rejects.toMatchObject({ code });
  expect(readFileSync(file, "utf8")).toBe("the old one");
  expect(readdirSync(folder)).toEqual(["model.onnx"]);
});

test("a folder that is not there is the file system's error", async () => {
  await expect(client.downloadToFile(`${server.origin}/ok.jpg`, join(folder, "missing", "model.onnx"), limits)).rejects.toMatchObject({ code: "ENOENT" });
});
