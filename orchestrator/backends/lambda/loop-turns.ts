interface Waiting {
  readonly weight: number;
  readonly begin: () => void;
}

/**
 * Shares the event loop with everybody else: so much work in one turn of it, the rest in the next ones, first come,
 * first served. A thousand connections that have something to say at once would keep timers and journal waiting.
 */
export class LoopTurns {
  readonly #weightMax: number;
  #waiting: Waiting[] = [];
  #next = 0;
  #taken = 0;
  #turning = false;

  /** @param weightMax of one turn */
  constructor(weightMax: number) {
    this.#weightMax = weightMax;
  }

  /** Undefined: at once. */
  take(weight: number): Promise<void> | undefined {
    if (!this.#turning) {
      this.#turning = true;
      setImmediate(this.#turn);
    }
    if (this.#taken < this.#weightMax && this.#next === this.#waiting.length) {
      this.#taken += weight;
      return undefined;
    }
    return new Promise((begin) => this.#waiting.push({ weight, begin }));
  }

  readonly #turn = (): void => {
    this.#taken = 0;
    for (; this.#taken < this.#weightMax && this.#next < this.#waiting.length; this.#next++) {
      const waiting = this.#waiting[this.#next];
      if (waiting === undefined) break;
      this.#taken += waiting.weight;
      waiting.begin();
    }
    if (this.#next === this.#waiting.length || this.#next > 1024) {
      this.#waiting = this.#waiting.slice(this.#next);
      this.#next = 0;
    }
    this.#turning = this.#taken > 0;
    if (this.#turning) setImmediate(this.#turn);
  };
}
