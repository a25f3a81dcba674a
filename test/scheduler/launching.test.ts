import { describe, expect, test } from "vitest";
import type { SchedulerEvent } from "../../orchestrator/scheduler/types.ts";
import { allowance, ended, itemsRead, joined, lost, newScheduler, only, startedScheduler, stored, type Started } from "./started-scheduler.ts";

const launchEnded = (id: number, reason: "throttled" | "refused" | "died", message = "because"): SchedulerEvent => ({ kind: "launch-ended", id, reason, message });

describe("launching", () => {
  test("as many as are allowed, wanted and useful", () => {
    const launched = (allowed: number, taskManagersMax: number, items: number) => {
      const scheduler = newScheduler({ taskManagersMax });
      scheduler.step(allowance(allowed));
      return only("launch", scheduler.step(itemsRead(0, items))).flatMap(({ ids }) => ids);
    };
    expect(launched(3, 8, 1000)).toEqual([1, 2, 3]);
    expect(launched(8, 2, 1000)).toEqual([1, 2]);
    expect(launched(8, 8, 25)).toEqual([1, 2, 3]);
  });

  test("where nobody knows how many items there are, for those that were read, and for more as more are read", () => {
    const scheduler = newScheduler({ taskManagersMax: 100 });
    scheduler.step(allowance(100));
    expect(only("launch", scheduler.step(itemsRead(0, 20, { remaining: null })))).toEqual([{ kind: "launch", ids: [1, 2] }]);
    expect(only("launch", scheduler.step(itemsRead(20, 15, { remaining: null })))).toEqual([{ kind: "launch", ids: [3, 4] }]);
    expect(only("launch", scheduler.step({ kind: "input-ended" }))).toEqual([]);
  });

  test("of what is not read yet, for as large a share as was still to be done of what was read", () => {
    const scheduler = newScheduler({ taskManagersMax: 1000 });
    scheduler.step(allowance(1000));
    expect(only("launch", scheduler.step(itemsRead(0, 4000, { done: [0, 4000], remaining: 1_000_000 })))).toEqual([]);
    expect(only("launch", scheduler.step(itemsRead(4000, 4000, { done: [4000, 7992], remaining: 96_000 }))).flatMap(({ ids }) => ids)).toHaveLength(11);
    expect(only("launch", scheduler.step(itemsRead(8000, 4000, { remaining: 92_000 }))).flatMap(({ ids }) => ids).length).toBeGreaterThan(900);
  });

  test("more when the allowance rises", () => {
    const scheduler = newScheduler({ taskManagersMax: 4 });
    scheduler.step(allowance(1));
    scheduler.step(itemsRead(0, 1000));
    expect(scheduler.step(allowance(3))).toEqual([{ kind: "launch", ids: [2, 3] }]);
  });

  test("one that its backend turned away is no loss, costs its items no try, and the next ones come singly, later", () => {
    const scheduler = startedScheduler({ items: 1000, taskManagers: 8 });
    const turnedAway = { exitCode: null, signal: null, message: "two at once", turnedAway: true };
    for (let id = 3; id <= 8; id++) expect(only("launch", scheduler.step({ kind: "task-manager-lost", id, cause: turnedAway }))).toEqual([]);
    expect(wakeUntil(scheduler, "launch")).toEqual([{ kind: "launch", ids: [9] }]);
    expect(scheduler.nowMs).toBeLessThan(5_000);
    expect(scheduler.counts.losses).toBe(0);
  });

  test("one that was lost is replaced", () => {
    const scheduler = startedScheduler({ items: 100, taskManagers: 2 });
    scheduler.step(ended(1, 1, 0, 10));
    expect(only("launch", scheduler.step(lost(1)))).toEqual([{ kind: "launch", ids: [3] }]);
  });

  test("one that was lost is not replaced where another one has nothing to do but its items", () => {
    const scheduler = startedScheduler({ items: 20, taskManagers: 2 });
    scheduler.step(ended(1, 1, 0, 5));
    scheduler.step(ended(2, 2, 10, 20));
    const commands = scheduler.step(lost(1, { exitCode: 1 }));
    expect(only("launch", commands)).toEqual([]);
    expect(only("assign", commands)).toMatchObject([{ id: 2, items: [5, 10] }]);
  });

  test("throttled: later, with fewer at once, and the same seed waits for as long", () => {
    const throttled = () => {
      const scheduler = newScheduler({ taskManagersMax: 4 });
      scheduler.step(allowance(4));
      scheduler.step(itemsRead(0, 1000));
      for (const id of [1, 2, 3, 4]) expect(only("launch", scheduler.step(launchEnded(id, "throttled")))).toEqual([]);
      return { launch: scheduler.wake(), atMs: scheduler.nowMs };
    };
    const { launch, atMs } = throttled();
    expect(launch).toEqual([{ kind: "launch", ids: [5] }]);
    expect(atMs).toBeGreaterThanOrEqual(100);
    expect(throttled().atMs).toBe(atMs);
  });

  test("many throttled together are one reason to wait, however many they are", () => {
    const scheduler = newScheduler({ taskManagersMax: 500 });
    scheduler.step(allowance(500));
    scheduler.step(itemsRead(0, 100_000));
    scheduler.step(joined(1));
    for (let id = 2; id <= 500; id++) scheduler.step(launchEnded(id, "throttled"), 10);
    expect(wakeUntil(scheduler, "launch")).toEqual([{ kind: "launch", ids: [501] }]);
    expect(scheduler.nowMs).toBeLessThan(1000);
    // A second refusal in a row waits longer.
    const secondMs = scheduler.nowMs;
    scheduler.step(launchEnded(501, "throttled"));
    wakeUntil(scheduler, "launch");
    expect(scheduler.nowMs - secondMs).toBeGreaterThanOrEqual(200);
  });

  test("refused, and nobody works: the run stops and says why", () => {
    const scheduler = newScheduler({ taskManagersMax: 2 });
    scheduler.step(allowance(2));
    scheduler.step(itemsRead(0, 100));
    expect(scheduler.step(launchEnded(1, "refused", "no such queue"))).toEqual([]);
    expect(scheduler.step(launchEnded(2, "refused", "no such queue"))).toEqual([{ kind: "finish", state: "stopped", reason: "backend", message: "no such queue" }]);
  });

  test("refused, and one works: it does it all", () => {
    const scheduler = newScheduler({ taskManagersMax: 2 });
    scheduler.step(allowance(2));
    scheduler.step(itemsRead(0, 20));
    scheduler.step(joined(1));
    expect(scheduler.step(launchEnded(2, "refused"))).toEqual([]);
    expect(only("assign", scheduler.step(ended(1, 1, 0, 10)))).toHaveLength(1);
  });

  test("launches that die are tried a few times", () => {
    const scheduler = newScheduler({ taskManagersMax: 1 });
    scheduler.step(allowance(1));
    scheduler.step(itemsRead(0, 20));
    for (let id = 1; id <= 4; id++) {
      expect(only("finish", scheduler.step(launchEnded(id, "died", "exit code 1")))).toEqual([]);
      expect(only("launch", wakeUntil(scheduler, "launch"))).toEqual([{ kind: "launch", ids: [id + 1] }]);
    }
    expect(scheduler.step(launchEnded(5, "died", "exit code 1"))).toMatchObject([{ kind: "finish", reason: "backend", message: expect.stringContaining("exit code 1") }]);
  });

  test("Task Managers that die before they do anything are not replaced for ever", () => {
    const scheduler = newScheduler({ taskManagersMax: 1 });
    scheduler.step(allowance(1));
    scheduler.step(itemsRead(0, 20));
    let end: readonly unknown[] = [];
    for (let id = 1; end.length === 0 && id < 20; id++) {
      scheduler.step(joined(id));
      const commands = scheduler.step(lost(id, { message: "cannot load libgomp.so" }));
      end = only("finish", commands);
      if (end.length === 0 && only("launch", commands).length === 0) wakeUntil(scheduler, "launch");
    }
    expect(end).toMatchObject([{ state: "stopped", reason: "backend", message: "5 Task Managers in a row were lost before they did anything: cannot load libgomp.so" }]);
  });

  test("fewer than resources.minTaskManagers to be had: the run stops, what is begun may end", () => {
    const scheduler = newScheduler({ taskManagersMax: 3, taskManagersMin: 3 });
    scheduler.step(allowance(3));
    scheduler.step(itemsRead(0, 100));
    scheduler.step(joined(1));
    scheduler.step(joined(2));
    expect(scheduler.step(launchEnded(3, "refused", "quota is 2"))).toEqual([
      { kind: "release", id: 1, how: "drain" },
      { kind: "release", id: 2, how: "drain" },
    ]);
    scheduler.step(ended(1, 1, 0, 10));
    scheduler.step(ended(2, 2, 10, 20));
    scheduler.step(stored(1));
    expect(scheduler.step(stored(2))).toEqual([
      { kind: "finish", state: "stopped", reason: "backend", message: "2 Task Managers are left of at least 3 (resources.minTaskManagers): quota is 2" },
    ]);
  });
});

describe("a smaller allowance", () => {
  test("gives up on those that are starting first, and ends them should they come after all", () => {
    const scheduler = newScheduler({ taskManagersMax: 2 });
    scheduler.step(allowance(2));
    scheduler.step(itemsRead(0, 100));
    scheduler.step(joined(1));
    expect(scheduler.step(allowance(1))).toEqual([{ kind: "release", id: 2, how: "kill" }]);
    expect(scheduler.step(joined(2))).toEqual([{ kind: "release", id: 2, how: "kill" }]);
    expect(scheduler.counts.taskManagers).toBe(1);
  });
});

test("a Task Manager is replaced after its number of assignments", () => {
  const scheduler = startedScheduler({ items: 100, taskManagers: 1, plan: { assignmentsPerTaskManagerMax: 2 } });
  expect(only("assign", scheduler.step(ended(1, 1, 0, 10)))).toHaveLength(1);
  expect(scheduler.step(ended(1, 2, 10, 20)).slice(1)).toEqual([{ kind: "release", id: 1, how: "drain" }]);
  expect(only("launch", scheduler.step(lost(1, { exitCode: 0, signal: null })))).toEqual([{ kind: "launch", ids: [2] }]);
  expect(scheduler.counts.losses).toBe(0);
});

function wakeUntil(scheduler: Started, kind: "launch"): ReturnType<Started["wake"]> {
  for (let turn = 0; turn < 10; turn++) {
    const commands = scheduler.wake();
    if (only(kind, commands).length > 0) return commands;
  }
  throw new Error(`no ${kind} in ten turns`);
}
