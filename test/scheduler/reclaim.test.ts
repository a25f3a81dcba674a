import { describe, expect, test } from "vitest";
import { countOf } from "../../orchestrator/scheduler/ranges.ts";
import type { SchedulerEvent, SchedulerPlan } from "../../orchestrator/scheduler/types.ts";
import { begun, ended, heartbeat, lost, only, returned, startedScheduler, type Command, type Started } from "./started-scheduler.ts";

const plan: Partial<SchedulerPlan> = { speculation: { kind: "remainder", maxExtraPercent: 10 } };

/** Task Manager 2 has ended its 10 items of 20 ms; Task Manager 1, as fast, has 50 left of its 60. */
function atTheEnd(): { readonly scheduler: Started; readonly asked: Command<"reclaim"> } {
  const scheduler = startedScheduler({ items: 70, taskManagers: 2, plan: { ...plan, sizing: { kind: "fixed", sizes: [60, 10] } } });
  scheduler.step(begun(1, 1, 0, 1), 10);
  scheduler.step(begun(1, 1, 10, 11), 200);
  scheduler.step(ended(1, 1, 0, 10), 200);
  const commands = [...scheduler.step(ended(2, 2, 60, 70), 200), ...scheduler.waitUntil(215)];
  const [asked] = only("reclaim", commands);
  if (asked === undefined) throw new Error("nothing was asked back");
  return { scheduler, asked };
}

describe("when the input is used up", () => {
  test("an idle Task Manager's part is asked back of the one that would end last, so that both end together", () => {
    const { asked } = atTheEnd();
    expect(asked).toMatchObject({ id: 1, assignment: 1 });
    expect(asked.items).toBeGreaterThan(18);
    expect(asked.items).toBeLessThan(26);
  });

  test("which one that is follows from the sizes that it has heard of as well", () => {
    const askedOf = (sized: number | null) => {
      const scheduler = startedScheduler({ items: 90, taskManagers: 3, plan: { ...plan, sizing: { kind: "fixed", sizes: [40, 40, 10] } } });
      for (const id of [1, 2]) {
        scheduler.step(begun(id, id, id * 40 - 40, id * 40 - 39), 10);
        scheduler.step(begun(id, id, id * 40 - 30, id * 40 - 29), 200);
        scheduler.step(ended(id, id, id * 40 - 40, id * 40 - 30), 200);
      }
      if (sized !== null) scheduler.step({ kind: "items-sized", id: sized, assignment: sized, weights: [[sized * 40 - 5, 15]] }, 200);
      const commands = [...scheduler.step(ended(3, 3, 80, 90), 200), ...scheduler.waitUntil(215)];
      return only("reclaim", commands).map(({ id }) => id);
    };
    expect([askedOf(null), askedOf(1), askedOf(2)]).toEqual([[1], [1], [2]]);
  });

  test("only what comes back moves, to the one it was meant for", () => {
    const { scheduler, asked } = atTheEnd();
    const commands = scheduler.step(returned(1, 1, "RECLAIMED", 60 - asked.items, 60), 240);
    expect(only("assign", commands)).toMatchObject([{ id: 2, items: [60 - asked.items, 60], reversed: false }]);
    expect(scheduler.counts).toMatchObject({ reclaimed: asked.items, copied: 0, running: 50 });
  });

  test("one request an assignment is under way", () => {
    const { scheduler } = atTheEnd();
    expect(only("reclaim", scheduler.waitUntil(400))).toEqual([]);
  });

  test("an answer without items moves nothing", () => {
    const { scheduler } = atTheEnd();
    expect(only("assign", scheduler.step(returned(1, 1, "RECLAIMED"), 240))).toEqual([]);
    expect(scheduler.counts).toMatchObject({ reclaimed: 0, running: 50 });
  });

  test("what comes back for one that is lost meanwhile goes to another", () => {
    const { scheduler, asked } = atTheEnd();
    scheduler.step(lost(2), 230);
    const commands = scheduler.step(returned(1, 1, "RECLAIMED", 60 - asked.items, 60), 240);
    expect(only("assign", commands)).toEqual([]);
    expect(scheduler.counts).toMatchObject({ waiting: asked.items, running: 50 - asked.items });
  });

  test("what was prefetched is the first to go", () => {
    const prefetch = { supports: { prefetch: true, reclaim: true, cancel: true }, sizing: { kind: "fixed", sizes: [10] } } as const;
    const scheduler = startedScheduler({ items: 40, taskManagers: 2, room: 2, plan: { ...plan, ...prefetch } });
    scheduler.step(begun(1, 1, 0, 1), 10);
    scheduler.step(ended(2, 3, 20, 30), 200);
    const commands = [...scheduler.step(ended(2, 4, 30, 40), 400), ...scheduler.waitUntil(420)];
    expect(only("reclaim", commands)[0]).toMatchObject({ id: 1, assignment: 2 });
  });

  test("everything behind an item that is stuck moves away", () => {
    const scheduler = startedScheduler({ items: 20, taskManagers: 2, plan });
    scheduler.step(begun(1, 1, 0, 1), 10);
    scheduler.step(begun(2, 2, 10, 11), 10);
    const commands = [...scheduler.step(ended(2, 2, 10, 20), 600), ...scheduler.waitUntil(620)];
    expect(only("reclaim", commands)).toMatchObject([{ id: 1, assignment: 1, items: 9 }]);
  });
});

describe("where several items are in flight at once", () => {
  const lanes: Partial<SchedulerPlan> = { ...plan, sizing: { kind: "fixed", sizes: [10] } };

  test("those that others have overtaken are being prepared, and stay where they are", () => {
    const scheduler = startedScheduler({ items: 20, taskManagers: 2, lanes: 4, plan: lanes });
    for (const item of [0, 1, 4, 5, 6]) scheduler.step(begun(1, 1, item, item + 1), 10 + item);
    scheduler.step(ended(1, 1, 0, 2), 200);
    const commands = [...scheduler.step(ended(2, 2, 10, 20), 210), ...scheduler.waitUntil(2000)];
    // Of 2, 3, 7, 8 and 9, which are not begun.
    const asked = only("reclaim", commands).map(({ items }) => items);
    expect(asked.length).toBeGreaterThan(0);
    expect(Math.max(...asked)).toBeLessThanOrEqual(3);
  });

  test("those behind one that keeps the machine are asked back, and none where the machine waits for all of them", () => {
    const askedOf = (...items: readonly number[]): number => {
      const scheduler = startedScheduler({ items: 20, taskManagers: 2, lanes: 10, plan: lanes });
      for (const item of items) scheduler.step(begun(1, 1, item, item + 1), 10);
      const commands = [...scheduler.step(ended(2, 2, 10, 20), 900), ...scheduler.waitUntil(930)];
      return Math.max(0, ...only("reclaim", commands).map(({ items: asked }) => asked));
    };
    expect(askedOf(0)).toBeGreaterThanOrEqual(9);
    expect(askedOf()).toBe(0);
  });
});

describe("where nothing can be asked back", () => {
  const blind: Partial<SchedulerPlan> = {
    speculation: { kind: "remainder", maxExtraPercent: 50 },
    supports: { prefetch: false, reclaim: false, cancel: false },
    sizing: { kind: "fixed", sizes: [60, 10] },
  };

  test("a copy goes from the end backwards, and ends by itself", () => {
    const scheduler = startedScheduler({ items: 70, taskManagers: 2, plan: blind });
    scheduler.step(begun(1, 1, 10, 11), 200);
    scheduler.step(ended(1, 1, 0, 10), 200);
    const [copy] = only("assign", [...scheduler.step(ended(2, 2, 60, 70), 200), ...scheduler.waitUntil(220)]);
    expect(copy).toMatchObject({ id: 2, reversed: true });
    expect(copy?.items[1]).toBe(60);
    // 1.2 times the half of what is left.
    expect(countOf(copy?.items ?? [])).toBeGreaterThan(22);
    expect(countOf(copy?.items ?? [])).toBeLessThan(31);
    expect(copy?.notAfterMs).toBeGreaterThan(200 + 500 + 2 * 22 * 15);
  });

  test("an item that was copied from behind a stuck one is tried once more where its copy is late with it, too", () => {
    const scheduler = startedScheduler({ items: 14, taskManagers: 5, plan: { ...blind, speculation: { kind: "remainder", maxExtraPercent: 100 }, sizing: { kind: "fixed", sizes: [10, 1, 1, 1, 1] } } });
    const given: Command<"assign">[] = [];
    const step = (event: SchedulerEvent, atMs: number) => given.push(...only("assign", scheduler.step(event, atMs)));
    const holdsLast = ({ items }: Command<"assign">): boolean => items.at(-1) === 10;
    step(begun(1, 1, 0, 1), 10);
    step(ended(2, 2, 10, 11), 40);
    expect(given).toMatchObject([{ id: 2, assignment: 6, reversed: true }]);
    expect(given.every(holdsLast)).toBe(true);
    step(begun(2, 6, 9, 10), 50);
    for (const id of [3, 4, 5]) step(ended(id, id, id + 8, id + 9), 60);
    for (let atMs = 500; atMs <= 20_000; atMs += 500) {
      // All else that is copied ends, so that somebody idles.
      for (const each of given) if (!holdsLast(each)) step(ended(each.id, each.assignment, ...each.items), atMs);
      const held = [{ id: 1, assignment: 1 }, ...given.filter(holdsLast)];
      for (const id of [1, 2, 3, 4, 5]) step(heartbeat(id, ...held.filter((each) => each.id === id).map(({ assignment }) => assignment)), atMs);
      given.push(...only("assign", scheduler.waitUntil(atMs + 400)));
    }
    const again = given.filter(holdsLast).slice(1);
    expect(again).toMatchObject([{ items: [9, 10], copy: true }]);
    const { succeeded, running } = scheduler.counts;
    for (const { id, assignment } of again) step(ended(id, assignment, 9, 10), 21_000);
    expect(scheduler.counts).toMatchObject({ succeeded: succeeded + 1, running: running - 1 });
    // Whoever ends it later changes nothing.
    step(ended(1, 1, 9, 10), 22_000);
    step(ended(2, 6, 9, 10), 22_000);
    expect(scheduler.counts).toMatchObject({ succeeded: succeeded + 1, running: running - 1 });
  });

  test("one that is silent loses its items and keeps its place until it is heard of, and has ended them", () => {
    const scheduler = startedScheduler({ items: 10, taskManagers: 1, plan: { ...blind, sizing: { kind: "fixed", sizes: [10] } } });
    scheduler.step(begun(1, 1, 0, 1), 10);
    const commands = scheduler.waitUntil(6100);
    expect(only("release", commands)).toEqual([]);
    expect(only("launch", commands)).toEqual([]);
    expect(scheduler.counts).toMatchObject({ waiting: 10, running: 0, taskManagers: 1, losses: 1 });
    expect(only("assign", scheduler.step(ended(1, 1, 0, 4), 7000))).toEqual([]);
    expect(scheduler.counts).toMatchObject({ succeeded: 0, droppedReports: 4 });
    expect(only("assign", scheduler.step({ kind: "task-manager-idle", id: 1 }, 7100))).toHaveLength(1);
  });
});
