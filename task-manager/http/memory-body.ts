import { encodingFailure, encodingOf } from "./encodings.ts";
import type { BodySink } from "./exchange.ts";
import { downloadFailure, tooLarge } from "./failures.ts";

const firstBytes = 65_536;
const nothing: Buffer<ArrayBuffer> = Buffer.allocUnsafeSlow(0);

/**
 * A body in memory, in an ArrayBuffer of its own and of its very size, so that it can be moved to another thread.
 * Allocated once where the length was said; pages that are never written cost nothing, so a false one is harmless.
 */
export class MemoryBody implements BodySink<Buffer<ArrayBuffer>> {
  readonly #maxBytes: number;
  readonly #onLength: ((bytes: number) => void) | undefined;
  #encoding: ReturnType<typeof encodingOf> = null;
  #bytes = nothing;
  #length = 0;

  constructor(maxBytes: number, onLength?: (bytes: number) => void) {
    this.#maxBytes = maxBytes;
    this.#onLength = onLength;
  }

  begin(contentLength: number | null, encoding: string): void {
    if ((contentLength ?? 0) > this.#maxBytes) throw tooLarge(this.#maxBytes);
    this.#encoding = encodingOf(encoding);
    if (contentLength === null) return;
    this.#bytes = Buffer.allocUnsafeSlow(contentLength);
    this.#onLength?.(contentLength);
  }

  write(chunk: Buffer): boolean {
    const length = this.#length + chunk.length;
    if (length > this.#maxBytes) throw tooLarge(this.#maxBytes);
    if (length > this.#bytes.length) this.#grow(length);
    this.#bytes.set(chunk, this.#length);
    this.#length = length;
    return true;
  }

  async finish(): Promise<Buffer<ArrayBuffer>> {
    const received = this.#bytes.subarray(0, this.#length);
    const body = this.#encoding === null || received.length === 0 ? received : await this.#decode(received);
    if (body.length === 0) throw downloadFailure("DOWNLOAD_EMPTY", "the answer is empty (0 bytes)", false);
    return exact(body);
  }

  async abandon(): Promise<void> {
    this.#bytes = nothing;
  }

  /** Copied into twice the room rather than kept as a list of chunks: a body of one-byte chunks stays its own size. */
  #grow(length: number): void {
    const room = Math.max(length, Math.min(this.#maxBytes, Math.max(firstBytes, this.#bytes.length * 2)));
    const bytes = Buffer.allocUnsafeSlow(room);
    bytes.set(this.#bytes.subarray(0, this.#length));
    this.#bytes = bytes;
  }

  async #decode(received: Buffer): Promise<Buffer> {
    try {
      return await this.#encoding?.decode(received, { maxOutputLength: this.#maxBytes }) ?? received;
    } catch (error) {
      throw encodingFailure(error, this.#maxBytes);
    }
  }
}

/** The same bytes, alone in their ArrayBuffer. */
function exact(bytes: Buffer): Buffer<ArrayBuffer> {
  if (bytes.buffer instanceof ArrayBuffer && bytes.length === bytes.buffer.byteLength) return Buffer.from(bytes.buffer);
  const copy = Buffer.allocUnsafeSlow(bytes.length);
  copy.set(bytes);
  return copy;
}
