import { cpus } from "node:os";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import type { Cost } from "../../orchestrator/observe/cost.ts";
import { createMachineMeter } from "../../orchestrator/observe/machine.ts";
import { progressText, nothingYet } from "../../orchestrator/observe/progress.ts";
import { createSummaryGatherer, emptySummary, summaryText, type Summary, whereTheTimeWent } from "../../orchestrator/observe/summary.ts";

const whole: Summary = {
  ...emptySummary({
    runId: "20261121-120000000-0001", state: "succeeded", home: "/data/out", runDir: "/data/out/runs/1", output: "/data/out/results.jsonl", reason: null, message: "",
    startedAt: "2026-11-21T12:00:00.000Z",
  }),
  counts: { items: 1000, succeeded: 1000, failed: 0, reused: 0, copied: 0, retried: 0 },
  makespanMs: 2000,
  itemsPerSecond: 500,
  times: { prepareMs: 100, runMs: 1800, finishMs: 100 },
  itemsAre: "all",
};

const cost: Cost = {
  usd: 1, per1000ItemsUsd: 1, requestsUsd: 0, computeUsd: 1, initUsd: 0, ephemeralUsd: 0, storageRequestsUsd: 0, wastedUsd: 0, stillRunningUsd: 0, invocations: 400, coldStarts: 4,
  billedSeconds: 10, gbSeconds: 10, maxMemoryMb: null, overhead: null, billed: "computed", pricesDate: "2026-11-21", pricesRegions: ["us-east-1"],
};

describe("the summary", () => {
  test("counts one error as one", () => {
    const counts = { ...whole.counts, succeeded: 999, failed: 1 };
    expect(summaryText({ ...whole, state: "finished-with-errors", counts })).toContain("1,000 items: 999 with a result, 1 error\n");
    expect(progressText({ ...nothingYet, failed: 1 })).toContain("1 error ·");
  });

  test("says where its number of items is an estimate, since the list was not read to its end", () => {
    const counts = { ...whole.counts, succeeded: 100 };
    expect(summaryText({ ...whole, state: "cancelled", counts, itemsAre: "about" })).toContain("about 1,000 items: 100 with a result, 0 errors (about 900 still to do)");
  });

  test("says how long hosts and further tries were waited for, and so does the progress", () => {
    const stages = { download: { items: 1000, busyMs: 1000, waitMs: 0, lanes: 32, busyShare: 0.1 } };
    expect(summaryText({ ...whole, stages })).not.toContain("wait");
    expect(summaryText({ ...whole, stages, waitedAsideMs: 9800 })).toContain("For 9.8 s all that was left waited: for a host");
    expect(progressText({ ...nothingYet, waitingAside: 1200 })).toContain("1,200 wait for a host or another try");
    expect(progressText(nothingYet)).not.toContain("wait");
  });

  test("says what part of the time went by around invocations, and what makes it less, where it is much", () => {
    const stages = { function: { items: 1000, busyMs: 1000, waitMs: 0, lanes: 4, busyShare: 0.1 } };
    const text = (share: number) => summaryText({ ...whole, stages, cost: { ...cost, overhead: { share, eachMs: 24 } } });
    expect(text(0.1)).not.toContain("overhead");
    expect(text(0.62)).toContain("No stage is full: 62% of the time of warm invocations is their overhead, 24 ms each: the way to Lambda and back. Larger splits need fewer of them");
  });

  test("says how to go on; where the output is in S3, from any machine", () => {
    const [here, there] = ["splitrun resume /data/out", "splitrun resume s3://results/cats/"];
    const cancelled = { ...whole, state: "cancelled" } as const;
    expect(summaryText(cancelled)).toMatch(new RegExp(`^Go on with: ${here}$`, "m"));
    const inS3 = { output: "s3://results/cats/" };
    expect(summaryText({ ...cancelled, ...inS3 })).toMatch(new RegExp(`^Go on with: ${here}, or from any machine: ${there}$`, "m"));
    const counts = { ...whole.counts, succeeded: 999, failed: 1 };
    expect(summaryText({ ...whole, ...inS3, counts })).toMatch(new RegExp(`^Try the errors again: ${here} --retry-failed, or from any machine: ${there} --retry-failed$`, "m"));
  });

  test("says that Task Managers were lost, and where the reason stands", () => {
    expect(summaryText(whole)).not.toContain("lost");
    expect(summaryText({ ...whole, taskManagerLosses: 1 })).toContain("1 Task Manager was lost and replaced; why: /data/out/runs/1/logs/orchestrator.log");
  });
});

test("the lanes of a run are those of the Task Managers that were there, not of those that were asked for", () => {
  vi.useFakeTimers({ toFake: ["performance"] });
  onTestFinished(() => void vi.useRealTimers());
  const gatherer = createSummaryGatherer();
  gatherer.joined(1);
  gatherer.joined(2);
  vi.advanceTimersByTime(1000);
  gatherer.left(2);
  vi.advanceTimersByTime(3000);
  expect(gatherer.meanTaskManagers()).toBeCloseTo(1.25, 6);
  const elapsed = { elapsedMs: 4000, cpuMs: 4000, machineShare: 0.4, stages: { function: { items: 5, busyMs: 5000, waitMs: 0 } }, lanes: { function: gatherer.meanTaskManagers() } };
  expect(whereTheTimeWent({ ...elapsed, cores: 2 })).toMatchObject({ processorShare: 0.5, machineShare: 0.5, stages: { function: { lanes: 1, busyShare: 1 } } });
  expect(whereTheTimeWent({ ...elapsed, cores: null }).processorShare).toBeNull();
});

describe("the bottleneck", () => {
  const stages = { preprocess: { items: 100, busyMs: 9500, waitMs: 0 }, infer: { items: 100, busyMs: 900, waitMs: 0 } };
  const times = { stages, lanes: { preprocess: 1, infer: 1 }, elapsedMs: 10_000, cores: 2, cpuMs: 4000, machineShare: 0.25 };

  test("is the busiest stage where cores are idle", () => {
    expect(whereTheTimeWent(times).bottleneck).toMatchObject({ stage: "preprocess", knob: expect.stringContaining("task.preprocess.concurrency") });
    expect(whereTheTimeWent({ ...times, cores: null }).bottleneck).toMatchObject({ stage: "preprocess" });
  });

  test("is the processor where it is full, whoever fills it: more lanes would not help", () => {
    const own = whereTheTimeWent({ ...times, cpuMs: 18_000 });
    expect(own.bottleneck).toMatchObject({ stage: "processor", knob: expect.not.stringContaining("other work") });
    const others = whereTheTimeWent({ ...times, machineShare: 0.97 });
    expect(others.bottleneck).toMatchObject({ stage: "processor", knob: expect.stringContaining("less other work on this machine, which takes 77% of it") });
    expect(summaryText({ ...whole, ...others })).toContain("97%  of all cores, 20% by Task Managers");
  });

  test("is a function that waits, however busy others are", () => {
    const waiting = { ...times, stages: { function: { items: 100, busyMs: 9500, waitMs: 0 } }, lanes: { function: 1 }, cpuMs: 200, machineShare: 0.99 };
    expect(whereTheTimeWent(waiting).bottleneck).toMatchObject({ stage: "function", knob: expect.stringContaining("task.concurrency") });
    expect(whereTheTimeWent({ ...waiting, cpuMs: 12_000 }).bottleneck).toMatchObject({ stage: "processor" });
  });

  test("is nothing where no stage is at work for long", () => {
    expect(whereTheTimeWent({ ...times, elapsedMs: 40_000 }).bottleneck).toBeNull();
  });
});

const untold = cpus().every(({ times }) => times.user === 0 && times.idle === 0);
test.skipIf(untold)(`a machine's share is that of all its cores${untold ? " (not told here)" : ""}`, () => {
  const meter = createMachineMeter();
  const untilMs = performance.now() + 300;
  while (performance.now() < untilMs);
  expect(meter.share()).toBeGreaterThan(0.2 / cpus().length);
  expect(meter.share()).toBeLessThanOrEqual(1);
});
