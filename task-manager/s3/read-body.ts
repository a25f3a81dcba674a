import type { Readable } from "node:stream";
import { S3Failure } from "./failure.ts";
import { s3Url } from "./place.ts";
import type { S3Place } from "./place.ts";

/**
 * The whole body, alone in its ArrayBuffer. A body that is not read to its end must be destroyed, or it keeps its
 * socket for ever.
 * @throws S3Failure S3_TOO_LARGE, S3_CUT; the stream's own errors
 */
export async function readBody(body: Readable, { place, length, maxBytes }: { readonly place: S3Place; readonly length: number; readonly maxBytes: number }): Promise<Buffer<ArrayBuffer>> {
  if (length > maxBytes) {
    body.destroy();
    throw new S3Failure(`${s3Url(place)}: its ${length} bytes are more than the ${maxBytes} allowed`, { code: "S3_TOO_LARGE", retryable: false, status: null, cause: undefined });
  }
  const bytes = Buffer.from(new ArrayBuffer(length));
  let filled = 0;
  try {
    for await (const chunk of body as AsyncIterable<Buffer>) {
      if (filled + chunk.length > length) break;
      chunk.copy(bytes, filled);
      filled += chunk.length;
    }
  } catch (error) {
    throw isCut(error) ? cut(place, filled, length, error) : error;
  }
  if (filled !== length) throw cut(place, filled, length, undefined);
  return bytes;
}

function isCut(error: unknown): boolean {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  return code === "ECONNRESET" || code === "EPIPE" || code === "ERR_STREAM_PREMATURE_CLOSE";
}

function cut(place: S3Place, received: number, length: number, cause: unknown): S3Failure {
  return new S3Failure(`${s3Url(place)}: the connection ended after ${received} of ${length} bytes`, { code: "S3_CUT", retryable: true, status: null, cause });
}
