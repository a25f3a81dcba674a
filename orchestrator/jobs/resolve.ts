import type { JsonValue, PreprocessSpec, S3Settings } from "../../task-manager/protocol.ts";
import { SplitrunError } from "../errors.ts";
import { arrange, decodingThreads, type Arrangement, type Machine, type Value } from "./arrange.ts";
import { presetDefault } from "./cross-checks.ts";
import { resolveInput } from "./input-spec.ts";
import { JobInvalidError } from "./job-error.ts";
import { Ledger } from "./ledger.ts";
import { absolutePaths, schemeOf } from "./paths.ts";
import { askPolicy, needsCount, policyName, splitSizeDefault, type PolicyDecision } from "./policies.ts";
import { resolvePrices } from "./prices.ts";
import { presetNamed } from "./preset-named.ts";
import { checkPaths, resolveBackend } from "./resolve-backend.ts";
import { looksSecret, referencesOf, type Environment } from "./references.ts";
import { resolveFaults, resolveSupervision } from "./resolve-supervision.ts";
import { settingsWithoutEffect } from "./without-effect.ts";
import { jobSchema, parseJob, type FunctionJobTask, type InferenceJobTask, type Job } from "./schema.ts";
import type {
  InputSpec, OutputSpec, Provenance, ResolvedFunctionTask, ResolvedInferenceTask, ResolvedJob, ResolvedReference, ResolvedTask, S3Keeping,
} from "./types.ts";

export interface ResolveOptions {
  /** Absolute; what the job's relative paths are relative to. */
  readonly baseDir: string;
  readonly machine: Machine;
  /** Items in the input; null: not known, which is enough unless `needsCount(job.policy)` is true. */
  readonly items: number | null;
  /** Most Task Managers, where the caller knows better than the backend; null: the backend's maximum. */
  readonly taskManagersMax: number | null;
  /** In which `{ env: NAME }` is looked up. */
  readonly environment: Environment;
  /** `loadJob`'s. */
  readonly origins: Readonly<Record<string, string>>;
}

export interface Resolution {
  readonly job: ResolvedJob;
  readonly provenance: readonly Provenance[];
  /** What the job says and nothing comes of, a sentence each. */
  readonly withoutEffect: readonly string[];
}

/** 0x3FFF squared: sharp's own limit. */
const maxPixelsDefault = 268_402_689;
const hostBlockedMsDefault = 300_000;
const partItemsDefault = 10_000;
const checkpointMsDefault = 60_000;
const foundByItself = "default: found while it runs, by what each host bears";

/**
 * Decides all that a job leaves open: the job or the defaults, then the policy, then the maxima.
 * @throws JobInvalidError, SplitrunError (INPUT_NOT_FOUND, POLICY_INVALID, ENV_MISSING)
 */
export async function resolveJob(userJob: Job, options: ResolveOptions): Promise<Resolution> {
  const job = parseJob(absolutePaths(userJob, options.baseDir));
  const ledger = new Ledger(options.origins);
  const backend = resolveBackend(job, ledger);
  const resources = resolveResources(job, ledger);
  const arrangement = arrange({ backend: backend.kind, machine: options.machine, ...resources });

  const name = ledger.settle("name", job.name, "job");
  const input = await resolveInput(job, ledger);
  checkPaths(job, backend, input);
  const { sizing, taskManagers } = await resolveSizes(job, input, arrangement, options, ledger);
  checkMinimum(resources.minTaskManagers, taskManagers);
  const task = resolveTask(job.task, arrangement.coresEach(taskManagers), ledger);
  const hostBlockedMs = task.kind === "function"
    ? hostBlockedMsDefault
    : ledger.settle("task.download.hostBlockedMs", downloadOf(job)?.hostBlockedMs, hostBlockedMsDefault);
  const s3 = s3SettingsOf(job);
  const resolved: ResolvedJob = {
    name,
    baseDir: options.baseDir,
    input,
    bucket: ledger.settle<string | null>("bucket", job.bucket ?? undefined, null),
    s3: {
      requesterPays: ledger.settle("s3.requesterPays", job.s3?.requesterPays, s3.requesterPays),
      forcePathStyle: ledger.settle<boolean | null>("s3.forcePathStyle", job.s3?.forcePathStyle, s3.forcePathStyle, "default: wherever the environment sets the endpoint"),
    },
    s3Keeping: resolveKeeping(job, ledger),
    task,
    backend,
    policy: policyName(job.policy ?? "guided"),
    sizing,
    taskManagers,
    resources: {
      maxRamPerWorkerMb: resources.maxRamPerWorkerMb,
      coresPerWorker: resources.coresPerWorker,
      maxTasksPerWorker: resources.maxTasksPerWorker,
      minTaskManagers: resources.minTaskManagers,
    },
    env: settleReferences("env", job.env, ledger),
    ...resolveSupervision(job, ledger),
    hostBlockedMs,
    budget: { maxCostUsd: ledger.settle<number | null>("budget.maxCostUsd", job.budget?.maxCostUsd, null) },
    prices: await resolvePrices(job.prices, ledger),
    faults: resolveFaults(job, ledger),
    share: ledger.settle("share", job.share, 1),
    priority: ledger.settle("priority", job.priority, 0),
    output: resolveOutput(job.output, ledger),
  };
  checkReferences(resolved, options.environment);
  return { job: resolved, provenance: ledger.inOrderOf(Object.keys(jobSchema.shape)), withoutEffect: settingsWithoutEffect(job, resolved) };
}

/** What `input` says, complete, for those who have to count before they can resolve the job. */
export async function resolveInputOf(userJob: Job, { baseDir }: { readonly baseDir: string }): Promise<InputSpec> {
  return resolveInput(parseJob(absolutePaths(userJob, baseDir)), new Ledger({}));
}

/** What `s3` says, complete, for the same. */
export function s3SettingsOf({ s3 }: Job): S3Settings {
  return { requesterPays: s3?.requesterPays ?? false, forcePathStyle: s3?.forcePathStyle ?? null };
}

/** How `s3` wants objects kept that are put. */
export function s3KeepingOf({ s3 }: Job): S3Keeping {
  const { encryption, kmsKeyId, storageClass } = s3 ?? {};
  return {
    encryption: encryption === "kms" ? { kind: "kms", keyId: kmsKeyId ?? null } : encryption === "s3" ? { kind: "s3" } : null,
    storageClass: storageClass ?? null,
  };
}

function resolveResources(job: Job, ledger: Ledger) {
  const given = job.resources ?? {};
  return {
    maxRamPerWorkerMb: ledger.settle<number | null>("resources.maxRamPerWorkerMb", given.maxRamPerWorkerMb, null),
    coresPerWorker: ledger.settle<number | null>("resources.coresPerWorker", given.coresPerWorker, null),
    workersPerNode: ledger.settle<number | null>("resources.workersPerNode", given.workersPerNode, null),
    maxTasksPerWorker: ledger.settle<number | null>("resources.maxTasksPerWorker", given.maxTasksPerWorker, null),
    minTaskManagers: ledger.settle("resources.minTaskManagers", given.minTaskManagers, 1),
  };
}

async function resolveSizes(
  job: Job,
  input: InputSpec,
  arrangement: Arrangement,
  options: ResolveOptions,
  ledger: Ledger,
): Promise<{ readonly sizing: ResolvedJob["sizing"]; readonly taskManagers: number }> {
  const policy = job.policy ?? "guided";
  const byPolicy = `policy ${policyName(policy)}`;
  ledger.settle("policy", job.policy === undefined ? undefined : policyName(policy), "guided");

  const asked = {
    splitSize: ledger.settle("splitSize", job.splitSize, splitSizeDefault),
    taskManagers: ledger.settle("taskManagers", job.taskManagers, arrangement.taskManagers.value, arrangement.taskManagers.rule),
  };
  const max = options.taskManagersMax === null
    ? arrangement.taskManagersMax
    : { value: options.taskManagersMax, rule: `maximum of the orchestrator: ${options.taskManagersMax}` };

  let decision: PolicyDecision = {};
  if (policy !== "guided") {
    const items = needsCount(policy) ? counted(options.items, input, byPolicy) : 0;
    decision = await askPolicy(policy, { items, ...asked, taskManagersMax: max.value });
  }
  if (decision.splitSize !== undefined) ledger.note("splitSize", decision.splitSize, byPolicy);
  if (decision.taskManagers !== undefined) ledger.note("taskManagers", decision.taskManagers, byPolicy);

  const wanted = decision.taskManagers ?? asked.taskManagers;
  const taskManagers = Math.min(wanted, max.value);
  if (taskManagers < wanted) ledger.note("taskManagers", taskManagers, max.rule);
  return { sizing: resolveSizing(job, decision.splitSize ?? asked.splitSize, ledger), taskManagers };
}

function resolveSizing(job: Job, splitSize: number, ledger: Ledger): ResolvedJob["sizing"] {
  const given = job.heterogeneousSplits ?? [];
  ledger.settle("heterogeneousSplits", job.heterogeneousSplits === undefined ? undefined : [...given], []);
  if (given.length > 0) {
    ledger.note("splitSize", [...given], "heterogeneousSplits, in turn");
    return { kind: "fixed", sizes: given };
  }
  if ((job.policy ?? "guided") !== "guided") return { kind: "fixed", sizes: [splitSize] };
  const unused = job.splitSize === undefined ? "" : `; the job's ${job.splitSize} is for the other policies`;
  ledger.note("splitSize", null, `policy guided: sized when a split is asked for${unused}`);
  return { kind: "guided" };
}

/** The limit is part of the input: a policy shares out what is going to be read. */
function counted(items: number | null, { limit, format }: InputSpec, policy: string): number {
  if (items === null) {
    throw new SplitrunError(`${policy} needs the number of items, and input of format ${format} cannot be counted beforehand; write it to a file, or choose policy guided or none`, {
      code: "INPUT_UNCOUNTED",
      field: "policy",
      value: policy,
    });
  }
  return limit === null ? items : Math.min(items, limit);
}

function checkMinimum(minTaskManagers: number, taskManagers: number): void {
  if (minTaskManagers <= taskManagers) return;
  throw new JobInvalidError([{
    field: "resources.minTaskManagers",
    value: minTaskManagers,
    message: `${minTaskManagers} is more than the ${taskManagers} that there will be at most; lower it, or raise taskManagers (splitrun plan shows what limits it)`,
  }]);
}

function resolveTask(task: Job["task"], cores: Value, ledger: Ledger): ResolvedTask {
  ledger.note("task.kind", task.kind ?? "inference", ledger.originOf("task.kind"));
  return task.kind === "function" ? resolveFunction(task, cores, ledger) : resolveInference(task, cores, ledger);
}

function resolveFunction(task: FunctionJobTask, cores: Value, ledger: Ledger): ResolvedFunctionTask {
  ledger.note("task.module", task.module, ledger.originOf("task.module"));
  return {
    kind: "function",
    module: task.module,
    concurrency: ledger.settle("task.concurrency", task.concurrency, 1),
    threads: ledger.settle("task.threads", task.threads, cores.value, cores.rule),
  };
}

function resolveInference(task: InferenceJobTask, cores: Value, ledger: Ledger): ResolvedInferenceTask {
  ledger.note("task.model", task.model, ledger.originOf("task.model"));
  const { download = {}, infer = {}, postprocess = {} } = task;
  const field = (name: string) => `task.${name}`;
  const preset = postprocess.preset;
  if (preset !== undefined) ledger.note(field("postprocess.preset"), preset, ledger.originOf(field("postprocess.preset")));
  const labels = postprocess.labels ?? null;
  ledger.note(field("postprocess.labels"), Array.isArray(labels) ? `${labels.length} labels` : (labels as string | null),
    labels === null ? "default" : ledger.originOf(field("postprocess.labels")));
  return {
    kind: "inference",
    model: task.model,
    download: {
      concurrency: ledger.settle(field("download.concurrency"), download.concurrency, 32),
      timeoutMs: ledger.settle(field("download.timeoutMs"), download.timeoutMs, 30_000),
      idleTimeoutMs: ledger.settle(field("download.idleTimeoutMs"), download.idleTimeoutMs, 5000),
      maxBytes: ledger.settle(field("download.maxBytes"), download.maxBytes, 52_428_800),
      redirectsMax: ledger.settle(field("download.redirectsMax"), download.redirectsMax, 10),
      headers: settleReferences(field("download.headers"), download.headers, ledger),
      certificateAuthorities: ledger.settle<string[]>(field("download.certificateAuthorities"), copied(download.certificateAuthorities), []),
      perHost: {
        concurrency: ledger.settle<number | null>(field("download.perHost.concurrency"), download.perHost?.concurrency, null, foundByItself),
        requestsPerSecond: ledger.settle<number | null>(field("download.perHost.requestsPerSecond"), download.perHost?.requestsPerSecond, null, foundByItself),
      },
    },
    preprocess: resolvePreprocess(task.preprocess ?? {}, decodingThreads(cores), ledger),
    infer: {
      batch: ledger.settle(field("infer.batch"), infer.batch, 8),
      sessions: ledger.settle(field("infer.sessions"), infer.sessions, cores.value, cores.rule),
      intraOpThreads: ledger.settle(field("infer.intraOpThreads"), infer.intraOpThreads, 1),
      interOpThreads: ledger.settle(field("infer.interOpThreads"), infer.interOpThreads, 1),
      batchWaitMs: ledger.settle(field("infer.batchWaitMs"), infer.batchWaitMs, 50),
      executionProviders: ledger.settle<string[]>(field("infer.executionProviders"), copied(infer.executionProviders), ["cpu"]),
    },
    postprocess: {
      activation: preset === undefined
        ? ledger.settle(field("postprocess.activation"), postprocess.activation, "softmax")
        : ledger.settle(field("postprocess.activation"), undefined, preset, "preset off-sample"),
      topK: ledger.settle(field("postprocess.topK"), postprocess.topK, 1),
    },
    labels,
  };
}

function resolvePreprocess(given: NonNullable<InferenceJobTask["preprocess"]>, threads: Value, ledger: Ledger): PreprocessSpec {
  const field = (name: string) => `task.preprocess.${name}`;
  const preset = ledger.settle(field("preset"), given.preset, presetDefault);
  const base = presetNamed(preset);
  if (base === undefined) throw new TypeError(`preset ${preset} passed the check and is not there`);
  const byPreset = `preset ${preset}`;
  return {
    concurrency: ledger.settle(field("concurrency"), given.concurrency, threads.value, threads.rule),
    maxPixels: ledger.settle(field("maxPixels"), given.maxPixels, maxPixelsDefault),
    resize: {
      width: ledger.settle(field("resize.width"), given.resize?.width, base.resize.width, byPreset),
      height: ledger.settle(field("resize.height"), given.resize?.height, base.resize.height, byPreset),
      fit: ledger.settle(field("resize.fit"), given.resize?.fit, base.resize.fit, byPreset),
      kernel: ledger.settle(field("resize.kernel"), given.resize?.kernel, base.resize.kernel, byPreset),
    },
    crop: ledger.settle<PreprocessSpec["crop"]>(field("crop"), given.crop === undefined ? undefined : given.crop && { ...given.crop }, base.crop, byPreset),
    colorOrder: ledger.settle(field("colorOrder"), given.colorOrder, base.colorOrder, byPreset),
    layout: ledger.settle(field("layout"), given.layout, base.layout, byPreset),
    dtype: ledger.settle(field("dtype"), given.dtype, base.dtype, byPreset),
    scale: ledger.settle(field("scale"), given.scale, base.scale, byPreset),
    mean: ledger.settle<number[]>(field("mean"), copied(given.mean), base.mean, byPreset),
    std: ledger.settle<number[]>(field("std"), copied(given.std), base.std, byPreset),
  };
}

function resolveOutput(output: Job["output"], ledger: Ledger): OutputSpec {
  const given = typeof output === "object" ? output : output === undefined ? undefined : { to: output };
  const to = ledger.settle("output.to", given?.to, "print");
  if (to === "print") return { kind: "print" };
  const format = ledger.settle("output.format", given?.format, "jsonl");
  if (schemeOf(to) === null) return { kind: "directory", dir: to, format, order: ledger.settle("output.order", given?.order, "completion") };
  return {
    kind: "s3",
    url: to.endsWith("/") ? to : `${to}/`,
    format,
    order: ledger.settle("output.order", given?.order, "input"),
    partItems: ledger.settle("output.partItems", given?.partItems, partItemsDefault),
    checkpointMs: ledger.settle("output.checkpointMs", given?.checkpointMs, checkpointMsDefault),
  };
}

function resolveKeeping(job: Job, ledger: Ledger): S3Keeping {
  const { s3 } = job;
  ledger.settle<string | null>("s3.encryption", s3?.encryption, null, "default: as the bucket has it");
  ledger.settle<string | null>("s3.kmsKeyId", s3?.kmsKeyId, null);
  ledger.settle<string | null>("s3.storageClass", s3?.storageClass, null, "default: as S3 has it");
  return s3KeepingOf(job);
}

/** The plan shows names of variables, and of literal values only those that are no secret. */
function settleReferences(
  field: string,
  given: Readonly<Record<string, ResolvedReference>> | undefined,
  ledger: Ledger,
): Readonly<Record<string, ResolvedReference>> {
  const visible = Object.fromEntries(Object.entries(given ?? {}).map(([name, value]): [string, JsonValue] =>
    [name, typeof value !== "string" ? { env: value.env } : looksSecret(name) ? "(hidden)" : value]));
  ledger.note(field, visible, given === undefined ? "default" : ledger.originOf(field));
  return given ?? {};
}

function checkReferences(job: ResolvedJob, environment: Environment): void {
  const references = [
    ...referencesOf("env", job.env),
    ...(job.task.kind === "inference" ? referencesOf("task.download.headers", job.task.download.headers) : []),
  ];
  const missing = references.filter(({ env }) => environment[env] === undefined);
  const [first] = missing;
  if (first === undefined) return;
  const lines = missing.map(({ field, env }) => `${field}: the environment variable ${env} is not set; set it`);
  throw new SplitrunError(lines.join("\n"), { code: "ENV_MISSING", field: first.field, value: first.env });
}

function downloadOf(job: Job): InferenceJobTask["download"] {
  return job.task.kind === "function" ? undefined : job.task.download;
}

function copied<Value>(values: readonly Value[] | undefined): Value[] | undefined {
  return values === undefined ? undefined : [...values];
}
