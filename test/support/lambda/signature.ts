import { createHash, createHmac, timingSafeEqual } from "node:crypto";
import { encoded } from "../s3/signature.ts";
import type { AccessKey } from "../s3/signature.ts";
import { header } from "./request.ts";
import type { ServiceRequest } from "./request.ts";

export interface Scope {
  readonly service: string;
  readonly region: string;
}

export type Refusal = "missing" | "incomplete" | "unknown-key" | "wrong-token" | "expired-token" | "wrong-time" | "wrong-signature";

export class SignatureRefused extends Error {
  readonly refusal: Refusal;

  constructor(refusal: Refusal, message: string) {
    super(message);
    this.refusal = refusal;
  }
}

const algorithm = "AWS4-HMAC-SHA256";
const skewMsMax = 5 * 60_000;

/** The service that a request is signed for, unchecked: it says in whose words to answer. null: not signed. */
export function scopeOf(request: Pick<ServiceRequest, "headers">): Scope | null {
  const match = /Credential=[^/,]*\/\d{8}\/([^/,]*)\/([^/,]*)\/aws4_request/.exec(header(request, "authorization") ?? "");
  return match === null ? null : { region: match[1] ?? "", service: match[2] ?? "" };
}

/**
 * Signature Version 4 in the Authorization header, as services other than S3 have it: path segments encoded twice, the
 * body's digest always part of it (IAM guide, "Create a signed AWS API request").
 * @throws SignatureRefused
 */
export function verifySignature(request: ServiceRequest, keys: ReadonlyMap<string, AccessKey>, nowMs: number): void {
  const authorization = header(request, "authorization");
  if (authorization === null) throw new SignatureRefused("missing", "Missing Authentication Token");
  const part = (name: string): string => new RegExp(`${name}=([^,\\s]+)`).exec(authorization)?.[1] ?? "";
  const [accessKeyId = "", day = "", region = "", service = ""] = part("Credential").split("/");
  const signedHeaders = part("SignedHeaders").split(";");
  const date = header(request, "x-amz-date") ?? "";
  if (!authorization.startsWith(`${algorithm} `) || service === "" || !date.startsWith(day) || !signedHeaders.includes("host")) {
    throw new SignatureRefused("incomplete", "Authorization header requires 'Credential', 'Signature' and 'SignedHeaders' with 'host', and a date that fits them.");
  }
  const key = keys.get(accessKeyId);
  if (key === undefined || (key.sessionToken ?? null) !== header(request, "x-amz-security-token")) {
    throw new SignatureRefused(key === undefined ? "unknown-key" : "wrong-token", "The security token included in the request is invalid.");
  }
  if (key.expiresAtMs !== undefined && key.expiresAtMs <= nowMs) {
    throw new SignatureRefused("expired-token", "The security token included in the request is expired");
  }
  refuseWrongTime(date, nowMs);

  const scope = `${day}/${region}/${service}/aws4_request`;
  const toSign = [algorithm, date, scope, sha256Hex(canonicalRequest(request, signedHeaders))].join("\n");
  const expected = hmac([day, region, service, "aws4_request"].reduce(hmac, Buffer.from(`AWS4${key.secretAccessKey}`)), toSign);
  const given = Buffer.from(part("Signature"), "hex");
  if (given.length === expected.length && timingSafeEqual(given, expected)) return;
  throw new SignatureRefused("wrong-signature", "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.");
}

function refuseWrongTime(date: string, nowMs: number): void {
  const signedMs = Date.parse(date.replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/, "$1-$2-$3T$4:$5:$6Z"));
  if (Math.abs(nowMs - signedMs) <= skewMsMax) return;
  const now = amzDate(nowMs);
  throw new SignatureRefused("wrong-time", signedMs < nowMs
    ? `Signature expired: ${date} is now earlier than ${amzDate(nowMs - skewMsMax)} (${now} - 5 min.)`
    : `Signature not yet current: ${date} is still later than ${amzDate(nowMs + skewMsMax)} (${now} + 5 min.)`);
}

function canonicalRequest(request: ServiceRequest, signedHeaders: readonly string[]): string {
  const query = [...request.query]
    .map(([name, value]) => [encoded(name), encoded(value)] as const)
    .toSorted(([a, x], [b, y]) => (a < b ? -1 : a > b ? 1 : x < y ? -1 : 1))
    .map(([name, value]) => `${name}=${value}`)
    .join("&");
  const headers = signedHeaders.map((name) => `${name}:${(header(request, name) ?? "").trim().replace(/ +/g, " ")}\n`).join("");
  // Once as it stands in the request line, once more here.
  const path = request.path.split("/").map(encoded).join("/");
  return [request.method, path, query, headers, signedHeaders.join(";"), sha256Hex(request.body)].join("\n");
}

function amzDate(ms: number): string {
  return new Date(ms).toISOString().replace(/[-:]|\.\d{3}/g, "");
}

function hmac(key: Buffer, text: string): Buffer {
  return createHmac("sha256", key).update(text).digest();
}

function sha256Hex(content: string | Buffer): string {
  return createHash("sha256").update(content).digest("hex");
}
