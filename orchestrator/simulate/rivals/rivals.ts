import type { Rule } from "../rule.ts";
import { late } from "./late.ts";
import { slowerThanMedian, sparkDefaults } from "./spark.ts";
import { SplitScheduler, type SplitRule } from "./split-scheduler.ts";

const fixedItems = 32;
const originalSpeculation = { quantile: 0.75, multiplier: 2, intervalMs: 500, copiesMax: 1 };

/** One split a Task Manager and no heartbeats, so that a silent death is known at the end of the machine's time. */
function original(name: string, rule: () => SplitRule | null): Rule {
  return {
    name,
    warmsUp: false,
    plan: () => ({ heartbeats: false }),
    create(plan, job) {
      // A request that ended without an answer is noticed by whoever sent it, whatever the rule.
      const heartbeats = !plan.supports.reclaim;
      return new SplitScheduler({ ...plan, heartbeats }, job, Math.ceil(job.items / job.taskManagers), rule());
    },
  };
}

function fixed(name: string, rule: () => SplitRule | null): Rule {
  return { name, warmsUp: false, plan: () => ({}), create: (plan, job) => new SplitScheduler(plan, job, fixedItems, rule()) };
}

/** The rules that others use, under the names of the command line. */
export const rivals: Readonly<Record<string, Rule>> = {
  original: original("original", () => null),
  "original-speculation": original("original-speculation", () => slowerThanMedian(originalSpeculation)),
  late: fixed("late", () => late),
  spark: fixed("spark", () => slowerThanMedian(sparkDefaults)),
};
