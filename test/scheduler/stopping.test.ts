import { describe, expect, test } from "vitest";
import type { SchedulerEvent } from "../../orchestrator/scheduler/types.ts";
import { allowance, begun, ended, failed, itemsRead, joined, lost, newScheduler, returned, startedScheduler, stored } from "./started-scheduler.ts";

const stop = (how: "drain" | "now"): SchedulerEvent => ({ kind: "stop", reason: "user", how, message: "interrupted" });

describe("stop, draining", () => {
  test("lets what is begun end, takes the rest back, assigns nothing, and finishes when all of it is stored", () => {
    const scheduler = startedScheduler({ items: 100, taskManagers: 1 });
    scheduler.step(begun(1, 1, 0, 2));
    expect(scheduler.step(stop("drain"))).toEqual([{ kind: "release", id: 1, how: "drain" }]);
    expect(scheduler.step(returned(1, 1, "DRAIN", 2, 10))).toEqual([]);
    expect(scheduler.step(ended(1, 1, 0, 2))).toMatchObject([{ kind: "store", results: [0, 2] }]);
    expect(scheduler.step(lost(1, { exitCode: 0, signal: null }))).toEqual([]);
    expect(scheduler.step(stored(1))).toEqual([{ kind: "finish", state: "stopped", reason: "user", message: "interrupted" }]);
    expect(scheduler.counts.losses).toBe(0);
  });

  test("leaves an item undone whose error another try could mend", () => {
    const scheduler = startedScheduler({ items: 1, taskManagers: 1 });
    scheduler.step(stop("drain"));
    expect(scheduler.step(failed(1, 1, 0, true))).toEqual([{ kind: "finish", state: "stopped", reason: "user", message: "interrupted" }]);
    expect(scheduler.counts).toMatchObject({ failed: 0, setAside: 1 });
  });

  test("ends when those that hold items are lost; suspects are noted for the run that follows", () => {
    const scheduler = startedScheduler({ items: 10, taskManagers: 1 });
    scheduler.step(begun(1, 1, 0, 1));
    scheduler.step(stop("drain"));
    expect(scheduler.step(lost(1)).map(({ kind }) => kind)).toEqual(["note-quarantine", "finish"]);
  });

  test("is no stop when everything ends", () => {
    const scheduler = startedScheduler({ items: 10, taskManagers: 1 });
    scheduler.step(stop("drain"));
    scheduler.step(ended(1, 1, 0, 10));
    expect(scheduler.step(stored(1))).toEqual([{ kind: "finish", state: "completed", reason: null, message: "" }]);
  });

  test("gives back those that hold nothing", () => {
    const scheduler = startedScheduler({ items: 20, taskManagers: 2 });
    scheduler.step(ended(2, 2, 10, 20));
    scheduler.step(stored(1));
    expect(scheduler.step(stop("drain"))).toEqual([{ kind: "release", id: 1, how: "drain" }]);
    expect(scheduler.step(returned(1, 1, "DRAIN", 0, 10))).toMatchObject([{ kind: "release", id: 2, how: "keep" }, { kind: "finish" }]);
  });
});

describe("stop, now", () => {
  test("waits only for what was told to be stored", () => {
    const scheduler = startedScheduler({ items: 100, taskManagers: 2 });
    scheduler.step(ended(1, 1, 0, 1));
    expect(scheduler.step(stop("now"))).toEqual([
      { kind: "release", id: 1, how: "kill" },
      { kind: "release", id: 2, how: "kill" },
    ]);
    expect(scheduler.step(ended(2, 2, 10, 20))).toEqual([]);
    expect(scheduler.step(stored(1))).toEqual([{ kind: "finish", state: "stopped", reason: "user", message: "interrupted" }]);
  });

  test("after drain ends at once", () => {
    const scheduler = startedScheduler({ items: 100, taskManagers: 1 });
    scheduler.step(stop("drain"));
    expect(scheduler.step(stop("now"))).toMatchObject([{ kind: "release", id: 1, how: "kill" }, { kind: "finish", reason: "user" }]);
  });
});

test("a disk that fails ends the run without waiting for anything", () => {
  const scheduler = startedScheduler({ items: 100, taskManagers: 1 });
  scheduler.step(ended(1, 1, 0, 1));
  scheduler.step(ended(1, 1, 1, 2));
  expect(scheduler.step({ kind: "store-failed", batch: 1, message: "no space left on device" })).toEqual([
    { kind: "release", id: 1, how: "kill" },
    { kind: "finish", state: "stopped", reason: "disk", message: "no space left on device" },
  ]);
});

test("a run whose last results could not be stored has not completed", () => {
  const scheduler = startedScheduler({ items: 10, taskManagers: 1 });
  scheduler.step(ended(1, 1, 0, 10));
  const commands = scheduler.step({ kind: "store-failed", batch: 1, message: "no space left on device" });
  expect(commands).toContainEqual({ kind: "finish", state: "stopped", reason: "disk", message: "no space left on device" });
});

test("a job that runs out of time drains, and stops ten seconds later", () => {
  const scheduler = startedScheduler({ items: 100, taskManagers: 1, plan: { jobTimeoutMs: 5000, heartbeats: false } });
  expect(scheduler.waitUntil(4999)).toEqual([]);
  expect(scheduler.waitUntil(5000)).toEqual([{ kind: "release", id: 1, how: "drain" }]);
  expect(scheduler.waitUntil(14_999)).toEqual([]);
  expect(scheduler.waitUntil(15_000)).toEqual([
    { kind: "release", id: 1, how: "kill" },
    { kind: "finish", state: "stopped", reason: "job-timeout", message: "timeouts.jobMs (5000 ms) has passed" },
  ]);
});

test("items that were being read when the stop came are not handed out", () => {
  const scheduler = newScheduler({ taskManagersMax: 1 });
  scheduler.step(allowance(1));
  scheduler.step(itemsRead(0, 10, { remaining: null }));
  scheduler.step(joined(1));
  scheduler.step(ended(1, 1, 0, 4));
  scheduler.step(stop("drain"));
  expect(scheduler.step(itemsRead(10, 5))).toEqual([]);
  expect(scheduler.step(returned(1, 1, "DRAIN", 4, 10))).toEqual([]);
  expect(scheduler.step(stored(1))).toMatchObject([{ kind: "finish", state: "stopped" }]);
  expect(scheduler.counts).toMatchObject({ read: 15, waiting: 11 });
});
