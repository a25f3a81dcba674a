import { Bits } from "./bits.ts";
import { ascending, isAscending, pushRange } from "./ranges.ts";
import type { SchedulerCommand, StoredError } from "./types.ts";

/** How every item ended, once; what is on its way to the disk. */
export class Outcomes {
  readonly #ended = new Bits(1024);
  readonly #batches = new Set<number>();
  #lost = false;
  #nextBatch = 1;
  #results: number[] = [];
  #retried: [index: number, attempts: number][] = [];
  #errors: StoredError[] = [];
  succeeded = 0;
  failed = 0;
  reused = 0;

  get ended(): number {
    return this.succeeded + this.failed;
  }

  /** Batches that are not on disk yet. */
  get unstored(): number {
    return this.#batches.size;
  }

  /** Something that ended could not be stored. */
  get isGivenUp(): boolean {
    return this.#lost;
  }

  /** They have a result in the journal; `failed` of them an error. */
  reuse(first: number, end: number): void {
    this.#end(first, end);
    this.succeeded += end - first;
    this.reused += end - first;
  }

  /** Of the items just reused, these are errors. */
  reuseFailed(count: number): void {
    this.succeeded -= count;
    this.reused -= count;
    this.failed += count;
  }

  result(first: number, end: number, attempts: number): void {
    this.#end(first, end);
    this.succeeded += end - first;
    pushRange(this.#results, first, end);
    if (attempts > 1) for (let index = first; index < end; index++) this.#retried.push([index, attempts]);
  }

  error(error: StoredError): void {
    this.#end(error.index, error.index + 1);
    this.failed += 1;
    this.#errors.push(error);
  }

  /** What ended in this step, to be stored. */
  takeStore(): Extract<SchedulerCommand, { kind: "store" }> | null {
    if (this.#lost) return null;
    if (this.#results.length === 0 && this.#errors.length === 0) return null;
    const batch = this.#nextBatch++;
    this.#batches.add(batch);
    const results = isAscending(this.#results) ? this.#results : ascending(this.#results);
    const store = { kind: "store", batch, results, retried: this.#retried, errors: this.#errors } as const;
    this.#results = [];
    this.#retried = [];
    this.#errors = [];
    return store;
  }

  /** Nothing can be stored any more. */
  giveUp(): void {
    this.#lost = true;
    this.#batches.clear();
  }

  stored(batch: number): void {
    if (this.#lost) return;
    if (!this.#batches.delete(batch)) throw new Error(`batch ${batch} was not asked to be stored, or twice reported as stored`);
  }

  #end(first: number, end: number): void {
    const twice = this.#ended.nextMember(first, end);
    if (twice < end) throw new Error(`item ${twice} would end twice`);
    this.#ended.add(first, end);
  }
}
