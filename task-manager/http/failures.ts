import { STATUS_CODES } from "node:http";
import { HostBusy, ItemFailure } from "../pipeline/failure.ts";
import type { ItemErrorCode } from "../protocol.ts";
import { redactUrl } from "./redact-url.ts";

/** No connection of ours could be made; what a proxy's connection says comes without it. */
export class ConnectFailure extends Error {
  constructor(cause: Error) {
    super(cause.message, { cause });
    this.name = "ConnectFailure";
  }
}

/** The address belongs to a cloud's metadata service. */
export class ForbiddenAddress extends Error {
  readonly address: string;

  constructor(address: string) {
    super(`${address} is a cloud's metadata address`);
    this.name = "ForbiddenAddress";
    this.address = address;
  }
}

/** The disk, not the download: `cause` is the file system's error. */
export class DiskFailure extends Error {
  override readonly cause: Error;

  constructor(cause: Error) {
    super(cause.message);
    this.name = "DiskFailure";
    this.cause = cause;
  }
}

export function downloadFailure(code: ItemErrorCode, message: string, retryable: boolean, cause?: unknown): ItemFailure {
  return new ItemFailure(message, { code, stage: "download", retryable, cause });
}

export function tooLarge(maxBytes: number): ItemFailure {
  return downloadFailure("DOWNLOAD_TOO_LARGE", `larger than the ${maxBytes} bytes allowed`, false);
}

export function forbiddenAddress(url: URL, address: string): ItemFailure {
  const where = address === url.hostname ? address : `${url.hostname} (${address})`;
  return downloadFailure("DOWNLOAD_FORBIDDEN_ADDRESS", `${where} is a cloud's metadata address, which is never asked`, false);
}

export interface StatusContext {
  /** The one that answered. */
  readonly url: URL;
  /** The item's own. */
  readonly first: URL;
  readonly nowMs: number;
}

/** What a status other than success means. */
export function statusFailure(status: number, retryAfter: string | undefined, context: StatusContext): ItemFailure | HostBusy {
  const retryAfterMs = parseRetryAfter(retryAfter, context.nowMs);
  // The item's own host, whoever it was redirected to: that is the one whose items can be held back.
  if (status === 429 || (status === 503 && retryAfterMs !== null)) return new HostBusy(hostAndPort(context.first), retryAfterMs);
  const reason = `${status} ${STATUS_CODES[status] ?? ""}`.trim();
  const where = context.url === context.first ? "" : ` (redirected to ${redactUrl(context.url.href)})`;
  const retryable = status >= 500 || status === 408 || status === 425;
  return new ItemFailure(`${reason}${where}`, { code: "DOWNLOAD_STATUS", stage: "download", retryable, status });
}

export function hostAndPort(url: URL): string {
  const port = url.port === "" ? (url.protocol === "https:" ? "443" : "80") : url.port;
  return `${url.hostname}:${port}`;
}

/** Seconds or an HTTP date (RFC 9110, 10.2.3); null: absent or neither. */
export function parseRetryAfter(text: string | undefined, nowMs: number): number | null {
  if (text === undefined) return null;
  if (/^\s*\d{1,9}\s*$/.test(text)) return Number(text) * 1000;
  const dateMs = /[a-z]{3}/i.test(text) ? Date.parse(text) : Number.NaN;
  return Number.isNaN(dateMs) ? null : Math.max(0, dateMs - nowMs);
}

export interface ErrorContext {
  readonly url: URL;
  readonly receivedBytes: number;
}

/** What an error of the connection means for the item. Failures that were decided already pass through. */
export function failureOf(error: unknown, context: ErrorContext): Error {
  if (error instanceof ItemFailure || error instanceof HostBusy) return error;
  if (error instanceof DiskFailure) return error.cause;
  if (!(error instanceof Error)) return resetFailure(error, context);
  if (error instanceof ConnectFailure) return connectFailure(rootOf(error), context);
  if (isProxyFailure(error)) return proxyFailure(error);
  if (isTlsCode(codeOf(error))) return tlsFailure(error, context);
  if (codeOf(error).startsWith("HPE_")) {
    return downloadFailure("DOWNLOAD_RESET", `${context.url.host} answered something that is not complete HTTP (${codeOf(error)})`, true, error);
  }
  return resetFailure(error, context);
}

function connectFailure(error: Error, { url, receivedBytes }: ErrorContext): ItemFailure {
  const code = codeOf(error);
  if (error instanceof ForbiddenAddress) return forbiddenAddress(url, error.address);
  if (code === "EAI_AGAIN") return downloadFailure("DOWNLOAD_DNS", `${url.hostname} could not be resolved just now (${code})`, true, error);
  if (code === "ENOTFOUND" || code.startsWith("EAI_")) {
    return downloadFailure("DOWNLOAD_DNS", `${url.hostname} does not resolve (${code})`, false, error);
  }
  if (code === "UND_ERR_CONNECT_TIMEOUT") {
    return downloadFailure("DOWNLOAD_IDLE", `${hostAndPort(url)} did not take the connection in time`, true, error);
  }
  if (isTlsCode(code)) return tlsFailure(error, { url, receivedBytes });
  if (code === "ECONNRESET" || code === "EPIPE") {
    return downloadFailure("DOWNLOAD_RESET", `${hostAndPort(url)} closed the connection before it answered (${code})`, true, error);
  }
  return downloadFailure("DOWNLOAD_CONNECT", `no connection to ${hostAndPort(url)} (${code})`, true, error);
}

function tlsFailure(error: Error, { url }: ErrorContext): ItemFailure {
  const code = codeOf(error);
  const wayOut = /CERT|UNABLE_TO|ISSUER/.test(code) ? "; own authorities: task.download.certificateAuthorities" : "";
  return downloadFailure("DOWNLOAD_TLS", `no trusted TLS connection to ${hostAndPort(url)} (${code})${wayOut}`, false, error);
}

function resetFailure(error: unknown, { url, receivedBytes }: ErrorContext): ItemFailure {
  return downloadFailure("DOWNLOAD_RESET", `${hostAndPort(url)} closed the connection after ${receivedBytes} bytes`, true, error);
}

/**
 * Connections to a proxy are made by undici itself, so that their errors are not wrapped in `ConnectFailure`. It has
 * no codes of its own for a refused CONNECT (`Proxy response (502) …`) and for 407.
 */
function isProxyFailure(error: Error): boolean {
  const syscall = "syscall" in error ? error.syscall : undefined;
  if (syscall === "connect" || syscall === "getaddrinfo") return true;
  return /^Proxy |^Secure proxy /i.test(error.message) || /^UND_ERR_(CONNECT|HEADERS)_TIMEOUT$/.test(codeOf(error));
}

function proxyFailure(error: Error): ItemFailure {
  const status = Number(/\((\d{3})\)/.exec(error.message)?.[1] ?? 0);
  const retryable = status === 0 ? codeOf(error) !== "ENOTFOUND" : status >= 500;
  const reason = status === 0 ? codeOf(error) : `it answered ${status} ${STATUS_CODES[status] ?? ""}`.trim();
  return downloadFailure("DOWNLOAD_PROXY", `not through the proxy: ${reason}`, retryable, error);
}

/** Codes of Node's TLS and of OpenSSL's certificate checks (X509_V_ERR_…). */
function isTlsCode(code: string): boolean {
  return /^(ERR_TLS_|ERR_SSL_|CERT_|CRL_|DEPTH_ZERO_|SELF_SIGNED_|UNABLE_TO_|ERROR_IN_CERT|HOSTNAME_MISMATCH|INVALID_CA|INVALID_PURPOSE|PATH_LENGTH_|EPROTO)/
    .test(code);
}

function rootOf(error: Error): Error {
  return error.cause instanceof Error ? error.cause : error;
}

function codeOf(error: Error): string {
  return "code" in error && typeof error.code === "string" ? error.code : error.name;
}
