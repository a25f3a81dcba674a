import type { FileHandle } from "node:fs/promises";
import { open, rename, rm, stat, truncate } from "node:fs/promises";
import { join } from "node:path";
import { errorCode, syncDirectory } from "./durable.ts";
import { homeFiles } from "./home-files.ts";
import type { HomeRecord, HomeState } from "./home-record.ts";
import { writeRecord } from "./home-record.ts";
import { claimedLines, findWinners, openView } from "./identity.ts";
import type { JournalView, Winners } from "./identity.ts";

/**
 * Writes the journal anew: one line an item of the current list, with its index in it. Lines of items that are no
 * longer in the list go to stale.jsonl, what is no line to damaged.txt.
 *
 * home.json is what decides: until it says `compacted`, the old journal counts and all that was written is waste;
 * from then on the new one does, under either name. A generator of its steps, so that a test can stop behind each.
 */
export async function* compactionSteps(dir: string, state: HomeState): AsyncGenerator<string, HomeState> {
  const view = await openView(dir);
  if (view === null || view.handle === null) return state;
  let staleBytes: number;
  try {
    const winners = await findWinners(view);
    staleBytes = yield* writeFiles(dir, { view, winners, staleBytes: state.staleBytes });
  } finally {
    await view.handle.close();
  }
  const compacted: HomeState = { ...state, listStart: 0, staleBytes, compacted: true };
  await writeRecord(dir, compacted);
  yield "decided";
  await rename(join(dir, homeFiles.nextJournal), join(dir, homeFiles.journal));
  await syncDirectory(dir);
  yield "renamed";
  const settled: HomeState = { ...compacted, compacted: false };
  await writeRecord(dir, settled);
  yield "settled";
  await rm(join(dir, homeFiles.reused), { force: true });
  return settled;
}

/** Ends a compaction that was decided, or clears away one that was not. */
export async function recoverCompaction(dir: string, record: HomeRecord): Promise<HomeRecord> {
  const next = join(dir, homeFiles.nextJournal);
  const left = await sizeOf(next);
  if (!record.compacted) {
    if (left === null) return record;
    const stale = join(dir, homeFiles.stale);
    if ((await sizeOf(stale) ?? 0) > record.staleBytes) await truncate(stale, record.staleBytes);
    await rm(next);
    return record;
  }
  if (left !== null) {
    await rename(next, join(dir, homeFiles.journal));
    await syncDirectory(dir);
  }
  const settled = { ...record, compacted: false };
  await writeRecord(dir, settled);
  await rm(join(dir, homeFiles.reused), { force: true });
  return settled;
}

interface WriteOptions {
  readonly view: JournalView;
  readonly winners: Winners;
  readonly staleBytes: number;
}

/** Returns the size of stale.jsonl. */
async function* writeFiles(dir: string, { view, winners, staleBytes }: WriteOptions): AsyncGenerator<string, number> {
  // The first of the files: where it is found, the others may hold waste.
  const next = await openWriter(join(dir, homeFiles.nextJournal), 0);
  const stale = await openWriter(join(dir, homeFiles.stale), staleBytes);
  const damaged = await openWriter(join(dir, homeFiles.damaged), Infinity);
  const writers = [next, stale, damaged];
  const count = view.record.list?.count ?? Infinity;
  try {
    const visitor = {
      line({ line, offset, index, superseded }: Parameters<Parameters<typeof claimedLines>[1]["line"]>[0]): void {
        if (winners.isWinner({ index, offset })) next.put(line.withIndex(index));
        else if (!superseded && (index === -1 || index >= count)) stale.put(line.withIndex(line.index));
      },
      damaged: ({ bytes }: { readonly bytes: Buffer }): void => damaged.put([bytes, lineEnd]),
    };
    for await (const _ of claimedLines(view, visitor)) {
      for (const writer of writers) await writer.flush();
    }
    yield "written";
    for (const writer of writers) await writer.sync();
    await syncDirectory(dir);
    yield "synced";
    return stale.size;
  } finally {
    for (const writer of writers) await writer.close();
  }
}

const lineEnd = Buffer.from("\n");

/** Gathers what is written between two chunks. A file that nothing is written to is not made. */
class Writer {
  readonly #path: string;
  #handle: FileHandle | null;
  #buffer = Buffer.allocUnsafeSlow(1_048_576);
  #held = 0;
  size: number;

  constructor(path: string, handle: FileHandle | null, size: number) {
    this.#path = path;
    this.#handle = handle;
    this.size = size;
  }

  put(parts: readonly Buffer[]): void {
    for (const part of parts) {
      if (this.#held + part.length > this.#buffer.length) this.#grow(part.length);
      this.#held += part.copy(this.#buffer, this.#held);
    }
  }

  async flush(): Promise<void> {
    if (this.#held === 0) return;
    this.#handle ??= await open(this.#path, "w", 0o600);
    for (let written = 0; written < this.#held; ) {
      const { bytesWritten } = await this.#handle.write(this.#buffer, written, this.#held - written, this.size);
      written += bytesWritten;
      this.size += bytesWritten;
    }
    this.#held = 0;
  }

  async sync(): Promise<void> {
    await this.flush();
    await this.#handle?.sync();
  }

  async close(): Promise<void> {
    await this.#handle?.close();
  }

  #grow(bytes: number): void {
    const larger = Buffer.allocUnsafeSlow(Math.max(this.#buffer.length * 2, this.#held + bytes));
    this.#buffer.copy(larger, 0, 0, this.#held);
    this.#buffer = larger;
  }
}

/** Keeps the first `keptBytes` of what is there. */
async function openWriter(path: string, keptBytes: number): Promise<Writer> {
  const size = await sizeOf(path);
  // The journal to be is made even if no line goes to it: its place is taken by rename.
  if (size === null) return new Writer(path, keptBytes === 0 && path.endsWith(homeFiles.nextJournal) ? await open(path, "w", 0o600) : null, 0);
  const kept = Math.min(size, keptBytes);
  const handle = await open(path, "r+");
  await handle.truncate(kept);
  return new Writer(path, handle, kept);
}

export async function sizeOf(path: string): Promise<number | null> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if (errorCode(error) === "ENOENT") return null;
    throw error;
  }
}
