import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { build } from "esbuild";
import { onTestFinished } from "vitest";
import type { SourceItem } from "../../orchestrator/inputs/types.ts";
import { openHome } from "../../orchestrator/results/home.ts";
import { readOutcomes } from "../../orchestrator/results/read-outcomes.ts";
import type { Home, HomeOptions, Matched, Outcome } from "../../orchestrator/results/types.ts";

export async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "splitrun-results-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

export const fingerprintA = "aaaaaaaa11111111";
export const fingerprintB = "bbbbbbbb22222222";

export function homeOptions(dir: string, options: Partial<HomeOptions> = {}): HomeOptions {
  return {
    dir,
    mode: "run",
    fingerprint: fingerprintA,
    source: { kind: "text", from: "/list.txt", size: 1, modifiedMs: 1 },
    fresh: false,
    retryFailed: false,
    takeOver: false,
    listAgain: false,
    ...options,
  };
}

export function itemsOf(...inputs: readonly string[]): readonly SourceItem[] {
  return inputs.map((input) => ({ input }));
}

/** Indexes of half-open pairs. */
export function indexesIn({ done }: Matched): ReadonlySet<number> {
  const indexes = new Set<number>();
  for (let pair = 0; pair < done.length; pair += 2) {
    for (let index = done[pair] ?? 0; index < (done[pair + 1] ?? 0); index++) indexes.add(index);
  }
  return indexes;
}

export interface WorkOptions {
  /** Ends of the items by index; undefined: the item is not done in this run. */
  readonly end?: (index: number, item: SourceItem) => Pick<Outcome, "output"> | Pick<Outcome, "error"> | undefined;
  /** Items of the list that are read; all by default, and then its end. */
  readonly reads?: number;
}

export const failure = { error: { code: "DOWNLOAD_STATUS", stage: "download", message: "404 Not Found" } } as const;

/** What a run does with a home between opening and finishing it. Returns the indexes that it did. */
export async function work(home: Home, list: readonly SourceItem[], { end = () => ({ output: "done" }), reads = list.length }: WorkOptions = {}): Promise<readonly number[]> {
  const did: number[] = [];
  const outcomes: Outcome[] = [];
  for (let first = 0; first < reads; first += 3) {
    const items = list.slice(first, Math.min(first + 3, reads));
    const done = indexesIn(home.match(first, items));
    items.forEach((item, at) => {
      const index = first + at;
      const ended = done.has(index) ? undefined : end(index, item);
      if (ended === undefined) return;
      const { id, input, version } = item;
      outcomes.push({ index, ...(id !== undefined && { id }), input, ...(version !== undefined && { version }), ...ended, attempts: 1 });
      did.push(index);
    });
  }
  if (reads === list.length) home.inputEnded();
  const batches = Math.ceil(outcomes.length / 2);
  const stored = batches === 0 ? Promise.resolve() : new Promise<void>((resolve, reject) => {
    home.onStored((batch) => batch === batches - 1 && resolve());
    home.onStoreFailed((_, error) => reject(error));
  });
  for (let batch = 0; batch < batches; batch++) home.append(batch, outcomes.slice(batch * 2, batch * 2 + 2));
  await stored;
  return did;
}

/** A whole run: open, do what is to be done, finish, close. */
export async function run(options: HomeOptions, list: readonly SourceItem[], workOptions: WorkOptions = {}): Promise<{ readonly did: readonly number[]; readonly notes: readonly string[] }> {
  const home = await openHome(options);
  try {
    const did = await work(home, list, workOptions);
    const complete = (workOptions.reads ?? list.length) === list.length && workOptions.end === undefined;
    await home.finish({ complete });
    return { did, notes: home.notes };
  } finally {
    await home.close();
  }
}

export async function outcomesOf(dir: string, order: "completion" | "input" = "input"): Promise<readonly Outcome[]> {
  const outcomes: Outcome[] = [];
  for await (const outcome of readOutcomes(dir, { order })) outcomes.push(outcome);
  return outcomes;
}

export async function linesOf(path: string): Promise<readonly unknown[]> {
  const text = await readFile(path, "utf8");
  return text.split("\n").filter((line) => line !== "").map((line) => JSON.parse(line) as unknown);
}

/** A program of these sources that Node can run by itself. */
export async function bundled(source: string, folder: string, name: string): Promise<string> {
  const file = join(folder, `${name}.mjs`);
  await build({
    stdin: { contents: source, resolveDir: join(import.meta.dirname, "../.."), loader: "ts" },
    bundle: true,
    platform: "node",
    target: "node20",
    format: "esm",
    outfile: file,
  });
  return file;
}
