import { readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { lambdaClient, lambdaSdk } from "../../../orchestrator/backends/lambda/client.ts";
import { createInvoker } from "../../../orchestrator/backends/lambda/invoke.ts";
import { LoopTurns } from "../../../orchestrator/backends/lambda/loop-turns.ts";
import { protocolVersion, type LambdaLine, type LambdaRequest } from "../../../task-manager/protocol.ts";
import { functionTask, temporaryFolder } from "../../support/function-task.ts";
import { emulated } from "./support.ts";

emulated();

/** What a function task's work takes of a processor. */
const busySource = "export default () => { const before = process.cpuUsage(); while (process.cpuUsage(before).user < 500_000); };";

/** Its module is not loaded before `file` is there. */
const slowSource = (file: string) => `import { existsSync } from "node:fs";
while (!existsSync(${JSON.stringify(file)})) await new Promise((resolve) => setTimeout(resolve, 5));
export default () => 1;`;

async function requestOf(folder: string, source: string): Promise<string> {
  const { task, artifacts } = await functionTask(folder, source);
  const file = artifacts.get(task.module.sha256)?.path ?? "";
  const request: LambdaRequest = {
    protocol: protocolVersion, kind: "work", taskManager: "one", coresByMemory: false, env: {}, beginWithinMs: 60_000, buffered: null, grants: [],
    artifacts: [{ ...task.module, inline: (await readFile(file)).toString("base64"), s3: null }],
    configure: { kind: "configure", task, reportMs: 20, heartbeatMs: 20, itemTimeoutMs: 60_000, profile: "off", faults: null, memoryLimitMb: null },
    assigns: [{ kind: "assign", assignment: 1, items: [0, 1], inputs: [1], endWithinMs: null, reversed: false }],
  };
  return JSON.stringify(request);
}

test("while an environment that has worked before loads another task, its heartbeats count what this invocation took of a processor", async () => {
  const folder = await temporaryFolder(onTestFinished);
  const client = await lambdaClient({ region: null, maxInFlight: 1 });
  onTestFinished(() => client.destroy());
  const invoker = createInvoker(await lambdaSdk(), client, new LoopTurns(32), () => Promise.reject(new Error("nothing is put aside")));
  const invoke = async (payload: string, onLine: (line: LambdaLine) => void) => {
    const { signal } = new AbortController();
    const end = await invoker.invoke({ target: { functionName: "splitrun", qualifier: "live" }, payload, buffered: false, firstMs: 60_000, silentMs: 60_000, signal, onLine });
    expect(end.kind).toBe("answered");
  };
  await invoke(await requestOf(folder, busySource), () => undefined);
  const file = path.join(folder, "go-on");
  const lines: LambdaLine[] = [];
  await invoke(await requestOf(folder, slowSource(file)), (line) => {
    lines.push(line);
    if (line.kind === "heartbeat") void writeFile(file, "");
  });
  const of = <Kind extends LambdaLine["kind"]>(kind: Kind) => lines.filter((line): line is Extract<LambdaLine, { kind: Kind }> => line.kind === kind);
  expect(of("invocation-began")).toMatchObject([{ cold: false }]);
  const [endMs = NaN] = of("invocation-ended").map(({ cpuMs }) => cpuMs);
  const beatsMs = of("heartbeat").map(({ cpuMs }) => cpuMs);
  expect(beatsMs.length).toBeGreaterThan(0);
  expect(Math.max(...beatsMs)).toBeLessThanOrEqual(endMs);
  expect(beatsMs).toEqual(beatsMs.toSorted((a, b) => a - b));
});
