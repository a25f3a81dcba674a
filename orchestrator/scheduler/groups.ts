import type { Ranges } from "../../task-manager/protocol.ts";
import { Fifo } from "./fifo.ts";
import { pushRange } from "./ranges.ts";
import type { HostNumber, TaskManagerId } from "./types.ts";

/** What happened to items before; one object for all that share it. */
export interface History {
  /** Tries that are spent. */
  readonly attempts: number;
  /** Times given back by a Task Manager that had ended nothing meanwhile. */
  readonly returns: number;
  /** Times given back for lack of memory. */
  readonly memoryReturns: number;
  /** Task Managers that were given up, with these in hand, since they ended nothing. */
  readonly hangs: number;
  /** Where it went wrong last; 0: nowhere. */
  readonly avoid: TaskManagerId;
}

export const freshHistory: History = { attempts: 0, returns: 0, memoryReturns: 0, hangs: 0, avoid: 0 };

/** Items that wait or move together, with the same past. */
export interface Group {
  /** Ascending. */
  readonly ranges: Ranges;
  readonly count: number;
  /** One an item, in order; null: none has a host. */
  readonly hosts: Uint32Array | null;
  /** One an item, in order; null: each weighs 1. */
  readonly weights: Float64Array | null;
  readonly history: History;
}

export function weightOf(group: Group): number {
  return group.weights === null ? group.count : sum(group.weights);
}

function sum(weights: Float64Array): number {
  let total = 0;
  for (const weight of weights) total += weight;
  return total;
}

/** Gathers runs of items, handed over in ascending order, into one group. */
export class GroupBuilder {
  #ranges: number[] = [];
  #hosts: number[] | null = null;
  #weights: number[] | null = null;
  #count = 0;

  get count(): number {
    return this.#count;
  }

  /** [first, end); their hosts and weights begin at `ordinal` of the arrays. */
  add(first: number, end: number, hosts: Uint32Array | null, weights: Float64Array | null, ordinal: number): void {
    pushRange(this.#ranges, first, end);
    if (hosts !== null) this.#hosts = padded(this.#hosts, this.#count, 0);
    if (weights !== null) this.#weights = padded(this.#weights, this.#count, 1);
    for (let at = 0; at < end - first; at++) {
      this.#hosts?.push(hosts?.[ordinal + at] ?? 0);
      this.#weights?.push(weights?.[ordinal + at] ?? 1);
    }
    this.#count += end - first;
  }

  build(history: History): Group {
    return {
      ranges: this.#ranges,
      count: this.#count,
      hosts: this.#hosts === null ? null : Uint32Array.from(this.#hosts),
      weights: this.#weights === null ? null : Float64Array.from(this.#weights),
      history,
    };
  }
}

function padded(values: number[] | null, count: number, value: number): number[] {
  return values ?? new Array<number>(count).fill(value);
}

/** Splits a group by what `partOf` says of each item; a part that is empty is left out. */
export function partition<Part>(group: Group, partOf: (index: number, host: HostNumber) => Part): Map<Part, Group> {
  const builders = new Map<Part, GroupBuilder>();
  let ordinal = 0;
  for (let pair = 0; pair < group.ranges.length; pair += 2) {
    const end = group.ranges[pair + 1] ?? 0;
    for (let index = group.ranges[pair] ?? 0; index < end; index++, ordinal++) {
      const part = partOf(index, group.hosts?.[ordinal] ?? 0);
      let builder = builders.get(part);
      if (builder === undefined) builders.set(part, (builder = new GroupBuilder()));
      builder.add(index, index + 1, group.hosts, group.weights, ordinal);
    }
  }
  return new Map([...builders].map(([part, builder]) => [part, builder.build(group.history)]));
}

/** The group in pieces of at most `size` items. */
export function chopped(group: Group, size: number): readonly Group[] {
  if (group.count <= size) return [group];
  const queue = new GroupQueue();
  queue.push(group);
  const pieces: Group[] = [];
  for (let piece = queue.take(size, Infinity); piece !== null; piece = queue.take(size, Infinity)) pieces.push(piece);
  return pieces;
}

/** Groups in order, taken from the front a piece at a time. */
export class GroupQueue {
  #groups = new Fifo<Group>();
  /** Where in the front group the rest begins. */
  #pair = 0;
  #inPair = 0;
  #ordinal = 0;
  #count = 0;
  #weight = 0;

  get count(): number {
    return this.#count;
  }

  get weight(): number {
    return this.#weight;
  }

  get front(): History | null {
    return this.#groups.front?.history ?? null;
  }

  push(group: Group): void {
    if (group.count === 0) return;
    this.#groups.push(group);
    this.#count += group.count;
    this.#weight += weightOf(group);
  }

  /** Items of the front group: at most `itemsMax`, at least one, no more than it takes to weigh `weightMax`. */
  take(itemsMax: number, weightMax: number): Group | null {
    const group = this.#groups.front;
    if (group === undefined) return null;
    const count = this.#fitting(group, itemsMax, weightMax);
    const taken = count === group.count ? group : this.#piece(group, count);
    this.#ordinal += count;
    this.#count -= count;
    this.#weight = this.#count === 0 ? 0 : this.#weight - weightOf(taken);
    if (this.#ordinal === group.count) this.#nextGroup();
    return taken;
  }

  #fitting(group: Group, itemsMax: number, weightMax: number): number {
    const itemsLeft = Math.min(itemsMax, group.count - this.#ordinal);
    if (group.weights === null) return Math.max(1, Math.min(itemsLeft, Math.ceil(weightMax)));
    let weight = 0;
    for (let at = 0; at < itemsLeft; at++) {
      weight += group.weights[this.#ordinal + at] ?? 1;
      if (weight >= weightMax) return at + 1;
    }
    return itemsLeft;
  }

  #piece(group: Group, count: number): Group {
    const ranges: number[] = [];
    for (let left = count; left > 0; ) {
      const first = (group.ranges[this.#pair] ?? 0) + this.#inPair;
      const end = Math.min(first + left, group.ranges[this.#pair + 1] ?? 0);
      pushRange(ranges, first, end);
      left -= end - first;
      this.#inPair += end - first;
      if (end === group.ranges[this.#pair + 1]) {
        this.#pair += 2;
        this.#inPair = 0;
      }
    }
    return {
      ranges,
      count,
      // Copied, not viewed: one item that takes long must not keep thousands in memory.
      hosts: group.hosts?.slice(this.#ordinal, this.#ordinal + count) ?? null,
      weights: group.weights?.slice(this.#ordinal, this.#ordinal + count) ?? null,
      history: group.history,
    };
  }

  #nextGroup(): void {
    this.#groups.shift();
    this.#pair = 0;
    this.#inPair = 0;
    this.#ordinal = 0;
  }
}
