import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { SplitrunError } from "../errors.ts";
import { JobInvalidError } from "./job-error.ts";
import { absolutePaths, nearestFile } from "./paths.ts";
import { isPlainObject } from "./problems.ts";
import { parseJob, type Job } from "./schema.ts";

/** What the command line says about the job, on top of its file. */
export interface JobOverrides {
  /** Flags such as `--input` and `--limit`, as the part of a job that they stand for; paths are relative to `cwd`. */
  readonly flags?: unknown;
  /** Texts of `--set`: `task.infer.batch=16`. The value is JSON, else text. */
  readonly set?: readonly string[];
}

/** A job that is well-formed, with absolute paths. */
export interface LoadedJob {
  readonly job: Job;
  readonly baseDir: string;
  /** Which fields were not said by the job itself, and what said them: `{ "task.infer.batch": "flag --set" }`. */
  readonly origins: Readonly<Record<string, string>>;
}

/**
 * Reads a job and puts the command line's values over it.
 * @param source a job file (`.json`, `.yaml`, `.yml`, `.js`, `.mjs`, `.ts`, `.mts`), the job itself, or null: flags alone
 * @throws JobInvalidError for what is wrong with the job, SplitrunError JOB_NOT_FOUND, JOB_UNREADABLE or JOB_SYNTAX for its file
 */
export async function loadJob(source: unknown, overrides: JobOverrides, { cwd }: { readonly cwd: string }): Promise<LoadedJob> {
  const file = typeof source === "string" ? path.resolve(cwd, source) : null;
  const written = file === null ? (source ?? {}) : await readJobFile(file);
  const baseDir = baseDirOf(written, file === null ? cwd : path.dirname(file));
  const origins: Record<string, string> = {};

  let job = absolutePaths(written, baseDir);
  job = overlaid(job, absolutePaths(overrides.flags ?? {}, cwd), "the command line", origins);
  for (const assignment of overrides.set ?? []) {
    job = overlaid(job, absolutePaths(parseAssignment(assignment), cwd), "flag --set", origins);
  }
  if (file !== null && isPlainObject(job) && job["name"] === undefined) {
    job = { ...job, name: path.parse(file).name };
    origins["name"] = "the job file's name";
  }
  return { job: parseJob(job), baseDir, origins };
}

function baseDirOf(written: unknown, otherwise: string): string {
  const given = isPlainObject(written) ? written["baseDir"] : undefined;
  return typeof given === "string" ? path.resolve(otherwise, given) : otherwise;
}

async function readJobFile(file: string): Promise<unknown> {
  switch (path.extname(file).toLowerCase()) {
    case ".json":
      return parseJson(await readText(file), file);
    case ".yaml":
    case ".yml":
      return parseYaml(await readText(file), file);
    case ".js":
    case ".mjs":
      return defaultExport(file, await readText(file), () => import(pathToFileURL(file).href));
    case ".ts":
    case ".mts":
      return defaultExport(file, await readText(file), () => importTypeScript(file));
    default:
      throw new SplitrunError(`${file}: a job file ends in .json, .yaml, .yml, .js, .mjs or .ts; a list of images is given with --input, and \`splitrun resume\` goes on with a run`, { code: "JOB_UNREADABLE", value: file });
  }
}

async function readText(file: string): Promise<string> {
  try {
    return (await readFile(file, "utf8")).replace(/^\uFEFF/, "");
  } catch (cause) {
    if (!(cause instanceof Error && "code" in cause && cause.code === "ENOENT")) {
      throw new SplitrunError(`the job file ${file} cannot be read: ${messageOf(cause)}`, { code: "JOB_UNREADABLE", value: file, cause });
    }
    const meant = await nearestFile(file);
    throw new SplitrunError(`the job file ${file} does not exist${meant === null ? "" : `; did you mean ${meant}?`}`, { code: "JOB_NOT_FOUND", value: file });
  }
}

async function parseJson(text: string, file: string): Promise<unknown> {
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    // Node's own message has no line, and often no place at all.
    throw (await syntaxError(text, "json", file)) ?? new SplitrunError(`${file}: ${messageOf(cause)}`, { code: "JOB_SYNTAX", value: file, cause });
  }
}

async function parseYaml(text: string, file: string): Promise<unknown> {
  const { LineCounter, parseDocument } = await import("yaml");
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const [error] = document.errors;
  if (error !== undefined) {
    const { line, col } = lines.linePos(error.pos[0]);
    throw new SplitrunError(`${file}:${line}:${col}: ${error.message}`, { code: "JOB_SYNTAX", value: file, cause: error });
  }
  try {
    return document.toJS() as unknown;
  } catch (cause) {
    throw new SplitrunError(`${file}: ${messageOf(cause)}`, { code: "JOB_SYNTAX", value: file, cause });
  }
}

async function defaultExport(file: string, text: string, load: () => Promise<unknown>): Promise<unknown> {
  let loaded: unknown;
  try {
    loaded = await load();
  } catch (cause) {
    const loader = /ts$/i.test(file) ? "ts" : "js";
    throw (await syntaxError(text, loader, file)) ?? new SplitrunError(`the job file ${file} could not be loaded: ${messageOf(cause)}`, { code: "JOB_UNREADABLE", value: file, cause });
  }
  const job = (loaded as { readonly default?: unknown }).default;
  if (job === undefined) throw new SplitrunError(`${file} has no default export: write \`export default { input, task }\``, { code: "JOB_UNREADABLE", value: file });
  return job;
}

async function importTypeScript(file: string): Promise<unknown> {
  const { bundleModule } = await import("./bundle.ts");
  const { code } = await bundleModule(file);
  const directory = await mkdtemp(path.join(tmpdir(), "splitrun-job-"));
  try {
    const bundle = path.join(directory, "job.mjs");
    await writeFile(bundle, code, { mode: 0o600 });
    return await import(pathToFileURL(bundle).href);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** The place of the first syntax error, or null where there is none. */
async function syntaxError(text: string, loader: "json" | "js" | "ts", file: string): Promise<SplitrunError | null> {
  const { loadEsbuild } = await import("./bundle.ts");
  const { transform } = await loadEsbuild();
  try {
    await transform(text, { loader, logLevel: "silent" });
    return null;
  } catch (cause) {
    const [first] = (cause as { readonly errors?: readonly { text: string; location: { line: number; column: number } | null }[] }).errors ?? [];
    if (first === undefined) return null;
    const place = first.location === null ? "" : `:${first.location.line}:${first.location.column + 1}`;
    return new SplitrunError(`${file}${place}: ${first.text}`, { code: "JOB_SYNTAX", value: file, cause });
  }
}

function parseAssignment(assignment: string): unknown {
  const at = assignment.indexOf("=");
  const names = assignment.slice(0, at).split(".");
  if (at <= 0 || names.some((name) => name === "")) {
    throw new JobInvalidError([{ field: "--set", value: assignment, message: `${JSON.stringify(assignment.slice(0, 100))} is not allowed; allowed: field=value, such as task.infer.batch=16` }]);
  }
  return names.reduceRight<unknown>((value, name) => Object.fromEntries([[name, value]]), jsonOrText(assignment.slice(at + 1)));
}

function jsonOrText(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return text;
  }
}

/** Fields that can be written short, and the field that the short form stands for. */
const shortForms: Readonly<Record<string, string>> = { input: "from", output: "to", backend: "kind" };

/** Fields whose `kind` says which others there are, and the kind of one that names none. */
const kinded: Readonly<Record<string, string | undefined>> = { backend: undefined, speculation: "remainder" };

/** `over` on top of `job`: objects field by field, everything else replaced. Notes in `origins` what `over` said. */
function overlaid(job: unknown, over: unknown, origin: string, origins: Record<string, string>): unknown {
  if (!isPlainObject(job) || !isPlainObject(over)) return job;
  const long = (values: Readonly<Record<string, unknown>>) => Object.fromEntries(
    Object.entries(values).map(([name, value]) => {
      const field = Object.hasOwn(shortForms, name) && Object.hasOwn(over, name) ? shortForms[name] : undefined;
      return [name, field === undefined || isPlainObject(value) || value === undefined ? value : { [field]: value }];
    }),
  );
  return merged(long(job), long(over), "", origin, origins);
}

function merged(
  base: Readonly<Record<string, unknown>>,
  over: Readonly<Record<string, unknown>>,
  path: string,
  origin: string,
  origins: Record<string, string>,
): Readonly<Record<string, unknown>> {
  const entries = new Map(Object.entries(base));
  for (const [name, value] of Object.entries(over)) {
    if (value === undefined) continue;
    const field = path === "" ? name : `${path}.${name}`;
    const below = entries.get(name);
    if (isPlainObject(value)) {
      entries.set(name, merged(isPlainObject(below) ? fitting(below, value, field, origins) : {}, value, field, origin, origins));
    } else {
      entries.set(name, value);
      origins[field] = origin;
    }
  }
  return Object.fromEntries(entries);
}

/** What `below` says for the kind that `over` makes of it: where that is another one, only what the command line has said. */
function fitting(
  below: Readonly<Record<string, unknown>>,
  over: Readonly<Record<string, unknown>>,
  field: string,
  origins: Readonly<Record<string, string>>,
): Readonly<Record<string, unknown>> {
  if (!Object.hasOwn(kinded, field)) return below;
  const kind = below["kind"] ?? kinded[field];
  if (kind === undefined || over["kind"] === undefined || over["kind"] === kind) return below;
  const isSaid = (name: string) => Object.keys(origins).some((said) => said === `${field}.${name}` || said.startsWith(`${field}.${name}.`));
  return Object.fromEntries(Object.entries(below).filter(([name]) => isSaid(name)));
}

function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
