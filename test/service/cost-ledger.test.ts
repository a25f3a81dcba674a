import { describe, expect, test } from "vitest";
import { pricesIn } from "../../orchestrator/backends/lambda/prices.ts";
import type { Usage } from "../../orchestrator/backends/types.ts";
import { createCostLedger } from "../../orchestrator/service/cost-ledger.ts";

function usage(more: Partial<Usage> = {}): Usage {
  return {
    taskManager: "tm-1", requestId: null, invocations: 1, billedMs: 1000, memoryMb: 1024, ephemeralMb: 512, architecture: "x86_64", region: "us-east-1",
    initMs: null, maxMemoryMb: null, source: "report", wasted: false, seen: null, ...more,
  };
}

const nothingRuns = { items: 1000, duplicates: 0, inFlight: [] } as const;

describe("what a run cost", () => {
  test("is that of a million images, worked through by hand", () => {
    const ledger = createCostLedger(null);
    // 100 ms of 1,769 MB an image, 1,000 images an invocation; 500 cold starts of 3 s.
    ledger.add(usage({ invocations: 500, billedMs: 50_000_000, memoryMb: 1769 }));
    for (let each = 0; each < 500; each++) ledger.add(usage({ billedMs: 103_000, initMs: 3000, memoryMb: 1769 }));
    ledger.addStorageRequests({ reads: 1_000_000, writes: 100 });
    const cost = ledger.cost({ items: 1_000_000, duplicates: 0, inFlight: [] });
    expect(cost.computeUsd).toBeCloseTo(2.879, 3);
    expect(cost.initUsd).toBeCloseTo(0.0432, 4);
    expect(cost.requestsUsd).toBeCloseTo(0.0002, 6);
    expect(cost.storageRequestsUsd).toBeCloseTo(0.4 + 0.0005, 6);
    expect(cost.usd).toBeCloseTo(3.3235, 3);
    expect(cost.per1000ItemsUsd).toBeCloseTo(0.003323, 6);
    expect(cost).toMatchObject({ invocations: 1000, coldStarts: 500, billedSeconds: 101_500, ephemeralUsd: 0, billed: "reported", pricesDate: "2026-11-21", pricesRegions: ["us-east-1"] });
  });

  test("is the sum of its parts, and no part is below nothing", () => {
    const ledger = createCostLedger(null);
    ledger.add(usage({ initMs: 5000, ephemeralMb: 2048, wasted: true }));
    ledger.add(usage({ architecture: "arm64", region: "af-south-1" }));
    const cost = ledger.cost(nothingRuns);
    expect(cost.usd).toBeCloseTo(cost.requestsUsd + cost.computeUsd + cost.initUsd + cost.ephemeralUsd + cost.storageRequestsUsd, 12);
    // All of the first one was its init.
    expect(cost.initUsd).toBeCloseTo(0.0000166667, 12);
    expect(cost.computeUsd).toBeCloseTo(0.00001768, 12);
    expect(cost.requestsUsd).toBeCloseTo(0.00000047, 12);
    expect(cost.ephemeralUsd).toBeCloseTo(1.5 * 0.0000000309, 15);
    expect(cost.wastedUsd).toBeCloseTo(0.0000166667 + 0.0000002 + 1.5 * 0.0000000309, 12);
    expect(cost.pricesRegions).toEqual(["af-south-1", "us-east-1"]);
  });

  test("says what came to nothing: whole invocations, and of the others the share that was done twice", () => {
    const ledger = createCostLedger(null);
    ledger.add(usage({ wasted: true }));
    for (let each = 0; each < 4; each++) ledger.add(usage());
    const { usd, wastedUsd } = ledger.cost({ items: 75, duplicates: 25, inFlight: [] });
    expect(wastedUsd / usd).toBeCloseTo(2 / 5, 9);
  });

  test("has what warm invocations took beside their code", () => {
    const ledger = createCostLedger(null);
    ledger.add(usage());
    expect(ledger.cost(nothingRuns).overhead).toBeNull();
    ledger.add(usage({ seen: { ms: 50, overheadMs: 40 } }));
    ledger.add(usage({ seen: { ms: 150, overheadMs: 40 } }));
    expect(ledger.cost(nothingRuns).overhead).toEqual({ share: 0.4, eachMs: 40 });
  });

  test("of nothing is nothing", () => {
    expect(createCostLedger(null).cost({ items: 0, duplicates: 0, inFlight: [] })).toMatchObject({ usd: 0, per1000ItemsUsd: null, invocations: 0, billed: "computed", pricesDate: "2026-11-21" });
  });

  test("has what runs on beside it, at the most that it can be", () => {
    const ledger = createCostLedger(null);
    const work = { taskManager: "tm-1", startedMs: 1000, notAfterMs: 11_000, memoryMb: 1024, ephemeralMb: 512, architecture: "x86_64", region: "us-east-1" } as const;
    expect(ledger.atMostUsd(work)).toBeCloseTo(0.000166667 + 0.0000002, 12);
    expect(ledger.cost({ items: 0, duplicates: 0, inFlight: [work, work] })).toMatchObject({ usd: 0, stillRunningUsd: 2 * ledger.atMostUsd(work) });
  });

  test("that was computed is replaced by Lambda's own report, once", () => {
    const ledger = createCostLedger(null);
    ledger.add(usage({ requestId: "a", source: "computed", billedMs: 1500 }));
    ledger.add(usage({ requestId: "b", source: "computed", billedMs: 1500 }));
    expect(ledger.awaitingReports()).toEqual(["a", "b"]);
    const report = { requestId: "a", durationMs: 900, billedMs: 1000, initMs: 100, memoryMb: 1024, maxMemoryMb: 300, status: "success", errorType: null } as const;
    ledger.correct([report, report, { ...report, requestId: "another" }]);
    expect(ledger.awaitingReports()).toEqual(["b"]);
    const cost = ledger.cost(nothingRuns);
    expect(cost).toMatchObject({ billedSeconds: 2.5, coldStarts: 1, invocations: 2, maxMemoryMb: 300, billed: "partly reported" });
    expect(cost.usd).toBeCloseTo(2.5 * 0.0000166667 + 2 * 0.0000002, 12);
  });
});

describe("prices", () => {
  test("are those of the region, and of us-east-1 where it is in no table", () => {
    expect(pricesIn("eu-central-1", null)).toMatchObject({ region: "eu-central-1", x86GbSecond: 0.0000166667, ephemeralGbSecond: 0.0000000367 });
    expect(pricesIn("xx-moon-1", null)).toMatchObject({ region: "us-east-1", x86GbSecond: 0.0000166667, date: "2026-11-21" });
  });

  test("of the user go before ours, field by field, and the older date is told", () => {
    const own = { date: "2026-01-02", regions: { "eu-west-1": { x86GbSecond: 0.00001 }, "xx-moon-1": { request: 1 } } };
    expect(pricesIn("eu-west-1", own)).toMatchObject({ x86GbSecond: 0.00001, armGbSecond: 0.0000133334, date: "2026-01-02", region: "eu-west-1" });
    expect(pricesIn("xx-moon-1", own)).toMatchObject({ request: 1, x86GbSecond: 0.0000166667, region: "xx-moon-1" });
    expect(pricesIn("us-east-1", own)).toMatchObject({ x86GbSecond: 0.0000166667, date: "2026-11-21" });
  });

  test("of the user for us-east-1 say nothing of another region that is in our table", () => {
    const own = { date: "2027-01-01", regions: { "us-east-1": { x86GbSecond: 1, request: 1 } } };
    expect(pricesIn("us-east-1", own)).toMatchObject({ x86GbSecond: 1, request: 1 });
    expect(pricesIn("eu-west-1", own)).toMatchObject({ x86GbSecond: 0.0000166667, request: 0.0000002 });
  });
});
