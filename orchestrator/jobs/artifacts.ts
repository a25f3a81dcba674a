import { createHash } from "node:crypto";
import { readFile, stat } from "node:fs/promises";
import path from "node:path";
import type { Artifact, DownloadSpec, FunctionTask, InferenceTask, JsonValue, S3Settings, TaskSpec } from "../../task-manager/protocol.ts";
import type { Validators } from "../../task-manager/http-client.ts";
import { SplitrunError } from "../errors.ts";
import type { BundledModule } from "./bundle.ts";
import { openContentCache, type CachedFile, type ContentCache } from "./content-cache.ts";
import { withoutSecrets } from "./job-error.ts";
import { nearestFile, schemeOf } from "./paths.ts";
import { dereferenced, type Environment } from "./references.ts";
import { unsealed } from "./sealed-module.ts";
import type { ResolvedDownload, ResolvedFunctionTask, ResolvedInferenceTask, ResolvedJob } from "./types.ts";

export interface PreparedArtifacts {
  readonly task: TaskSpec;
  /** Local files by sha256, for Task Managers that lack them. */
  readonly artifacts: ReadonlyMap<string, { readonly path: string; readonly bytes: number }>;
  /** Of all that changes results: model, preprocessing, postprocessing with labels, the user's module. */
  readonly fingerprint: string;
}

export interface PrepareOptions {
  readonly cacheDir: string;
  /** Headers' references and proxies (HTTP_PROXY, HTTPS_PROXY, NO_PROXY) are looked up here. @default process.env */
  readonly environment?: Environment;
}

/** A model larger than this is a mistake, or somebody's attack. */
const modelBytesMax = 8 * 2 ** 30;
const modelTimeoutMs = 3_600_000;
const moduleBytesMax = 100_000_000;
/** Labels travel in a message. */
const labelBytesMax = 10_000_000;
const certificateBytesMax = 1_000_000;

/**
 * Reads, downloads and bundles what the task needs, and completes its specification.
 * @throws SplitrunError MODEL_NOT_FOUND, MODEL_UNREADABLE, MODEL_DOWNLOAD, MODULE_NOT_FOUND, MODULE_INVALID,
 *   LABELS_NOT_FOUND, LABELS_INVALID, CERTIFICATE_NOT_FOUND, CACHE_UNUSABLE …
 */
export async function prepareArtifacts({ task, s3 }: ResolvedJob, { cacheDir, environment = process.env }: PrepareOptions): Promise<PreparedArtifacts> {
  const cache = await openContentCache(cacheDir);
  return task.kind === "function" ? prepareFunction(task, { cache, s3 }) : prepareInference(task, { cache, s3 }, environment);
}

interface Sources {
  readonly cache: ContentCache;
  readonly s3: S3Settings;
}

async function prepareFunction(task: ResolvedFunctionTask, sources: Sources): Promise<PreparedArtifacts> {
  const { code, fingerprint } = schemeOf(task.module) === null ? bundled(task, await bundleOfFile(task.module)) : await moduleInS3(task, sources);
  const file = await sources.cache.keepText(code, ".mjs");
  const spec: FunctionTask = {
    kind: "function",
    module: artifactOf(file, `${path.parse(task.module).name}.mjs`),
    concurrency: task.concurrency,
    threads: task.threads,
  };
  return { task: spec, artifacts: filesOf(file), fingerprint };
}

interface ReadyModule {
  readonly code: string;
  readonly fingerprint: string;
}

function bundled(task: ResolvedFunctionTask, { code, normalised, exports }: BundledModule): ReadyModule {
  if (exports.includes("default")) return { code, fingerprint: fingerprintOf({ kind: "function", module: sha256(normalised) }) };
  const found = exports.length === 0 ? "nothing" : exports.join(", ");
  throw new SplitrunError(
    `task.module: ${task.module} has no default export (it exports ${found}); write \`export default async (item, context) => …\``,
    { code: "MODULE_INVALID", field: "task.module", value: task.module },
  );
}

async function bundleOfFile(module: string): Promise<BundledModule> {
  await requireFile(module, "task.module", "MODULE");
  const { bundleModule } = await import("./bundle.ts");
  return bundleModule(module);
}

/** As it is, where a run has put it there, bundled; else bundled from its copy in the cache, whose place is the same each time. */
async function moduleInS3(task: ResolvedFunctionTask, sources: Sources): Promise<ReadyModule> {
  const url = task.module;
  const ending = /\.[cm]?[jt]s$/.exec(url)?.[0] ?? ".mjs";
  const { path: copy } = await keptOfS3(url, { ...sources, field: "task.module", kind: "MODULE", bytesMax: moduleBytesMax, ending });
  const ready = unsealed(await readSmallFile(copy, "task.module", "MODULE", moduleBytesMax));
  if (ready !== null) return ready;
  const { bundleModule } = await import("./bundle.ts");
  const bundle = await bundleModule(copy).catch((cause: unknown) => {
    if (!(cause instanceof SplitrunError)) throw cause;
    const message = `${cause.message.replaceAll(copy, url)}; a module in S3 must have all that it imports inside: bundle it first`;
    throw new SplitrunError(message, { code: cause.code, field: "task.module", value: url, cause });
  });
  return bundled(task, bundle);
}

async function prepareInference(task: ResolvedInferenceTask, sources: Sources, environment: Environment): Promise<PreparedArtifacts> {
  const download = await completeDownload(task.download, sources.s3, environment);
  const labels = typeof task.labels === "string" ? await readLabels(task.labels, sources) : (task.labels && [...task.labels]);
  const model = await modelOf(task.model, download, sources);
  const spec: InferenceTask = {
    kind: "inference",
    model: model.artifact,
    download,
    preprocess: task.preprocess,
    infer: task.infer,
    postprocess: { ...task.postprocess, labels },
  };
  return { task: spec, artifacts: filesOf(model.file), fingerprint: fingerprintOf(whatChangesResults(spec)) };
}

/** How much is done at once and what is refused as too large change no result. */
function whatChangesResults({ model, preprocess, postprocess }: InferenceTask): JsonValue {
  const { concurrency: _concurrency, maxPixels: _maxPixels, ...pixels } = preprocess;
  return { kind: "inference", model: model.sha256, preprocess: pixels, postprocess };
}

interface Model {
  readonly artifact: Artifact;
  readonly file: CachedFile;
}

function modelOf(model: string, download: DownloadSpec, sources: Sources): Promise<Model> {
  switch (schemeOf(model)) {
    case null:
      return modelOfFile(model, sources.cache);
    case "s3":
      return modelInS3(model, sources);
    default:
      return modelOfUrl(model, download, sources.cache);
  }
}

async function modelInS3(url: string, sources: Sources): Promise<Model> {
  const file = await keptOfS3(url, { ...sources, field: "task.model", kind: "MODEL", bytesMax: modelBytesMax, ending: ".onnx" });
  return { artifact: artifactOf(file, modelName(path.posix.basename(url))), file };
}

/** A name that can be shown, and ends as those who load it expect. */
function modelName(basename: string): string {
  return /^[\w.-]{1,100}\.onnx$/.test(basename) ? basename : "model.onnx";
}

async function modelOfFile(model: string, cache: ContentCache): Promise<Model> {
  await requireFile(model, "task.model", "MODEL");
  const file = await cache.keepFile(model).catch((cause: unknown) => {
    throw cause instanceof SplitrunError ? cause : unreadable("MODEL", "task.model", model, cause);
  });
  return { artifact: artifactOf(file, path.basename(model)), file };
}

async function modelOfUrl(url: string, download: DownloadSpec, cache: ContentCache): Promise<Model> {
  const { createHttpClient } = await import("../../task-manager/http-client.ts");
  const name = modelName(path.posix.basename(new URL(url).pathname));
  try {
    // The items' headers may hold a token that is none of the model's host's business.
    const client = createHttpClient({ ...download, headers: {} });
    try {
      const file = await cache.keepChanging(url, path.extname(name), async (temporary, known) => {
        const content = await client.downloadToFile(url, temporary, { maxBytes: modelBytesMax, timeoutMs: modelTimeoutMs, known: validatorsIn(known) });
        return content && { ...content, version: content.validators && JSON.stringify(content.validators) };
      });
      return { artifact: artifactOf(file, name), file };
    } finally {
      await client.close();
    }
  } catch (cause) {
    if (cause instanceof SplitrunError) throw cause;
    const { code, field } = cause as { readonly code?: unknown; readonly field?: unknown };
    const why = cause instanceof Error ? cause.message : String(cause);
    if (typeof field === "string" && typeof code === "string") throw new SplitrunError(`${field}: ${why}`, { code, field, cause });
    throw new SplitrunError(`task.model: ${withoutSecrets(url)} could not be downloaded: ${why}`, { code: "MODEL_DOWNLOAD", field: "task.model", value: withoutSecrets(url), cause });
  }
}

function validatorsIn(version: string | null): Validators | null {
  return version === null ? null : (JSON.parse(version) as Validators);
}

async function completeDownload({ perHost: _perHost, ...download }: ResolvedDownload, s3: S3Settings, environment: Environment): Promise<DownloadSpec> {
  const variable = (name: string) => environment[name.toLowerCase()] ?? environment[name] ?? "";
  const certificateAuthorities: string[] = [];
  for (const [at, file] of download.certificateAuthorities.entries()) {
    certificateAuthorities.push(await readSmallFile(file, `task.download.certificateAuthorities.${at}`, "CERTIFICATE", certificateBytesMax));
  }
  return {
    ...download,
    headers: dereferenced(download.headers, environment),
    proxy: { http: variable("HTTP_PROXY"), https: variable("HTTPS_PROXY"), noProxy: variable("NO_PROXY") },
    certificateAuthorities,
    s3,
  };
}

/** One label a line; the line's number from 0 is the class. */
async function readLabels(file: string, sources: Sources): Promise<string[]> {
  const field = "task.postprocess.labels";
  const here = schemeOf(file) === null
    ? file
    : (await keptOfS3(file, { ...sources, field, kind: "LABELS", bytesMax: labelBytesMax, ending: ".txt" })).path;
  const text = await readSmallFile(here, field, "LABELS", labelBytesMax);
  const labels = text.replace(/^\uFEFF/, "").replace(/(\r?\n)+$/, "").split(/\r?\n/);
  if (labels.length > 1 || labels[0] !== "") return labels;
  throw new SplitrunError(`task.postprocess.labels: ${file} is empty; write one label a line`, { code: "LABELS_INVALID", field: "task.postprocess.labels", value: file });
}

type Kind = "MODEL" | "MODULE" | "LABELS" | "CERTIFICATE";

interface KeepOptions extends Sources {
  readonly field: string;
  readonly kind: Kind;
  readonly bytesMax: number;
  readonly ending: string;
}

/** A copy in the cache; the object is not read again until it is another one. */
async function keptOfS3(url: string, { cache, s3, field, kind, bytesMax, ending }: KeepOptions): Promise<CachedFile> {
  const [{ connectS3, downloadS3Object }, { S3Failure, parseS3Url }] = await Promise.all([import("./s3.ts"), import("../../task-manager/s3-client.ts")]);
  const place = parseS3Url(url);
  if (place === null) throw new TypeError(`${field}: ${url} passed the check and is no s3 URL`);
  const client = await connectS3(s3);
  try {
    const stat = await client.head(place);
    if (stat === null) throw new SplitrunError(`${field}: ${url} does not exist; check bucket and key, and account and endpoint in use`, { code: `${kind}_NOT_FOUND`, field, value: url });
    if (stat.bytes > bytesMax) throw tooLarge({ kind, field, file: url, bytes: stat.bytes, bytesMax });
    const { etag: version } = stat;
    return await cache.keepChanging(url, ending, async (file, known) => (known === version ? null : { ...(await downloadS3Object(client, place, stat, file)), version }));
  } catch (cause) {
    if (!(cause instanceof S3Failure)) throw cause;
    const code = cause.code === "S3_NO_SUCH_KEY" || cause.code === "S3_NO_SUCH_BUCKET" ? "NOT_FOUND" : "UNREADABLE";
    throw new SplitrunError(`${field}: ${cause.message}`, { code: `${kind}_${code}`, field, value: url, cause });
  } finally {
    client.close();
  }
}

function tooLarge({ kind, field, file, bytes, bytesMax }: { readonly kind: Kind; readonly field: string; readonly file: string; readonly bytes: number; readonly bytesMax: number }): SplitrunError {
  return new SplitrunError(`${field}: ${file} has ${bytes} bytes; allowed: up to ${bytesMax}`, { code: `${kind}_INVALID`, field, value: file });
}

async function readSmallFile(file: string, field: string, kind: Kind, bytesMax: number): Promise<string> {
  const bytes = await requireFile(file, field, kind);
  if (bytes > bytesMax) throw tooLarge({ kind, field, file, bytes, bytesMax });
  return readFile(file, "utf8").catch((cause: unknown) => {
    throw unreadable(kind, field, file, cause);
  });
}

function unreadable(kind: Kind, field: string, file: string, cause: unknown): SplitrunError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new SplitrunError(`${field}: ${file} cannot be read: ${why}`, { code: `${kind}_UNREADABLE`, field, value: file, cause });
}

/** @returns its size */
async function requireFile(file: string, field: string, kind: Kind): Promise<number> {
  const found = await stat(file).catch((error: NodeJS.ErrnoException) => error);
  if (found instanceof Error) {
    if (found.code !== "ENOENT" && found.code !== "ENOTDIR") throw unreadable(kind, field, file, found);
    const meant = await nearestFile(file);
    throw new SplitrunError(`${field}: ${file} does not exist${meant === null ? "" : `; did you mean ${meant}?`}`, { code: `${kind}_NOT_FOUND`, field, value: file });
  }
  if (found.isFile()) return found.size;
  throw new SplitrunError(`${field}: ${file} is not a file`, { code: `${kind}_UNREADABLE`, field, value: file });
}

function artifactOf({ sha256, bytes }: CachedFile, name: string): Artifact {
  return { sha256, bytes, name };
}

function filesOf(file: CachedFile): PreparedArtifacts["artifacts"] {
  return new Map([[file.sha256, { path: file.path, bytes: file.bytes }]]);
}

function fingerprintOf(task: JsonValue): string {
  return sha256(canonical(task));
}

function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

/** JSON with sorted keys: equal values, equal text. */
function canonical(value: JsonValue): string {
  return JSON.stringify(value, (_key, part: JsonValue) =>
    typeof part === "object" && part !== null && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([left], [right]) => (left < right ? -1 : 1)))
      : part);
}
