import type { TaskManager } from "./fleet.ts";

/** One that could give work away. */
export interface Giver {
  /** Milliseconds for a unit of weight. */
  readonly unitMs: number;
  /** Until it would have ended all that it has. */
  readonly leftMs: number;
  readonly movableWeight: number;
  /** Of one of its items. */
  readonly itemWeight: number;
}

/** One that has nothing to do. */
export interface Taker {
  readonly member: TaskManager;
  readonly unitMs: number;
  /** Until it could begin. */
  readonly startMs: number;
}

const halvings = 24;

/** The time from now at which all would end together, if work could be divided at will: found by halving. */
export function levelMs(givers: readonly Giver[], takers: readonly Taker[]): number {
  let low = 0;
  let high = givers.reduce((most, { leftMs }) => Math.max(most, leftMs), 0);
  for (let turn = 0; turn < halvings && high - low > 1; turn++) {
    const middle = (low + high) / 2;
    if (excessAt(givers, middle) > roomAt(takers, middle)) low = middle;
    else high = middle;
  }
  return high;
}

function excessAt(givers: readonly Giver[], timeMs: number): number {
  let weight = 0;
  for (const { leftMs, unitMs, movableWeight } of givers) if (leftMs > timeMs) weight += Math.min(movableWeight, (leftMs - timeMs) / unitMs);
  return weight;
}

function roomAt(takers: readonly Taker[], timeMs: number): number {
  let weight = 0;
  for (const { startMs, unitMs } of takers) if (timeMs > startMs) weight += (timeMs - startMs) / unitMs;
  return weight;
}
