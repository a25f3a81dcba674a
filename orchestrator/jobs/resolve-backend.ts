import { JobInvalidError } from "./job-error.ts";
import type { Ledger } from "./ledger.ts";
import { schemeOf } from "./paths.ts";
import type { Job, LambdaBackend } from "./schema.ts";
import type { BackendSpec, InputSpec, LambdaSpec, PullSpec } from "./types.ts";

const keepWarmEveryMs = 240_000;
const splitSecondsDefault = 60;

/** Where Task Managers run, complete. */
export function resolveBackend(job: Job, ledger: Ledger): BackendSpec {
  const { backend = "local" } = job;
  const kind = ledger.settle("backend.kind", job.backend === undefined ? undefined : typeof backend === "object" ? backend.kind : backend, "local");
  if (kind !== "lambda") return { kind };
  const given: Partial<LambdaBackend> = typeof backend === "object" && backend.kind === "lambda" ? backend : {};
  const field = (name: string) => `backend.${name}`;
  return {
    kind,
    functionName: ledger.settle(field("functionName"), given.functionName, "splitrun"),
    qualifier: ledger.settle(field("qualifier"), given.qualifier, "live"),
    region: ledger.settle<string | null>(field("region"), given.region ?? undefined, null, "default: as the AWS SDK finds it"),
    stagingBucket: ledger.settle<string | null>(field("stagingBucket"), given.stagingBucket ?? undefined, null),
    memoryStepUpMb: ledger.settle<number | null>(field("memoryStepUpMb"), given.memoryStepUpMb ?? undefined, null),
    buffered: ledger.settle(field("buffered"), given.buffered, false),
    keepWarm: ledger.settle<LambdaSpec["keepWarm"]>(field("keepWarm"),
      given.keepWarm === undefined || given.keepWarm === null ? undefined : { everyMs: keepWarmEveryMs, ...given.keepWarm }, null),
    forceColdStart: ledger.settle(field("forceColdStart"), given.forceColdStart, false),
    splitSeconds: ledger.settle(field("splitSeconds"), given.splitSeconds, splitSecondsDefault),
    sharedFilesystem: ledger.settle(field("sharedFilesystem"), given.sharedFilesystem, false),
    pull: ledger.settle<LambdaSpec["pull"]>(field("pull"), pullOf(given.pull), null),
    coresByMemory: !saysCores(job),
  };
}

/** Undefined: the job leaves it out. */
function pullOf(given: LambdaBackend["pull"]): PullSpec | undefined {
  if (given === undefined || given === null || given === false) return undefined;
  return { address: null, host: null, port: 0, ...(given === true ? {} : given) };
}

function saysCores({ task, resources }: Job): boolean {
  if (resources?.coresPerWorker !== undefined) return true;
  return task.kind === "function" ? task.threads !== undefined : task.infer?.sessions !== undefined || task.preprocess?.concurrency !== undefined;
}

/** Can Task Managers of this backend read the paths of this machine? */
export function readsLocalPaths(backend: BackendSpec): boolean {
  return backend.kind !== "lambda" || backend.sharedFilesystem;
}

/**
 * Items that are files of this machine are nothing to Task Managers elsewhere. In lists that are read later they are
 * errors one by one.
 * @throws JobInvalidError
 */
export function checkPaths(job: Job, backend: BackendSpec, { from, format }: InputSpec): void {
  if (readsLocalPaths(backend) || job.task.kind === "function") return;
  const path = typeof from === "string" ? ((format === "folder" || format === "glob") && schemeOf(from) === null ? from : undefined) : firstPath(from, job.bucket ?? null);
  if (path === undefined) return;
  throw new JobInvalidError([{
    field: "input",
    value: path,
    message: `${JSON.stringify(path)} is on this machine, where backend ${backend.kind} cannot read it; give s3:// or http(s) URLs, or set backend.sharedFilesystem: true where the path is the same there`,
  }]);
}

function firstPath(items: Exclude<InputSpec["from"], string>, bucket: string | null): string | undefined {
  if (bucket !== null) return undefined;
  return items.find((item): item is string => typeof item === "string" && schemeOf(item) === null && !/^data:/i.test(item));
}
