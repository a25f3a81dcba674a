import type { InputSpec } from "../jobs/types.ts";
import { readFileBytes } from "./bytes.ts";
import { Lines } from "./lines.ts";
import type { OpenSourceOptions } from "./open-source.ts";
import { isS3 } from "./is-s3.ts";
import { openSource } from "./open-source.ts";
import { openParquet, parquetFile, rowsOf } from "./parquet.ts";
import { statSourceFile } from "./source-file.ts";

const countedAtOnce = 4096;
const chunkBytes = 262_144;

/**
 * How many items there are, in a pass of its own, for policies that need to know beforehand. null: the source can be
 * read only once (standard input, a pipe), so its items have to be copied first.
 *
 * @throws SplitrunError as `openSource` does
 */
export async function countItems(spec: InputSpec, options: OpenSourceOptions): Promise<number | null> {
  const counted = await countWhole(spec, options);
  return counted === null || spec.limit === null ? counted : Math.min(counted, spec.limit);
}

async function countWhole(spec: InputSpec, options: OpenSourceOptions): Promise<number | null> {
  if (typeof spec.from !== "string") return spec.from.length;
  if (spec.from === "-") return null;
  if (isS3(spec.from)) return spec.format === "parquet" ? countRowsInS3(spec.from, options) : countByReading(spec, options);
  switch (spec.format) {
    case "text":
    case "jsonl":
      return countLines(spec.from, spec.format, spec.limit);
    case "parquet":
      return rowsOf((await openParquet(await parquetFile(await statSourceFile(spec.from, spec.format)))).metadata);
    case "csv": {
      const file = await statSourceFile(spec.from, spec.format);
      return file.regular ? countByReading(spec, options) : null;
    }
    default:
      return countByReading(spec, options);
  }
}

async function countLines(path: string, format: string, limit: number | null): Promise<number | null> {
  const file = await statSourceFile(path, format);
  if (!file.regular) return null;
  const bytes = await readFileBytes(file, chunkBytes);
  const lines = new Lines(bytes, path);
  let count = 0;
  try {
    while ((limit === null || count < limit) && await lines.load()) {
      while (lines.next()) count += 1;
    }
    return count;
  } finally {
    await lines.close();
  }
}

async function countRowsInS3(from: string, { s3 }: OpenSourceOptions): Promise<number> {
  const [{ countS3ParquetRows }, { connectS3 }] = await Promise.all([import("./s3-source.ts"), import("../jobs/s3.ts")]);
  const client = await connectS3(s3);
  try {
    return await countS3ParquetRows(client, from);
  } finally {
    client.close();
  }
}

async function countByReading(spec: InputSpec, options: OpenSourceOptions): Promise<number> {
  const source = await openSource(spec, options);
  let count = 0;
  try {
    for (let items = await source.read(countedAtOnce); items.length > 0; items = await source.read(countedAtOnce)) {
      count += items.length;
    }
    return count;
  } finally {
    await source.close();
  }
}
