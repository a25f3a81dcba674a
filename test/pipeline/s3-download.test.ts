import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Transfer } from "../../task-manager/http-client.ts";
import { HostBusy } from "../../task-manager/pipeline/failure.ts";
import { createS3Downloader } from "../../task-manager/pipeline/s3-download.ts";
import type { S3Downloader } from "../../task-manager/pipeline/s3-download.ts";
import type { DownloadSpec } from "../../task-manager/protocol.ts";
import { downloadSpec } from "../support/download-spec.ts";
import { forgetConfiguration, setCredentials } from "../support/s3/client.ts";
import { startS3Server } from "../support/s3/server.ts";
import type { Fault, S3Server } from "../support/s3/server.ts";

let server: S3Server;
const opened: S3Downloader[] = [];

function downloader(spec: Partial<DownloadSpec> = {}, requesterPays = false): S3Downloader {
  const created = createS3Downloader(downloadSpec({ s3: { requesterPays, forcePathStyle: null }, ...spec }));
  opened.push(created);
  return created;
}

beforeEach(async () => {
  forgetConfiguration();
  server = await startS3Server();
  server.createBucket("b");
  server.put("b", "p/a b+%41.jpg", Buffer.alloc(100_000, 7));
  setCredentials(server.credentials);
  process.env["AWS_REGION"] = "us-east-1";
  process.env["AWS_ENDPOINT_URL_S3"] = server.endpoint;
});
afterEach(async () => {
  for (const each of opened.splice(0)) each.close();
  await server.stop();
});

describe("an item in S3", () => {
  test("comes whole, alone in its memory, its length told before", async () => {
    const lengths: number[] = [];
    const transfer: Transfer = { signal: new AbortController().signal, onLength: (bytes) => lengths.push(bytes) };
    const bytes = await downloader().get("s3://b/p/a b+%41.jpg", transfer);
    expect([bytes.equals(Buffer.alloc(100_000, 7)), bytes.buffer.byteLength, lengths]).toEqual([true, 100_000, [100_000]]);
  });

  test.each<[Fault, object]>([
    [{ kind: "cut-answer", afterBytes: 10 }, { code: "DOWNLOAD_RESET", retryable: true }],
    [{ kind: "reset" }, { code: "DOWNLOAD_CONNECT", retryable: true }],
    [{ kind: "hang" }, { code: "DOWNLOAD_IDLE", retryable: true }],
    [{ kind: "error", status: 500, code: "InternalError" }, { code: "DOWNLOAD_STATUS", status: 500, retryable: true }],
    [{ kind: "error", status: 403, code: "AccessDenied" }, { code: "DOWNLOAD_STATUS", status: 403, retryable: false, message: expect.stringContaining("s3:GetObject") }],
  ])("is its own error after %j, and is not tried again here", async (fault, expected) => {
    server.fault(fault);
    await expect(downloader(fault.kind === "hang" ? { idleTimeoutMs: 300 } : {}).get("s3://b/p/a b+%41.jpg")).rejects.toMatchObject({ stage: "download", ...expected });
    expect(server.count("GetObject")).toBe(1);
  });

  test("was not tried where S3 asks for fewer requests", async () => {
    server.fault({ kind: "error", status: 503, code: "SlowDown", headers: { "retry-after": "7" } });
    const busy: unknown = await downloader().get("s3://b/p/a b+%41.jpg").catch((error: unknown) => error);
    expect(busy).toBeInstanceOf(HostBusy);
    expect(busy).toMatchObject({ host: "s3:b", retryAfterMs: 7000 });
  });

  test("that is missing, empty, too large, late or no object says so", async () => {
    server.put("b", "empty", "");
    await expect(downloader().get("s3://b/none")).rejects.toMatchObject({ code: "INPUT_NOT_FOUND", retryable: false });
    await expect(downloader().get("s3://b/empty")).rejects.toMatchObject({ code: "DOWNLOAD_EMPTY" });
    await expect(downloader({ maxBytes: 1000 }).get("s3://b/p/a b+%41.jpg")).rejects.toMatchObject({ code: "DOWNLOAD_TOO_LARGE", retryable: false });
    await expect(downloader().get("s3://b/")).rejects.toMatchObject({ code: "INPUT_INVALID" });
    server.fault({ kind: "stall-answer", afterBytes: 10 });
    await expect(downloader({ timeoutMs: 300 }).get("s3://b/p/a b+%41.jpg")).rejects.toMatchObject({ code: "DOWNLOAD_TIMEOUT", retryable: true });
  });

  test("says so where nobody may ask for it: no credentials, wrong ones, no region, no bucket", async () => {
    await expect(downloader().get("s3://none-such/a")).rejects.toMatchObject({ code: "INPUT_NOT_FOUND", message: expect.stringContaining("no bucket none-such") });
    setCredentials({ ...server.credentials, secretAccessKey: "wrong" });
    await expect(downloader().get("s3://b/a")).rejects.toMatchObject({ code: "DOWNLOAD_CREDENTIALS", retryable: false, message: expect.stringContaining("are refused") });
    delete process.env["AWS_ACCESS_KEY_ID"];
    await expect(downloader().get("s3://b/a")).rejects.toMatchObject({ code: "DOWNLOAD_CREDENTIALS", retryable: false, message: expect.stringContaining("AWS_PROFILE") });
    setCredentials(server.credentials);
    delete process.env["AWS_REGION"];
    await expect(downloader().get("s3://b/a")).rejects.toMatchObject({ code: "DOWNLOAD_CREDENTIALS", retryable: false, message: expect.stringContaining("AWS_REGION") });
  });

  test("is paid for by the requester where that is asked for", async () => {
    server.createBucket("paid", { requesterPays: true });
    server.put("paid", "a", "x");
    await expect(downloader().get("s3://paid/a")).rejects.toMatchObject({ status: 403 });
    expect((await downloader({}, true).get("s3://paid/a")).toString()).toBe("x");
  });

  test("is left alone when the caller has no more use for it", async () => {
    server.fault({ kind: "hang" });
    const ending = new AbortController();
    const reading = downloader().get("s3://b/p/a b+%41.jpg", { signal: ending.signal, onLength: () => undefined });
    while (server.count("GetObject") === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    ending.abort();
    await expect(reading).rejects.toMatchObject({ stage: "download" });
  });
});
