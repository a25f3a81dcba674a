import { readFile } from "node:fs/promises";
import { join } from "node:path";
import * as z from "zod";
import { SplitrunError } from "../errors.ts";
import { errorCode, replaceFile } from "./durable.ts";
import { homeFiles } from "./home-files.ts";

const schemaVersion = 1;

/** `digest`: of the keys, in any order. */
const listDigest = z.object({ count: z.number().int().nonnegative(), digest: z.string().regex(/^[0-9a-f]{32}$/) });

/** A SourceIdentity, as it is written. */
export const sourceIdentity = z.object({
  kind: z.enum(["text", "csv", "jsonl", "parquet", "glob", "folder", "stdin", "list"]),
  from: z.string(),
  size: z.number().nullable(),
  modifiedMs: z.number().nullable(),
});

const homeRecord = z.object({
  schema: z.literal(schemaVersion),
  /** Of the task whose lines the journal holds. */
  fingerprint: z.string(),
  source: sourceIdentity,
  /** Bytes of the journal that were written for older lists. */
  listStart: z.number().int().nonnegative(),
  /** null: the list was not read to its end yet. */
  list: listDigest.nullable(),
  /** Of the list's first items, while it is being read; null: unknown. Records from before there was one lack it. */
  beginning: listDigest.nullable().default(null),
  /** What of stale.jsonl counts: a compaction that was cut leaves more. */
  staleBytes: z.number().int().nonnegative(),
  /** The compacted journal is complete and only has to take the journal's place. */
  compacted: z.boolean(),
});

/** `home.json`. */
export type HomeRecord = z.infer<typeof homeRecord>;
export type HomeState = Omit<HomeRecord, "schema">;

/** @throws SplitrunError HOME_SCHEMA */
export async function readRecord(dir: string): Promise<HomeRecord | null> {
  const path = join(dir, homeFiles.record);
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if (errorCode(error) === "ENOENT" || errorCode(error) === "ENOTDIR") return null;
    throw error;
  }
  return parsed(text, path);
}

export async function writeRecord(dir: string, state: HomeState): Promise<void> {
  await replaceFile(join(dir, homeFiles.record), `${JSON.stringify({ ...state, schema: schemaVersion }, null, 2)}\n`);
}

/** The list of a home that nobody has open was read to its end, though no run of the home has come so far. */
export async function noteWholeList(dir: string, list: NonNullable<HomeRecord["list"]>): Promise<void> {
  const record = await readRecord(dir);
  if (record !== null && record.list === null) await writeRecord(dir, { ...record, list: { count: list.count, digest: list.digest } });
}

function parsed(text: string, path: string): HomeRecord {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new SplitrunError(`${path} is not JSON; set what is there aside with --fresh, or name another output directory`, { code: "HOME_SCHEMA", value: path, cause });
  }
  const result = homeRecord.safeParse(value);
  if (result.success) return result.data;
  const schema = typeof value === "object" && value !== null && "schema" in value ? value.schema : undefined;
  const problem = schema === schemaVersion ? `has a wrong ${result.error.issues[0]?.path.join(".") ?? "field"}` : `has schema ${JSON.stringify(schema)}, and this version of splitrun knows ${schemaVersion}`;
  throw new SplitrunError(`${path} ${problem}; use the version that wrote it, set what is there aside with --fresh, or name another output directory`, {
    code: "HOME_SCHEMA",
    value: path,
  });
}
