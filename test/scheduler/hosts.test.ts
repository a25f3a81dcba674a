import { describe, expect, test } from "vitest";
import type { SchedulerEvent } from "../../orchestrator/scheduler/types.ts";
import { begun, ended, failed, joined, lost, only, returned, startedScheduler, stored } from "./started-scheduler.ts";

const blocked = (host: number, untilMs: number): SchedulerEvent => ({ kind: "host-blocked", host, untilMs });
const paced = (host: number, itemsPerSecond: number | null): SchedulerEvent => ({ kind: "host-paced", host, itemsPerSecond });
const plan = { sizing: { kind: "fixed", sizes: [4] }, heartbeats: false, attemptsMax: 1 } as const;

/** Items 0 to 3 are of host 7, 4 to 7 of none. */
function started() {
  return startedScheduler({ items: 8, taskManagers: 1, hosts: [7, 7, 7, 7, 0, 0, 0, 0], plan });
}

describe("a host that asks to be left alone", () => {
  test("has its items set aside while others go on; then one is sent, then all, and no try is spent", () => {
    const scheduler = started();
    scheduler.step(blocked(7, 5000));
    expect(only("assign", scheduler.step(returned(1, 1, "HOST_BUSY", 0, 4)))).toMatchObject([{ items: [4, 8] }]);
    expect(scheduler.counts.setAside).toBe(4);
    expect(scheduler.step(ended(1, 2, 4, 8), 100)).toMatchObject([{ kind: "store" }]);
    expect(scheduler.waitUntil(4999)).toEqual([]);
    expect(scheduler.waitUntil(5000)).toMatchObject([{ kind: "assign", items: [0, 1] }]);
    const freed = scheduler.step(ended(1, 3, 0, 1));
    expect(only("assign", freed)).toMatchObject([{ items: [1, 4] }]);
    expect(only("store", freed)).toMatchObject([{ results: [0, 1], retried: [] }]);
  });

  test("again is probed again later", () => {
    const scheduler = started();
    scheduler.step(blocked(7, 1000));
    scheduler.step(returned(1, 1, "HOST_BUSY", 0, 4));
    scheduler.step(ended(1, 2, 4, 8));
    scheduler.waitUntil(1000);
    scheduler.step(blocked(7, 3000));
    expect(only("assign", scheduler.step(returned(1, 3, "HOST_BUSY", 0, 1)))).toEqual([]);
    expect(scheduler.waitUntil(2999)).toEqual([]);
    expect(only("assign", scheduler.waitUntil(3000))).toMatchObject([{ items: [1, 2] }]);
  });

  test("has items that were not handed out yet kept back too", () => {
    const scheduler = startedScheduler({ items: 8, taskManagers: 1, hosts: [0, 0, 0, 0, 7, 7, 0, 0], plan });
    scheduler.step(blocked(7, 5000));
    expect(only("assign", scheduler.step(ended(1, 1, 0, 4)))).toMatchObject([{ items: [6, 8] }]);
    expect(scheduler.counts.setAside).toBe(2);
  });

  test("is probed with one item, also where none had been handed out before", () => {
    const scheduler = startedScheduler({ items: 8, taskManagers: 1, hosts: [0, 0, 0, 0, 7, 7, 7, 7], plan });
    scheduler.step(blocked(7, 1000));
    scheduler.waitUntil(1000);
    expect(only("assign", scheduler.step(ended(1, 1, 0, 4)))).toMatchObject([{ items: [4, 5] }]);
    expect(scheduler.counts.setAside).toBe(3);
    expect(only("assign", scheduler.step(ended(1, 2, 4, 5)))).toMatchObject([{ items: [5, 8] }]);
  });

  test("of which nothing waited for long is probed with an item that may take longer still", () => {
    const scheduler = startedScheduler({ items: 8, taskManagers: 1, hosts: [0, 0, 0, 0, 7, 0, 0, 0], plan: { ...plan, hostBlockedMs: 10_000 } });
    scheduler.step(blocked(7, 1000));
    scheduler.waitUntil(9000);
    expect(only("assign", scheduler.step(ended(1, 1, 0, 4)))).toMatchObject([{ items: [4, 8] }]);
    expect(scheduler.waitUntil(20_000)).toEqual([]);
    expect(only("store", scheduler.step(ended(1, 2, 4, 8)))).toMatchObject([{ results: [4, 8] }]);
  });

  test("of which nothing waits, and that is then found to bear so much, costs nothing more", () => {
    const scheduler = startedScheduler({ items: 8, taskManagers: 1, hosts: [0, 0, 0, 0, 7, 0, 0, 0], plan: { ...plan, hostBlockedMs: 10_000 } });
    scheduler.step(blocked(7, 1000));
    scheduler.waitUntil(2000);
    scheduler.step(paced(7, 5));
    expect(scheduler.waitUntil(20_000)).toEqual([]);
    expect(only("assign", scheduler.step(ended(1, 1, 0, 4)))).toMatchObject([{ items: [4, 8] }]);
  });

  test("has suspects wait as well", () => {
    const scheduler = startedScheduler({ items: 2, taskManagers: 1, hosts: [7, 7], plan });
    scheduler.step(begun(1, 1, 0, 1));
    scheduler.step(blocked(7, 1000));
    scheduler.step(lost(1));
    expect(only("assign", scheduler.step(joined(2)))).toEqual([]);
    expect(scheduler.counts.setAside).toBe(2);
    expect(only("assign", scheduler.waitUntil(1000))).toMatchObject([{ items: [0, 1] }]);
  });

  test("is free as soon as the caller says so", () => {
    const scheduler = started();
    scheduler.step(blocked(7, 5000));
    scheduler.step(returned(1, 1, "HOST_BUSY", 0, 4));
    scheduler.step(ended(1, 2, 4, 8));
    expect(only("assign", scheduler.step({ kind: "host-free", host: 7 }))).toMatchObject([{ items: [0, 4] }]);
  });

  test("for hostBlockedMs without one success ends its waiting items, and the job ends", () => {
    const scheduler = started();
    scheduler.step(blocked(7, 200_000));
    scheduler.step(returned(1, 1, "HOST_BUSY", 0, 4));
    scheduler.step(ended(1, 2, 4, 8));
    scheduler.waitUntil(200_000);
    scheduler.step(blocked(7, 400_000));
    scheduler.step(returned(1, 3, "HOST_BUSY", 0, 1));
    const [store] = only("store", scheduler.waitUntil(300_000));
    expect(store?.errors.map(({ index, attempts, made }) => [index, attempts, made?.code, made?.stage]).sort()).toEqual(
      [0, 1, 2, 3].map((index) => [index, 0, "HOST_BLOCKED", "run"]),
    );
    scheduler.step(stored(1));
    expect(only("finish", scheduler.step(stored(2)))).toMatchObject([{ state: "completed" }]);
  });

  test("whose probe fails retryably is left alone a little longer", () => {
    const scheduler = startedScheduler({ items: 4, taskManagers: 1, hosts: [7, 7, 7, 7], plan: { ...plan, attemptsMax: 3 } });
    scheduler.step(blocked(7, 1000));
    scheduler.step(returned(1, 1, "HOST_BUSY", 0, 4));
    expect(only("assign", scheduler.waitUntil(1000))).toMatchObject([{ items: [0, 1] }]);
    scheduler.step(failed(1, 2, 0, true));
    expect(only("assign", scheduler.waitUntil(1999))).toEqual([]);
    expect(only("assign", scheduler.waitUntil(2000))).toMatchObject([{ items: [1, 2] }]);
  });
});

describe("a host of which it is known how much it bears", () => {
  /** 100 items of host 7 are set aside, nothing else is to be done. */
  function waitingForHost() {
    const scheduler = startedScheduler({ items: 100, taskManagers: 1, hosts: Array<number>(100).fill(7), plan: { ...plan, sizing: { kind: "fixed", sizes: [100] } } });
    scheduler.step(blocked(7, 1000));
    scheduler.step(paced(7, 10));
    scheduler.step(returned(1, 1, "HOST_BUSY", 0, 100));
    return scheduler;
  }

  test("gets its items at that pace once it is no longer blocked, and not all at once", () => {
    const scheduler = waitingForHost();
    expect(scheduler.counts.setAside).toBe(100);
    expect(only("assign", scheduler.waitUntil(999))).toEqual([]);
    let items = 0;
    let assignment = 2;
    for (let nowMs = 1000; nowMs <= 6000; nowMs += 50) {
      for (const { items: ranges } of only("assign", scheduler.waitUntil(nowMs))) {
        for (let pair = 0; pair < ranges.length; pair += 2) items += (ranges[pair + 1] ?? 0) - (ranges[pair] ?? 0);
        scheduler.step(ended(1, assignment++, ranges[0] ?? 0, ranges[1] ?? 0));
      }
    }
    expect(items).toBeGreaterThanOrEqual(45);
    expect(items).toBeLessThanOrEqual(54);
    expect(scheduler.counts.setAside).toBe(100 - items);
  });

  test("gets all of them once nothing is known against it any more", () => {
    const scheduler = waitingForHost();
    scheduler.waitUntil(1000);
    scheduler.step(ended(1, 2, 0, 1));
    scheduler.step(paced(7, null));
    expect(scheduler.counts.setAside).toBe(0);
  });

  test("lets items through again although it was blocked before somebody asked for those let through", () => {
    const scheduler = waitingForHost();
    scheduler.step(paced(7, 1));
    scheduler.step(lost(1));
    scheduler.waitUntil(20_000);
    scheduler.step(blocked(7, 30_000));
    expect(only("assign", scheduler.step(joined(2)))).toEqual([]);
    expect(only("assign", scheduler.waitUntil(31_000))).toMatchObject([{ id: 2 }]);
  });

  test("is looked at no more once all that may pass is let through, and nobody takes it, until somebody does", () => {
    const scheduler = waitingForHost();
    scheduler.step(paced(7, 1));
    scheduler.step(lost(1));
    let wakes = 0;
    for (; scheduler.wakeAtMs !== null && scheduler.wakeAtMs < 200_000; wakes++) scheduler.wake();
    expect(wakes).toBeLessThan(30);
    const next = scheduler.step(joined(2), 200_000);
    expect(only("assign", next)).toHaveLength(1);
    const [{ items = [], assignment = 0 } = {}] = only("assign", next);
    expect(only("assign", [...scheduler.step(ended(2, assignment, items[0] ?? 0, items.at(-1) ?? 0)), ...scheduler.waitUntil(202_000)])).not.toEqual([]);
  });

  test("holds back items that were never handed out, too", () => {
    const scheduler = startedScheduler({ items: 8, taskManagers: 1, hosts: [0, 0, 0, 0, 7, 7, 7, 7], plan });
    scheduler.step(paced(7, 1));
    expect(only("assign", scheduler.step(ended(1, 1, 0, 4)))).toMatchObject([{ items: [4, 5] }]);
    expect(scheduler.counts.setAside).toBe(3);
  });

  test("without one success for hostBlockedMs ends its items all the same", () => {
    const scheduler = waitingForHost();
    let assignment = 2;
    for (let nowMs = 1000; nowMs <= 301_000; nowMs += 1000) {
      for (const command of scheduler.waitUntil(nowMs)) {
        if (command.kind !== "assign") continue;
        scheduler.step(blocked(7, nowMs + 500));
        const { items } = command;
        for (let pair = 0; pair < items.length; pair += 2) scheduler.step(returned(1, assignment, "HOST_BUSY", items[pair] ?? 0, items[pair + 1] ?? 0));
        assignment += 1;
      }
    }
    expect(scheduler.counts.failed).toBe(100);
  });
});

test("items of a host that nobody knows to be busy wait a moment and are tried again", () => {
  const scheduler = started();
  scheduler.step(returned(1, 1, "HOST_BUSY", 0, 4));
  scheduler.step(ended(1, 2, 4, 8));
  expect(only("assign", scheduler.wake())).toMatchObject([{ items: [0, 4] }]);
});
