import { createHash } from "node:crypto";
import { mkdir, readdir, rm, utimes, writeFile } from "node:fs/promises";
import path from "node:path";
import { expect, test } from "vitest";
import { openContentCache } from "../../orchestrator/jobs/content-cache.ts";
import { directoryWith, temporaryDirectory } from "./jobs-fixture.ts";

const dayMs = 86_400_000;
const hashOf = (content: string) => createHash("sha256").update(content).digest("hex");

async function age(file: string, days: number): Promise<void> {
  const then = new Date(Date.now() - days * dayMs);
  await utimes(file, then, then);
}

async function cacheWith(files: Readonly<Record<string, number>>): Promise<string> {
  const directory = await temporaryDirectory();
  await mkdir(path.join(directory, "index"), { mode: 0o700 });
  for (const [name, days] of Object.entries(files)) {
    await writeFile(path.join(directory, name), "x");
    await age(path.join(directory, name), days);
  }
  return directory;
}

const [old, young] = [hashOf("old"), hashOf("young")];
const filesIn = async (directory: string) => (await readdir(directory, { recursive: true })).filter((name) => name !== "index" && name !== "index/.pruned").sort();

test("what was not used for 30 days leaves the cache, and what was left half written", async () => {
  const cache = await cacheWith({
    [`${old}.onnx`]: 31, [`${young}.onnx`]: 29, [`index/${old}.json`]: 31, [`index/${young}.json`]: 1,
    ".0123456789abcdef.tmp": 2, ".fedcba9876543210.tmp": 0, [`index/${old}.json.0123456789ab.tmp`]: 2,
  });
  await openContentCache(cache);
  expect(await filesIn(cache)).toEqual([`${young}.onnx`, `index/${young}.json`, ".fedcba9876543210.tmp"].sort());
});

test("files of other names are none of the cache's, however old", async () => {
  const names = { "holiday.jpg": 900, "notes.tmp": 900, ".profile": 900, "deadbeef.onnx": 900, "index/mine.json": 900 };
  const cache = await cacheWith(names);
  await openContentCache(cache);
  expect(await filesIn(cache)).toEqual(Object.keys(names).sort());
});

test("it is looked through once a day", async () => {
  const cache = await cacheWith({});
  await openContentCache(cache);
  await writeFile(path.join(cache, old), "x");
  await age(path.join(cache, old), 31);
  await openContentCache(cache);
  expect(await filesIn(cache)).toEqual([old]);
  await age(path.join(cache, "index", ".pruned"), 1);
  await openContentCache(cache);
  expect(await filesIn(cache)).toEqual([]);
});

test("a file that is used stays, though it was made long ago", async () => {
  const cache = await cacheWith({});
  const directory = await directoryWith({ "m.onnx": "a model" });
  const model = path.join(directory, "m.onnx");
  await age(model, 1);
  const { path: place } = await (await openContentCache(cache)).keepFile(model);
  const before = await filesIn(cache);
  expect(before).toHaveLength(2);
  for (const name of before) await age(path.join(cache, name), 31);
  expect(await (await openContentCache(cache)).keepFile(model)).toMatchObject({ path: place });
  await rm(path.join(cache, "index", ".pruned"));
  await openContentCache(cache);
  expect(await filesIn(cache)).toEqual(before);
});
