import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import * as fc from "fast-check";
import { afterAll } from "vitest";
import type { OpenSourceOptions } from "../../orchestrator/inputs/open-source.ts";
import type { ItemSource, SourceItem } from "../../orchestrator/inputs/types.ts";
import type { InputSpec } from "../../orchestrator/jobs/types.ts";

const seed = Number(process.env.SPLITRUN_SEED ?? Math.floor(Math.random() * 2 ** 31));
console.info(`SPLITRUN_SEED=${seed}`);
export const randomly = { seed, numRuns: 150 };

/** A directory that goes away when the file's tests are over. */
export async function temporaryDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "splitrun-inputs-"));
  afterAll(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

export function specOf(from: InputSpec["from"], format: InputSpec["format"], rest: Partial<InputSpec> = {}): InputSpec {
  return { from, format, column: null, id: null, weight: null, limit: null, ...rest };
}

export function optionsOf(rest: Partial<OpenSourceOptions> = {}): OpenSourceOptions {
  return { baseDir: "/base", bucket: null, s3: { requesterPays: false, forcePathStyle: null }, stdin: Readable.from([]), itemKind: "value", localPaths: true, ...rest };
}

export async function readAll(source: ItemSource, count = 1000): Promise<readonly SourceItem[]> {
  const all: SourceItem[] = [];
  for (let items = await source.read(count); items.length > 0; items = await source.read(count)) {
    if (items.length > count) throw new Error(`${items.length} items instead of ${count}`);
    all.push(...items);
  }
  await source.close();
  return all;
}

/** The bytes in pieces that end wherever the cuts say, in the middle of characters too. */
export function inPieces(bytes: Buffer, cuts: readonly number[]): Readable {
  const places = [0, ...cuts.map((cut) => cut % (bytes.length + 1)).sort((left, right) => left - right), bytes.length];
  const pieces = places.slice(1).map((end, place) => bytes.subarray(places[place], end));
  return Readable.from(pieces.filter((piece) => piece.length > 0), { objectMode: true });
}

export const cuts = fc.array(fc.nat(), { maxLength: 12 });
export const lineEnd = fc.constantFrom("\n", "\r\n");
/** Text that can be a line: no line ends, not blank. */
export const lineText = fc.string({ unit: "binary", minLength: 1, maxLength: 20 })
  .filter((text) => !/[\n\0\uFEFF]/.test(text) && /[^\0-\x20]/.test(text) && !text.endsWith("\r"));
