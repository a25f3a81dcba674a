import { asideName } from "../set-aside.ts";
import { firstOfPart, outputNames } from "./names.ts";
import type { OutputObjects } from "./objects.ts";

const copiesAtOnce = 8;

/**
 * `--fresh`: all that is ours below a prefix goes to a prefix of its own there, which is an output like any other. First
 * all of it is copied, so that nothing is lost wherever this is cut; `run.json`, without which nothing below the prefix
 * is a run, is the first to go. Objects of others stay, and so does the lease, which the caller has.
 * @returns a note, null where there was nothing
 * @throws S3Failure
 */
export async function setOutputAside(objects: OutputObjects): Promise<string | null> {
  const names = await ownNames(objects);
  if (names.length === 0) return null;
  const folder = await newFolder(objects);
  await copyAll(names, (name) => objects.copy(name, folder + name));
  const hasRecord = names.includes(outputNames.record);
  if (hasRecord) await objects.delete([outputNames.record]);
  await objects.delete(names.filter((name) => name !== outputNames.record));
  return `What was in ${objects.url} was set aside in ${objects.urlOf(folder)}.`;
}

async function ownNames(objects: OutputObjects): Promise<readonly string[]> {
  const names: string[] = [];
  for (const name of [outputNames.success, outputNames.manifest]) if ((await objects.stat(name)) !== null) names.push(name);
  for await (const [name] of objects.list(outputNames.own)) if (name !== outputNames.lease) names.push(name);
  for await (const [name] of objects.list(outputNames.parts)) if (firstOfPart(name) !== null) names.push(name);
  return names;
}

/** `set-aside-20261121T130501Z/`, where nothing is. */
async function newFolder(objects: OutputObjects): Promise<string> {
  for (let tries = 0; ; tries++) {
    const folder = `${asideName(tries)}/`;
    const { done } = await objects.list(folder).next();
    if (done === true) return folder;
  }
}

async function copyAll(names: readonly string[], copy: (name: string) => Promise<void>): Promise<void> {
  const waiting = names.values();
  await Promise.all(Array.from({ length: copiesAtOnce }, async () => {
    for (const name of waiting) await copy(name);
  }));
}
