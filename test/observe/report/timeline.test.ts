import { describe, expect, test } from "vitest";
import { phasesOf, reasonsOf } from "../../../orchestrator/observe/report/explain.ts";
import { barsMax, rowsMax } from "../../../orchestrator/observe/report/picture.ts";
import { TimeBins } from "../../../orchestrator/observe/report/time-bins.ts";
import { Timeline } from "../../../orchestrator/observe/report/timeline.ts";
import type { SchedulerCommand, SchedulerEvent } from "../../../orchestrator/scheduler/types.ts";

const assign = (id: number, assignment: number, first: number, end: number, more: { readonly copy?: true } = {}): SchedulerCommand =>
  ({ kind: "assign", id, assignment, items: [first, end], notAfterMs: null, reversed: false, ...more });
const launch = (...ids: number[]): SchedulerCommand => ({ kind: "launch", ids });
const joined = (id: number): SchedulerEvent => ({ kind: "task-manager-joined", id, room: 2, lanes: 1 });
const ended = (id: number, assignment: number, first: number, end: number): SchedulerEvent =>
  ({ kind: "items-ended", id, assignment, results: [first, end], errors: [] });
const store = (first: number, end: number): SchedulerCommand => ({ kind: "store", batch: 1, results: [first, end], retried: [], errors: [] });
const clock: SchedulerEvent = { kind: "clock" };
const finish: SchedulerCommand = { kind: "finish", state: "completed", reason: null, message: "" };

/** Two Task Managers: the second starts later, gets a copy of what the first is late with, and is faster. */
function twoTaskManagers(): Timeline {
  const timeline = new Timeline();
  timeline.stepped(clock, 0, [launch(1, 2)]);
  timeline.stepped(joined(1), 1000, [assign(1, 1, 0, 10), assign(1, 2, 10, 20)]);
  timeline.stepped(joined(2), 2000, [assign(2, 3, 20, 30)]);
  timeline.stepped(ended(1, 1, 0, 10), 5000, [store(0, 10)]);
  timeline.stepped(ended(2, 3, 20, 30), 6000, [store(20, 30), assign(2, 4, 15, 20, { copy: true })]);
  timeline.stepped(ended(2, 4, 15, 20), 7000, [store(15, 20)]);
  timeline.stepped(ended(1, 2, 10, 20), 9000, [store(10, 15)]);
  timeline.stepped(clock, 9500, [{ kind: "release", id: 1, how: "keep" }, { kind: "release", id: 2, how: "keep" }, finish]);
  return timeline;
}

describe("what a run's steps tell", () => {
  test("is when each Task Manager had work, and which of it were copies", () => {
    const { picture, workingMs, idleMs, startingMs, copies, runMs, workingPeak } = twoTaskManagers().report();
    expect(picture.rows.map(([machine]) => machine)).toMatchObject([{ fromS: 0, readyS: 1, endS: 9.5, lost: false }, { fromS: 0, readyS: 2, endS: 9.5 }]);
    // The prefetched assignment begins where the one before it ends.
    expect(picture.bars.map(({ row, fromS, toS, copy }) => [row, fromS, toS, copy])).toEqual([[0, 1, 5, false], [0, 5, 9, false], [1, 2, 6, false], [1, 6, 7, true]]);
    expect({ workingMs, idleMs, startingMs, copies, runMs, workingPeak }).toEqual({ workingMs: 8000 + 5000, idleMs: 500 + 2500, startingMs: 3000, copies: 1, runMs: 9500, workingPeak: 2 });
  });

  test("gives every moment to one phase", () => {
    const report = twoTaskManagers().report();
    const phases = phasesOf(report, { prepareMs: 300, runMs: 9500, finishMs: 200 });
    expect(phases.map(({ kind, ms }) => [kind, ms])).toEqual([["prepare", 300], ["start", 1000], ["ramp", 1000], ["full", 5000], ["tail", 2000], ["write", 500], ["finish", 200]]);
    const reasons = reasonsOf(report, null).join("\n");
    expect(reasons).toContain("stood idle for 3.0 s, all together: had all ended at once, it would have been about 1.5 s less. The last to end was Task Manager #1: 10 items in 4.0 s");
    expect(reasons).toContain("Once items were given to a second Task Manager");
  });

  test("a Task Manager that is lost takes what it had with it", () => {
    const timeline = new Timeline();
    timeline.stepped(clock, 0, [launch(1)]);
    timeline.stepped(joined(1), 100, [assign(1, 1, 0, 10)]);
    timeline.stepped({ kind: "task-manager-lost", id: 1, cause: { exitCode: null, signal: "SIGKILL", message: "tm-1 ended (killed): http://a.example/x?sig=1" } }, 1100, [launch(2)]);
    timeline.stepped(joined(2), 1300, [assign(2, 2, 0, 10)]);
    const report = timeline.report();
    expect(report.picture.bars).toMatchObject([{ row: 0, lost: true, fromS: 0.1, toS: 1.1 }, { row: 0, lost: false }]);
    expect(report).toMatchObject({ lostWorkMs: 1000, losses: [{ count: 1, example: "tm-1 ended (killed): http://a.example/x?…" }], ended: false });
  });

  test("what a Task Manager says while an assignment is on its way to it does not end that", () => {
    const timeline = new Timeline();
    timeline.stepped(clock, 0, [launch(1)]);
    timeline.stepped(joined(1), 100, [assign(1, 1, 0, 10)]);
    timeline.stepped({ kind: "task-manager-idle", id: 1 }, 105, []);
    timeline.stepped(ended(1, 1, 0, 10), 4000, [store(0, 10)]);
    expect(timeline.report().picture.bars).toMatchObject([{ fromS: 0.1, toS: 4 }]);
  });

  test("an assignment that nobody holds any more is over", () => {
    const timeline = new Timeline();
    timeline.stepped(clock, 0, [launch(1)]);
    timeline.stepped(joined(1), 0, [assign(1, 1, 0, 10)]);
    timeline.stepped({ kind: "heartbeat", id: 1, held: [{ assignment: 1, ended: 0 }] }, 5000, []);
    timeline.stepped({ kind: "heartbeat", id: 1, held: [] }, 8000, []);
    timeline.stepped(clock, 9000, []);
    expect(timeline.report()).toMatchObject({ workingMs: 8000, idleMs: 1000 });
  });
});

describe("a run of any size", () => {
  test("makes a picture within bounds, in which every row is whole", () => {
    const timeline = new Timeline();
    const taskManagers = 3000;
    for (let id = 1; id <= taskManagers; id++) timeline.stepped(clock, 0, [launch(id)]);
    for (let id = 1; id <= taskManagers; id++) timeline.stepped(joined(id), 1, []);
    let assignment = 0;
    for (let round = 0; round < 100; round++) {
      for (let id = 1; id <= taskManagers; id++) {
        assignment += 1;
        timeline.stepped(clock, 10 + round * 100, [assign(id, assignment, 0, 5)]);
      }
      for (let id = 1; id <= taskManagers; id++) timeline.stepped(ended(id, assignment - taskManagers + id, 0, 5), 10 + round * 100 + 100, [store(0, 5)]);
    }
    const { picture, rowsSeen, rowStride, assignments, throughput } = timeline.report();
    expect(assignments).toBe(100 * taskManagers);
    expect(picture.rows.length).toBeLessThanOrEqual(rowsMax);
    expect(picture.bars.length).toBeLessThanOrEqual(barsMax);
    expect([rowsSeen, picture.rows.length]).toEqual([taskManagers, Math.ceil(taskManagers / rowStride)]);
    const shownItems = picture.bars.reduce((sum, { items }) => sum + items, 0);
    expect(shownItems).toBe(picture.rows.length * 100 * 5);
    expect(throughput.results.reduce((sum, value) => sum + value, 0)).toBe(100 * taskManagers * 5);
  });

  test("has its sums over time kept, in as many bins", () => {
    const bins = new TimeBins(2, 8, 10);
    for (let atMs = 0; atMs < 10_000; atMs += 7) bins.add(0, atMs, 1);
    bins.addOver(1, 3, 9_990, 2);
    const [ends, level] = [bins.values(0, 9_999), bins.values(1, 9_999)];
    expect([ends.length <= 8, level.length <= 8, bins.binMs]).toEqual([true, true, 1280]);
    expect(ends.reduce((sum, value) => sum + value, 0)).toBe(Math.ceil(10_000 / 7));
    expect(level.reduce((sum, value) => sum + value, 0)).toBeCloseTo(2 * 9_987);
  });
});
