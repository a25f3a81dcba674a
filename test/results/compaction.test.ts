import { cp, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { compactionSteps } from "../../orchestrator/results/compaction.ts";
import { readRecord } from "../../orchestrator/results/home-record.ts";
import { openHome } from "../../orchestrator/results/home.ts";
import { verify } from "../../orchestrator/results/verify.ts";
import { failure, homeOptions, itemsOf, linesOf, outcomesOf, run, temporaryFolder, work } from "./support.ts";

const before = itemsOf("a", "b", "c", "d", "a");
const after = itemsOf("new", "d", "a", "b");

/** A home whose list has changed and is done, but nothing is compacted. */
async function finishedButNotCompacted(): Promise<string> {
  const dir = join(await temporaryFolder(), "home");
  await run(homeOptions(dir), before, { end: (index) => (index === 1 ? failure : { output: index }) });
  const home = await openHome(homeOptions(dir));
  await work(home, after);
  await home.finish({ complete: false });
  await home.close();
  return dir;
}

const outcomesWanted = [[0, "new", "done"], [1, "d", 3], [2, "a", 0], [3, "b", "done"]];
const staleWanted = ["c", "a"];

async function outcomesAre(dir: string): Promise<void> {
  expect((await outcomesOf(dir)).map(({ index, input, output }) => [index, input, output])).toEqual(outcomesWanted);
}

describe("a compaction", () => {
  test("that is cut behind any of its steps loses nothing and repeats nothing", async () => {
    const steps = ["none", "written", "synced", "decided", "renamed", "settled", "end"];
    const seen: string[] = ["none"];
    for (let stopAfter = 0; stopAfter < steps.length; stopAfter++) {
      const dir = await finishedButNotCompacted();
      const state = await readRecord(dir);
      if (state === null) throw new Error("no record");
      const compaction = compactionSteps(dir, state);
      let last = "none";
      for (let step = 0; step < stopAfter; step++) {
        const next = await compaction.next();
        last = next.done === true ? "end" : next.value;
      }
      if (stopAfter > 0) seen.push(last);
      // What a process that dies leaves: the files as they are at this moment.
      const left = `${dir}-left`;
      await cp(dir, left, { recursive: true });
      await compaction.return(state);
      await outcomesAre(left);
      expect((await verify(left)).ok).toBe(true);
      expect((await run(homeOptions(left, { mode: "resume" }), after)).did).toEqual([]);
      await outcomesAre(left);
      expect(await verify(left)).toMatchObject({ ok: true, succeeded: 4 });
      expect(await linesOf(join(left, "results.jsonl"))).toHaveLength(4);
      expect((await linesOf(join(left, "stale.jsonl"))).map((line) => (line as { input: string }).input)).toEqual(staleWanted);
      await rm(left, { recursive: true });
    }
    expect(seen).toEqual(steps);
  });

  test("does not call an error stale whose item is in the list and has a newer line", async () => {
    const dir = await finishedButNotCompacted();
    expect((await run(homeOptions(dir, { mode: "resume" }), after)).did).toEqual([]);
    expect(await readFile(join(dir, "stale.jsonl"), "utf8")).not.toContain('"b"');
  });

  test("gives way to a reader that has the journal open", async () => {
    const dir = await finishedButNotCompacted();
    const { readOutcomes } = await import("../../orchestrator/results/read-outcomes.ts");
    const reading = readOutcomes(dir, { order: "input" });
    const first = await reading.next();
    await run(homeOptions(dir, { mode: "resume" }), after);
    const inputs = [first.value?.input];
    for await (const { input } of reading) inputs.push(input);
    expect(inputs).toEqual(["new", "d", "a", "b"]);
  });
});
