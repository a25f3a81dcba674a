import { expect, test } from "vitest";
import { createMemoryGatherer, memoryLines } from "../../orchestrator/observe/memory-short.ts";

const settings = { backend: "local", task: "function", maxRamPerWorkerMb: 600 } as const;

test("enough memory is no news", () => {
  expect(createMemoryGatherer().short(settings)).toBeNull();
  expect(memoryLines(null)).toEqual([]);
});

test("lack of it is told with what it cost, and what to set", () => {
  const memory = createMemoryGatherer();
  memory.narrowed(0.25);
  memory.narrowed(0.5);
  expect(memory.short(settings)).toMatchObject({ ended: 0, leastWidth: 0.25 });
  memory.ended();
  const [line] = memoryLines(memory.short(settings));
  expect(line).toContain("came down to 25%, and 1 Task Manager ended for it");
  expect(line).toContain("raise resources.maxRamPerWorkerMb (600)");
});

test("what to set is what there is on the backend, and of the task", () => {
  const knob = (changes: Partial<Parameters<ReturnType<typeof createMemoryGatherer>["short"]>[0]>) => {
    const memory = createMemoryGatherer();
    memory.ended();
    return memory.short({ ...settings, maxRamPerWorkerMb: null, ...changes })?.knob;
  };
  expect(knob({})).toBe("fewer taskManagers, or a lower task.concurrency or task.threads");
  expect(knob({ task: "inference" })).toContain("task.infer.batch");
  expect(knob({ backend: "lambda" })).toContain("splitrun deploy --memory-mb");
});
