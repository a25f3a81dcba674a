import type { JsonValue } from "../../task-manager/protocol.ts";
import type { SourceItem } from "../inputs/types.ts";

/** What was read and has not ended: the scheduler speaks of indexes only. */
export interface Payloads {
  readonly bytes: number;
  add(index: number, item: SourceItem): void;
  get(index: number): SourceItem | undefined;
  remove(index: number): SourceItem | undefined;
}

export function createPayloads(): Payloads {
  const items = new Map<number, SourceItem>();
  let bytes = 0;
  return {
    get bytes() {
      return bytes;
    },
    add(index, item) {
      items.set(index, item);
      bytes += inputBytes(item.input);
    },
    get: (index) => items.get(index),
    remove(index) {
      const item = items.get(index);
      if (item === undefined) return undefined;
      items.delete(index);
      bytes -= inputBytes(item.input);
      return item;
    },
  };
}

/** Length in JSON, near enough for limits of a megabyte. */
export function inputBytes(input: JsonValue): number {
  return typeof input === "string" ? input.length + 2 : JSON.stringify(input).length;
}
