import { createReadStream } from "node:fs";
import { open } from "node:fs/promises";
import { Readable } from "node:stream";
import { createGunzip } from "node:zlib";
import type { SourceFile } from "./source-file.ts";
import { unreadable } from "./source-file.ts";

/** Bytes of a source, one chunk after the other. */
export interface ByteReader {
  /** The next chunk, which is the caller's to keep; null at the end. */
  read(): Promise<Buffer | null>;
  /** How much of the source was read, 0 to 1; null: its size is not known. */
  fraction(): number | null;
  close(): Promise<void>;
}

/** Reads a file, unpacking it where its name ends in `.gz`. */
export async function readFileBytes(file: SourceFile, chunkBytes: number): Promise<ByteReader> {
  if (file.path.endsWith(".gz")) return gunzipped(file, chunkBytes);
  return file.regular ? chunked(file, chunkBytes) : readStreamBytes(createReadStream(file.path), file.path);
}

/** Reads what cannot be read twice: standard input, a pipe. */
export function readStreamBytes(stream: NodeJS.ReadableStream, name: string): ByteReader {
  const iterator = stream[Symbol.asyncIterator]();
  let closed = false;
  return {
    async read() {
      try {
        const chunk = closed ? undefined : await iterator.next();
        if (chunk === undefined || chunk.done === true) return null;
        return typeof chunk.value === "string" ? Buffer.from(chunk.value) : chunk.value;
      } catch (error) {
        if (closed) return null;
        throw unreadable(name, error);
      }
    },
    fraction: () => null,
    async close() {
      closed = true;
      // The iterator's own return() would wait for a read under way, and standard input may never answer.
      if (stream instanceof Readable) stream.destroy();
    },
  };
}

async function chunked(file: SourceFile, chunkBytes: number): Promise<ByteReader> {
  const handle = await open(file.path).catch((error: unknown) => { throw unreadable(file.path, error); });
  let position = 0;
  return {
    async read() {
      const buffer = Buffer.allocUnsafeSlow(chunkBytes);
      const { bytesRead } = await handle.read(buffer, 0, chunkBytes, position)
        .catch((error: unknown) => { throw unreadable(file.path, error); });
      position += bytesRead;
      return bytesRead === 0 ? null : buffer.subarray(0, bytesRead);
    },
    fraction: () => Math.min(1, position / Math.max(1, file.size)),
    close: () => handle.close(),
  };
}

function gunzipped(file: SourceFile, chunkBytes: number): ByteReader {
  const packed = createReadStream(file.path);
  const unpacked = packed.pipe(createGunzip({ chunkSize: chunkBytes }));
  packed.on("error", (error) => unpacked.destroy(error));
  const bytes = readStreamBytes(unpacked, file.path);
  return {
    read: bytes.read,
    fraction: () => (file.regular ? Math.min(1, packed.bytesRead / Math.max(1, file.size)) : null),
    async close() {
      packed.destroy();
      await bytes.close();
    },
  };
}
