import { stat } from "node:fs/promises";
import path from "node:path";
import { parseS3Url } from "../../task-manager/s3-client.ts";
import { SplitrunError } from "../errors.ts";
import { JobInvalidError } from "./job-error.ts";
import type { Ledger } from "./ledger.ts";
import { looksLikeGlob, nearestFile, schemeOf } from "./paths.ts";
import type { Job, JobInput } from "./schema.ts";
import type { InputSpec } from "./types.ts";

type Format = InputSpec["format"];

const formatOfEnding: Readonly<Record<string, Format>> = {
  ".csv": "csv",
  ".tsv": "csv",
  ".jsonl": "jsonl",
  ".ndjson": "jsonl",
  ".parquet": "parquet",
};

/** Formats that have columns or fields. */
const withColumns: readonly Format[] = ["csv", "jsonl", "parquet", "stdin", "list"];

/**
 * What `input` says, complete; its paths are absolute already.
 * @throws SplitrunError INPUT_NOT_FOUND, JobInvalidError
 */
export async function resolveInput(job: Job, ledger: Ledger): Promise<InputSpec> {
  const said = asObject(job.input);
  const { format, rule } = said.format === undefined ? await formatOf(said.from) : { format: said.format, rule: ledger.originOf("input.format") };
  const given = withoutForeignColumns(said, format, ledger);
  checkColumns(given, format);
  checkBucket(job.bucket ?? null, format);
  ledger.note("input.from", typeof given.from === "string" ? given.from : `${given.from.length} items`, ledger.originOf("input.from"));
  ledger.note("input.format", format, rule);
  return {
    from: given.from,
    format,
    column: ledger.settle("input.column", given.column, null),
    id: ledger.settle("input.id", given.id, null),
    weight: ledger.settle("input.weight", given.weight, null),
    limit: ledger.settle("input.limit", given.limit, null),
  };
}

function asObject(input: Job["input"]): JobInput {
  return typeof input === "string" || Array.isArray(input) ? { from: input } : (input as JobInput);
}

interface Found {
  readonly format: Format;
  readonly rule: string;
}

async function formatOf(from: JobInput["from"]): Promise<Found> {
  if (typeof from !== "string") return { format: "list", rule: "items in the job" };
  if (from === "-") return { format: "stdin", rule: "standard input" };
  if (schemeOf(from) === "s3") return formatInS3(from);
  const found = await stat(from).catch(() => null);
  if (found === null && looksLikeGlob(from)) return { format: "glob", rule: "a pattern" };
  if (found === null) throw await notFound(from);
  if (found.isDirectory()) return { format: "folder", rule: "a directory" };
  return formatOfFile(from);
}

/** By the name alone: a name without a / at its end is an object. */
function formatInS3(url: string): Found {
  const key = parseS3Url(url)?.key ?? "";
  if (key === "" || key.endsWith("/")) return { format: "folder", rule: "the objects below a prefix" };
  return looksLikeGlob(key) ? { format: "glob", rule: "a pattern" } : formatOfFile(key);
}

function formatOfFile(file: string): Found {
  const ending = path.posix.extname(file.toLowerCase().replace(/\.gz$/, ""));
  return { format: formatOfEnding[ending] ?? "text", rule: ending === "" ? "default" : `the file's ending ${ending}` };
}

async function notFound(from: string): Promise<SplitrunError> {
  const meant = await nearestFile(from);
  return new SplitrunError(`input: ${from} does not exist${meant === null ? "" : `; did you mean ${meant}?`}`, { code: "INPUT_NOT_FOUND", field: "input", value: from });
}

/** `--input` in place of a job's list: columns that the job names are of that list, and this one has none. */
function withoutForeignColumns(said: JobInput, format: Format, ledger: Ledger): JobInput {
  if (withColumns.includes(format)) return said;
  const foreign = (["column", "id", "weight"] as const).filter((name) => isOfTheJobAlone(`input.${name}`, ledger));
  return Object.fromEntries(Object.entries(said).filter(([name]) => !foreign.some((each) => each === name))) as JobInput;
}

function isOfTheJobAlone(field: string, ledger: Ledger): boolean {
  return ledger.originOf(field) === ledger.originOf("") && ledger.originOf("input.from") !== ledger.originOf("");
}

function checkColumns(given: JobInput, format: Format): void {
  if (withColumns.includes(format)) return;
  const problems = (["column", "id", "weight"] as const).filter((name) => given[name] !== undefined).map((name) => ({
    field: `input.${name}`,
    value: given[name],
    message: `${JSON.stringify(given[name])} is not allowed: input of format ${format} has no columns or fields; allowed with: ${withColumns.join(", ")}`,
  }));
  if (problems.length > 0) throw new JobInvalidError(problems);
}

/** A bucket's keys stand in lists; whoever names a folder beside it may have meant the bucket's. */
function checkBucket(bucket: string | null, format: Format): void {
  if (bucket === null || (format !== "folder" && format !== "glob")) return;
  const message = `${JSON.stringify(bucket)} is not allowed: input of format ${format} names its files whole; leave it out`
    + `, or for objects of the bucket give input: s3://${bucket}/prefix/`;
  throw new JobInvalidError([{ field: "bucket", value: bucket, message }]);
}
