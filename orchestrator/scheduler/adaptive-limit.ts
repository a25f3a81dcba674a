/** Left of the limit after trouble. */
const kept = 0.5;
/** From a cut to the value at which trouble came, in time during which the limit is made use of. */
const recoveryMs = 15_000;
/** At most once in this time is a limit cut: what comes in behind the first sign of trouble was asked before it. */
const roundMs = 1_000;
/** After a pause the limit doubles in this time, until it is where the pause began. */
const backMs = 1_000;
/** However long ago the trouble was. */
const growthPerSecondMax = 0.25;

export interface AdaptiveLimitOptions {
  /** Infinity: none until the first trouble. */
  readonly initial: number;
  readonly min: number;
  readonly max: number;
  /** While there was no trouble yet, the limit rises by a quarter a second, and by at least this much. */
  readonly risePerSecondMin: number;
}

/**
 * A limit that finds itself: it rises while it is made use of and all is well, and is halved on trouble. It remembers
 * where trouble came: it comes back near that value soon, lingers there, and then looks beyond it faster and faster,
 * along the cubic function of RFC 9438. So the next trouble is seldom, and a host that bears more later gets more.
 */
export class AdaptiveLimit {
  readonly #options: AdaptiveLimitOptions;
  #initial: number;
  #max: number;
  #value: number;
  /** Where trouble came last; null: it never did. */
  #troubledAt: number | null = null;
  /** Time in use since the last cut. */
  #usedMs = 0;
  #steppedMs = -Infinity;
  #roundEndsMs = -Infinity;
  /** There was no limit before the last cut. */
  #unmeasured = false;

  constructor(options: AdaptiveLimitOptions) {
    this.#options = options;
    this.#initial = Math.min(options.initial, options.max);
    this.#max = options.max;
    this.#value = this.#initial;
  }

  get value(): number {
    return this.#value;
  }

  /** It was in trouble and may be again. */
  get isCut(): boolean {
    return this.#troubledAt !== null;
  }

  /** Other bounds from now on; what was not tried yet begins with the new ones. */
  setBounds({ initial, max }: Pick<AdaptiveLimitOptions, "initial" | "max">): void {
    const untried = this.#troubledAt === null && this.#value === this.#initial;
    this.#initial = Math.min(initial, max);
    this.#max = max;
    this.#value = untried ? this.#initial : Math.min(max, this.#value);
  }

  /** Trouble, at a use of `used`. Nothing happens before the round of the last cut is over, at `notBeforeMs` the soonest. */
  cut(used: number, nowMs: number, notBeforeMs: number): void {
    if (nowMs < this.#roundEndsMs || nowMs < notBeforeMs) return;
    const { min } = this.#options;
    // A measure taken over a moment may be far off.
    const least = this.#value === Infinity ? min : this.#value / 4;
    this.#unmeasured = this.#value === Infinity;
    this.#halveFrom(Math.min(this.#value, Math.max(used, least)));
    this.#usedMs = 0;
    this.#steppedMs = nowMs;
    this.#roundEndsMs = nowMs + roundMs;
  }

  /**
   * Trouble again, and nothing was borne since the last cut: this tells of a pause, not of how much is borne. Less is
   * tried meanwhile, and what it bore before is come back to as soon as it is over.
   */
  hold(nowMs: number, notBeforeMs: number): void {
    if (nowMs < this.#roundEndsMs || nowMs < notBeforeMs) return;
    this.#value = Math.max(this.#options.min, this.#value * kept);
    this.#usedMs = 0;
    this.#steppedMs = nowMs;
    this.#roundEndsMs = nowMs + roundMs;
  }

  /** As much as this was borne, and no more: nothing is halved, and what is beyond is looked at later. */
  found(used: number, nowMs: number): void {
    const borne = Math.max(this.#options.min, used);
    if (borne >= this.#value) return;
    this.#troubledAt = borne;
    this.#value = borne;
    this.#usedMs = recoveryMs;
    this.#steppedMs = nowMs;
  }

  /** More was in use when the first trouble came than was known then. */
  revise(used: number, nowMs: number): void {
    if (this.#unmeasured && nowMs < this.#roundEndsMs && used > (this.#troubledAt ?? Infinity)) this.#halveFrom(used);
  }

  /** Time has passed; `inUse`: the limit was what held things back. */
  rise(inUse: boolean, nowMs: number): void {
    const passedMs = Math.max(0, nowMs - this.#steppedMs);
    this.#steppedMs = nowMs;
    if (!inUse || passedMs === Infinity || this.#value === Infinity) return;
    const growth = (growthPerSecondMax * passedMs) / 1000;
    const soonest = this.#value * (1 + growth);
    this.#usedMs += passedMs;
    const next = this.#troubledAt === null
      ? Math.max(soonest, this.#value + (this.#options.risePerSecondMin * passedMs) / 1000)
      : this.#troubledAt * (1 + (1 - kept) * (this.#usedMs / recoveryMs - 1) ** 3);
    const back = this.#troubledAt === null ? next : Math.min(next, this.#value * (1 + passedMs / backMs));
    const risen = this.#troubledAt !== null && next > this.#troubledAt ? Math.min(next, soonest) : back;
    this.#value = Math.min(this.#max, Math.max(this.#value, risen));
  }

  #halveFrom(used: number): void {
    this.#troubledAt = Math.max(this.#options.min, Math.min(used, this.#max));
    this.#value = Math.max(this.#options.min, this.#troubledAt * kept);
  }
}
