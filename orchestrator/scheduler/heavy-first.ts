import { freshHistory, type Group } from "./groups.ts";
import { rangesFromSorted } from "./ranges.ts";

/** Items that were read and never handed out, the heaviest first: a binary heap in typed arrays. */
export class HeavyFirst {
  #indexes = new Float64Array(1024);
  #weights = new Float64Array(1024);
  #hosts = new Uint32Array(1024);
  #count = 0;
  #weight = 0;

  get count(): number {
    return this.#count;
  }

  get weight(): number {
    return this.#weight;
  }

  push(group: Group): void {
    let ordinal = 0;
    for (let pair = 0; pair < group.ranges.length; pair += 2) {
      const end = group.ranges[pair + 1] ?? 0;
      for (let index = group.ranges[pair] ?? 0; index < end; index++, ordinal++) {
        this.#add(index, group.weights?.[ordinal] ?? 1, group.hosts?.[ordinal] ?? 0);
      }
    }
  }

  /** The heaviest: at most `itemsMax`, at least one, no more than it takes to weigh `weightMax`. */
  take(itemsMax: number, weightMax: number): Group | null {
    if (this.#count === 0) return null;
    const taken: { index: number; weight: number; host: number }[] = [];
    for (let weight = 0; this.#count > 0 && taken.length < itemsMax && weight < weightMax; ) {
      const heaviest = { index: this.#indexes[0] ?? 0, weight: this.#weights[0] ?? 0, host: this.#hosts[0] ?? 0 };
      taken.push(heaviest);
      weight += heaviest.weight;
      this.#removeFirst();
    }
    return groupOf(taken);
  }

  #add(index: number, weight: number, host: number): void {
    if (this.#count === this.#indexes.length) this.#grow();
    let at = this.#count++;
    this.#weight += weight;
    while (at > 0) {
      const parent = (at - 1) >>> 1;
      if (!this.#isBefore(index, weight, parent)) break;
      this.#move(parent, at);
      at = parent;
    }
    this.#put(at, index, weight, host);
  }

  #removeFirst(): void {
    const last = --this.#count;
    this.#weight = last === 0 ? 0 : this.#weight - (this.#weights[0] ?? 0);
    const index = this.#indexes[last] ?? 0;
    const weight = this.#weights[last] ?? 0;
    const host = this.#hosts[last] ?? 0;
    let at = 0;
    for (;;) {
      let child = at * 2 + 1;
      if (child >= last) break;
      if (child + 1 < last && this.#isBefore(this.#indexes[child + 1] ?? 0, this.#weights[child + 1] ?? 0, child)) child += 1;
      if (this.#isBefore(index, weight, child)) break;
      this.#move(child, at);
      at = child;
    }
    this.#put(at, index, weight, host);
  }

  /** Equal weights go in the order of the input. */
  #isBefore(index: number, weight: number, other: number): boolean {
    const otherWeight = this.#weights[other] ?? 0;
    return weight === otherWeight ? index < (this.#indexes[other] ?? 0) : weight > otherWeight;
  }

  #put(at: number, index: number, weight: number, host: number): void {
    this.#indexes[at] = index;
    this.#weights[at] = weight;
    this.#hosts[at] = host;
  }

  #move(from: number, to: number): void {
    this.#put(to, this.#indexes[from] ?? 0, this.#weights[from] ?? 0, this.#hosts[from] ?? 0);
  }

  #grow(): void {
    const size = this.#indexes.length * 2;
    const indexes = new Float64Array(size);
    const weights = new Float64Array(size);
    const hosts = new Uint32Array(size);
    indexes.set(this.#indexes);
    weights.set(this.#weights);
    hosts.set(this.#hosts);
    this.#indexes = indexes;
    this.#weights = weights;
    this.#hosts = hosts;
  }
}

function groupOf(items: { index: number; weight: number; host: number }[]): Group {
  items.sort((a, b) => a.index - b.index);
  return {
    ranges: rangesFromSorted(items.map(({ index }) => index)),
    count: items.length,
    hosts: Uint32Array.from(items, ({ host }) => host),
    weights: Float64Array.from(items, ({ weight }) => weight),
    history: freshHistory,
  };
}
