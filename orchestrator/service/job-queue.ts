/** What waits for its turn. */
export interface Queued {
  readonly priority: number;
  /** Order of arrival. */
  readonly number: number;
  start(): void;
}

/** Jobs that wait until fewer than `jobsMax` run: those of a higher priority first, then in the order of arrival. */
export class JobQueue {
  readonly #jobsMax: number;
  /** The next one is the last. */
  readonly #waiting: Queued[] = [];
  #running = 0;

  constructor(jobsMax: number) {
    this.#jobsMax = jobsMax;
  }

  add(job: Queued): void {
    this.#waiting.splice(this.#placeOf(job), 0, job);
    this.#startNext();
  }

  /** False: it has been started. */
  remove(job: Queued): boolean {
    const at = this.#waiting.indexOf(job);
    if (at === -1) return false;
    this.#waiting.splice(at, 1);
    return true;
  }

  /** One that was started has ended. */
  ended(): void {
    this.#running -= 1;
    this.#startNext();
  }

  #startNext(): void {
    while (this.#running < this.#jobsMax) {
      const next = this.#waiting.pop();
      if (next === undefined) return;
      this.#running += 1;
      next.start();
    }
  }

  #placeOf(job: Queued): number {
    let low = 0;
    let high = this.#waiting.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const other = this.#waiting[middle];
      if (other !== undefined && comesBefore(job, other)) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function comesBefore(a: Queued, b: Queued): boolean {
  return a.priority > b.priority || (a.priority === b.priority && a.number < b.number);
}
