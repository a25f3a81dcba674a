import type { JsonValue } from "../../task-manager/protocol.ts";
import type { Table } from "./export-table.ts";
import { cellOf, cellText, rowsOf } from "./export-table.ts";
import { writeText } from "./export-text.ts";
import type { Outcome } from "./types.ts";

export async function writeCsv(path: string, table: Table, outcomes: AsyncIterable<Outcome>): Promise<void> {
  await writeText(path, csvLines(table, outcomes));
}

async function* csvLines(table: Table, outcomes: AsyncIterable<Outcome>): AsyncGenerator<string> {
  yield csvLine(table.columns.map(({ name }) => name));
  for await (const outcome of rowsOf(table, outcomes)) yield csvLine(table.columns.map((column) => cellOf(column, outcome)));
}

function csvLine(values: readonly JsonValue[]): string {
  return `${values.map(csvCell).join(",")}\n`;
}

function csvCell(value: JsonValue): string {
  if (value === null) return "";
  const text = cellText(value);
  return text === "" || /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
