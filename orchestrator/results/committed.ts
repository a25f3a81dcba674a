import type { FileHandle } from "node:fs/promises";
import { Bits } from "./identity.ts";
import { JournalLine } from "./journal-line.ts";
import { KeyTable } from "./key-table.ts";
import type { KeyHash } from "./key.ts";
import { eachLine, wholeLines } from "./scan-lines.ts";

const samplesMax = 1024;

/** Older lists' lines, by key, until the current list has been matched with them. */
export interface OlderLines {
  readonly results: KeyTable;
  readonly errors: KeyTable;
  /** The index that each line carries, by its place. */
  readonly indexes: IndexColumn;
}

/** What the journal has when a run opens it. */
export interface Committed {
  /** Bytes up to the end of the last good line; the rest was torn. */
  readonly goodBytes: number;
  /** The last good line lacks its end. */
  readonly endMissing: boolean;
  readonly older: OlderLines;
  /** Of the current list, by index: has a line; its last line is an error. */
  readonly lines: Bits;
  readonly errors: Bits;
  readonly errorCount: number;
  /** An item of the current list has several lines. */
  readonly repeated: boolean;
  /** Indexes end here. */
  readonly indexEnd: number;
  /** Stretches between good lines that are no lines: where the first one is, and how many. */
  readonly damaged: { readonly first: number; readonly count: number };
  /** Keys of some of the current list's lines, by index: a list that is not the same any more is noticed. */
  readonly samples: ReadonlyMap<number, KeyHash>;
}

/** Reads a journal through, once. */
export async function readCommitted(handle: FileHandle, { bytes, listStart }: { readonly bytes: number; readonly listStart: number }): Promise<Committed> {
  const line = new JournalLine();
  const older = { results: new KeyTable(), errors: new KeyTable(), indexes: new IndexColumn() };
  const lines = new Bits();
  const errors = new Bits();
  const samples = new Map<number, KeyHash>();
  const samplesEveryBytes = Math.max(1, (bytes - listStart) / samplesMax);
  let sampleAt = listStart;
  let errorCount = 0;
  let repeated = false;
  let indexEnd = 0;
  let goodBytes = 0;
  let endMissing = false;
  let badFirst = -1;
  let badCount = 0;
  let damaged = { first: -1, count: 0 };

  const takeOlder = (): void => {
    const table = line.failed ? older.errors : older.results;
    table.add(line.key(), older.indexes.push(line.index));
  };
  const takeCurrent = (offset: number): void => {
    const { index, failed } = line;
    indexEnd = Math.max(indexEnd, index + 1);
    if (lines.has(index)) {
      repeated = true;
      if (errors.has(index)) errorCount -= 1;
      errors.delete(index);
    }
    lines.add(index);
    if (failed) {
      errors.add(index);
      errorCount += 1;
    }
    if (offset < sampleAt) return;
    sampleAt += samplesEveryBytes;
    samples.set(index, line.key());
  };

  for await (const chunk of wholeLines(handle, 0, bytes)) {
    eachLine(chunk, (start, end) => {
      if (start === end) return;
      const offset = chunk.offset + start;
      if (!line.read(chunk.bytes, start, end)) {
        if (badFirst === -1) badFirst = offset;
        badCount += 1;
        return;
      }
      // Good lines behind it: it is not the torn end.
      damaged = badCount === 0 ? damaged : { first: damaged.first === -1 ? badFirst : damaged.first, count: badCount };
      if (offset < listStart) takeOlder();
      else takeCurrent(offset);
      endMissing = end === chunk.bytes.length;
      goodBytes = chunk.offset + (endMissing ? end : end + 1);
    });
  }
  return { goodBytes, endMissing, older, lines, errors, errorCount, repeated, indexEnd, damaged, samples };
}

/** Numbers in the order of their places, four bytes each. */
export class IndexColumn {
  #values = new Uint32Array(1024);
  length = 0;

  /** Returns the place. */
  push(value: number): number {
    if (this.length === this.#values.length) {
      const larger = new Uint32Array(this.#values.length * 2);
      larger.set(this.#values);
      this.#values = larger;
    }
    this.#values[this.length] = value;
    return this.length++;
  }

  at(place: number): number {
    return this.#values[place] ?? -1;
  }
}
