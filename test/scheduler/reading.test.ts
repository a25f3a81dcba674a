import { describe, expect, test } from "vitest";
import { allowance, ended, itemsRead, joined, newScheduler, only, startedScheduler, stored } from "./started-scheduler.ts";

describe("reading", () => {
  test("an empty input finishes at once and launches nothing", () => {
    const scheduler = newScheduler({});
    expect(scheduler.step(allowance(2))).toEqual([{ kind: "read", count: 4096 }]);
    expect(scheduler.step({ kind: "input-ended" })).toEqual([{ kind: "finish", state: "completed", reason: null, message: "" }]);
    expect(scheduler.step({ kind: "clock" })).toEqual([]);
  });

  test("a list that is done already finishes without a Task Manager", () => {
    const scheduler = newScheduler({});
    scheduler.step(allowance(2));
    expect(scheduler.step(itemsRead(0, 100, { done: [0, 100], failedDone: 3, remaining: null }))).toEqual([{ kind: "read", count: 4096 }]);
    expect(scheduler.step({ kind: "input-ended" })).toEqual([{ kind: "finish", state: "completed", reason: null, message: "" }]);
    expect(scheduler.counts).toMatchObject({ read: 100, succeeded: 97, reused: 97, failed: 3 });
  });

  test("items that are done are left out", () => {
    const scheduler = newScheduler({ taskManagersMax: 1 });
    scheduler.step(allowance(1));
    scheduler.step(itemsRead(0, 10, { done: [0, 3, 5, 6] }));
    expect(only("assign", scheduler.step(joined(1)))).toEqual([{ kind: "assign", id: 1, assignment: 1, items: [3, 5, 6, 10], notAfterMs: null, reversed: false }]);
  });

  test("one read is under way at a time, and reading stops when enough is ahead", () => {
    const scheduler = newScheduler({});
    expect(only("read", scheduler.step(allowance(0)))).toEqual([{ kind: "read", count: 4096 }]);
    expect(only("read", scheduler.step({ kind: "clock" }))).toEqual([]);
    expect(only("read", scheduler.step(itemsRead(0, 3000, { remaining: null })))).toEqual([{ kind: "read", count: 1096 }]);
    expect(only("read", scheduler.step(itemsRead(3000, 1096, { remaining: null })))).toEqual([]);
  });

  test("items that could not be read end as errors, with no try", () => {
    const scheduler = newScheduler({});
    scheduler.step(allowance(1));
    const errors = [{ index: 1, code: "INPUT_INVALID", stage: "run", retryable: false }] as const;
    expect(only("store", scheduler.step(itemsRead(0, 3, { done: [0, 1, 2, 3], errors })))).toEqual([
      { kind: "store", batch: 1, results: [], retried: [], errors: [{ index: 1, attempts: 0, made: null }] },
    ]);
    expect(only("finish", scheduler.step({ kind: "input-ended" }))).toEqual([]);
    expect(only("finish", scheduler.step(stored(1)))).toHaveLength(1);
  });

  test("reading pauses while 100 000 items wait for a host", () => {
    const scheduler = newScheduler({ sizing: { kind: "fixed", sizes: [100_000] }, taskManagersMax: 1 });
    scheduler.step(allowance(1));
    let read = 0;
    const readOn = () => scheduler.step(itemsRead(read, 4000, { hosts: new Array<number>(4000).fill(7), remaining: null }));
    readOn();
    read += 4000;
    scheduler.step(joined(1, 1, 1));
    scheduler.step({ kind: "host-blocked", host: 7, untilMs: 50_000 });
    scheduler.step(ended(1, 1, 0, 4000));
    let asked = 1;
    for (; asked > 0 && read < 200_000; read += 4000) asked = only("read", readOn()).length;
    expect(scheduler.counts.setAside).toBeGreaterThanOrEqual(100_000 - 4000);
    expect(read).toBeLessThan(120_000);
    expect(only("read", scheduler.step({ kind: "host-free", host: 7 }))).toEqual([]);
    expect(scheduler.counts.setAside).toBe(0);
  });

  test("items out of order are a mistake of the caller", () => {
    const scheduler = newScheduler({});
    scheduler.step(allowance(1));
    scheduler.step(itemsRead(0, 5));
    expect(() => scheduler.step(itemsRead(6, 5))).toThrow(/read from 6 on, expected from 5 on.*"event":"items-read"/);
  });

  test("an input that fails stops the run; what runs may end", () => {
    const scheduler = newScheduler({ taskManagersMax: 1 });
    scheduler.step(allowance(1));
    scheduler.step(itemsRead(0, 10, { remaining: null }));
    scheduler.step(joined(1));
    expect(scheduler.step({ kind: "input-failed", message: "line 11 is not JSON" })).toEqual([{ kind: "release", id: 1, how: "drain" }]);
    scheduler.step(ended(1, 1, 0, 10));
    expect(scheduler.step(stored(1))).toEqual([{ kind: "finish", state: "stopped", reason: "input", message: "line 11 is not JSON" }]);
  });

  test("a run ends when all is stored, and not before", () => {
    const scheduler = startedScheduler({ items: 10, taskManagers: 1 });
    expect(scheduler.step(ended(1, 1, 0, 10))).toEqual([{ kind: "store", batch: 1, results: [0, 10], retried: [], errors: [] }]);
    expect(scheduler.step(stored(1))).toEqual([
      { kind: "release", id: 1, how: "keep" },
      { kind: "finish", state: "completed", reason: null, message: "" },
    ]);
  });
});
