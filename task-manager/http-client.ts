import { randomBytes } from "node:crypto";
import { rename, rm } from "node:fs/promises";
import { validateHeaderName, validateHeaderValue } from "node:http";
import type { IncomingHttpHeaders } from "node:http";
import { addressOfHost, isMetadataName } from "./http/addresses.ts";
import { createDispatcher } from "./http/dispatcher.ts";
import { Exchange } from "./http/exchange.ts";
import type { Answer, BodySink } from "./http/exchange.ts";
import { downloadFailure, failureOf, forbiddenAddress, hostAndPort } from "./http/failures.ts";
import { FileBody } from "./http/file-body.ts";
import type { FileContent } from "./http/file-body.ts";
import { MemoryBody } from "./http/memory-body.ts";
import { systemNetwork } from "./http/network.ts";
import type { Network } from "./http/network.ts";
import { redactUrl } from "./http/redact-url.ts";
import { conditionsFor, validatorsOf } from "./http/validators.ts";
import type { Validators } from "./http/validators.ts";
import type { DownloadSpec } from "./protocol.ts";
import { TaskRefused } from "./tasks/types.ts";

export { redactUrl } from "./http/redact-url.ts";
export type { FileContent } from "./http/file-body.ts";
export type { Validators } from "./http/validators.ts";

export type HttpClientOptions = Omit<DownloadSpec, "concurrency">;

export interface FileOptions {
  readonly maxBytes: number;
  readonly timeoutMs: number;
  /** Of the copy that the caller has: no body comes if it is still the same. null: it has none. */
  readonly known: Validators | null;
}

export interface DownloadedFile extends FileContent {
  /** null: only another download would tell whether it has changed. */
  readonly validators: Validators | null;
}

/** What the caller has to do with a download while it runs. */
export interface Transfer {
  /** Ends it at once, connection included. */
  readonly signal: AbortSignal;
  /** The length that the server announced for the body. */
  onLength(bytes: number): void;
}

/**
 * Downloads over http and https that a stranger's server cannot make hang, swell or go astray: total and idle
 * time-outs, limits of bytes (as received and as decoded) and redirects, no cloud metadata address. Nothing is tried
 * twice. Rejects with `ItemFailure` (stage `download`) or `HostBusy`.
 */
export interface HttpClient {
  /** The body, alone in its ArrayBuffer. */
  get(url: string, transfer?: Transfer): Promise<Buffer<ArrayBuffer>>;
  /**
   * Into the file, which appears whole or not at all (an existing one is replaced). Limits of its own, since models
   * are larger than items. null: nothing was written, what the caller knows is what there is. Rejects with the file
   * system's error where the disk is the reason.
   */
  downloadToFile(url: string, path: string, options: FileOptions): Promise<DownloadedFile | null>;
  /** Ends all connections; downloads under way fail. */
  close(): Promise<void>;
}

/** Names that tell nothing about the user, and that some hosts insist on: sent on to another origin as well. */
const harmlessHeaders: ReadonlySet<string> = new Set(["user-agent", "accept", "accept-language", "accept-encoding"]);
/** The connection's own: wrong values would break it, or hang the server. */
const refusedHeaders: ReadonlySet<string> = new Set([
  "connection", "content-length", "expect", "keep-alive", "proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade",
]);

interface DownloadOptions<Body> {
  readonly timeoutMs: number;
  readonly sink: BodySink<Body>;
  readonly known: Validators | null;
  readonly signal: AbortSignal | undefined;
}

interface Downloaded<Body> {
  readonly body: Body;
  /** The one that answered. */
  readonly url: URL;
  readonly headers: IncomingHttpHeaders;
}

/** @throws TaskRefused for a header, proxy or certificate that cannot be used, naming the job's field. */
export function createHttpClient(options: HttpClientOptions, network: Network = systemNetwork): HttpClient {
  const headers = checkedHeaders(options.headers);
  const harmless = Object.fromEntries(Object.entries(headers).filter(([name]) => harmlessHeaders.has(name)));
  const dispatcher = createDispatcher({
    connectTimeoutMs: Math.min(options.idleTimeoutMs, options.timeoutMs),
    proxy: options.proxy,
    certificateAuthorities: options.certificateAuthorities,
  }, network);

  // Items come in runs of one host, and the check of an address costs more than the rest of a request's preparation.
  let allowedHost = "";

  /** null: what is known is what there is. */
  async function download<Body>(text: string, { timeoutMs, sink, known, signal }: DownloadOptions<Body>): Promise<Downloaded<Body> | null> {
    const first = parseHttpUrl(text);
    let url = first;
    let exchange: Exchange | undefined;
    const timer = setTimeout(() => exchange?.fail(timeoutFailure(url, timeoutMs, exchange.receivedBytes)), timeoutMs);
    const onAbort = () => exchange?.fail(signal?.reason);
    signal?.addEventListener("abort", onAbort);
    try {
      for (let redirects = 0; redirects <= options.redirectsMax; redirects += 1) {
        refuseMetadata(url);
        signal?.throwIfAborted();
        const conditions = known && conditionsFor(url, known);
        const sent = url === first || url.origin === first.origin ? headers : harmless;
        const answer = await new Promise<Answer>((resolve, reject) => {
          exchange = new Exchange({ url, first, sink, idleTimeoutMs: options.idleTimeoutMs, conditional: conditions !== null, resolve, reject });
          dispatcher.dispatch(requestOf(url, conditions === null ? sent : { ...sent, ...conditions }), exchange);
        });
        if (answer.kind === "body") return { body: await sink.finish(), url, headers: answer.headers };
        if (answer.kind === "not-modified") return null;
        url = redirectTarget(answer.location, url);
      }
      throw downloadFailure("DOWNLOAD_REDIRECTS", `more than ${options.redirectsMax} redirects, the last to ${redactUrl(url.href)}`, false);
    } catch (error) {
      await sink.abandon(error);
      throw failureOf(error, { url, receivedBytes: exchange?.receivedBytes ?? 0 });
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
    }
  }

  function refuseMetadata(url: URL): void {
    const host = url.hostname;
    if (host === allowedHost) return;
    const address = addressOfHost(host);
    const forbidden = address === null ? isMetadataName(host) : network.forbids(address);
    if (forbidden) throw forbiddenAddress(url, host);
    allowedHost = host;
  }

  return {
    async get(url, transfer) {
      const sink = new MemoryBody(options.maxBytes, transfer?.onLength);
      const downloaded = await download(url, { timeoutMs: options.timeoutMs, sink, known: null, signal: transfer?.signal });
      if (downloaded === null) throw new Error("an answer without a body to a request without a condition");
      return downloaded.body;
    },
    async downloadToFile(text, path, { maxBytes, timeoutMs, known }) {
      const temporary = `${path}.${randomBytes(6).toString("hex")}.tmp`;
      try {
        const downloaded = await download(text, { timeoutMs, sink: new FileBody(temporary, maxBytes), known, signal: undefined });
        if (downloaded === null) return null;
        await rename(temporary, path);
        const { body, url, headers } = downloaded;
        return { ...body, validators: validatorsOf(url, headers) };
      } catch (error) {
        await rm(temporary, { force: true });
        throw error;
      }
    },
    close: () => dispatcher.destroy(),
  };
}

/** @throws ItemFailure INPUT_INVALID or INPUT_SCHEME. */
function parseHttpUrl(text: string): URL {
  const url = parseUrl(text);
  if (url === null) throw downloadFailure("INPUT_INVALID", `not a URL: ${JSON.stringify(redactUrl(text))}`, false);
  if (!isHttp(url)) {
    throw downloadFailure("INPUT_SCHEME", `${url.protocol}// cannot be downloaded; http:// and https:// can`, false);
  }
  return url;
}

function redirectTarget(location: string, from: URL): URL {
  const where = `${hostAndPort(from)} redirects to`;
  const url = parseUrl(location, from);
  if (url === null) throw downloadFailure("DOWNLOAD_REDIRECTS", `${where} what is no URL: ${JSON.stringify(redactUrl(location))}`, false);
  if (!isHttp(url)) {
    throw downloadFailure("INPUT_SCHEME", `${where} ${url.protocol}, which is not followed; http: and https: are`, false);
  }
  return url;
}

function parseUrl(text: string, base?: URL): URL | null {
  try {
    return new URL(text, base);
  } catch {
    return null;
  }
}

function isHttp(url: URL): boolean {
  return url.protocol === "http:" || url.protocol === "https:";
}

function requestOf(url: URL, headers: Readonly<Record<string, string>>) {
  return {
    origin: url.origin,
    path: url.pathname + url.search,
    method: "GET",
    headers: url.username === "" && url.password === "" ? headers : { authorization: basicAuthorization(url), ...headers },
  };
}

function basicAuthorization(url: URL): string {
  return `Basic ${Buffer.from(`${unescaped(url.username)}:${unescaped(url.password)}`).toString("base64")}`;
}

function unescaped(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function checkedHeaders(given: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  const headers: Record<string, string> = { "accept-encoding": "identity", "user-agent": "splitrun" };
  for (const [name, value] of Object.entries(given)) {
    const lowerCase = name.toLowerCase();
    if (refusedHeaders.has(lowerCase)) throw headerRefused(name, "is the connection's own and cannot be set");
    try {
      validateHeaderName(lowerCase);
      validateHeaderValue(lowerCase, value);
    } catch {
      // Neither the value nor the error, which may quote it: it may be a secret.
      throw headerRefused(name, "has a name or value that HTTP does not allow (a line break, perhaps)");
    }
    headers[lowerCase] = value;
  }
  return headers;
}

function headerRefused(name: string, why: string): TaskRefused {
  return new TaskRefused(`the request header ${JSON.stringify(name)} ${why}`, { code: "HEADER_INVALID", field: "task.download.headers" });
}

function timeoutFailure(url: URL, timeoutMs: number, receivedBytes: number): Error {
  return downloadFailure("DOWNLOAD_TIMEOUT", `not done after ${timeoutMs} ms: ${receivedBytes} bytes from ${hostAndPort(url)}`, true);
}
