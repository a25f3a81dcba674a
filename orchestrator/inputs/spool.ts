import { readFileBytes } from "./bytes.ts";
import { invalid, shown } from "./item.ts";
import { LineSource } from "./line-source.ts";
import type { Lines } from "./lines.ts";
import { statSourceFile } from "./source-file.ts";
import type { ItemSource, SourceItem } from "./types.ts";

const chunkBytes = 262_144;

/** One line of a copy of the items, `\n` included: everything that the source said of the item. */
export function spoolLine(item: SourceItem): string {
  return `${JSON.stringify(item)}\n`;
}

/** Reads back what `spoolLine` wrote. Unlike a JSONL input, every line is an item with its fields. */
export async function openSpool(path: string): Promise<ItemSource> {
  const file = await statSourceFile(path, "jsonl");
  return new LineSource({
    bytes: await readFileBytes(file, chunkBytes),
    identity: { kind: "jsonl", from: path, size: file.size, modifiedMs: file.modifiedMs },
    rereadable: true,
    toItem: spooledItem,
  });
}

function spooledItem(lines: Lines): SourceItem {
  const text = lines.text() ?? "";
  try {
    return JSON.parse(text) as SourceItem;
  } catch {
    // Cut off when the disk was full, say.
    return invalid(shown(text), `line ${lines.number} of the copied list is damaged`);
  }
}
