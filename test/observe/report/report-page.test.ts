import { expect, test } from "vitest";
import { reportPage } from "../../../orchestrator/observe/report/report-page.ts";
import { Timeline } from "../../../orchestrator/observe/report/timeline.ts";
import type { Summary } from "../../../orchestrator/observe/summary.ts";

const summary: Summary = {
  runId: "20261121-120000000-0001", state: "finished-with-errors", counts: { items: 1000, succeeded: 999, failed: 1, reused: 0, copied: 0, retried: 0 },
  makespanMs: 2000, itemsPerSecond: 500, home: "/data/out", runDir: "/data/out/runs/1", output: "/data/out/results.jsonl", reason: null, message: "",
  times: { prepareMs: 100, runMs: 1800, finishMs: 100 }, stages: { infer: { items: 1000, busyMs: 3000, waitMs: 0, lanes: 2, busyShare: 0.83 } },
  bottleneck: { stage: "infer", knob: "raise taskManagers" }, processorShare: 0.5, machineShare: 0.6, waitedAsideMs: 0, hosts: [], memoryShort: null, taskManagersRssMb: 120,
  errors: [{ code: "DOWNLOAD_STATUS", stage: "download", count: 1, example: { index: 7, input: "http://a.example/7.jpg", message: "404 Not Found" } }],
  taskManagerLosses: 0, itemsAre: "all", startedAt: "2026-11-21T12:00:00.000Z", notes: [], report: null,
};
const timeline = new Timeline().report();
const pageOf = (changes: Partial<Summary>) => reportPage({ name: "night", backend: "lambda", summary: { ...summary, ...changes }, timeline, note: null });

test("the page shows what a run cost, per 1,000 items too, with the date of the prices", () => {
  const cost = {
    usd: 3.32, per1000ItemsUsd: 0.0033, requestsUsd: 0.0002, computeUsd: 2.88, initUsd: 0.04, ephemeralUsd: 0, storageRequestsUsd: 0.4, wastedUsd: 0.011, stillRunningUsd: 0,
    invocations: 1000, coldStarts: 500, billedSeconds: 100, gbSeconds: 175_347, maxMemoryMb: 812, overhead: { share: 0.4, eachMs: 31 }, billed: "reported", pricesDate: "2026-11-21", pricesRegions: ["us-east-1"],
  } as const;
  const page = pageOf({ cost });
  for (const shown of ["<b>$3.32</b>by the prices of 2026-11-21", "<b>$0.0033</b>per 1,000 items", "$2.88 compute + $0.04 cold starts", "$0.011 of it came to nothing", "Prices of 2026-11-21 (us-east-1)", "40% of the time of warm invocations is their overhead, 31 ms each"]) {
    expect(page).toContain(shown);
  }
  expect(pageOf({})).not.toContain("<h2>Cost</h2>");
});

test("it shows hosts in trouble, stages, errors and what held the run up", () => {
  const page = pageOf({ hosts: [{ host: "photos.example:443", refused: 312, timeouts: 4, heldBackMs: 5200, requestsPerSecond: 480 }] });
  for (const shown of ["photos.example:443", ">312<", "5.2 s", "83 %", "The lanes of infer were at work for 83 % of the time, and held the others up. To go faster: raise taskManagers.", 'href="http://a.example/7.jpg"']) {
    expect(page).toContain(shown);
  }
  expect(pageOf({})).not.toContain("Hosts in trouble");
});

test("of a summary that an older version wrote it shows what is there", () => {
  const { hosts: _hosts, memoryShort: _memoryShort, times: _times, machineShare: _machineShare, ...older } = summary;
  expect(reportPage({ name: "night", backend: "local", summary: older as unknown as Summary, timeline, note: null })).toContain("999");
});
