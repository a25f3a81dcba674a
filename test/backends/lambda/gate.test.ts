import { describe, expect, onTestFinished, test, vi } from "vitest";
import type { LambdaFailure } from "../../../orchestrator/backends/lambda/client.ts";
import { Gate } from "../../../orchestrator/backends/lambda/gate.ts";

const throttled: LambdaFailure = {
  code: "LAMBDA_THROTTLED", retryable: true, didNotRun: true, throttle: "ConcurrentInvocationLimitExceeded", retryAfterMs: null, status: 429, message: "", wayOut: null,
};

function start(max: number) {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  const gate = new Gate({ max, now: () => Date.now(), random: () => 1 });
  const inside: (() => void)[] = [];
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
    inside[1]?.();
    inside[1]?.();
    await vi.advanceTimersByTimeAsync(0);
    expect([order, gate.inFlight]).toEqual([[1, 2, 3], 2]);
  });

  test("halves what may be in flight when invocations come too fast, waits, and comes back", async () => {
    const { gate, inside, enter } = start(100);
    for (let at = 0; at < 100; at++) void enter();
    await vi.advanceTimersByTimeAsync(0);
    gate.refused({ ...throttled, throttle: "CallerRateLimitExceeded" });
    expect(gate.max).toBe(50);
    for (const leave of inside.splice(0)) leave();
    for (let at = 0; at < 100; at++) void enter();
    await vi.advanceTimersByTimeAsync(0);
    expect(gate.inFlight).toBe(0);
    await vi.advanceTimersByTimeAsync(200);
    expect(gate.inFlight).toBeGreaterThanOrEqual(50);
    expect(gate.inFlight).toBeLessThan(60);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(gate.inFlight).toBe(100);
  });

  test("waits longer after each refusal in a row, and 5 s at most whatever Lambda says", async () => {
    const { gate, inside, enter } = start(1);
    const pauseAfterRefusal = async (retryAfterMs: number | null) => {
      gate.refused({ ...throttled, retryAfterMs });
      const sinceMs = Date.now();
      let pauseMs = -1;
      void enter().then(() => (pauseMs = Date.now() - sinceMs));
      while (pauseMs < 0) await vi.advanceTimersByTimeAsync(10);
      inside.pop()?.();
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
    inside[0]?.();
    await vi.advanceTimersByTimeAsync(0);
    expect([gate.inFlight, gate.isCrowded]).toEqual([1, false]);
  });

  test("lets in as many as ran when Lambda refused one more, at once, and looks for more later", async () => {
    let nowMs = 0;
    const gate = new Gate({ max: 100, now: () => nowMs, random: () => 0 });
    const { signal } = new AbortController();
    const leaves = await Promise.all(Array.from({ length: 100 }, () => gate.enter(signal)));
    for (const leave of leaves.slice(4)) {
      leave();
      gate.refused(throttled);
    }
    expect(gate.max).toBe(4);
    expect(gate.isFull).toBe(true);
    nowMs = 120_000;
    leaves[0]?.();
    const again = await gate.enter(signal);
    expect(gate.max).toBeGreaterThan(4);
    again();
    expect(gate.inFlight).toBe(3);
  });

  test("turns away those who came last", async () => {
    const gate = new Gate({ max: 1, now: () => 0, random: () => 0 });
    const { signal } = new AbortController();
    const leave = await gate.enter(signal);
    const waiting = ["first", "second", "third"].map((name) => gate.enter(signal).then(() => name, () => `${name} not`));
    gate.turnAway(2, new Error("too many"));
    leave();
    expect(await Promise.all(waiting)).toEqual(["first", "second not", "third not"]);
  });
});
