import type { Items } from "./items.ts";
import { Slot } from "./machine-life.ts";
import { jobsOf, type Parameters } from "./workload.ts";

const bisectionsMax = 60;

export interface Work {
  /** Of machines of speed factor 1. */
  serviceS: number;
  wallS: number;
  /** The item that takes longest. */
  longestServiceS: number;
  longestWallS: number;
}

export function workOf(jobs: readonly Items[]): Work {
  const work: Work = { serviceS: 0, wallS: 0, longestServiceS: 0, longestWallS: 0 };
  for (const items of jobs) {
    for (let index = 0; index < items.count; index++) {
      items.look(index);
      work.serviceS += items.serviceS;
      work.wallS += items.wallS;
      if (items.serviceS + items.wallS <= work.longestServiceS + work.longestWallS) continue;
      work.longestServiceS = items.serviceS;
      work.longestWallS = items.wallS;
    }
  }
  return work;
}

/**
 * The clairvoyant bound, seconds: the least time in which all work, taken as divisible, its wall-clock part on the
 * slowest machines and the rest on the others, fits into what the machines can do, and the longest item fits on the
 * best of them. No hand-over cost, nothing lost: below it nobody gets. With several lanes wall-clock parts overlap,
 * so that they count for the longest item only.
 */
export function clairvoyantBoundS(parameters: Parameters, seed: number, work: Work): number {
  const slots = Array.from({ length: parameters.workers }, (_, number) => new Slot(parameters, seed, number));
  const wallS = parameters.lanes > 1 ? 0 : work.wallS;
  const arrivedS = Math.min(...jobsOf(parameters).map(({ arrivesS }) => arrivesS));
  let low = longestItemEndsS(slots, work.longestServiceS, work.longestWallS);
  if (fits(slots, low, work.serviceS, wallS)) return Math.max(low, arrivedS);
  let high = Math.max(low, 1e-3);
  while (!fits(slots, high, work.serviceS, wallS)) high *= 2;
  for (let round = 0; round < bisectionsMax && high - low > 1e-9 * high; round++) {
    const middle = (low + high) / 2;
    if (fits(slots, middle, work.serviceS, wallS)) high = middle;
    else low = middle;
  }
  return Math.max(high, arrivedS);
}

function fits(slots: readonly Slot[], untilS: number, serviceS: number, wallS: number): boolean {
  const activeByFactor = new Map<number, number>();
  for (const slot of slots) {
    for (let ordinal = 0; ; ordinal++) {
      const life = slot.life(ordinal);
      if (life.readyS >= untilS) break;
      activeByFactor.set(life.factor, (activeByFactor.get(life.factor) ?? 0) + life.activeS(untilS));
      if (life.endS >= untilS) break;
    }
  }
  let wallLeftS = wallS;
  let serviceLeftS = serviceS;
  for (const [factor, activeS] of [...activeByFactor].sort(([left], [right]) => right - left)) {
    const onWallS = Math.min(wallLeftS, activeS);
    wallLeftS -= onWallS;
    serviceLeftS -= (activeS - onWallS) / factor;
  }
  return wallLeftS <= 0 && serviceLeftS <= 0;
}

function longestItemEndsS(slots: readonly Slot[], serviceS: number, wallS: number): number {
  let bestS = Infinity;
  for (const slot of slots) {
    for (let ordinal = 0; ; ordinal++) {
      const life = slot.life(ordinal);
      if (life.readyS >= bestS) break;
      const endS = life.workedAt(life.readyS, serviceS * life.factor + wallS);
      if (endS <= life.endS) bestS = Math.min(bestS, endS);
      if (endS <= life.endS || life.endS >= bestS) break;
    }
  }
  return bestS;
}
