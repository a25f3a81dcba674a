import { createHash, createHmac } from "node:crypto";
import { S3Error, errors } from "./error.ts";
import { header } from "./request.ts";
import type { S3Request } from "./request.ts";

/** An access key that the server knows. */
export interface AccessKey {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  /** Of temporary credentials. */
  readonly sessionToken?: string;
  /** Unix time after which the session is over. */
  readonly expiresAtMs?: number;
}

export interface Signed {
  /** The region that was signed for. */
  readonly region: string;
  /** `x-amz-content-sha256`: a digest in hex, or how the body is framed. */
  readonly payload: string;
}

const algorithm = "AWS4-HMAC-SHA256";
const skewMsMax = 15 * 60_000;
const expirySecondsMax = 604_800;
export const unsignedPayload = "UNSIGNED-PAYLOAD";

/** What is said of the signature, whether it stands in the header or in a presigned URL's query. */
interface Claim {
  readonly presigned: boolean;
  readonly credential: string;
  readonly signedHeaders: readonly string[];
  readonly signature: string;
  readonly date: string;
  readonly token: string | null;
  readonly payload: string;
}

/**
 * Signature Version 4, in the header or the query (S3 API reference, "Authenticating Requests").
 * @throws S3Error as S3 answers
 */
export function verifySignature(request: S3Request, keys: ReadonlyMap<string, AccessKey>, nowMs: number): Signed {
  const claim = claimOf(request);
  const [accessKeyId = "", day = "", region = "", service = "", end = ""] = claim.credential.split("/");
  if (service !== "s3" || end !== "aws4_request" || !claim.date.startsWith(day)) {
    throw new S3Error(400, "AuthorizationHeaderMalformed", "The authorization header is malformed; the credential's scope is wrong.");
  }
  const key = keys.get(accessKeyId);
  if (key === undefined) {
    throw new S3Error(403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records.", { details: { AWSAccessKeyId: accessKeyId } });
  }
  refuseWrongTime(request, claim, nowMs);
  refuseWrongToken(key, claim.token, nowMs);
  refuseUnsignedHeaders(request, claim);
  const scope = `${day}/${region}/s3/aws4_request`;
  const toSign = [algorithm, claim.date, scope, sha256Hex(canonicalRequest(request, claim))].join("\n");
  if (hmac(signingKey(key.secretAccessKey, day, region), toSign).toString("hex") !== claim.signature) {
    throw new S3Error(403, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided. Check your key and signing method.");
  }
  return { region, payload: claim.payload };
}

function claimOf(request: S3Request): Claim {
  const { query } = request;
  if (query.has("X-Amz-Signature")) {
    return {
      presigned: true,
      credential: query.get("X-Amz-Credential") ?? "",
      signedHeaders: (query.get("X-Amz-SignedHeaders") ?? "").split(";"),
      signature: query.get("X-Amz-Signature") ?? "",
      date: query.get("X-Amz-Date") ?? "",
      token: query.get("X-Amz-Security-Token") ?? null,
      payload: query.get("X-Amz-Content-Sha256") ?? header(request, "x-amz-content-sha256") ?? unsignedPayload,
    };
  }
  const authorization = header(request, "authorization");
  if (authorization === null) throw errors.accessDenied();
  const part = (name: string): string => new RegExp(`${name}=([^,\\s]+)`).exec(authorization)?.[1] ?? "";
  if (!authorization.startsWith(`${algorithm} `)) throw errors.invalidArgument("Unsupported Authorization Type");
  const payload = header(request, "x-amz-content-sha256");
  if (payload === null) throw new S3Error(400, "InvalidRequest", "Missing required header for this request: x-amz-content-sha256");
  return {
    presigned: false,
    credential: part("Credential"),
    signedHeaders: part("SignedHeaders").split(";"),
    signature: part("Signature"),
    date: header(request, "x-amz-date") ?? "",
    token: header(request, "x-amz-security-token"),
    payload,
  };
}

function refuseWrongTime(request: S3Request, claim: Claim, nowMs: number): void {
  const signedMs = parseAmzDate(claim.date);
  if (Number.isNaN(signedMs)) throw errors.accessDenied("AWS authentication requires a valid Date or x-amz-date header");
  if (!claim.presigned) {
    if (Math.abs(nowMs - signedMs) <= skewMsMax) return;
    throw new S3Error(403, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large.", {
      details: { RequestTime: claim.date, ServerTime: new Date(nowMs).toISOString(), MaxAllowedSkewMilliseconds: String(skewMsMax) },
    });
  }
  const seconds = Number(request.query.get("X-Amz-Expires"));
  if (!(seconds >= 1 && seconds <= expirySecondsMax)) {
    throw new S3Error(400, "AuthorizationQueryParametersError", "X-Amz-Expires must be between 1 and 604800 seconds");
  }
  if (signedMs > nowMs + skewMsMax) throw errors.accessDenied("Request is not valid yet");
  if (signedMs + seconds * 1000 < nowMs) throw errors.accessDenied("Request has expired");
}

function refuseWrongToken(key: AccessKey, token: string | null, nowMs: number): void {
  if ((key.sessionToken ?? null) !== token) throw new S3Error(400, "InvalidToken", "The provided token is malformed or otherwise invalid.");
  if (key.expiresAtMs !== undefined && key.expiresAtMs <= nowMs) throw new S3Error(400, "ExpiredToken", "The provided token has expired.");
}

/** A header that changes what is done must have been signed. */
function refuseUnsignedHeaders(request: S3Request, { signedHeaders, presigned }: Claim): void {
  const free = new Set(["x-amz-content-sha256", "x-amz-security-token", "x-amz-user-agent"]);
  const unsigned = Object.keys(request.headers).filter((name) =>
    name === "host" ? !signedHeaders.includes(name) : name.startsWith("x-amz-") && !signedHeaders.includes(name) && !(presigned && free.has(name)));
  if (unsigned.length === 0) return;
  throw new S3Error(403, "AccessDenied", "There were headers present in the request which were not signed", { details: { HeadersNotSigned: unsigned.join(", ") } });
}

function canonicalRequest(request: S3Request, claim: Claim): string {
  const query = [...request.query]
    .filter(([name]) => name !== "X-Amz-Signature")
    .map(([name, value]) => [encoded(name), encoded(value)] as const)
    .toSorted(([a, x], [b, y]) => (a < b ? -1 : a > b ? 1 : x < y ? -1 : 1))
    .map(([name, value]) => `${name}=${value}`)
    .join("&");
  const headers = claim.signedHeaders.map((name) => `${name}:${(header(request, name) ?? "").trim().replace(/ +/g, " ")}\n`).join("");
  const path = request.path.split("/").map((part) => encoded(decodeURIComponent(part))).join("/");
  return [request.method, path, query, headers, claim.signedHeaders.join(";"), claim.payload].join("\n");
}

/** Percent-encoding as SigV4 has it: all but letters, digits and `-._~`. */
export function encoded(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`);
}

/** `20260102T030405Z`. */
function parseAmzDate(text: string): number {
  const match = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(text);
  if (match === null) return Number.NaN;
  const [, year, month, day, hour, minute, second] = match;
  return Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`);
}

function signingKey(secret: string, day: string, region: string): Buffer {
  return ["s3", "aws4_request"].reduce(hmac, hmac(hmac(Buffer.from(`AWS4${secret}`), day), region));
}

function hmac(key: Buffer, text: string): Buffer {
  return createHmac("sha256", key).update(text).digest();
}

function sha256Hex(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}
