/**
 * A disk with one journal on it: written by the product's own journal, read by its own scan and rules of identity. What
 * is written and not synced can be lost with the power, at any byte; a kill leaves half of a write.
 */
import type { FileHandle } from "node:fs/promises";
import { readCommitted, type Committed } from "../../orchestrator/results/committed.ts";
import { claimedLines, Winners, type LineVisitor } from "../../orchestrator/results/identity.ts";
import { Journal } from "../../orchestrator/results/journal.ts";
import { keyHash } from "../../orchestrator/results/key.ts";
import { superseded } from "../../orchestrator/results/reused.ts";
import type { Outcome } from "../../orchestrator/results/types.ts";
import type { JsonValue } from "../../task-manager/protocol.ts";

/** More turns than the journal takes from one wait on the disk to the next. */
const turnsMax = 12;

export interface DiskWorld {
  /** In virtual time, while this orchestrator lives. */
  later(delayMs: number, what: () => void): void;
  between(low: number, high: number): number;
  chance(probability: number): boolean;
  /** A fault that the disk is to have now. */
  strikes(): "full" | "broken" | null;
}

/** What survives the orchestrator. */
export class Disk {
  #bytes: Buffer = Buffer.alloc(4096);
  #size = 0;
  #syncedSize = 0;
  /** Where the current list's lines begin, as home.json says. */
  listStart = 0;
  /** Stretches of zeros were left where unsynced lines had been. */
  holed = false;

  get size(): number {
    return this.#size;
  }

  get syncedSize(): number {
    return this.#syncedSize;
  }

  write(bytes: Buffer, position: number): void {
    while (this.#bytes.length < position + bytes.length) this.#bytes = Buffer.concat([this.#bytes], this.#bytes.length * 2);
    bytes.copy(this.#bytes, position);
    this.#size = Math.max(this.#size, position + bytes.length);
  }

  sync(size: number): void {
    this.#syncedSize = Math.min(size, this.#size);
  }

  truncate(size: number): void {
    this.#size = Math.min(size, this.#size);
    this.#syncedSize = Math.min(this.#syncedSize, this.#size);
  }

  read(into: Buffer, offset: number, length: number, position: number): number {
    return this.#bytes.copy(into, offset, position, Math.min(this.#size, position + length));
  }

  /** Of what was not synced, any part can be missing: the end of it, and pages in its middle. */
  losePower({ between, chance }: Pick<DiskWorld, "between" | "chance">): void {
    this.#size = between(this.#syncedSize, this.#size);
    if (this.#size > this.#syncedSize && chance(0.3)) {
      const from = between(this.#syncedSize, this.#size - 1);
      this.#bytes.fill(0, from, between(from + 1, this.#size));
      this.holed = true;
    }
    this.#syncedSize = this.#size;
  }
}

/** One orchestrator's hold on the disk: nothing that it does after its death has an effect. */
class Handle {
  readonly #disk: Disk;
  readonly #world: DiskWorld;
  #dead = false;
  /** Something was asked of it, or done by it, and whoever waits for it has not gone on yet. */
  isRestless = false;
  /** What the write under way would put where. */
  #writing: { readonly bytes: Buffer; readonly position: number } | null = null;

  constructor(disk: Disk, world: DiskWorld) {
    this.#disk = disk;
    this.#world = world;
  }

  write(buffer: Buffer, offset: number, length: number, position: number): Promise<{ bytesWritten: number }> {
    const bytes = buffer.subarray(offset, offset + length);
    this.#writing = { bytes, position };
    return this.#done(() => {
      this.#writing = null;
      const fault = this.#world.strikes();
      const bytesWritten = fault === null && this.#world.chance(0.9) ? length : this.#world.between(0, length);
      this.#disk.write(bytes.subarray(0, bytesWritten), position);
      if (fault !== null) throw diskError(fault);
      return { bytesWritten };
    });
  }

  datasync(): Promise<void> {
    const size = this.#disk.size;
    return this.#done(() => {
      if (this.#world.strikes() === "broken") throw diskError("broken");
      this.#disk.sync(size);
    });
  }

  truncate(size: number): Promise<void> {
    return this.#done(() => {
      if (this.#world.strikes() === "broken") throw diskError("broken");
      this.#disk.truncate(size);
    });
  }

  read(into: Buffer, offset: number, length: number, position: number): Promise<{ bytesRead: number }> {
    return Promise.resolve({ bytesRead: this.#disk.read(into, offset, length, position) });
  }

  /** The process is gone: of a write under way, any part was done. */
  die(): void {
    this.#dead = true;
    if (this.#writing === null) return;
    const { bytes, position } = this.#writing;
    this.#disk.write(bytes.subarray(0, this.#world.between(0, bytes.length)), position);
  }

  #done<Result>(what: () => Result): Promise<Result> {
    return new Promise((resolve, reject) => {
      if (this.#dead) return;
      this.#world.later(this.#world.between(0, 60), () => {
        this.isRestless = true;
        try {
          resolve(what());
        } catch (error) {
          reject(error as Error);
        }
      });
    });
  }
}

function diskError(fault: "full" | "broken"): Error {
  return Object.assign(new Error(`the disk is ${fault}`), { code: fault === "full" ? "ENOSPC" : "EIO" });
}

export interface ReadItem {
  readonly input: JsonValue;
}

/** The journal as one orchestrator has it open. */
export class OpenJournal {
  readonly #disk: Disk;
  readonly #handle: Handle;
  readonly #journal: Journal;
  readonly #committed: Committed;
  readonly #retryFailed: boolean;
  /** Which item each older line was given to, as the file `reused` has it. */
  readonly #reused: number[] = [];
  readonly #stored: number[] = [];
  #failure: { readonly batch: number; readonly message: string } | null = null;

  private constructor(disk: Disk, handle: Handle, committed: Committed, retryFailed: boolean) {
    this.#disk = disk;
    this.#handle = handle;
    this.#committed = committed;
    this.#retryFailed = retryFailed;
    this.#journal = new Journal({ handle: asFile(handle), path: "results.jsonl", size: disk.size });
    this.#journal.onStored((batch) => this.#stored.push(batch));
    this.#journal.onStoreFailed((batch, { message }) => (this.#failure = { batch, message }));
  }

  /** As openHome does it: `run` begins a list anew, `resume` goes on with the one that is there. */
  static async open(disk: Disk, world: DiskWorld, { mode, retryFailed }: { readonly mode: "run" | "resume"; readonly retryFailed: boolean }): Promise<OpenJournal> {
    const handle = new Handle(disk, world);
    if (mode === "run") disk.listStart = disk.size;
    const committed = await readCommitted(asFile(handle), { bytes: disk.size, listStart: disk.listStart });
    if (committed.damaged.count > 0 && !disk.holed) throw new Error(`the journal is damaged at byte ${committed.damaged.first}, and no power was lost`);
    disk.truncate(committed.goodBytes);
    if (committed.endMissing) disk.write(Buffer.from("\n"), committed.goodBytes);
    disk.sync(disk.size);
    disk.listStart = Math.min(disk.listStart, disk.size);
    return new OpenJournal(disk, handle, committed, retryFailed);
  }

  /** The rule of identity.ts for an item that is being read. */
  find(index: number, item: ReadItem): "result" | "error" | "none" {
    const { lines, errors, older } = this.#committed;
    const key = keyHash(item);
    for (let place = older.errors.take(key); place !== -1; place = older.errors.take(key)) this.#reused[place] = superseded;
    if (!lines.has(index)) {
      const place = older.results.take(key);
      if (place === -1) return "none";
      this.#reused[place] = index + 1;
      return "result";
    }
    if (!errors.has(index)) return "result";
    return this.#retryFailed ? "none" : "error";
  }

  append(batch: number, outcomes: readonly Outcome[]): void {
    this.#handle.isRestless = true;
    this.#journal.append(batch, outcomes);
  }

  get isRestless(): boolean {
    return this.#handle.isRestless;
  }

  /** Lets the journal go on until it waits for the disk. */
  async turn(): Promise<void> {
    this.#handle.isRestless = false;
    for (let turns = 0; turns < turnsMax; turns++) await undefined;
  }

  /** The next batch that is on the disk; undefined: none yet. */
  takeStored(): number | undefined {
    return this.#stored.shift();
  }

  takeFailure(): { readonly batch: number; readonly message: string } | null {
    const failure = this.#failure;
    this.#failure = null;
    return failure;
  }

  kill(): void {
    this.#handle.die();
  }

  /** Which line speaks for each item, as `verify` and `items()` find it. */
  async lines(items: number): Promise<{ readonly winners: Winners; readonly outcomes: ReadonlyMap<number, Outcome> }> {
    const winners = new Winners(items);
    const outcomes = new Map<number, Outcome>();
    const view = {
      handle: asFile(this.#handle),
      bytes: this.#disk.size,
      listStart: this.#disk.listStart,
      reused: Uint32Array.from(this.#reused, (entry) => entry ?? 0),
    };
    const visitor: LineVisitor = {
      line(claimed) {
        winners.add(claimed);
        if (claimed.index !== -1) outcomes.set(claimed.index, claimed.line.outcome());
      },
      damaged() {
        winners.damaged += 1;
      },
    };
    for await (const _ of claimedLines(view, visitor));
    return { winners, outcomes };
  }
}

/** The journal and its readers use no more of a file than this has. */
function asFile(handle: Handle): FileHandle {
  return handle as unknown as FileHandle;
}
