import { expect, test } from "vitest";
import type { SchedulerPlan } from "../../orchestrator/scheduler/types.ts";
import { allowance, ended, joined, lost, only, startedScheduler } from "./started-scheduler.ts";

const rule = { kind: "quartile", quartile: 0.75, multiplier: 2, intervalMs: 500, maxRetries: 1, extraTaskManagers: false } as const;
const plan: Partial<SchedulerPlan> = { speculation: rule };

test("once enough splits have ended, one that lasts longer than a multiple of their median is copied whole", () => {
  const scheduler = startedScheduler({ items: 40, taskManagers: 4, plan });
  for (const id of [1, 2, 3]) scheduler.step(ended(id, id, id * 10 - 10, id * 10), 1000);
  scheduler.step(ended(4, 4, 30, 33), 1000);
  expect(only("assign", scheduler.waitUntil(2000))).toEqual([]);
  expect(only("assign", scheduler.waitUntil(2600))).toMatchObject([{ items: [33, 40], reversed: false }]);
});

test("not before, and not more often than asked for", () => {
  const scheduler = startedScheduler({ items: 40, taskManagers: 4, plan });
  scheduler.step(ended(1, 1, 0, 10), 100);
  scheduler.step(ended(2, 2, 10, 20), 100);
  expect(only("assign", scheduler.waitUntil(5000))).toEqual([]);
  expect(only("assign", scheduler.step(ended(3, 3, 20, 30), 5000))).toHaveLength(1);
  expect(only("assign", scheduler.waitUntil(5900))).toEqual([]);
});

test("on a Task Manager launched for it where none is idle and that was asked for", () => {
  const launched = (extraTaskManagers: boolean) => {
    const scheduler = startedScheduler({ items: 20, taskManagers: 2, plan: { speculation: { ...rule, quartile: 0.5, extraTaskManagers }, taskManagersMax: 3, assignmentsPerTaskManagerMax: 1 } });
    scheduler.step(allowance(3));
    scheduler.step(ended(1, 1, 0, 10), 100);
    const commands = scheduler.waitUntil(1500);
    return { scheduler, ids: only("launch", commands).flatMap(({ ids }) => ids) };
  };
  expect(launched(false).ids).toEqual([]);
  const { scheduler, ids } = launched(true);
  expect(ids).toEqual([3]);
  expect(only("assign", [...scheduler.step(joined(3)), ...scheduler.waitUntil(2600)])).toMatchObject([{ id: 3, items: [10, 20] }]);
});

test("as often as maxRetries says, where a copy comes to nothing", () => {
  const copiesOf = (maxRetries: number) => {
    const scheduler = startedScheduler({ items: 40, taskManagers: 4, plan: { heartbeats: false, speculation: { ...rule, maxRetries } } });
    for (const id of [1, 2, 3]) scheduler.step(ended(id, id, id * 10 - 10, id * 10), 1000);
    let copies = 0;
    let commands = scheduler.waitUntil(3000);
    for (let untilMs = 6000; untilMs <= 30_000; untilMs += 3000) {
      const [copy] = only("assign", commands);
      if (copy !== undefined) {
        expect(copy.items).toEqual([30, 40]);
        copies += 1;
      }
      commands = [...(copy === undefined ? [] : scheduler.step(lost(copy.id))), ...scheduler.waitUntil(untilMs)];
    }
    return copies;
  };
  expect(copiesOf(1)).toBe(1);
  expect(copiesOf(2)).toBe(2);
});
