import { createFaultMaker } from "../../task-manager/faults.ts";
import type { FaultSpec } from "../../task-manager/protocol.ts";

export interface StruckItems {
  /** End as an error at their first try. */
  readonly failing: ReadonlySet<number>;
  /** End or silence their Task Manager when they are first begun, unless a neighbour did so before. */
  readonly fatal: readonly number[];
}

/** Whom a job's faults strike, of so many items. */
export function struckItems(faults: Partial<FaultSpec>, count: number): StruckItems {
  const maker = createFaultMaker({ exceptionPercent: 0, delayPercent: 0, delayMaxMs: 0, killPercent: 0, stallPercent: 0, seed: 0, ...faults });
  const indexes = Array.from({ length: count }, (_, index) => index);
  const failing = new Set(indexes.filter((index) => maker.strike({ index })?.kind === "exception"));
  return { failing, fatal: indexes.filter((index) => !failing.has(index) && maker.fate({ index }) !== null) };
}

/** A seed by chance, said so that a failed run can be played again: SPLITRUN_SEED. */
export function anySeed(): number {
  const seed = Number(process.env["SPLITRUN_SEED"] ?? Math.floor(Math.random() * 2 ** 31));
  console.log(`SPLITRUN_SEED=${seed}`);
  return seed;
}
