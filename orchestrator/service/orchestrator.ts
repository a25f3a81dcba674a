import { availableParallelism } from "node:os";
import { SplitrunError } from "../errors.ts";
import type { Cost } from "../observe/cost.ts";
import { defaultCacheDir } from "../jobs/content-cache.ts";
import { backendNames, type BackendName } from "../jobs/names.ts";
import { nearestName } from "../jobs/nearest-name.ts";
import { problemsOfPolicy, type Job, type LambdaBackend } from "../jobs/schema.ts";
import type { RunResult } from "./execute-job.ts";
import { JobQueue } from "./job-queue.ts";
import type { Offer } from "./prepare-job.ts";
import { startJob, type JobHandle, type JobHost, type StartedJob } from "./queued-job.ts";
import type { RunJobOptions } from "./run-job.ts";
import { deleteRuntime, deployRuntime, initializeRuntime, pingRuntime, redeployRuntime } from "./runtime.ts";
import type { DeployReport, PingReport, RemovalReport, RuntimeRequest } from "./runtime.ts";
import { createService } from "./service.ts";

export interface OrchestratorOptions {
  /**
   * Where jobs may run; a job that names another backend is refused, one that names none gets the first. What is said of
   * `lambda` here holds for jobs that say no more of it than its name. @default all but lambda
   */
  readonly backends?: readonly (BackendName | { readonly kind: Exclude<BackendName, "lambda"> } | LambdaBackend)[];
  /** Policy of the jobs that name none. @default "guided" */
  readonly policy?: Job["policy"];
  /** Jobs that run together; the others wait, by priority and then in order. @default 8 */
  readonly maxJobs?: number;
  /** Task Managers at once, over all jobs, those included that start or end. @default a Task Manager a core; with lambda among the backends 1000 */
  readonly maxTaskManagers?: number;
  /** The functions on Lambda that its jobs use, and what the methods below make of them. */
  readonly runtime?: RuntimeRequest;
  /** Deploys the runtime before the first job on Lambda, if it is not there. @default false */
  readonly initialize?: boolean;
  /** Deploys into the VPC, subnets and security groups of the EC2 machine that this runs on. @default false */
  readonly ec2HostMachine?: boolean;
}

/** Several jobs in one process, and the Task Managers that they share. */
export interface Orchestrator {
  /** Queues a job and waits for its end. @throws SplitrunError when the job is wrong or cannot be started */
  runJob(job: Job | string, options?: RunJobOptions): Promise<RunResult>;
  /** Queues a job: an object, or the path of a job file. What is wrong with it comes as the rejection of `done`. */
  enqueueJob(job: Job | string, options?: RunJobOptions): JobHandle;
  /** Makes the runtime what `runtime` says, with changes; does nothing where nothing differs. @throws SplitrunError */
  deployRuntime(changes?: RuntimeRequest): Promise<DeployReport>;
  /** New code, and its settings as they are; invocations that run are not disturbed. @throws SplitrunError */
  redeployRuntime(changes?: RuntimeRequest): Promise<DeployReport>;
  /** Removes all that deploying has made. @throws SplitrunError */
  deleteRuntime(changes?: RuntimeRequest): Promise<RemovalReport>;
  /** Measures the start of a new environment, if one is started, and the answers of one that is there. @throws SplitrunError */
  pingRuntime(how?: { readonly times?: number; readonly cold?: boolean }): Promise<PingReport>;
  /** What `backend.keepWarm` has cost so far, which is part of no run's cost; null: nothing is kept warm. */
  readonly keptWarm: Cost | null;
  /** Takes no more jobs, waits for those that it has, queued ones too, then ends the Task Managers. `cancel()` jobs that need not end. */
  close(): Promise<void>;
}

const maxJobsDefault = 8;
/** The quota that most accounts have. */
const lambdaTaskManagersDefault = 1_000;
const pingsDefault = 5;
const backendsDefault: Offer["backends"] = ["local", "auto", "sequential"];
const backendsAllowed = `allowed: a list of ${backendNames.join(", ")}`;
const wholeMax = 1_000_000;

/**
 * Runs several jobs at once within one set of Task Managers, divided by the jobs' `share` and `priority`.
 *
 * ```ts
 * const orchestrator = createOrchestrator({ maxTaskManagers: 4 });
 * const night = orchestrator.enqueueJob("night-run.yaml");
 * const urgent = await orchestrator.runJob({ input: ["cat.jpg"], task: { kind: "inference", model: "model.onnx" }, priority: 1 });
 * night.cancel();
 * await orchestrator.close();
 * ```
 * @throws SplitrunError for an option that is wrong
 */
export function createOrchestrator(options: OrchestratorOptions = {}): Orchestrator {
  const { backends, lambda, policy, maxJobs, maxTaskManagers, runtime, initialize } = complete(options);
  const cacheDir = defaultCacheDir(process.env);
  const service = createService({ taskManagersMax: maxTaskManagers, cacheDir });
  const queue = new JobQueue(maxJobs);
  const jobs = new Set<StartedJob>();
  let closing: Promise<void> | undefined;
  let initialized: Promise<void> | undefined;
  const host: JobHost = {
    service,
    queue,
    cacheDir,
    // Where nothing was said, the machine's own limits hold.
    offer: { backends, lambda, policy, taskManagersMax: options.maxTaskManagers ?? null },
    ready: initialize ? readyFor : null,
  };
  let numbers = 0;

  function enqueue(job: Job | string, jobOptions: RunJobOptions): JobHandle {
    if (closing !== undefined) {
      throw new SplitrunError("the orchestrator is closed and takes no more jobs; make another one with createOrchestrator()", { code: "ORCHESTRATOR_CLOSED" });
    }
    const started = startJob(job, jobOptions, ++numbers, host);
    jobs.add(started);
    void started.ended.then(() => jobs.delete(started));
    return started.handle;
  }

  async function readyFor(backend: string): Promise<void> {
    if (backend !== "lambda") return;
    initialized ??= initializeRuntime(runtime, { cacheDir }).catch((error: unknown) => {
      // The next job may have better luck.
      initialized = undefined;
      throw error;
    });
    await initialized;
  }

  async function drain(): Promise<void> {
    await Promise.all([...jobs].map(({ ended }) => ended));
    await service.close();
  }

  return {
    runJob: async (job, jobOptions = {}) => enqueue(job, jobOptions).done,
    enqueueJob: (job, jobOptions = {}) => enqueue(job, jobOptions),
    deployRuntime: (changes = {}) => deployRuntime({ ...runtime, ...changes }, { cacheDir }),
    redeployRuntime: (changes = {}) => redeployRuntime({ ...runtime, ...changes }, { cacheDir }),
    deleteRuntime: (changes = {}) => deleteRuntime({ ...runtime, ...changes }, {}),
    pingRuntime: ({ times = pingsDefault, cold = false } = {}) => pingRuntime(runtime, { times, cold }),
    get keptWarm() {
      return service.keptWarm();
    },
    close: () => (closing ??= drain()),
  };
}

interface CompleteOptions {
  readonly backends: Offer["backends"];
  readonly lambda: LambdaBackend | null;
  readonly policy: Job["policy"];
  readonly maxJobs: number;
  readonly maxTaskManagers: number;
  readonly runtime: RuntimeRequest;
  readonly initialize: boolean;
}

function complete(options: OrchestratorOptions): CompleteOptions {
  refuseUnknown(options);
  const backends = backendsOf(options.backends ?? backendsDefault);
  const runtime = { ...runtimeOf(options.runtime ?? {}), ec2HostMachine: trueOrFalse("ec2HostMachine", options.ec2HostMachine ?? false) };
  return {
    backends,
    lambda: lambdaOf(options, runtime),
    policy: policyOf(options.policy),
    maxJobs: wholeNumber("maxJobs", options.maxJobs ?? maxJobsDefault),
    maxTaskManagers: wholeNumber("maxTaskManagers", options.maxTaskManagers ?? (backends.includes("lambda") ? lambdaTaskManagersDefault : availableParallelism())),
    runtime,
    initialize: trueOrFalse("initialize", options.initialize ?? false),
  };
}

const optionNames = ["backends", "policy", "maxJobs", "maxTaskManagers", "runtime", "initialize", "ec2HostMachine"];

function refuseUnknown(options: OrchestratorOptions): void {
  for (const [name, value] of Object.entries(options)) {
    if (optionNames.includes(name)) continue;
    const meant = nearestName(name, optionNames);
    throw wrong(name, value, `is no option${meant === null ? "" : `; did you mean ${meant}?`}; there are ${optionNames.join(", ")}`);
  }
}

function policyOf(policy: Job["policy"]): Job["policy"] {
  const [problem] = policy === undefined ? [] : problemsOfPolicy(policy);
  if (problem !== undefined) throw wrong("policy", policy, problem.message);
  return policy;
}

/** What is in it is checked by what deploys it. */
function runtimeOf(value: unknown): RuntimeRequest {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value;
  throw wrong("runtime", value, `${JSON.stringify(value)} is not allowed; allowed: an object such as { name: "splitrun", memoryMb: 1769 }`);
}

function trueOrFalse(field: string, value: unknown): boolean {
  if (typeof value === "boolean") return value;
  throw wrong(field, value, `${JSON.stringify(value)} is not allowed; allowed: true, false`);
}

function backendsOf(given: unknown): Offer["backends"] {
  const [first, ...others] = Array.isArray(given) ? given.map(backendOf) : [];
  if (first === undefined) throw wrong("backends", given, `${JSON.stringify(given)} is not allowed; ${backendsAllowed}`);
  return [first, ...others];
}

function backendOf(given: unknown): BackendName {
  const kind = typeof given === "object" && given !== null && "kind" in given ? given.kind : given;
  const name = backendNames.find((known) => known === kind);
  if (name === undefined) throw wrong("backends", given, `${JSON.stringify(given)} is no backend, or not built yet; ${backendsAllowed}`);
  return name;
}

/** Jobs that say no more than its name run on the runtime of the orchestrator. */
function lambdaOf({ backends = [], runtime: given }: OrchestratorOptions, runtime: RuntimeRequest): LambdaBackend | null {
  const said = backends.find(isLambda) ?? null;
  if (given === undefined) return said;
  const { name, region, stagingBucket, memoryStepUpMb } = runtime;
  return {
    kind: "lambda",
    ...(name === undefined ? {} : { functionName: name }),
    ...(region === undefined ? {} : { region }),
    ...(stagingBucket === undefined ? {} : { stagingBucket }),
    ...(memoryStepUpMb === undefined ? {} : { memoryStepUpMb }),
    ...said,
  };
}

function isLambda(given: unknown): given is LambdaBackend {
  return typeof given === "object" && given !== null && "kind" in given && given.kind === "lambda";
}

function wholeNumber(field: string, value: unknown): number {
  if (typeof value === "number" && Number.isInteger(value) && value >= 1 && value <= wholeMax) return value;
  throw wrong(field, value, `${JSON.stringify(value)} is not allowed; allowed: a whole number from 1 to ${wholeMax}`);
}

function wrong(field: string, value: unknown, message: string): SplitrunError {
  return new SplitrunError(`createOrchestrator: ${field}: ${message}`, { code: "ORCHESTRATOR_INVALID", field, value });
}
