/** Messages in order, taken by one reader. */
export class Mailbox<T> {
  readonly #waiting: T[] = [];
  #reader: ((message: T) => void) | null = null;

  push(message: T): void {
    const reader = this.#reader;
    this.#reader = null;
    if (reader === null) this.#waiting.push(message);
    else reader(message);
  }

  take(): Promise<T> {
    const [next] = this.#waiting.splice(0, 1);
    return next === undefined ? new Promise((resolve) => { this.#reader = resolve; }) : Promise.resolve(next);
  }
}
