import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach } from "vitest";
import type { Machine } from "../../orchestrator/jobs/arrange.ts";
import { JobInvalidError } from "../../orchestrator/jobs/job-error.ts";
import { resolveJob, type Resolution, type ResolveOptions } from "../../orchestrator/jobs/resolve.ts";
import { parseJob, type Job } from "../../orchestrator/jobs/schema.ts";

const directories: string[] = [];

afterEach(async () => {
  await Promise.all(directories.splice(0).map((directory) => rm(directory, { recursive: true, force: true })));
});

export async function temporaryDirectory(): Promise<string> {
  const directory = await mkdtemp(path.join(tmpdir(), "splitrun jobs é-"));
  directories.push(directory);
  return directory;
}

export async function directoryWith(files: Readonly<Record<string, string>>): Promise<string> {
  const directory = await temporaryDirectory();
  await Promise.all(Object.entries(files).map(([name, text]) => writeFile(path.join(directory, name), text)));
  return directory;
}

export const fourCores: Machine = { cores: 4, freeMemoryMb: 9000 };

export const smallJob = { input: ["a.jpg", "b.jpg"], task: { kind: "inference", model: "/models/m.onnx" } } as const satisfies Job;

export function resolve(job: unknown, options: Partial<ResolveOptions> = {}): Promise<Resolution> {
  return resolveJob(job as Job, {
    baseDir: "/base",
    machine: fourCores,
    items: null,
    taskManagersMax: null,
    environment: {},
    origins: {},
    ...options,
  });
}

/** The lines that a wrong job is refused with. */
export function refusal(job: unknown): readonly string[] {
  try {
    parseJob(job);
  } catch (error) {
    if (error instanceof JobInvalidError) return error.problems.map(({ field, message }) => `${field}: ${message}`);
    throw error;
  }
  return [];
}

/** Seed of the randomised tests; `SPLITRUN_SEED` replays a run. */
export const seed = Number(process.env["SPLITRUN_SEED"] ?? Math.floor(Math.random() * 2 ** 31));
