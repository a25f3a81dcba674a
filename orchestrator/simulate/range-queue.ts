import type { Ranges } from "../../task-manager/protocol.ts";
import { pushRange } from "../scheduler/ranges.ts";

/** Indexes that wait, in order: taken from one end, given back from the other. */
export class RangeQueue {
  readonly #ranges: number[];
  readonly #reversed: boolean;
  #from = 0;
  #to: number;
  count = 0;

  constructor(ranges: Ranges, reversed: boolean) {
    this.#ranges = [...ranges];
    this.#to = ranges.length;
    this.#reversed = reversed;
    for (let pair = 0; pair < ranges.length; pair += 2) this.count += (ranges[pair + 1] ?? 0) - (ranges[pair] ?? 0);
  }

  /** The next one to work on. Must not be asked when there is none. */
  take(): number {
    return this.#reversed ? this.#takeHigh() : this.#takeLow();
  }

  /** The last `count` of them in the order of work. */
  giveBack(count: number): number[] {
    const indexes: number[] = [];
    while (indexes.length < count && this.count > 0) indexes.push(this.#reversed ? this.#takeLow() : this.#takeHigh());
    return indexes;
  }

  #takeLow(): number {
    const index = this.#ranges[this.#from] ?? 0;
    this.#ranges[this.#from] = index + 1;
    this.count -= 1;
    if (index + 1 === this.#ranges[this.#from + 1]) this.#from += 2;
    return index;
  }

  #takeHigh(): number {
    const index = (this.#ranges[this.#to - 1] ?? 1) - 1;
    this.#ranges[this.#to - 1] = index;
    this.count -= 1;
    if (index === this.#ranges[this.#to - 2]) this.#to -= 2;
    return index;
  }
}

/** Ranges of indexes in any order. */
export function rangesOf(indexes: readonly number[]): number[] {
  const ranges: number[] = [];
  const sorted = isSorted(indexes) ? indexes : [...indexes].sort((left, right) => left - right);
  for (const index of sorted) pushRange(ranges, index, index + 1);
  return ranges;
}

function isSorted(indexes: readonly number[]): boolean {
  for (let at = 1; at < indexes.length; at++) if ((indexes[at - 1] ?? 0) > (indexes[at] ?? 0)) return false;
  return true;
}
