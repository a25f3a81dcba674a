import { parseS3Url, s3Url } from "../../task-manager/s3-client.ts";
import type { S3Client, S3Place } from "../../task-manager/s3-client.ts";
import { SplitrunError } from "../errors.ts";
import type { InputSpec } from "../jobs/types.ts";
import type { ItemRules } from "./item.ts";
import { openParquet, openParquetSource, rowsOf } from "./parquet.ts";
import { openS3Folder, openS3Glob } from "./s3-listing.ts";
import { readS3Bytes, s3ParquetInput, statS3Object } from "./s3-object.ts";
import type { TextFormat } from "./stdin.ts";
import { chunkBytesOf, primedTextSource } from "./text-source.ts";
import type { ItemSource } from "./types.ts";

export interface S3SourceOptions {
  readonly client: S3Client;
  readonly itemKind: ItemRules["itemKind"];
  /** Plain keys in a list are keys of it; null: they stand next to the list. */
  readonly bucket: string | null;
}

/**
 * Items from S3: the objects below `s3://bucket/prefix/` or of a pattern, or the lines or rows of one object.
 * @throws SplitrunError INPUT_NOT_FOUND, INPUT_UNREADABLE, INPUT_FORMAT, INPUT_COLUMN
 */
export async function openS3Source(from: string, spec: InputSpec, options: S3SourceOptions): Promise<ItemSource> {
  const place = placeOf(from);
  const { client } = options;
  switch (spec.format) {
    case "folder":
      return openS3Folder(client, place);
    case "glob":
      return openS3Glob(client, place);
    case "parquet": {
      const object = await statS3Object(client, place);
      return openParquetSource(s3ParquetInput(client, object), spec, rulesOf(place, "row", options));
    }
    case "text":
    case "csv":
    case "jsonl":
      return openText(place, spec.format, spec, options);
    case "stdin":
    case "list":
      throw wrong(from, `does not go with the format ${spec.format}`);
  }
}

/** By what its end says. */
export async function countS3ParquetRows(client: S3Client, from: string): Promise<number> {
  const object = await statS3Object(client, placeOf(from));
  return rowsOf((await openParquet(s3ParquetInput(client, object))).metadata);
}

function placeOf(from: string): S3Place {
  const place = parseS3Url(from);
  if (place === null) throw wrong(from, "is not of the form s3://bucket/key");
  return place;
}

async function openText(place: S3Place, format: TextFormat, spec: InputSpec, options: S3SourceOptions): Promise<ItemSource> {
  const object = await statS3Object(options.client, place);
  return primedTextSource({
    format,
    bytes: readS3Bytes(options.client, object, chunkBytesOf(format)),
    identity: { kind: format, from: s3Url(place), size: object.bytes, modifiedMs: object.modifiedMs },
    // An object can be replaced at any time, and its copy costs less than a run that cannot be resumed.
    rereadable: false,
    spec,
    rules: rulesOf(place, "line", options),
  });
}

function rulesOf({ bucket, key }: S3Place, unit: ItemRules["unit"], options: S3SourceOptions): ItemRules {
  const nextTo = s3Url({ bucket, key: key.slice(0, key.lastIndexOf("/") + 1) });
  return { itemKind: options.itemKind, directory: options.bucket === null ? nextTo : s3Url({ bucket: options.bucket, key: "" }), unit, localPaths: true };
}

function wrong(from: string, what: string): SplitrunError {
  return new SplitrunError(`input ${from} ${what}`, { code: "INPUT_FORMAT", field: "input", value: from });
}
