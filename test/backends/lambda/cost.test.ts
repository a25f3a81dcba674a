import { writeFile } from "node:fs/promises";
import path from "node:path";
import { beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { pricesIn } from "../../../orchestrator/backends/lambda/prices.ts";
import { parseReport, type LambdaReport } from "../../../orchestrator/backends/lambda/report.ts";
import type { Job } from "../../../orchestrator/jobs/schema.ts";
import type { RunResult } from "../../../orchestrator/service/execute-job.ts";
import { summaryText } from "../../../orchestrator/observe/summary.ts";
import { runJob } from "../../../orchestrator/service/run-job.ts";
import { temporaryFolder } from "../../support/function-task.ts";
import { emulated } from "./support.ts";

const source = `export default async (item) => { await new Promise((resolve) => setTimeout(resolve, 20)); return item; };`;
const emulator = emulated();

beforeAll(() => {
  process.env["AWS_ENDPOINT_URL_CLOUDWATCH_LOGS"] = emulator.lambda.endpoint;
});

/** A job on the emulator, and the reports that the function's log has of it. */
async function run(more: Partial<Job>, folder?: string): Promise<{ readonly result: RunResult; readonly reports: readonly LambdaReport[] }> {
  const place = folder ?? (await temporaryFolder(onTestFinished));
  process.env["SPLITRUN_CACHE_DIR"] = path.join(place, "cache");
  const module = path.join(place, "work.mjs");
  await writeFile(module, source);
  const before = reportsNow().length;
  const result = await runJob({
    input: Array.from({ length: 60 }, (_, item) => item), task: { kind: "function", module, threads: 1 }, backend: "lambda", policy: "none", splitSize: 5, taskManagers: 2,
    speculation: false, heartbeat: { reportMs: 20, everyMs: 1000 }, output: path.join(place, "out"), ...more,
  });
  return { result, reports: reportsNow().slice(before) };
}

function reportsNow(): readonly LambdaReport[] {
  return emulator.lambda.logMessages("/aws/lambda/splitrun").map(parseReport).filter((report) => report !== null);
}

const prices = pricesIn("us-east-1", null);

function usdOf(reports: readonly LambdaReport[]): number {
  return reports.reduce((sum, { billedMs, memoryMb }) => sum + (memoryMb / 1024) * (billedMs / 1000) * prices.x86GbSecond + prices.request, 0);
}

describe("a job on Lambda", () => {
  test("cost what Lambda reports of its invocations, cold starts apart", async () => {
    const { result, reports } = await run({});
    const { cost } = result.summary;
    expect(result.counts.succeeded).toBe(60);
    expect(reports.length).toBeGreaterThanOrEqual(12);
    expect(cost).toMatchObject({ billed: "reported", invocations: reports.length, coldStarts: reports.filter(({ initMs }) => initMs !== null).length, pricesRegions: ["us-east-1"], stillRunningUsd: 0 });
    expect(cost?.usd).toBeCloseTo(usdOf(reports), 9);
    expect(cost?.initUsd).toBeGreaterThan(0);
    expect(cost?.overhead).toEqual({ share: expect.any(Number) as number, eachMs: expect.any(Number) as number });
    expect(cost?.overhead?.share).toBeLessThan(1);
    expect(cost?.maxMemoryMb).toBe(reports.reduce((most, { maxMemoryMb }) => Math.max(most, maxMemoryMb ?? 0), 0));
  });

  test("has the report of an invocation whose answer was cut off from the function's log", async () => {
    emulator.lambda.faults.push({ kind: "cut-stream", afterBytes: 600, when: (payload) => payload.includes('"work"') });
    const { result, reports } = await run({});
    expect(result.state).toBe("succeeded");
    expect(result.summary.cost).toMatchObject({ billed: "reported", invocations: reports.length });
    expect(result.summary.cost?.usd).toBeCloseTo(usdOf(reports), 9);
  });

  test("has what still runs as what it may cost yet, since nothing can stop it", async () => {
    // Once it has been heard of, it says nothing any more, and ends long after the job.
    const stalled = emulator.lambda.faults.push({ kind: "stall", afterBytes: 1, when: (payload) => payload.includes('"work"') });
    const { result } = await run({ heartbeat: { reportMs: 20, everyMs: 200, timeoutMs: 4000 }, backend: { kind: "lambda", splitSeconds: 20 } });
    expect(result.state).toBe("succeeded");
    expect(stalled.taken).toBe(1);
    const { cost } = result.summary;
    const atMostUsd = ((20 + 10) * (1769 / 1024)) * prices.x86GbSecond + prices.request;
    expect(cost?.stillRunningUsd).toBeGreaterThan(0);
    expect(cost?.stillRunningUsd).toBeLessThanOrEqual(atMostUsd * 1.001);
    expect(summaryText(result.summary)).toContain("cannot be stopped");
  });

  test("stops before its budget is passed, and is resumed by running it again", async () => {
    const folder = await temporaryFolder(onTestFinished);
    // Each may take up to 11 s, by what it is told, so a few of them fill it; what they take is a small part of it.
    const backend = { kind: "lambda", splitSeconds: 1 } as const;
    const maxCostUsd = 13 * (1769 / 1024) * prices.x86GbSecond;
    const first = await run({ backend, budget: { maxCostUsd }, input: Array.from({ length: 600 }, (_, item) => item), splitSize: 20 }, folder);
    expect(first.result.summary.reason).toBe("budget");
    expect(first.result.summary.message).toContain("budget.maxCostUsd");
    expect(usdOf(first.reports)).toBeLessThanOrEqual(maxCostUsd);
    const second = await run({ backend, input: Array.from({ length: 600 }, (_, item) => item), splitSize: 20 }, folder);
    expect(second.result.state).toBe("succeeded");
    expect(second.result.counts).toMatchObject({ succeeded: 600, reused: first.result.counts.succeeded });
  });
});
