import { mkdir, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { SplitrunError } from "../errors.ts";
import { sizeOf } from "./compaction.ts";
import { syncDirectory } from "./durable.ts";
import { homeFiles, journalOfTask } from "./home-files.ts";
import type { HomeRecord } from "./home-record.ts";
import { writeRecord } from "./home-record.ts";
import type { HomeOptions } from "./types.ts";

const journalOfAnyTask = /^results\.[0-9A-Za-z_-]{1,8}(?:\.[0-9TZ]+)?\.jsonl$/;

/** What runs leave in a home; home.json is the last to go, since it tells that the rest is ours. */
const ours: readonly string[] = [
  homeFiles.journal, homeFiles.nextJournal, homeFiles.failed, homeFiles.stale, homeFiles.damaged, homeFiles.inputs,
  homeFiles.reused, homeFiles.output, homeFiles.outputParts, homeFiles.nextPart, homeFiles.runs, "results-in-order.jsonl", "results.csv", "results.parquet", homeFiles.record,
];

/** `--fresh`: all that is ours goes to a folder of its own. Returns a note, null where there was nothing. */
export async function setHomeAside(dir: string): Promise<string | null> {
  const names = await readdir(dir);
  const found = [...names.filter((name) => journalOfAnyTask.test(name)), ...ours.filter((name) => names.includes(name))];
  if (found.length === 0) return null;
  const folder = await newFolder(dir);
  for (const name of found) await rename(join(dir, name), join(folder, name));
  await syncDirectory(folder);
  await syncDirectory(dir);
  return `What was in ${dir} was set aside in ${folder}.`;
}

async function newFolder(dir: string): Promise<string> {
  for (let tries = 0; ; tries++) {
    const folder = join(dir, asideName(tries));
    try {
      await mkdir(folder, { mode: 0o700 });
      return folder;
    } catch (error) {
      if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) throw error;
    }
  }
}

/** `set-aside-20261121T130501Z`, and others where it is taken. */
export function asideName(tries: number): string {
  return `set-aside-${timestamp()}${tries === 0 ? "" : `-${tries}`}`;
}

/** `20261121T130501Z`. */
function timestamp(): string {
  return new Date().toISOString().replace(/[-:]|\.\d+/g, "");
}

/** Without home.json no run of ours wrote it. */
export async function refuseForeignJournal(dir: string): Promise<void> {
  // An empty one may be ours: a run that was killed while it opened its home.
  if (((await sizeOf(join(dir, homeFiles.journal))) ?? 0) === 0) return;
  throw new SplitrunError(`${dir} has a ${homeFiles.journal} but no ${homeFiles.record}, so it is not a run's; name another output directory, or set it aside with --fresh`, {
    code: "HOME_FOREIGN",
    field: "output",
    value: dir,
  });
}

/**
 * Another task than the last one's: its journal gives way to the one of this task, if there is one from before.
 * Wherever this is cut, each journal is under its task's name or, if home.json names that task, in its place.
 */
export async function changeTask(dir: string, record: HomeRecord, { fingerprint, source }: HomeOptions): Promise<readonly string[]> {
  const notes: string[] = [];
  const journal = join(dir, homeFiles.journal);
  const bytes = await sizeOf(journal);
  if (bytes === 0) await rm(journal);
  if (bytes !== null && bytes > 0) {
    const name = await freeName(dir, record.fingerprint);
    await rename(journal, join(dir, name));
    await syncDirectory(dir);
    notes.push(`The task has changed, so no earlier result counts: they were set aside in ${name}, and are taken up again when that task returns.`);
  }
  await rm(join(dir, homeFiles.reused), { force: true });
  const returning = await sizeOf(join(dir, journalOfTask(fingerprint)));
  await writeRecord(dir, { ...record, fingerprint, source, list: null, beginning: null, listStart: returning ?? 0 });
  if (returning !== null) notes.push(`Results of this task from an earlier run were taken up again from ${journalOfTask(fingerprint)}.`);
  return notes;
}

async function freeName(dir: string, fingerprint: string): Promise<string> {
  const name = journalOfTask(fingerprint);
  return (await sizeOf(join(dir, name))) === null ? name : name.replace(/jsonl$/, `${timestamp()}.jsonl`);
}

/** Takes up the journal of the task of home.json where it is not in its place. */
export async function takeUpJournal(dir: string, fingerprint: string): Promise<void> {
  if ((await sizeOf(join(dir, homeFiles.journal))) !== null) return;
  if ((await sizeOf(join(dir, journalOfTask(fingerprint)))) === null) return;
  await rename(join(dir, journalOfTask(fingerprint)), join(dir, homeFiles.journal));
  await syncDirectory(dir);
}
