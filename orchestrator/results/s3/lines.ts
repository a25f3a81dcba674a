import type { FileHandle } from "node:fs/promises";
import { BlockReader } from "../block-reader.ts";
import type { Outcome } from "../types.ts";
import { putPartBytes } from "./objects.ts";

const lineEnd = Buffer.from("\n");

/** Lines of the journal, by their places, in pieces that can be put. */
export async function* linesAt(handle: FileHandle, offsets: readonly number[]): AsyncGenerator<Buffer, void> {
  const reader = new BlockReader(handle, (await handle.stat()).size);
  const gathered = new Pieces();
  for (const offset of offsets) {
    const piece = gathered.add(await reader.bytesAt(offset));
    if (piece !== null) yield piece;
  }
  const last = gathered.rest();
  if (last !== null) yield last;
}

/** The same, parsed. */
export async function* outcomesAt(handle: FileHandle, offsets: readonly number[]): AsyncGenerator<Outcome, void> {
  const reader = new BlockReader(handle, (await handle.stat()).size);
  for (const offset of offsets) yield JSON.parse(await reader.lineAt(offset)) as Outcome;
}

/** Lines gathered to pieces of the size that objects are put in. */
export class Pieces {
  #parts: Buffer[] = [];
  #bytes = 0;

  /** A line without its end. Returns a piece once it is large enough: then nothing of earlier lines is held. */
  add(line: Buffer): Buffer | null {
    this.#parts.push(line, lineEnd);
    this.#bytes += line.length + 1;
    return this.#bytes >= putPartBytes ? this.rest() : null;
  }

  /** null: nothing was gathered. */
  rest(): Buffer | null {
    if (this.#bytes === 0) return null;
    const piece = Buffer.concat(this.#parts);
    this.#parts = [];
    this.#bytes = 0;
    return piece;
  }
}
