import { Readable } from "node:stream";
import { createGunzip } from "node:zlib";
import { S3Failure, s3Url } from "../../task-manager/s3-client.ts";
import type { S3Client, S3Place } from "../../task-manager/s3-client.ts";
import { SplitrunError } from "../errors.ts";
import type { ByteReader } from "./bytes.ts";
import { readStreamBytes } from "./bytes.ts";
import type { ParquetInput } from "./parquet.ts";

/** An object that the items are read from: this version of it, however long that takes. */
export interface S3Object {
  readonly place: S3Place;
  readonly bytes: number;
  readonly etag: string;
  readonly modifiedMs: number;
}

/** A request for so much takes about as long as S3 takes to answer it; two of them are held. */
const requestBytes = 4 * 2 ** 20;
/** What Parquet asks for at once is a column of a row group. */
const parquetPieceBytesMax = 2 ** 30;

/** @throws SplitrunError INPUT_NOT_FOUND, INPUT_UNREADABLE */
export async function statS3Object(client: S3Client, place: S3Place): Promise<S3Object> {
  const stat = await client.head(place).catch((error: unknown) => { throw s3InputError(place, error); });
  if (stat === null) {
    throw new SplitrunError(`input ${s3Url(place)} does not exist; the objects below a name are meant by a / at its end`, {
      code: "INPUT_NOT_FOUND", field: "input", value: s3Url(place),
    });
  }
  return { place, bytes: stat.bytes, etag: stat.etag, modifiedMs: stat.modifiedMs };
}

/** The object's bytes in chunks, unpacked where its name ends in `.gz`; one request ahead of the reader. */
export function readS3Bytes(client: S3Client, object: S3Object, chunkBytes: number): ByteReader {
  const pieces = pieceReader(client, object);
  if (!object.place.key.endsWith(".gz")) return chunked(pieces, chunkBytes);
  const packed = Readable.from(eachPiece(pieces));
  const unpacked = packed.pipe(createGunzip({ chunkSize: chunkBytes }));
  packed.on("error", (error) => unpacked.destroy(error));
  const bytes = readStreamBytes(unpacked, s3Url(object.place));
  return {
    read: bytes.read,
    fraction: pieces.fraction,
    async close() {
      packed.destroy();
      await bytes.close();
    },
  };
}

export function s3ParquetInput(client: S3Client, object: S3Object): ParquetInput {
  const { place, bytes, etag, modifiedMs } = object;
  return {
    from: s3Url(place),
    modifiedMs,
    rereadable: false,
    buffer: {
      byteLength: bytes,
      async slice(start, end = bytes) {
        // A negative start counts from the end, as everywhere in JavaScript.
        const first = start < 0 ? Math.max(0, bytes + start) : start;
        if (first >= end) return new ArrayBuffer(0);
        const content = await client.get(place, { maxBytes: parquetPieceBytesMax, range: { first, last: end - 1 }, etag })
          .catch((error: unknown) => { throw s3InputError(place, error); });
        return content.bytes.buffer;
      },
    },
  };
}

/** What S3 refused, as the input's fault. */
export function s3InputError(place: S3Place, error: unknown): unknown {
  if (!(error instanceof S3Failure)) return error;
  const missing = error.code === "S3_NO_SUCH_KEY" || error.code === "S3_NO_SUCH_BUCKET";
  const message = error.code === "S3_PRECONDITION" ? `${s3Url(place)}: it was replaced while it was read` : error.message;
  return new SplitrunError(`input ${message}`, { code: missing ? "INPUT_NOT_FOUND" : "INPUT_UNREADABLE", field: "input", value: s3Url(place), cause: error });
}

interface PieceReader {
  next(): Promise<Buffer | null>;
  fraction(): number;
}

function pieceReader(client: S3Client, { place, bytes, etag }: S3Object): PieceReader {
  let position = 0;
  let given = 0;
  let ahead = request();

  function request(): Promise<Buffer | null> {
    if (position >= bytes) return Promise.resolve(null);
    const range = { first: position, last: Math.min(bytes, position + requestBytes) - 1 };
    position = range.last + 1;
    const piece = client.get(place, { maxBytes: requestBytes, range, etag })
      .then((content) => content.bytes, (error: unknown) => { throw s3InputError(place, error); });
    // It is heard when it is asked for; nobody may ask.
    piece.catch(() => undefined);
    return piece;
  }

  return {
    async next() {
      const piece = await ahead;
      ahead = request();
      given += piece?.length ?? 0;
      return piece;
    },
    fraction: () => Math.min(1, given / Math.max(1, bytes)),
  };
}

async function* eachPiece(pieces: PieceReader): AsyncGenerator<Buffer> {
  for (let piece = await pieces.next(); piece !== null; piece = await pieces.next()) yield piece;
}

/** A piece cut into chunks. */
function chunked(pieces: PieceReader, chunkBytes: number): ByteReader {
  let piece: Buffer | null = Buffer.alloc(0);
  return {
    async read() {
      if (piece?.length === 0) piece = await pieces.next();
      if (piece === null) return null;
      const chunk = piece.subarray(0, chunkBytes);
      piece = piece.subarray(chunk.length);
      return chunk;
    },
    fraction: pieces.fraction,
    close: async () => {},
  };
}
