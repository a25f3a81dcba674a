import fc from "fast-check";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { askPolicy, needsCount, policy3Table, type Policy } from "../../orchestrator/jobs/policies.ts";
import { directoryWith, resolve, seed, smallJob } from "./jobs-fixture.ts";

const request = { items: 1000, splitSize: 32, taskManagers: 4, taskManagersMax: 8 };

describe("the policies of the original keep their meaning", () => {
  test("default: as many Task Managers as splits", async () => {
    expect(await askPolicy("default", request)).toEqual({ taskManagers: 32 });
  });
  test("none: what the job says", async () => {
    expect(await askPolicy("none", request)).toEqual({});
  });
  test("policy-1: as many splits as Task Managers", async () => {
    expect(await askPolicy("policy-1", request)).toEqual({ splitSize: 250 });
  });
  test("policy-2: the same, with the job's split size as the most", async () => {
    expect(await askPolicy("policy-2", request)).toEqual({ splitSize: 32 });
    expect(await askPolicy("policy-2", { ...request, items: 100 })).toEqual({ splitSize: 25 });
  });
  test("policy-3: what the table has for the nearest number of items, the smaller of two", async () => {
    for (const { items, ...decision } of policy3Table) expect(await askPolicy("policy-3", { ...request, items })).toEqual(decision);
    expect(await askPolicy("policy-3", { ...request, items: 40 })).toEqual({ splitSize: 1, taskManagers: 4 });
    expect(await askPolicy("policy-3", { ...request, items: 41 })).toEqual({ splitSize: 2, taskManagers: 8 });
    expect(await askPolicy("policy-3", { ...request, items: 10 ** 9 })).toEqual({ splitSize: 256, taskManagers: 100 });
  });
  test("a job without items can be planned", async () => {
    expect(await askPolicy("default", { ...request, items: 0 })).toEqual({ taskManagers: 1 });
    expect(await askPolicy("policy-1", { ...request, items: 0 })).toEqual({ splitSize: 1 });
  });
  test("only guided and none do without the number of items", () => {
    expect(["default", "policy-1", "policy-2", "policy-3", "m.mjs#f", () => ({})].every(needsCount)).toBe(true);
    expect([undefined, "guided", "none"].some(needsCount)).toBe(false);
  });
});

test("with any policy every item is in a split, and the Task Managers stay within the maximum", async () => {
  const anyJob = fc.record({
    policy: fc.constantFrom("default", "none", "policy-1", "policy-2", "policy-3"),
    items: fc.nat(5_000_000),
    splitSize: fc.option(fc.integer({ min: 1, max: 100_000 }), { nil: undefined }),
    taskManagers: fc.option(fc.integer({ min: 1, max: 10_000 }), { nil: undefined }),
    cores: fc.integer({ min: 1, max: 256 }),
  });
  await fc.assert(fc.asyncProperty(anyJob, async ({ policy, items, splitSize, taskManagers, cores }) => {
    const { job, provenance } = await resolve({ ...smallJob, policy, splitSize, taskManagers }, { items, machine: { cores, freeMemoryMb: 1 } });
    if (job.sizing.kind !== "fixed") throw new Error("every policy but guided fixes the sizes");
    const [size = 0] = job.sizing.sizes;
    expect(Number.isSafeInteger(size) && size >= 1).toBe(true);
    const splits = Math.ceil(items / size);
    expect(splits * size).toBeGreaterThanOrEqual(items);
    expect((splits - 1) * size).toBeLessThanOrEqual(Math.max(0, items - 1));
    if (policy === "policy-1") expect(splits).toBeLessThanOrEqual(taskManagers ?? 1);
    if (policy === "policy-2") expect(size).toBeLessThanOrEqual(splitSize ?? 32);
    expect(job.taskManagers).toBeGreaterThanOrEqual(1);
    expect(job.taskManagers).toBeLessThanOrEqual(cores);
    expect(provenance.find(({ field }) => field === "taskManagers")?.value).toBe(job.taskManagers);
    expect(provenance.find(({ field }) => field === "splitSize")?.value).toBe(size);
  }), { seed, numRuns: 200 });
});

describe("a user's own policy", () => {
  const ask = (policy: unknown) => resolve({ ...smallJob, policy, splitSize: 10 }, { items: 100 });

  test("is told the job's values and the maximum, and may change both", async () => {
    const seen: unknown[] = [];
    const policy: Policy = (asked) => {
      seen.push(asked);
      return { splitSize: 7, taskManagers: 3 };
    };
    const { job, provenance } = await ask(policy);
    expect(seen).toEqual([{ items: 100, splitSize: 10, taskManagers: 1, taskManagersMax: 4 }]);
    expect(job).toMatchObject({ policy: "function", sizing: { kind: "fixed", sizes: [7] }, taskManagers: 3 });
    expect(provenance).toContainEqual({ field: "splitSize", value: 7, rule: "policy function" });
  });

  test("is cut to the maximum", async () => {
    const { job, provenance } = await ask(async () => ({ taskManagers: 50 }));
    expect(job.taskManagers).toBe(4);
    expect(provenance).toContainEqual({ field: "taskManagers", value: 4, rule: "maximum of this machine: 4 cores" });
  });

  test("shares out no more items than the input's limit", async () => {
    const { job } = await resolve({ ...smallJob, input: { from: smallJob.input, limit: 10 }, policy: "policy-1", taskManagers: 2 }, { items: 100 });
    expect(job.sizing).toEqual({ kind: "fixed", sizes: [5] });
  });

  test("can be a function of a module, named relative to the job", async () => {
    const directory = await directoryWith({ "mine.mjs": "export const halves = ({ items }) => ({ splitSize: items / 2 });" });
    const { job } = await resolve({ ...smallJob, policy: "mine.mjs#halves" }, { items: 100, baseDir: directory });
    expect(job).toMatchObject({ policy: `${path.join(directory, "mine.mjs")}#halves`, sizing: { sizes: [50] } });
  });

  test.each<[string, unknown, string]>([
    ["throws", () => { throw new RangeError("no"); }, "policy: function threw RangeError: no"],
    ["returns nothing", () => undefined, "policy: function returned undefined, not { splitSize, taskManagers }"],
    ["returns half a Task Manager", () => ({ taskManagers: 0.5 }), "policy: function returned taskManagers: 0.5; allowed: a whole number from 1"],
    ["returns something else", () => ({ split: 1 }), "policy: function returned split; allowed: splitSize, taskManagers"],
  ])("is refused when it %s", async (_name, policy, message) => {
    await expect(ask(policy)).rejects.toMatchObject({ code: "POLICY_INVALID", field: "policy", message });
  });

  test("that is not there is refused with what is", async () => {
    const directory = await directoryWith({ "mine.mjs": "export const halves = () => ({}); export const one = 1;" });
    const missing = resolve({ ...smallJob, policy: "mine.mjs#thirds" }, { items: 1, baseDir: directory });
    await expect(missing).rejects.toThrow("exports no function thirds; it exports: halves");
    const nowhere = resolve({ ...smallJob, policy: "other.mjs#f" }, { items: 1, baseDir: directory });
    await expect(nowhere).rejects.toMatchObject({ code: "POLICY_INVALID", message: expect.stringContaining("could not be loaded") });
  });
});
