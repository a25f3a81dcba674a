import type { Ranges } from "../../task-manager/protocol.ts";
import { indexesOf } from "../scheduler/ranges.ts";
import type { AssignmentId } from "../scheduler/types.ts";
import { Slot } from "./machine-life.ts";
import type { JobModel, Parameters } from "./workload.ts";

/** What a picture of a run is made of. */
export interface Trace {
  assigned(run: number, assignment: AssignmentId, items: Ranges): void;
  /** Items that have ended, or have been given back. */
  settled(run: number, indexes: readonly number[]): void;
  /** An assignment's time at a machine is over. */
  worked(run: number, assignment: AssignmentId, slot: number, fromS: number, toS: number): void;
}

export const noTrace: Trace = { assigned: () => {}, settled: () => {}, worked: () => {} };

/** One assignment at a machine, seconds. */
export interface Bar {
  readonly slot: number;
  readonly run: number;
  readonly assignment: AssignmentId;
  readonly items: number;
  /** Some of its items were held elsewhere when it was given. */
  readonly copy: boolean;
  readonly fromS: number;
  readonly toS: number;
}

export interface MachinePicture {
  readonly fromS: number;
  readonly readyS: number;
  readonly endS: number;
  readonly cold: boolean;
  readonly silent: boolean;
  readonly factor: number;
  readonly pauses: readonly (readonly [number, number])[];
}

export interface Picture {
  readonly bars: readonly Bar[];
  /** Bars beyond the most that are kept. */
  readonly barsDropped: number;
  /** Of each slot its machines, one after the other. */
  readonly slots: readonly (readonly MachinePicture[])[];
}

/** Keeps up to `barsMax` assignments; four bytes an item to know copies. */
export class PictureTrace implements Trace {
  readonly #barsMax: number;
  readonly #holders: readonly Int32Array[];
  readonly #given = new Map<string, { readonly items: Ranges; readonly count: number; readonly copy: boolean }>();
  readonly #bars: Bar[] = [];
  #dropped = 0;

  constructor(jobs: readonly JobModel[], barsMax: number) {
    this.#barsMax = barsMax;
    this.#holders = jobs.map(({ items }) => new Int32Array(items));
  }

  assigned(run: number, assignment: AssignmentId, items: Ranges): void {
    const holders = this.#holders[run];
    if (holders === undefined) return;
    let copy = false;
    let count = 0;
    for (const index of indexesOf(items)) {
      copy ||= holders[index] !== 0;
      holders[index] = assignment;
      count += 1;
    }
    this.#given.set(`${run} ${assignment}`, { items, count, copy });
  }

  settled(run: number, indexes: readonly number[]): void {
    const holders = this.#holders[run];
    if (holders !== undefined) for (const index of indexes) holders[index] = 0;
  }

  worked(run: number, assignment: AssignmentId, slot: number, fromS: number, toS: number): void {
    const key = `${run} ${assignment}`;
    const given = this.#given.get(key);
    const holders = this.#holders[run];
    if (given === undefined || holders === undefined) return;
    this.#given.delete(key);
    for (const index of indexesOf(given.items)) if (holders[index] === assignment) holders[index] = 0;
    if (this.#bars.length >= this.#barsMax) this.#dropped += 1;
    else this.#bars.push({ slot, run, assignment, items: given.count, copy: given.copy, fromS, toS });
  }

  picture(parameters: Parameters, seed: number, untilS: number): Picture {
    const slots = Array.from({ length: parameters.workers }, (_, number) => machinesOf(new Slot(parameters, seed, number), untilS));
    return { bars: this.#bars, barsDropped: this.#dropped, slots };
  }
}

function machinesOf(slot: Slot, untilS: number): readonly MachinePicture[] {
  const machines: MachinePicture[] = [];
  for (let fromS = slot.fromS; fromS < untilS; ) {
    const life = slot.life(machines.length);
    const { readyS, endS, cold, silent, factor } = life;
    machines.push({ fromS, readyS, endS, cold, silent, factor, pauses: life.pausesUntil(untilS) });
    fromS = endS;
  }
  return machines;
}
