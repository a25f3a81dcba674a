import { describe, expect, test } from "vitest";
import { countOf } from "../../orchestrator/scheduler/ranges.ts";
import { allowance, ended, itemsRead, joined, newScheduler, only, startedScheduler } from "./started-scheduler.ts";

const guided = { sizing: { kind: "guided" } } as const;

describe("fixed sizes", () => {
  test("are used in turn, over and over", () => {
    const { given } = startedScheduler({ items: 30, taskManagers: 4, plan: { sizing: { kind: "fixed", sizes: [3, 5, 7] } } });
    expect(given.map(({ items }) => items)).toEqual([[0, 3], [3, 8], [8, 15], [15, 18]]);
  });

  test("above 4096 items go to one Task Manager as several assignments", () => {
    const scheduler = startedScheduler({ items: 12_000, taskManagers: 2, plan: { sizing: { kind: "fixed", sizes: [5000, 100] } } });
    expect(scheduler.given.map(({ id, items }) => [id, items])).toEqual([[1, [0, 4096]], [2, [4096, 4196]]]);
    expect(only("assign", scheduler.step(ended(1, 1, 0, 4096)))).toMatchObject([{ id: 1, items: [4196, 5100] }]);
  });

  test("leave a split for one that is about to join", () => {
    const scheduler = newScheduler({ supports: { prefetch: true, reclaim: true, cancel: true } });
    scheduler.step(allowance(2));
    scheduler.step(itemsRead(0, 20));
    expect(only("assign", scheduler.step(joined(1, 2)))).toMatchObject([{ id: 1, items: [0, 10] }]);
    expect(only("assign", scheduler.step(joined(2, 2)))).toMatchObject([{ id: 2, items: [10, 20] }]);
  });
});

describe("guided sizes", () => {
  test("nothing known: two items a lane, and no more than its share", () => {
    expect(countOf(startedScheduler({ items: 1000, taskManagers: 1, lanes: 4, plan: guided }).given[0]?.items ?? [])).toBe(8);
    const few = startedScheduler({ items: 12, taskManagers: 2, lanes: 32, plan: guided });
    expect(few.given.map(({ items }) => countOf(items))).toEqual([6, 6]);
  });

  test("a Task Manager's own rate decides, shrinking towards the end", () => {
    const scheduler = startedScheduler({ items: 4000, taskManagers: 1, plan: guided });
    // 10 ms an item: 40 s of work are left.
    const first = scheduler.step(ended(1, 1, 0, 2), 20);
    expect(sizes(first)).toEqual([1000]);
    // 30 s are left.
    const second = scheduler.step(ended(1, 2, 2, 1002), 10_020);
    expect(sizes(second)[0]).toBeCloseTo(1000, -1);
    // 20 s, then 10 s and less.
    const third = scheduler.step(ended(1, 3, 1002, 2002), 20_020);
    const fourth = scheduler.step(ended(1, 4, 2002, 3002), 30_020);
    expect(sizes(third)[0]).toBeCloseTo(999, -1);
    expect(sizes(fourth)[0]).toBeCloseTo(499, -1);
  });

  test("a Task Manager that is slower gets less", () => {
    const scheduler = startedScheduler({ items: 4000, taskManagers: 2, plan: guided });
    expect(scheduler.given.map(({ items }) => countOf(items))).toEqual([2, 2]);
    const [fast = 0] = sizes(scheduler.step(ended(1, 1, 0, 2), 20));
    const [slow = 0] = sizes(scheduler.step(ended(2, 2, 2, 4), 200));
    expect(fast).toBeGreaterThan(3 * slow);
  });

  test("one that has ended nothing gets 0.15 s by the fleet's mean", () => {
    const scheduler = newScheduler({ ...guided, taskManagersMax: 2 });
    scheduler.step(allowance(2));
    scheduler.step(itemsRead(0, 4000));
    scheduler.step(joined(1));
    scheduler.step(ended(1, 1, 0, 2), 20);
    expect(sizes(scheduler.step(joined(2)))).toEqual([15]);
  });

  test("as many items as lanes while there are enough for all", () => {
    const scheduler = startedScheduler({ items: 4000, taskManagers: 1, lanes: 32, plan: guided });
    // 5 s an item: ten seconds of work would be 2 items.
    expect(sizes(scheduler.step(ended(1, 1, 0, 64), 320_000))).toEqual([32]);
  });

  test("never more than 4096 items, also where nobody knows how many there are", () => {
    const scheduler = newScheduler({ ...guided, taskManagersMax: 1 });
    scheduler.step(allowance(1));
    scheduler.step(itemsRead(0, 8192, { remaining: null }));
    scheduler.step(joined(1, 1, 100));
    expect(sizes(scheduler.step(ended(1, 1, 0, 200), 1))).toEqual([4096]);
  });
});

describe("weights", () => {
  const weights = [1, 50, 2, 10, 3, 40, 1, 1, 1, 1];

  test("the heavy items go first", () => {
    const { given } = startedScheduler({ items: 10, taskManagers: 3, weights, plan: { sizing: { kind: "fixed", sizes: [2] } } });
    expect(given.map(({ items }) => items)).toEqual([[1, 2, 5, 6], [3, 5], [0, 1, 2, 3]]);
  });

  test("splits of guided size are cut by weight", () => {
    const { given } = startedScheduler({ items: 10, taskManagers: 2, weights, plan: guided });
    // The mean is 11: two items' worth, or half of the 110.
    expect(given.map(({ items }) => items)).toEqual([[1, 2], [5, 6]]);
  });

  test("items that weigh nothing are handed out too", () => {
    const { given } = startedScheduler({ items: 4, taskManagers: 1, weights: [0, 0, 0, 0], plan: { sizing: { kind: "fixed", sizes: [4] } } });
    expect(given[0]?.items).toEqual([0, 4]);
  });
});

describe("prefetching", () => {
  const prefetch = { supports: { prefetch: true, reclaim: true, cancel: true } };

  test("those without work come first, then each gets one ahead up to its room", () => {
    const { given } = startedScheduler({ items: 100, taskManagers: 2, room: 2, plan: prefetch });
    expect(given.map(({ id }) => id)).toEqual([1, 1, 2, 2]);
  });

  test("one assignment at a time where the carrier cannot hold more", () => {
    const { given } = startedScheduler({ items: 100, taskManagers: 2, room: 2 });
    expect(given.map(({ id }) => id)).toEqual([1, 2]);
  });
});

function sizes(commands: Parameters<typeof only>[1]): readonly number[] {
  return only("assign", commands).map(({ items }) => countOf(items));
}
