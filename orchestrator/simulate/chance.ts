/** The mixing function lowbias32 (Chris Wellons, "Prospecting for Hash Functions", public domain). */
export function mixed(bits: number): number {
  let hash = bits >>> 0;
  hash = Math.imul(hash ^ (hash >>> 16), 0x7feb352d);
  hash = Math.imul(hash ^ (hash >>> 15), 0x846ca68b);
  return (hash ^ (hash >>> 16)) >>> 0;
}

/** A seed of its own for each (seed, number): streams that do not depend on who draws first. */
export function streamSeed(seed: number, number: number, salt: number): number {
  return mixed(mixed(mixed(seed ^ salt) + Math.imul(number, 0x9e3779b1)) ^ Math.floor(number / 2 ** 32));
}

/** Standard normal from two uniform numbers (Box and Muller). */
export function normalFrom(first: number, second: number): number {
  return Math.sqrt(-2 * Math.log(1 - first)) * Math.cos(2 * Math.PI * second);
}

export function between([low, high]: readonly [number, number], uniform: number): number {
  return low + (high - low) * uniform;
}

/** Seconds to the next event of a Poisson process. */
export function exponential(ratePerS: number, uniform: number): number {
  return ratePerS === 0 ? Infinity : -Math.log(1 - uniform) / ratePerS;
}
