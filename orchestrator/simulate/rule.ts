import { createScheduler } from "../scheduler/scheduler.ts";
import type { Scheduler, SchedulerPlan, SpeculationPlan } from "../scheduler/types.ts";
import type { Parameters } from "./workload.ts";

export interface Supports {
  readonly prefetch: boolean;
  readonly reclaim: boolean;
  readonly cancel: boolean;
}

/** What a rule is told of the job that it schedules. */
export interface RuleJob {
  readonly items: number;
  readonly taskManagers: number;
}

/** A way to schedule that the simulator can try. */
export interface Rule {
  readonly name: string;
  /** Its plan differs in this from the common one. */
  readonly plan: (job: RuleJob) => Partial<SchedulerPlan>;
  /** Where nothing can be told to a holder: an empty request to each slot first, so that cold starts waste no work. */
  readonly warmsUp: boolean;
  readonly create: (plan: SchedulerPlan, job: RuleJob) => Scheduler;
}

/** What a policy makes of a job. */
export type ProductPlan = Pick<SchedulerPlan, "sizing"> & Partial<Pick<SchedulerPlan, "taskManagersMax">>;

/** The product's own scheduler. */
export function productRule(policy: (job: RuleJob) => ProductPlan, speculation: SpeculationPlan): Rule {
  return { name: "splitrun", warmsUp: true, plan: (job) => ({ ...policy(job), speculation }), create: createScheduler };
}

export function planOf(parameters: Parameters, supports: Supports, rule: Rule, job: RuleJob, seed: number): SchedulerPlan {
  return {
    sizing: { kind: "guided" },
    taskManagersMax: job.taskManagers,
    taskManagersMin: 1,
    attemptsMax: 3,
    heartbeatTimeoutMs: parameters.heartbeatTimeoutS * 1000,
    heartbeats: true,
    tolerate: { failedItemsPercent: 100, afterItems: 200 },
    hostBlockedMs: 300_000,
    taskManagerTimeoutMs: 600_000,
    splitTimeoutMs: null,
    jobTimeoutMs: null,
    assignmentsPerTaskManagerMax: null,
    supports,
    speculation: false,
    reportMs: parameters.reportS * 1000,
    seed,
    ...rule.plan(job),
  };
}
