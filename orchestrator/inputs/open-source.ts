import { dirname } from "node:path";
import { SplitrunError } from "../errors.ts";
import type { InputSpec } from "../jobs/types.ts";
import { readFileBytes, readStreamBytes } from "./bytes.ts";
import { openFolderSource, openGlobSource } from "./files.ts";
import type { ItemRules } from "./item.ts";
import { limited } from "./limited.ts";
import { openListSource } from "./list.ts";
import { openParquetSource, parquetFile } from "./parquet.ts";
import { statSourceFile } from "./source-file.ts";
import type { TextFormat } from "./stdin.ts";
import { openStdinSource } from "./stdin.ts";
import { chunkBytesOf, primedTextSource, textSource } from "./text-source.ts";
import type { ItemSource, SourceIdentity } from "./types.ts";

export interface OpenSourceOptions {
  /** Absolute. Relative paths of a list in the job and of standard input are relative to it. */
  readonly baseDir: string;
  readonly bucket: string | null;
  readonly stdin: NodeJS.ReadableStream;
  /** `image`: items are URLs or paths, and a relative path is relative to the directory of the file it stands in. */
  readonly itemKind: "image" | "value";
}

/**
 * Opens where the items come from. Nothing is held but a chunk (of Parquet a row group, of a folder the names of
 * one directory). What is wrong with one item becomes that item's `error`; what is wrong with all of them is thrown,
 * as early as the beginning of the file tells it.
 *
 * @throws SplitrunError NOT_BUILT_YET, INPUT_NOT_FOUND, INPUT_IS_FOLDER, INPUT_IS_FILE, INPUT_UNREADABLE,
 *   INPUT_FORMAT, INPUT_COLUMN
 */
export async function openSource(spec: InputSpec, options: OpenSourceOptions): Promise<ItemSource> {
  refuseS3(spec, options);
  const source = await openWhole(spec, options);
  return spec.limit === null ? source : limited(source, spec.limit);
}

async function openWhole(spec: InputSpec, options: OpenSourceOptions): Promise<ItemSource> {
  const { itemKind, baseDir } = options;
  if (typeof spec.from !== "string") {
    return openListSource(spec.from, spec, { itemKind, directory: baseDir, unit: "item" });
  }
  if (spec.from === "-") return openStdin(spec, options);
  switch (spec.format) {
    case "glob":
      return openGlobSource(spec.from);
    case "folder":
      return openFolderSource(spec.from);
    case "parquet":
      return openParquetSource(await parquetFile(await statSourceFile(spec.from, spec.format)), spec, {
        itemKind,
        directory: dirname(spec.from),
        unit: "row",
      });
    case "text":
    case "csv":
    case "jsonl":
      return openTextFile(spec.from, spec.format, { spec, rules: { itemKind, directory: dirname(spec.from), unit: "line" } });
    case "stdin":
    case "list":
      throw new SplitrunError(`input.format ${spec.format} does not go with the path ${spec.from}`, {
        code: "INPUT_FORMAT",
        field: "input.format",
        value: spec.format,
      });
  }
}

export function refuseS3(spec: InputSpec, options: OpenSourceOptions): void {
  const s3Prefix = typeof spec.from === "string" && spec.from.startsWith("s3://");
  if (!s3Prefix && options.bucket === null) return;
  const field = s3Prefix ? "input" : "bucket";
  throw new SplitrunError(`${field}: items in S3 are not supported yet; give http(s) URLs (presigned ones too) or local files`, {
    code: "NOT_BUILT_YET",
    field,
    value: s3Prefix ? spec.from : options.bucket,
  });
}

interface TextOptions {
  readonly spec: InputSpec;
  readonly rules: ItemRules;
}

async function openTextFile(path: string, format: TextFormat, options: TextOptions): Promise<ItemSource> {
  const file = await statSourceFile(path, format);
  const bytes = await readFileBytes(file, chunkBytesOf(format));
  const identity: SourceIdentity = {
    kind: format,
    from: path,
    size: file.regular ? file.size : null,
    modifiedMs: file.regular ? file.modifiedMs : null,
  };
  return primedTextSource({ format, bytes, identity, rereadable: file.regular, ...options });
}

function openStdin(spec: InputSpec, options: OpenSourceOptions): ItemSource {
  const rules: ItemRules = { itemKind: options.itemKind, directory: options.baseDir, unit: "line" };
  const identity: SourceIdentity = { kind: "stdin", from: "-", size: null, modifiedMs: null };
  return openStdinSource({
    bytes: readStreamBytes(options.stdin, "-"),
    spec,
    open: (format, bytes) => textSource({ format, bytes, identity, rereadable: false, spec, rules }),
  });
}
