/** A set of numbers below 2^32, one bit each; grows when asked to hold a larger one. */
export class Bits {
  #words: Uint32Array;

  constructor(size: number) {
    this.#words = new Uint32Array((size + 31) >>> 5);
  }

  add(first: number, end: number): void {
    this.#hold(end);
    const words = this.#words;
    for (let at = first; at < end; ) {
      const stop = Math.min(end, at - (at & 31) + 32);
      const word = at >>> 5;
      words[word] = (words[word] ?? 0) | maskOf(at & 31, stop - at);
      at = stop;
    }
  }

  remove(first: number, end: number): void {
    const words = this.#words;
    for (let at = first; at < end; ) {
      const stop = Math.min(end, at - (at & 31) + 32);
      const word = at >>> 5;
      words[word] = (words[word] ?? 0) & ~maskOf(at & 31, stop - at);
      at = stop;
    }
  }

  has(at: number): boolean {
    return (((this.#words[at >>> 5] ?? 0) >>> (at & 31)) & 1) === 1;
  }

  /** How many members are in [first, end). */
  count(first: number, end: number): number {
    let count = 0;
    for (let at = first; at < end; ) {
      const stop = Math.min(end, at - (at & 31) + 32);
      count += onesIn((this.#words[at >>> 5] ?? 0) & maskOf(at & 31, stop - at));
      at = stop;
    }
    return count;
  }

  /** The first member in [from, end); `end` if there is none. */
  nextMember(from: number, end: number): number {
    return this.#next(from, end, 0);
  }

  /** The first number in [from, end) that is no member; `end` if there is none. */
  nextGap(from: number, end: number): number {
    return this.#next(from, end, -1);
  }

  #next(from: number, end: number, flip: 0 | -1): number {
    for (let at = from; at < end; at += 32 - (at & 31)) {
      const word = ((this.#words[at >>> 5] ?? 0) ^ flip) >>> (at & 31);
      if (word !== 0) return Math.min(end, at + 31 - Math.clz32(word & -word));
    }
    return end;
  }

  #hold(size: number): void {
    const needed = Math.ceil(size / 32);
    if (needed <= this.#words.length) return;
    const grown = new Uint32Array(Math.max(needed, this.#words.length * 2));
    grown.set(this.#words);
    this.#words = grown;
  }
}

/** `count` ones (1 to 32) from bit `first` on. */
function maskOf(first: number, count: number): number {
  return (count === 32 ? -1 : (1 << count) - 1) << first;
}

/** Bits that are set in a word (Warren, Hacker's Delight, 5-1). */
function onesIn(word: number): number {
  const pairs = word - ((word >>> 1) & 0x55555555);
  const fours = (pairs & 0x33333333) + ((pairs >>> 2) & 0x33333333);
  return Math.imul((fours + (fours >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}
