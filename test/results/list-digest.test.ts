import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import type { SourceItem } from "../../orchestrator/inputs/types.ts";
import { openHome } from "../../orchestrator/results/home.ts";
import { KeyDigest, keyHash } from "../../orchestrator/results/key.ts";
import type { HomeOptions } from "../../orchestrator/results/types.ts";
import { verify } from "../../orchestrator/results/verify.ts";
import { createRandom } from "../support/random.ts";
import { homeOptions, indexesIn, temporaryFolder } from "./support.ts";

const seed = Number(process.env["SPLITRUN_SEED"] ?? Math.floor(Math.random() * 2 ** 31));
/** So many that the digest of their beginning is noted several times. */
const list: readonly SourceItem[] = Array.from({ length: 200_000 }, (_, index) => ({ input: `item ${index}` }));
const readAtOnce = 5000;

interface Part {
  readonly mode: HomeOptions["mode"];
  /** Items that are read before the run is killed; null: all, and it ends. */
  readonly reads: number | null;
  /** Which of the items that are not done get a line. */
  readonly does: (index: number) => boolean;
  readonly items?: readonly SourceItem[];
}

/** One run; what is not ended is as a kill leaves it. */
async function runPart(dir: string, { mode, reads, does, items = list }: Part): Promise<void> {
  const home = await openHome(homeOptions(dir, { mode }));
  try {
    const until = reads ?? items.length;
    for (let first = 0; first < until; first += readAtOnce) {
      const read = items.slice(first, Math.min(until, first + readAtOnce));
      const done = indexesIn(home.match(first, read));
      const todo = read.map(({ input }, at) => ({ index: first + at, input, output: 1, attempts: 1 }));
      home.append(first, todo.filter(({ index }) => !done.has(index) && does(index)));
      // The record is written beside, as it is between two reads of a file.
      await new Promise(setImmediate);
    }
    if (reads !== null) return;
    home.inputEnded();
    await home.finish({ complete: true });
  } finally {
    await home.close();
  }
}

interface Recorded {
  readonly list: { readonly count: number; readonly digest: string } | null;
  readonly beginning: { readonly count: number; readonly digest: string } | null;
}

async function recorded(dir: string): Promise<Recorded> {
  return JSON.parse(await readFile(join(dir, "home.json"), "utf8")) as Recorded;
}

function digestOf(items: readonly SourceItem[]): string {
  const digest = new KeyDigest();
  for (const item of items) digest.add(keyHash(item));
  return digest.toString();
}

async function newHome(): Promise<string> {
  return join(await temporaryFolder(), "out");
}

test("a killed run leaves the digest of a beginning of the list that it had read, and a resume goes on from it", async () => {
  const dir = await newHome();
  await runPart(dir, { mode: "run", reads: 150_000, does: (index) => index < 140_000 });
  const { beginning } = await recorded(dir);
  expect(beginning?.count).toBeGreaterThan(65_000);
  expect(beginning?.count).toBeLessThanOrEqual(150_000);
  expect(beginning?.digest).toBe(digestOf(list.slice(0, beginning?.count)));
  await runPart(dir, { mode: "resume", reads: null, does: () => true });
  expect(await recorded(dir)).toMatchObject({ beginning: null, list: { count: list.length, digest: digestOf(list) } });
  expect(await verify(dir)).toMatchObject({ ok: true, items: list.length, succeeded: list.length });
});

test("what was noted is believed, so that it need not be worked out again", async () => {
  const dir = await newHome();
  await runPart(dir, { mode: "run", reads: 150_000, does: () => true });
  const record = await recorded(dir);
  const wrong = { ...record, beginning: { ...record.beginning, digest: "0".repeat(32) } };
  await writeFile(join(dir, "home.json"), JSON.stringify(wrong));
  await runPart(dir, { mode: "resume", reads: null, does: () => true });
  expect((await verify(dir)).ok).toBe(false);
});

test("a list killed at any moment and resumed has the digest of one that is read in one go", async () => {
  console.log(`kills at random: SPLITRUN_SEED=${seed}`);
  const random = createRandom(seed);
  const dir = await newHome();
  for (let kill = 0; kill < 4; kill++) {
    const share = random.next();
    await runPart(dir, { mode: kill === 0 ? "run" : "resume", reads: Math.floor(random.next() * list.length), does: (index) => (index * 7919) % 1000 < share * 1000 });
    const { beginning } = await recorded(dir);
    if (beginning !== null) expect(beginning.digest).toBe(digestOf(list.slice(0, beginning.count)));
  }
  await runPart(dir, { mode: "resume", reads: null, does: () => true });
  expect((await recorded(dir)).list).toEqual({ count: list.length, digest: digestOf(list) });
  expect((await verify(dir)).ok).toBe(true);
});

test("another list of the same size and time is refused, where any line tells it from the first", async () => {
  const dir = await newHome();
  await runPart(dir, { mode: "run", reads: 150_000, does: (index) => index < 10 });
  const other = list.map(({ input }) => ({ input: `other ${String(input)}` }));
  await expect(runPart(dir, { mode: "resume", reads: null, does: () => true, items: other })).rejects.toMatchObject({ code: "SOURCE_CHANGED", value: 0 });
});

test("another list of the same size and time is taken where there is no line yet", async () => {
  const dir = await newHome();
  await runPart(dir, { mode: "run", reads: 150_000, does: () => false });
  const other = list.map(({ input }) => ({ input: `other ${String(input)}` }));
  await runPart(dir, { mode: "resume", reads: null, does: () => true, items: other });
  expect(await verify(dir)).toMatchObject({ ok: true, items: list.length });
});

test("a list that ends sooner than it did is refused", async () => {
  const dir = await newHome();
  await runPart(dir, { mode: "run", reads: null, does: (index) => index < 10 });
  const shorter = list.slice(0, 100_000);
  await expect(runPart(dir, { mode: "resume", reads: null, does: () => true, items: shorter })).rejects.toMatchObject({
    code: "SOURCE_CHANGED", value: 100_000, message: expect.stringMatching(/ends after 100000 items, and 200000 were read.*splitrun run/) as string,
  });
});
