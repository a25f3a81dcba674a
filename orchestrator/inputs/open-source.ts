import { dirname } from "node:path";
import { SplitrunError } from "../errors.ts";
import type { S3Settings } from "../../task-manager/protocol.ts";
import type { InputSpec } from "../jobs/types.ts";
import { readFileBytes, readStreamBytes } from "./bytes.ts";
import { openFolderSource, openGlobSource } from "./files.ts";
import type { ItemRules } from "./item.ts";
import { isS3 } from "./is-s3.ts";
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
  /** What is no URL in a list is a key of it; null: a path. */
  readonly bucket: string | null;
  readonly s3: S3Settings;
  readonly stdin: NodeJS.ReadableStream;
  /** `image`: items are URLs or paths, and a relative path is relative to the directory of the file it stands in. */
  readonly itemKind: "image" | "value";
  /** False: paths of this machine are errors, since those who would read them are elsewhere. */
  readonly localPaths: boolean;
}

/**
 * Opens where the items come from. Nothing is held but a chunk (of Parquet a row group, of a folder the names of
 * one directory). What is wrong with one item becomes that item's `error`; what is wrong with all of them is thrown,
 * as early as the beginning of the file tells it.
 *
 * @throws SplitrunError INPUT_NOT_FOUND, INPUT_IS_FOLDER, INPUT_IS_FILE, INPUT_UNREADABLE,
 *   INPUT_FORMAT, INPUT_COLUMN
 */
export async function openSource(spec: InputSpec, options: OpenSourceOptions): Promise<ItemSource> {
  const source = await openWhole(spec, options);
  return spec.limit === null ? source : limited(source, spec.limit);
}

async function openWhole(spec: InputSpec, options: OpenSourceOptions): Promise<ItemSource> {
  if (typeof spec.from !== "string") return openListSource(spec.from, spec, rulesOf(options, options.baseDir, "item"));
  if (spec.from === "-") return openStdin(spec, options);
  if (isS3(spec.from)) return openInS3(spec.from, spec, options);
  switch (spec.format) {
    case "glob":
      return openGlobSource(spec.from);
    case "folder":
      return openFolderSource(spec.from);
    case "parquet":
      return openParquetSource(await parquetFile(await statSourceFile(spec.from, spec.format)), spec, rulesOf(options, dirname(spec.from), "row"));
    case "text":
    case "csv":
    case "jsonl":
      return openTextFile(spec.from, spec.format, { spec, rules: rulesOf(options, dirname(spec.from), "line") });
    case "stdin":
    case "list":
      throw new SplitrunError(`input.format ${spec.format} does not go with the path ${spec.from}`, {
        code: "INPUT_FORMAT",
        field: "input.format",
        value: spec.format,
      });
  }
}

function rulesOf({ itemKind, bucket, localPaths }: OpenSourceOptions, directory: string, unit: ItemRules["unit"]): ItemRules {
  return { itemKind, directory: bucket === null ? directory : `s3://${bucket}/`, unit, localPaths };
}

/** Nothing of it is loaded before. */
async function openInS3(from: string, spec: InputSpec, options: OpenSourceOptions): Promise<ItemSource> {
  const [{ openS3Source }, { connectS3 }] = await Promise.all([import("./s3-source.ts"), import("../jobs/s3.ts")]);
  const client = await connectS3(options.s3);
  try {
    const source = await openS3Source(from, spec, { client, itemKind: options.itemKind, bucket: options.bucket });
    return {
      identity: source.identity,
      rereadable: source.rereadable,
      read: (count) => source.read(count),
      remaining: () => source.remaining(),
      storageRequests: () => client.requests,
      async close() {
        await source.close();
        client.close();
      },
    };
  } catch (error) {
    client.close();
    throw error;
  }
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
  const rules = rulesOf(options, options.baseDir, "line");
  const identity: SourceIdentity = { kind: "stdin", from: "-", size: null, modifiedMs: null };
  return openStdinSource({
    bytes: readStreamBytes(options.stdin, "-"),
    spec,
    open: (format, bytes) => textSource({ format, bytes, identity, rereadable: false, spec, rules }),
  });
}
