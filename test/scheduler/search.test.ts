import { expect, test } from "vitest";
import { replay } from "../../orchestrator/scheduler/replay.ts";
import { strikes } from "./search-nature.ts";
import { explore, type Exploration } from "./search.ts";

/** The same ones each time, so that a change is judged by what it did: `npm run simulate:search` takes new ones. */
const usualSeed = 31_000_000;
/** SPLITRUN_SEED replays one schedule; SPLITRUN_SCHEDULES takes more of them, or fewer. */
const replayed = process.env["SPLITRUN_SEED"];
const firstSeed = replayed === undefined ? usualSeed : Number(replayed);
const schedules = replayed === undefined ? Number(process.env["SPLITRUN_SCHEDULES"] ?? 20_000) : 1;

test("whatever happens, every item ends and is stored exactly once, and the job finishes when the faults stop", async () => {
  console.log(`schedules from SPLITRUN_SEED=${firstSeed} on`);
  const seen = new Set<string>();
  for (let seed = firstSeed; seed < firstSeed + schedules; seed++) {
    const explored = await explore(seed);
    for (const what of explored.seen) seen.add(what);
    if (explored.lines.length > 0) await replaysAlike(explored);
  }
  if (schedules < 1000) return;
  // The search would prove nothing if its faults did not happen.
  for (const what of [...strikes, "blamed", "host given up", "paced", "reclaim", "cancel", "copied", "reversed", "not after"]) expect([...seen]).toContain(what);
}, 3_600_000);

/** As `splitrun replay` does it, from the lines of events.jsonl. */
async function replaysAlike({ seed, plan, lines }: Exploration): Promise<void> {
  const report = await replay(plan, asLines(lines));
  expect(report.firstDifference, `SPLITRUN_SEED=${seed}`).toBeNull();
  expect(report.steps).toBe(lines.length);
}

async function* asLines(lines: readonly string[]): AsyncGenerator<string> {
  yield* lines;
}
