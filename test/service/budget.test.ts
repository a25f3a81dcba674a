import { describe, expect, test } from "vitest";
import { taskManagersWithin } from "../../orchestrator/service/budget.ts";
import { createRandom } from "../support/random.ts";

describe("within a budget", () => {
  test("one Task Manager shows what they cost", () => {
    expect(taskManagersWithin({ maxUsd: 1, spentUsd: 0, inFlightUsd: 0, costliestUsd: 0 })).toEqual({ taskManagers: 1, spent: false });
  });

  test("all go on while there is enough for what runs and as much again", () => {
    for (const inFlightUsd of [0, 1, 4]) expect(taskManagersWithin({ maxUsd: 10, spentUsd: 2, inFlightUsd, costliestUsd: 1 })).toEqual({ taskManagers: 4, spent: false });
    expect(taskManagersWithin({ maxUsd: 10, spentUsd: 2, inFlightUsd: 5, costliestUsd: 1 })).toEqual({ taskManagers: 3, spent: false });
  });

  test("none begins while what runs may take the rest, but the money is not spent yet", () => {
    expect(taskManagersWithin({ maxUsd: 10, spentUsd: 8, inFlightUsd: 2, costliestUsd: 1 })).toEqual({ taskManagers: 0, spent: false });
  });

  test("it is spent once there is not enough for one more", () => {
    expect(taskManagersWithin({ maxUsd: 10, spentUsd: 9.5, inFlightUsd: 0, costliestUsd: 1 })).toEqual({ taskManagers: 0, spent: true });
  });

  test("no order of ends passes it, and less than one piece of work is left over", () => {
    const seed = Number(process.env["SPLITRUN_SEED"] ?? Math.floor(Math.random() * 2 ** 31));
    const { next } = createRandom(seed);
    for (let round = 0; round < 300; round++) {
      const costliestUsd = 0.5 + next();
      const maxUsd = 5 + 50 * next();
      const inFlight: number[] = [];
      let spentUsd = 0;
      let allowed = { taskManagers: 1, spent: false };
      const ask = () => {
        allowed = taskManagersWithin({ maxUsd, spentUsd, inFlightUsd: inFlight.length * costliestUsd, costliestUsd });
      };
      while (!allowed.spent) {
        // Begun with the answer from before: several may end and begin until it is asked anew.
        ask();
        for (let ends = Math.ceil(next() * inFlight.length); ends > 0; ends--) {
          inFlight.pop();
          spentUsd += costliestUsd * (next() < 0.5 ? 1 : next());
        }
        while (inFlight.length < Math.min(40, allowed.taskManagers)) inFlight.push(costliestUsd);
        if (allowed.spent) break;
      }
      spentUsd += inFlight.length * costliestUsd;
      expect(spentUsd, `seed ${seed}, round ${round}`).toBeLessThanOrEqual(maxUsd + 1e-9);
      expect(maxUsd - spentUsd, `seed ${seed}, round ${round}`).toBeLessThan(costliestUsd + 1e-9);
    }
  });
});
