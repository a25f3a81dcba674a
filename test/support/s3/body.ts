import { createHash } from "node:crypto";
import type { IncomingMessage } from "node:http";
import { crc32 } from "node:zlib";
import { S3Error, errors } from "./error.ts";
import { header } from "./request.ts";
import type { S3Request } from "./request.ts";
import { unsignedPayload } from "./signature.ts";

export interface ReceivedBody {
  readonly bytes: Buffer;
  /** What the client said the body's checksum is, and it is. */
  readonly checksum: Checksum | null;
}

export interface Checksum {
  readonly algorithm: ChecksumAlgorithm;
  /** Base64; of a multipart object with `-N`. */
  readonly value: string;
}

export type ChecksumAlgorithm = "crc32" | "sha1" | "sha256";

/** The connection ended before the body did: there is nobody to answer. */
export class ClientGone extends Error {}

const streamingTrailer = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";

/** @param bytesMax of the raw body */
export async function receive(message: IncomingMessage, bytesMax: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  try {
    for await (const chunk of message as AsyncIterable<Buffer>) {
      length += chunk.length;
      if (length > bytesMax) throw new S3Error(400, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed size");
      chunks.push(chunk);
    }
  } catch (error) {
    throw error instanceof S3Error ? error : new ClientGone();
  }
  if (!message.complete) throw new ClientGone();
  return Buffer.concat(chunks, length);
}

/** S3 wants to know an upload's length beforehand. */
export function refuseUnknownLength(request: S3Request): void {
  if (request.method !== "PUT" || header(request, "content-length") !== null || header(request, "x-amz-decoded-content-length") !== null) return;
  // Node's client leaves the header out where there is no body at all.
  if (header(request, "transfer-encoding") === null) return;
  throw new S3Error(411, "MissingContentLength", "You must provide the Content-Length HTTP header.");
}

/**
 * Takes the frames off the body and checks it against every digest that came with it.
 * @throws S3Error
 */
export function checkBody(raw: Buffer, request: S3Request, payload: string): ReceivedBody {
  const { bytes, trailers } = payload === streamingTrailer ? unframed(raw, request) : { bytes: raw, trailers: new Map<string, string>() };
  if (payload.startsWith("STREAMING-") && payload !== streamingTrailer) throw errors.notImplemented(payload);
  if (!payload.startsWith("STREAMING-") && payload !== unsignedPayload && digest("sha256", bytes, "hex") !== payload) {
    throw new S3Error(400, "XAmzContentSHA256Mismatch", "The provided 'x-amz-content-sha256' header does not match what was computed.");
  }
  const md5 = header(request, "content-md5");
  if (md5 !== null && Buffer.from(md5, "base64").length !== 16) throw new S3Error(400, "InvalidDigest", "The Content-MD5 you specified was invalid.");
  if (md5 !== null && digest("md5", bytes, "base64") !== md5) {
    throw new S3Error(400, "BadDigest", "The Content-MD5 you specified did not match what we received.");
  }
  return { bytes, checksum: checkedChecksum(bytes, request, trailers) };
}

function checkedChecksum(bytes: Buffer, request: S3Request, trailers: ReadonlyMap<string, string>): Checksum | null {
  const given = [...Object.keys(request.headers), ...trailers.keys(), ...request.query.keys()].filter((name) =>
    /^x-amz-checksum-(?!algorithm|mode|type)/.test(name));
  const [name] = given;
  if (name === undefined) return null;
  const algorithm = name.slice("x-amz-checksum-".length);
  if (!isChecksumAlgorithm(algorithm)) throw errors.notImplemented(name);
  const value = trailers.get(name) ?? header(request, name) ?? request.query.get(name) ?? "";
  if (checksumOf(algorithm, bytes) !== value) {
    throw new S3Error(400, "BadDigest", `The ${algorithm.toUpperCase()} you specified did not match the calculated checksum.`);
  }
  return { algorithm, value };
}

function isChecksumAlgorithm(name: string): name is ChecksumAlgorithm {
  return name === "crc32" || name === "sha1" || name === "sha256";
}

/** Base64. */
export function checksumOf(algorithm: ChecksumAlgorithm, bytes: Buffer): string {
  if (algorithm !== "crc32") return digest(algorithm, bytes, "base64");
  const value = Buffer.alloc(4);
  value.writeUInt32BE(crc32(bytes));
  return value.toString("base64");
}

export function digest(algorithm: string, bytes: Buffer, encoding: "hex" | "base64"): string {
  return createHash(algorithm).update(bytes).digest(encoding);
}

/** `aws-chunked`: SIZE in hex, CRLF, bytes, CRLF …, 0, CRLF, trailers, CRLF. */
function unframed(raw: Buffer, request: S3Request): { readonly bytes: Buffer; readonly trailers: ReadonlyMap<string, string> } {
  const chunks: Buffer[] = [];
  let at = 0;
  for (;;) {
    const lineEnd = raw.indexOf("\r\n", at);
    const size = lineEnd === -1 ? Number.NaN : Number.parseInt(raw.toString("latin1", at, lineEnd), 16);
    if (Number.isNaN(size)) throw incomplete();
    at = lineEnd + 2;
    if (size === 0) break;
    if (raw.toString("latin1", at + size, at + size + 2) !== "\r\n") throw incomplete();
    chunks.push(raw.subarray(at, at + size));
    at += size + 2;
  }
  const bytes = Buffer.concat(chunks);
  if (header(request, "x-amz-decoded-content-length") !== String(bytes.length)) throw incomplete();
  const trailers = new Map(raw.toString("latin1", at).split("\r\n").filter((line) => line.includes(":")).map((line) => {
    const colon = line.indexOf(":");
    return [line.slice(0, colon).trim().toLowerCase(), line.slice(colon + 1).trim()] as const;
  }));
  const announced = (header(request, "x-amz-trailer") ?? "").split(",").map((name) => name.trim().toLowerCase()).filter((name) => name !== "");
  if (announced.some((name) => !trailers.has(name))) {
    throw new S3Error(400, "MalformedTrailerError", "The request contained trailing data that was not well-formed or did not conform to our published schema.");
  }
  return { bytes, trailers };
}

function incomplete(): S3Error {
  return new S3Error(400, "IncompleteBody", "You did not provide the number of bytes specified by the Content-Length HTTP header");
}
