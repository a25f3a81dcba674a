/**
 * Done means committed, by identity, never by position. This is the one place that says which line of the journal
 * speaks for which item, for `run`, `resume`, `items()`, `export` and `verify`:
 *
 * - Lines behind `listStart` were written for the current list and count by index; the last one of an index wins.
 * - Lines before it were written for older lists and count by key, results only. They are given to equal items in
 *   list order, the first line to the first of them. An error there is tried again.
 */
import type { FileHandle } from "node:fs/promises";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { errorCode } from "./durable.ts";
import { homeFiles, journalOfTask } from "./home-files.ts";
import type { HomeRecord } from "./home-record.ts";
import { readRecord } from "./home-record.ts";
import { itemsMax, JournalLine } from "./journal-line.ts";
import type { Reused } from "./reused.ts";
import { readReused, superseded } from "./reused.ts";
import { eachLine, wholeLines } from "./scan-lines.ts";

/** A journal as it stands at one moment, with what is needed to read it. Later appends are not seen. */
export interface JournalView {
  readonly record: HomeRecord;
  /** null: there is no journal yet. */
  readonly handle: FileHandle | null;
  readonly bytes: number;
  /** Bytes at its beginning that older lists wrote. */
  readonly listStart: number;
  readonly reused: Reused;
}

const openTriesMax = 20;

/**
 * Opens the journal for reading, beside a run that may be writing or compacting it. null: this is no home.
 * @throws SplitrunError HOME_SCHEMA
 */
export async function openView(dir: string): Promise<JournalView | null> {
  for (let tries = 1; ; tries++) {
    const record = await readRecord(dir);
    if (record === null) return null;
    const handle = await openJournalFile(dir, record);
    const bytes = handle === null ? 0 : (await handle.stat()).size;
    const listStart = record.compacted ? 0 : record.listStart;
    const reused = await readReused(dir, listStart);
    // What was read belongs together only if nobody compacted in between.
    if (tries === openTriesMax || JSON.stringify(await readRecord(dir)) === JSON.stringify(record)) return { record, handle, bytes, listStart, reused };
    await handle?.close();
    await setImmediate();
  }
}

async function openJournalFile(dir: string, record: HomeRecord): Promise<FileHandle | null> {
  // The last one: an orchestrator died while it changed from one task to another.
  const names = [...(record.compacted ? [homeFiles.nextJournal] : []), homeFiles.journal, journalOfTask(record.fingerprint)];
  for (const name of names) {
    try {
      return await open(join(dir, name), "r");
    } catch (error) {
      if (errorCode(error) !== "ENOENT") throw error;
    }
  }
  return null;
}

/** A line, and whom it speaks for. */
export interface ClaimedLine {
  readonly line: JournalLine;
  /** Where it begins in the journal. */
  readonly offset: number;
  /** Its item's index in the current list; -1: none, it is an older list's. */
  readonly index: number;
  /** Of an older list, but its item is in the current list and has another line. */
  readonly superseded: boolean;
}

/** A stretch of bytes between good lines that is no line. The bytes are the caller's only until it returns. */
export interface DamagedLine {
  readonly offset: number;
  readonly bytes: Buffer;
}

export interface LineVisitor {
  line(claimed: ClaimedLine): void;
  damaged(damaged: DamagedLine): void;
}

/** Every line in journal order, in chunks, so that the caller can do something between them. */
export async function* claimedLines(view: Pick<JournalView, "handle" | "bytes" | "listStart" | "reused">, visitor: LineVisitor): AsyncGenerator<void> {
  const { handle, bytes, listStart, reused } = view;
  if (handle === null) return;
  const line = new JournalLine();
  const claimed = { line, offset: 0, index: 0, superseded: false };
  let place = 0;
  for await (const chunk of wholeLines(handle, 0, bytes)) {
    eachLine(chunk, (start, end) => {
      if (start === end) return;
      claimed.offset = chunk.offset + start;
      if (!line.read(chunk.bytes, start, end)) return visitor.damaged({ offset: claimed.offset, bytes: chunk.bytes.subarray(start, end) });
      const old = claimed.offset < listStart;
      const owner = old ? (reused[place] ?? 0) : 0;
      claimed.superseded = owner === superseded;
      claimed.index = !old ? line.index : claimed.superseded ? -1 : owner - 1;
      if (old) place += 1;
      visitor.line(claimed);
    });
    yield;
  }
}

/** Which line speaks for each item: 8 bytes an item. */
export class Winners {
  #offsets = new Float64Array(1024);
  /** Items that have a line. */
  count = 0;
  /** Lines of items that have another one, too. */
  repeated = 0;
  /** Of these, lines for items that had a result already. */
  duplicates = 0;
  /** Lines with an index that is not in the list. */
  foreign = 0;
  damaged = 0;
  readonly #results = new Bits();
  readonly #indexEnd: number;

  /** `items`: length of the list; null: not known yet, every index is in it. */
  constructor(items: number | null) {
    this.#indexEnd = items ?? itemsMax;
  }

  get indexEnd(): number {
    return this.#offsets.length;
  }

  /** -1: the item has no line. */
  offsetOf(index: number): number {
    return (this.#offsets[index] ?? 0) - 1;
  }

  isWinner({ index, offset }: Pick<ClaimedLine, "index" | "offset">): boolean {
    return index !== -1 && this.#offsets[index] === offset + 1;
  }

  add({ line, index, offset }: ClaimedLine): void {
    if (index === -1) return;
    if (index >= this.#indexEnd) {
      this.foreign += 1;
      return;
    }
    if (index >= this.#offsets.length) this.#grow(index);
    if (this.#offsets[index] === 0) this.count += 1;
    else this.repeated += 1;
    if (this.#results.has(index)) this.duplicates += 1;
    if (!line.failed) this.#results.add(index);
    this.#offsets[index] = offset + 1;
  }

  #grow(index: number): void {
    const larger = new Float64Array(Math.max(index + 1, Math.min(this.#offsets.length * 2, this.#indexEnd)));
    larger.set(this.#offsets);
    this.#offsets = larger;
  }
}

export async function findWinners(view: JournalView): Promise<Winners> {
  const winners = new Winners(view.record.list?.count ?? null);
  const visitor: LineVisitor = {
    line: (claimed) => winners.add(claimed),
    damaged: () => { winners.damaged += 1; },
  };
  for await (const _ of claimedLines(view, visitor));
  return winners;
}

/** One bit an item. */
export class Bits {
  #words = new Uint32Array(32);

  has(index: number): boolean {
    return (((this.#words[index >>> 5] ?? 0) >>> (index & 31)) & 1) === 1;
  }

  add(index: number): void {
    const at = Math.floor(index / 32);
    if (at >= this.#words.length) {
      const larger = new Uint32Array(Math.max(at + 1, this.#words.length * 2));
      larger.set(this.#words);
      this.#words = larger;
    }
    this.#words[at] = (this.#words[at] ?? 0) | (1 << (index & 31));
  }

  delete(index: number): void {
    const at = Math.floor(index / 32);
    if (at < this.#words.length) this.#words[at] = (this.#words[at] ?? 0) & ~(1 << (index & 31));
  }
}
