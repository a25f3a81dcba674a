import { SplitrunError } from "../errors.ts";
import { BlockReader } from "./block-reader.ts";
import type { ClaimedLine, JournalView, Winners } from "./identity.ts";
import { claimedLines, findWinners, openView } from "./identity.ts";
import type { Outcome } from "./types.ts";

export interface ReadOutcomesOptions {
  /** `completion`: as they were stored. `input`: by index. */
  readonly order: "completion" | "input";
}

/**
 * Every item's outcome once, as the journal has it when this is called; a run may be going on. Holds 8 bytes an item
 * and one chunk of the journal. Stopping early is fine.
 *
 * @throws SplitrunError HOME_EMPTY, HOME_SCHEMA, HOME_DAMAGED
 */
export async function* readOutcomes(homeDir: string, options: ReadOutcomesOptions): AsyncGenerator<Outcome> {
  const view = await openView(homeDir);
  if (view === null) throw notAHome(homeDir);
  try {
    const winners = await findWinners(view);
    if (options.order === "completion") yield* inCompletionOrder(view, winners);
    else yield* inInputOrder(view, winners);
  } finally {
    await view.handle?.close();
  }
}

export function notAHome(dir: string): SplitrunError {
  return new SplitrunError(`${dir} holds no results: it has no home.json; name the output directory of a run`, { code: "HOME_EMPTY", value: dir });
}

async function* inCompletionOrder(view: JournalView, winners: Winners): AsyncGenerator<Outcome> {
  let outcomes: Outcome[] = [];
  const visitor = {
    line: (claimed: ClaimedLine) => {
      if (winners.isWinner(claimed)) outcomes.push({ ...claimed.line.outcome(), index: claimed.index });
    },
    damaged: () => undefined,
  };
  for await (const _ of claimedLines(view, visitor)) {
    yield* outcomes;
    outcomes = [];
  }
}

async function* inInputOrder({ handle, bytes }: JournalView, winners: Winners): AsyncGenerator<Outcome> {
  if (handle === null) return;
  const lines = new BlockReader(handle, bytes);
  for (let index = 0; index < winners.indexEnd; index++) {
    const offset = winners.offsetOf(index);
    if (offset !== -1) yield { ...(JSON.parse(await lines.lineAt(offset)) as Outcome), index };
  }
}
