import { isAbsolute } from "node:path";
import { fileURLToPath } from "node:url";
import { createHttpClient, redactUrl, type Transfer } from "../http-client.ts";
import { systemNetwork } from "../http/network.ts";
import type { Network } from "../http/network.ts";
import type { DownloadSpec, ItemErrorCode, JsonValue } from "../protocol.ts";
import { ItemFailure } from "./failure.ts";
import { readLocalFile } from "./local-file.ts";
import type { S3Downloader } from "./s3-download.ts";

export interface Downloaded {
  /** Alone in its ArrayBuffer: can be moved to another thread without a copy. Never empty. */
  readonly bytes: Buffer<ArrayBuffer>;
  /** The input as messages may show it. */
  readonly name: string;
}

export interface Downloader {
  /**
   * The bytes of an item: an `http:`, `https:`, `s3:` or `file:` URL, or an absolute path.
   *
   * @throws ItemFailure (stage `download`); HostBusy where the host asked for fewer requests
   */
  download(input: JsonValue, transfer?: Transfer): Promise<Downloaded>;
  /** From now on over new connections: the process was stopped for a while, and the old ones may be dead. Downloads under way fail. */
  reconnect(): void;
  /** Ends all connections; downloads under way fail. */
  close(): Promise<void>;
}

/** @throws TaskRefused for a header, proxy or certificate that cannot be used. */
export function createDownloader(spec: DownloadSpec, network: Network = systemNetwork): Downloader {
  let client = createHttpClient(spec, network);
  let s3: Promise<S3Downloader> | null = null;

  async function bytesInS3(input: string, transfer?: Transfer): Promise<Buffer<ArrayBuffer>> {
    s3 ??= import("./s3-download.ts").then(({ createS3Downloader }) => createS3Downloader(spec));
    return (await s3).get(input, transfer);
  }

  async function endConnections(): Promise<void> {
    const [http, inS3] = [client, s3];
    (await inS3)?.close();
    await http.close();
  }

  function bytesOf(input: string, transfer?: Transfer): Promise<Buffer<ArrayBuffer>> {
    if (isAbsolute(input)) return readInTime(input, spec);
    const scheme = schemeOf(input);
    if (scheme === "http" || scheme === "https") return client.get(input, transfer);
    if (scheme === "s3") return bytesInS3(input, transfer);
    if (scheme === "file") return readInTime(pathOf(input), spec);
    throw notDownloadable(scheme, redactUrl(input));
  }

  return {
    async download(input, transfer) {
      if (typeof input !== "string") throw invalid(`an item must be a URL or a path, not ${kindOf(input)}`);
      return downloaded(await bytesOf(input, transfer), input);
    },
    reconnect() {
      void endConnections();
      client = createHttpClient(spec, network);
      s3 = null;
    },
    close: endConnections,
  };
}

/** The name is made when it is asked for: few items ever need it. */
function downloaded(bytes: Buffer<ArrayBuffer>, input: string): Downloaded {
  return { bytes, get name() { return redactUrl(input); } };
}

/** A network file system can hang too; what hangs in it cannot be ended, only left. */
async function readInTime(path: string, { maxBytes, timeoutMs }: DownloadSpec): Promise<Buffer<ArrayBuffer>> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(failure("DOWNLOAD_TIMEOUT", `${path} was not read within ${timeoutMs} ms`, true)), timeoutMs);
  });
  try {
    return await Promise.race([readLocalFile(path, maxBytes), late]);
  } finally {
    clearTimeout(timer);
  }
}

function pathOf(url: string): string {
  try {
    return fileURLToPath(url);
  } catch {
    throw invalid(`not a URL of a local file: ${JSON.stringify(redactUrl(url))}; write file:///absolute/path`);
  }
}

function schemeOf(input: string): string | null {
  return /^\s*([a-z][a-z0-9+.-]*):/i.exec(input)?.[1]?.toLowerCase() ?? null;
}

function notDownloadable(scheme: string | null, name: string): ItemFailure {
  const allowed = "allowed are http://, https://, s3://, file:// and absolute paths";
  if (scheme === null) return invalid(`${JSON.stringify(name)} is neither a URL nor an absolute path; ${allowed}`);
  return failure("INPUT_SCHEME", `${scheme}:// is not supported here; ${allowed}`, false);
}

function kindOf(input: JsonValue): string {
  if (input === null) return "null";
  return Array.isArray(input) ? "a list" : `a JSON ${typeof input}`;
}

function invalid(message: string): ItemFailure {
  return failure("INPUT_INVALID", message, false);
}

function failure(code: ItemErrorCode, message: string, retryable: boolean): ItemFailure {
  return new ItemFailure(message, { code, stage: "download", retryable });
}
