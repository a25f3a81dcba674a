import path from "node:path";
import { describe, expect, test } from "vitest";
import { jobForRecord } from "../../orchestrator/jobs/record.ts";
import { directoryWith, refusal, resolve, smallJob } from "./jobs-fixture.ts";

const table = { date: "2026-12-24", regions: { "eu-west-1": { x86GbSecond: 0.00001 } } };

describe("the user's own prices", () => {
  test("are a file beside the job, or in it; a resumed run has those of its first", async () => {
    const baseDir = await directoryWith({ "prices.json": JSON.stringify(table) });
    for (const prices of ["prices.json", table]) {
      const { job } = await resolve({ ...smallJob, prices, budget: { maxCostUsd: 3 } }, { baseDir });
      expect(job.prices).toEqual(table);
      expect(jobForRecord(job)).toMatchObject({ prices: table, budget: { maxCostUsd: 3 } });
    }
  });

  test("that are not there, or no prices, are refused by name", async () => {
    const baseDir = await directoryWith({ "broken.json": "{", "wrong.json": JSON.stringify({ date: "yesterday", regions: { a: { x86: 1, request: -1 } } }) });
    await expect(resolve({ ...smallJob, prices: "missing.json" }, { baseDir })).rejects.toMatchObject({ code: "PRICES_NOT_FOUND", field: "prices", value: path.join(baseDir, "missing.json") });
    await expect(resolve({ ...smallJob, prices: "broken.json" }, { baseDir })).rejects.toMatchObject({ code: "PRICES_INVALID" });
    const wrong = resolve({ ...smallJob, prices: "wrong.json" }, { baseDir });
    await expect(wrong).rejects.toThrow('date: "yesterday" is not allowed; allowed: a date such as 2026-11-21');
    await expect(wrong).rejects.toThrow("regions.a.request: -1 is not allowed; allowed: a number from 0 to 1000000");
    await expect(wrong).rejects.toThrow("regions.a.x86: unknown field");
  });
});

test("a budget is a sum of money, or null for none", async () => {
  expect(refusal({ ...smallJob, budget: { maxCostUsd: 0 } })).toEqual(["budget.maxCostUsd: 0 is not allowed; allowed: a number above 0, up to 1000000000, or null for none"]);
  expect((await resolve({ ...smallJob, budget: { maxCostUsd: null } })).job.budget).toEqual({ maxCostUsd: null });
});
