import { createReadStream } from "node:fs";
import { rm, writeFile } from "node:fs/promises";
import { writeCsv } from "../export-csv.ts";
import { writeParquet } from "../export-parquet.ts";
import { findTable, type Table } from "../export-table.ts";
import type { Outcome } from "../types.ts";
import { outputNames, partName } from "./names.ts";
import { putPartBytes } from "./objects.ts";
import type { PartStore } from "./part-store.ts";
import { patiently } from "./patience.ts";
import type { Projection } from "./projection.ts";
import type { PartRecord } from "./records.ts";

export interface TablesOptions {
  readonly projection: Projection;
  readonly store: PartStore;
  readonly format: "csv" | "parquet";
  /** In which a part is made. */
  readonly file: string;
  readonly signal: AbortSignal;
}

/** The parts as tables. All have the same columns, so that they are one table to those who read them. */
export async function putTables(options: TablesOptions): Promise<readonly PartRecord[]> {
  const { projection, file } = options;
  const lines = projection.parts;
  const columns = await findTable(allOutcomes(projection, lines.length));
  const records: PartRecord[] = [];
  try {
    for (const [part, record] of lines.entries()) {
      await write(part, record, columns, options);
      records.push(await put(record, options));
    }
  } finally {
    await rm(file, { force: true });
  }
  return records;
}

async function* allOutcomes(projection: Projection, parts: number): AsyncGenerator<Outcome> {
  for (let part = 0; part < parts; part++) yield* projection.outcomesOf(part);
}

async function write(part: number, { first, end }: PartRecord, { columns }: Table, { projection, format, file }: TablesOptions): Promise<void> {
  const table: Table = { columns, rows: end - first };
  await writeFile(file, "", { mode: 0o600 });
  if (format === "csv") await writeCsv(file, table, projection.outcomesOf(part));
  else await writeParquet(file, table, projection.outcomesOf(part));
}

function put({ first, end, succeeded, failed }: PartRecord, { store, format, file, signal }: TablesOptions): Promise<PartRecord> {
  const name = partName(outputNames.parts, first, format);
  const bytes = (): AsyncIterable<Buffer> => createReadStream(file, { highWaterMark: putPartBytes });
  return patiently(() => store.put({ name, first, end, succeeded, failed }, bytes, signal), signal);
}
