import { describe, expect, onTestFinished, test, vi } from "vitest";
import type { LambdaFailure } from "../../../orchestrator/backends/lambda/client.ts";
import { Gate, type Leave } from "../../../orchestrator/backends/lambda/gate.ts";

const throttled: LambdaFailure = {
  code: "LAMBDA_THROTTLED", retryable: true, didNotRun: true, throttle: "ConcurrentInvocationLimitExceeded", retryAfterMs: null, status: 429, message: "", wayOut: null,
};

function start(max: number) {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  const gate = new Gate({ max, turn: () => undefined, now: () => Date.now(), random: () => 1 });
  const inside: Leave[] = [];
  const enter = (signal = new AbortController().signal) => gate.enter(signal).then((leave) => void inside.push(leave));
  return { gate, inside, enter };
}

describe("the gate of invocations", () => {
  test("lets in as many as may be in flight, the others in the order in which they came", async () => {
    const { gate, inside, enter } = start(2);
    const order: number[] = [];
    for (const number of [1, 2, 3, 4]) void enter().then(() => order.push(number));
    await vi.advanceTimersByTimeAsync(0);
    expect([order, gate.inFlight, gate.isCrowded]).toEqual([[1, 2], 2, true]);
    inside[1]?.(null);
    inside[1]?.(null);
    await vi.advanceTimersByTimeAsync(0);
    expect([order, gate.inFlight]).toEqual([[1, 2, 3], 2]);
  });

  test("halves what may be in flight when invocations come too fast, waits, and comes back", async () => {
    const { gate, inside, enter } = start(100);
    for (let at = 0; at < 100; at++) void enter();
    await vi.advanceTimersByTimeAsync(0);
    inside.pop()?.({ ...throttled, throttle: "CallerRateLimitExceeded" });
    expect(gate.max).toBe(49);
    for (const leave of inside.splice(0)) leave(null);
    for (let at = 0; at < 100; at++) void enter();
    await vi.advanceTimersByTimeAsync(0);
    expect(gate.inFlight).toBe(0);
    await vi.advanceTimersByTimeAsync(200);
    expect(gate.inFlight).toBeGreaterThanOrEqual(49);
    expect(gate.inFlight).toBeLessThan(60);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(gate.inFlight).toBe(100);
  });

  test("waits longer after each refusal in a row, and 5 s at most whatever Lambda says", async () => {
    const { gate, inside, enter } = start(1);
    const pauseAfterRefusal = async (retryAfterMs: number | null) => {
      await enter();
      inside.pop()?.({ ...throttled, retryAfterMs });
      const sinceMs = Date.now();
      let pauseMs = -1;
      void enter().then(() => (pauseMs = Date.now() - sinceMs));
      while (pauseMs < 0) await vi.advanceTimersByTimeAsync(10);
      inside.pop()?.(null);
      return pauseMs;
    };
    expect([await pauseAfterRefusal(null), await pauseAfterRefusal(null), await pauseAfterRefusal(1000), await pauseAfterRefusal(60_000)]).toEqual([200, 400, 1000, 5000]);
    gate.accepted();
    expect(await pauseAfterRefusal(null)).toBe(200);
  });

  test("whoever gives up while it waits leaves its place to the next", async () => {
    const { gate, inside, enter } = start(1);
    const giveUp = new AbortController();
    void enter();
    const waiting = enter(giveUp.signal);
    void enter();
    await vi.advanceTimersByTimeAsync(0);
    giveUp.abort(new Error("given up"));
    await expect(waiting).rejects.toThrow("given up");
    inside[0]?.(null);
    await vi.advanceTimersByTimeAsync(0);
    expect([gate.inFlight, gate.isCrowded]).toEqual([1, false]);
  });

  test("lets in as many as ran when Lambda refused one more, at once, and looks for more later", async () => {
    let nowMs = 0;
    const gate = new Gate({ max: 100, turn: () => undefined, now: () => nowMs, random: () => 0 });
    const { signal } = new AbortController();
    const leaves = await Promise.all(Array.from({ length: 100 }, () => gate.enter(signal)));
    for (const leave of leaves.slice(4)) leave(throttled);
    expect(gate.max).toBe(4);
    expect(gate.isFull).toBe(true);
    nowMs = 120_000;
    leaves[0]?.(null);
    const again = await gate.enter(signal);
    expect(gate.max).toBeGreaterThan(4);
    again(null);
    expect(gate.inFlight).toBe(3);
  });

  test("turns away those who came last", async () => {
    const gate = new Gate({ max: 1, turn: () => undefined, now: () => 0, random: () => 0 });
    const { signal } = new AbortController();
    const leave = await gate.enter(signal);
    const waiting = ["first", "second", "third"].map((name) => gate.enter(signal).then(() => name, () => `${name} not`));
    gate.turnAway(2, new Error("too many"));
    leave(null);
    expect(await Promise.all(waiting)).toEqual(["first", "second not", "third not"]);
  });
});

const passed = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

interface World {
  /** Invocations that Lambda runs at once, and how many are wanted. */
  readonly limit: number;
  readonly wanted: number;
  readonly answerMs: number;
  readonly workMs: number;
  readonly sentPerMs: number;
}

/** Lambda and those who want invocations of it, one after the other, on a clock of their own. */
function startWorld({ limit, wanted, answerMs, workMs, sentPerMs }: World) {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  let turn = { atMs: 0, taken: 0 };
  const gate = new Gate({
    max: wanted, now: () => Date.now(), random: () => 1,
    turn() {
      if (Date.now() > turn.atMs) turn = { atMs: Date.now(), taken: 0 };
      if (turn.taken++ < sentPerMs) return undefined;
      return passed(1).then(() => void (turn = { atMs: Date.now(), taken: 1 }));
    },
  });
  const refusedAtMs: number[] = [];
  let running = 0;
  let ran = 0;
  const leastMax = { value: wanted };
  const invoke = async () => {
    for (;;) {
      const leave = await gate.enter(new AbortController().signal);
      await passed(answerMs / 2);
      if (running >= limit) {
        await passed(answerMs / 2);
        refusedAtMs.push(Date.now());
        leave(throttled);
      } else {
        running += 1;
        await passed(workMs);
        running -= 1;
        await passed(answerMs / 2);
        ran += 1;
        leave(null);
        gate.accepted();
      }
      leastMax.value = Math.min(leastMax.value, gate.max);
    }
  };
  for (let at = 0; at < wanted; at++) void invoke();
  return { gate, refusedAtMs, leastMax, ran: () => ran };
}

describe("where Lambda runs fewer at once than are wanted", () => {
  test.each<World>([
    { limit: 4, wanted: 100, answerMs: 20, workMs: 30_000, sentPerMs: 2 },
    { limit: 4, wanted: 100, answerMs: 20, workMs: 10, sentPerMs: 2 },
    { limit: 100, wanted: 1000, answerMs: 20, workMs: 1000, sentPerMs: 2 },
    { limit: 90, wanted: 100, answerMs: 20, workMs: 200, sentPerMs: 2 },
  ])("no more are refused than were on their way when the first one was, and none of those that run is given up: %o", async (world) => {
    const { limit, answerMs, workMs, sentPerMs } = world;
    const { gate, refusedAtMs, leastMax, ran } = startWorld(world);
    while (refusedAtMs.length === 0) await vi.advanceTimersByTimeAsync(1);
    await vi.advanceTimersByTimeAsync(answerMs);
    // Of work that is shorter than its answer's way, more are in flight than run.
    expect(gate.max).toBeLessThanOrEqual(workMs < answerMs ? 2 * limit : limit);
    expect(refusedAtMs.length).toBeLessThanOrEqual((answerMs + 2) * sentPerMs);
    const before = [refusedAtMs.length, ran()] as const;
    await vi.advanceTimersByTimeAsync(10_000);
    // It looks for more now and then.
    expect(refusedAtMs.length - before[0]).toBeLessThan(10);
    expect(ran() - before[1]).toBeGreaterThan(0.85 * Math.floor((limit * 10_000) / (workMs + answerMs)) - limit);
    expect(leastMax.value).toBe(limit);
  });

  test("those that ran and have ended when others turn out to be refused count for what runs", async () => {
    const gate = new Gate({ max: 10, turn: () => undefined, now: () => 0, random: () => 0 });
    const { signal } = new AbortController();
    const leaves = await Promise.all(Array.from({ length: 10 }, () => gate.enter(signal)));
    for (const leave of leaves.slice(0, 4)) leave(null);
    for (const leave of leaves.slice(4)) leave(throttled);
    expect(gate.max).toBe(4);
  });
});
