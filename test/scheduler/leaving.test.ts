import { describe, expect, test } from "vitest";
import { allowance, begun, ended, joined, only, returned, startedScheduler, newScheduler, itemsRead } from "./started-scheduler.ts";

describe("a smaller allowance", () => {
  test("asks all of the excess back in the same step, and gives it nothing more; empty, it goes back to the pool", () => {
    const scheduler = startedScheduler({ items: 100, taskManagers: 3 });
    expect(scheduler.step(allowance(1))).toEqual([
      { kind: "reclaim", id: 3, assignment: 3, items: 10 },
      { kind: "reclaim", id: 2, assignment: 2, items: 10 },
    ]);
    scheduler.step(begun(2, 2, 10, 11));
    expect(only("assign", scheduler.step(returned(2, 2, "RECLAIMED", 11, 20)))).toEqual([]);
    expect(scheduler.step(ended(2, 2, 10, 11)).slice(1)).toEqual([{ kind: "release", id: 2, how: "keep" }]);
    expect(only("assign", scheduler.step(ended(1, 1, 0, 10)))).toMatchObject([{ id: 1, items: [11, 20, 30, 31] }]);
    expect(scheduler.counts).toMatchObject({ losses: 0, reclaimed: 9, taskManagers: 2 });
  });

  test("lets those that hold nothing go at once", () => {
    const scheduler = startedScheduler({ items: 20, taskManagers: 2 });
    scheduler.step(ended(2, 2, 10, 20));
    expect(scheduler.step(allowance(1))).toEqual([{ kind: "release", id: 2, how: "keep" }]);
  });

  test("waits for what runs where nothing can be asked back", () => {
    const scheduler = startedScheduler({ items: 100, taskManagers: 2, plan: { supports: { prefetch: false, reclaim: false, cancel: false } } });
    expect(scheduler.step(allowance(1))).toEqual([]);
    const commands = scheduler.step(ended(2, 2, 10, 20));
    expect(commands.slice(1)).toEqual([{ kind: "release", id: 2, how: "keep" }]);
  });

  test("that grows again takes those back that have not left yet", () => {
    const scheduler = startedScheduler({ items: 100, taskManagers: 2 });
    scheduler.step(allowance(1));
    expect(only("launch", scheduler.step(allowance(2)))).toEqual([]);
    expect(only("assign", scheduler.step(returned(2, 2, "RECLAIMED", 10, 20)))).toMatchObject([{ id: 2 }]);
  });
});

describe("a place that ends", () => {
  const endsAtMs = 100_000;

  test("gets nothing that would not end five seconds before, and is replaced once it is empty", () => {
    const scheduler = newScheduler({ taskManagersMax: 1 });
    scheduler.step(allowance(1));
    scheduler.step(itemsRead(0, 1000));
    scheduler.step({ ...joined(1), endsAtMs } as ReturnType<typeof joined>);
    // Five seconds an item: three of them fit into the 15 s that are left.
    expect(only("assign", scheduler.step(ended(1, 1, 0, 10), 50_000))).toMatchObject([{ items: [10, 19] }]);
    const commands = scheduler.step(ended(1, 2, 10, 19), 94_000);
    expect(commands.slice(1)).toEqual([{ kind: "release", id: 1, how: "drain" }]);
  });

  test("that idles when the time comes is given up", () => {
    const scheduler = newScheduler({ taskManagersMax: 1, heartbeats: false });
    scheduler.step(allowance(1));
    scheduler.step(itemsRead(0, 10, { remaining: null }));
    scheduler.step({ ...joined(1), endsAtMs } as ReturnType<typeof joined>);
    scheduler.step(ended(1, 1, 0, 10), 100);
    expect(only("release", scheduler.waitUntil(95_000))).toEqual([{ kind: "release", id: 1, how: "drain" }]);
  });

  test("as soon as it began is used all the same", () => {
    const scheduler = newScheduler({ taskManagersMax: 1 });
    scheduler.step(allowance(1));
    scheduler.step(itemsRead(0, 10));
    expect(only("assign", scheduler.step({ ...joined(1), endsAtMs: 4000 } as ReturnType<typeof joined>))).toHaveLength(1);
  });
});
