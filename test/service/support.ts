import { writeFile } from "node:fs/promises";
import path from "node:path";
import { onTestFinished } from "vitest";
import type { Job } from "../../orchestrator/jobs/schema.ts";
import { createOrchestrator, type Orchestrator, type OrchestratorOptions } from "../../orchestrator/service/orchestrator.ts";
import type { JobHandle } from "../../orchestrator/service/queued-job.ts";
import type { Outcome } from "../../orchestrator/results/types.ts";
import { jsonLines } from "../support/cli.ts";
import { temporaryFolder } from "../support/function-task.ts";

/** One module for all tests: an item says how long it takes, and what becomes of it. */
const source = `
export default async (item) => {
  const { ms = 0, fail = false, pid = false, value = null } = item;
  if (ms > 0) await new Promise((resolve) => setTimeout(resolve, ms));
  if (fail) throw new Error("no luck");
  return pid ? process.pid : value;
};
`;

export interface Workshop {
  readonly folder: string;
  readonly orchestrator: Orchestrator;
  /** A job with a home of its own. */
  job(name: string, input: Job["input"], more?: Partial<Job>): Job;
  home(name: string): string;
  lines(name: string): Promise<readonly Outcome[]>;
}

/** An orchestrator with a folder and a cache of its own, closed after the test with all that it still does. */
export async function workshop(options: OrchestratorOptions): Promise<Workshop> {
  const folder = await temporaryFolder(onTestFinished);
  process.env["SPLITRUN_CACHE_DIR"] = path.join(folder, "cache");
  const module = path.join(folder, "work.mjs");
  await writeFile(module, source);
  const orchestrator = createOrchestrator(options);
  const handles: JobHandle[] = [];
  onTestFinished(async () => {
    // Once: what is begun may end. Twice: at once.
    for (const handle of handles) handle.cancel();
    for (const handle of handles) handle.cancel();
    await orchestrator.close();
  });
  const home = (name: string) => path.join(folder, name);
  return {
    folder,
    orchestrator: {
      ...orchestrator,
      enqueueJob(job, jobOptions) {
        const handle = orchestrator.enqueueJob(job, jobOptions);
        handles.push(handle);
        return handle;
      },
    },
    job: (name, input, more = {}) => ({
      name,
      input,
      task: { kind: "function", module, concurrency: 1, threads: 1 },
      heartbeat: { reportMs: 20, everyMs: 200 },
      output: home(name),
      ...more,
    }),
    home,
    lines: (name) => jsonLines<Outcome>(path.join(home(name), "results.jsonl")),
  };
}

export const items = (count: number, item: { readonly ms?: number; readonly pid?: boolean }) => Array.from({ length: count }, (_, value) => ({ ...item, value }));

export async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 10));
}

/** The same for something that only comes while the jobs run: one that has ended says why. */
export async function untilWith(handles: readonly JobHandle[], condition: () => boolean): Promise<void> {
  await until(async () => {
    if (condition()) return true;
    for (const { state, done } of handles) if (state !== "queued" && state !== "running") throw new Error(`the job has ended: ${JSON.stringify((await done).summary)}`);
    return false;
  });
}

export function indexesOf(lines: readonly Outcome[]): readonly number[] {
  return lines.map(({ index }) => index).sort((a, b) => a - b);
}

export const upTo = (count: number) => Array.from({ length: count }, (_, index) => index);
