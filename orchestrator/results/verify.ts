import type { ClaimedLine, JournalView, Winners } from "./identity.ts";
import { claimedLines, findWinners, openView } from "./identity.ts";
import { KeyDigest } from "./key.ts";
import { notAHome } from "./read-outcomes.ts";

export interface Receipt {
  /** Every item of the list has exactly one result or error, and the journal holds nothing else. */
  readonly ok: boolean;
  /** Length of the list; while it is not known to its end, items with a line. */
  readonly items: number;
  readonly succeeded: number;
  readonly failed: number;
  /** Items without a line. */
  readonly missing: number;
  /** Lines for an item that has a result already. A result behind an error of the same item is a retry, not one. */
  readonly duplicates: number;
  /** Lines for no item of the list, those waiting for a compaction apart. */
  readonly foreign: number;
  /** In words. */
  readonly problems: readonly string[];
}

/**
 * Checks a home against its own record of the list; needs neither the source nor the lock.
 * @throws SplitrunError HOME_EMPTY, HOME_SCHEMA, HOME_DAMAGED
 */
export async function verify(homeDir: string): Promise<Receipt> {
  const view = await openView(homeDir);
  if (view === null) throw notAHome(homeDir);
  try {
    const winners = await findWinners(view);
    return receiptOf(view, winners, await tally(view, winners));
  } finally {
    await view.handle?.close();
  }
}

interface Tally {
  succeeded: number;
  failed: number;
  readonly digest: KeyDigest;
}

async function tally(view: JournalView, winners: Winners): Promise<Tally> {
  const result: Tally = { succeeded: 0, failed: 0, digest: new KeyDigest() };
  const line = (claimed: ClaimedLine): void => {
    if (!winners.isWinner(claimed)) return;
    if (claimed.line.failed) result.failed += 1;
    else result.succeeded += 1;
    result.digest.add(claimed.line.key());
  };
  for await (const _ of claimedLines(view, { line, damaged: () => undefined }));
  return result;
}

function receiptOf({ record: { list } }: JournalView, winners: Winners, { succeeded, failed, digest }: Tally): Receipt {
  const { count, duplicates, foreign, damaged } = winners;
  const missing = list === null ? 0 : list.count - count;
  const problems: string[] = [];
  if (list === null) problems.push("The list was not read to its end, so that nobody knows what is missing: the run goes on, or was cut; `splitrun resume` or `splitrun run` ends it.");
  if (missing > 0) problems.push(`${missing} items have neither a result nor an error: the run goes on, or was cut; \`splitrun resume\` ends it.`);
  if (duplicates > 0) problems.push(`${duplicates} lines are for items that had a result already.`);
  if (foreign > 0) problems.push(`${foreign} lines are for no item of the list.`);
  if (damaged > 0) problems.push(`${damaged} lines are no journal lines: half written or damaged; \`splitrun resume\` does their items again.`);
  if (missing === 0 && list !== null && digest.toString() !== list.digest) {
    problems.push("The items of the journal are not those of the list: an id, input or version in it was changed; `splitrun run` does those items again.");
  }
  return { ok: problems.length === 0, items: list?.count ?? count, succeeded, failed, missing, duplicates, foreign, problems };
}
