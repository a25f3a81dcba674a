import { SplitrunError } from "../errors.ts";
import type { Job } from "../jobs/schema.ts";
import { nothingYet, type Progress } from "../observe/progress.ts";
import type { RunState } from "../observe/summary.ts";
import { followOutcomes } from "../results/follow-outcomes.ts";
import type { Outcome } from "../results/types.ts";
import { executeJob, neverStarted, type RunResult } from "./execute-job.ts";
import type { JobQueue, Queued } from "./job-queue.ts";
import { prepareJob, type Offer } from "./prepare-job.ts";
import { executionOf, type RunJobOptions } from "./run-job.ts";
import type { Service } from "./service.ts";
import { createStopSwitch } from "./stop-switch.ts";
import { createStoredCount } from "./stored-count.ts";

/** `refused`: it is wrong or could not be started, and `done` says why; the others behind `running` are those of its result. */
export type JobState = "queued" | "running" | RunState | "refused";

/** A job in an orchestrator. */
export interface JobHandle {
  /** Among the jobs of this orchestrator. */
  readonly id: string;
  readonly state: JobState;
  /** As of at most 0.2 s ago; only what is stored counts. */
  readonly progress: Progress;
  /**
   * Every item's outcome once, in the order of completion, while the job runs; it waits for more until the job has
   * ended. Those that an earlier run had stored come last.
   */
  items(): AsyncIterable<Outcome>;
  /** Resolves, with a state, when the job has ended or was cancelled; rejects when it is wrong and nothing was done. */
  readonly done: Promise<RunResult>;
  /** What is begun may end, the rest can be resumed; called again: ends at once. One that is still queued never starts. */
  cancel(): void;
}

/** What a job needs of its orchestrator. */
export interface JobHost {
  readonly service: Service;
  readonly queue: JobQueue;
  readonly cacheDir: string;
  readonly offer: Offer;
  /** Makes the place ready that a job is to run in; null: it is, or the job finds out that it is not. */
  readonly ready: ((backend: string) => Promise<void>) | null;
}

export interface StartedJob {
  readonly handle: JobHandle;
  /** Never rejects. */
  readonly ended: Promise<void>;
}

export function startJob(job: Job | string, options: RunJobOptions, number: number, host: JobHost): StartedJob {
  const stop = createStopSwitch(options.signal);
  const stored = createStoredCount();
  let state: JobState = "queued";
  let progress = nothingYet;
  let homeFound: (home: string | null) => void = () => undefined;
  const home = new Promise<string | null>((resolve) => {
    homeFound = resolve;
  });

  async function run(): Promise<RunResult> {
    const cwd = process.cwd();
    const prepared = await prepareJob(job, {}, { cwd, stdin: process.stdin, offer: host.offer, items: null });
    await host.ready?.(prepared.job.backend.kind);
    const execution = executionOf(prepared, options, {
      cwd,
      cacheDir: host.cacheDir,
      stop,
      onProgress(next) {
        progress = next;
        options.onProgress?.(next);
      },
      onStored: (outcomes) => stored.add(outcomes.length),
      onHome: homeFound,
    });
    if (stop.isRequested || !(await turnOf(prepared.job.priority))) return neverStarted(prepared.job, execution);
    state = "running";
    try {
      return await executeJob(prepared.job, host.service, execution);
    } finally {
      host.queue.ended();
    }
  }

  /** False: it was cancelled while it waited. */
  function turnOf(priority: number): Promise<boolean> {
    return new Promise((resolve) => {
      const queued: Queued = { priority, number, start: () => resolve(true) };
      host.queue.add(queued);
      void stop.requested.then(() => {
        if (host.queue.remove(queued)) resolve(false);
      });
    });
  }

  async function* items(): AsyncGenerator<Outcome> {
    const dir = await home;
    // Nothing is stored of a job that never ran; why it did not, `done` says.
    if (dir === null) return void (await done);
    yield* followOutcomes(dir, (lines) => stored.moreThan(lines));
  }

  const done = run().then(
    (result) => {
      state = result.state;
      return result;
    },
    (error: unknown) => {
      state = error instanceof SplitrunError ? "refused" : "failed";
      throw error;
    },
  );
  const ended = done.then(
    () => undefined,
    () => undefined,
  ).then(() => {
    stop.close();
    stored.end();
    homeFound(null);
  });

  const handle: JobHandle = {
    id: `job-${number}`,
    get state() {
      return state;
    },
    get progress() {
      return progress;
    },
    items,
    done,
    cancel: () => stop.request("drain"),
  };
  return { handle, ended };
}
