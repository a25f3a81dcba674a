import { describe, expect, test } from "vitest";
import type { Rule } from "../../orchestrator/simulate/rule.ts";
import { boundOfSeed, ideal as z } from "../../orchestrator/simulate/simulate.ts";
import { createRandom } from "../support/random.ts";
import { all, ideal, none, parametersOf, rules, simulated } from "./worlds.ts";

describe("the clairvoyant bound", () => {
  test("even work is divided by the machines", () => {
    expect(boundOfSeed(ideal({ items: 10, workers: 4 }), 1)).toBeCloseTo(2.5, 6);
  });

  test("the longest item must fit on one machine", () => {
    expect(boundOfSeed(ideal({ items: 1, workers: 4 }), 1)).toBeCloseTo(1, 6);
  });

  test("slow machines count for less", () => {
    expect(boundOfSeed(ideal({ items: 10, workers: 2, slow: [{ share: 1, factor: 2 }] }), 1)).toBeCloseTo(10, 6);
  });

  test("a start that takes time is waited for", () => {
    expect(boundOfSeed(ideal({ items: 10, workers: 2, warmS: [3, 3] }), 1)).toBeCloseTo(8, 6);
  });

  test("wall-clock time goes to the slowest machines, which lose nothing by it", () => {
    const parameters = ideal({ items: 100, workers: 100, tail: { share: 1, alpha: 1e9, scale: 1, cap: 1 }, slow: [{ share: 0.5, factor: 1e6 }] });
    const fast = 100 - slowMachines(parameters, 1);
    // 100 s of wall-clock time and 100 s of work: the slow machines can do the former only.
    const expected = Math.max(2, 200 / 100, 100 / fast);
    expect(boundOfSeed(parameters, 1)).toBeCloseTo(expected, 4);
  });

  test("with several lanes wall-clock time counts for the longest item alone", () => {
    const tail = { share: 1, alpha: 1e9, scale: 3, cap: 3 };
    expect(boundOfSeed(ideal({ items: 2, workers: 1, tail }), 1)).toBeCloseTo(8, 6);
    expect(boundOfSeed(ideal({ items: 2, workers: 1, tail, lanes: 2 }), 1)).toBeCloseTo(4, 6);
  });

  test("machines that are refused at first are not counted until they can be had", () => {
    const throttle = { burst: 1, perS: 0.5 };
    // The second machine can be had after 2 s: T + (T - 2) = 4.
    expect(boundOfSeed(ideal({ items: 4, workers: 2, throttle }), 1)).toBeCloseTo(3, 6);
  });

  test("an item that hangs takes its time-out", () => {
    expect(boundOfSeed(ideal({ items: 1, workers: 1, poison: 1, itemTimeoutS: 7 }), 1)).toBeCloseTo(7, 6);
  });

  test("no rule gets below it, whatever happens", { timeout: 120_000 }, () => {
    const start = Number(process.env["SPLITRUN_SEED"] ?? Math.floor(Math.random() * 1e6));
    console.log(`SPLITRUN_SEED=${start}`);
    for (let round = 0; round < 12; round++) {
      const parameters = anyParameters(start + round);
      for (const rule of [...rules, z]) {
        for (const supports of [all, none]) {
          const watched = "create" in rule ? watchedRule(rule) : { rule, gaveUp: () => false };
          const { makespanS, boundS } = simulated(parameters, watched.rule, { supports, seed: start + round });
          // An item that is blamed for losses need not have been done.
          if (!watched.gaveUp()) expect(makespanS, `${rule.name}, seed ${start + round}`).toBeGreaterThanOrEqual(boundS * (1 - 1e-9));
        }
      }
    }
  });
});

/** `gaveUp`: it ended an item with an error of its own. */
function watchedRule(rule: Rule): { readonly rule: Rule; readonly gaveUp: () => boolean } {
  let gaveUp = false;
  const create: Rule["create"] = (plan, job) => {
    const scheduler = rule.create(plan, job);
    return {
      step(event, nowMs) {
        const result = scheduler.step(event, nowMs);
        for (const command of result.commands) gaveUp ||= command.kind === "store" && command.errors.some(({ made }) => made !== null);
        return result;
      },
      get counts() {
        return scheduler.counts;
      },
    };
  };
  return { rule: { ...rule, create }, gaveUp: () => gaveUp };
}

function slowMachines(parameters: ReturnType<typeof ideal>, seed: number): number {
  // An item of work and none of the wall clock on each of so many machines: only the fast ones can end soon.
  let slow = 0;
  for (; slow < 100; slow++) {
    const few = { ...parameters, items: 100 - slow, tail: { ...parameters.tail, share: 0 } };
    if (boundOfSeed(few, seed) < 1 + 1e-3) break;
  }
  return slow;
}

function anyParameters(seed: number): ReturnType<typeof parametersOf> {
  const random = createRandom(seed);
  const maybe = <Value>(value: Value, otherwise: Value): Value => (random.next() < 0.5 ? value : otherwise);
  return parametersOf({
    items: random.between(1, 800),
    workers: random.between(1, 20),
    sigma: random.next() * 1.2,
    lanes: maybe(1, random.between(2, 33)),
    coldShare: maybe(0, random.next()),
    tail: { share: maybe(0, 0.05) },
    poison: maybe(0, 0.002),
    slow: maybe<object[]>([], [{ share: 0.2, factor: 3 }, { share: 0.1, factor: 10 }]),
    stallPerMin: maybe(0, 2),
    deathPerMin: maybe(0, 1),
    lifetimeS: maybe(900, 60),
    throttle: maybe<object | null>(null, { burst: 2, perS: 2 }),
    launchFailShare: maybe(0, 0.1),
    messageDelay: maybe({ share: 0, maxS: 0 }, { share: 0.05, maxS: 2 }),
  });
}
