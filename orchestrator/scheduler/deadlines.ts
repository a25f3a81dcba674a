/** What is due when: a binary heap. Whoever changes a deadline adds another and ignores the one that is too early. */
export class Deadlines<T> {
  #times: number[] = [];
  #tasks: T[] = [];

  get nextMs(): number | null {
    return this.#times[0] ?? null;
  }

  add(timeMs: number, task: T): void {
    const times = this.#times;
    const tasks = this.#tasks;
    let at = times.length;
    times.push(timeMs);
    tasks.push(task);
    while (at > 0) {
      const parent = (at - 1) >>> 1;
      if ((times[parent] ?? 0) <= timeMs) break;
      this.#move(parent, at);
      at = parent;
    }
    times[at] = timeMs;
    tasks[at] = task;
  }

  /** The next one that is due at `nowMs`; undefined: none. */
  takeDue(nowMs: number): T | undefined {
    const [timeMs] = this.#times;
    if (timeMs === undefined || timeMs > nowMs) return undefined;
    const due = this.#tasks[0];
    const lastMs = this.#times.pop();
    const last = this.#tasks.pop();
    if (this.#times.length > 0 && lastMs !== undefined && last !== undefined) this.#sink(lastMs, last);
    return due;
  }

  #sink(timeMs: number, task: T): void {
    const times = this.#times;
    let at = 0;
    for (;;) {
      let child = at * 2 + 1;
      if (child >= times.length) break;
      if ((times[child + 1] ?? Infinity) < (times[child] ?? 0)) child += 1;
      if ((times[child] ?? 0) >= timeMs) break;
      this.#move(child, at);
      at = child;
    }
    times[at] = timeMs;
    this.#tasks[at] = task;
  }

  #move(from: number, to: number): void {
    const time = this.#times[from];
    const task = this.#tasks[from];
    if (time === undefined || task === undefined) throw new Error(`deadline ${from} of ${this.#times.length} is not there`);
    this.#times[to] = time;
    this.#tasks[to] = task;
  }
}
