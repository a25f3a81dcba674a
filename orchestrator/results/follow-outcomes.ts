import { Bits, openView } from "./identity.ts";
import { JournalLine } from "./journal-line.ts";
import { notAHome, readOutcomes } from "./read-outcomes.ts";
import { eachLine, wholeLines, type LineChunk } from "./scan-lines.ts";
import type { Outcome } from "./types.ts";

/**
 * Every item's outcome once, while the run that stores them goes on: its own in the order of completion, as the journal
 * grows; then those that it took over from earlier runs. Holds one bit an item and one chunk of the journal, however
 * far behind the reader is.
 *
 * @param storedAbove how many lines of the run are synced, once these are more than the given number, or the run has ended
 * @throws SplitrunError HOME_EMPTY, HOME_SCHEMA, HOME_DAMAGED
 */
export async function* followOutcomes(homeDir: string, storedAbove: (lines: number) => Promise<number>): AsyncGenerator<Outcome> {
  const given = new Bits();
  for await (const outcome of ownOutcomes(homeDir, storedAbove)) {
    given.add(outcome.index);
    yield outcome;
  }
  for await (const outcome of readOutcomes(homeDir, { order: "completion" })) if (!given.has(outcome.index)) yield outcome;
}

async function* ownOutcomes(homeDir: string, storedAbove: (lines: number) => Promise<number>): AsyncGenerator<Outcome> {
  const view = await openView(homeDir);
  if (view === null) throw notAHome(homeDir);
  const { handle, listStart } = view;
  if (handle === null) return;
  try {
    let offset = listStart;
    let lines = 0;
    for (let stored = await storedAbove(lines); stored > lines; stored = await storedAbove(lines)) {
      const before = lines;
      const { size } = await handle.stat();
      for await (const chunk of wholeLines(handle, offset, size)) {
        // What is behind the last of them may not be synced yet.
        const own = firstOutcomes(chunk, stored - lines);
        offset = own.end;
        lines += own.outcomes.length;
        yield* own.outcomes;
        if (lines === stored) break;
      }
      if (lines === before) return;
    }
  } finally {
    await handle.close();
  }
}

function firstOutcomes(chunk: LineChunk, countMax: number): { readonly outcomes: readonly Outcome[]; readonly end: number } {
  const line = new JournalLine();
  const outcomes: Outcome[] = [];
  let end = chunk.offset;
  eachLine(chunk, (start, lineEnd) => {
    if (outcomes.length === countMax) return;
    if (line.read(chunk.bytes, start, lineEnd)) outcomes.push(line.outcome());
    end = chunk.offset + lineEnd + 1;
  });
  return { outcomes, end };
}
