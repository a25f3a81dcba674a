import type { FileHandle } from "node:fs/promises";
import { errorCode } from "./durable.ts";
import { outcomeLine } from "./outcome-line.ts";
import type { Outcome } from "./types.ts";

/** A group is this large at most, one batch more or less. */
const groupBytesMax = 8_388_608;

interface Waiting {
  readonly batch: number;
  readonly lines: Buffer;
}

/**
 * Appends outcomes in group commits: while one group is written and synced, the next one gathers. So a slow disk makes
 * groups larger, not many.
 */
export class Journal {
  readonly #handle: FileHandle;
  readonly #path: string;
  /** Bytes that are synced. */
  #size: number;
  #waiting: Waiting[] = [];
  #writing: Promise<void> | null = null;
  #failed = false;
  #pendingBytes = 0;
  #onStored: (batch: number) => void = () => undefined;
  #onStoreFailed: (batch: number, error: Error) => void = () => undefined;

  /** `size`: where to append; what lies behind was cut. */
  constructor(options: { readonly handle: FileHandle; readonly path: string; readonly size: number }) {
    this.#handle = options.handle;
    this.#path = options.path;
    this.#size = options.size;
  }

  /** What was appended and is not on disk yet: the caller pauses when it is much. */
  get pendingBytes(): number {
    return this.#pendingBytes;
  }

  get failed(): boolean {
    return this.#failed;
  }

  onStored(listener: (batch: number) => void): void {
    this.#onStored = listener;
  }

  onStoreFailed(listener: (batch: number, error: Error) => void): void {
    this.#onStoreFailed = listener;
  }

  append(batch: number, outcomes: readonly Outcome[]): void {
    if (this.#failed) return;
    let text = "";
    for (const outcome of outcomes) text += outcomeLine(outcome);
    // Bytes at once: strings put together by pieces are what the garbage collector is slowest at, the longer they wait.
    const lines = Buffer.from(text);
    this.#waiting.push({ batch, lines });
    this.#pendingBytes += lines.length;
    this.#writing ??= this.#writeGroups();
  }

  /** Once everything appended so far is stored, or will never be. */
  async drained(): Promise<void> {
    while (this.#writing !== null) await this.#writing;
  }

  async close(): Promise<void> {
    await this.drained();
    await this.#handle.close();
  }

  async #writeGroups(): Promise<void> {
    // What else this turn of the event loop appends goes with the first group.
    await Promise.resolve();
    while (this.#waiting.length > 0) {
      const group = this.#takeGroup();
      try {
        await this.#write(group);
      } catch (error) {
        await this.#fail(group, error);
        break;
      }
      for (const { batch, lines } of group) {
        this.#pendingBytes -= lines.length;
        this.#onStored(batch);
      }
    }
    this.#writing = null;
  }

  #takeGroup(): readonly Waiting[] {
    let bytes = 0;
    let count = 0;
    while (count < this.#waiting.length && bytes < groupBytesMax) bytes += this.#waiting[count++]?.lines.length ?? 0;
    return this.#waiting.splice(0, count);
  }

  async #write(group: readonly Waiting[]): Promise<void> {
    const bytes = Buffer.concat(group.map(({ lines }) => lines));
    if (bytes.length === 0) return;
    for (let written = 0; written < bytes.length; ) {
      const { bytesWritten } = await this.#handle.write(bytes, written, bytes.length - written, this.#size + written);
      written += bytesWritten;
    }
    await this.#handle.datasync();
    this.#size += bytes.length;
  }

  async #fail(group: readonly Waiting[], error: unknown): Promise<void> {
    this.#failed = true;
    this.#waiting = [];
    this.#pendingBytes = 0;
    // Where this fails too, resume cuts what is half a line and keeps what is whole.
    await this.#handle.truncate(this.#size).catch(() => undefined);
    this.#onStoreFailed(group[0]?.batch ?? 0, storeError(this.#path, error));
  }
}

const reasons: Readonly<Record<string, string>> = {
  ENOSPC: "no space is left on the disk",
  EDQUOT: "the disk quota is used up",
  EFBIG: "the file has reached the largest size that is allowed",
  EIO: "the disk reports an error",
  EROFS: "the filesystem has become read-only",
};

export function isOfTheDisk(error: unknown): boolean {
  return (errorCode(error) ?? "") in reasons;
}

/** Why a file could not be written, in words. */
export function reasonOf(error: unknown): string {
  return reasons[errorCode(error) ?? ""] ?? (error instanceof Error ? error.message : String(error));
}

export function storeError(path: string, error: unknown): Error {
  return new Error(`${path} cannot be written: ${reasonOf(error)}; what was stored before stays, and the run can be resumed`, { cause: error });
}
