import { describe, expect, test } from "vitest";
import type { SchedulerPlan } from "../../orchestrator/scheduler/types.ts";
import { allowance, begun, ended, failed, heartbeat, itemsRead, joined, lost, newScheduler, only, returned, startedScheduler, type Started } from "./started-scheduler.ts";

/** The lost Task Manager is replaced: what the new one is given. */
function replaced(scheduler: Started, commands: Parameters<typeof only>[1], id: number): readonly (readonly number[])[] {
  const launched = only("launch", commands).length > 0 ? commands : scheduler.wake();
  expect(only("launch", launched)).toEqual([{ kind: "launch", ids: [id] }]);
  return only("assign", scheduler.step(joined(id))).map(({ items }) => items);
}

describe("a Task Manager that is lost", () => {
  test("keeps what it ended; what it had not begun goes back, with no suspicion", () => {
    const scheduler = startedScheduler({ items: 10, taskManagers: 1 });
    scheduler.step(ended(1, 1, 0, 4));
    const commands = scheduler.step(lost(1));
    expect(only("note-quarantine", commands)).toEqual([]);
    expect(replaced(scheduler, commands, 2)).toEqual([[4, 10]]);
  });

  test("makes suspects of what it had begun; they are noted before they are tried again, and tried with nothing beside", () => {
    const scheduler = startedScheduler({ items: 30, taskManagers: 1, room: 2, plan: { supports: { prefetch: true, reclaim: true, cancel: true } } });
    scheduler.step(begun(1, 1, 0, 4));
    scheduler.step(ended(1, 1, 0, 1));
    const commands = scheduler.step(lost(1));
    expect(commands.map(({ kind }) => kind)).toEqual(["note-quarantine", "launch"]);
    expect(only("note-quarantine", commands)).toEqual([{ kind: "note-quarantine", items: [1, 4], losses: [0, 0, 0] }]);
    expect(only("assign", scheduler.step(joined(2, 2)))).toMatchObject([{ items: [1, 2], apart: true, triedBefore: [1, 2] }]);
    expect(only("assign", scheduler.step(ended(2, 3, 1, 2)))).toMatchObject([{ items: [2, 3], apart: true }]);
    expect(only("assign", scheduler.step(ended(2, 4, 2, 3)))).toMatchObject([{ items: [3, 4], apart: true }]);
    // All were innocent: the others follow.
    const after = scheduler.step(ended(2, 5, 3, 4));
    expect(only("note-quarantine", after)).toEqual([{ kind: "note-quarantine", items: [], losses: [] }]);
    expect(only("assign", after).map(({ items }) => items)).toEqual([[4, 14], [14, 24]]);
  });

  test.each([
    ["by halves where handing them out singly would cost more than the starts of Task Managers", 1000, 6],
    ["singly where handing them out costs next to nothing", 5, 3],
  ])("is found out %s, and only the item that is to blame ends as an error, after two losses while alone", (_name, startMs, losses) => {
    const poison = 5;
    const scheduler = startedScheduler({ items: 8, taskManagers: 1 });
    const storedErrors: unknown[] = [];
    const results = new Set<number>();
    const notes: (readonly number[])[] = [];
    let id = 1;
    let given = scheduler.given[0];
    for (let turn = 0; turn < 50 && given !== undefined; turn++) {
      const [first = 0, end = 0] = given.items;
      const { assignment } = given;
      let commands = [...scheduler.step(begun(id, assignment, first, end), scheduler.nowMs + startMs)];
      const kills = poison >= first && poison < end;
      commands = [...scheduler.step(kills ? lost(id, { exitCode: null, signal: "SIGSEGV", message: "tm ended (killed by SIGSEGV)" }) : ended(id, assignment, first, end))];
      for (const { results: stored, errors } of only("store", commands)) {
        for (let index = stored[0] ?? 0; index < (stored[1] ?? 0); index++) results.add(index);
        storedErrors.push(...errors);
      }
      for (const { items } of only("note-quarantine", commands)) notes.push(items);
      if (kills) {
        id += 1;
        while (only("launch", commands).length === 0 && scheduler.counts.waiting > 0) commands = [...commands, ...scheduler.wake()];
        if (scheduler.counts.waiting > 0) commands = [...scheduler.step(joined(id))];
      }
      given = only("assign", commands)[0];
    }
    expect(storedErrors).toEqual([
      {
        index: poison,
        attempts: 2,
        made: {
          code: "TASK_MANAGER_LOST",
          stage: "run",
          message: "its Task Manager was lost 2 times while nothing else was there, the last time: tm ended (killed by SIGSEGV)",
        },
      },
    ]);
    expect(results).toEqual(new Set([0, 1, 2, 3, 4, 6, 7]));
    expect(notes[0]).toEqual([0, 8]);
    expect(scheduler.counts).toMatchObject({ succeeded: 7, failed: 1, losses });
  });

  test("while it drained as asked is not held against the item that it had alone", () => {
    const scheduler = startedScheduler({ items: 1, taskManagers: 1 });
    scheduler.step(begun(1, 1, 0, 1));
    expect(replaced(scheduler, scheduler.step(lost(1)), 2)).toEqual([[0, 1]]);
    scheduler.step(begun(2, 2, 0, 1));
    scheduler.step({ kind: "stop", reason: "user", how: "drain", message: "asked to" });
    expect(only("note-quarantine", scheduler.step(lost(2)))).toEqual([{ kind: "note-quarantine", items: [0, 1], losses: [0] }]);
  });

  test("and its late reports are dropped and counted", () => {
    const scheduler = startedScheduler({ items: 10, taskManagers: 1 });
    scheduler.step(lost(1));
    expect(scheduler.step(ended(1, 1, 0, 4))).toEqual([]);
    expect(scheduler.counts).toMatchObject({ droppedReports: 4, succeeded: 0 });
  });
});

describe("quarantine", () => {
  test("waits for a Task Manager to become empty, while the others go on", () => {
    const prefetch = { supports: { prefetch: true, reclaim: true, cancel: true } };
    const scheduler = startedScheduler({ items: 1000, taskManagers: 2, room: 2, plan: prefetch });
    scheduler.step(begun(1, 1, 0, 3));
    scheduler.step(lost(1));
    // Task Manager 2 gets nothing more until it is empty.
    expect(only("assign", scheduler.step(ended(2, 3, 20, 30)))).toEqual([]);
    expect(only("assign", scheduler.step(ended(2, 4, 30, 40)))).toMatchObject([{ id: 2, items: [0, 1], apart: true }]);
    expect(only("assign", scheduler.step(joined(3, 2))).map(({ id }) => id)).toEqual([3, 3]);
  });

  test("has the next Task Manager start while a suspect is tried: one, and within what is allowed", () => {
    const launchedOnLoss = (allowed: number) => {
      const scheduler = startedScheduler({ items: 1, taskManagers: 1, plan: { taskManagersMax: 3 } });
      scheduler.step(begun(1, 1, 0, 1));
      scheduler.step(allowance(allowed));
      const first = only("launch", scheduler.step(lost(1))).flatMap(({ ids }) => ids);
      const tried = scheduler.step(joined(2));
      expect(only("assign", tried)).toMatchObject([{ items: [0, 1], apart: true }]);
      const ahead = only("launch", tried).flatMap(({ ids }) => ids);
      // It idles until it is needed, and then another one starts.
      const idle = ahead.length === 0 ? [] : only("launch", scheduler.step(joined(3)));
      scheduler.step(begun(2, 2, 0, 1));
      const again = scheduler.step(lost(2));
      return { first, ahead, idle, again: only("launch", again).flatMap(({ ids }) => ids), triedAgain: only("assign", again).map(({ id }) => id) };
    };
    expect(launchedOnLoss(1)).toEqual({ first: [2], ahead: [], idle: [], again: [3], triedAgain: [] });
    expect(launchedOnLoss(3)).toEqual({ first: [2], ahead: [3], idle: [], again: [4], triedAgain: [3] });
  });

  test("of an earlier run goes on where it was", () => {
    const scheduler = newScheduler({ taskManagersMax: 1 });
    scheduler.step({ kind: "quarantine-restored", items: [2, 4, 7, 8], losses: [0, 1, 0] });
    scheduler.step(allowance(1));
    const read = scheduler.step(itemsRead(0, 9, { done: [7, 8] }));
    expect(only("note-quarantine", read)).toEqual([{ kind: "note-quarantine", items: [2, 4], losses: [0, 1] }]);
    expect(only("assign", scheduler.step(joined(1)))).toMatchObject([{ items: [2, 3] }]);
    expect(only("assign", scheduler.step(ended(1, 1, 2, 3)))).toMatchObject([{ items: [3, 4] }]);
    scheduler.step(begun(1, 2, 3, 4));
    expect(only("store", scheduler.step(lost(1)))).toMatchObject([{ errors: [{ index: 3, made: { code: "TASK_MANAGER_LOST" } }] }]);
  });

  test("a suspect whose try fails in the ordinary way is one no more", () => {
    const scheduler = startedScheduler({ items: 10, taskManagers: 1 });
    scheduler.step(begun(1, 1, 0, 1));
    expect(replaced(scheduler, scheduler.step(lost(1)), 2)).toEqual([[0, 1]]);
    const commands = scheduler.step(failed(2, 2, 0, true));
    expect(only("note-quarantine", commands)).toEqual([{ kind: "note-quarantine", items: [], losses: [] }]);
    expect(only("assign", commands)).toMatchObject([{ items: [1, 10] }]);
  });
});

describe("silence", () => {
  test("beyond the heartbeat's time-out is a loss", () => {
    const scheduler = startedScheduler({ items: 10, taskManagers: 1 });
    scheduler.step(ended(1, 1, 0, 1), 1000);
    scheduler.step(heartbeat(1, 1), 2000);
    expect(scheduler.waitUntil(7999)).toEqual([]);
    expect(scheduler.waitUntil(8000)).toMatchObject([{ kind: "release", id: 1, how: "kill" }, { kind: "launch", ids: [2] }]);
    expect(scheduler.counts).toMatchObject({ losses: 1, waiting: 9 });
  });

  test("is nobody's fault when the orchestrator itself slept", () => {
    const scheduler = startedScheduler({ items: 10, taskManagers: 1 });
    expect(scheduler.step({ kind: "clock" }, 60_000)).toEqual([]);
    expect(scheduler.counts.losses).toBe(0);
    expect(only("release", scheduler.waitUntil(66_000))).toHaveLength(1);
  });

  test("means nothing where there are no heartbeats", () => {
    const scheduler = startedScheduler({ items: 10, taskManagers: 1, plan: { heartbeats: false } });
    expect(scheduler.wakeAtMs).toBeNull();
  });
});

describe("time-outs", () => {
  test("a Task Manager that holds items and ends none is replaced", () => {
    const scheduler = startedScheduler({ items: 10, taskManagers: 1, plan: { heartbeats: false, taskManagerTimeoutMs: 1000 } });
    scheduler.step(ended(1, 1, 0, 1), 600);
    expect(scheduler.waitUntil(1599)).toEqual([]);
    expect(only("release", scheduler.waitUntil(1600))).toEqual([{ kind: "release", id: 1, how: "kill" }]);
  });

  test("an assignment that lasts too long is taken away, counted from when it began to run", () => {
    const plan = { heartbeats: false, splitTimeoutMs: 1000, supports: { prefetch: true, reclaim: true, cancel: true } };
    const scheduler = startedScheduler({ items: 20, taskManagers: 1, room: 2, plan });
    scheduler.step(ended(1, 1, 0, 10), 900);
    expect(scheduler.waitUntil(1899)).toEqual([]);
    expect(only("release", scheduler.waitUntil(1900))).toEqual([{ kind: "release", id: 1, how: "kill" }]);
  });
});

describe("an assignment that its holder does not name", () => {
  test("in two heartbeats in a row is handed out anew", () => {
    const scheduler = startedScheduler({ items: 10, taskManagers: 1 });
    scheduler.step(ended(1, 1, 0, 2), 10);
    // The first may have been sent before the assignment came.
    for (const atMs of [100, 2100]) expect(scheduler.step(heartbeat(1), atMs)).toEqual([]);
    scheduler.step(heartbeat(1), 4100);
    expect(only("assign", scheduler.waitUntil(4400))).toMatchObject([{ assignment: 2, items: [2, 10] }]);
    scheduler.step(ended(1, 1, 2, 10));
    expect(scheduler.counts).toMatchObject({ succeeded: 2, droppedReports: 8 });
  });

  test("once, and then names again, stays where it is", () => {
    const scheduler = startedScheduler({ items: 10, taskManagers: 1 });
    for (const [atMs, held] of [[100, []], [2100, []], [4100, [1]], [6100, []], [8100, [1]]] as const) {
      expect(scheduler.step(heartbeat(1, ...held), atMs)).toEqual([]);
    }
    expect(scheduler.counts.running).toBe(10);
  });
});

describe("reports that cannot be", () => {
  test("about items that are not in the assignment, twice, or of another's assignment are dropped and counted", () => {
    const scheduler = startedScheduler({ items: 20, taskManagers: 2 });
    scheduler.step(ended(1, 1, 0, 5));
    expect(scheduler.step(ended(1, 1, 3, 5))).toEqual([]);
    expect(scheduler.step(ended(1, 2, 10, 12))).toEqual([]);
    expect(scheduler.step(ended(1, 99, 5, 6))).toEqual([]);
    expect(scheduler.step(returned(1, 1, "DRAIN", 18, 20))).toEqual([]);
    expect(scheduler.step(begun(1, 1, 15, 16))).toEqual([]);
    expect(scheduler.counts).toMatchObject({ droppedReports: 2 + 2 + 1 + 2 + 1, succeeded: 5, running: 15 });
    expect(only("store", scheduler.step(ended(1, 1, 4, 7)))).toMatchObject([{ results: [5, 7] }]);
  });

  test("by a Task Manager that was never launched are a mistake of the caller", () => {
    expect(() => newScheduler({}).step(ended(7, 1, 0, 1))).toThrow("Task Manager 7 reported and was never launched");
  });
});

describe("one that works on what nobody wants any more, and cannot be told so,", () => {
  const plan: Partial<SchedulerPlan> = {
    taskManagersMax: 4,
    heartbeats: false,
    sizing: { kind: "guided" },
    supports: { prefetch: false, reclaim: false, cancel: false },
    speculation: { kind: "quartile", quartile: 0.25, multiplier: 2, intervalMs: 100, maxRetries: 1, extraTaskManagers: false },
  };

  /** Items 0 and 2 last long; 0 was ended by its copy, and Task Manager 1 says nothing any more. */
  function haunted(more: Partial<SchedulerPlan>): Started {
    const scheduler = newScheduler({ ...plan, ...more });
    scheduler.step(allowance(4));
    scheduler.step(itemsRead(0, 4));
    scheduler.step({ kind: "input-ended" });
    for (const id of [1, 2, 3, 4]) scheduler.step(joined(id), 1000);
    for (const [id, assignment, item] of [[1, 1, 0], [2, 2, 1], [3, 3, 2]] as const) scheduler.step(begun(id, assignment, item, item + 1), 1010);
    scheduler.step(ended(2, 2, 1, 2), 1050);
    scheduler.step(ended(4, 4, 3, 4), 1050);
    const copies = only("assign", scheduler.waitUntil(1250));
    expect(copies).toMatchObject([{ id: 2, items: [0, 1] }, { id: 4, items: [2, 3] }]);
    expect(only("release", scheduler.step(ended(2, 5, 0, 1), 1300))).toEqual([]);
    return scheduler;
  }

  test("does not keep another from being launched for what waits", () => {
    const scheduler = haunted({});
    for (const id of [2, 4]) scheduler.step(lost(id), 1400);
    expect(replaced(scheduler, scheduler.step(lost(3), 1400), 5)).toEqual([[2, 3]]);
  });

  test("is replaced after the time-out of a Task Manager; without one, when nothing can last any longer", () => {
    for (const [taskManagerTimeoutMs, atMs] of [[30_000, 31_000], [null, 901_010]] as const) {
      const scheduler = haunted({ taskManagerTimeoutMs });
      // Those that idle leave first, then the one that is thought to be free.
      scheduler.step(allowance(1), 1400);
      scheduler.step(lost(4), 1450);
      expect(scheduler.step(lost(3), 1500)).toEqual([{ kind: "note-quarantine", items: [2, 3], losses: [0] }]);
      expect(scheduler.waitUntil(atMs - 1)).toEqual([]);
      expect(scheduler.waitUntil(atMs)).toEqual([{ kind: "release", id: 1, how: "kill" }]);
      expect(scheduler.wake()).toEqual([{ kind: "launch", ids: [5] }]);
    }
  });
});
