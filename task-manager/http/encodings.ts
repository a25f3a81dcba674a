import type { Transform } from "node:stream";
import { promisify } from "node:util";
import * as zlib from "node:zlib";
import { downloadFailure, tooLarge } from "./failures.ts";

interface Encoding {
  /** Stops with ERR_BUFFER_TOO_LARGE once there are more than `maxOutputLength` bytes. */
  readonly decode: (bytes: Uint8Array, options: { readonly maxOutputLength: number }) => Promise<Buffer>;
  readonly createDecoder: () => Transform;
}

const gzip: Encoding = { decode: promisify(zlib.gunzip), createDecoder: zlib.createGunzip };
const inflate = promisify(zlib.inflate);
const inflateRaw = promisify(zlib.inflateRaw);

/** Asked for none; some servers compress regardless. */
const encodings: Readonly<Record<string, Encoding>> = {
  "gzip": gzip,
  "x-gzip": gzip,
  "br": { decode: promisify(zlib.brotliDecompress), createDecoder: zlib.createBrotliDecompress },
  // Some servers send raw deflate data under this name, without the zlib header that RFC 9110 (8.4.1.2) wants.
  "deflate": {
    decode: (bytes, options) => ((bytes[0] ?? 0) & 0x0f) === 8 ? inflate(bytes, options) : inflateRaw(bytes, options),
    createDecoder: zlib.createInflate,
  },
};

/** Of a Content-Encoding header; null: as it is. */
export function encodingOf(header: string): Encoding | null {
  const name = header.trim().toLowerCase();
  if (name === "" || name === "identity") return null;
  const encoding = Object.hasOwn(encodings, name) ? encodings[name] : undefined;
  if (encoding === undefined) {
    throw downloadFailure("DOWNLOAD_ENCODING", `Content-Encoding ${JSON.stringify(name.slice(0, 60))} is not understood (gzip, br and deflate are)`, false);
  }
  return encoding;
}

export function encodingFailure(error: unknown, maxBytes: number): Error {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  if (code === "ERR_BUFFER_TOO_LARGE") return tooLarge(maxBytes);
  return downloadFailure("DOWNLOAD_ENCODING", `the compressed body cannot be read (${code})`, false, error);
}
