interface Waiting {
  readonly weight: number;
  readonly begin: () => void;
}

/**
 * Shares the event loop with everybody else: so much work in one turn of it, the rest in the next ones. A thousand
 * connections that have something to say at once would keep timers and journal waiting. What ends work goes before what
 * begins some: where the processor cannot keep up, less is begun, and nobody who works is kept waiting to be heard.
 */
export class LoopTurns {
  readonly #weightMax: number;
  readonly #ends = new Queue();
  readonly #begins = new Queue();
  #taken = 0;
  #turning = false;

  /** @param weightMax of one turn */
  constructor(weightMax: number) {
    this.#weightMax = weightMax;
  }

  /** First come, first served. Undefined: at once. */
  takeToEnd(weight: number): Promise<void> | undefined {
    return this.#take(weight, this.#ends, this.#ends.isEmpty);
  }

  /** The same, once nobody has work to end. */
  takeToBegin(weight: number): Promise<void> | undefined {
    return this.#take(weight, this.#begins, this.#ends.isEmpty && this.#begins.isEmpty);
  }

  #take(weight: number, queue: Queue, isNext: boolean): Promise<void> | undefined {
    if (!this.#turning) {
      this.#turning = true;
      setImmediate(this.#turn);
    }
    if (this.#taken < this.#weightMax && isNext) {
      this.#taken += weight;
      return undefined;
    }
    return new Promise((begin) => queue.add({ weight, begin }));
  }

  readonly #turn = (): void => {
    this.#taken = 0;
    for (const queue of [this.#ends, this.#begins]) {
      while (this.#taken < this.#weightMax) {
        const waiting = queue.next();
        if (waiting === undefined) break;
        this.#taken += waiting.weight;
        waiting.begin();
      }
    }
    this.#turning = this.#taken > 0;
    if (this.#turning) setImmediate(this.#turn);
  };
}

class Queue {
  #waiting: Waiting[] = [];
  #next = 0;

  get isEmpty(): boolean {
    return this.#next === this.#waiting.length;
  }

  add(waiting: Waiting): void {
    this.#waiting.push(waiting);
  }

  next(): Waiting | undefined {
    const waiting = this.#waiting[this.#next];
    if (waiting === undefined) return undefined;
    this.#next += 1;
    if (this.isEmpty || this.#next > 1024) {
      this.#waiting = this.#waiting.slice(this.#next);
      this.#next = 0;
    }
    return waiting;
  }
}
