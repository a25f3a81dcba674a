import { readFile, readdir } from "node:fs/promises";
import { availableParallelism, freemem } from "node:os";
import path from "node:path";
import { SplitrunError } from "../errors.ts";
import { countItems } from "../inputs/count-items.ts";
import { loadJob, type JobOverrides } from "../jobs/load.ts";
import { needsCount } from "../jobs/policies.ts";
import { resolveInputOf, resolveJob, type Resolution } from "../jobs/resolve.ts";

/** From what the user wrote to a job in which nothing is left to be decided. */
export async function prepareJob(
  source: unknown,
  overrides: JobOverrides,
  { cwd, stdin }: { readonly cwd: string; readonly stdin: NodeJS.ReadableStream },
): Promise<Resolution> {
  const { job, baseDir, origins } = await loadJob(source, overrides, { cwd });
  const options = {
    baseDir,
    machine: { cores: availableParallelism(), freeMemoryMb: Math.floor(freemem() / 1e6) },
    taskManagersMax: null,
    environment: process.env,
    origins,
  };
  const items = needsCount(job.policy)
    ? await countItems(await resolveInputOf(job, { baseDir }), {
        baseDir,
        bucket: null,
        stdin,
        itemKind: job.task.kind === "inference" ? "image" : "value",
      })
    : null;
  return resolveJob(job, { ...options, items });
}

/**
 * The job that a home's last run recorded.
 * @throws SplitrunError HOME_EMPTY
 */
export async function recordedJob(home: string): Promise<unknown> {
  const runs = path.join(home, "runs");
  const names = (await readdir(runs).catch(() => [])).sort().reverse();
  for (const name of names) {
    const text = await readFile(path.join(runs, name, "job.json"), "utf8").catch(() => null);
    if (text !== null) return JSON.parse(text) as unknown;
  }
  throw new SplitrunError(`${home} holds no run that could be resumed; start one with \`splitrun run --output ${home} …\``, {
    code: "HOME_EMPTY",
    value: home,
  });
}
