import { heartbeatDefaults } from "./cross-checks.ts";
import { splitSizeDefault } from "./policies.ts";
import { shown } from "./job-error.ts";
import { valueAt } from "./problems.ts";
import type { Job } from "./schema.ts";
import type { ResolvedJob } from "./types.ts";

interface Rule {
  readonly field: string;
  /** What says nothing: the default, as a list of all defaults has it. */
  readonly neutral?: unknown;
  /** Why it has no effect in this job; null: it has one. */
  readonly because: (job: ResolvedJob, said: Job) => string | null;
}

const whereSequential = ({ backend }: ResolvedJob) => (backend.kind === "sequential" ? "backend sequential does everything in this process" : null);
const whereNoNodes = ({ backend }: ResolvedJob) => (backend.kind === "lambda" ? "backend lambda has no nodes; taskManagers says how many run at once" : null);
const whereFree = ({ backend }: ResolvedJob) => (backend.kind === "lambda" ? null : `backend ${backend.kind} costs nothing`);
const withoutKeepAlive = ({ keepAlive }: ResolvedJob) => (keepAlive ? null : "keepAlive is false: a Task Manager is lost when its process ends");
/** Connections that are lost may be taken up again, for as long as that says. */
const comesBack = ({ backend }: ResolvedJob) => backend.kind === "lambda" && backend.pull !== null;
const withoutActivation = ({ task }: ResolvedJob) => (task.kind === "inference" && task.postprocess.activation === "none" ? "activation none gives the model's values as they are" : null);

const rules: readonly Rule[] = [
  {
    field: "splitSize",
    neutral: splitSizeDefault,
    because({ sizing, policy }, { heterogeneousSplits = [] }) {
      if (heterogeneousSplits.length > 0) return "heterogeneousSplits says the sizes";
      if (sizing.kind === "guided") return "policy guided sizes a split when it is asked for; choose policy none for splits of that size";
      return policy === "policy-1" || policy === "policy-3" ? `${policy} decides it` : null;
    },
  },
  {
    field: "taskManagers",
    because: (job) => (job.policy === "default" || job.policy === "policy-3" ? `policy ${job.policy} decides it` : job.taskManagers === 1 ? whereSequential(job) : null),
    neutral: 1,
  },
  { field: "heartbeat.timeoutMs", neutral: heartbeatDefaults.timeoutMs, because: (job) => (comesBack(job) ? null : withoutKeepAlive(job)) },
  { field: "resources.maxRamPerWorkerMb", because: whereSequential },
  { field: "resources.coresPerWorker", because: whereSequential },
  { field: "resources.workersPerNode", because: (job) => whereNoNodes(job) ?? whereSequential(job) },
  { field: "timeouts.itemMs", neutral: 300_000, because: whereSequential },
  { field: "budget.maxCostUsd", neutral: null, because: whereFree },
  { field: "prices", because: whereFree },
  { field: "task.postprocess.topK", neutral: 1, because: withoutActivation },
  { field: "task.postprocess.labels", neutral: null, because: withoutActivation },
  { field: "faults.delayMaxMs", neutral: 1000, because: ({ faults }) => (faults === null || faults.delayPercent === 0 ? "faults.delayPercent is 0" : null) },
  { field: "faults.seed", neutral: 0, because: ({ faults }) => (faults === null ? "no fault is made" : null) },
];

/** What the job says and nothing comes of, a sentence each: not wrong, but hardly what was meant. */
export function settingsWithoutEffect(said: Job, job: ResolvedJob): readonly string[] {
  return rules.flatMap(({ field, neutral, because }) => {
    const value = valueAt(said, field);
    if (value === undefined || value === neutral) return [];
    const why = because(job, said);
    return why === null ? [] : [`${field} (${shown(field, value)}) has no effect: ${why}.`];
  });
}
