/** splitrun as a library. */
export { createOrchestrator, type Orchestrator, type OrchestratorOptions } from "./service/orchestrator.ts";
export type { JobHandle, JobState } from "./service/queued-job.ts";
export { runJob, type RunJobOptions } from "./service/run-job.ts";
export type { DeployReport, PackageReport, Ping, PingReport, RemovalReport, RuntimeOptions, RuntimeRequest, StepReport } from "./service/runtime.ts";
export type { RunResult } from "./service/execute-job.ts";
export type { Cost } from "./observe/cost.ts";
export type { Progress } from "./observe/progress.ts";
export type { Counts, ErrorGroup, RunState, Summary } from "./observe/summary.ts";
export type { Outcome, OutcomeError } from "./results/types.ts";
export type { FunctionContext, ItemErrorCode, JsonValue, Stage, UserFunction } from "../task-manager/protocol.ts";
export type { Job } from "./jobs/schema.ts";
export type { Policy, PolicyDecision, PolicyRequest } from "./jobs/policies.ts";
export { SplitrunError } from "./errors.ts";
