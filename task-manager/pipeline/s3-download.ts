import type { Transfer } from "../http-client.ts";
import { S3Failure, createS3Client, parseS3Url, s3Url } from "../s3-client.ts";
import type { S3Client, S3FailureCode } from "../s3-client.ts";
import { hostOf } from "../protocol.ts";
import type { DownloadSpec, ItemErrorCode } from "../protocol.ts";
import { HostBusy, ItemFailure } from "./failure.ts";

export interface S3Downloader {
  /**
   * The bytes of `s3://bucket/key`, alone in their ArrayBuffer. Nothing is tried twice.
   * @throws ItemFailure (stage `download`); HostBusy where S3 asked for fewer requests
   */
  get(url: string, transfer?: Transfer): Promise<Buffer<ArrayBuffer>>;
  close(): void;
}

/** Region, credentials and endpoint are the environment's. */
export function createS3Downloader(spec: DownloadSpec): S3Downloader {
  const client = createS3Client({
    region: null,
    profile: null,
    endpoint: null,
    checksums: null,
    encryption: null,
    storageClass: null,
    ...spec.s3,
    retries: { attemptsMax: 1, pauseMs: 0, pauseMsMax: 0 },
    socketsMax: spec.concurrency,
    connectTimeoutMs: Math.min(spec.idleTimeoutMs, spec.timeoutMs),
    idleTimeoutMs: spec.idleTimeoutMs,
  });
  return {
    get: (url, transfer) => getInTime(client, url, spec, transfer),
    close: () => client.close(),
  };
}

async function getInTime(client: S3Client, url: string, { maxBytes, timeoutMs }: DownloadSpec, transfer: Transfer | undefined): Promise<Buffer<ArrayBuffer>> {
  const place = parseS3Url(url);
  if (place === null || place.key === "") throw failure("INPUT_INVALID", `not an object in S3: ${JSON.stringify(url)}; write s3://bucket/key`, false);
  const late = AbortSignal.timeout(timeoutMs);
  const signal = transfer === undefined ? late : AbortSignal.any([late, transfer.signal]);
  try {
    const { bytes } = await client.get(place, { maxBytes, signal, ...(transfer !== undefined && { onLength: transfer.onLength }) });
    if (bytes.length === 0) throw failure("DOWNLOAD_EMPTY", `${url} is empty (0 bytes)`, false);
    return bytes;
  } catch (error) {
    if (late.aborted) throw failure("DOWNLOAD_TIMEOUT", `${url}: not done after ${timeoutMs} ms`, true, error);
    throw error instanceof S3Failure ? itemFailure(error, hostOf(s3Url(place)) ?? "") : error;
  }
}

const itemCodes: Readonly<Partial<Record<S3FailureCode, ItemErrorCode>>> = {
  S3_NO_SUCH_KEY: "INPUT_NOT_FOUND",
  S3_NO_SUCH_BUCKET: "INPUT_NOT_FOUND",
  S3_NO_CREDENTIALS: "DOWNLOAD_CREDENTIALS",
  S3_CREDENTIALS_EXPIRED: "DOWNLOAD_CREDENTIALS",
  S3_CREDENTIALS_REFUSED: "DOWNLOAD_CREDENTIALS",
  S3_NO_REGION: "DOWNLOAD_CREDENTIALS",
  S3_TOO_LARGE: "DOWNLOAD_TOO_LARGE",
  S3_TIMEOUT: "DOWNLOAD_IDLE",
  S3_UNREACHABLE: "DOWNLOAD_CONNECT",
  S3_CUT: "DOWNLOAD_RESET",
  S3_DAMAGED: "DOWNLOAD_RESET",
  S3_ABORTED: "DOWNLOAD_RESET",
};

function itemFailure(error: S3Failure, host: string): ItemFailure | HostBusy {
  if (error.code === "S3_SLOW_DOWN") return new HostBusy(host, error.retryAfterMs);
  const { retryable, status } = error;
  return new ItemFailure(error.message, { code: itemCodes[error.code] ?? "DOWNLOAD_STATUS", stage: "download", retryable, cause: error, ...(status !== null && { status }) });
}

function failure(code: ItemErrorCode, message: string, retryable: boolean, cause?: unknown): ItemFailure {
  return new ItemFailure(message, { code, stage: "download", retryable, cause });
}
