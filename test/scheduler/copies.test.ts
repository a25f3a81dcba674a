import { describe, expect, test } from "vitest";
import type { SchedulerEvent, SchedulerPlan } from "../../orchestrator/scheduler/types.ts";
import { begun, ended, failed, heartbeat, lost, only, returned, startedScheduler, type Command, type Started } from "./started-scheduler.ts";

const remainder: Partial<SchedulerPlan> = { speculation: { kind: "remainder", maxExtraPercent: 50 } };

/** Item 0 has hung at Task Manager 1 for a second; Task Manager 2, which idles, has been given a copy of it. */
function copied(plan: Partial<SchedulerPlan> = {}): Started {
  const scheduler = startedScheduler({ items: 2, taskManagers: 2, plan: { ...remainder, sizing: { kind: "fixed", sizes: [1] }, ...plan } });
  scheduler.step(begun(1, 1, 0, 1), 10);
  scheduler.step(ended(2, 2, 1, 2), 50);
  scheduler.step(heartbeat(1, 1), 900);
  const commands = scheduler.waitUntil(1100);
  expect(only("assign", commands)).toEqual([{ kind: "assign", id: 2, assignment: 3, items: [0, 1], notAfterMs: null, reversed: false, copy: true }]);
  expect(scheduler.counts).toMatchObject({ copied: 1, running: 1 });
  return scheduler;
}

describe("an item that two hold", () => {
  test("ends once: the first end is stored, the loser is told to stop", () => {
    const scheduler = copied();
    const commands = scheduler.step(ended(2, 3, 0, 1));
    expect(only("store", commands)).toMatchObject([{ results: [0, 1] }]);
    expect(only("cancel", commands)).toEqual([{ kind: "cancel", id: 1, assignment: 1 }]);
    expect(scheduler.counts).toMatchObject({ succeeded: 2, running: 0 });
  });

  test("and the late answer changes nothing", () => {
    const scheduler = copied();
    scheduler.step(ended(1, 1, 0, 1));
    expect(scheduler.step(ended(2, 3, 0, 1))).toEqual([]);
    expect(scheduler.counts).toMatchObject({ succeeded: 2, droppedReports: 1 });
  });

  test("stays where it is when the other holder is lost, gives it back or fails it", () => {
    for (const event of [lost(2), returned(2, 3, "DRAIN", 0, 1), failed(2, 3, 0, true)]) {
      const scheduler = copied();
      const commands = scheduler.step(event);
      expect(only("store", commands)).toEqual([]);
      expect(scheduler.counts).toMatchObject({ running: 1, waiting: 0, setAside: 0, retried: 0 });
      expect(only("store", scheduler.step(ended(1, 1, 0, 1)))).toMatchObject([{ results: [0, 1], retried: [] }]);
    }
  });

  test("makes one try of two failures", () => {
    const scheduler = copied({ attemptsMax: 2 });
    scheduler.step(failed(2, 3, 0, true));
    scheduler.step(failed(1, 1, 0, true));
    expect(scheduler.counts).toMatchObject({ retried: 1, setAside: 1, failed: 0 });
  });

  test("has spent its try when one fails it and the other is lost before it began it", () => {
    const scheduler = copied({ attemptsMax: 1 });
    scheduler.step(failed(1, 1, 0, true));
    const commands = scheduler.step(lost(2));
    expect(only("store", commands)).toMatchObject([{ errors: [{ index: 0, attempts: 1, made: { code: "DOWNLOAD_STATUS", stage: "download" } }] }]);
  });

  test("ends with an error that no other try could mend, wherever that comes from", () => {
    const scheduler = copied();
    const commands = scheduler.step(failed(2, 3, 0, false));
    expect(only("store", commands)).toMatchObject([{ errors: [{ index: 0, attempts: 1, made: null }] }]);
    expect(only("cancel", commands)).toHaveLength(1);
  });

  test("is a suspect when it was begun where its Task Manager was lost: should it come back, it is tried alone", () => {
    const scheduler = copied();
    expect(only("note-quarantine", scheduler.step(lost(1)))).toEqual([{ kind: "note-quarantine", items: [0, 1], losses: [0] }]);
    expect(scheduler.counts).toMatchObject({ running: 1, waiting: 0 });
  });

  test("is tried by another, apart, when it is late where it is and was begun where a Task Manager was lost; once", () => {
    const scheduler = startedScheduler({ items: 4, taskManagers: 4, plan: { speculation: { kind: "remainder", maxExtraPercent: 100 }, sizing: { kind: "fixed", sizes: [1] } } });
    scheduler.step(begun(1, 1, 0, 1), 10);
    const given: Command<"assign">[] = [];
    const step = (event: SchedulerEvent, atMs: number) => given.push(...only("assign", scheduler.step(event, atMs)));
    for (const id of [2, 3, 4]) step(ended(id, id, id - 1, id), 50);
    for (let atMs = 1000; atMs < 20_000; atMs += 1000) {
      const copies = given.filter(({ items }) => items[0] === 0);
      const last = copies.at(-1);
      for (const id of [1, 2, 3, 4]) step(heartbeat(id, ...(id === 1 ? [1] : copies.filter((each) => each.id === id).map(({ assignment }) => assignment))), atMs);
      if (last !== undefined) {
        step(begun(last.id, last.assignment, 0, 1), atMs);
        step(lost(last.id), atMs);
      }
      given.push(...only("assign", scheduler.waitUntil(atMs + 900)));
    }
    expect(given).toMatchObject([
      { items: [0, 1], copy: true },
      { items: [0, 1], copy: true, apart: true },
    ]);
    expect(given[0]?.apart).toBeUndefined();
    expect(scheduler.counts).toMatchObject({ running: 1, losses: 2 });
  });
});

describe("what is copied", () => {
  test("is never more than the budget allows", () => {
    const plan = { speculation: { kind: "remainder", maxExtraPercent: 0 }, sizing: { kind: "fixed", sizes: [1] } } as const;
    const scheduler = startedScheduler({ items: 2, taskManagers: 2, plan });
    scheduler.step(begun(1, 1, 0, 1), 10);
    scheduler.step(ended(2, 2, 1, 2), 50);
    expect(only("assign", scheduler.waitUntil(5000))).toEqual([]);
  });

  test("is no item that will soon have lasted as long as the longest that ended, but one that lasts longer", () => {
    const scheduler = startedScheduler({ items: 56, taskManagers: 2, plan: { ...remainder, sizing: { kind: "fixed", sizes: [40, 16] } } });
    const copiedAtMs: number[] = [];
    const step = (event: SchedulerEvent, atMs: number): void => {
      for (const command of [...scheduler.waitUntil(atMs), ...scheduler.step(event, atMs)]) {
        if (command.kind === "assign") copiedAtMs.push(scheduler.nowMs);
        if (command.kind === "reclaim") scheduler.step(returned(command.id, command.assignment, "RECLAIMED"), atMs);
      }
    };
    step(begun(1, 1, 0, 1), 10);
    for (const atMs of [2000, 4000, 6000, 8000, 10_000]) for (const id of [1, 2]) step(heartbeat(id, id), atMs);
    step(ended(1, 1, 0, 1), 12_010);
    step(ended(1, 1, 1, 39), 14_000);
    step(begun(1, 1, 39, 40), 15_000);
    step(ended(2, 2, 40, 56), 15_200);
    for (let atMs = 15_500; atMs < 30_000; atMs += 500) {
      step(heartbeat(1, 1), atMs);
      step(heartbeat(2, ...(copiedAtMs.length > 0 ? [3] : [])), atMs);
    }
    expect(copiedAtMs).toHaveLength(1);
    // Ten seconds were enough, had nothing lasted for twelve.
    expect(copiedAtMs[0]).toBeGreaterThanOrEqual(15_000 + 12_000);
    expect(copiedAtMs[0]).toBeLessThan(15_000 + 13_000);
  });

  test("is nothing while all are late alike, as on a disk that is slow", () => {
    const scheduler = startedScheduler({ items: 40, taskManagers: 4, plan: { ...remainder, sizing: { kind: "fixed", sizes: [10] } } });
    for (const id of [1, 2, 3]) scheduler.step(begun(id, id, id * 10 - 10, id * 10 - 9), 10);
    const commands = [...scheduler.step(ended(4, 4, 30, 40), 1000)];
    for (let atMs = 1100; atMs < 5000; atMs += 100) {
      commands.push(...scheduler.waitUntil(atMs));
      commands.push(...scheduler.step(heartbeat(4)));
    }
    expect(only("reclaim", commands)).toHaveLength(3);
    expect(only("assign", commands)).toEqual([]);
  });

  test("is all that a silent one is missing, where it is asked and does not answer while others are heard of", () => {
    const scheduler = startedScheduler({ items: 20, taskManagers: 2, plan: remainder });
    scheduler.step(begun(1, 1, 0, 1), 10);
    scheduler.step(ended(1, 1, 0, 1), 50);
    expect(only("reclaim", scheduler.step(ended(2, 2, 10, 20), 500))).toMatchObject([{ id: 1, assignment: 1 }]);
    expect(only("assign", scheduler.waitUntil(740))).toEqual([]);
    scheduler.step(heartbeat(2), 745);
    expect(only("assign", scheduler.waitUntil(1000))).toMatchObject([{ id: 2, items: [1, 4] }]);
    expect(scheduler.counts).toMatchObject({ copied: 3, running: 9 });
  });

  test("is no item that lasts as long as others do, but that of one that must be slow by all that it has ended", () => {
    const scheduler = startedScheduler({ items: 6, taskManagers: 4, plan: { ...remainder, sizing: { kind: "fixed", sizes: [1] } } });
    const copiesUntil = (untilMs: number, ...working: readonly [id: number, assignment: number][]): readonly Command<"assign">[] => {
      const copies: Command<"assign">[] = [];
      for (let atMs = scheduler.nowMs + 1000; atMs <= untilMs && copies.length === 0; atMs += 1000) {
        copies.push(...only("assign", scheduler.waitUntil(atMs)));
        for (const id of [1, 2, 3, 4]) scheduler.step(heartbeat(id, ...working.filter((each) => each[0] === id).map((each) => each[1])), atMs);
        for (const { id, assignment } of only("reclaim", scheduler.waitUntil(atMs + 1))) scheduler.step(returned(id, assignment, "RECLAIMED"), atMs + 1);
      }
      return copies;
    };
    for (const id of [1, 2, 3, 4]) scheduler.step(begun(id, id, id - 1, id), 10);
    expect(copiesUntil(20_000, [1, 1], [2, 2], [3, 3], [4, 4])).toEqual([]);
    for (const id of [1, 2, 3, 4]) scheduler.step(ended(id, id, id - 1, id), 20_000);
    for (const id of [1, 2]) scheduler.step(begun(id, id + 4, id + 3, id + 4), 20_010);
    // Two idle, and two work as long as they did before.
    expect(copiesUntil(40_000, [1, 5], [2, 6])).toEqual([]);
    scheduler.step(ended(2, 6, 5, 6), 40_000);
    expect(copiesUntil(90_000, [1, 5])).toMatchObject([{ items: [4, 5] }]);
  });
});
