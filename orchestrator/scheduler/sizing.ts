import { assignmentItemsMax } from "../../task-manager/protocol.ts";
import type { Fleet, TaskManager } from "./fleet.ts";
import type { SchedulerPlan } from "./types.ts";

/** Milliseconds of work in a split of guided size. */
export interface GuidedLimits {
  readonly splitMsMin: number;
  readonly splitMsMax: number;
  /** Of a Task Manager that has not ended anything yet. */
  readonly firstSplitMs: number;
}

/** Between 5 and 30 seconds the upper bound makes no difference. */
export const limitsWithWayBack: GuidedLimits = { splitMsMin: 100, splitMsMax: 10_000, firstSplitMs: 150 };
/** What was handed out cannot be had back: less at once, and not too little either, since nothing is prefetched. */
export const limitsWithoutWayBack: GuidedLimits = { splitMsMin: 200, splitMsMax: 5_000, firstSplitMs: 500 };

/** Part of the work left that is handed out: factoring, so that all end together. */
const shareOfRest = 2;

/** How much the next assignment may hold, whichever comes first. */
export interface Budget {
  readonly items: number;
  readonly weight: number;
}

/** The work that nobody has yet. */
export interface Rest {
  /** Infinity where nobody knows. */
  readonly weight: number;
  /** About what is handed out and has not ended. */
  readonly runningWeight: number;
  /** Of one item. */
  readonly meanWeight: number;
}

/**
 * Guided size: seconds = clamp(seconds left for the fleet / 2, 0.1, 10), turned into items by the Task Manager's own
 * rate. At least one item for each of its lanes, and no more than makes its part of all that is left.
 */
export function guidedBudget(taskManager: TaskManager, fleet: Fleet, fleetSize: number, rest: Rest, limits: GuidedLimits, nowMs: number): Budget {
  const restWeight = rest.weight / fleetSize;
  const fairWeight = (rest.weight + rest.runningWeight) / fleetSize - heldItems(taskManager) * rest.meanWeight;
  const mostWeight = Math.max(restWeight, fairWeight);
  const lanesWeight = taskManager.lanes * rest.meanWeight;
  const weight = Math.min(mostWeight, Math.max(lanesWeight, wantedWeight(taskManager, fleet, restWeight, rest.meanWeight, limits, nowMs)));
  // Never nothing: sums of weights drift by rounding.
  return { items: assignmentItemsMax, weight: Math.max(weight, Number.MIN_VALUE) };
}

function heldItems({ assignments }: TaskManager): number {
  return assignments.reduce((items, { missing }) => items + missing, 0);
}

function wantedWeight(taskManager: TaskManager, fleet: Fleet, restWeight: number, meanWeight: number, limits: GuidedLimits, nowMs: number): number {
  const fleetMeanMs = fleet.meanMs(nowMs);
  if (fleetMeanMs === null) return taskManager.lanes * 2 * meanWeight;
  const restMs = restWeight * fleetMeanMs;
  const guidedMs = Math.min(limits.splitMsMax, Math.max(limits.splitMsMin, restMs / shareOfRest));
  const splitMs = taskManager.itemsEnded === 0 ? Math.min(guidedMs, limits.firstSplitMs) : guidedMs;
  return splitMs / fleet.estimateMs(taskManager, fleetMeanMs, meanWeight, nowMs);
}

/** Sizes in turn, over and over. */
export class FixedSizes {
  readonly #sizes: readonly number[];
  #next = 0;

  constructor(sizing: Extract<SchedulerPlan["sizing"], { kind: "fixed" }>) {
    if (sizing.sizes.length === 0 || sizing.sizes.some((size) => !(size >= 1))) {
      throw new Error(`sizes of splits must be positive, not ${JSON.stringify(sizing.sizes)}`);
    }
    this.#sizes = sizing.sizes;
  }

  get next(): number {
    return this.#sizes[this.#next % this.#sizes.length] ?? 1;
  }

  take(): number {
    const size = this.next;
    this.#next += 1;
    return size;
  }
}
