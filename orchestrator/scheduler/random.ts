/** Numbers in [0, 1) from a seed: mulberry32 (Tommy Ettinger, public domain). */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Doubles from `firstMs` to `maxMs`; half of it is chance, so that those who failed together do not return together. */
export function backOffMs(failures: number, firstMs: number, maxMs: number, random: () => number): number {
  const fullMs = Math.min(maxMs, firstMs * 2 ** Math.min(failures, 30));
  return Math.ceil(fullMs * (0.5 + random() / 2));
}
