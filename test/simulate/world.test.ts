import { describe, expect, test } from "vitest";
import { all, ideal, none, parametersOf, ruleNamed, rules, simulated, splitrunRule } from "./worlds.ts";

const faults = parametersOf({
  items: 3000, workers: 20, sigma: 1, coldShare: 0.5, tail: { share: 0.02 }, poison: 0.001,
  slow: [{ share: 0.1, factor: 5 }], stallPerMin: 1, deathPerMin: 0.5, throttle: { burst: 10, perS: 5 },
  launchFailShare: 0.1, messageLoss: 0.01, messageDelay: { share: 0.05, maxS: 0.5 },
});

describe("the simulated world", () => {
  test("the same seed gives the same figures, another seed others", () => {
    for (const rule of [splitrunRule, ruleNamed("late")]) {
      for (const supports of [all, none]) {
        const [first, again, other] = [1, 1, 2].map((seed) => simulated({ ...faults, messageLoss: 0 }, rule, { supports, seed }));
        expect(again).toEqual(first);
        expect(other).not.toEqual(first);
      }
    }
  });

  test("without delays and faults two machines take half the time of the work", () => {
    const { makespanS, boundS, wastePercent, assignments } = simulated(ideal({ items: 10, workers: 2 }), ruleNamed("original"));
    expect({ makespanS, boundS, wastePercent, assignments }).toEqual({ makespanS: 5, boundS: expect.closeTo(5, 6) as number, wastePercent: 0, assignments: 2 });
  });

  test("each assignment costs its hand-over and half a round trip either way", () => {
    const parameters = ideal({ items: 4, workers: 1, handOverS: 0.5, roundTripS: [0.2, 0.2], warmS: [1, 1] });
    // Start, joining, handing out, hand-over, work, report.
    expect(simulated(parameters, ruleNamed("original")).makespanS).toBeCloseTo(1 + 0.1 + 0.1 + 0.5 + 4 + 0.1, 6);
  });

  test("an assignment that travels in a request waits for it, and pays for the machine", () => {
    const parameters = ideal({ items: 4, workers: 1, handOverS: 0.5, requestS: 0.04, roundTripS: [0.2, 0.2], warmS: [1, 1] });
    const { makespanS, costUsd } = simulated(parameters, ruleNamed("original"), { supports: none });
    // The machine starts with the assignment inside.
    expect(makespanS).toBeCloseTo(1 + 4 + 0.1, 6);
    expect(costUsd).toBeCloseTo(2e-7 + (makespanS - 0.14 - 0.1) * 1.769 * 1.6667e-5, 9);
  });

  test("what hangs ends as an error at its time-out", () => {
    const { makespanS, failed } = simulated(ideal({ items: 2, workers: 2, poison: 1, itemTimeoutS: 7 }), ruleNamed("original"));
    expect({ makespanS, failed }).toEqual({ makespanS: 7, failed: 2 });
  });

  test("lanes let wall-clock times overlap, and machine parts not", () => {
    const tail = { share: 1, alpha: 1e9, scale: 3, cap: 3 };
    expect(simulated(ideal({ items: 4, workers: 1, tail }), ruleNamed("original")).makespanS).toBeCloseTo(16, 6);
    expect(simulated(ideal({ items: 4, workers: 1, tail, lanes: 4 }), ruleNamed("original")).makespanS).toBeCloseTo(3 + 4, 6);
    // The third and the fourth wait for a lane: 3 + 1, then 3 more, then the last two one after the other.
    expect(simulated(ideal({ items: 4, workers: 1, tail, lanes: 2 }), ruleNamed("original")).makespanS).toBeCloseTo(3 + 1 + 3 + 2, 6);
  });

  test("slow machines take their factor", () => {
    expect(simulated(ideal({ items: 4, workers: 1, slow: [{ share: 1, factor: 10 }] }), ruleNamed("original")).makespanS).toBeCloseTo(40, 6);
  });

  test("machines above what can be had are refused, and had later", () => {
    const parameters = ideal({ items: 200, workers: 10, throttle: { burst: 1, perS: 1 } });
    for (const rule of rules) {
      const { makespanS, boundS } = simulated(parameters, rule);
      expect(makespanS, rule.name).toBeLessThan(boundS * 3);
    }
  });

  test("every rule gets to the end of a job with all faults at once, messages lost too", () => {
    const { makespanS } = simulated(faults, splitrunRule);
    expect(makespanS).toBeLessThan(Infinity);
    for (const rule of rules) {
      for (const supports of [all, none]) {
        const parameters = { ...faults, messageLoss: 0, deathPerMin: 0.2 };
        if (rule.name === "original" && supports === all) continue;
        expect(simulated(parameters, rule, { supports }).makespanS, rule.name).toBeLessThan(Infinity);
      }
    }
  });

  test("a small job beside a large one does not wait behind it", () => {
    const parameters = ideal({ meanS: 0.05, workers: 10, roundTripS: [0.01, 0.01], jobs: [{ items: 20_000 }, { items: 10, arrivesS: 2 }] });
    const { jobsS, makespanS, boundS } = simulated(parameters, splitrunRule);
    expect(jobsS).toHaveLength(2);
    expect(jobsS[1]).toBeLessThan(3);
    expect(makespanS).toBeLessThan(boundS * 1.1);
  });

  test("shares and priorities of jobs decide who ends first", () => {
    const jobsOf = (jobs: readonly object[]) => simulated(ideal({ meanS: 0.05, workers: 12, jobs }), splitrunRule).jobsS;
    const [third = 0, twoThirds = 0] = jobsOf([{ items: 3000, share: 1 }, { items: 3000, share: 2 }]);
    expect(third).toBeGreaterThan(twoThirds * 1.2);
    const [low = 0, high = 0] = jobsOf([{ items: 3000 }, { items: 3000, priority: 1 }]);
    expect(low).toBeGreaterThan(high * 1.8);
  });
});
