import { checksumOf, digest } from "./body.ts";
import type { Checksum, ChecksumAlgorithm, ReceivedBody } from "./body.ts";
import { S3Error, errors } from "./error.ts";
import { checksumHeaders, encryptionOf, objectHeaders, refuseUnmet } from "./objects.ts";
import type { Answer, Precondition } from "./objects.ts";
import { header } from "./request.ts";
import type { S3Request } from "./request.ts";
import type { Bucket, Part, StoredObject, Upload } from "./store.ts";
import { xmlDocument, xmlElements, xmlText } from "./xml.ts";
import type { XmlElement } from "./xml.ts";

const partNumberMax = 10_000;

export function createUpload(request: S3Request, bucket: Bucket): Answer {
  const headers = objectHeaders(request.headers);
  const algorithm = (header(request, "x-amz-checksum-algorithm") ?? "").toLowerCase();
  if (algorithm !== "" && algorithm !== "crc32" && algorithm !== "sha1" && algorithm !== "sha256") throw errors.notImplemented(`checksum algorithm ${algorithm}`);
  const checksumAlgorithm: ChecksumAlgorithm | null = algorithm === "" ? null : algorithm;
  const upload = bucket.startUpload({ key: request.key, headers, checksumAlgorithm, startedMs: Date.now() });
  const body = xmlDocument("InitiateMultipartUploadResult", [["Bucket", bucket.name], ["Key", request.key], ["UploadId", upload.id]]);
  return { status: 200, headers: encryptionOf(headers), body };
}

export function uploadPart(request: S3Request, bucket: Bucket, body: ReceivedBody): Answer {
  const upload = uploadOf(request, bucket);
  const number = Number(request.query.get("partNumber"));
  if (!Number.isInteger(number) || number < 1 || number > partNumberMax) {
    throw errors.invalidArgument("Part number must be an integer between 1 and 10000, inclusive");
  }
  if (upload.checksumAlgorithm !== null && body.checksum?.algorithm !== upload.checksumAlgorithm) {
    throw new S3Error(400, "InvalidRequest", "Checksum Type mismatch occurred, expected checksum Type: " + upload.checksumAlgorithm);
  }
  const bytes = Buffer.from(body.bytes);
  const part: Part = { number, body: bytes, etag: `"${digest("md5", bytes, "hex")}"`, modifiedMs: Date.now(), checksum: body.checksum };
  bucket.addPart(upload, part);
  return { status: 200, headers: { etag: part.etag, ...encryptionOf(upload.headers), ...checksumHeaders(part.checksum) }, body: null };
}

interface NamedPart {
  readonly number: number;
  readonly etag: string;
  readonly checksum: string | null;
}

/** @param partBytesMin of every part but the last: 5 MiB in S3 */
export function completeUpload(request: S3Request, bucket: Bucket, body: ReceivedBody, options: { readonly partBytesMin: number; readonly before: Precondition }): Answer {
  const id = request.query.get("uploadId") ?? "";
  const done = bucket.completedUpload(id);
  if (done !== null) return completed(request, bucket, done);
  const upload = bucket.upload(id, request.key);
  const parts = partsNamed(body.bytes.toString("utf8"), upload, options.partBytesMin);
  refuseUnmet(request, bucket, options.before);
  const object = joined(upload, parts);
  bucket.endUpload(upload, object);
  bucket.put(request.key, object);
  return completed(request, bucket, object);
}

export function abortUpload(request: S3Request, bucket: Bucket): Answer {
  bucket.endUpload(uploadOf(request, bucket), null);
  return { status: 204, headers: {}, body: null };
}

export function listParts(request: S3Request, bucket: Bucket): Answer {
  const upload = uploadOf(request, bucket);
  const after = Number(request.query.get("part-number-marker") ?? 0);
  const count = Math.min(1000, Number(request.query.get("max-parts") ?? 1000));
  const behind = [...upload.parts.values()].toSorted((a, b) => a.number - b.number).filter(({ number }) => number > after);
  const parts = behind.slice(0, count);
  return { status: 200, headers: {}, body: xmlDocument("ListPartsResult", [
    ["Bucket", bucket.name],
    ["Key", request.key],
    ["UploadId", upload.id],
    ["PartNumberMarker", after],
    behind.length > count ? ["NextPartNumberMarker", parts.at(-1)?.number ?? after] : null,
    ["MaxParts", count],
    ["IsTruncated", behind.length > count],
    ...parts.map((part): XmlElement => ["Part", [
      ["PartNumber", part.number],
      ["LastModified", new Date(part.modifiedMs).toISOString()],
      ["ETag", part.etag],
      ["Size", part.body.length],
    ]]),
  ]) };
}

export function listUploads(request: S3Request, bucket: Bucket): Answer {
  const prefix = request.query.get("prefix") ?? "";
  const uploads = [...bucket.uploads.values()].filter(({ key }) => key.startsWith(prefix));
  return { status: 200, headers: {}, body: xmlDocument("ListMultipartUploadsResult", [
    ["Bucket", bucket.name],
    ["IsTruncated", false],
    ...uploads.map((upload): XmlElement => ["Upload", [
      ["Key", upload.key],
      ["UploadId", upload.id],
      ["Initiated", new Date(upload.startedMs).toISOString()],
    ]]),
  ]) };
}

function uploadOf(request: S3Request, bucket: Bucket): Upload {
  return bucket.upload(request.query.get("uploadId") ?? "", request.key);
}

function partsNamed(xml: string, upload: Upload, partBytesMin: number): readonly Part[] {
  const named = xmlElements(xml, "Part").map((element): NamedPart => ({
    number: Number(xmlText(element, "PartNumber")),
    etag: (xmlText(element, "ETag") ?? "").replaceAll('"', ""),
    checksum: xmlText(element, `Checksum${(upload.checksumAlgorithm ?? "crc32").toUpperCase()}`),
  }));
  if (named.length === 0) throw errors.malformedXml();
  if (named.some(({ number }, at) => at > 0 && number <= (named[at - 1]?.number ?? 0))) {
    throw new S3Error(400, "InvalidPartOrder", "The list of parts was not in ascending order. Parts must be ordered by part number.");
  }
  const parts = named.map((name) => partNamed(name, upload));
  if (parts.slice(0, -1).some(({ body }) => body.length < partBytesMin)) {
    throw new S3Error(400, "EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size");
  }
  return parts;
}

function partNamed(name: NamedPart, upload: Upload): Part {
  const part = upload.parts.get(name.number);
  if (part === undefined || part.etag !== `"${name.etag}"` || (name.checksum !== null && name.checksum !== part.checksum?.value)) {
    throw new S3Error(400, "InvalidPart", "One or more of the specified parts could not be found. The part may not have been uploaded, or the specified entity tag may not match the part's entity tag.");
  }
  if (upload.checksumAlgorithm !== null && name.checksum === null) {
    throw new S3Error(400, "InvalidRequest", `The upload was created using a ${upload.checksumAlgorithm} checksum. The complete request must include the checksum for each part. It was missing for part ${name.number} in the request.`);
  }
  return part;
}

function joined(upload: Upload, parts: readonly Part[]): StoredObject {
  const digests = Buffer.concat(parts.map(({ etag }) => Buffer.from(etag.replaceAll('"', ""), "hex")));
  return {
    body: Buffer.concat(parts.map(({ body }) => body)),
    etag: `"${digest("md5", digests, "hex")}-${parts.length}"`,
    modifiedMs: Date.now(),
    headers: upload.headers,
    checksum: compositeChecksum(upload, parts),
    partSizes: parts.map(({ body }) => body.length),
  };
}

/** The checksum of the parts' checksums. */
function compositeChecksum(upload: Upload, parts: readonly Part[]): Checksum | null {
  const algorithm = upload.checksumAlgorithm;
  if (algorithm === null) return null;
  const all = Buffer.concat(parts.map(({ checksum }) => Buffer.from(checksum?.value ?? "", "base64")));
  return { algorithm, value: `${checksumOf(algorithm, all)}-${parts.length}` };
}

function completed(request: S3Request, bucket: Bucket, object: StoredObject): Answer {
  const { checksum } = object;
  return { status: 200, headers: encryptionOf(object.headers), body: xmlDocument("CompleteMultipartUploadResult", [
    ["Location", `/${bucket.name}/${request.key}`],
    ["Bucket", bucket.name],
    ["Key", request.key],
    ["ETag", object.etag],
    checksum === null ? null : [`Checksum${checksum.algorithm.toUpperCase()}`, checksum.value],
  ]) };
}
