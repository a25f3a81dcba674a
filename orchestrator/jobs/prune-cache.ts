import { randomBytes } from "node:crypto";
import { opendir, rename, rm, stat, utimes, writeFile } from "node:fs/promises";
import path from "node:path";

const dayMs = 86_400_000;
const pruneEveryMs = dayMs;
const unusedMsMax = 30 * dayMs;
/** Longer than the longest download of a model. */
const halfWrittenMsMax = dayMs;

const marker = path.join("index", ".pruned");
const kept = /^[0-9a-f]{64}(?:\.[^/]*)?$/;
const halfWritten = /^(?:\.[0-9a-f]{16}|[0-9a-f]{64}\.json\.[0-9a-f]{12})\.tmp$/;

/**
 * Removes what no job has used for 30 days, and what a killed one left half written: once a day, and only files of the
 * cache's own kinds of names, since the directory may be anyone's.
 */
export async function pruneCache(directory: string): Promise<void> {
  try {
    if (!(await isDue(path.join(directory, marker)))) return;
    for (const folder of [directory, path.join(directory, "index")]) await pruneFolder(folder);
  } catch {
    // Another one's turn, tomorrow: no job is worse off for a file too many.
  }
}

/** Whoever uses a file notes it in its time, before making sure that it is there. */
export async function noteUse(file: string): Promise<void> {
  const now = new Date();
  await utimes(file, now, now).catch(() => undefined);
}

async function isDue(file: string): Promise<boolean> {
  if (await isYounger(file, pruneEveryMs)) return false;
  await writeFile(file, "", { mode: 0o600 });
  await noteUse(file);
  return true;
}

async function pruneFolder(folder: string): Promise<void> {
  for await (const { name } of await opendir(folder)) {
    const file = path.join(folder, name);
    if (halfWritten.test(name)) {
      if (!(await isYounger(file, halfWrittenMsMax))) await rm(file, { force: true });
    } else if (kept.test(name) && !(await isYounger(file, unusedMsMax))) {
      await removeUnused(file);
    }
  }
}

/** Out of the way first: a job that notes its use at this moment gets it back, or finds it gone and makes it anew. */
async function removeUnused(file: string): Promise<void> {
  const aside = path.join(path.dirname(file), `.${randomBytes(8).toString("hex")}.tmp`);
  await rename(file, aside);
  if (await isYounger(aside, unusedMsMax)) await rename(aside, file);
  else await rm(aside, { force: true });
}

async function isYounger(file: string, ageMs: number): Promise<boolean> {
  return stat(file).then(({ mtimeMs }) => Date.now() - mtimeMs < ageMs, () => false);
}
