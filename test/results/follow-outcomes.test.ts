import { appendFile } from "node:fs/promises";
import path from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { followOutcomes } from "../../orchestrator/results/follow-outcomes.ts";
import { openHome } from "../../orchestrator/results/home.ts";
import type { Home, Outcome } from "../../orchestrator/results/types.ts";
import { temporaryFolder } from "../support/function-task.ts";

async function open(dir: string, size: number): Promise<Home> {
  const source = { kind: "list", from: `list-${size}`, size, modifiedMs: 0 } as const;
  return openHome({ dir, mode: "run", fingerprint: "a".repeat(64), source, fresh: false, retryFailed: true, takeOver: false, listAgain: false });
}

const outcomes = (first: number, end: number): Outcome[] =>
  Array.from({ length: end - first }, (_, at) => ({ index: first + at, input: `item ${first + at}`, output: first + at, attempts: 1 }));

/** How many lines are stored, as a run would tell, and its end. */
function stored(home: Home) {
  let lines = 0;
  let ended = false;
  let batches = 0;
  const sizes = new Map<number, number>();
  const waiting: (() => void)[] = [];
  const tell = () => waiting.splice(0).forEach((look) => look());
  home.onStored((batch) => {
    lines += sizes.get(batch) ?? 0;
    tell();
  });
  return {
    append(list: readonly Outcome[]) {
      sizes.set(++batches, list.length);
      home.append(batches, list);
    },
    end() {
      ended = true;
      tell();
    },
    async above(count: number) {
      while (lines <= count && !ended) await new Promise<void>((resolve) => waiting.push(resolve));
      return lines;
    },
  };
}

describe("the outcomes of a run that goes on", () => {
  test("come as they are stored, each once, those of an earlier run last; what is not synced is not shown", async () => {
    const dir = path.join(await temporaryFolder(onTestFinished), "home");
    const items = outcomes(0, 3000).map(({ input }) => ({ input }));
    const earlier = await open(dir, 1000);
    earlier.match(0, items.slice(0, 1000));
    earlier.inputEnded();
    const before = stored(earlier);
    before.append(outcomes(0, 1000));
    await before.above(999);
    await earlier.finish({ complete: true });
    await earlier.close();

    const home = await open(dir, 3000);
    expect(home.match(0, items).done).toEqual([0, 1000]);
    home.inputEnded();
    const run = stored(home);
    const followed = followOutcomes(dir, (lines) => run.above(lines));
    const next = async (count: number) => {
      const indexes: number[] = [];
      while (indexes.length < count) indexes.push(((await followed.next()).value as Outcome).index);
      return indexes;
    };
    run.append(outcomes(2500, 3000));
    expect(await next(500)).toEqual(outcomes(2500, 3000).map(({ index }) => index));
    run.append(outcomes(1000, 2500));
    await run.above(1999);
    // Written by somebody and not said to be stored.
    await appendFile(path.join(dir, "results.jsonl"), `${JSON.stringify({ index: 7, input: "item 7", output: "not stored", attempts: 1 })}\n`);
    expect(await next(1500)).toEqual(outcomes(1000, 2500).map(({ index }) => index));
    const rest = next(1);
    expect(await Promise.race([rest, new Promise((resolve) => setTimeout(resolve, 50, "waits"))])).toBe("waits");
    await home.finish({ complete: false });
    await home.close();
    run.end();
    const last = [...(await rest), ...(await next(999))];
    expect(last.sort((a, b) => a - b)).toEqual(outcomes(0, 1000).map(({ index }) => index));
    expect((await followed.next()).done).toBe(true);
  });
});
