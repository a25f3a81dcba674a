import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import { createHostLimiter, type Turn } from "../../task-manager/pipeline/host-limiter.ts";
import type { HostGrant, HostReport } from "../../task-manager/protocol.ts";
import type { WorkItem } from "../../task-manager/tasks/types.ts";

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
  return () => vi.useRealTimers();
});

const slow = "slow.example:80";
const grantOf = (host: string | null, changes: Partial<HostGrant> = {}): HostGrant => ({ kind: "grant", host, concurrency: 8, requestsPerSecond: null, pausedForMs: 0, ...changes });

/** A limiter whose downloads end when the test says so, and a list of items to take from. */
function start(hosts: readonly string[]) {
  const queue: WorkItem[] = hosts.map((host, index) => ({ assignment: 1, index, input: host === "file" ? "/a/file.jpg" : `http://${host}/${index}.jpg` }));
  const running: Turn[] = [];
  const back: { readonly index: number; readonly retryAfterMs: number | null }[] = [];
  const reports: HostReport[] = [];
  const pump = () => {
    for (let turn = limiter.next(); turn !== undefined; turn = limiter.next()) running.push(turn);
  };
  const limiter = createHostLimiter({
    take: () => queue.shift(),
    left: () => queue.length,
    giveBack: ({ index }, busy) => back.push({ index, retryAfterMs: busy?.retryAfterMs ?? null }),
    report: (some) => reports.push(...some),
    onFree: pump,
  });
  onTestFinished(() => limiter.close());
  return {
    limiter, pump, back, reports, queue,
    runningOf: (host: string | null) => running.filter((turn) => turn.host === host).length,
    started: () => running.map(({ item }) => item.index),
    end(host: string, kind: "ok" | "timeout" = "ok") {
      const at = running.findIndex((turn) => turn.host === host);
      running.splice(at, 1);
      limiter.ended(host, { kind });
      pump();
    },
    refuse(host: string, retryAfterMs: number | null) {
      running.splice(running.findIndex((turn) => turn.host === host), 1);
      limiter.ended(host, { kind: "busy", retryAfterMs });
      pump();
    },
  };
}

const many = (host: string, count: number) => Array<string>(count).fill(host);

describe("a host without a grant", () => {
  test("is asked for a few items at once, and the orchestrator hears soon that there are more", () => {
    const { pump, runningOf, limiter, reports, end } = start(many("slow.example", 30));
    pump();
    expect(runningOf(slow)).toBe(8);
    expect(limiter.waiting).toBe(22);
    vi.advanceTimersByTime(5);
    expect(reports).toEqual([{ host: slow, started: 8, ok: 0, busy: 0, timeouts: 0, waiting: 22, inFlight: 8 }]);
    end(slow);
    expect(runningOf(slow)).toBe(8);
    vi.advanceTimersByTime(250);
    expect(reports.at(-1)).toMatchObject({ started: 1, ok: 1, waiting: 21, inFlight: 8 });
  });

  test("that is asked for little is not spoken of", () => {
    const { pump, reports, end } = start([...many("slow.example", 8), "other.example"]);
    pump();
    for (let n = 0; n < 8; n++) end(slow);
    vi.advanceTimersByTime(10_000);
    expect(reports).toEqual([]);
  });

  test("is left alone until it is granted where that is what holds", () => {
    const { pump, limiter, runningOf, reports } = start(many("slow.example", 3));
    limiter.grant(grantOf(null, { concurrency: 0 }));
    pump();
    expect(runningOf(slow)).toBe(0);
    vi.advanceTimersByTime(5);
    expect(reports).toMatchObject([{ waiting: 3, inFlight: 0 }]);
    limiter.grant(grantOf(slow, { concurrency: 2 }));
    expect(runningOf(slow)).toBe(2);
  });

  test("and without an answer gets its items back in the end", () => {
    const { pump, limiter, back } = start(many("slow.example", 3));
    limiter.grant(grantOf(null, { concurrency: 0 }));
    pump();
    vi.advanceTimersByTime(900);
    expect(back).toEqual([]);
    vi.advanceTimersByTime(200);
    expect(back.map(({ index }) => index)).toEqual([0, 1, 2]);
    expect(limiter.waiting).toBe(0);
  });
});

describe("items of other hosts", () => {
  test("go past those that wait, and so does what comes from no host", () => {
    const { pump, started } = start([...many("slow.example", 20), "other.example", "file", "other.example"]);
    pump();
    expect(started()).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 20, 21, 22]);
  });

  test("take turns with those that have waited", () => {
    const { pump, started, end } = start([...many("a.example", 12), ...many("b.example", 12)]);
    pump();
    end("a.example:80");
    end("b.example:80");
    expect(started().slice(-2)).toEqual([8, 20]);
  });
});

describe("a rate", () => {
  test("keeps requests apart, also those saved up", () => {
    const { limiter, pump, runningOf, queue } = start(many("slow.example", 5));
    limiter.grant(grantOf(slow, { concurrency: 1000, requestsPerSecond: 20 }));
    pump();
    expect(runningOf(slow)).toBe(1);
    vi.advanceTimersByTime(200);
    expect(runningOf(slow)).toBe(5);
    vi.advanceTimersByTime(60_000);
    queue.push(...Array.from({ length: 6 }, (_, index) => ({ assignment: 2, index, input: "http://slow.example/" })));
    pump();
    expect(runningOf(slow)).toBe(7);
    vi.advanceTimersByTime(200);
    expect(runningOf(slow)).toBe(11);
  });

  test("however low, lets one item wait for its turn", () => {
    const { limiter, pump, back, runningOf } = start(many("slow.example", 4));
    limiter.grant(grantOf(slow, { requestsPerSecond: 1 }));
    pump();
    expect(runningOf(slow)).toBe(1);
    expect(back.map(({ index }) => index)).toEqual([2, 3]);
    vi.advanceTimersByTime(1000);
    expect(runningOf(slow)).toBe(2);
  });

  test("has items that would wait for long given back, once there is hardly anything else to do", () => {
    const { limiter, pump, back, queue } = start([...many("slow.example", 30), ...many("other.example", 200)]);
    limiter.grant(grantOf("other.example:80", { concurrency: 1000 }));
    limiter.grant(grantOf(slow, { requestsPerSecond: 10 }));
    for (let n = 0; n < 100; n++) limiter.next();
    expect(queue.length).toBeGreaterThan(64);
    expect(back).toEqual([]);
    pump();
    expect(back.map(({ index }) => index)).toEqual(Array.from({ length: 27 }, (_, n) => 3 + n));
    expect(back[0]?.retryAfterMs).toBeNull();
    expect(limiter.waiting).toBe(2);
  });
});

describe("a host that asks to be left alone", () => {
  test("is, for the time that it gave, its items go back meanwhile, and the orchestrator hears at once", () => {
    const { pump, refuse, back, reports, runningOf, queue } = start(many("slow.example", 12));
    pump();
    refuse(slow, 60_000);
    expect(back.map(({ index }) => index)).toEqual([8, 9, 10, 11]);
    expect(back[0]?.retryAfterMs).toBe(60_000);
    vi.advanceTimersByTime(5);
    expect(reports.at(-1)).toMatchObject({ host: slow, busy: 1, inFlight: 7, retryAfterMs: 59_995 });
    queue.push({ assignment: 2, index: 50, input: "http://slow.example/50.jpg" });
    pump();
    expect(back.at(-1)?.index).toBe(50);
    expect(runningOf(slow)).toBe(7);
  });

  test("is asked again once its time is over", () => {
    const { pump, refuse, runningOf, limiter } = start(many("slow.example", 12));
    pump();
    refuse(slow, 500);
    expect(runningOf(slow)).toBe(7);
    expect(limiter.waiting).toBe(4);
    vi.advanceTimersByTime(499);
    expect(runningOf(slow)).toBe(7);
    vi.advanceTimersByTime(2);
    expect(runningOf(slow)).toBe(8);
  });

  test("of another Task Manager is left alone here too", () => {
    const { limiter, pump, runningOf } = start(many("slow.example", 3));
    limiter.grant(grantOf(slow, { requestsPerSecond: 10, pausedForMs: 700 }));
    pump();
    vi.advanceTimersByTime(699);
    expect(runningOf(slow)).toBe(0);
    vi.advanceTimersByTime(2);
    expect(runningOf(slow)).toBe(1);
  });

  test("is told of with what it bore in the second before, not since the beginning", () => {
    const { pump, end, refuse, reports, queue } = start([]);
    const one = (index: number) => queue.push({ assignment: 1, index, input: "http://slow.example/" });
    for (let n = 0; n < 1000; n++) {
      one(n);
      pump();
      end(slow);
      vi.advanceTimersByTime(10);
    }
    one(1000);
    pump();
    refuse(slow, 1000);
    vi.advanceTimersByTime(5);
    expect(reports.at(-1)?.ok).toBeGreaterThan(80);
    expect(reports.at(-1)?.ok).toBeLessThan(120);
  });
});

test("items that wait can be taken back, and are not heard of again", () => {
  const { pump, limiter, end, started } = start(many("slow.example", 12));
  pump();
  expect(limiter.waitingItems().map(({ index }) => index)).toEqual([8, 9, 10, 11]);
  expect(limiter.forget(({ index }) => index !== 10).map(({ index }) => index)).toEqual([8, 9, 11]);
  end(slow);
  end(slow);
  expect(started().at(-1)).toBe(10);
  expect(limiter.waiting).toBe(0);
});

test("any number of hosts in a list costs no memory that grows with it", () => {
  vi.useRealTimers();
  setFlagsFromString("--expose-gc");
  const collectGarbage = runInNewContext("gc") as () => void;
  const limiter = createHostLimiter({
    take: (() => {
      let index = 0;
      return () => (index < 100_000 ? { assignment: 1, index, input: `http://host-${index++}.example/` } : undefined);
    })(),
    left: () => 1000,
    giveBack: () => undefined,
    report: () => undefined,
    onFree: () => undefined,
  });
  onTestFinished(() => limiter.close());
  collectGarbage();
  const before = process.memoryUsage().heapUsed;
  for (let turn = limiter.next(); turn?.host != null; turn = limiter.next()) limiter.ended(turn.host, { kind: "ok" });
  collectGarbage();
  expect(process.memoryUsage().heapUsed - before).toBeLessThan(12e6);
  expect(limiter.waiting).toBe(0);
});
