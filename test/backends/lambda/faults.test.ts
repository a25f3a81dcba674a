import { describe, expect, onTestFinished, test } from "vitest";
import type { Job } from "../../../orchestrator/jobs/schema.ts";
import { anySeed, struckItems } from "../../support/struck-items.ts";
import { temporaryFolder } from "../../support/function-task.ts";
import type { Fault } from "../../support/lambda/emulator.ts";
import { emulated, runFunction, type ResultLine } from "./support.ts";

const emulator = emulated({}, [{ timeoutSeconds: 30 }, { name: "short", timeoutSeconds: 4 }, { name: "small", memoryMb: 320 }, { name: "small-step-up", memoryMb: 1024 }]);
const isWork = (payload: Buffer) => payload.includes('"kind":"work"');

/** Twice its item, after a few milliseconds; what its item says besides. */
const source = `
const hoarded = [];
export default async (item) => {
  if (item === "exit") process.kill(process.pid, "SIGABRT");
  if (item === "hang") for (;;);
  if (item === "hoard") { for (;;) { hoarded.push(Buffer.alloc(8e6, 1)); await new Promise((r) => setTimeout(r, 5)); } }
  if (item === "large") { const large = Buffer.alloc(400e6, 1); await new Promise((r) => setTimeout(r, 300)); return large.length; }
  await new Promise((r) => setTimeout(r, 4));
  return item * 2;
};
`;
const numbers = Array.from({ length: 300 }, (_, at) => at);

describe("whatever becomes of invocations, nothing is lost and nothing is there twice", () => {
  test.each<[string, Fault, Job["heartbeat"]?]>([
    ["environments that are killed", { kind: "kill", afterMs: 120, times: 3, when: isWork }],
    ["environments that are killed in the middle of their answer", { kind: "kill", afterBytes: 2000, times: 3, when: isWork }],
    ["invocations that stall", { kind: "stall", afterMs: 50, forMs: 1500, times: 2, when: isWork }],
    ["throttling", { kind: "throttle", reason: "FunctionInvocationRateLimitExceeded", times: 2 }],
    ["slow cold starts", { kind: "cold-start", delayMs: 1500, times: 2, when: isWork }],
    ["streams that are cut by bytes", { kind: "cut-stream", afterBytes: 1500, times: 3, when: isWork }],
    ["streams that are cut after a time", { kind: "cut-stream", afterMs: 150, times: 3, when: isWork }],
    ["responses that are lost after the work", { kind: "lose-response", times: 5, when: isWork }],
    ["requests that are delivered twice", { kind: "deliver-twice", times: 3, when: isWork }],
    ["failures of Lambda itself", { kind: "refuse", status: 500, code: "ServiceException", times: 3, when: isWork }],
    ["updates meanwhile", { kind: "refuse", status: 409, code: "ResourceConflictException", times: 2 }],
    ["invocations that say nothing for longer than is waited for", { kind: "stall", afterMs: 50, forMs: 6000, times: 2, when: isWork }, { reportMs: 20, everyMs: 200, timeoutMs: 3000 }],
  ])("%s", async (_name, fault, heartbeat = { reportMs: 20, everyMs: 200, timeoutMs: 6000 }) => {
    const active = emulator.lambda.faults.push(fault);
    const { result, lines } = await runFunction(await temporaryFolder(onTestFinished), source, numbers, { heartbeat });
    expect(result.state).toBe("succeeded");
    expect(lines.map(({ output }) => output)).toEqual(numbers.map((item) => item * 2));
    expect(active.taken).toBeGreaterThan(0);
    active.remove();
    expect(new Set(lines.map(({ attempts }) => attempts))).toEqual(new Set([1]));
  });
});

test("faults that the job makes itself strike an item once, whatever the seed, and cost none its result", async () => {
  const faults = { exceptionPercent: 3, killPercent: 1, seed: anySeed() };
  const { failing, fatal } = struckItems(faults, numbers.length);
  const { result, lines } = await runFunction(await temporaryFolder(onTestFinished), source, numbers, { faults, attemptsMax: 2 });
  expect(lines.map(({ output }) => output)).toEqual(numbers.map((item) => item * 2));
  expect(result.summary.taskManagerLosses > 0).toBe(fatal.length > 0);
  // They die as what runs out of memory does, and are not taken for it.
  expect(result.summary.memoryShort).toBeNull();
  for (const { index, attempts } of lines) expect(attempts, `item ${index}`).toBeLessThanOrEqual(failing.has(index) ? 2 : 1);
});

describe("what ends an invocation is found, and blamed alone", () => {
  const withBad = (bad: string) => numbers.slice(0, 120).map((item) => (item === 77 ? bad : item));
  const others = (lines: readonly ResultLine[]) => lines.filter(({ output, index }) => index !== 77 && output === index * 2).length;

  test("an item that aborts the process", async () => {
    const { result, lines } = await runFunction(await temporaryFolder(onTestFinished), source, withBad("exit"));
    expect(result.state).toBe("finished-with-errors");
    expect(lines[77]?.error).toMatchObject({ code: "TASK_MANAGER_LOST", message: expect.stringMatching(/SIGABRT|aborted/) as string });
    expect(others(lines)).toBe(119);
  });

  test("an item that runs into the function's time-out", async () => {
    const { result, lines } = await runFunction(await temporaryFolder(onTestFinished), source, withBad("hang"), { backend: { kind: "lambda", functionName: "short" } });
    expect(result.state).toBe("finished-with-errors");
    expect(lines[77]?.error).toMatchObject({ code: "TASK_MANAGER_LOST", message: expect.stringContaining("the function's time-out of 4 s") as string });
    expect(others(lines)).toBe(119);
  });

  test("an item that takes all memory, and is told from one that takes all time", async () => {
    const { result, lines } = await runFunction(await temporaryFolder(onTestFinished), source, withBad("hoard"), { backend: { kind: "lambda", functionName: "small" } });
    expect(result.state).toBe("finished-with-errors");
    expect(lines[77]?.error).toMatchObject({ code: "TASK_MANAGER_LOST", message: expect.stringContaining("out of memory") as string });
    expect(others(lines)).toBe(119);
    expect(result.summary.memoryShort).not.toBeNull();
  });

  test("an item that needs more memory than the function has gets it from the one above it", async () => {
    const backend = { kind: "lambda", functionName: "small", memoryStepUpMb: 1024 } as const;
    const { result, lines } = await runFunction(await temporaryFolder(onTestFinished), source, withBad("large"), { backend });
    expect(result.state).toBe("succeeded");
    expect(lines[77]).toMatchObject({ output: 400e6 });
    expect(others(lines)).toBe(119);
  });

  test("a function to step up to that is not there is missed before anything starts", async () => {
    const before = emulator.lambda.invocations.length;
    const backend = { kind: "lambda", functionName: "short", memoryStepUpMb: 1024 } as const;
    await expect(runFunction(await temporaryFolder(onTestFinished), source, numbers, { backend })).rejects.toMatchObject({
      code: "LAMBDA_NOT_DEPLOYED", field: "backend.memoryStepUpMb", message: expect.stringMatching(/short-step-up.*splitrun deploy.*--memory-step-up-mb 1024/) as string,
    });
    expect(emulator.lambda.invocations).toHaveLength(before);
  });
});
