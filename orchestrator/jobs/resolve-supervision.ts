import type { FaultSpec } from "../../task-manager/protocol.ts";
import { heartbeatDefaults } from "./cross-checks.ts";
import type { Ledger } from "./ledger.ts";
import type { Job } from "./schema.ts";
import type { ResolvedJob, Speculation } from "./types.ts";

type Supervision = Pick<ResolvedJob, "keepAlive" | "heartbeat" | "speculation" | "attemptsMax" | "tolerate" | "timeouts">;

/** How a run notices what is slow, stuck or lost, and how long it has patience with it. */
export function resolveSupervision(job: Job, ledger: Ledger): Supervision {
  const { timeouts = {} } = job;
  const keepAlive = ledger.settle("keepAlive", job.keepAlive, true);
  return {
    keepAlive,
    heartbeat: resolveHeartbeat(job, keepAlive, ledger),
    speculation: resolveSpeculation(job, ledger),
    attemptsMax: ledger.settle("attemptsMax", job.attemptsMax, 3),
    tolerate: { failedItemsPercent: ledger.settle("tolerate.failedItemsPercent", job.tolerate?.failedItemsPercent, 50) },
    timeouts: {
      itemMs: ledger.settle("timeouts.itemMs", timeouts.itemMs, 300_000),
      taskManagerMs: ledger.settle<number | null>("timeouts.taskManagerMs", timeouts.taskManagerMs, 600_000),
      splitMs: ledger.settle<number | null>("timeouts.splitMs", timeouts.splitMs, null),
      jobMs: ledger.settle<number | null>("timeouts.jobMs", timeouts.jobMs, null),
    },
  };
}

function resolveHeartbeat({ heartbeat = {} }: Job, keepAlive: boolean, ledger: Ledger): ResolvedJob["heartbeat"] {
  const everyMs = ledger.settle("heartbeat.everyMs", heartbeat.everyMs, heartbeatDefaults.everyMs);
  const follows = keepAlive && everyMs < heartbeatDefaults.reportMs;
  return {
    reportMs: follows
      ? ledger.settle("heartbeat.reportMs", heartbeat.reportMs, everyMs, "heartbeat.everyMs")
      : ledger.settle("heartbeat.reportMs", heartbeat.reportMs, heartbeatDefaults.reportMs),
    everyMs,
    timeoutMs: ledger.settle("heartbeat.timeoutMs", heartbeat.timeoutMs, heartbeatDefaults.timeoutMs),
  };
}

function resolveSpeculation({ speculation = true }: Job, ledger: Ledger): Speculation {
  if (speculation === false) {
    ledger.note("speculation", false, ledger.originOf("speculation"));
    return false;
  }
  const given = speculation === true ? {} : speculation;
  const field = (name: string) => `speculation.${name}`;
  if (given.kind !== "quartile") {
    return {
      kind: ledger.settle(field("kind"), given.kind, "remainder"),
      maxExtraPercent: ledger.settle(field("maxExtraPercent"), given.maxExtraPercent, 10),
    };
  }
  return {
    kind: ledger.settle(field("kind"), given.kind, "quartile"),
    quartile: ledger.settle(field("quartile"), given.quartile, 0.75),
    multiplier: ledger.settle(field("multiplier"), given.multiplier, 2),
    intervalMs: ledger.settle(field("intervalMs"), given.intervalMs, 500),
    maxRetries: ledger.settle(field("maxRetries"), given.maxRetries, 1),
    extraTaskManagers: ledger.settle(field("extraTaskManagers"), given.extraTaskManagers, true),
  };
}

/** null where the job wants none, or none of anything. */
export function resolveFaults({ faults = {} }: Job, ledger: Ledger): FaultSpec | null {
  const { exceptionPercent = 0, delayPercent = 0, killPercent = 0, stallPercent = 0 } = faults;
  if (exceptionPercent + delayPercent + killPercent + stallPercent === 0) {
    ledger.note("faults", null, Object.keys(faults).length === 0 ? "default" : ledger.originOf("faults"));
    return null;
  }
  const field = (name: string) => `faults.${name}`;
  return {
    exceptionPercent: ledger.settle(field("exceptionPercent"), faults.exceptionPercent, 0),
    delayPercent: ledger.settle(field("delayPercent"), faults.delayPercent, 0),
    delayMaxMs: ledger.settle(field("delayMaxMs"), faults.delayMaxMs, 1000),
    killPercent: ledger.settle(field("killPercent"), faults.killPercent, 0),
    stallPercent: ledger.settle(field("stallPercent"), faults.stallPercent, 0),
    seed: ledger.settle(field("seed"), faults.seed, 0),
  };
}
