import { readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { localBackend } from "../../orchestrator/backends/local.ts";
import type { LambdaReport } from "../../orchestrator/backends/lambda/report.ts";
import { jobForRecord } from "../../orchestrator/jobs/record.ts";
import type { Job } from "../../orchestrator/jobs/schema.ts";
import { summaryText, type Summary } from "../../orchestrator/observe/summary.ts";
import { executeJob, type RunResult } from "../../orchestrator/service/execute-job.ts";
import { createMetering } from "../../orchestrator/service/metering.ts";
import { createPool } from "../../orchestrator/service/pool.ts";
import { prepareJob } from "../../orchestrator/service/prepare-job.ts";
import type { Service } from "../../orchestrator/service/service.ts";
import { createStopSwitch } from "../../orchestrator/service/stop-switch.ts";
import { temporaryFolder } from "../support/function-task.ts";
import { forgetConfiguration, setCredentials } from "../support/s3/client.ts";
import { startS3Server } from "../support/s3/server.ts";
import { meteredBackend, type MeteredBackend, type MeteredOptions } from "../support/metered-backend.ts";

const source = `export default async (item) => { await new Promise((resolve) => setTimeout(resolve, item.ms ?? 5)); return item; };`;
/** 1 s of 1 GB, and the request. */
const invocationUsd = 0.0000166667 + 0.0000002;

interface Setting {
  readonly backend: MeteredBackend;
  readonly folder: string;
  run(job: Partial<Job>, how?: { readonly name?: string; readonly mode?: "run" | "resume" }): Promise<RunResult>;
}

/** Jobs on a backend that costs as much as a function of 1 GB does, in one service. */
async function start(options: Partial<MeteredOptions> = {}): Promise<Setting> {
  const folder = await temporaryFolder(onTestFinished);
  const cacheDir = path.join(folder, "cache");
  const module = path.join(folder, "work.mjs");
  await writeFile(module, source);
  const taskManagersMax = 4;
  const backend = meteredBackend(localBackend({ artifactDirectory: cacheDir, taskManagersMax }), { billedMs: 1000, atMostMs: 1000, ...options });
  const metering = createMetering();
  const pool = createPool({ taskManagersMax, keptMs: 10_000, metering });
  const service: Service = { pool, metering, backend: async () => backend, keptWarm: () => null, close: () => pool.close() };
  onTestFinished(async () => {
    await service.close();
    await backend.close();
  });
  return {
    backend,
    folder,
    async run(more, { name = "job", mode = "run" } = {}) {
      const job: Job = {
        name, input: Array.from({ length: 100 }, (_, item) => item), task: { kind: "function", module, threads: 1 }, policy: "none", splitSize: 5, taskManagers: 4, speculation: false,
        heartbeat: { reportMs: 20, everyMs: 200 }, output: path.join(folder, name), ...more,
      };
      const { job: resolved, stdin } = await prepareJob(job, {}, { cwd: folder, stdin: process.stdin, offer: null, items: null });
      return executeJob({ ...resolved, taskManagers: job.taskManagers ?? 4 }, service, {
        mode, home: mode === "resume" ? path.join(folder, name) : null, fresh: false, retryFailed: false, takeOver: false, taken: null, cwd: folder, cacheDir, stdin,
        record: jobForRecord(resolved), withoutEffect: [], stop: createStopSwitch(), onProgress: null, onStored: null, onNote: null, onHome: null,
      });
    },
  };
}

function costOf({ summary }: RunResult): NonNullable<Summary["cost"]> {
  if (summary.cost === undefined) throw new Error("the summary has no cost");
  return summary.cost;
}

describe("a job on a backend that costs money", () => {
  test("says what it cost, in the summary, in its file and to a person", async () => {
    const { run, backend } = await start();
    const result = await run({});
    const cost = costOf(result);
    expect(cost).toMatchObject({ invocations: 20, billedSeconds: 20, gbSeconds: 20, stillRunningUsd: 0, billed: "computed", pricesDate: "2026-11-21" });
    expect(cost.usd).toBeCloseTo(20 * invocationUsd, 9);
    expect(cost.per1000ItemsUsd).toBeCloseTo(200 * invocationUsd, 9);
    expect(backend.usages).toHaveLength(20);
    const written = JSON.parse(await readFile(path.join(result.runDir, "summary.json"), "utf8")) as Summary;
    expect(written.cost).toEqual(cost);
    expect(summaryText(result.summary)).toContain("What it cost\n  $0.00034, $0.0034 per 1,000 items\n");
  });

  test("pays for listing the prefix that its items come from", async () => {
    forgetConfiguration();
    const server = await startS3Server({ pageKeysMax: 5 });
    onTestFinished(() => server.stop());
    server.createBucket("b");
    setCredentials(server.credentials);
    Object.assign(process.env, { AWS_REGION: "us-east-1", AWS_ENDPOINT_URL_S3: server.endpoint });
    for (let number = 0; number < 12; number += 1) server.put("b", `p/${number}.jpg`, "");
    const { run } = await start();
    const result = await run({ input: "s3://b/p/" });
    expect(result.counts.succeeded).toBe(12);
    expect(server.count("ListObjectsV2")).toBe(3);
    expect(costOf(result).storageRequestsUsd).toBeCloseTo(3 * 0.000005 + 12 * 0.0000004, 12);
  });

  test("counts as there what is paid for: Task Managers that wait for an invocation have no lanes", async () => {
    const { run } = await start({ billedMs: 1 });
    expect((await run({})).summary.stages.function?.lanes).toBe(1);
  });

  test("has the user's own prices where the job gives them", async () => {
    const { run, folder } = await start();
    const prices = path.join(folder, "prices.json");
    await writeFile(prices, JSON.stringify({ date: "2026-12-24", regions: { "us-east-1": { x86GbSecond: 1, request: 0 } } }));
    expect(costOf(await run({ prices }))).toMatchObject({ usd: 20, requestsUsd: 0 });
  });

  test("pays for its own Task Managers only, where others run beside it", async () => {
    const { run, backend } = await start();
    const [one, other] = await Promise.all([run({}, { name: "one" }), run({ input: Array.from({ length: 40 }, (_, item) => item) }, { name: "other" })]);
    const invocations = [one, other].map((result) => costOf(result).invocations);
    // More than 20 and 8 where a piece came back from one whose place the other job was given.
    expect(invocations[0]).toBeGreaterThanOrEqual(20);
    expect(invocations[1]).toBeGreaterThanOrEqual(8);
    expect((invocations[0] ?? 0) + (invocations[1] ?? 0)).toBe(backend.usages.length);
  });

  test("pays for those that it takes over from another, from then on", async () => {
    const { run } = await start();
    const first = await run({}, { name: "one" });
    const second = await run({}, { name: "other" });
    expect([costOf(first).invocations, costOf(second).invocations]).toEqual([20, 20]);
  });

  test("takes Lambda's own reports for what was computed, once they are there", async () => {
    const asked: number[] = [];
    const { run } = await start({
      reports: async ({ requestIds, fromMs, untilMs }) => {
        asked.push(requestIds.length, untilMs - fromMs);
        return requestIds.slice(1).map((requestId): LambdaReport =>
          ({ requestId, durationMs: 400, billedMs: 500, initMs: null, memoryMb: 1024, maxMemoryMb: 700, status: "success", errorType: null }));
      },
    });
    const cost = costOf(await run({}));
    expect(asked[0]).toBe(20);
    expect(cost).toMatchObject({ billedSeconds: 10.5, maxMemoryMb: 700, billed: "partly reported" });
  });
});

describe("a budget", () => {
  test("is not passed: the run stops before, has used nearly all of it, and can be resumed", async () => {
    const { run, backend } = await start();
    const maxCostUsd = 10.5 * invocationUsd;
    const first = await run({ budget: { maxCostUsd } });
    expect(first.summary).toMatchObject({ state: "failed", reason: "budget" });
    expect(first.summary.message).toContain("budget.maxCostUsd ($0.00018) has no room for more work");
    expect(costOf(first).invocations).toBe(10);
    expect(first.counts.succeeded).toBe(50);
    expect(summaryText(first.summary)).toContain("splitrun resume");

    const second = await run({ budget: { maxCostUsd } }, { mode: "resume" });
    expect([second.state, second.summary.message]).toEqual(["succeeded", ""]);
    expect(second.counts).toMatchObject({ items: 100, succeeded: 100, reused: 50 });
    expect(backend.usages).toHaveLength(20);
  });

  test("that is just enough does not stop anything", async () => {
    const { run } = await start();
    const result = await run({ budget: { maxCostUsd: 20.01 * invocationUsd } });
    expect(result.state).toBe("succeeded");
    expect(costOf(result).invocations).toBe(20);
  });

  test("holds the number of Task Managers down to what it can pay for at the most", async () => {
    // Each is billed a tenth of what it could take.
    const { run, backend } = await start({ atMostMs: 10_000 });
    const input = Array.from({ length: 100 }, (_, value) => ({ value, ms: 40 }));
    const result = await run({ input, budget: { maxCostUsd: 45 * invocationUsd } });
    expect([result.state, result.summary.message]).toEqual(["succeeded", ""]);
    expect(backend.inFlightMax).toBeLessThanOrEqual(2);
  });

  test("too small for one piece of work stops after the one that showed it", async () => {
    const { run, backend } = await start();
    const result = await run({ budget: { maxCostUsd: invocationUsd / 2 } });
    expect(result.summary.reason).toBe("budget");
    expect(backend.usages).toHaveLength(1);
    expect(backend.launches).toBe(1);
  });

  test("is accepted where nothing costs anything, and never reached", async () => {
    const folder = await temporaryFolder(onTestFinished);
    const module = path.join(folder, "work.mjs");
    await writeFile(module, source);
    process.env["SPLITRUN_CACHE_DIR"] = path.join(folder, "cache");
    const { runJob } = await import("../../orchestrator/service/run-job.ts");
    const result = await runJob({ input: [1, 2], task: { kind: "function", module }, output: path.join(folder, "home"), budget: { maxCostUsd: 0.000001 } });
    expect(result.state).toBe("succeeded");
    expect(result.summary).not.toHaveProperty("cost");
  });
});
