import type { ByteReader } from "./bytes.ts";
import { Lines } from "./lines.ts";
import type { ItemSource, SourceIdentity, SourceItem } from "./types.ts";

export interface LineSourceOptions {
  readonly bytes: ByteReader;
  readonly identity: SourceIdentity;
  readonly rereadable: boolean;
  /** The item that the current line is. */
  readonly toItem: (lines: Lines) => SourceItem;
}

/** Items that are lines: text and JSONL. Holds one chunk, not the file. */
export class LineSource implements ItemSource {
  readonly identity: SourceIdentity;
  readonly rereadable: boolean;
  readonly #lines: Lines;
  readonly #toItem: (lines: Lines) => SourceItem;
  #given = 0;

  constructor(options: LineSourceOptions) {
    this.identity = options.identity;
    this.rereadable = options.rereadable;
    this.#lines = new Lines(options.bytes, options.identity.from);
    this.#toItem = options.toItem;
  }

  /** Reads the first chunk, so that what is wrong with the whole file is told before anything starts. */
  async prime(): Promise<void> {
    await this.#lines.load();
  }

  async read(count: number): Promise<readonly SourceItem[]> {
    const items: SourceItem[] = [];
    do {
      while (items.length < count && this.#lines.next()) items.push(this.#toItem(this.#lines));
    } while (items.length === 0 && await this.#lines.load());
    this.#given += items.length;
    return items;
  }

  remaining(): number | null {
    return this.#lines.done ? 0 : extrapolate(this.#given, this.#lines.fraction());
  }

  close(): Promise<void> {
    return this.#lines.close();
  }
}

/** The items still to come, if the rest of the file is like the part that was read. */
export function extrapolate(given: number, fraction: number | null): number | null {
  if (fraction === null || fraction === 0 || given === 0) return null;
  return Math.round(given * (1 - fraction) / fraction);
}
