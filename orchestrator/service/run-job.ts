import { defaultCacheDir } from "../jobs/content-cache.ts";
import { jobForRecord } from "../jobs/record.ts";
import type { Job } from "../jobs/schema.ts";
import type { Progress } from "../observe/progress.ts";
import { executeAlone, type ExecuteOptions, type RunResult } from "./execute-job.ts";
import { prepareJob, type PreparedJob } from "./prepare-job.ts";
import { createStopSwitch } from "./stop-switch.ts";

export interface RunJobOptions {
  /** Ends the run as Ctrl-C does: what is begun may end, the rest can be resumed. */
  readonly signal?: AbortSignal;
  /** About five times a second; only what is stored counts. */
  readonly onProgress?: (progress: Progress) => void;
  /** Set aside what the home holds and start anew. @default false */
  readonly fresh?: boolean;
  /** Use a home whose lock belongs to another machine. @default false */
  readonly takeOver?: boolean;
}

/**
 * Runs a job to its end: an object, or the path of a job file.
 *
 * ```ts
 * const result = await runJob({ input: "urls.txt", task: { kind: "inference", model: "model.onnx" }, output: "out" });
 * for await (const item of result.items()) console.log(item.input, item.output ?? item.error);
 * ```
 * @returns once every item has its result or error, or the run was stopped: see `state`
 * @throws SplitrunError when the job is wrong or cannot be started; then nothing was done
 */
export async function runJob(job: Job | string, options: RunJobOptions = {}): Promise<RunResult> {
  const cwd = process.cwd();
  const prepared = await prepareJob(job, {}, { cwd, stdin: process.stdin, offer: null, items: null });
  const parts = { cwd, cacheDir: defaultCacheDir(process.env), stop: createStopSwitch(options.signal), onProgress: options.onProgress ?? null, onStored: null, onHome: null };
  return executeAlone(prepared.job, executionOf(prepared, options, parts));
}

/** A job of the library as it is executed: what is done already is kept, what failed is tried again. */
export function executionOf(
  { job, withoutEffect, stdin }: PreparedJob,
  { fresh = false, takeOver = false }: RunJobOptions,
  parts: Pick<ExecuteOptions, "cwd" | "cacheDir" | "stop" | "onProgress" | "onStored" | "onHome">,
): ExecuteOptions {
  return { ...parts, mode: "run", home: null, fresh, takeOver, taken: null, retryFailed: true, stdin, record: jobForRecord(job), withoutEffect, onNote: null };
}
