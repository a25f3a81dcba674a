import type { KeyHash } from "./key.ts";

const slotWords = 4;
const none = 0xffffffff;

/**
 * The finished items of older lists by key: open addressing over typed arrays, 24 bytes a slot, since a map of a
 * million strings would take ten times as much. Equal keys queue up in the order in which they were added.
 */
export class KeyTable {
  #hashes = new Uint32Array(1024 * slotWords);
  /** Last place of the slot's queue; the queue is a ring, so that its first is next to its last. `none`: the slot is free. */
  #lasts = new Uint32Array(1024).fill(none);
  /** Places left in the slot's queue. */
  #counts = new Uint32Array(1024);
  #nexts = new Uint32Array(1024);
  #slotsUsed = 0;

  /** `place`: a number of the caller's, small, since an array goes up to it. */
  add(key: KeyHash, place: number): void {
    if (place >= this.#nexts.length) this.#nexts = grown(this.#nexts, place + 1);
    if (this.#slotsUsed * 10 > this.#lasts.length * 7) this.#doubleSlots();
    const slot = this.#slotOf(key);
    const last = this.#lasts[slot] ?? none;
    if (last === none) {
      this.#hashes.set([key.a, key.b, key.c, key.d], slot * slotWords);
      this.#slotsUsed += 1;
      this.#nexts[place] = place;
    } else if (this.#counts[slot] === 0) {
      this.#nexts[place] = place;
    } else {
      this.#nexts[place] = this.#nexts[last] ?? place;
      this.#nexts[last] = place;
    }
    this.#lasts[slot] = place;
    this.#counts[slot] = (this.#counts[slot] ?? 0) + 1;
  }

  /** Takes the first place of the key out; -1: there is none. */
  take(key: KeyHash): number {
    const slot = this.#slotOf(key);
    const last = this.#lasts[slot] ?? none;
    const count = this.#counts[slot] ?? 0;
    if (last === none || count === 0) return -1;
    const first = this.#nexts[last] ?? last;
    this.#nexts[last] = this.#nexts[first] ?? last;
    this.#counts[slot] = count - 1;
    return first;
  }

  /** The slot of the key, or the free one that would be its. */
  #slotOf(key: KeyHash): number {
    const mask = this.#lasts.length - 1;
    const hashes = this.#hashes;
    for (let slot = key.a & mask; ; slot = (slot + 1) & mask) {
      if (this.#lasts[slot] === none) return slot;
      const at = slot * slotWords;
      if (hashes[at] === key.a && hashes[at + 1] === key.b && hashes[at + 2] === key.c && hashes[at + 3] === key.d) return slot;
    }
  }

  #doubleSlots(): void {
    const [hashes, lasts, counts] = [this.#hashes, this.#lasts, this.#counts];
    this.#hashes = new Uint32Array(hashes.length * 2);
    this.#lasts = new Uint32Array(lasts.length * 2).fill(none);
    this.#counts = new Uint32Array(counts.length * 2);
    const mask = this.#lasts.length - 1;
    for (let old = 0; old < lasts.length; old++) {
      if (lasts[old] === none) continue;
      const words = hashes.subarray(old * slotWords, (old + 1) * slotWords);
      let slot = (words[0] ?? 0) & mask;
      while (this.#lasts[slot] !== none) slot = (slot + 1) & mask;
      this.#hashes.set(words, slot * slotWords);
      this.#lasts[slot] = lasts[old] ?? none;
      this.#counts[slot] = counts[old] ?? 0;
    }
  }
}

function grown(array: Uint32Array<ArrayBuffer>, length: number): Uint32Array<ArrayBuffer> {
  const larger = new Uint32Array(Math.max(length, array.length * 2));
  larger.set(array);
  return larger;
}
