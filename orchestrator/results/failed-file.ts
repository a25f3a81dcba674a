import { open, rename } from "node:fs/promises";
import { join } from "node:path";
import { syncDirectory } from "./durable.ts";
import { homeFiles } from "./home-files.ts";
import { claimedLines, findWinners, openView } from "./identity.ts";
import { inputLine } from "./outcome-line.ts";

/** Rewrites failed.jsonl from the journal: the items whose last line is an error, in the order of completion. */
export async function writeFailed(dir: string, { any }: { readonly any: boolean }): Promise<void> {
  const path = join(dir, homeFiles.failed);
  const temporary = `${path}.next`;
  const handle = await open(temporary, "w", 0o600);
  try {
    if (any) for await (const lines of failedLines(dir)) await handle.appendFile(lines);
    await handle.datasync();
  } finally {
    await handle.close();
  }
  await rename(temporary, path);
  await syncDirectory(dir);
}

async function* failedLines(dir: string): AsyncGenerator<string> {
  const view = await openView(dir);
  if (view === null) return;
  try {
    const winners = await findWinners(view);
    let lines = "";
    const visitor: Parameters<typeof claimedLines>[1] = {
      line: (claimed) => {
        if (claimed.line.failed && winners.isWinner(claimed)) lines += inputLine(claimed.line.item());
      },
      damaged: () => undefined,
    };
    for await (const _ of claimedLines(view, visitor)) {
      if (lines !== "") yield lines;
      lines = "";
    }
  } finally {
    await view.handle?.close();
  }
}
