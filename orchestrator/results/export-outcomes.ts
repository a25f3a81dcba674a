import { randomUUID } from "node:crypto";
import { open, rename, rm, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { SplitrunError } from "../errors.ts";
import { errorCode } from "./durable.ts";
import { writeCsv } from "./export-csv.ts";
import { writeParquet } from "./export-parquet.ts";
import { findTable } from "./export-table.ts";
import { writeText } from "./export-text.ts";
import type { Outcome } from "./types.ts";

export type ExportFormat = "jsonl" | "csv" | "parquet";

export interface ExportCounts {
  readonly items: number;
  readonly succeeded: number;
  readonly failed: number;
}

export interface ExportOutcomesOptions {
  /** Absolute. */
  readonly to: string;
  readonly format: ExportFormat;
}

/** Outcomes in the order wanted, from the first, each time that it is called. */
export type ReadOutcomes = () => AsyncIterable<Outcome>;

/** Writes outcomes to a file. Holds a row group (Parquet) or a buffer of text, not the outcomes. */
export async function exportOutcomes(read: ReadOutcomes, options: ExportOutcomesOptions): Promise<ExportCounts> {
  const counts = { items: 0, succeeded: 0, failed: 0 };
  const partial = await createPartial(options.to);
  try {
    await write(read, { path: partial, format: options.format, onOutcome: (outcome) => count(counts, outcome) });
    await sync(partial);
    await rename(partial, options.to);
  } catch (error) {
    await rm(partial, { force: true });
    throw error;
  }
  return counts;
}

interface WriteOptions {
  readonly path: string;
  readonly format: ExportFormat;
  readonly onOutcome: (outcome: Outcome) => void;
}

async function write(read: ReadOutcomes, { path, format, onOutcome }: WriteOptions): Promise<void> {
  const outcomes = observed(read, onOutcome);
  switch (format) {
    case "jsonl":
      return writeText(path, jsonLines(outcomes));
    case "csv":
      return writeCsv(path, await findTable(read()), outcomes);
    case "parquet":
      return writeParquet(path, await findTable(read()), outcomes);
  }
}

async function* observed(read: ReadOutcomes, onOutcome: (outcome: Outcome) => void): AsyncGenerator<Outcome> {
  for await (const outcome of read()) {
    onOutcome(outcome);
    yield outcome;
  }
}

async function* jsonLines(outcomes: AsyncIterable<Outcome>): AsyncGenerator<string> {
  for await (const outcome of outcomes) yield `${JSON.stringify(outcome)}\n`;
}

function count(counts: { items: number; succeeded: number; failed: number }, outcome: Outcome): void {
  counts.items += 1;
  if (outcome.error === undefined) counts.succeeded += 1;
  else counts.failed += 1;
}

/** An empty file beside the target, so that the last step can be a rename. */
async function createPartial(to: string): Promise<string> {
  const found = await stat(to).catch(() => null);
  if (found !== null && !found.isFile()) throw targetError(`to: ${to} is not a regular file; name one that may be written or replaced`, to, null);
  const partial = `${to}.${randomUUID()}.partial`;
  try {
    const handle = await open(partial, "wx", 0o600);
    await handle.close();
    return partial;
  } catch (error) {
    const missing = errorCode(error) === "ENOENT";
    const why = missing ? `the folder ${dirname(to)} does not exist` : error instanceof Error ? error.message.replaceAll(partial, to) : String(error);
    throw targetError(`to: ${to} cannot be written: ${why}`, to, error);
  }
}

async function sync(path: string): Promise<void> {
  const handle = await open(path, "r+");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function targetError(message: string, to: string, cause: unknown): SplitrunError {
  return new SplitrunError(message, { code: "EXPORT_TARGET", field: "to", value: to, ...(cause !== null && { cause }) });
}
