import { expect, test } from "vitest";
import { replay } from "../../orchestrator/scheduler/replay.ts";
import { explore } from "./search.ts";

/** SPLITRUN_SEED replays one schedule, the first that failed; SPLITRUN_SCHEDULES searches longer than a test run has time for. */
const replayed = process.env["SPLITRUN_SEED"];
const firstSeed = replayed === undefined ? (Date.now() % 1_000_000) * 2000 : Number(replayed);
const schedules = replayed === undefined ? Number(process.env["SPLITRUN_SCHEDULES"] ?? 2000) : 1;

test("whatever happens, every item ends and is stored exactly once, and the run finishes when the faults stop", () => {
  console.log(`schedules from SPLITRUN_SEED=${firstSeed} on`);
  const seen = new Set<string>();
  for (let seed = firstSeed; seed < firstSeed + schedules; seed++) {
    for (const what of explore(seed).seen) seen.add(what);
  }
  if (schedules === 1) return;
  // The search would prove nothing if its faults did not happen.
  for (const fault of ["kills", "silent", "stalls", "duplicates", "drops", "forgets", "throttles", "hosts", "returns", "restarts", "stops", "blamed", "host given up"]) {
    expect([...seen]).toContain(fault);
  }
}, 3_600_000);

test("the same events lead to the same commands", async () => {
  for (let seed = firstSeed; seed < firstSeed + Math.min(schedules, 100); seed++) {
    const { plan, lines } = explore(seed);
    const report = await replay(plan, linesOf(lines));
    expect(report.firstDifference, `SPLITRUN_SEED=${seed}`).toBeNull();
    expect(report.steps).toBe(lines.length);
  }
});

async function* linesOf(lines: readonly string[]): AsyncGenerator<string> {
  yield* lines;
}
