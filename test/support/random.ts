import { seededRandom } from "../../orchestrator/scheduler/random.ts";

/** Chance from a seed, so that a failed run can be played again. */
export interface Random {
  /** 0 up to, not including, 1. */
  next(): number;
  /** A whole number, the upper end not included. */
  between(low: number, high: number): number;
}

export function createRandom(seed: number): Random {
  const next = seededRandom(seed);
  return { next, between: (low, high) => low + Math.floor(next() * (high - low)) };
}
