import { describe, expect, test } from "vitest";
import { ideal as z } from "../../orchestrator/simulate/simulate.ts";
import { ideal, parametersOf, rules, simulated } from "./worlds.ts";

describe("z, what could be reached if hand-over were free,", () => {
  test("hands out item by item, and nothing else takes time", () => {
    const parameters = ideal({ items: 11, workers: 2, handOverS: 5, requestS: 5, roundTripS: [5, 5] });
    expect(simulated(parameters, z).makespanS).toBe(6);
  });

  test("waits for wall-clock time in a lane, and works meanwhile", () => {
    const tail = { share: 1, alpha: 1e9, scale: 3, cap: 3 };
    expect(simulated(ideal({ items: 4, workers: 1, tail, lanes: 4 }), z).makespanS).toBeCloseTo(7, 6);
    expect(simulated(ideal({ items: 4, workers: 1, tail }), z).makespanS).toBeCloseTo(16, 6);
  });

  test("lets those that idle copy what lasts, so that a slow machine holds up nobody for long", () => {
    const parameters = ideal({ items: 100, workers: 20, slow: [{ share: 0.2, factor: 100 }] });
    const { makespanS, copied } = simulated(parameters, z);
    expect(copied).toBeGreaterThan(0);
    expect(makespanS).toBeLessThan(12);
  });

  test("gives what is at a machine that ends or pauses to others within a moment, and ends every item", () => {
    const parameters = ideal({ items: 2000, workers: 20, stallPerMin: 3, deathPerMin: 3, lifetimeS: 60, lanes: 4, poison: 0.001, itemTimeoutS: 5 });
    const { makespanS, boundS } = simulated(parameters, z);
    expect(makespanS).toBeLessThan(boundS * 1.1);
  });

  test("is reached by no rule where machines and items are alike but for chance", () => {
    for (const seed of [1, 2, 3]) {
      const parameters = parametersOf({ items: 2000, workers: 20 });
      for (const rule of rules) expect(simulated(parameters, rule, { seed }).makespanS, rule.name).toBeGreaterThan(simulated(parameters, z, { seed }).makespanS);
    }
  });

  test("serves the job of the highest priority first, once it is there", () => {
    const { jobsS } = simulated(ideal({ meanS: 0.05, workers: 10, jobs: [{ items: 20_000 }, { items: 10, arrivesS: 2, priority: 1 }] }), z);
    expect(jobsS[1]).toBeCloseTo(0.1, 1);
  });
});
