import { closeSync, openSync, readSync, rmSync, writeSync } from "node:fs";

/** Of the pages that are held. */
const heldBytesMax = 8 * 2 ** 20;
const pagesMin = 4;
const placeBytes = 8;

export interface PartPlaces {
  readonly offsets: readonly number[];
  /** How many of them are errors. */
  readonly failed: number;
}

/**
 * Where in the journal each item's line begins, a page a part. The pages that were used last are held, the others lie in
 * a file without a name: as many parts as there may be can be under way, in 8 MB.
 */
export class Places {
  readonly #partItems: number;
  readonly #fd: number;
  readonly #pagesMax: number;
  /** Held ones, the one used last at the end. */
  readonly #pages = new Map<number, Float64Array>();
  #pagesEnd = 0;

  /** `path`: of a file that is made, and at once has no name any more. */
  constructor(path: string, partItems: number) {
    this.#partItems = partItems;
    this.#pagesMax = Math.max(pagesMin, Math.floor(heldBytesMax / (partItems * placeBytes)));
    this.#fd = openSync(path, "w+", 0o600);
    rmSync(path);
  }

  /** Notes the place, and whether the line is an error; was there none before? */
  set(index: number, { offset, failed }: { readonly offset: number; readonly failed: boolean }): boolean {
    const part = Math.floor(index / this.#partItems);
    const page = this.#page(part);
    const at = index - part * this.#partItems;
    const isNew = page[at] === 0;
    page[at] = failed ? -(offset + 1) : offset + 1;
    return isNew;
  }

  /** Of a part's items that have a line, in the order of the input. */
  of(part: number): PartPlaces {
    const offsets: number[] = [];
    let failed = 0;
    for (const place of this.#page(part)) {
      if (place === 0) continue;
      offsets.push(Math.abs(place) - 1);
      if (place < 0) failed += 1;
    }
    return { offsets, failed };
  }

  close(): void {
    closeSync(this.#fd);
  }

  #page(part: number): Float64Array {
    let page = this.#pages.get(part);
    if (page === undefined) page = this.#load(part);
    else this.#pages.delete(part);
    this.#pages.set(part, page);
    return page;
  }

  #load(part: number): Float64Array {
    if (this.#pages.size >= this.#pagesMax) this.#putAside();
    const page = new Float64Array(this.#partItems);
    // A page that was never put aside lies behind the end of the file, or in a hole of it, which reads as zeros.
    if (part < this.#pagesEnd) each(page, (bytes, done) => readSync(this.#fd, bytes, done, bytes.length - done, part * bytes.length + done));
    return page;
  }

  #putAside(): void {
    const [oldest] = this.#pages;
    if (oldest === undefined) return;
    const [part, page] = oldest;
    each(page, (bytes, done) => writeSync(this.#fd, bytes, done, bytes.length - done, part * bytes.length + done));
    this.#pagesEnd = Math.max(this.#pagesEnd, part + 1);
    this.#pages.delete(part);
  }
}

/** All bytes of a page, however few are taken at once. */
function each({ buffer }: Float64Array, take: (bytes: Uint8Array, done: number) => number): void {
  const bytes = new Uint8Array(buffer);
  for (let done = 0; done < bytes.length; ) {
    const taken = take(bytes, done);
    if (taken === 0) return;
    done += taken;
  }
}
