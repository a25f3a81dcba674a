import type { JsonValue } from "../../task-manager/protocol.ts";
import type { SourceItem } from "../inputs/types.ts";

/** What was read and has not ended: the scheduler speaks of indexes only. */
export interface Payloads {
  readonly bytes: number;
  add(index: number, item: SourceItem): void;
  get(index: number): SourceItem | undefined;
  remove(index: number): SourceItem | undefined;
}

/** Items of a page: it stays as long as one of them does, so a larger one would cost memory where few are held of many. */
const pageItems = 32;

interface Page {
  readonly items: (SourceItem | undefined)[];
  count: number;
}

/** In pages, since items come, are asked for and go in runs: in a map of single ones each costs three look-ups. */
export function createPayloads(): Payloads {
  const pages = new Map<number, Page>();
  let bytes = 0;
  let lastNumber = -1;
  let lastPage: Page | undefined;

  function pageOf(index: number): Page | undefined {
    const number = Math.floor(index / pageItems);
    if (number !== lastNumber) {
      lastNumber = number;
      lastPage = pages.get(number);
    }
    return lastPage;
  }

  function newPage(index: number): Page {
    const page: Page = { items: new Array<SourceItem | undefined>(pageItems).fill(undefined), count: 0 };
    pages.set(lastNumber = Math.floor(index / pageItems), page);
    return lastPage = page;
  }

  return {
    get bytes() {
      return bytes;
    },
    add(index, item) {
      const page = pageOf(index) ?? newPage(index);
      if (page.items[index % pageItems] === undefined) page.count += 1;
      page.items[index % pageItems] = item;
      bytes += inputBytes(item.input);
    },
    get: (index) => pageOf(index)?.items[index % pageItems],
    remove(index) {
      const page = pageOf(index);
      const item = page?.items[index % pageItems];
      if (page === undefined || item === undefined) return undefined;
      page.items[index % pageItems] = undefined;
      page.count -= 1;
      if (page.count === 0) {
        pages.delete(lastNumber);
        lastPage = undefined;
      }
      bytes -= inputBytes(item.input);
      return item;
    },
  };
}

/** Length in JSON, near enough for limits of a megabyte. */
export function inputBytes(input: JsonValue): number {
  return typeof input === "string" ? input.length + 2 : JSON.stringify(input).length;
}
