import { describe, expect, test } from "vitest";
import { begun, ended, failed, only, returned, startedScheduler, stored } from "./started-scheduler.ts";

const one = { sizing: { kind: "fixed", sizes: [1] } } as const;

describe("an error that another try may mend", () => {
  test("is tried again after a while, up to attemptsMax times, and stored as the last of them", () => {
    const scheduler = startedScheduler({ items: 1, taskManagers: 1, plan: one });
    for (const [assignment, waitMs] of [[1, 100], [2, 200]] as const) {
      const beforeMs = scheduler.nowMs;
      expect(scheduler.step(failed(1, assignment, 0, true))).toEqual([]);
      expect(scheduler.counts.setAside).toBe(1);
      expect(only("assign", scheduler.wake())).toMatchObject([{ assignment: assignment + 1, items: [0, 1] }]);
      expect(scheduler.nowMs - beforeMs).toBeGreaterThanOrEqual(waitMs);
    }
    expect(scheduler.step(failed(1, 3, 0, true))).toEqual([{ kind: "store", batch: 1, results: [], retried: [], errors: [{ index: 0, attempts: 3, made: null }] }]);
    expect(scheduler.counts).toMatchObject({ failed: 1, retried: 1 });
  });

  test("goes out again as tried before, for those who make faults at a first try", () => {
    const scheduler = startedScheduler({ items: 1, taskManagers: 1, plan: one });
    expect(scheduler.given[0]).not.toHaveProperty("triedBefore");
    scheduler.step(failed(1, 1, 0, true));
    expect(only("assign", scheduler.wake())).toMatchObject([{ items: [0, 1], triedBefore: [0, 1] }]);
  });

  test("that is mended ends as a result, with its number of tries", () => {
    const scheduler = startedScheduler({ items: 1, taskManagers: 1, plan: one });
    scheduler.step(failed(1, 1, 0, true));
    scheduler.wake();
    expect(scheduler.step(ended(1, 2, 0, 1))).toEqual([{ kind: "store", batch: 1, results: [0, 1], retried: [[0, 2]], errors: [] }]);
  });

  test("is tried on another Task Manager where there is one", () => {
    const scheduler = startedScheduler({ items: 2, taskManagers: 2, plan: one });
    scheduler.step(failed(1, 1, 0, true));
    scheduler.step(ended(2, 2, 1, 2));
    expect(only("assign", scheduler.wake())).toMatchObject([{ id: 2, items: [0, 1] }]);
  });
});

test("an error that no other try can mend is stored at once", () => {
  const scheduler = startedScheduler({ items: 1, taskManagers: 1, plan: one });
  expect(only("store", scheduler.step(failed(1, 1, 0, false)))).toMatchObject([{ errors: [{ index: 0, attempts: 1, made: null }] }]);
});

describe("items given back", () => {
  test("are handed out again, with no try spent", () => {
    const scheduler = startedScheduler({ items: 10, taskManagers: 1, plan: { attemptsMax: 1 } });
    expect(only("assign", scheduler.step({ kind: "clock" }))).toEqual([]);
    scheduler.step(ended(1, 1, 0, 1));
    expect(only("assign", scheduler.step(returned(1, 1, "DRAIN", 1, 10)))).toMatchObject([{ assignment: 2, items: [1, 10] }]);
    expect(only("store", scheduler.step(ended(1, 2, 1, 10)))).toMatchObject([{ results: [1, 10], retried: [] }]);
  });

  test("for lack of memory are tried in small groups with nothing beside, then alone, then given up", () => {
    const scheduler = startedScheduler({ items: 10, taskManagers: 1, plan: { sizing: { kind: "fixed", sizes: [10, 1] } } });
    const assigned = (commands: Parameters<typeof only>[1]) => only("assign", commands).map(({ items }) => items);
    expect(assigned(scheduler.step(returned(1, 1, "MEMORY", 0, 10)))).toEqual([[0, 8]]);
    expect(assigned(scheduler.step(returned(1, 2, "MEMORY", 0, 2)))).toEqual([]);
    expect(assigned(scheduler.step(ended(1, 2, 2, 8)))).toEqual([[8, 10]]);
    expect(assigned(scheduler.step(ended(1, 3, 8, 10)))).toEqual([[0, 1]]);
    expect(assigned(scheduler.step(returned(1, 4, "MEMORY", 0, 1)))).toEqual([[1, 2]]);
    expect(assigned(scheduler.step(ended(1, 5, 1, 2)))).toEqual([[0, 1]]);
    expect(assigned(scheduler.step(returned(1, 6, "MEMORY", 0, 1)))).toEqual([[0, 1]]);
    expect(only("store", scheduler.step(returned(1, 7, "MEMORY", 0, 1)))).toMatchObject([
      { errors: [{ index: 0, attempts: 0, made: { code: "INPUT_TOO_LARGE", stage: "run", message: expect.stringContaining("given back 5 times") } }] },
    ]);
  });

  test("by Task Managers that end nothing do not go round for ever", () => {
    const scheduler = startedScheduler({ items: 1, taskManagers: 1, plan: one });
    let stores: readonly unknown[] = [];
    let rounds = 0;
    for (; stores.length === 0 && rounds < 100; rounds++) {
      stores = only("store", scheduler.step(returned(1, rounds + 1, "RESTART", 0, 1)));
      if (stores.length === 0) while (only("assign", scheduler.wake()).length === 0) scheduler.step({ kind: "heartbeat", id: 1, held: [] });
    }
    expect(rounds).toBe(21);
    expect(stores).toMatchObject([{ errors: [{ index: 0, made: { code: "TASK_MANAGER_LOST", message: expect.stringContaining("given back 21 times") } }] }]);
  });
});

describe("an assignment that is refused", () => {
  test("is given to others; who refuses again and again is let go", () => {
    const scheduler = startedScheduler({ items: 3, taskManagers: 1, plan: one });
    for (const assignment of [1, 2]) {
      const commands = scheduler.step({ kind: "assignment-refused", id: 1, assignment, message: "unknown artifact" });
      expect(only("assign", commands)).toHaveLength(1);
    }
    const commands = scheduler.step({ kind: "assignment-refused", id: 1, assignment: 3, message: "unknown artifact" });
    expect(only("release", commands)).toEqual([{ kind: "release", id: 1, how: "drain" }]);
    expect(scheduler.counts).toMatchObject({ setAside: 3, running: 0 });
  });
});

describe("too many errors", () => {
  const plan = { sizing: { kind: "fixed", sizes: [100] }, tolerate: { failedItemsPercent: 50, afterItems: 10 } } as const;

  test("stop the run, saying how many, and what is begun may end", () => {
    const scheduler = startedScheduler({ items: 1000, taskManagers: 2, plan });
    scheduler.step(begun(2, 2, 100, 101));
    scheduler.step(ended(1, 1, 0, 5));
    for (let index = 5; index < 10; index++) expect(only("release", scheduler.step(failed(1, 1, index, false)))).toEqual([]);
    expect(only("release", scheduler.step(failed(1, 1, 10, false)))).toEqual([
      { kind: "release", id: 1, how: "drain" },
      { kind: "release", id: 2, how: "drain" },
    ]);
    scheduler.step(returned(1, 1, "DRAIN", 11, 100));
    scheduler.step(returned(2, 2, "DRAIN", 101, 200));
    scheduler.step(ended(2, 2, 100, 101));
    for (let batch = 1; batch <= 7; batch++) expect(only("finish", scheduler.step(stored(batch)))).toEqual([]);
    expect(only("finish", scheduler.step(stored(8)))).toEqual([
      { kind: "finish", state: "stopped", reason: "tolerance", message: "6 of 11 items ended as errors (54.5 %), more than tolerate.failedItemsPercent (50 %)" },
    ]);
  });

  test("are never too many at 100 percent", () => {
    const scheduler = startedScheduler({ items: 1000, taskManagers: 1, plan: { ...plan, tolerate: { failedItemsPercent: 100, afterItems: 10 } } });
    for (let index = 0; index < 50; index++) expect(only("release", scheduler.step(failed(1, 1, index, false)))).toEqual([]);
  });
});
