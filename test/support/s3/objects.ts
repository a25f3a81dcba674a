import type { IncomingHttpHeaders } from "node:http";
import { digest } from "./body.ts";
import type { Checksum, ReceivedBody } from "./body.ts";
import { S3Error, errors } from "./error.ts";
import { header } from "./request.ts";
import type { S3Request } from "./request.ts";
import type { Bucket, StoredObject } from "./store.ts";
import { xmlDocument, xmlElements, xmlText } from "./xml.ts";

export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | number>>;
  readonly body: Buffer | null;
}

/** What a conditional write may rely on: taken before the body is read. */
export interface Precondition {
  readonly deletions: number;
}

const kept = /^(?:x-amz-meta-.+|content-type|cache-control|content-disposition|content-language|expires|x-amz-server-side-encryption.*|x-amz-storage-class|x-amz-tagging)$/;

/** The headers of a request that belong to the object. */
export function objectHeaders(headers: IncomingHttpHeaders): Readonly<Record<string, string>> {
  const entries = Object.entries(headers).filter((entry): entry is [string, string] => kept.test(entry[0]) && typeof entry[1] === "string");
  const encoding = String(headers["content-encoding"] ?? "").split(",").map((part) => part.trim()).filter((part) => part !== "" && part !== "aws-chunked");
  return { "content-type": "binary/octet-stream", ...Object.fromEntries(entries), ...(encoding.length > 0 && { "content-encoding": encoding.join(", ") }) };
}

/** With its quotes; no MD5 where the object is encrypted with a KMS key, as in S3. */
export function etagOf(bytes: Buffer, headers: Readonly<Record<string, string>>): string {
  const kms = headers["x-amz-server-side-encryption"] === "aws:kms";
  return `"${digest("md5", kms ? Buffer.concat([Buffer.from("kms"), bytes]) : bytes, "hex")}"`;
}

export function preconditionOf(bucket: Bucket, key: string): Precondition {
  return { deletions: bucket.deletionsOf(key) };
}

/**
 * The conditions of a write, checked in the instant in which it is done.
 * @throws S3Error 412, 409 where the object was deleted while the write was under way, 404 for If-Match on nothing
 */
export function refuseUnmet(request: S3Request, bucket: Bucket, before: Precondition): void {
  const { key } = request;
  const present = bucket.find(key);
  const ifNoneMatch = header(request, "if-none-match");
  const ifMatch = header(request, "if-match");
  if (ifNoneMatch === null && ifMatch === null) return;
  if (ifNoneMatch !== null && ifNoneMatch !== "*") throw errors.notImplemented("If-None-Match with an ETag on a write");
  if (bucket.deletionsOf(key) !== before.deletions) throw errors.conflict(key);
  if (ifNoneMatch === "*" && present !== null) throw errors.preconditionFailed("If-None-Match");
  if (ifMatch === null) return;
  if (present === null) throw errors.noSuchKey(key);
  if (!matches(ifMatch, present.etag)) throw errors.preconditionFailed("If-Match");
}

export function putObject(request: S3Request, bucket: Bucket, body: ReceivedBody, before: Precondition): Answer {
  refuseUnmet(request, bucket, before);
  const headers = objectHeaders(request.headers);
  const object: StoredObject = {
    // A copy of its own: the body may be a view into the frames it came in.
    body: Buffer.from(body.bytes),
    etag: etagOf(body.bytes, headers),
    modifiedMs: Date.now(),
    headers,
    checksum: body.checksum,
    partSizes: null,
  };
  bucket.put(request.key, object);
  return { status: 200, headers: { etag: object.etag, ...encryptionOf(headers), ...checksumHeaders(object.checksum) }, body: null };
}

export function copyObject(request: S3Request, bucket: Bucket, sourceOf: (bucket: string) => Bucket): Answer {
  const [, from = "", key = ""] = /^\/?([^/]+)\/(.+?)(?:\?versionId=.*)?$/.exec(decodeURIComponent(header(request, "x-amz-copy-source") ?? "")) ?? [];
  const source = sourceOf(from).get(key);
  const replaced = header(request, "x-amz-metadata-directive") === "REPLACE";
  if (from === bucket.name && key === request.key && !replaced) {
    throw new S3Error(400, "InvalidRequest", "This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata.");
  }
  const copy: StoredObject = { ...source, modifiedMs: Date.now(), headers: replaced ? objectHeaders(request.headers) : source.headers };
  bucket.put(request.key, copy);
  const body = xmlDocument("CopyObjectResult", [["LastModified", new Date(copy.modifiedMs).toISOString()], ["ETag", copy.etag]]);
  return { status: 200, headers: {}, body };
}

export function getObject(request: S3Request, bucket: Bucket): Answer {
  const object = bucket.get(request.key);
  const headers = {
    ...object.headers,
    "etag": object.etag,
    "last-modified": new Date(object.modifiedMs).toUTCString(),
    "accept-ranges": "bytes",
  };
  const condition = readCondition(request, object);
  if (condition === "failed") throw errors.preconditionFailed("If-Match");
  if (condition === "unchanged") return { status: 304, headers, body: null };
  const range = rangeOf(request, object);
  if (range === null) {
    const checksum = header(request, "x-amz-checksum-mode") === "ENABLED" ? object.checksum : null;
    return { status: 200, headers: { ...headers, ...checksumHeaders(checksum) }, body: object.body };
  }
  return {
    status: 206,
    headers: {
      ...headers,
      "content-range": `bytes ${range.first}-${range.last}/${object.body.length}`,
      ...(object.partSizes !== null && request.query.has("partNumber") && { "x-amz-mp-parts-count": object.partSizes.length }),
    },
    body: object.body.subarray(range.first, range.last + 1),
  };
}

export function deleteObject(request: S3Request, bucket: Bucket): Answer {
  const ifMatch = header(request, "if-match");
  const present = bucket.find(request.key);
  if (ifMatch !== null && present !== null && !matches(ifMatch, present.etag)) throw errors.preconditionFailed("If-Match");
  bucket.delete(request.key);
  return { status: 204, headers: {}, body: null };
}

const deletedMax = 1000;

export function deleteObjects(request: S3Request, bucket: Bucket, body: ReceivedBody): Answer {
  if (header(request, "content-md5") === null && body.checksum === null) {
    throw new S3Error(400, "InvalidRequest", "Missing required header for this request: Content-MD5 OR x-amz-checksum-*");
  }
  const xml = body.bytes.toString("utf8");
  const keys = xmlElements(xml, "Object").map((element) => xmlText(element, "Key"));
  if (keys.length === 0 || keys.length > deletedMax || keys.includes(null)) throw errors.malformedXml();
  for (const key of keys) bucket.delete(key ?? "");
  const quiet = xmlText(xml, "Quiet") === "true";
  return { status: 200, headers: {}, body: xmlDocument("DeleteResult", quiet ? [] : keys.map((key) => ["Deleted", [["Key", key ?? ""]]])) };
}

export function encryptionOf(headers: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => name.startsWith("x-amz-server-side-encryption")));
}

export function checksumHeaders(checksum: Checksum | null): Readonly<Record<string, string>> {
  if (checksum === null) return {};
  return {
    [`x-amz-checksum-${checksum.algorithm}`]: checksum.value,
    "x-amz-checksum-type": checksum.value.includes("-") ? "COMPOSITE" : "FULL_OBJECT",
  };
}

function matches(condition: string, etag: string): boolean {
  return condition.split(",").some((part) => part.trim() === "*" || part.trim().replaceAll('"', "") === etag.replaceAll('"', ""));
}

function readCondition(request: S3Request, object: StoredObject): "met" | "failed" | "unchanged" {
  const ifMatch = header(request, "if-match");
  if (ifMatch !== null && !matches(ifMatch, object.etag)) return "failed";
  const seconds = Math.floor(object.modifiedMs / 1000);
  const unmodifiedSince = secondsOf(header(request, "if-unmodified-since"));
  if (ifMatch === null && unmodifiedSince !== null && seconds > unmodifiedSince) return "failed";
  const ifNoneMatch = header(request, "if-none-match");
  if (ifNoneMatch !== null) return matches(ifNoneMatch, object.etag) ? "unchanged" : "met";
  const modifiedSince = secondsOf(header(request, "if-modified-since"));
  return modifiedSince !== null && seconds <= modifiedSince ? "unchanged" : "met";
}

function secondsOf(date: string | null): number | null {
  const milliseconds = Date.parse(date ?? "");
  return Number.isNaN(milliseconds) ? null : Math.floor(milliseconds / 1000);
}

interface Range {
  readonly first: number;
  readonly last: number;
}

/** null: the whole object. */
function rangeOf(request: S3Request, object: StoredObject): Range | null {
  const size = object.body.length;
  const part = request.query.get("partNumber");
  if (part !== undefined) return partRange(object, Number(part));
  const [, first = "", last = ""] = /^bytes=(\d*)-(\d*)$/.exec(header(request, "range") ?? "") ?? [];
  if (first === "" && last === "") return null;
  const range = first === ""
    ? { first: Math.max(0, size - Number(last)), last: size - 1 }
    : { first: Number(first), last: last === "" ? size - 1 : Math.min(Number(last), size - 1) };
  if (first !== "" && last !== "" && Number(first) > Number(last)) return null;
  const empty = first === "" && Number(last) === 0;
  if (range.first < size && !empty) return range;
  throw new S3Error(416, "InvalidRange", "The requested range is not satisfiable", { details: { ActualObjectSize: String(size) }, headers: { "content-range": `bytes */${size}` } });
}

function partRange(object: StoredObject, number: number): Range {
  const sizes = object.partSizes ?? [object.body.length];
  const size = sizes[number - 1];
  if (size === undefined) throw new S3Error(416, "InvalidPartNumber", "The requested partnumber is not satisfiable");
  const first = sizes.slice(0, number - 1).reduce((sum, each) => sum + each, 0);
  return { first, last: first + size - 1 };
}
