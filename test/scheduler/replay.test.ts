import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { encodeStep, replay } from "../../orchestrator/scheduler/replay.ts";
import { createScheduler } from "../../orchestrator/scheduler/scheduler.ts";
import type { SchedulerEvent } from "../../orchestrator/scheduler/types.ts";
import { allowance, ended, itemsRead, joined, plainPlan, stored } from "./started-scheduler.ts";

const events: readonly SchedulerEvent[] = [
  allowance(1),
  itemsRead(0, 6, { hosts: [5, 5, 5, 0, 0, 9], weights: [1, 2.5, 2.5, 1e-7, 3, 3] }),
  { kind: "input-ended" },
  joined(1),
  ended(1, 1, 0, 6),
  stored(1),
];

function record(): string[] {
  const scheduler = createScheduler(plainPlan);
  return events.map((event, at) => encodeStep(event, at * 10, scheduler.step(event, at * 10).commands));
}

async function* linesOf(lines: readonly string[]): AsyncGenerator<string> {
  yield* lines;
}

describe("a recorded run", () => {
  test("leads to the same decisions when it is stepped through again", async () => {
    const report = await replay(plainPlan, linesOf(record()));
    expect(report).toMatchObject({ steps: 6, firstDifference: null, counts: { succeeded: 6, read: 6 } });
  });

  test("under another plan shows where the decisions part", async () => {
    const report = await replay({ ...plainPlan, sizing: { kind: "fixed", sizes: [2] } }, linesOf(record()));
    expect(report.firstDifference).toMatchObject({ step: 4, nowMs: 30, event: "task-manager-joined", commands: [{ kind: "assign", items: [4, 6] }] });
  });

  test("that was cut short by a kill is replayed as far as it goes", async () => {
    const lines = record();
    const cut = [...lines.slice(0, 4), lines[4]?.slice(0, 20) ?? ""];
    expect(await replay(plainPlan, linesOf(cut))).toMatchObject({ steps: 4, firstDifference: null });
  });

  test("that was damaged in the middle is refused", async () => {
    const lines = record();
    lines[2] = "[20,{";
    await expect(replay(plainPlan, linesOf(lines))).rejects.toThrow("step 3 cannot be read: [20,{");
  });

  test("has one short line for thousands of items of one host", () => {
    const event = itemsRead(0, 8000, { hosts: new Array<number>(8000).fill(1234) });
    expect(encodeStep(event, 1, []).length).toBeLessThan(200);
  });
});

test("commands that differ have digests that differ", () => {
  fc.assert(
    fc.property(fc.array(fc.nat(), { minLength: 1, maxLength: 6 }), fc.nat(5), fc.integer({ min: 1, max: 1000 }), (items, at, more) => {
      const digest = (list: readonly number[]) => encodeStep({ kind: "clock" }, 0, [{ kind: "assign", id: 1, assignment: 1, notAfterMs: null, reversed: false, items: list }]);
      const other = items.map((item, place) => (place === at % items.length ? item + more : item));
      expect(digest(other)).not.toBe(digest(items));
    }),
  );
});
