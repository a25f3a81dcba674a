import { closeSync, openSync, readSync, rmSync, writeSync } from "node:fs";
import type { LinePlaces } from "./lines.ts";

/** Of the pages that are held. */
const heldBytesMax = 8 * 2 ** 20;
const pagesMin = 4;
/** An item's offset, negative for an error, and length. */
const placeBytes = 8 + 4;

export interface PartPlaces extends LinePlaces {
  /** How many of them are errors. */
  readonly failed: number;
}

export interface LinePlace {
  readonly offset: number;
  /** Without its end. */
  readonly bytes: number;
  readonly failed: boolean;
}

interface Page {
  readonly memory: ArrayBuffer;
  /** One more than the offset; 0: the item has no line. */
  readonly offsets: Float64Array;
  readonly bytes: Uint32Array;
}

/**
 * Where in the journal each item's line lies, a page a part. The pages that were used last are held, the others lie in a
 * file without a name: as many parts as there may be can be under way, in 8 MB.
 */
export class Places {
  readonly #partItems: number;
  readonly #fd: number;
  readonly #pagesMax: number;
  /** Held ones, the one used last at the end. */
  readonly #pages = new Map<number, Page>();
  #pagesEnd = 0;

  /** `path`: of a file that is made, and at once has no name any more. */
  constructor(path: string, partItems: number) {
    this.#partItems = partItems;
    this.#pagesMax = Math.max(pagesMin, Math.floor(heldBytesMax / (partItems * placeBytes)));
    this.#fd = openSync(path, "w+", 0o600);
    rmSync(path);
  }

  /** Notes an item's line; had it none before? */
  set(index: number, { offset, bytes, failed }: LinePlace): boolean {
    const part = Math.floor(index / this.#partItems);
    const page = this.#page(part);
    const at = index - part * this.#partItems;
    const isNew = page.offsets[at] === 0;
    page.offsets[at] = failed ? -(offset + 1) : offset + 1;
    page.bytes[at] = bytes;
    return isNew;
  }

  /** Of a part's items that have a line, in the order of the input. */
  of(part: number): PartPlaces {
    const page = this.#page(part);
    const offsets = page.offsets.filter((place) => place !== 0);
    const bytes = page.bytes.filter((_, at) => page.offsets[at] !== 0);
    let failed = 0;
    offsets.forEach((place, at) => {
      if (place < 0) failed += 1;
      offsets[at] = Math.abs(place) - 1;
    });
    return { offsets, bytes, failed };
  }

  close(): void {
    closeSync(this.#fd);
  }

  #page(part: number): Page {
    let page = this.#pages.get(part);
    if (page === undefined) page = this.#load(part);
    else this.#pages.delete(part);
    this.#pages.set(part, page);
    return page;
  }

  #load(part: number): Page {
    if (this.#pages.size >= this.#pagesMax) this.#putAside();
    const memory = new ArrayBuffer(this.#partItems * placeBytes);
    // A page that was never put aside lies behind the end of the file, or in a hole of it, which reads as zeros.
    if (part < this.#pagesEnd) each(memory, (bytes, done) => readSync(this.#fd, bytes, done, bytes.length - done, part * bytes.length + done));
    return { memory, offsets: new Float64Array(memory, 0, this.#partItems), bytes: new Uint32Array(memory, this.#partItems * 8, this.#partItems) };
  }

  #putAside(): void {
    const [oldest] = this.#pages;
    if (oldest === undefined) return;
    const [part, { memory }] = oldest;
    each(memory, (bytes, done) => writeSync(this.#fd, bytes, done, bytes.length - done, part * bytes.length + done));
    this.#pagesEnd = Math.max(this.#pagesEnd, part + 1);
    this.#pages.delete(part);
  }
}

/** All bytes of a page, however few are taken at once. */
function each(memory: ArrayBuffer, take: (bytes: Uint8Array, done: number) => number): void {
  const bytes = new Uint8Array(memory);
  for (let done = 0; done < bytes.length; ) {
    const taken = take(bytes, done);
    if (taken === 0) return;
    done += taken;
  }
}
