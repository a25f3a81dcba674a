import { randomUUID } from "node:crypto";
import { hostname } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { S3Requests } from "../../../task-manager/s3-client.ts";
import { SplitrunError } from "../../errors.ts";
import type { ItemSource, SourceIdentity } from "../../inputs/types.ts";
import { homeFiles } from "../home-files.ts";
import { noteWholeList, readRecord } from "../home-record.ts";
import type { Home } from "../types.ts";
import { type Lease, acquireLease } from "./lease.ts";
import { type Marker, readMarker, writeMarker } from "./marker.ts";
import { outputNames } from "./names.ts";
import { type OutputObjects, outputError } from "./objects.ts";
import { PartStore } from "./part-store.ts";
import { patiently } from "./patience.ts";
import { Projection } from "./projection.ts";
import { linesFolder } from "./rebuild.ts";
import { type Manifest, type PartRecord, type RunRecord, type WholeList, recordsSchema, runRecord } from "./records.ts";
import { setOutputAside } from "./set-aside.ts";
import { type Spool, spoolList } from "./spool.ts";
import { putTables } from "./tables.ts";

/** At the end of a run, as long as no part more is put, S3 is waited for this long. */
const waitedMsMax = 600_000;
const lookEveryMs = 1000;
/** A run that was stopped waits no longer than this for S3. */
const lastTailMsMax = 30_000;
const repairsMax = 3;

export interface OutputOptions {
  readonly objects: OutputObjects;
  readonly format: RunRecord["format"];
  readonly order: "completion" | "input";
  readonly partItems: number;
  readonly checkpointMs: number;
}

export interface OpenOutputOptions extends OutputOptions {
  /** Home that is gone on with; null: a new one. */
  readonly dir: string | null;
  readonly takeOver: boolean;
  /** What is there is set aside when the run begins. */
  readonly fresh: boolean;
  /** Of an output that its caller has taken already; null: it is taken here. */
  readonly lease: Lease | null;
}

export interface BeginOptions {
  /** Open, and nothing appended to it yet. */
  readonly home: Home;
  readonly source: ItemSource;
  readonly runId: string;
  readonly fingerprint: string;
  /** The job as the run's directory has it. */
  readonly record: unknown;
  readonly retryFailed: boolean;
  /** Files of this machine that the job names, for a machine that lacks them. */
  readonly files: readonly JobFile[];
}

export interface JobFile {
  /** Of the job: `task.model`. */
  readonly field: string;
  readonly sha256: string;
  /** Of the file's name: `.onnx`. */
  readonly ending: string;
  readonly bytes: () => AsyncIterable<Buffer>;
}

/** How the output ended; null: whole, or stopped as the run was. */
export interface OutputEnd {
  readonly reason: "user" | "output";
  readonly message: string;
}

/** What a run has to do with its output in S3. */
export interface Output {
  readonly url: string;
  /** Sent so far. */
  readonly requests: S3Requests;
  /** The list as an earlier run copied it; null: it has to be read where the job says. */
  readonly keptList: ItemSource | null;
  /** What a person should know of how it began. */
  readonly notes: readonly string[];
  /** From here on there is something below the prefix. Returns the list as the run has to read it. */
  begin(options: BeginOptions): Promise<ItemSource>;
  /** The run has so many more lines on disk. */
  stored(lines: number): void;
  /** Once: nothing more can be put. */
  onFailed(listener: (message: string) => void): void;
  /** The run has ended and its home is finished. `complete`: every item has a line. */
  finish(options: { readonly complete: boolean; readonly giveUp: AbortSignal; readonly onNote: (text: string) => void }): Promise<OutputEnd | null>;
  close(): Promise<void>;
}

/**
 * Takes the place below a prefix, before anything is begun: what S3 refuses is told here.
 * @throws SplitrunError OUTPUT_UNUSABLE, OUTPUT_TAKEN, OUTPUT_MOVED, OUTPUT_IN_USE, OUTPUT_DAMAGED
 */
export async function openOutput(options: OpenOutputOptions): Promise<Output> {
  const { objects, dir, takeOver, fresh } = options;
  let lease: Lease | null = options.lease;
  try {
    const marker = dir === null ? null : await markerFor(objects.url, dir);
    if (!fresh) await refuseOther(options, marker);
    lease ??= await acquireLease(objects, { takeOver });
    // Somebody may have begun and ended meanwhile.
    const isNew = !fresh && (await refuseOther(options, marker));
    const keptList = dir === null || marker === null || marker.list === null ? null : await keptListOf(dir, marker.list);
    return new S3Output(options, { lease, marker, keptList, isNew });
  } catch (error) {
    await lease?.release({ forget: false });
    throw outputError(objects.url, error);
  }
}

async function markerFor(url: string, dir: string): Promise<Marker | null> {
  const marker = await readMarker(dir);
  return marker?.url === url ? marker : null;
}

/** Returns whether nothing is there yet. */
async function refuseOther({ objects, partItems, format }: OutputOptions, marker: Marker | null): Promise<boolean> {
  const found = await objects.readRecord(outputNames.record, runRecord);
  if (found === null) {
    for (const folder of [outputNames.parts, outputNames.lines]) {
      for await (const [name] of objects.list(folder)) throw taken(objects, `${objects.urlOf(name)} is there already`);
    }
    return true;
  }
  if (marker === null) throw taken(objects, `it holds the run ${found.value.runId}; \`splitrun resume ${objects.url}\` goes on with that`);
  const { id, host, dir } = found.value.home;
  if (id === marker.homeId) {
    if (found.value.partItems !== partItems) throw laidOut(objects, { field: "output.partItems", value: partItems, before: found.value.partItems });
    if (found.value.format !== format) throw laidOut(objects, { field: "output.format", value: format, before: found.value.format });
    return false;
  }
  throw new SplitrunError(`${objects.url} was gone on with in ${dir} on ${host}, so what is here counts no more; use \`splitrun resume ${objects.url}\``, {
    code: "OUTPUT_MOVED", field: "output", value: { host, dir },
  });
}

function laidOut({ url }: OutputObjects, { field, value, before }: { readonly field: string; readonly value: unknown; readonly before: unknown }): SplitrunError {
  return new SplitrunError(`${field}: ${String(value)} is not what the parts in ${url} were begun with; leave it at ${String(before)}`, { code: "OUTPUT_UNUSABLE", field, value });
}

function taken(objects: OutputObjects, what: string): SplitrunError {
  return new SplitrunError(`output ${objects.url}: ${what}; name another prefix, set aside what is there with --fresh, or delete it`, { code: "OUTPUT_TAKEN", field: "output", value: objects.url });
}

/** Its copy in the home, which the home reads. */
async function keptListOf(dir: string, list: WholeList): Promise<ItemSource | null> {
  await noteWholeList(dir, list);
  const record = await readRecord(dir);
  return record === null ? null : placeholder(record.source);
}

function placeholder(identity: SourceIdentity): ItemSource {
  const never = (): never => {
    throw new Error("the list is read from its copy");
  };
  return { identity, rereadable: false, read: never, remaining: never, close: async () => {} };
}

interface Opened {
  readonly lease: Lease;
  readonly marker: Marker | null;
  readonly keptList: ItemSource | null;
  readonly isNew: boolean;
}

interface Begun {
  readonly options: BeginOptions;
  readonly homeId: string;
  readonly store: PartStore;
  readonly projection: Projection;
  readonly spool: Spool | null;
}

class S3Output implements Output {
  readonly notes: string[] = [];
  readonly #options: OpenOutputOptions;
  readonly #opened: Opened;
  #begun: Begun | null = null;
  #touched = false;
  readonly #closing = new AbortController();
  #files: Promise<void> = Promise.resolve();
  #list: WholeList | null;
  #failure: Error | null = null;
  #tell: (message: string) => void = () => undefined;

  constructor(options: OpenOutputOptions, opened: Opened) {
    this.#options = options;
    this.#opened = opened;
    this.#list = opened.marker?.list ?? null;
    opened.lease.onLost((lost) => this.#fail(lost));
  }

  get url(): string {
    return this.#options.objects.url;
  }

  get requests(): S3Requests {
    return this.#options.objects.requests;
  }

  get keptList(): ItemSource | null {
    return this.#opened.keptList;
  }

  async begin(options: BeginOptions): Promise<ItemSource> {
    try {
      return await this.#begin(options);
    } catch (error) {
      throw outputError(this.url, error);
    }
  }

  async #begin(options: BeginOptions): Promise<ItemSource> {
    const { objects, format, fresh } = this.#options;
    const { home } = options;
    await refuseOlderLines(home.dir);
    const aside = fresh ? await setOutputAside(objects) : null;
    if (aside !== null) this.notes.push(aside);
    const homeId = this.#opened.marker?.homeId ?? randomUUID();
    this.#touched = true;
    await writeMarker(home.dir, { url: this.url, homeId, list: this.#list });
    await this.#putRecord(options, homeId);
    // It would be wrong from the first part that is put again.
    if (options.retryFailed && !this.#opened.isNew && (await objects.stat(outputNames.success)) !== null) await objects.delete([outputNames.success, outputNames.manifest]);
    const store = await PartStore.open(objects, this.#opened.lease, join(home.dir, homeFiles.outputParts));
    const onFailed = (error: Error): void => this.#fail(error);
    const projection = await Projection.open({
      ...this.#options, store, homeId, onFailed,
      dir: home.dir,
      folder: linesFolder(format),
      retryFailed: options.retryFailed,
    });
    const spool = this.#list === null ? await this.#spool(options, homeId, projection) : null;
    this.#begun = { options, homeId, store, projection, spool };
    if (this.#list !== null) projection.listEnded(this.#list.count);
    this.#putFiles(options.files);
    return spool?.list ?? home.list(options.source);
  }

  /** Beside the run, which needs none of it. */
  #putFiles(files: readonly JobFile[]): void {
    const { objects } = this.#options;
    const { signal } = this.#closing;
    const putAll = async (): Promise<void> => {
      for (const file of files) {
        if ((await objects.stat(fileName(file))) !== null) continue;
        await patiently(() => objects.put(fileName(file), file.bytes(), { condition: "none", signal }), signal);
      }
    };
    // Whoever goes on elsewhere has to say where the file is there.
    this.#files = putAll().catch(() => undefined);
  }

  #spool(options: BeginOptions, homeId: string, projection: Projection): Promise<Spool> {
    const { home, source } = options;
    return spoolList(source, {
      objects: this.#options.objects,
      path: join(home.dir, homeFiles.inputs),
      onFailed: (error) => this.#fail(error),
      onComplete: async (list) => {
        this.#list = list;
        await writeMarker(home.dir, { url: this.url, homeId, list });
        await this.#putRecord(options, homeId);
        projection.listEnded(list.count);
      },
    });
  }

  stored(lines: number): void {
    this.#begun?.projection.stored(lines);
  }

  onFailed(listener: (message: string) => void): void {
    this.#tell = listener;
    if (this.#failure !== null) listener(this.#failureText(this.#failure));
  }

  async finish({ complete, giveUp, onNote }: Parameters<Output["finish"]>[0]): Promise<OutputEnd | null> {
    if (this.#begun === null) return null;
    const { projection } = this.#begun;
    const stop = (): void => {
      this.#closing.abort();
      projection.giveUp();
    };
    giveUp.addEventListener("abort", stop, { once: true });
    if (giveUp.aborted) stop();
    try {
      if (complete) await this.#complete(this.#begun, giveUp, onNote);
      else await this.#putLastTail(projection, stop);
      return null;
    } catch (error) {
      const message = this.#failureText(this.#failure ?? (error instanceof Error ? error : new Error(String(error))));
      if (complete) return giveUp.aborted ? { reason: "user", message: `Stopped before all results were in ${this.url}.` } : { reason: "output", message };
      if (this.#failure === null) onNote(`What ended last is not in ${this.url} yet: ${message}`);
      return null;
    } finally {
      giveUp.removeEventListener("abort", stop);
    }
  }

  async close(): Promise<void> {
    const { objects } = this.#options;
    this.#closing.abort();
    await this.#files;
    await this.#begun?.projection.close();
    await this.#opened.lease.release({ forget: this.#opened.isNew && !this.#touched });
    objects.close();
  }

  async #complete(begun: Begun, giveUp: AbortSignal, onNote: (text: string) => void): Promise<void> {
    const { projection, spool, store } = begun;
    if (this.#failure !== null) throw this.#failure;
    await spool?.ended;
    const stopWaiting = this.#waitWhileItGoesOn(projection);
    try {
      await projection.settled();
    } finally {
      stopWaiting();
    }
    if (this.#failure !== null) throw this.#failure;
    await this.#files;
    const tables = await this.#tables(begun, giveUp);
    for (let repairs = 0; repairs < repairsMax; repairs++) {
      const changed = await patiently(() => store.changed(), giveUp);
      for (const name of changed) await patiently(() => projection.putAgain(name), giveUp);
      if (changed.length === 0) break;
    }
    await this.#opened.lease.check();
    await patiently(() => this.#putManifest(begun, tables), giveUp);
    await this.#deleteTails().catch((error: unknown) => {
      onNote(`${this.#options.objects.urlOf(outputNames.tails)} has become waste and could not be deleted: ${textOf(error)}`);
    });
  }

  /** Until for a long time no part was put. */
  #waitWhileItGoesOn(projection: Projection): () => void {
    const ending = new AbortController();
    const watch = async (): Promise<void> => {
      let before = -1;
      let sinceMs = performance.now();
      while (!ending.signal.aborted) {
        await delay(lookEveryMs, undefined, { signal: ending.signal, ref: false }).catch(() => undefined);
        if (projection.settledParts !== before) {
          before = projection.settledParts;
          sinceMs = performance.now();
        } else if (performance.now() - sinceMs > waitedMsMax) {
          projection.giveUp();
        }
      }
    };
    void watch();
    return () => ending.abort();
  }

  async #tables({ projection, store, options }: Begun, signal: AbortSignal): Promise<readonly PartRecord[] | null> {
    const { format } = this.#options;
    if (format === "jsonl") return null;
    return putTables({ projection, store, format, signal, file: join(options.home.dir, homeFiles.nextPart) });
  }

  async #putManifest({ projection, options }: Begun, tables: readonly PartRecord[] | null): Promise<void> {
    const { objects, format, order, partItems } = this.#options;
    const lines = projection.parts;
    const manifest: Manifest = {
      schema: recordsSchema,
      runId: options.runId,
      fingerprint: options.fingerprint,
      items: this.#list?.count ?? 0,
      succeeded: sum(lines.map(({ succeeded }) => succeeded)),
      failed: sum(lines.map(({ failed }) => failed)),
      digest: this.#list?.digest ?? "",
      format, order, partItems,
      parts: [...(tables ?? lines)],
      ...(tables !== null && { lines: [...lines] }),
    };
    await objects.putText(outputNames.manifest, `${JSON.stringify(manifest, null, 1)}\n`, "none");
    await objects.putText(outputNames.success, "", "none");
  }

  async #deleteTails(): Promise<void> {
    const { objects } = this.#options;
    const names: string[] = [];
    for await (const [name] of objects.list(outputNames.tails)) names.push(name);
    await objects.delete(names);
  }

  async #putLastTail(projection: Projection, giveUp: () => void): Promise<void> {
    const timer = setTimeout(giveUp, lastTailMsMax);
    try {
      await projection.drained();
      // One may be under way that does not have the last lines.
      await projection.checkpoint();
      await projection.checkpoint();
      await this.#files;
    } finally {
      clearTimeout(timer);
    }
  }

  async #putRecord({ home, source, runId, fingerprint, record, files }: BeginOptions, homeId: string): Promise<void> {
    const { objects, format, partItems } = this.#options;
    const value: RunRecord = {
      schema: recordsSchema,
      home: { id: homeId, host: hostname(), dir: home.dir },
      runId, fingerprint,
      source: source.identity,
      format, partItems,
      list: this.#list,
      job: record,
      files: files.map((file) => ({ field: file.field, name: fileName(file) })),
    };
    await objects.putText(outputNames.record, `${JSON.stringify(value, null, 2)}\n`, "none");
  }

  #fail(error: Error): void {
    if (this.#failure !== null) return;
    this.#failure = error;
    this.#begun?.projection.giveUp();
    this.#tell(this.#failureText(error));
  }

  #failureText(error: Error): string {
    return `The output cannot be written: ${textOf(error)}. All results are in ${this.#begun?.options.home.dir ?? "the home"}, from where they are put when the run is resumed.`;
  }
}

/** Their places are known only once the whole list was matched with them. */
async function refuseOlderLines(dir: string): Promise<void> {
  const record = await readRecord(dir);
  if (record === null || record.listStart === 0) return;
  throw new SplitrunError(`${dir} has results of an older list that the current one has not taken over yet; end that run first, with \`splitrun resume ${dir}\` and no output in S3`, {
    code: "OUTPUT_UNUSABLE", field: "output", value: dir,
  });
}

function fileName({ sha256, ending }: JobFile): string {
  return `${outputNames.artifacts}${sha256}${ending}`;
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
