import type { SchemaElement } from "hyparquet";
import { fileWriter, ParquetWriter } from "hyparquet-writer";
import type { JsonValue } from "../../task-manager/protocol.ts";
import type { Column, ColumnKind, Table } from "./export-table.ts";
import { cellOf, cellText, rowsOf } from "./export-table.ts";
import type { Outcome } from "./types.ts";

const groupRowsMax = 10_000;
/** An output can have a megabyte: a group is closed earlier when its text gets large. */
const groupCharsMax = 64_000_000;

type Cell = string | number | bigint | boolean | null;

/** Writes to an existing file, a row group at a time. */
export async function writeParquet(path: string, table: Table, outcomes: AsyncIterable<Outcome>): Promise<void> {
  const writer = new ParquetWriter({ writer: fileWriter(path), schema: schemaOf(table), createdBy: "splitrun" });
  let group = emptyGroup(table);
  for await (const outcome of rowsOf(table, outcomes)) {
    addRow(group, table, outcome);
    if (group.rows < groupRowsMax && group.chars < groupCharsMax) continue;
    await writeGroup(writer, table, group);
    group = emptyGroup(table);
  }
  if (group.rows > 0) await writeGroup(writer, table, group);
  await writer.finish();
}

interface Group {
  readonly cells: readonly Cell[][];
  rows: number;
  chars: number;
}

function emptyGroup(table: Table): Group {
  return { cells: table.columns.map(() => []), rows: 0, chars: 0 };
}

function addRow(group: Group, table: Table, outcome: Outcome): void {
  group.rows += 1;
  for (const [place, column] of table.columns.entries()) {
    const cell = toCell(cellOf(column, outcome), column.kind);
    group.cells[place]?.push(cell);
    if (typeof cell === "string") group.chars += cell.length;
  }
}

async function writeGroup(writer: ParquetWriter, table: Table, group: Group): Promise<void> {
  const columnData = table.columns.map(({ name }, place) => ({ name, data: [...group.cells[place] ?? []] }));
  await writer.write({ columnData, rowGroupSize: group.rows });
}

function toCell(value: JsonValue, kind: ColumnKind): Cell {
  if (value === null) return null;
  if (kind === "integer" && typeof value === "number") return BigInt(value);
  if (kind === "text" || typeof value === "object") return cellText(value);
  return value;
}

const types: Readonly<Record<ColumnKind, Pick<SchemaElement, "type" | "converted_type">>> = {
  integer: { type: "INT64" },
  number: { type: "DOUBLE" },
  boolean: { type: "BOOLEAN" },
  text: { type: "BYTE_ARRAY", converted_type: "UTF8" },
};

function schemaOf(table: Table): SchemaElement[] {
  return [{ name: "root", num_children: table.columns.length }, ...table.columns.map(elementOf)];
}

function elementOf({ name, kind, required }: Column): SchemaElement {
  return { name, ...types[kind], repetition_type: required ? "REQUIRED" : "OPTIONAL" };
}
