import { describe, expect, test } from "vitest";
import { Calendar } from "../../orchestrator/simulate/calendar.ts";
import { Items } from "../../orchestrator/simulate/items.ts";
import { Life } from "../../orchestrator/simulate/machine-life.ts";
import { Worker, type Report } from "../../orchestrator/simulate/worker.ts";
import { jobsOf } from "../../orchestrator/simulate/workload.ts";
import { ideal } from "./worlds.ts";

interface Said {
  readonly atS: number;
  readonly report: Report;
}

/** A machine with items of one second each, and all that it says. */
function workerWith(given: Readonly<Record<string, unknown>> = {}) {
  const parameters = ideal({ items: 100, workers: 1, reportS: 0.25, ...given });
  const [job] = jobsOf(parameters);
  if (job === undefined) throw new Error("no job");
  const calendar = new Calendar();
  const said: Said[] = [];
  const worker = new Worker({
    life: new Life(parameters, 1, 0, true),
    items: new Items(job, 1),
    calendar,
    lanes: parameters.lanes,
    handOverS: parameters.handOverS,
    reportS: parameters.reportS,
    say: (report) => said.push({ atS: calendar.nowS, report }),
    spent: () => undefined,
    closed: () => undefined,
  });
  return {
    worker,
    at: (timeS: number, what: () => void) => calendar.at(timeS, what),
    assign: (assignment: number, items: readonly number[], reversed = false, notAfterMs: number | null = null) =>
      worker.assign({ kind: "assign", id: 1, assignment, items, reversed, notAfterMs }),
    toEnd(): readonly Said[] {
      while (calendar.next());
      return said;
    },
  };
}

function ended(said: readonly Said[]): readonly (readonly [atS: number, indexes: readonly number[]])[] {
  return said.flatMap(({ atS, report }) => (report.kind === "ended" ? [[atS, report.indexes] as const] : []));
}

function returned(said: readonly Said[]): readonly object[] {
  return said.flatMap(({ atS, report }) => (report.kind === "returned" ? [{ atS, indexes: report.indexes, cause: report.cause }] : []));
}

describe("a simulated Task Manager", () => {
  test("says of each item that it begins, reports what has ended after a while, and the last at once", () => {
    const machine = workerWith();
    machine.assign(7, [0, 2, 5, 6]);
    const said = machine.toEnd();
    expect(said.flatMap(({ atS, report }) => (report.kind === "begun" ? [[atS, report.index]] : []))).toEqual([[0, 0], [1, 1], [2, 5]]);
    expect(ended(said)).toEqual([[1.25, [0]], [2.25, [1]], [3, [5]]]);
    expect(said.at(-1)).toEqual({ atS: 3, report: { kind: "idle" } });
  });

  test("works on a reversed assignment from the end", () => {
    const machine = workerWith();
    machine.assign(1, [0, 3], true);
    expect(ended(machine.toEnd()).flatMap(([, indexes]) => indexes)).toEqual([2, 1, 0]);
  });

  test("gives back the last of what is not begun", () => {
    const machine = workerWith();
    machine.assign(1, [0, 5]);
    machine.at(1.5, () => machine.worker.reclaim(1, 2));
    const said = machine.toEnd();
    expect(returned(said)).toEqual([{ atS: 1.5, indexes: [4, 3], cause: "RECLAIMED" }]);
    expect(ended(said).flatMap(([, indexes]) => indexes)).toEqual([0, 1, 2]);
  });

  test("has nothing to give back of what it does not hold", () => {
    const machine = workerWith();
    machine.worker.reclaim(9, 4);
    expect(returned(machine.toEnd())).toEqual([{ atS: 0, indexes: [], cause: "RECLAIMED" }]);
  });

  test("looks at the time between items, and gives back what is too late", () => {
    const machine = workerWith();
    machine.assign(1, [0, 5], false, 1500);
    const said = machine.toEnd();
    expect(ended(said).flatMap(([, indexes]) => indexes)).toEqual([0, 1]);
    expect(returned(said)).toEqual([{ atS: 2, indexes: [4, 3, 2], cause: "DEADLINE" }]);
  });

  test("stops what is cancelled after the item that it works on", () => {
    const machine = workerWith();
    machine.assign(1, [0, 3]);
    machine.assign(2, [50, 51]);
    machine.at(0.5, () => machine.worker.cancel(1));
    const said = machine.toEnd();
    expect(ended(said)).toEqual([[2, [50]]]);
  });

  test("asked to end, it ends what is begun and gives back the rest", () => {
    const machine = workerWith();
    const events: string[] = [];
    machine.assign(1, [0, 3]);
    machine.at(0.5, () => machine.worker.drain(() => events.push("gone")));
    const said = machine.toEnd();
    expect(ended(said)).toEqual([[1, [0]]]);
    expect(returned(said)).toEqual([{ atS: 0.5, indexes: [2, 1], cause: "DRAIN" }]);
    expect(events).toEqual(["gone"]);
  });

  test("with several lanes what waits for the machine is not begun, and can be given back", () => {
    const machine = workerWith({ lanes: 4 });
    machine.assign(1, [0, 4]);
    machine.at(0.5, () => machine.worker.reclaim(1, 10));
    const said = machine.toEnd();
    expect(returned(said)).toEqual([{ atS: 0.5, indexes: [3, 2, 1], cause: "RECLAIMED" }]);
    expect(ended(said)).toEqual([[1, [0]]]);
  });

  test("says nothing once it is dead", () => {
    const machine = workerWith();
    machine.assign(1, [0, 4]);
    machine.at(1.1, () => machine.worker.end());
    expect(ended(machine.toEnd())).toEqual([]);
  });
});

describe("the life of a machine", () => {
  const parameters = ideal({ items: 1, workers: 1, stallPerMin: 6, stallS: [1, 4], deathPerMin: 1 });

  test("what is worked and when it is over agree", () => {
    for (let seed = 0; seed < 50; seed++) {
      const life = new Life(parameters, seed, 0, true);
      const overS = life.workedAt(life.readyS, 10);
      if (overS < life.endS) expect(life.activeS(overS), `seed ${seed}`).toBeCloseTo(10, 6);
      expect(life.activeS(1e9)).toBeLessThanOrEqual(life.endS - life.readyS);
    }
  });

  test("a pause is over when it is awake", () => {
    for (let seed = 0; seed < 50; seed++) {
      const life = new Life(parameters, seed, 0, true);
      for (const [from, to] of life.pausesUntil(30)) {
        expect(life.awakeAt((from + to) / 2)).toBe(to);
        expect(life.awakeAt(to)).toBe(to);
      }
    }
  });
});
