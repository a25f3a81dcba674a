/** How Task Managers are shared among the jobs of one service. Pure, as all of this folder. */

export interface Claim {
  /** Weight among the jobs of equal priority, above 0. */
  readonly share: number;
  /** Jobs of a higher one get all that they can use, the others what is left. */
  readonly priority: number;
  /** Whole number of Task Managers that the job could use now. */
  readonly wanted: number;
}

/** Below this a fraction is a rounding error. */
const fractionMin = 1e-9;

/**
 * Weighted max-min fairness: nobody gets more than it wants, and what it leaves goes to the others by their shares.
 * Real numbers, one a claim: what each is due on average. (Bertsekas and Gallager, Data Networks, 6.5.2.)
 */
export function quotasOf(claims: readonly Claim[], taskManagersMax: number): readonly number[] {
  const quotas = claims.map(() => 0);
  let left = taskManagersMax;
  for (const places of byPriority(claims)) left -= fill(claims, places, left, quotas);
  return quotas;
}

/**
 * The same in whole Task Managers. Where quotas have fractions, the Task Managers that these add up to go to those with
 * the highest `credits` (one a claim; none: all are equal), then to the largest fractions, then in the order given.
 */
export function sharesOf(claims: readonly Claim[], taskManagersMax: number, credits: readonly number[] = []): readonly number[] {
  const quotas = quotasOf(claims, taskManagersMax);
  const shares = quotas.map((quota) => Math.floor(quota + fractionMin));
  for (const places of byPriority(claims)) {
    const broken = places.filter((at) => fractionOf(quotas, shares, at) > 0);
    const whole = Math.round(broken.reduce((sum, at) => sum + fractionOf(quotas, shares, at), 0));
    broken.sort((a, b) => (credits[b] ?? 0) - (credits[a] ?? 0) || fractionOf(quotas, shares, b) - fractionOf(quotas, shares, a) || a - b);
    for (const at of broken.slice(0, whole)) shares[at] = (shares[at] ?? 0) + 1;
  }
  return shares;
}

/** Rounded, so that equal fractions are equal. */
function fractionOf(quotas: readonly number[], shares: readonly number[], at: number): number {
  return Math.round(((quotas[at] ?? 0) - (shares[at] ?? 0)) / fractionMin) * fractionMin;
}

/** Places in `claims`, those of the highest priority first. */
function byPriority(claims: readonly Claim[]): readonly (readonly number[])[] {
  const groups = new Map<number, number[]>();
  for (const [at, { priority }] of claims.entries()) {
    const group = groups.get(priority);
    if (group === undefined) groups.set(priority, [at]);
    else group.push(at);
  }
  return [...groups].sort(([left], [right]) => right - left).map(([, places]) => places);
}

/** Those that want least for their share first: whoever wants less than its part leaves more for the others. */
function fill(claims: readonly Claim[], places: readonly number[], taskManagers: number, quotas: number[]): number {
  const perShare = (at: number) => (claims[at]?.wanted ?? 0) / (claims[at]?.share ?? 1);
  let left = taskManagers;
  let sharesLeft = places.reduce((sum, at) => sum + (claims[at]?.share ?? 0), 0);
  for (const at of [...places].sort((a, b) => perShare(a) - perShare(b))) {
    const { share, wanted } = claims[at] ?? { share: 1, wanted: 0 };
    // Of the last one `share / sharesLeft` is 1 but for rounding.
    const quota = Math.min(wanted, left, (left * share) / Math.max(share, sharesLeft));
    quotas[at] = quota;
    left -= quota;
    sharesLeft -= share;
  }
  return taskManagers - left;
}
