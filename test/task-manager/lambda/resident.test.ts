import { randomUUID } from "node:crypto";
import path from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { createFunctionArtifacts } from "../../../task-manager/lambda/artifacts.ts";
import { functionMachine } from "../../../task-manager/lambda/machine.ts";
import { startResident, type TaskRequest } from "../../../task-manager/lambda/resident.ts";
import { protocolVersion } from "../../../task-manager/protocol.ts";
import { functionTask, temporaryFolder } from "../../support/function-task.ts";

test("the environment of a task that is being closed is given up at once, so that it takes nothing from the one that follows", async () => {
  const name = `SPLITRUN_TEST_${randomUUID().replaceAll("-", "_")}`;
  onTestFinished(() => void delete process.env[name]);
  const folder = await temporaryFolder(onTestFinished);
  const { task } = await functionTask(folder, "export default (item) => item;");
  const request: TaskRequest = {
    protocol: protocolVersion, kind: "warm", taskManager: "tm-1", coresByMemory: false, env: { [name]: "set" }, artifacts: [], grants: [], assigns: [], beginWithinMs: 0, buffered: null,
    configure: { kind: "configure", task, reportMs: 20, heartbeatMs: 100, itemTimeoutMs: 60_000, profile: "off", faults: null, memoryLimitMb: null },
  };
  const options = { request, artifacts: createFunctionArtifacts(path.join(folder, "artifacts"), folder), machine: functionMachine(process.env) };
  const first = startResident(options);
  expect(process.env[name]).toBe("set");
  const closed = first.close();
  const second = startResident(options);
  await closed;
  expect(process.env[name]).toBe("set");
  await second.close();
  expect(process.env[name]).toBeUndefined();
});
