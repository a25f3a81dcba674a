import { describe, expect, onTestFinished, test } from "vitest";
import { Gate } from "../../../orchestrator/backends/lambda/gate.ts";
import type { LambdaFailure } from "../../../orchestrator/backends/lambda/client.ts";
import { temporaryFolder } from "../../support/function-task.ts";
import { emulated, runFunction } from "./support.ts";

const refused: LambdaFailure = {
  code: "LAMBDA_THROTTLED", retryable: true, didNotRun: true, throttle: "ConcurrentInvocationLimitExceeded", retryAfterMs: null, status: 429,
  message: "Lambda asked for fewer invocations", wayOut: null,
};

describe("the gate in front of Lambda", () => {
  test("lets in as many as ran when Lambda refused one more, at once, and looks for more later", async () => {
    let nowMs = 0;
    const gate = new Gate({ max: 100, now: () => nowMs, random: () => 0 });
    const { signal } = new AbortController();
    const leaves = await Promise.all(Array.from({ length: 100 }, () => gate.enter(signal)));
    for (const leave of leaves.slice(4)) {
      leave();
      gate.refused(refused);
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

  test("is halved where invocations came too fast", async () => {
    const gate = new Gate({ max: 100, now: () => 0, random: () => 0 });
    const { signal } = new AbortController();
    await Promise.all(Array.from({ length: 100 }, () => gate.enter(signal)));
    gate.refused({ ...refused, throttle: "CallerRateLimitExceeded" });
    expect(gate.max).toBe(50);
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

describe("where Lambda takes fewer at once than a job may have", () => {
  emulated({ concurrency: 2 });

  test("the job has as many Task Managers as there is room for, with splits of their size", async () => {
    const folder = await temporaryFolder(onTestFinished);
    const { result, lines } = await runFunction(
      folder,
      "export default async (n) => { await new Promise((r) => setTimeout(r, 10)); return n + 1; };",
      Array.from({ length: 400 }, (_, n) => n),
      { taskManagers: 40 },
    );
    expect(result.state).toBe("succeeded");
    expect(result.summary.taskManagerLosses).toBe(0);
    expect(lines.every(({ output, attempts }, index) => output === index + 1 && attempts === 1)).toBe(true);
    // With splits for forty there would be about one an item.
    expect(result.summary.cost?.invocations).toBeLessThan(150);
  });
});
