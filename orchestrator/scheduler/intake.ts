import type { Ranges } from "../../task-manager/protocol.ts";
import { freshHistory, weightOf, type Group } from "./groups.ts";
import { ascending, countOf, indexesOf, without } from "./ranges.ts";
import type { SchedulerEvent } from "./types.ts";

/** Items read ahead of what is handed out. */
const readAheadMin = 4096;
const readAheadMax = 65_536;
/** Items that wait for a host, a time or their turn by weight; above it reading pauses. */
const setAsideMax = 100_000;
/** Of an item whose weight is given as nothing. */
const weightMin = 1e-9;

export type ItemsRead = Extract<SchedulerEvent, { kind: "items-read" }>;

/** What is read and what is left to read: one read at a time, and only as far ahead as is useful. */
export class Intake {
  #reading = false;
  #ended = false;
  #read = 0;
  #remaining: number | null = null;
  #items = 0;
  #weight = 0;

  /** Items read so far, done ones too. */
  get read(): number {
    return this.#read;
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** Estimate of the items not read yet; Infinity: nobody knows. */
  get remaining(): number {
    return this.#remaining ?? Infinity;
  }

  /** Of them, those that are still to be done, if as many are as of those read so far; what nobody knows of does not count. */
  get toDo(): number {
    return this.#remaining === null || this.#read === 0 ? 0 : (this.#remaining * this.#items) / this.#read;
  }

  get meanWeight(): number {
    return this.#items === 0 ? 1 : this.#weight / this.#items;
  }

  /** The items of the event that are still to be done. */
  take(event: ItemsRead): Group {
    const { first, count, done, errors = [] } = event;
    this.#reading = false;
    this.#read += count;
    this.#remaining = event.remaining;
    const ended = errors.length === 0 ? done : ascending([...done, ...errors.flatMap(({ index }) => [index, index + 1])]);
    const group = groupOf(event, without(first, first + count, ended));
    this.#items += group.count;
    this.#weight += weightOf(group);
    return group;
  }

  end(): void {
    this.#reading = false;
    this.#ended = true;
    this.#remaining = 0;
  }

  fail(): void {
    this.#reading = false;
  }

  /** How many to read now, enough for the next `wanted`; 0: none. */
  more(wanted: number, waiting: { readonly ready: number; readonly setAside: number; readonly inWindow: number }): number {
    if (this.#reading || this.#ended) return 0;
    const { ready, setAside, inWindow } = waiting;
    const target = inWindow > 0 ? readAheadMax : Math.min(readAheadMax, Math.max(readAheadMin, wanted));
    if (ready > (target * 3) / 4) return 0;
    const count = Math.min(target - ready, setAsideMax - setAside - inWindow);
    if (count <= 0) return 0;
    this.#reading = true;
    return count;
  }
}

function groupOf({ first, hosts, weights }: ItemsRead, ranges: Ranges): Group {
  const count = countOf(ranges);
  const pick = <Values extends Uint32Array | Float64Array>(picked: Values, valueOf: (at: number) => number): Values => {
    let ordinal = 0;
    for (const index of indexesOf(ranges)) picked[ordinal++] = valueOf(index - first);
    return picked;
  };
  return {
    ranges,
    count,
    hosts: hosts === undefined ? null : pick(new Uint32Array(count), (at) => hosts[at] ?? 0),
    weights: weights === undefined ? null : pick(new Float64Array(count), (at) => Math.max(weights[at] ?? 1, weightMin)),
    history: freshHistory,
  };
}
