import { open } from "node:fs/promises";

const bufferCharsMax = 262_144;

/** Writes pieces of text to an existing file, many at a time. */
export async function writeText(path: string, pieces: AsyncIterable<string>): Promise<void> {
  const handle = await open(path, "w");
  let buffer = "";
  try {
    for await (const piece of pieces) {
      buffer += piece;
      if (buffer.length < bufferCharsMax) continue;
      await handle.writeFile(buffer);
      buffer = "";
    }
    await handle.writeFile(buffer);
  } finally {
    await handle.close();
  }
}
