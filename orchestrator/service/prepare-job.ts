import { readFile, readdir } from "node:fs/promises";
import { availableParallelism, freemem } from "node:os";
import path from "node:path";
import { SplitrunError } from "../errors.ts";
import { countItems } from "../inputs/count-items.ts";
import { openSource, type OpenSourceOptions } from "../inputs/open-source.ts";
import { loadJob, type JobOverrides } from "../jobs/load.ts";
import { needsCount } from "../jobs/policies.ts";
import { resolveInputOf, resolveJob, type Resolution } from "../jobs/resolve.ts";
import type { InputSpec } from "../jobs/types.ts";
import { twice } from "./spool.ts";

const countedAtOnce = 4096;

export interface PreparedJob extends Resolution {
  /** Standard input as the run has to read it: a copy, where it was read already to count its items. */
  readonly stdin: NodeJS.ReadableStream;
}

/** From what the user wrote to a job in which nothing is left to be decided. */
export async function prepareJob(
  source: unknown,
  overrides: JobOverrides,
  { cwd, stdin }: { readonly cwd: string; readonly stdin: NodeJS.ReadableStream },
): Promise<PreparedJob> {
  const { job, baseDir, origins } = await loadJob(source, overrides, { cwd });
  const options = {
    baseDir,
    machine: { cores: availableParallelism(), freeMemoryMb: Math.floor(freemem() / 1e6) },
    taskManagersMax: null,
    environment: process.env,
    origins,
  };
  if (!needsCount(job.policy)) return { ...(await resolveJob(job, { ...options, items: null })), stdin };
  const input = await resolveInputOf(job, { baseDir });
  const reading = { baseDir, bucket: null, stdin, itemKind: job.task.kind === "inference" ? "image" : "value" } as const;
  if (input.from !== "-") return { ...(await resolveJob(job, { ...options, items: await countItems(input, reading) })), stdin };
  const [counted, kept] = await twice(stdin);
  const items = await countByReading(input, { ...reading, stdin: counted });
  return { ...(await resolveJob(job, { ...options, items })), stdin: kept };
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
