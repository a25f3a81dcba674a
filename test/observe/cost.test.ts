import { describe, expect, test } from "vitest";
import { costLines, usdText, type Cost } from "../../orchestrator/observe/cost.ts";
import { nothingYet, progressText } from "../../orchestrator/observe/progress.ts";

const cost: Cost = {
  usd: 3.3234, per1000ItemsUsd: 0.0033234, requestsUsd: 0.0002, computeUsd: 2.88, initUsd: 0.0432, ephemeralUsd: 0, storageRequestsUsd: 0.4, wastedUsd: 0, stillRunningUsd: 0,
  invocations: 1000, coldStarts: 500, billedSeconds: 101_500, gbSeconds: 175_346.6, maxMemoryMb: 812, overhead: null, billed: "reported", pricesDate: "2026-11-21", pricesRegions: ["us-east-1"],
};

describe("money", () => {
  test.each<[number, string]>([
    [0, "$0"], [1234.5, "$1,234.50"], [5, "$5.00"], [0.4, "$0.40"], [0.0432, "$0.043"], [0.00033733, "$0.00034"], [0.0000002, "$0.0000002"], [1e-10, "under $0.000000001"],
  ])("%d is %s", (usd, text) => expect(usdText(usd)).toBe(text));

  test("is in the line of progress where something costs any", () => {
    expect(progressText({ ...nothingYet, items: 10, succeeded: 5, costUsd: 0.0123 })).toContain(" · $0.012 · ");
    for (const costUsd of [null, 0]) expect(progressText({ ...nothingYet, items: 10, costUsd })).not.toContain("$");
  });
});

describe("what a run cost, for a person", () => {
  test("has its sum, its parts, what it was made of, and the date of the prices", () => {
    expect(costLines(cost)).toEqual([
      "  $3.32, $0.0033 per 1,000 items",
      "  $2.88 compute + $0.043 cold starts + $0.0002 requests + $0.40 S3 requests",
      "  1,000 invocations, 500 cold; 175,347 GB-s; at most 812 MB used",
      "  Prices of 2026-11-21 (us-east-1), before any free tier; billed time as Lambda reports it",
    ]);
  });

  test("says what came to nothing, and what may still come", () => {
    const text = costLines({ ...cost, wastedUsd: 0.011, stillRunningUsd: 0.5, maxMemoryMb: null, billed: "computed" }).join("\n");
    expect(text).toContain("$0.011 of it came to nothing");
    expect(text).toContain("what runs on and cannot be stopped costs $0.50 more at most");
    expect(text).toContain("GB-s\n");
    expect(text).toContain("billed time computed from the durations seen here");
  });
});
