import { open, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { eachLine, wholeLines } from "../../orchestrator/results/scan-lines.ts";
import { createRandom } from "../support/random.ts";
import { temporaryFolder } from "./support.ts";

const seed = Number(process.env["SPLITRUN_SEED"] ?? Math.floor(Math.random() * 2 ** 31));

async function fileOf(text: string): Promise<string> {
  const file = join(await temporaryFolder(), "lines");
  await writeFile(file, text);
  return file;
}

describe("a file read in whole lines", () => {
  test.each([["with", "\n"], ["without", ""]])("gives every line once, at its place, however long it is, %s an end of the last", async (_, end) => {
    console.log(`SPLITRUN_SEED=${seed}`);
    const random = createRandom(seed);
    const lengths = [...Array.from({ length: 2000 }, () => random.between(0, 300)), 1_048_575, 1_048_576, 3_500_000, 0, 2, 1_100_000, 5];
    const lines = lengths.map((length, at) => `${at}:`.padEnd(length + 6, "ab"));
    const text = lines.join("\n") + end;
    const handle = await open(await fileOf(text));
    try {
      const from = (lines[0]?.length ?? 0) + 1;
      const found: string[] = [];
      for await (const chunk of wholeLines(handle, from, text.length)) {
        // The next chunk has been read by now.
        await setImmediate();
        eachLine(chunk, (start, stop) => {
          const line = chunk.bytes.toString("latin1", start, stop);
          expect(text.startsWith(line, chunk.offset + start)).toBe(true);
          found.push(line);
        });
      }
      expect(found).toEqual(lines.slice(1));
    } finally {
      await handle.close();
    }
  });

  test("can be left in the middle, and closed at once", async () => {
    const handle = await open(await fileOf("line\n".repeat(1_000_000)));
    for await (const chunk of wholeLines(handle, 0, 5_000_000)) {
      expect(chunk.offset).toBe(0);
      break;
    }
    await handle.close();
  });

  test("tells a failure to whoever asks for the next chunk", async () => {
    const handle = await open(await fileOf("line\n".repeat(1_000_000)));
    const chunks = wholeLines(handle, 0, 5_000_000);
    await chunks.next();
    await chunks.next();
    await handle.close();
    await setImmediate();
    await expect((async () => { for await (const _ of chunks); })()).rejects.toThrow();
  });
});
