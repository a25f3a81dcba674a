import type { FileHandle } from "node:fs/promises";
import { open } from "node:fs/promises";
import type { ItemSource, SourceItem } from "../../inputs/types.ts";
import { storeError } from "../journal.ts";
import { KeyDigest, keyHash } from "../key.ts";
import { inputsName } from "./names.ts";
import { putPartBytes, type OutputObjects } from "./objects.ts";
import { patiently } from "./patience.ts";
import type { WholeList } from "./records.ts";

const readAtOnce = 4096;
const chunkBytes = 262_144;
const pieceItemsMax = 1_000_000;

export interface SpoolOptions {
  readonly objects: OutputObjects;
  /** The copy here. */
  readonly path: string;
  /** The list was read to its end, and the copy in S3 is complete. */
  readonly onComplete: (list: WholeList) => Promise<void>;
  /** Once: S3 will not take it. */
  readonly onFailed: (error: Error) => void;
}

export interface Spool {
  readonly list: ItemSource;
  /** Once the copies are complete, or will never be. Never rejects. */
  readonly ended: Promise<void>;
}

/**
 * Copies a list to a file and to S3, as fast as it can be read, and gives the run what is in the file: so the copies are
 * complete long before the run is, and the list can be read again whatever it was.
 */
export async function spoolList(source: ItemSource, options: SpoolOptions): Promise<Spool> {
  const file = await open(options.path, "w+", 0o600);
  const list = new ListSpool(source, file, options);
  return { list, ended: list.pumped };
}

class ListSpool implements ItemSource {
  readonly identity: ItemSource["identity"];
  readonly rereadable = true;
  readonly #source: ItemSource;
  readonly #file: FileHandle;
  readonly #options: SpoolOptions;
  /** Once the copies are complete, or will never be. */
  readonly pumped: Promise<void>;
  readonly #stopping = new AbortController();
  readonly #digest = new KeyDigest();
  readonly #pieces: number[] = [];
  #written = 0;
  #spooled = 0;
  /** null: goes on; an error: what reading the list or writing its copy threw. */
  #end: { readonly error: unknown } | null = null;
  #wake: () => void = () => undefined;
  // Of the reader.
  #position = 0;
  #items: readonly SourceItem[] = [];
  #taken = 0;
  #given = 0;

  constructor(source: ItemSource, file: FileHandle, options: SpoolOptions) {
    this.identity = source.identity;
    this.#source = source;
    this.#file = file;
    this.#options = options;
    this.pumped = this.#pump();
  }

  async read(count: number): Promise<readonly SourceItem[]> {
    while (this.#taken === this.#items.length) {
      if (this.#position < this.#written) {
        await this.#load();
      } else if (this.#end !== null) {
        if (this.#end.error !== null) throw this.#end.error;
        return [];
      } else {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    }
    const items = this.#items.slice(this.#taken, this.#taken + count);
    this.#taken += items.length;
    this.#given += items.length;
    return items;
  }

  remaining(): number | null {
    const waiting = this.#spooled - this.#given;
    const unread = this.#end === null ? this.#source.remaining() : 0;
    return unread === null ? null : waiting + unread;
  }

  /** Waits for nobody: a list from standard input may never end. */
  async close(): Promise<void> {
    this.#stopping.abort();
    void this.pumped.then(() => this.#file.close());
  }

  /** Never rejects: the reader hears of what is wrong with the list, and the run of what is wrong with S3. */
  async #pump(): Promise<void> {
    try {
      const list = await this.#copyAll();
      if (list !== null) await this.#options.onComplete(list);
    } catch (error) {
      // Of a run that has ended nobody wants to hear.
      if (!this.#stopping.signal.aborted) this.#options.onFailed(error instanceof Error ? error : new Error(String(error)));
    }
  }

  /** null: the list cannot be read to its end. */
  async #copyAll(): Promise<WholeList | null> {
    let held: Buffer[] = [];
    let heldBytes = 0;
    let first = 0;
    let putting: Promise<unknown> = Promise.resolve();
    const putHeld = async (): Promise<void> => {
      await putting;
      if (heldBytes === 0) return;
      const [name, piece] = [inputsName(first), Buffer.concat(held)];
      this.#pieces.push(first);
      const { signal } = this.#stopping;
      putting = patiently(() => this.#options.objects.put(name, onePiece(piece), { condition: "none", signal }), signal);
      // It is heard when it is waited for.
      putting.catch(() => undefined);
      [held, heldBytes, first] = [[], 0, this.#spooled];
    };
    for (let lines = await this.#copyNext(); lines !== null; lines = await this.#copyNext()) {
      held.push(lines);
      heldBytes += lines.length;
      if (heldBytes >= putPartBytes || this.#spooled - first >= pieceItemsMax) await putHeld();
    }
    if (this.#end?.error !== null || this.#stopping.signal.aborted) return null;
    await putHeld();
    await putting;
    return { count: this.#spooled, digest: this.#digest.toString(), pieces: this.#pieces };
  }

  /** The next lines, which are in the file; null: there are none any more. */
  async #copyNext(): Promise<Buffer | null> {
    try {
      const items = this.#stopping.signal.aborted ? [] : await this.#source.read(readAtOnce);
      if (items.length === 0) {
        await this.#write(() => this.#file.datasync());
        this.#finish(null);
        return null;
      }
      for (const item of items) this.#digest.add(keyHash(item));
      const lines = Buffer.from(items.map((item) => `${JSON.stringify(item)}\n`).join(""));
      await this.#write(() => this.#file.appendFile(lines));
      this.#written += lines.length;
      this.#spooled += items.length;
      this.#wake();
      return lines;
    } catch (error) {
      this.#finish(error);
      return null;
    }
  }

  async #write(write: () => Promise<void>): Promise<void> {
    await write().catch((error: unknown) => {
      throw storeError(this.#options.path, error);
    });
  }

  #finish(error: unknown): void {
    this.#end = { error };
    this.#wake();
  }

  async #load(): Promise<void> {
    for (let bytes = chunkBytes; ; bytes *= 2) {
      const chunk = Buffer.allocUnsafe(Math.min(bytes, this.#written - this.#position));
      const { bytesRead } = await this.#file.read(chunk, 0, chunk.length, this.#position);
      const end = chunk.lastIndexOf(0x0a, bytesRead - 1) + 1;
      if (end === 0) continue;
      this.#items = chunk.toString("utf8", 0, end - 1).split("\n").map((line) => JSON.parse(line) as SourceItem);
      this.#taken = 0;
      this.#position += end;
      return;
    }
  }
}

async function* onePiece(piece: Buffer): AsyncGenerator<Buffer, void> {
  yield piece;
}
