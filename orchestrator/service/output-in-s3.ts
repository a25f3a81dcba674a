import { createHash, randomUUID } from "node:crypto";
import { createReadStream } from "node:fs";
import { readFile } from "node:fs/promises";
import { hostname } from "node:os";
import path from "node:path";
import { SplitrunError } from "../errors.ts";
import type { PreparedArtifacts } from "../jobs/artifacts.ts";
import { loadJob } from "../jobs/load.ts";
import { schemeOf } from "../jobs/paths.ts";
import { sealed } from "../jobs/sealed-module.ts";
import { s3KeepingOf, s3SettingsOf } from "../jobs/resolve.ts";
import type { ResolvedJob } from "../jobs/types.ts";
import { readRecord } from "../results/home-record.ts";
import type { Lease } from "../results/s3/lease.ts";
import { readMarker } from "../results/s3/marker.ts";
import type { OutputObjects } from "../results/s3/objects.ts";
import type { JobFile, Output } from "../results/s3/output.ts";
import type { RunRecord } from "../results/s3/records.ts";

/** A model is put in several parts of this size. */
const filePieceBytes = 8 * 2 ** 20;

/** An output that is this process's already. */
export interface TakenOutput {
  readonly objects: OutputObjects;
  readonly lease: Lease;
}

export interface OutputInS3Options {
  readonly mode: "run" | "resume";
  readonly home: string | null;
  readonly takeOver: boolean;
  readonly fresh: boolean;
  readonly taken: TakenOutput | null;
}

/**
 * Where a job's results go in S3; null: nowhere. Nothing of S3 is loaded before.
 * @throws SplitrunError OUTPUT_UNUSABLE, OUTPUT_TAKEN, OUTPUT_MOVED, OUTPUT_IN_USE, OUTPUT_DAMAGED
 */
export async function outputInS3({ output, s3, s3Keeping }: ResolvedJob, { mode, home, takeOver, fresh, taken }: OutputInS3Options): Promise<Output | null> {
  if (output.kind !== "s3") {
    if (taken !== null) throw otherOutput(taken.objects.url);
    return null;
  }
  if (taken !== null && taken.objects.url !== output.url) throw otherOutput(taken.objects.url);
  const { openOutput } = await import("../results/s3/output.ts");
  const objects = taken?.objects ?? (await objectsOf(output.url, s3, s3Keeping));
  try {
    const { format, order, partItems, checkpointMs } = output;
    const dir = mode === "resume" ? home : null;
    return await openOutput({ objects, format, order, partItems, checkpointMs, dir, takeOver, fresh: fresh && mode === "run", lease: taken?.lease ?? null });
  } catch (error) {
    objects.close();
    throw error;
  }
}

/** What of this machine the task needs, for those who go on elsewhere. */
export async function filesOf({ task }: ResolvedJob, prepared: PreparedArtifacts): Promise<readonly JobFile[]> {
  if (task.kind === "function") return prepared.task.kind === "function" ? moduleFile(task.module, prepared.task.module.sha256, prepared) : [];
  if (prepared.task.kind !== "inference") return [];
  const files: JobFile[] = [];
  const { sha256 } = prepared.task.model;
  const model = prepared.artifacts.get(sha256);
  if (model !== undefined && schemeOf(task.model) === null) {
    files.push({ field: "task.model", sha256, ending: ".onnx", bytes: () => createReadStream(model.path, { highWaterMark: filePieceBytes }) });
  }
  const { labels } = prepared.task.postprocess;
  if (labels !== null && typeof task.labels === "string" && schemeOf(task.labels) === null) {
    files.push(textFile("task.postprocess.labels", labels.map((label) => `${label}\n`).join(""), ".txt"));
  }
  return files;
}

/** As it was bundled, with all that it imports. */
async function moduleFile(module: string, sha256: string, { artifacts, fingerprint }: PreparedArtifacts): Promise<readonly JobFile[]> {
  const bundle = artifacts.get(sha256);
  if (bundle === undefined || schemeOf(module) !== null) return [];
  return [textFile("task.module", sealed(await readFile(bundle.path, "utf8"), fingerprint), ".mjs")];
}

function textFile(field: string, content: string, ending: string): JobFile {
  const bytes = Buffer.from(content);
  return { field, sha256: createHash("sha256").update(bytes).digest("hex"), ending, bytes: () => piecesOf(bytes) };
}

async function* piecesOf(bytes: Buffer): AsyncGenerator<Buffer, void> {
  for (let first = 0; first === 0 || first < bytes.length; first += filePieceBytes) yield bytes.subarray(first, first + filePieceBytes);
}

export interface HomeOfOutput {
  readonly dir: string;
  readonly taken: TakenOutput;
  readonly notes: readonly string[];
}

/**
 * The home of the run whose results are below a prefix: the one here that the run had, or a new one made from what is
 * there. The output is taken first, so that of several who try one goes on.
 * @throws SplitrunError HOME_EMPTY, OUTPUT_IN_USE, OUTPUT_UNUSABLE, OUTPUT_DAMAGED
 */
export async function homeOfOutput(url: string, { set, takeOver, cwd }: { readonly set: readonly string[]; readonly takeOver: boolean; readonly cwd: string }): Promise<HomeOfOutput> {
  const [{ acquireLease }, { rebuildHome }, { outputError }] = await Promise.all([
    import("../results/s3/lease.ts"), import("../results/s3/rebuild.ts"), import("../results/s3/objects.ts"),
  ]);
  const found = await recordAt(url, set);
  const { job } = await loadJob(found.job, { set: set.filter((text) => text.startsWith("s3.")) }, { cwd });
  const objects = await objectsOf(url, s3SettingsOf(job), s3KeepingOf(job));
  let lease: Lease | null = null;
  try {
    lease = await acquireLease(objects, { takeOver });
    // As it is now that nobody else can change it.
    const record = await recordAt(url, set);
    if (await isHere(record, url)) return { dir: record.home.dir, taken: { objects, lease }, notes: [] };
    const dir = path.join(cwd, ".splitrun", `${record.runId}-${randomUUID().slice(0, 8)}`);
    const homeId = randomUUID();
    const { items, notes } = await rebuildHome({ objects, record, dir, homeId });
    await nameHome(objects, record, { id: homeId, host: hostname(), dir });
    return { dir, taken: { objects, lease }, notes: [`${dir} was made from ${url}, which holds ${items} items.`, ...notes] };
  } catch (error) {
    await lease?.release({ forget: false });
    objects.close();
    throw outputError(url, error);
  }
}

/** Length of the list of a home whose copy is complete; null: not known. */
export async function itemsOfHome(dir: string): Promise<number | null> {
  return (await readMarker(dir))?.list?.count ?? null;
}

async function objectsOf(url: string, settings: ResolvedJob["s3"], keeping: ResolvedJob["s3Keeping"]): Promise<OutputObjects> {
  const [{ OutputObjects: Objects }, { connectS3ToPut }] = await Promise.all([import("../results/s3/objects.ts"), import("../jobs/s3.ts")]);
  return new Objects(await connectS3ToPut(settings, keeping), url);
}

/** What is below a prefix, for those who only read it. */
export function objectsToRead(url: string, set: readonly string[]): Promise<OutputObjects> {
  return objectsOf(url, settingsIn(set), { encryption: null, storageClass: null });
}

async function recordAt(url: string, set: readonly string[]): Promise<RunRecord> {
  const [{ runRecord }, { outputNames }, { outputError }] = await Promise.all([
    import("../results/s3/records.ts"), import("../results/s3/names.ts"), import("../results/s3/objects.ts"),
  ]);
  const objects = await objectsToRead(url, set);
  try {
    const found = await objects.readRecord(outputNames.record, runRecord);
    if (found !== null) return found.value;
  } catch (error) {
    throw outputError(url, error);
  } finally {
    objects.close();
  }
  throw new SplitrunError(`${url} holds no run that could be resumed; start one with \`splitrun run --output ${url} …\``, { code: "HOME_EMPTY", field: "output", value: url });
}

/** The run's own home, on this machine, and nobody has gone on with another one since. */
async function isHere({ home }: RunRecord, url: string): Promise<boolean> {
  if (home.host !== hostname()) return false;
  const marker = await readMarker(home.dir);
  return marker !== null && marker.url === url && marker.homeId === home.id && (await readRecord(home.dir)) !== null;
}

/** The homes before this one count no more. */
async function nameHome(objects: OutputObjects, record: RunRecord, home: RunRecord["home"]): Promise<void> {
  const { outputNames } = await import("../results/s3/names.ts");
  await objects.putText(outputNames.record, `${JSON.stringify({ ...record, home }, null, 2)}\n`, "none");
}

/** Before its job can be read: what the command line says of S3 itself. */
function settingsIn(set: readonly string[]): ResolvedJob["s3"] {
  return {
    requesterPays: set.includes("s3.requesterPays=true"),
    forcePathStyle: set.includes("s3.forcePathStyle=true") ? true : set.includes("s3.forcePathStyle=false") ? false : null,
  };
}

function otherOutput(url: string): SplitrunError {
  return new SplitrunError(`resume goes on with the output that it has, ${url}; leave output.to as it is`, { code: "OUTPUT_UNUSABLE", field: "output", value: url });
}
