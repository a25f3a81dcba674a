import { createHash } from "node:crypto";
import type { Hash } from "node:crypto";
import { createWriteStream } from "node:fs";
import { PassThrough } from "node:stream";
import type { Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { ItemFailure } from "../pipeline/failure.ts";
import { encodingFailure, encodingOf } from "./encodings.ts";
import type { BodySink, Flow } from "./exchange.ts";
import { DiskFailure, downloadFailure, tooLarge } from "./failures.ts";

export interface FileContent {
  /** Of the decoded bytes, hex. */
  readonly sha256: string;
  readonly bytes: number;
}

/** A body that goes to a new file as it arrives, hashed on its way; memory stays that of a few chunks. */
export class FileBody implements BodySink<FileContent> {
  readonly #path: string;
  readonly #maxBytes: number;
  readonly #hash: Hash = createHash("sha256");
  #head: Transform | undefined;
  #written: Promise<void> | undefined;
  #received = 0;
  #bytes = 0;

  constructor(path: string, maxBytes: number) {
    this.#path = path;
    this.#maxBytes = maxBytes;
  }

  begin(contentLength: number | null, encodingHeader: string, flow: Flow): void {
    if ((contentLength ?? 0) > this.#maxBytes) throw tooLarge(this.#maxBytes);
    const encoding = encodingOf(encodingHeader);
    const head = encoding === null ? new PassThrough() : encoding.createDecoder();
    head.on("drain", () => flow.resume());
    this.#written = pipeline(
      head,
      (source: AsyncIterable<Buffer>) => this.#measured(source),
      createWriteStream(this.#path, { flags: "wx", mode: 0o600, flush: true }),
    ).catch((error: unknown) => {
      const failure = this.#failureOf(error);
      flow.fail(failure);
      throw failure;
    });
    // Told to the flow already; `finish` and `abandon` wait for it.
    this.#written.catch(() => undefined);
    this.#head = head;
  }

  write(chunk: Buffer): boolean {
    this.#received += chunk.length;
    if (this.#received > this.#maxBytes) throw tooLarge(this.#maxBytes);
    return this.#head?.write(chunk) ?? true;
  }

  async finish(): Promise<FileContent> {
    this.#head?.end();
    await this.#written;
    if (this.#bytes === 0) throw downloadFailure("DOWNLOAD_EMPTY", "the answer is empty (0 bytes)", false);
    return { sha256: this.#hash.digest("hex"), bytes: this.#bytes };
  }

  async abandon(): Promise<void> {
    this.#head?.destroy(new Error("abandoned"));
    await this.#written?.catch(() => undefined);
  }

  async *#measured(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    for await (const chunk of source) {
      this.#bytes += chunk.length;
      if (this.#bytes > this.#maxBytes) throw tooLarge(this.#maxBytes);
      this.#hash.update(chunk);
      yield chunk;
    }
  }

  #failureOf(error: unknown): Error {
    if (error instanceof ItemFailure) return error;
    // Errors of the disk name the system call that failed, those of a decoder do not.
    return error instanceof Error && "syscall" in error ? new DiskFailure(error) : encodingFailure(error, this.#maxBytes);
  }
}
