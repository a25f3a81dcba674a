/** What one schedule is made of, all of it drawn from its seed. */
import { seededRandom } from "../../orchestrator/scheduler/random.ts";
import type { SchedulerPlan, SpeculationPlan } from "../../orchestrator/scheduler/types.ts";

/** What happens to Task Managers, messages, orchestrator, disk and list. */
export const strikes = [
  "kills", "silent", "stalls", "zombies", "duplicates", "resends", "drops", "forgets", "mute", "throttles", "refuses", "hosts", "returns",
  "allowance", "restarts", "mid-step", "power", "full", "stops", "input-fails", "ends-at", "declines",
] as const;
/** What is wrong with some items. */
const itemFaults = ["flaky", "poison", "broken", "stuck", "unreadable"] as const;
export type Fault = (typeof strikes)[number] | (typeof itemFaults)[number];

/** Chance from the schedule's seed. */
export class Chance {
  readonly #random: () => number;

  constructor(seed: number) {
    this.#random = seededRandom(seed);
  }

  next(): number {
    return this.#random();
  }

  is(probability: number): boolean {
    return this.#random() < probability;
  }

  /** A whole number, both ends included. */
  between(low: number, high: number): number {
    return Math.floor(low + this.#random() * (high - low + 1));
  }

  oneOf<Value>(values: readonly Value[]): Value {
    const value = values[Math.floor(this.#random() * values.length)];
    if (value === undefined) throw new Error("there is nothing to choose from");
    return value;
  }
}

/** How an item behaves, always in the same way. */
export interface ItemNature {
  readonly input: string;
  readonly serviceMs: number;
  readonly poison: boolean;
  /** Tries that fail, retryably, before one succeeds. */
  readonly flaky: number;
  readonly broken: boolean;
  readonly host: number;
  readonly weight: number;
  readonly unreadable: boolean;
}

export interface Nature {
  readonly faults: ReadonlySet<Fault>;
  /** Faults end here. */
  readonly healedMs: number;
  readonly items: readonly ItemNature[];
  readonly weighted: boolean;
  readonly hosted: boolean;
  readonly estimated: boolean;
  /** Of the Task Managers, those that are slow. */
  readonly slowShare: number;
}

export function drawNature(chance: Chance): Nature {
  const faults = new Set([...strikes, ...itemFaults].filter(() => chance.is(0.25)));
  const tailed = chance.is(0.3);
  return {
    faults,
    healedMs: chance.oneOf([3000, 8000, 24_000]),
    items: drawItems(chance, faults, tailed),
    weighted: chance.is(0.35),
    hosted: faults.has("hosts"),
    estimated: chance.is(0.5),
    slowShare: chance.oneOf([0, 0.2, 0.6]),
  };
}

/** Some of them are in the list twice. */
function drawItems(chance: Chance, faults: ReadonlySet<Fault>, tailed: boolean): readonly ItemNature[] {
  const items: ItemNature[] = [];
  for (let left = Math.floor(chance.next() ** 3 * 100); left > 0; left--) {
    items.push(items.length > 0 && chance.is(0.05) ? chance.oneOf(items) : drawItem(chance, faults, tailed, items.length));
  }
  return items;
}

function drawItem(chance: Chance, faults: ReadonlySet<Fault>, tailed: boolean, index: number): ItemNature {
  return {
    input: `item-${index}`,
    serviceMs: faults.has("stuck") && chance.is(0.02) ? chance.between(10_000, 60_000) : tailed && chance.is(0.1) ? chance.between(500, 4000) : chance.between(1, 300),
    poison: faults.has("poison") && chance.is(0.03),
    flaky: faults.has("flaky") && chance.is(0.1) ? chance.between(1, 4) : 0,
    broken: faults.has("broken") && chance.is(0.1),
    host: faults.has("hosts") ? chance.between(0, 2) : 0,
    weight: chance.between(0, 9),
    unreadable: faults.has("unreadable") && chance.is(0.05),
  };
}

/** A run's settings; one that resumes may have others. */
export function drawPlan(chance: Chance, { faults }: Nature, run: number): SchedulerPlan {
  const heartbeats = chance.is(0.9);
  const supports = chance.is(0.15)
    ? { prefetch: false, reclaim: false, cancel: false }
    : { prefetch: chance.is(0.8), reclaim: chance.is(0.85), cancel: chance.is(0.85) };
  return {
    sizing: chance.is(0.6) ? { kind: "guided" } : { kind: "fixed", sizes: Array.from({ length: chance.between(1, 3) }, () => chance.between(1, 30)) },
    taskManagersMax: chance.between(1, 6),
    taskManagersMin: chance.is(0.1) ? 2 : 1,
    attemptsMax: chance.between(1, 3),
    heartbeatTimeoutMs: 6000,
    heartbeats,
    // What cannot be stopped for twice would be stopped for by every run.
    tolerate: run === 1 && chance.is(0.1) ? { failedItemsPercent: 20, afterItems: 5 } : { failedItemsPercent: 100, afterItems: 200 },
    hostBlockedMs: 15_000,
    taskManagerTimeoutMs: !heartbeats || chance.is(0.3) ? 30_000 : null,
    splitTimeoutMs: !faults.has("stuck") && chance.is(0.1) ? 60_000 : null,
    jobTimeoutMs: run === 1 && chance.is(0.1) ? chance.between(1000, 60_000) : null,
    assignmentsPerTaskManagerMax: chance.is(0.2) ? chance.between(1, 3) : null,
    supports,
    speculation: drawSpeculation(chance),
    reportMs: 250,
    seed: chance.between(0, 2 ** 31),
  };
}

function drawSpeculation(chance: Chance): SpeculationPlan {
  const kind = chance.next();
  if (kind < 0.15) return false;
  if (kind < 0.65) return { kind: "remainder", maxExtraPercent: chance.oneOf([0, 5, 10, 100]) };
  return {
    kind: "quartile",
    quartile: chance.oneOf([0.1, 0.5, 0.75, 1]),
    multiplier: chance.oneOf([1, 1.5, 2]),
    intervalMs: chance.between(50, 1000),
    maxRetries: chance.between(0, 3),
    extraTaskManagers: chance.is(0.5),
  };
}
