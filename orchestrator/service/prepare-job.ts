import { readFile, readdir } from "node:fs/promises";
import { availableParallelism, freemem } from "node:os";
import path from "node:path";
import { SplitrunError } from "../errors.ts";
import { countItems } from "../inputs/count-items.ts";
import { openSource, type OpenSourceOptions } from "../inputs/open-source.ts";
import { loadJob, type JobOverrides, type LoadedJob } from "../jobs/load.ts";
import type { BackendName } from "../jobs/names.ts";
import { needsCount } from "../jobs/policies.ts";
import { resolveInputOf, resolveJob, s3SettingsOf, type Resolution } from "../jobs/resolve.ts";
import type { Job, LambdaBackend } from "../jobs/schema.ts";
import type { InputSpec } from "../jobs/types.ts";
import { twice } from "./spool.ts";

const countedAtOnce = 4096;

export interface PreparedJob extends Resolution {
  /** Standard input as the run has to read it: a copy, where it was read already to count its items. */
  readonly stdin: NodeJS.ReadableStream;
}

/** What an orchestrator says about all of its jobs. */
export interface Offer {
  /** Where they may run; one that does not say where gets the first. */
  readonly backends: readonly [BackendName, ...BackendName[]];
  /** Of backend lambda, where a job says no more than its name; null: the defaults. */
  readonly lambda: LambdaBackend | null;
  /** Of those that name none; undefined: the default. */
  readonly policy: Job["policy"];
  /** Most Task Managers of one; null: what its backend can have. */
  readonly taskManagersMax: number | null;
}

export interface PrepareJobOptions {
  readonly cwd: string;
  readonly stdin: NodeJS.ReadableStream;
  /** null: the job is alone. */
  readonly offer: Offer | null;
  /** Of the list, where they are known without reading it; null: they are counted where that is needed. */
  readonly items: number | null;
}

/**
 * From what the user wrote to a job in which nothing is left to be decided.
 * @throws JobInvalidError and what else is wrong with it; SplitrunError BACKEND_NOT_OFFERED
 */
export async function prepareJob(source: unknown, overrides: JobOverrides, prepare: PrepareJobOptions): Promise<PreparedJob> {
  const { cwd, stdin, offer, items: known } = prepare;
  const loaded = await loadJob(source, overrides, { cwd });
  const { job, baseDir, origins } = offer === null ? loaded : asOffered(loaded, offer);
  const options = {
    baseDir,
    machine: { cores: availableParallelism(), freeMemoryMb: Math.floor(freemem() / 1e6) },
    taskManagersMax: offer?.taskManagersMax ?? null,
    environment: process.env,
    origins,
  };
  if (known !== null || !needsCount(job.policy)) return { ...(await resolveJob(job, { ...options, items: known })), stdin };
  const input = await resolveInputOf(job, { baseDir });
  const reading = { baseDir, bucket: job.bucket ?? null, s3: s3SettingsOf(job), stdin, itemKind: job.task.kind === "inference" ? "image" : "value", localPaths: true } as const;
  if (input.from !== "-") return { ...(await resolveJob(job, { ...options, items: await countItems(input, reading) })), stdin };
  const [counted, kept] = await twice(stdin);
  const items = await countByReading(input, { ...reading, stdin: counted });
  return { ...(await resolveJob(job, { ...options, items })), stdin: kept };
}

function asOffered(loaded: LoadedJob, { backends, lambda, policy }: Offer): LoadedJob {
  const { job, origins } = loaded;
  const kind = kindOf(job) ?? backends[0];
  if (!backends.includes(kind)) throw notOffered(kind, backends);
  const backend = typeof job.backend === "object" ? job.backend : kind === "lambda" && lambda !== null ? lambda : kind;
  const said = "the orchestrator";
  return {
    ...loaded,
    job: { ...(policy === undefined ? {} : { policy }), ...job, backend },
    origins: { ...(job.backend === undefined ? { "backend.kind": said } : {}), ...(job.policy === undefined && policy !== undefined ? { policy: said } : {}), ...origins },
  };
}

function notOffered(backend: BackendName, backends: readonly BackendName[]): SplitrunError {
  const wayOut = `name one of them, or add it: createOrchestrator({ backends: ${JSON.stringify([...backends, backend])} })`;
  return new SplitrunError(`backend: ${JSON.stringify(backend)} is not among this orchestrator's backends (${backends.join(", ")}); ${wayOut}`, {
    code: "BACKEND_NOT_OFFERED",
    field: "backend",
    value: backend,
  });
}

async function countByReading(input: InputSpec, options: OpenSourceOptions): Promise<number> {
  const source = await openSource(input, options);
  try {
    let count = 0;
    for (let items = await source.read(countedAtOnce); items.length > 0; items = await source.read(countedAtOnce)) count += items.length;
    return count;
  } finally {
    await source.close();
  }
}

/**
 * The job that a home's last run recorded, for those who go on with it.
 * @param set what they say otherwise
 * @throws SplitrunError HOME_EMPTY; JobInvalidError where `set` makes no backend
 */
export async function recordedJob(home: string, set: readonly string[]): Promise<Job> {
  for (const name of (await runsOf(home)).toReversed()) {
    const text = await readFile(path.join(home, "runs", name, "job.json"), "utf8").catch(() => null);
    if (text !== null) return fitToBackend(JSON.parse(text) as Job, set);
  }
  throw new SplitrunError(`${home} holds no run that could be resumed; start one with \`splitrun run --output ${home} …\``, {
    code: "HOME_EMPTY",
    value: home,
  });
}

/** What paid off on one backend is no guide for another. */
async function fitToBackend(recorded: Job, set: readonly string[]): Promise<Job> {
  const { job } = await loadJob(recorded, { set: set.filter((text) => /^backend[.=]/.test(text)) }, { cwd: process.cwd() });
  if (kindOf(job) === kindOf(recorded)) return recorded;
  const { taskManagers: _taskManagers, task, ...rest } = recorded;
  return { ...rest, task: unarranged(task) };
}

function unarranged(task: Job["task"]): Job["task"] {
  if (task.kind === "function") {
    const { threads: _threads, ...rest } = task;
    return rest;
  }
  const { concurrency: _concurrency, ...preprocess } = task.preprocess ?? {};
  const { sessions: _sessions, ...infer } = task.infer ?? {};
  return { ...task, preprocess, infer };
}

function kindOf({ backend }: Job): BackendName | undefined {
  return typeof backend === "object" ? backend.kind : backend;
}

/** Names of a home's runs, the last one at the end. */
export async function runsOf(home: string): Promise<readonly string[]> {
  return (await readdir(path.join(home, "runs")).catch(() => [])).sort();
}
