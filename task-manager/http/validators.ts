import { createHash } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";

/** What tells whether an answer is still the same, without its body (RFC 9110, section 8.8). JSON. */
export interface Validators {
  readonly etag: string | null;
  readonly lastModified: string | null;
  /** Of whose answer: hashes, since a URL may hold a signature. */
  readonly url: string;
  readonly urlWithoutQuery: string;
}

/** A date is of whole seconds: what was changed shortly before the answer may change again under the same one. */
const settledMs = 60_000;

/** null: the server gave none that can be relied on. */
export function validatorsOf(url: URL, headers: IncomingHttpHeaders): Validators | null {
  const { etag = null, "last-modified": lastModified, date } = headers;
  const settled = lastModified !== undefined && Date.parse(date ?? "") - Date.parse(lastModified) >= settledMs;
  if (etag === null && !settled) return null;
  return { etag, lastModified: settled ? lastModified : null, url: hashOf(url.href), urlWithoutQuery: hashOf(withoutQuery(url)) };
}

/**
 * Headers that ask for the body only if it has changed; null: it has to come. Where the first URL leads may have
 * changed, too: a date is believed of the very same URL, a tag, which stands for the content, also under another
 * signature.
 */
export function conditionsFor(url: URL, known: Validators): Readonly<Record<string, string>> | null {
  const { etag, lastModified } = known;
  if (etag !== null) return known.urlWithoutQuery === hashOf(withoutQuery(url)) ? { "if-none-match": etag } : null;
  return lastModified !== null && known.url === hashOf(url.href) ? { "if-modified-since": lastModified } : null;
}

function withoutQuery({ origin, pathname }: URL): string {
  return origin + pathname;
}

function hashOf(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}
