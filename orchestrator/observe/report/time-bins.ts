/** Sums over time in a bounded number of bins; when time goes beyond the last one, bins are joined in pairs. */
export class TimeBins {
  readonly #binsMax: number;
  readonly #series: Float64Array[];
  #binMs: number;

  /** @param binMs width of a bin at first */
  constructor(series: number, binsMax: number, binMs: number) {
    this.#binsMax = binsMax;
    this.#binMs = binMs;
    this.#series = Array.from({ length: series }, () => new Float64Array(binsMax));
  }

  get binMs(): number {
    return this.#binMs;
  }

  /** Adds an amount that arose at that time. */
  add(series: number, atMs: number, amount: number): void {
    this.#reach(atMs);
    this.#put(series, Math.floor(atMs / this.#binMs), amount);
  }

  /** Adds `level` × time for each moment of [fromMs, toMs). */
  addOver(series: number, fromMs: number, toMs: number, level: number): void {
    if (toMs <= fromMs || level === 0) return;
    this.#reach(toMs);
    for (let at = fromMs; at < toMs; ) {
      const bin = Math.floor(at / this.#binMs);
      const end = Math.min(toMs, (bin + 1) * this.#binMs);
      this.#put(series, bin, level * (end - at));
      at = end;
    }
  }

  /** Sums of the bins up to the one that holds `untilMs`. */
  values(series: number, untilMs: number): readonly number[] {
    const count = Math.min(this.#binsMax, Math.floor(untilMs / this.#binMs) + 1);
    return [...(this.#series[series]?.subarray(0, count) ?? [])];
  }

  #put(series: number, bin: number, amount: number): void {
    const values = this.#series[series];
    if (values !== undefined) values[bin] = (values[bin] ?? 0) + amount;
  }

  #reach(atMs: number): void {
    while (atMs >= this.#binMs * this.#binsMax) this.#join();
  }

  #join(): void {
    this.#binMs *= 2;
    for (const values of this.#series) {
      for (let bin = 0; bin < this.#binsMax; bin++) {
        const pair = bin * 2;
        values[bin] = pair < this.#binsMax ? (values[pair] ?? 0) + (values[pair + 1] ?? 0) : 0;
      }
    }
  }
}
