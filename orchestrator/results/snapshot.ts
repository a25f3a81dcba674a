import type { FileHandle } from "node:fs/promises";
import { open } from "node:fs/promises";
import { SplitrunError } from "../errors.ts";
import type { ItemSource, SourceItem } from "../inputs/types.ts";
import { storeError } from "./journal.ts";
import { eachLine, wholeLines } from "./scan-lines.ts";

/**
 * A source that can be read only once, with a copy of each item in a file, synced when the source ends. The source
 * stays its opener's to close.
 */
export async function copying(source: ItemSource, path: string): Promise<ItemSource> {
  let handle: FileHandle | null = await open(path, "w", 0o600);
  const close = async (): Promise<void> => {
    const closing = handle;
    handle = null;
    await closing?.close();
  };
  return {
    identity: source.identity,
    rereadable: true,
    async read(count) {
      const items = await source.read(count);
      if (handle === null) return items;
      try {
        if (items.length > 0) {
          await handle.appendFile(items.map((item) => `${JSON.stringify(item)}\n`).join(""));
        } else {
          await handle.datasync();
          await close();
        }
      } catch (error) {
        throw storeError(path, error);
      }
      return items;
    },
    remaining: () => source.remaining(),
    close,
  };
}

/** The copy of a list of `count` items, read back as if it were the source. */
export async function readCopy(source: ItemSource, { path, count }: { readonly path: string; readonly count: number }): Promise<ItemSource> {
  const handle = await open(path, "r");
  const chunks = itemsOf(handle, path, (await handle.stat()).size);
  let chunk: readonly SourceItem[] = [];
  let taken = 0;
  let given = 0;
  return {
    identity: source.identity,
    rereadable: true,
    async read(countMax) {
      while (taken === chunk.length) {
        const next = await chunks.next();
        if (next.done === true && given < count) throw damagedCopy(path);
        if (next.done === true) return [];
        chunk = next.value;
        taken = 0;
      }
      const items = chunk.slice(taken, taken + countMax);
      taken += items.length;
      given += items.length;
      return items;
    },
    remaining: () => Math.max(0, count - given),
    close: () => handle.close(),
  };
}

async function* itemsOf(handle: FileHandle, path: string, bytes: number): AsyncGenerator<readonly SourceItem[], void> {
  for await (const chunk of wholeLines(handle, 0, bytes)) {
    const items: SourceItem[] = [];
    eachLine(chunk, (start, end) => {
      items.push(itemOf(chunk.bytes.toString("utf8", start, end), path));
    });
    yield items;
  }
}

function itemOf(text: string, path: string): SourceItem {
  try {
    return JSON.parse(text) as SourceItem;
  } catch {
    // The line may hold a presigned URL, so it is not shown.
    throw damagedCopy(path);
  }
}

function damagedCopy(path: string): SplitrunError {
  return new SplitrunError(`the copy of the list in ${path} is damaged; use \`splitrun run\` with the same input: what is done is kept`, {
    code: "LIST_CUT",
    field: "input",
    value: path,
  });
}
