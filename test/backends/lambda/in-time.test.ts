import { describe, expect, onTestFinished, test } from "vitest";
import type { Job } from "../../../orchestrator/jobs/schema.ts";
import { temporaryFolder } from "../../support/function-task.ts";
import { emulated, runFunction } from "./support.ts";

const emulator = emulated({ lateMs: 3000 }, [{}, { name: "short", timeoutSeconds: 4 }]);
const numbers = Array.from({ length: 200 }, (_, at) => at);

describe("an invocation ends in time", () => {
  const slow = "export default async (item) => { await new Promise((r) => setTimeout(r, 25)); return item * 2; };";
  test.each<[string, Partial<Job>]>([
    ["what it cannot begin before the function's time-out", { backend: { kind: "lambda", functionName: "short" } }],
    ["what it has not begun after splitSeconds", { backend: { kind: "lambda", splitSeconds: 1 } }],
  ])("%s goes back, and is no try", async (_what, changes) => {
    const before = emulator.lambda.invocations.length;
    const { result, lines } = await runFunction(await temporaryFolder(onTestFinished), slow, numbers, {
      ...changes, policy: "none", splitSize: 200, taskManagers: 1, speculation: false,
    });
    expect(result.summary.taskManagerLosses).toBe(0);
    expect(lines.every(({ output, index, attempts }) => output === index * 2 && attempts === 1)).toBe(true);
    const { length } = emulator.lambda.invocations.slice(before).filter(({ error }) => error === null);
    expect(length).toBeGreaterThan(2);
  });
});
