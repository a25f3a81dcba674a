import type { ResolvedJob } from "../jobs/types.ts";
import type { SchedulerPlan } from "../scheduler/types.ts";
import type { Backend } from "../backends/types.ts";

/** Items that must have ended before the share of errors says anything. */
const tolerateAfterItems = 200;

/** What of a job the scheduler obeys. */
export function planOf(job: ResolvedJob, backend: Backend, seed: number): SchedulerPlan {
  return {
    sizing: job.sizing,
    taskManagersMax: Math.min(job.taskManagers, backend.taskManagersMax),
    taskManagersMin: job.resources.minTaskManagers,
    attemptsMax: job.attemptsMax,
    heartbeatTimeoutMs: job.heartbeat.timeoutMs,
    heartbeats: job.keepAlive,
    tolerate: { failedItemsPercent: job.tolerate.failedItemsPercent, afterItems: tolerateAfterItems },
    hostBlockedMs: job.hostBlockedMs,
    taskManagerTimeoutMs: job.timeouts.taskManagerMs,
    splitTimeoutMs: job.timeouts.splitMs,
    jobTimeoutMs: job.timeouts.jobMs,
    assignmentsPerTaskManagerMax: job.resources.maxTasksPerWorker,
    supports: backend.supports,
    speculation: job.speculation,
    reportMs: job.heartbeat.reportMs,
    seed,
  };
}
