import { randomUUID } from "node:crypto";
import path from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { createFunctionArtifacts } from "../../../task-manager/lambda/artifacts.ts";
import { functionMachine } from "../../../task-manager/lambda/machine.ts";
import { startResident, type ResidentOptions, type TaskRequest } from "../../../task-manager/lambda/resident.ts";
import { protocolVersion } from "../../../task-manager/protocol.ts";
import { functionTask, temporaryFolder } from "../../support/function-task.ts";

async function optionsWith(env: Readonly<Record<string, string>>): Promise<ResidentOptions> {
  const folder = await temporaryFolder(onTestFinished);
  const { task } = await functionTask(folder, "export default (item) => item;");
  const request: TaskRequest = {
    protocol: protocolVersion, kind: "warm", taskManager: "tm-1", coresByMemory: false, env, artifacts: [], grants: [], assigns: [], beginWithinMs: 0, buffered: null,
    configure: { kind: "configure", task, reportMs: 20, heartbeatMs: 100, itemTimeoutMs: 60_000, profile: "off", faults: null, memoryLimitMb: null },
  };
  return { request, artifacts: createFunctionArtifacts(path.join(folder, "artifacts"), folder), machine: functionMachine(process.env) };
}

test("the environment of a task that is being closed is given up at once, so that it takes nothing from the one that follows", async () => {
  const name = `SPLITRUN_TEST_${randomUUID().replaceAll("-", "_")}`;
  onTestFinished(() => void delete process.env[name]);
  const options = await optionsWith({ [name]: "set" });
  const first = startResident(options);
  expect(process.env[name]).toBe("set");
  const closed = first.close();
  const second = startResident(options);
  await closed;
  expect(process.env[name]).toBe("set");
  await second.close();
  expect(process.env[name]).toBeUndefined();
});

test("a Task Manager that ends while nobody hears it is known to be over; who hears it is told", async () => {
  const options = await optionsWith({});
  const [unheard, heard] = [startResident(options), startResident(options)];
  const left = new Promise<number>((exit) => heard.listen({ hear: () => Promise.resolve(), idle: () => undefined, exit, kill: () => undefined }));
  expect([unheard.isOver, heard.isOver]).toEqual([false, false]);
  for (const each of [unheard, heard]) each.send({ kind: "stop", how: "drain" });
  expect(await left).toBe(0);
  await until(() => unheard.isOver);
  expect(heard.isOver).toBe(false);
  await Promise.all([unheard.close(), heard.close()]);
});

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
}
