import type { FileHandle } from "node:fs/promises";
import { constants } from "node:fs";
import { chmod, mkdir, open, rm } from "node:fs/promises";
import { join } from "node:path";

import { SplitrunError } from "../errors.ts";
import type { ItemSource, SourceIdentity, SourceItem } from "../inputs/types.ts";
import type { Committed, OlderLines } from "./committed.ts";
import { readCommitted } from "./committed.ts";
import { compactionSteps, recoverCompaction, sizeOf } from "./compaction.ts";
import { errorCode, makeDirectories, replaceFile, syncDirectory } from "./durable.ts";
import { writeFailed } from "./failed-file.ts";
import { homeFiles } from "./home-files.ts";
import type { HomeRecord, HomeState } from "./home-record.ts";
import { readRecord, writeRecord } from "./home-record.ts";
import { itemsMax } from "./journal-line.ts";
import { Journal, reasonOf } from "./journal.ts";
import type { KeyHash } from "./key.ts";
import { KeyDigest, keyHash } from "./key.ts";
import { acquireLock } from "./lock.ts";
import { ReusedWriter, superseded } from "./reused.ts";
import { changeTask, refuseForeignJournal, setHomeAside, takeUpJournal } from "./set-aside.ts";
import { copying, readCopy } from "./snapshot.ts";
import type { Home, HomeOptions, Matched, Outcome } from "./types.ts";

/** The digest of the beginning of the list is noted this often, so that a resume need not work it out again. */
const noteBeginningEveryItems = 65_536;

/**
 * Opens the directory in which a job's results live, and locks it. What an earlier run left half done is ended or
 * cleared away; nothing that can be read is lost.
 *
 * @throws SplitrunError HOME_IN_USE (value: pid, host, since), HOME_NOT_WRITABLE, HOME_EMPTY, HOME_SCHEMA,
 *   HOME_FOREIGN, HOME_DAMAGED, TASK_CHANGED, SOURCE_CHANGED, LIST_CUT
 */
export async function openHome(options: HomeOptions): Promise<Home> {
  const { dir, mode, takeOver } = options;
  try {
    if (mode === "resume" && (await readRecord(dir)) === null) throw nothingToResume(dir);
    await makeDirectories(dir);
    const unlock = acquireLock(join(dir, homeFiles.lock), { takeOver, dir });
    try {
      return await openLocked(options, unlock);
    } catch (error) {
      unlock();
      throw error;
    }
  } catch (error) {
    throw notWritable(dir, error) ?? error;
  }
}

async function openLocked(options: HomeOptions, unlock: () => void): Promise<Home> {
  const { dir, mode } = options;
  const notes: string[] = [];
  const aside = options.fresh && mode === "run" ? await setHomeAside(dir) : null;
  if (aside !== null) notes.push(aside);
  const record = await recoveredRecord(options);
  if (mode === "resume") refuseOtherWork(record, options);
  const listAnew = mode === "resume" && (await isListCut(record, options));
  if (listAnew) notes.push(readAnew(options));
  if (record !== null && record.fingerprint !== options.fingerprint) notes.push(...(await changeTask(dir, record, options)));
  await takeUpJournal(dir, options.fingerprint);

  const handle = await openJournalFile(dir);
  try {
    const bytes = (await handle.stat()).size;
    const resumed = mode === "resume" && !listAnew ? record : null;
    const committed = await readCommitted(handle, { bytes, listStart: resumed?.listStart ?? bytes });
    notes.push(...(await cutTornEnd(handle, bytes, committed)));
    const size = (await handle.stat()).size;
    const state: HomeState = {
      fingerprint: options.fingerprint,
      source: options.source,
      listStart: Math.min(resumed?.listStart ?? size, size),
      list: resumed?.list ?? null,
      beginning: resumed?.beginning ?? null,
      staleBytes: record?.staleBytes ?? 0,
      compacted: false,
    };
    if (resumed === null) await rm(join(dir, homeFiles.reused), { force: true });
    await writeRecord(dir, state);
    const journal = new Journal({ handle, path: join(dir, homeFiles.journal), size });
    return new LocalHome({ options: resumed === null ? { ...options, mode: "run" } : options, notes, state, committed, journal, unlock });
  } catch (error) {
    await handle.close();
    throw error;
  }
}

async function recoveredRecord({ dir, mode }: HomeOptions): Promise<HomeRecord | null> {
  const record = await readRecord(dir);
  if (record !== null) return recoverCompaction(dir, record);
  if (mode === "resume") throw nothingToResume(dir);
  await refuseForeignJournal(dir);
  return null;
}

async function openJournalFile(dir: string): Promise<FileHandle> {
  const path = join(dir, homeFiles.journal);
  const handle = await open(path, constants.O_RDWR | constants.O_CREAT, 0o600);
  await chmod(path, 0o600);
  await syncDirectory(dir);
  return handle;
}

/** What a crash left behind the last good line was never acknowledged. */
async function cutTornEnd(handle: FileHandle, bytes: number, { goodBytes, endMissing, damaged }: Committed): Promise<readonly string[]> {
  const notes: string[] = [];
  if (damaged.count > 0) {
    notes.push(`The journal is damaged in ${damaged.count} places, the first at byte ${damaged.first}; the lines around them are kept, and the items without a line are done again.`);
  }
  if (goodBytes < bytes) {
    await handle.truncate(goodBytes);
    notes.push(`The end of the journal was torn: ${bytes - goodBytes} bytes behind the last whole line were cut.`);
  }
  if (endMissing) await handle.write("\n", goodBytes);
  if (goodBytes < bytes || endMissing) await handle.datasync();
  return notes;
}

/** `resume` goes on with the same work, or not at all. */
function refuseOtherWork(record: HomeRecord | null, { dir, fingerprint, source }: HomeOptions): void {
  if (record === null) throw nothingToResume(dir);
  if (record.fingerprint !== fingerprint) {
    throw new SplitrunError(`the task has changed since the run in ${dir}: another model, preprocessing, postprocessing or module; \`splitrun run\` does the list with the task as it is now, and sets the earlier results aside`, {
      code: "TASK_CHANGED",
      field: "task",
      value: fingerprint.slice(0, 8),
    });
  }
  const change = changeOf(record.source, source);
  if (change !== null) {
    throw new SplitrunError(`${change} since the run in ${dir}; \`splitrun run\` does what is new or changed in it and keeps the rest`, {
      code: "SOURCE_CHANGED",
      field: "input",
      value: source.from,
    });
  }
}

/** Of a list that can be read once alone, the copy that `resume` goes on with was not ended. */
async function isListCut(record: HomeRecord | null, { dir, source }: HomeOptions): Promise<boolean> {
  if (source.size !== null) return false;
  return record === null || record.list === null || (await sizeOf(join(dir, homeFiles.inputs))) === null;
}

/** What a folder, a pattern or a prefix holds can be listed again, as `run` would; items are known by what they are. */
function readAnew({ dir, source, listAgain }: HomeOptions): string {
  if (listAgain && source.kind !== "stdin") {
    return `The list was not read to its end by the run before: ${source.from} is listed anew. What is done is kept; what ended as an error is tried again.`;
  }
  const again = source.kind === "stdin" ? "with the same list piped in again" : "with the same input";
  throw new SplitrunError(`the list was not read to its end, so its copy in ${join(dir, homeFiles.inputs)} was cut; use \`splitrun run\` ${again}: what is done is kept`, {
    code: "LIST_CUT",
    field: "input",
    value: source.from,
  });
}

function changeOf(before: SourceIdentity, now: SourceIdentity): string | null {
  const name = now.kind === "list" ? "the list in the job" : `input ${now.from}`;
  if (before.kind !== now.kind) return `${name} is read as ${now.kind}, not as ${before.kind}, and so another list`;
  if (before.from !== now.from) return now.kind === "list" ? `${name} has changed` : `${name} is another one, it was ${before.from}`;
  if (before.size !== now.size) return `${name} has changed (${before.size} bytes, now ${now.size})`;
  if (before.modifiedMs !== now.modifiedMs) return `${name} was written again`;
  return null;
}

function nothingToResume(dir: string): SplitrunError {
  return new SplitrunError(`${dir} holds no run that could be resumed; start one with \`splitrun run\``, { code: "HOME_EMPTY", value: dir });
}

const notWritableReasons: Readonly<Record<string, string>> = {
  EACCES: "permission denied",
  EPERM: "it is not permitted",
  EROFS: "the filesystem is read-only",
  ENOTDIR: "a part of the path is a file",
  EEXIST: "it is a file",
  ENOENT: "it cannot be made there",
  ENOSPC: "no space is left on the disk",
  EDQUOT: "the disk quota is used up",
  EFBIG: "a file has reached the largest size that is allowed",
};

function notWritable(dir: string, error: unknown): SplitrunError | null {
  const reason = notWritableReasons[errorCode(error) ?? ""];
  if (reason === undefined || error instanceof SplitrunError) return null;
  return new SplitrunError(`output directory ${dir} cannot be written: ${reason}; name another one`, { code: "HOME_NOT_WRITABLE", field: "output", value: dir, cause: error });
}

/**
 * What an earlier run noted of this very list. Without a line of it there is no sample either that would tell another
 * list of the same size and time, and nothing is passed over that would make a resume slow.
 */
function knownBeginning({ list, beginning }: HomeState, { samples }: Committed): HomeState["list"] {
  return samples.size === 0 ? null : (list ?? beginning);
}

function cutList(dir: string, { items, itemsBefore }: { readonly items: number; readonly itemsBefore: number }): SplitrunError {
  return new SplitrunError(`the list ends after ${items} items, and ${itemsBefore} were read in the run in ${dir}: the input, or how it is read, has changed; \`splitrun run\` does what is new or changed in it and keeps the rest`, {
    code: "SOURCE_CHANGED",
    field: "input",
    value: items,
  });
}

interface LocalHomeParts {
  readonly options: HomeOptions;
  readonly notes: string[];
  readonly state: HomeState;
  readonly committed: Committed;
  readonly journal: Journal;
  readonly unlock: () => void;
}

class LocalHome implements Home {
  readonly dir: string;
  readonly #notes: string[];
  readonly #mode: HomeOptions["mode"];
  readonly #retryFailed: boolean;
  readonly #journal: Journal;
  readonly #unlock: () => void;
  readonly #committed: Omit<Committed, "older">;
  /** null: there are none, or all of the list was matched with them. */
  #older: OlderLines | null;
  readonly #olderCount: number;
  readonly #reused: ReusedWriter | null;
  #state: HomeState;
  #stateWritten: Promise<void> = Promise.resolve();
  #matched = 0;
  /** So many items of the list were digested by an earlier run. */
  readonly #known: number;
  /** Of the first `#matched` items, or of the known ones where they are more. */
  readonly #digest: KeyDigest;
  #noteBeginningAt: number;
  /** Never rejects: without it a resume takes longer, no more. */
  #noting: Promise<void> | null = null;
  /** Older lines that were given to an item with the index that they carry. */
  #keptInPlace = 0;
  #repeated: boolean;
  #errorsAppended = 0;

  constructor({ options, notes, state, committed, journal, unlock }: LocalHomeParts) {
    const { older, ...current } = committed;
    this.dir = options.dir;
    this.#notes = notes;
    this.#mode = options.mode;
    this.#retryFailed = options.retryFailed;
    this.#journal = journal;
    this.#unlock = unlock;
    this.#committed = current;
    this.#olderCount = older.indexes.length;
    this.#older = this.#olderCount === 0 ? null : older;
    this.#reused = this.#older === null ? null : new ReusedWriter(options.dir, { listStart: state.listStart, again: options.mode === "resume" });
    this.#state = state;
    this.#repeated = committed.repeated;
    const known = knownBeginning(state, committed);
    this.#known = known?.count ?? 0;
    this.#digest = known === null ? new KeyDigest() : KeyDigest.from(known.digest);
    this.#noteBeginningAt = this.#known + noteBeginningEveryItems;
  }

  get notes(): readonly string[] {
    return this.#notes;
  }

  get isResumed(): boolean {
    return this.#mode === "resume";
  }

  get pendingBytes(): number {
    return this.#journal.pendingBytes;
  }

  async list(source: ItemSource): Promise<ItemSource> {
    if (source.rereadable) return source;
    const path = join(this.dir, homeFiles.inputs);
    const { list } = this.#state;
    // An object in S3 that has not changed is read again, where its copy was cut.
    if (this.#mode === "resume" && list !== null) return readCopy(source, { path, count: list.count });
    return copying(source, path);
  }

  match(first: number, items: readonly SourceItem[]): Matched {
    if (first !== this.#matched) throw new Error(`item ${first} of the list was given, and ${this.#matched} is the next`);
    if (first + items.length > itemsMax) throw new SplitrunError(`the list has more than ${itemsMax} items; divide it`, { code: "INPUT_TOO_LONG", field: "input" });
    const done: number[] = [];
    let failedDone = 0;
    for (const item of items) {
      const index = this.#matched++;
      const committed = this.#findCommitted(index, item);
      if (committed === "none") continue;
      if (committed === "error") failedDone += 1;
      if (done.at(-1) === index) done[done.length - 1] = index + 1;
      else done.push(index, index + 1);
    }
    this.#reused?.flush();
    if (this.#matched >= this.#noteBeginningAt) this.#noteBeginning();
    return { done, failedDone };
  }

  /** The rule of identity.ts, for an item that is being read. A key costs more than all the rest of it. */
  #findCommitted(index: number, item: SourceItem): "result" | "error" | "none" {
    const { lines, samples } = this.#committed;
    const known = index < this.#known;
    if (known && this.#older === null && !samples.has(index)) return this.#ownLine(index);
    const key = keyHash(item);
    if (!known) this.#digest.add(key);
    const older = this.#takeOlder(index, key, lines.has(index));
    if (!lines.has(index)) return older;
    this.#refuseOtherItem(index, key);
    return this.#ownLine(index);
  }

  #ownLine(index: number): "result" | "error" | "none" {
    const { lines, errors } = this.#committed;
    if (!lines.has(index)) return "none";
    if (!errors.has(index)) return "result";
    return this.#retryFailed ? "none" : "error";
  }

  /** Where older lines are matched, a resume needs every key anyway. */
  #noteBeginning(): void {
    if (this.#olderCount > 0 || this.#noting !== null) return;
    this.#noteBeginningAt = this.#matched + noteBeginningEveryItems;
    this.#state = { ...this.#state, beginning: { count: this.#matched, digest: this.#digest.toString() } };
    this.#noting = writeRecord(this.dir, this.#state).catch(() => undefined).finally(() => { this.#noting = null; });
  }

  #takeOlder(index: number, key: KeyHash, hasLine: boolean): "result" | "none" {
    const older = this.#older;
    if (older === null) return "none";
    // An error of it is history, whatever comes next.
    for (let place = older.errors.take(key); place !== -1; place = older.errors.take(key)) this.#reused?.add(place, superseded);
    const place = hasLine ? -1 : older.results.take(key);
    if (place === -1) return "none";
    this.#reused?.add(place, index);
    if (older.indexes.at(place) === index) this.#keptInPlace += 1;
    return "result";
  }

  /** A file can change and keep its size and time, and a job can name another column of it. */
  #refuseOtherItem(index: number, key: KeyHash): void {
    const sample = this.#committed.samples.get(index);
    if (sample === undefined || (sample.a === key.a && sample.b === key.b && sample.c === key.c && sample.d === key.d)) return;
    throw new SplitrunError(`item ${index} is another one than in the run in ${this.dir}: the input, or how it is read, has changed; \`splitrun run\` does what is new or changed in it and keeps the rest`, {
      code: "SOURCE_CHANGED",
      field: "input",
      value: index,
    });
  }

  inputEnded(): void {
    this.#older = null;
    this.#reused?.end();
    if (this.#matched < this.#known) throw cutList(this.dir, { items: this.#matched, itemsBefore: this.#known });
    this.#state = { ...this.#state, list: { count: this.#matched, digest: this.#digest.toString() }, beginning: null };
    this.#stateWritten = (this.#noting ?? Promise.resolve()).then(() => writeRecord(this.dir, this.#state));
    // Told by finish(), which tries again.
    this.#stateWritten.catch(() => undefined);
  }

  append(batch: number, outcomes: readonly Outcome[]): void {
    for (const { index, error } of outcomes) {
      if (error !== undefined) this.#errorsAppended += 1;
      if (this.#committed.lines.has(index)) this.#repeated = true;
    }
    this.#journal.append(batch, outcomes);
  }

  onStored(listener: (batch: number) => void): void {
    this.#journal.onStored(listener);
  }

  onStoreFailed(listener: (batch: number, error: Error) => void): void {
    this.#journal.onStoreFailed(listener);
  }

  async createRunDir(runId: string, job: unknown): Promise<string> {
    const dir = join(this.dir, homeFiles.runs, runId);
    try {
      await mkdir(join(dir, "logs", "task-managers"), { recursive: true, mode: 0o700 });
      // Half a job could not be resumed.
      await replaceFile(join(dir, "job.json"), `${JSON.stringify(job, null, 2)}\n`);
    } catch (error) {
      throw notWritable(this.dir, error) ?? error;
    }
    return dir;
  }

  async finish({ complete }: { readonly complete: boolean }): Promise<void> {
    await this.#journal.drained();
    await this.#noting;
    await this.#ending("The record of the list", () => this.#stateWritten.catch(() => writeRecord(this.dir, this.#state)));
    if (complete && !this.#journal.failed && this.#state.list !== null) await this.#ending("The compacted journal", () => this.#settle());
    const any = this.#errorsAppended > 0 || this.#committed.errorCount > 0;
    await this.#ending(homeFiles.failed, () => writeFailed(this.dir, { any }));
  }

  /** The journal has all that counts, so a full disk at the end only costs what is made from it. */
  async #ending(what: string, write: () => Promise<void>): Promise<void> {
    try {
      await write();
    } catch (error) {
      // Not the disk's fault, but ours.
      if (errorCode(error) === undefined) throw error;
      this.#notes.push(`${what} could not be written in ${this.dir}: ${reasonOf(error)}. The results are all there; \`splitrun resume\` ends this.`);
    }
  }

  async #settle(): Promise<void> {
    if (this.#mustCompact()) return this.#compact();
    if (this.#olderCount === 0) return;
    // All older lines carry the right index: the journal is as a compaction would write it.
    this.#state = { ...this.#state, listStart: 0 };
    await writeRecord(this.dir, this.#state);
    await rm(join(this.dir, homeFiles.reused), { force: true });
  }

  #mustCompact(): boolean {
    const { damaged, indexEnd } = this.#committed;
    const foreign = indexEnd > this.#matched;
    return damaged.count > 0 || foreign || this.#repeated || this.#keptInPlace !== this.#olderCount;
  }

  async #compact(): Promise<void> {
    const steps = compactionSteps(this.dir, this.#state);
    try {
      for (let step = await steps.next(); ; step = await steps.next()) {
        if (step.done !== true) continue;
        this.#state = step.value;
        return;
      }
    } catch (error) {
      const record = await readRecord(this.dir);
      if (record !== null) await recoverCompaction(this.dir, record);
      throw error;
    }
  }

  async close(): Promise<void> {
    try {
      await this.#noting;
      await this.#stateWritten.catch(() => undefined);
      await this.#journal.close();
      this.#reused?.close();
    } finally {
      this.#unlock();
    }
  }
}
