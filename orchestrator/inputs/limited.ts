import type { ItemSource, SourceItem } from "./types.ts";

/** The first items of a source. */
export function limited(source: ItemSource, limit: number): ItemSource {
  let left = limit;
  return {
    identity: source.identity,
    rereadable: source.rereadable,
    async read(count): Promise<readonly SourceItem[]> {
      if (left === 0) return [];
      const items = await source.read(Math.min(count, left));
      left -= items.length;
      return items;
    },
    remaining() {
      const remaining = source.remaining();
      return remaining === null ? null : Math.min(remaining, left);
    },
    ...(source.storageRequests === undefined ? {} : { storageRequests: source.storageRequests }),
    close: source.close.bind(source),
  };
}
