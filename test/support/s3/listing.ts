import { S3Error } from "./error.ts";
import { encoded } from "./signature.ts";
import { byteString } from "./store.ts";
import type { Bucket } from "./store.ts";
import { xmlDocument } from "./xml.ts";
import type { XmlElement } from "./xml.ts";

/** A key, or all keys up to the delimiter as one entry. */
type Entry = { readonly key: string } | { readonly commonPrefix: string };

interface Page {
  readonly entries: readonly Entry[];
  /** Where the next page begins, as the token tells it; null: this is the last one. */
  readonly next: string | null;
}

/** @param pageKeysMax a page may be shorter than the client asked for */
export function listObjects(bucket: Bucket, query: ReadonlyMap<string, string>, pageKeysMax: number): Buffer {
  const asked = Number(query.get("max-keys") ?? 1000);
  if (!Number.isInteger(asked) || asked < 0) throw new S3Error(400, "InvalidArgument", "Provided max-keys not an integer or within integer range");
  const prefix = query.get("prefix") ?? "";
  const delimiter = query.get("delimiter") ?? "";
  const token = query.get("continuation-token");
  const startAfter = query.get("start-after") ?? "";
  const after = token === undefined ? byteString(startAfter) : fromToken(token);
  const page = pageOf(bucket, { prefix, delimiter, after, count: Math.min(asked, pageKeysMax, 1000) });
  const name = query.get("encoding-type") === "url" ? encodedKey : (text: string) => text;
  return xmlDocument("ListBucketResult", [
    ["Name", bucket.name],
    ["Prefix", name(prefix)],
    delimiter === "" ? null : ["Delimiter", name(delimiter)],
    ["MaxKeys", Math.min(asked, 1000)],
    query.has("encoding-type") ? ["EncodingType", "url"] : null,
    ["KeyCount", page.entries.length],
    ["IsTruncated", page.next !== null],
    token === undefined ? null : ["ContinuationToken", token],
    page.next === null ? null : ["NextContinuationToken", toToken(page.next)],
    startAfter === "" ? null : ["StartAfter", name(startAfter)],
    ...page.entries.map((entry): XmlElement => {
      if ("commonPrefix" in entry) return ["CommonPrefixes", [["Prefix", name(entry.commonPrefix)]]];
      const object = bucket.get(entry.key);
      return ["Contents", [
        ["Key", name(entry.key)],
        ["LastModified", new Date(object.modifiedMs).toISOString()],
        ["ETag", object.etag],
        ["Size", object.body.length],
        ["StorageClass", "STANDARD"],
      ]];
    }),
  ]);
}

interface PageOptions {
  readonly prefix: string;
  readonly delimiter: string;
  /** The place that was listed last, in bytes; what comes behind it is next. */
  readonly after: string;
  readonly count: number;
}

function pageOf(bucket: Bucket, { prefix, delimiter, after, count }: PageOptions): Page {
  const keys = bucket.sortedKeys;
  const prefixBytes = byteString(prefix);
  const entries: Entry[] = [];
  let last = after;
  for (let at = firstAbove(keys, after < prefixBytes ? prefixBytes : after, after < prefixBytes); at < keys.length; at += 1) {
    const { key = "", bytes = "" } = keys[at] ?? {};
    if (!bytes.startsWith(prefixBytes)) break;
    const cut = delimiter === "" ? -1 : key.indexOf(delimiter, prefix.length);
    const commonPrefix = cut === -1 ? null : key.slice(0, cut + delimiter.length);
    // The rest of a group that was listed as its prefix.
    if (commonPrefix !== null && byteString(commonPrefix) === last) continue;
    if (entries.length === count) return { entries, next: count === 0 ? null : last };
    entries.push(commonPrefix === null ? { key } : { commonPrefix });
    last = commonPrefix === null ? bytes : byteString(commonPrefix);
  }
  return { entries, next: null };
}

/** The first key behind a place, or at it. */
function firstAbove(keys: Bucket["sortedKeys"], place: string, inclusive: boolean): number {
  let low = 0;
  let high = keys.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const bytes = keys[middle]?.bytes ?? "";
    if (bytes < place || (bytes === place && !inclusive)) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Not to be understood by clients, so it looks like nothing. */
function toToken(place: string): string {
  return Buffer.from(scrambled(Buffer.from(`1${place}`, "latin1"))).toString("base64");
}

function fromToken(token: string): string {
  const text = Buffer.from(scrambled(Buffer.from(token, "base64"))).toString("latin1");
  if (!text.startsWith("1")) throw new S3Error(400, "InvalidArgument", "The continuation token provided is incorrect");
  return text.slice(1);
}

function scrambled(bytes: Buffer): Uint8Array {
  return bytes.map((byte) => byte ^ 0x5a);
}

/** Keys in a listing keep their slashes. */
function encodedKey(text: string): string {
  return encoded(text).replaceAll("%2F", "/");
}
