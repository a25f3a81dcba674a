import { describe, expect, test } from "vitest";
import { progressText, nothingYet } from "../../orchestrator/observe/progress.ts";
import { summaryText, type Summary } from "../../orchestrator/observe/summary.ts";

const whole: Summary = {
  runId: "20261121-120000000-0001",
  state: "succeeded",
  counts: { items: 1000, succeeded: 1000, failed: 0, reused: 0, copied: 0, retried: 0 },
  makespanMs: 2000,
  itemsPerSecond: 500,
  home: "/data/out",
  runDir: "/data/out/runs/1",
  output: "/data/out/results.jsonl",
  reason: null,
  message: "",
  stages: {},
  bottleneck: null,
  processorShare: 0,
  taskManagersRssMb: 0,
  errors: [],
  taskManagerLosses: 0,
  itemsAre: "all",
  startedAt: "2026-11-21T12:00:00.000Z",
  notes: [],
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

  test("says that Task Managers were lost, and where the reason stands", () => {
    expect(summaryText(whole)).not.toContain("lost");
    expect(summaryText({ ...whole, taskManagerLosses: 1 })).toContain("1 Task Manager was lost and replaced; why: /data/out/runs/1/logs/orchestrator.log");
  });
});
