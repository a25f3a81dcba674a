/** Of an even share, what even one that wants nothing is left, so that it can start at once when it does. */
const idlePart = 0.25;
/** A share that has changed by less than this part stays as it is. */
const steadyPart = 0.15;

/**
 * Max-min fair: who wants less than an even share gets what it wants, the others divide the rest evenly. What nobody
 * wants is divided evenly, too. The sum is `total`.
 */
export function divided(total: number, wanted: readonly number[]): number[] {
  const count = wanted.length;
  const atLeast = (total / count) * idlePart;
  const wants = wanted.map((want) => Math.max(want, atLeast));
  const order = wants.map((_, at) => at).sort((a, b) => (wants[a] ?? 0) - (wants[b] ?? 0));
  const shares = new Array<number>(count).fill(0);
  let left = total;
  order.forEach((at, done) => {
    const share = Math.min(wants[at] ?? 0, left / (count - done));
    shares[at] = share;
    left -= share;
  });
  return left > 0 ? shares.map((share) => share + left / count) : shares;
}

/** `divided` in whole numbers. Where there is not one for each, those that want one go first, and hold on to it. */
export function dividedWhole(total: number, wanted: readonly number[], held: readonly (number | null)[]): number[] {
  const exact = divided(total, wanted);
  const shares = exact.map(Math.floor);
  let left = total - shares.reduce((sum, share) => sum + share, 0);
  const rank = (at: number) => {
    const none = shares[at] === 0 && (wanted[at] ?? 0) > 0;
    return (none ? 2 : 0) + (none && (held[at] ?? 0) > 0 ? 2 : 0) + (exact[at] ?? 0) - (shares[at] ?? 0);
  };
  const order = exact.map((_, at) => at).sort((a, b) => rank(b) - rank(a));
  for (const at of order) {
    if (left < 1) break;
    shares[at] = (shares[at] ?? 0) + 1;
    left -= 1;
  }
  return shares;
}

/** Leaves what has hardly changed as it is, so that nothing has to be said, where the sum allows it. */
export function steady(held: readonly (number | null)[], shares: readonly number[], total: number): readonly number[] {
  const kept = shares.map((share, at) => {
    const old = held[at] ?? null;
    return old !== null && old > 0 && Math.abs(share - old) <= old * steadyPart ? old : share;
  });
  const sum = kept.reduce((all, share) => all + share, 0);
  return sum <= total ? kept : shares;
}
