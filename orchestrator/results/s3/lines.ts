import type { FileHandle } from "node:fs/promises";
import type { Outcome } from "../types.ts";
import { putPartBytes } from "./objects.ts";

/** Lines in the order in which they are wanted. */
export interface LinePlaces {
  readonly offsets: Float64Array;
  /** Without their ends. */
  readonly bytes: Uint32Array;
}

const lineEnd = Buffer.from("\n");
/** Read at once. */
const stretchBytesMax = 262_144;
/** What lies between two lines is read rather than passed over. */
const gapBytesMax = 16_384;

/** Lines of the journal in pieces that can be put. Holds one piece. */
export async function* linesAt(handle: FileHandle, places: LinePlaces): AsyncGenerator<Buffer, void> {
  const stretch = Buffer.allocUnsafeSlow(stretchBytesMax);
  for (let first = 0; first < places.offsets.length; ) {
    const end = pieceEnd(places.bytes, first);
    const piece = { offsets: places.offsets.subarray(first, end), bytes: places.bytes.subarray(first, end) };
    yield await readPiece(handle, piece, stretch);
    first = end;
  }
}

/** The same, parsed. */
export async function* outcomesAt(handle: FileHandle, places: LinePlaces): AsyncGenerator<Outcome, void> {
  for await (const piece of linesAt(handle, places)) {
    for (const line of piece.toString().split("\n")) if (line !== "") yield JSON.parse(line) as Outcome;
  }
}

/** In the order in which they lie in the journal. */
export function inJournalOrder(places: LinePlaces): LinePlaces {
  const order = journalOrder(places.offsets);
  return { offsets: Float64Array.from(order, (at) => places.offsets[at] ?? 0), bytes: Uint32Array.from(order, (at) => places.bytes[at] ?? 0) };
}

function pieceEnd(bytes: Uint32Array, first: number): number {
  let held = 0;
  let end = first;
  while (end < bytes.length && held < putPartBytes) held += (bytes[end++] ?? 0) + lineEnd.length;
  return end;
}

function journalOrder(offsets: Float64Array): Uint32Array {
  return Uint32Array.from(offsets, (_, at) => at).sort((a, b) => (offsets[a] ?? 0) - (offsets[b] ?? 0));
}

/** Read in the order of the journal, neighbours together, and put in place: however the lines lie, each byte is moved once. */
async function readPiece(handle: FileHandle, { offsets, bytes }: LinePlaces, stretch: Buffer): Promise<Buffer> {
  const order = journalOrder(offsets);
  const targets = new Float64Array(offsets.length);
  let total = 0;
  for (let at = 0; at < offsets.length; at++) {
    targets[at] = total;
    total += (bytes[at] ?? 0) + lineEnd.length;
  }
  const piece = Buffer.allocUnsafeSlow(total);
  const startOf = (place: number): number => offsets[order[place] ?? 0] ?? 0;
  const endOf = (place: number): number => startOf(place) + (bytes[order[place] ?? 0] ?? 0) + lineEnd.length;
  for (let first = 0; first < order.length; ) {
    const start = startOf(first);
    let next = first + 1;
    while (next < order.length && startOf(next) - endOf(next - 1) <= gapBytesMax && endOf(next) - start <= stretch.length) next += 1;
    const length = endOf(next - 1) - start;
    if (length > stretch.length) {
      // One line, which needs no place of its own on the way.
      const target = targets[order[first] ?? 0] ?? 0;
      await readFully(handle, piece.subarray(target, target + length), start);
    } else {
      await readFully(handle, stretch.subarray(0, length), start);
      for (let place = first; place < next; place++) stretch.copy(piece, targets[order[place] ?? 0] ?? 0, startOf(place) - start, endOf(place) - start);
    }
    first = next;
  }
  return piece;
}

async function readFully(handle: FileHandle, bytes: Buffer, position: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesRead } = await handle.read(bytes, done, bytes.length - done, position + done);
    if (bytesRead === 0) throw new Error(`the journal ends before byte ${position + bytes.length}`);
    done += bytesRead;
  }
}

/** Lines gathered to pieces of the size that objects are put in. */
export class Pieces {
  #parts: Buffer[] = [];
  #bytes = 0;

  /** A line without its end. Returns a piece once it is large enough: then nothing of earlier lines is held. */
  add(line: Buffer): Buffer | null {
    this.#parts.push(line, lineEnd);
    this.#bytes += line.length + lineEnd.length;
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
