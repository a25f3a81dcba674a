import type { AsyncBuffer, Compressors, FileMetaData } from "hyparquet";
import { asyncBufferFromFile, parquetMetadataAsync, parquetReadObjects, parquetSchema } from "hyparquet";
import type { JsonValue } from "../../task-manager/protocol.ts";
import { SplitrunError } from "../errors.ts";
import type { InputSpec } from "../jobs/types.ts";
import { chooseColumns } from "./columns.ts";
import type { ItemRules } from "./item.ts";
import { toItem } from "./item.ts";
import type { SourceFile } from "./source-file.ts";
import { unreadable } from "./source-file.ts";
import type { ItemSource, SourceItem } from "./types.ts";

/** Where a Parquet file is, read in pieces. */
export interface ParquetInput {
  readonly from: string;
  readonly modifiedMs: number;
  /** Can be opened again, and is the same then or another one by its size and time. */
  readonly rereadable: boolean;
  readonly buffer: AsyncBuffer;
}

interface ParquetFile {
  readonly input: ParquetInput;
  readonly metadata: FileMetaData;
}

type Row = Readonly<Record<string, unknown>>;

/** @throws SplitrunError INPUT_UNREADABLE */
export async function parquetFile({ path, modifiedMs }: SourceFile): Promise<ParquetInput> {
  try {
    return { from: path, modifiedMs, rereadable: true, buffer: await asyncBufferFromFile(path) };
  } catch (error) {
    throw unreadable(path, error);
  }
}

/** Footer and schema. */
export async function openParquet(input: ParquetInput): Promise<ParquetFile> {
  try {
    return { input, metadata: await parquetMetadataAsync(input.buffer) };
  } catch (error) {
    if (error instanceof SplitrunError) throw error;
    throw new SplitrunError(`input ${input.from} is not a Parquet file`, {
      code: "INPUT_FORMAT",
      field: "input",
      value: input.from,
      cause: error,
    });
  }
}

/** Items of one column. Holds one row group of the columns that matter. */
export async function openParquetSource(input: ParquetInput, spec: InputSpec, rules: ItemRules): Promise<ItemSource> {
  const parquet = await openParquet(input);
  const names = parquetSchema(parquet.metadata).children.map((child) => child.element.name);
  const places = chooseColumns(names, spec);
  const column = names[places.value] ?? "";
  const columns = [...new Set([column, ...(spec.id === null ? [] : [spec.id]), ...(spec.weight === null ? [] : [spec.weight])])];
  const compressors = await loadCompressors(parquet.metadata);
  const total = rowsOf(parquet.metadata);
  let group = 0;
  let groupStart = 0;
  let rows: readonly Row[] = [];
  let taken = 0;
  let given = 0;

  async function loadGroup(): Promise<boolean> {
    const rowGroup = parquet.metadata.row_groups[group];
    if (rowGroup === undefined) return false;
    const rowEnd = groupStart + Number(rowGroup.num_rows);
    rows = await readRows(parquet, { columns, compressors, rowStart: groupStart, rowEnd });
    taken = 0;
    group += 1;
    groupStart = rowEnd;
    return true;
  }

  return {
    identity: { kind: "parquet", from: input.from, size: input.buffer.byteLength, modifiedMs: input.modifiedMs },
    rereadable: input.rereadable,
    async read(count) {
      while (taken === rows.length) {
        if (!await loadGroup()) return [];
      }
      const chunk = rows.slice(taken, taken + count);
      taken += chunk.length;
      return chunk.map((row): SourceItem => {
        given += 1;
        return toItem({
          value: toJson(row[column]),
          bytes: Infinity,
          id: spec.id === null ? undefined : row[spec.id],
          weight: spec.weight === null ? undefined : row[spec.weight],
          number: given,
        }, rules);
      });
    },
    remaining: () => total - given,
    close: async () => {},
  };
}

export function rowsOf(metadata: FileMetaData): number {
  return Number(metadata.num_rows);
}

interface RowsOptions {
  readonly columns: string[];
  readonly compressors: Compressors;
  readonly rowStart: number;
  readonly rowEnd: number;
}

async function readRows(parquet: ParquetFile, options: RowsOptions): Promise<readonly Row[]> {
  if (options.rowStart === options.rowEnd) return [];
  try {
    return await parquetReadObjects({ file: parquet.input.buffer, metadata: parquet.metadata, ...options });
  } catch (error) {
    throw unreadable(parquet.input.from, error);
  }
}

/** zstd, which some writers take by default, and others: loaded only for files that use them. */
async function loadCompressors(metadata: FileMetaData): Promise<Compressors> {
  const codecs = new Set(metadata.row_groups.flatMap((group) => group.columns.map((column) => column.meta_data?.codec)));
  codecs.delete("UNCOMPRESSED");
  codecs.delete("SNAPPY");
  return codecs.size === 0 ? {} : (await import("hyparquet-compressors")).compressors;
}

/**
 * 64-bit integers become numbers, or text where a number would not be exact; times become ISO 8601 text. Bytes,
 * NaN and infinity have no JSON: undefined.
 */
function toJson(value: unknown): JsonValue | undefined {
  switch (typeof value) {
    case "string":
    case "boolean":
      return value;
    case "number":
      return Number.isFinite(value) ? value : undefined;
    case "bigint":
      return Number.isSafeInteger(Number(value)) ? Number(value) : String(value);
    case "undefined":
      return null;
    default:
      return value === null ? null : nestedToJson(value);
  }
}

function nestedToJson(value: unknown): JsonValue | undefined {
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? undefined : value.toISOString();
  if (ArrayBuffer.isView(value) || typeof value !== "object" || value === null) return undefined;
  if (Array.isArray(value)) {
    const members = value.map(toJson);
    return members.every((member) => member !== undefined) ? members : undefined;
  }
  const fields: [string, JsonValue][] = [];
  for (const [name, member] of Object.entries(value)) {
    const json = toJson(member);
    if (json === undefined) return undefined;
    fields.push([name, json]);
  }
  return Object.fromEntries(fields);
}
