import { recordedReferences } from "./references.ts";
import { policyNames } from "./names.ts";
import type { Job } from "./schema.ts";
import type { BackendSpec, OutputSpec, ResolvedJob, ResolvedTask, S3Keeping } from "./types.ts";

/**
 * The complete job as the run's directory keeps it: a job file like any other, so that it can be resumed or run
 * again. Of what came from the environment it holds the variable's name, and of a secret that was written in the job
 * the name of a variable that has to be set: for headers `SPLITRUN_HEADER_<NAME>`, for `env` the same name.
 */
export function jobForRecord(job: ResolvedJob): Job {
  const [splitSize] = job.sizing.kind === "fixed" ? job.sizing.sizes : [];
  return {
    name: job.name,
    baseDir: job.baseDir,
    input: definedOnly(job.input),
    ...(job.bucket === null ? {} : { bucket: job.bucket }),
    s3: { ...definedOnly(job.s3), ...keepingForRecord(job.s3Keeping) },
    task: taskForRecord(job.task, job.hostBlockedMs, job.backend.kind === "lambda" && job.backend.coresByMemory),
    backend: backendForRecord(job.backend),
    ...policyForRecord(job.policy),
    ...(splitSize === undefined ? {} : { splitSize }),
    ...(job.sizing.kind === "fixed" && job.sizing.sizes.length > 1 ? { heterogeneousSplits: job.sizing.sizes } : {}),
    taskManagers: job.taskManagers,
    resources: definedOnly(job.resources),
    env: recordedReferences(job.env, (name) => name),
    keepAlive: job.keepAlive,
    heartbeat: job.heartbeat,
    speculation: job.speculation,
    attemptsMax: job.attemptsMax,
    tolerate: job.tolerate,
    timeouts: job.timeouts,
    budget: definedOnly(job.budget),
    ...(job.prices === null ? {} : { prices: job.prices }),
    ...(job.faults === null ? {} : { faults: job.faults }),
    share: job.share,
    priority: job.priority,
    output: outputForRecord(job.output),
  };
}

function keepingForRecord({ encryption, storageClass }: S3Keeping): NonNullable<Job["s3"]> {
  return {
    ...(encryption !== null && { encryption: encryption.kind }),
    ...(encryption?.kind === "kms" && encryption.keyId !== null && { kmsKeyId: encryption.keyId }),
    ...(storageClass !== null && { storageClass }),
  };
}

function outputForRecord(output: OutputSpec): NonNullable<Job["output"]> {
  switch (output.kind) {
    case "print":
      return "print";
    case "directory":
      return { to: output.dir, format: output.format, order: output.order };
    case "s3": {
      const { url, format, order, partItems, checkpointMs } = output;
      return { to: url, format, order, partItems, checkpointMs };
    }
  }
}

/** A function cannot be written down; what it decided can. */
function policyForRecord(policy: string): Pick<Job, "policy"> {
  const named = policyNames.find((name) => name === policy);
  if (named !== undefined) return { policy: named };
  return { policy: policy.includes("#") ? (policy as `${string}#${string}`) : "none" };
}

function backendForRecord(backend: BackendSpec): NonNullable<Job["backend"]> {
  if (backend.kind !== "lambda") return backend.kind;
  const { coresByMemory: _found, ...given } = backend;
  return given;
}

/** @param coresByMemory threads and sessions are found where the task runs, and not said */
function taskForRecord(task: ResolvedTask, hostBlockedMs: number, coresByMemory: boolean): Job["task"] {
  if (task.kind === "function") {
    const { threads, ...rest } = task;
    return coresByMemory ? rest : { ...rest, threads };
  }
  const { activation, topK } = task.postprocess;
  const { sessions, ...infer } = task.infer;
  const { concurrency, ...preprocess } = task.preprocess;
  return {
    kind: "inference",
    model: task.model,
    download: {
      ...task.download,
      perHost: definedOnly(task.download.perHost),
      hostBlockedMs,
      headers: recordedReferences(task.download.headers, (name) => `SPLITRUN_HEADER_${name.toUpperCase().replace(/[^A-Z0-9]/g, "_")}`),
    },
    preprocess: coresByMemory ? preprocess : { ...preprocess, concurrency },
    infer: coresByMemory ? infer : { ...infer, sessions },
    postprocess: activation === "off-sample"
      ? { preset: "off-sample" }
      : { activation, topK, ...(task.labels === null ? {} : { labels: task.labels }) },
  };
}

type Defined<Values> = { readonly [Name in keyof Values]: Exclude<Values[Name], null> };

/** Null means "none" in a complete job, and is left out of one that is written. */
function definedOnly<Values extends object>(values: Values): Defined<Values> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== null)) as Defined<Values>;
}
