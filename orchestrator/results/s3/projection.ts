import type { FileHandle } from "node:fs/promises";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { homeFiles } from "../home-files.ts";
import { Bits } from "../identity.ts";
import { JournalLine } from "../journal-line.ts";
import { eachLine, wholeLines } from "../scan-lines.ts";
import type { Outcome } from "../types.ts";
import { Pieces, inJournalOrder, linesAt, outcomesAt } from "./lines.ts";
import { partName, tailName } from "./names.ts";
import type { OutputObjects } from "./objects.ts";
import type { PartStore } from "./part-store.ts";
import { patiently } from "./patience.ts";
import { type PartPlaces, Places } from "./places.ts";
import type { PartRecord } from "./records.ts";

/** Parts that are put at once. */
const putsMax = 2;

export interface ProjectionOptions {
  readonly objects: OutputObjects;
  readonly store: PartStore;
  /** Home, open for the run that fills it. */
  readonly dir: string;
  readonly homeId: string;
  /** Folder of the parts as lines. */
  readonly folder: string;
  readonly partItems: number;
  /** Of the lines in a part. */
  readonly order: "completion" | "input";
  readonly checkpointMs: number;
  /** Lines that are errors do not count: their items are done again. */
  readonly retryFailed: boolean;
  /** Once: S3 will not take the results. */
  readonly onFailed: (error: Error) => void;
}

/**
 * The journal as parts in S3, each a range of the input, put when all of it has ended. It reads the journal behind the
 * run, as far as it is synced, so that the run waits for nothing; what is held is the places of the parts under way and
 * the pieces on their way, however many results there are.
 */
export class Projection {
  readonly #options: ProjectionOptions;
  readonly #handle: FileHandle;
  readonly #places: Places;
  /** Items that have ended, by part. */
  readonly #ended: number[] = [];
  readonly #settled = new Bits();
  #settledCount = 0;
  readonly #waiting = new Set<number>();
  readonly #putting = new Map<number, Promise<void>>();
  readonly #giveUp = new AbortController();
  /** Lines of this run that are synced, and those that were looked at. */
  #stored = 0;
  #seen = 0;
  /** Behind the last line that was looked at. */
  #offset = 0;
  #scanning: Promise<void> | null = null;
  #items: number | null = null;
  #tailFrom = 0;
  #tail: Promise<void> | null = null;
  #timer: NodeJS.Timeout | null = null;
  #failure: Error | null = null;
  #onChange: () => void = () => undefined;

  private constructor(options: ProjectionOptions, handle: FileHandle) {
    this.#options = options;
    this.#handle = handle;
    this.#places = new Places(join(options.dir, homeFiles.places), options.partItems);
  }

  /** Nothing may be appended to the journal while it opens. */
  static async open(options: ProjectionOptions): Promise<Projection> {
    const projection = new Projection(options, await open(join(options.dir, homeFiles.journal), "r"));
    await projection.#takeEarlier();
    projection.#timer = setInterval(() => void projection.checkpoint().catch(() => undefined), options.checkpointMs).unref();
    projection.#putOn();
    return projection;
  }

  /** The run has so many more lines on disk. */
  stored(lines: number): void {
    this.#stored += lines;
    this.#scanOn();
  }

  /** The length of the list is known, so its last part may be complete. */
  listEnded(items: number): void {
    this.#items = items;
    const last = this.#partsEnd(items) - 1;
    if (last >= 0) this.#look(last);
    this.#onChange();
  }

  /**
   * Once every part is there. The run has ended, and every item of the list with it.
   * @throws what S3 refuses; where it was given up meanwhile, the last error
   */
  async settled(): Promise<void> {
    await this.drained();
    const parts = this.#items === null ? null : this.#partsEnd(this.#items);
    if (this.#settledCount !== parts) throw new Error(`${this.#settledCount} of ${parts ?? "an unknown number of"} parts are there`);
  }

  /**
   * Once every part is there of which all has ended. The run has ended.
   * @throws what S3 refuses; where it was given up meanwhile, the last error
   */
  async drained(): Promise<void> {
    while (this.#failure === null && !this.#isIdle()) {
      if (this.#giveUp.signal.aborted && this.#putting.size === 0) throw new Error("it was not waited for");
      await new Promise<void>((resolve) => {
        this.#onChange = resolve;
      });
    }
    if (this.#failure !== null) throw this.#failure;
  }

  /** Nothing is tried any more that S3 did not do at once. */
  giveUp(): void {
    this.#giveUp.abort();
    this.#onChange();
  }

  /** Puts what has ended and is in no part. */
  checkpoint(): Promise<void> {
    return (this.#tail ??= this.#putTail().finally(() => {
      this.#tail = null;
    }));
  }

  /** A part again, because it is not there as it was put. */
  async putAgain(name: string): Promise<void> {
    for (let part = 0; part < this.#partsEnd(this.#items ?? 0); part++) if (this.#nameOf(part) === name) await this.#put(part);
  }

  /** Of a list that was read to its end. */
  get parts(): readonly PartRecord[] {
    const names = Array.from({ length: this.#partsEnd(this.#items ?? 0) }, (_, part) => this.#nameOf(part));
    return names.map((name) => this.#options.store.record(name)).filter((record) => record !== undefined);
  }

  /** How many parts are there. */
  get settledParts(): number {
    return this.#settledCount - this.#putting.size;
  }

  /** A part's outcomes in its order. */
  outcomesOf(part: number): AsyncIterable<Outcome> {
    return outcomesAt(this.#handle, this.#placesOf(part));
  }

  async close(): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#giveUp.abort();
    this.#waiting.clear();
    await this.#scanning;
    await Promise.all(this.#putting.values());
    await this.#tail?.catch(() => undefined);
    this.#places.close();
    await this.#handle.close();
  }

  #isIdle(): boolean {
    return this.#scanning === null && this.#seen >= this.#stored && this.#waiting.size === 0 && this.#putting.size === 0;
  }

  // ---- the journal ----

  /** What runs before this one have left. */
  async #takeEarlier(): Promise<void> {
    const { size } = await this.#handle.stat();
    for await (const _ of this.#lines(size));
    this.#offset = size;
  }

  #scanOn(): void {
    if (this.#scanning !== null || this.#seen >= this.#stored || this.#failure !== null) return;
    this.#scanning = this.#scan().catch((error: unknown) => this.#fail(error)).finally(() => {
      this.#scanning = null;
      this.#scanOn();
      this.#onChange();
    });
  }

  async #scan(): Promise<void> {
    const [seen, { size }] = [this.#seen, await this.#handle.stat()];
    for await (const _ of this.#lines(size, this.#stored)) this.#putOn();
    if (this.#seen === seen) throw new Error(`${this.#stored - seen} lines that were stored are not in the journal`);
  }

  /** Takes the lines up to a size, at most so many of this run's: what is behind the last of them may not be synced yet. */
  async *#lines(size: number, linesMax?: number): AsyncGenerator<void> {
    const line = new JournalLine();
    for await (const chunk of wholeLines(this.#handle, this.#offset, size)) {
      eachLine(chunk, (start, end) => {
        if (linesMax !== undefined && this.#seen >= linesMax) return;
        const offset = chunk.offset + start;
        if (line.read(chunk.bytes, start, end)) this.#take(line, { offset, bytes: end - start, own: linesMax !== undefined });
        this.#offset = chunk.offset + end + 1;
      });
      yield;
      if (linesMax !== undefined && this.#seen >= linesMax) return;
    }
  }

  #take({ index, failed }: JournalLine, { offset, bytes, own }: { readonly offset: number; readonly bytes: number; readonly own: boolean }): void {
    if (own) this.#seen += 1;
    else if (failed && this.#options.retryFailed) return;
    const part = Math.floor(index / this.#options.partItems);
    const isNew = this.#places.set(index, { offset, bytes, failed });
    if (isNew) this.#ended[part] = (this.#ended[part] ?? 0) + 1;
    else this.#unsettle(part);
    this.#look(part);
  }

  // ---- the parts ----

  #partsEnd(items: number): number {
    return Math.ceil(items / this.#options.partItems);
  }

  #look(part: number): void {
    const { partItems } = this.#options;
    const items = this.#items === null ? partItems : Math.min(partItems, this.#items - part * partItems);
    if (this.#settled.has(part) || this.#ended[part] !== items) return;
    this.#waiting.add(part);
    this.#putOn();
  }

  #unsettle(part: number): void {
    if (!this.#settled.has(part)) return;
    this.#settled.delete(part);
    this.#settledCount -= 1;
  }

  #putOn(): void {
    for (const part of this.#waiting) {
      if (this.#failure !== null || this.#giveUp.signal.aborted || this.#putting.size >= putsMax) return;
      if (this.#putting.has(part)) continue;
      this.#waiting.delete(part);
      this.#putting.set(part, this.#putPatiently(part).finally(() => {
        this.#putting.delete(part);
        this.#putOn();
        this.#onChange();
      }));
    }
  }

  async #putPatiently(part: number): Promise<void> {
    // A line that comes while it is put makes it wait once more.
    this.#settled.add(part);
    this.#settledCount += 1;
    try {
      await patiently(() => this.#put(part), this.#giveUp.signal);
    } catch (error) {
      this.#unsettle(part);
      this.#fail(error);
    }
  }

  #put(part: number): Promise<PartRecord> {
    const { store, partItems } = this.#options;
    const places = this.#placesOf(part);
    const [first, items] = [part * partItems, places.offsets.length];
    const counts = { first, end: first + items, succeeded: items - places.failed, failed: places.failed };
    return store.put({ name: this.#nameOf(part), ...counts }, () => linesAt(this.#handle, places), this.#giveUp.signal);
  }

  #placesOf(part: number): PartPlaces {
    const places = this.#places.of(part);
    return this.#options.order === "input" ? places : { ...inJournalOrder(places), failed: places.failed };
  }

  #nameOf(part: number): string {
    return partName(this.#options.folder, part * this.#options.partItems, "jsonl");
  }

  #fail(error: unknown): void {
    if (this.#failure !== null) return;
    this.#failure = error instanceof Error ? error : new Error(String(error));
    this.#options.onFailed(this.#failure);
    this.#onChange();
  }

  // ---- what is in no part ----

  /** Named by its end in the journal, so that a second try takes the place of the first. */
  async #putTail(): Promise<void> {
    while (this.#scanning !== null) await this.#scanning;
    const [from, to] = [this.#tailFrom, this.#offset];
    if (from === to || this.#failure !== null) return;
    const { objects, homeId } = this.#options;
    const pieces = () => this.#unsettledLines(from, to);
    const first = await pieces().next();
    const { signal } = this.#giveUp;
    if (first.done !== true) await patiently(() => objects.put(tailName(homeId, to), pieces(), { condition: "none", signal }), signal).catch((error: unknown) => {
      this.#fail(error);
      throw error;
    });
    this.#tailFrom = to;
  }

  async *#unsettledLines(from: number, to: number): AsyncGenerator<Buffer, void> {
    const line = new JournalLine();
    const gathered = new Pieces();
    for await (const chunk of wholeLines(this.#handle, from, to)) {
      const pieces: Buffer[] = [];
      eachLine(chunk, (start, end) => {
        if (!line.read(chunk.bytes, start, end) || this.#isPut(Math.floor(line.index / this.#options.partItems))) return;
        // A copy: the chunk is overwritten by the next one.
        const piece = gathered.add(Buffer.from(chunk.bytes.subarray(start, end)));
        if (piece !== null) pieces.push(piece);
      });
      yield* pieces;
    }
    const last = gathered.rest();
    if (last !== null) yield last;
  }

  #isPut(part: number): boolean {
    return this.#settled.has(part) && !this.#putting.has(part);
  }
}
