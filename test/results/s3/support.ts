import { join } from "node:path";
import { onTestFinished } from "vitest";
import type { ItemSource, SourceItem } from "../../../orchestrator/inputs/types.ts";
import { openHome } from "../../../orchestrator/results/home.ts";
import { acquireLease } from "../../../orchestrator/results/s3/lease.ts";
import { outputNames } from "../../../orchestrator/results/s3/names.ts";
import { OutputObjects } from "../../../orchestrator/results/s3/objects.ts";
import { type JobFile, type OutputEnd, openOutput } from "../../../orchestrator/results/s3/output.ts";
import { rebuildHome } from "../../../orchestrator/results/s3/rebuild.ts";
import { runRecord } from "../../../orchestrator/results/s3/records.ts";
import type { Receipt } from "../../../orchestrator/results/verify.ts";
import { verifyOutput } from "../../../orchestrator/results/s3/verify-output.ts";
import type { Outcome } from "../../../orchestrator/results/types.ts";
import type { S3ClientOptions } from "../../../task-manager/s3-client.ts";
import { createRandom } from "../../support/random.ts";
import { clientOf } from "../../support/s3/client.ts";
import { url } from "../../support/s3/output.ts";
import { homeOptions, indexesIn, temporaryFolder } from "../support.ts";

export const bucket = "results";
export const root = "night/run/";

export interface OutputRun {
  readonly endpoint: string;
  readonly dir: string;
  readonly mode?: "run" | "resume";
  readonly items: readonly SourceItem[];
  /** How an item ends; undefined: it does not, in this run. */
  readonly end?: (index: number, item: SourceItem) => Pick<Outcome, "output"> | Pick<Outcome, "error"> | undefined;
  readonly format?: "jsonl" | "csv" | "parquet";
  readonly order?: "completion" | "input";
  readonly partItems?: number;
  readonly checkpointMs?: number;
  readonly retryFailed?: boolean;
  readonly takeOver?: boolean;
  readonly fresh?: boolean;
  readonly client?: Partial<S3ClientOptions>;
  /** Of the order in which items end. */
  readonly seed?: number;
  readonly record?: unknown;
  readonly files?: readonly JobFile[];
  /** Between two groups of outcomes. */
  readonly between?: (done: number) => Promise<void>;
}

export interface OutputRunEnd {
  /** Indexes that were done in this run. */
  readonly did: readonly number[];
  readonly end: OutputEnd | null;
  readonly notes: readonly string[];
  /** What onFailed told. */
  readonly failure: string | null;
}

export function objectsAt(endpoint: string, more: Partial<S3ClientOptions> = {}): OutputObjects {
  const objects = new OutputObjects(clientOf(endpoint, more), url);
  onTestFinished(() => objects.close());
  return objects;
}

export const newDir = async (): Promise<string> => join(await temporaryFolder(), "home");

export function numbered(count: number): readonly SourceItem[] {
  return Array.from({ length: count }, (_, n) => ({ input: `item ${n}` }));
}

/** What a run does with a home and an output, with nobody who works. */
export async function outputRun(run: OutputRun): Promise<OutputRunEnd> {
  const { endpoint, dir, mode = "run", items, end = (index) => ({ output: index }), format = "jsonl", order = "input", partItems = 10, checkpointMs = 3_600_000 } = run;
  const { retryFailed = false, takeOver = false, fresh = false, seed = 1, between = async () => undefined } = run;
  const output = await openOutput({ objects: objectsAt(endpoint, run.client), format, order, partItems, checkpointMs, dir: mode === "resume" ? dir : null, takeOver, fresh, lease: null });
  try {
    const given = output.keptList ?? sourceOf(items);
    const home = await openHome(homeOptions(dir, { mode, source: given.identity, retryFailed }));
    const notes: string[] = [];
    let failure: string | null = null;
    output.onFailed((message) => {
      failure ??= message;
    });
    try {
      const list = await output.begin({ home, source: given, runId: "run-1", fingerprint: homeOptions(dir).fingerprint, record: run.record ?? { made: "by a test" }, retryFailed, files: run.files ?? [] });
      const outcomes: Outcome[] = [];
      let first = 0;
      let unended = 0;
      for (let read = await list.read(7); read.length > 0; read = await list.read(7)) {
        const done = indexesIn(home.match(first, read));
        read.forEach((item, at) => {
          const ended = done.has(first + at) ? undefined : end(first + at, item);
          if (ended !== undefined) outcomes.push({ index: first + at, ...(item.id !== undefined && { id: item.id }), input: item.input, ...ended, attempts: 1 });
          else if (!done.has(first + at)) unended += 1;
        });
        first += read.length;
      }
      home.inputEnded();
      const random = createRandom(seed);
      const shuffled = outcomes.map((outcome) => ({ outcome, at: random.between(0, 1_000_000) })).sort((a, b) => a.at - b.at).map(({ outcome }) => outcome);
      let stored: () => void = () => undefined;
      home.onStored(() => stored());
      for (let batch = 0; batch * 5 < shuffled.length && failure === null; batch++) {
        const group = shuffled.slice(batch * 5, batch * 5 + 5);
        await new Promise<void>((resolve) => {
          stored = resolve;
          home.append(batch, group);
        });
        output.stored(group.length);
        await between(batch * 5 + group.length);
      }
      const complete = unended === 0 && failure === null;
      await home.finish({ complete });
      const giveUp = new AbortController();
      const ended = await output.finish({ complete, giveUp: giveUp.signal, onNote: (text) => notes.push(text) });
      await list.close();
      return { did: shuffled.map(({ index }) => index).sort((a, b) => a - b), end: ended, notes: [...output.notes, ...notes], failure };
    } finally {
      await home.close();
    }
  } finally {
    await output.close();
  }
}

function sourceOf(items: readonly SourceItem[]): ItemSource {
  let taken = 0;
  return {
    identity: { kind: "stdin", from: "-", size: null, modifiedMs: null },
    rereadable: false,
    read: async (count) => items.slice(taken, (taken += Math.min(count, 64))),
    remaining: () => null,
    close: async () => {},
  };
}

/** As `resume s3://…` does on a machine that has nothing. */
export async function rebuilt(endpoint: string): Promise<{ readonly dir: string; readonly items: number; readonly notes: readonly string[] }> {
  const objects = objectsAt(endpoint);
  const lease = await acquireLease(objects, { takeOver: true });
  const found = await objects.readRecord(outputNames.record, runRecord);
  if (found === null) throw new Error("there is no run");
  const dir = await newDir();
  const homeId = "rebuilt";
  const { items, notes } = await rebuildHome({ objects, record: found.value, dir, homeId });
  await objects.putText(outputNames.record, JSON.stringify({ ...found.value, home: { ...found.value.home, id: homeId } }), "none");
  await lease.release({ forget: false });
  return { dir, items, notes };
}

export function receiptOf(endpoint: string): Promise<Receipt> {
  return verifyOutput(objectsAt(endpoint));
}
