import { hash } from "node:crypto";
import type { JsonValue } from "../../task-manager/protocol.ts";
import type { SourceItem } from "../inputs/types.ts";

/** What an item is known by in any list: its id, or else its input, and its version where it has one. */
export type Keyed = Pick<SourceItem, "id" | "input" | "version">;

/** The first 16 bytes of the SHA-256 of an item's key, as four 32-bit words. */
export interface KeyHash {
  readonly a: number;
  readonly b: number;
  readonly c: number;
  readonly d: number;
}

/** Lists can be made by strangers, so that equal hashes must not be something one can make. */
export function keyHash(item: Keyed): KeyHash {
  const text = hash("sha256", keyText(item), "binary");
  return { a: word(text, 0), b: word(text, 4), c: word(text, 8), d: word(text, 12) };
}

/** No two different keys give one text: the first letter tells the kinds apart, the lengths the parts. */
export function keyText({ id, input, version }: Keyed): string {
  const name = id !== undefined ? `#${id}` : typeof input === "string" ? `=${withoutSignature(input)}` : `{${canonicalJson(input)}`;
  return version === undefined ? name : `@${version.length}:${version}${name}`;
}

function word(text: string, at: number): number {
  return ((text.charCodeAt(at) << 24) | (text.charCodeAt(at + 1) << 16) | (text.charCodeAt(at + 2) << 8) | text.charCodeAt(at + 3)) >>> 0;
}

/** Object keys sorted, since `{a, b}` and `{b, a}` are one value. */
function canonicalJson(value: JsonValue): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join()}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  const fields = Object.keys(value).sort();
  return `{${fields.map((name) => `${JSON.stringify(name)}:${canonicalJson(value[name] ?? null)}`).join()}}`;
}

interface Signing {
  /** A URL is presigned in this way only if all of these are in its query, in lower case. */
  readonly signs: readonly string[];
  readonly removes: (name: string) => boolean;
}

const oneOf = (...names: readonly string[]): ((name: string) => boolean) => {
  const set = new Set(names);
  return (name) => set.has(name);
};

/** AWS version 4 and 2, CloudFront, Google version 4 and 2, Alibaba, Azure SAS: as their documentations name them. */
const signings: readonly Signing[] = [
  { signs: ["x-amz-signature"], removes: (name) => name.startsWith("x-amz-") },
  { signs: ["x-goog-signature"], removes: (name) => name.startsWith("x-goog-") },
  { signs: ["signature", "awsaccesskeyid"], removes: oneOf("signature", "awsaccesskeyid", "expires", "x-amz-security-token") },
  { signs: ["signature", "key-pair-id"], removes: oneOf("signature", "key-pair-id", "expires", "policy", "hash-algorithm") },
  { signs: ["signature", "googleaccessid"], removes: oneOf("signature", "googleaccessid", "expires") },
  { signs: ["signature", "ossaccesskeyid"], removes: oneOf("signature", "ossaccesskeyid", "expires", "security-token") },
  {
    signs: ["sig", "sv"],
    removes: oneOf("sig", "sv", "se", "sp", "sr", "st", "spr", "sip", "ss", "srt", "si", "skoid", "sktid", "skt", "ske", "sks", "skv", "sdd", "saoid", "suoid", "scid"),
  },
];

const mayBeSigned = /[?&](?:x-amz-signature|x-goog-signature|signature|sig)=/i;

/**
 * A presigned URL without what changes each time that it is signed. Only where the query is a signature's: `se`, say,
 * may be anything in another URL, and must then keep two items apart.
 */
export function withoutSignature(url: string): string {
  if (!mayBeSigned.test(url)) return url;
  const start = url.indexOf("?");
  const hashAt = url.indexOf("#", start);
  const query = url.slice(start + 1, hashAt === -1 ? undefined : hashAt);
  const parts = query.split("&");
  const names = parts.map((part) => (part.split("=", 1)[0] ?? "").toLowerCase());
  const used = signings.filter(({ signs }) => signs.every((name) => names.includes(name)));
  if (used.length === 0) return url;
  const kept = parts.filter((_, at) => !used.some(({ removes }) => removes(names[at] ?? "")));
  return url.slice(0, start) + (kept.length === 0 ? "" : `?${kept.join("&")}`) + (hashAt === -1 ? "" : url.slice(hashAt));
}

/**
 * Sum of the hashes of all keys, each 32-bit word for itself: the same in any order, and equal keys count each time.
 * Guards against mistakes and damage, not against someone who writes the home.
 */
export class KeyDigest {
  readonly #words = new Uint32Array(4);

  /** Goes on from what `toString` gave. */
  static from(text: string): KeyDigest {
    const digest = new KeyDigest();
    for (let at = 0; at < 4; at++) digest.#words[at] = Number.parseInt(text.slice(at * 8, at * 8 + 8), 16);
    return digest;
  }

  add({ a, b, c, d }: KeyHash): void {
    const words = this.#words;
    words[0] = (words[0] ?? 0) + a;
    words[1] = (words[1] ?? 0) + b;
    words[2] = (words[2] ?? 0) + c;
    words[3] = (words[3] ?? 0) + d;
  }

  toString(): string {
    return Array.from(this.#words, (word) => word.toString(16).padStart(8, "0")).join("");
  }
}
