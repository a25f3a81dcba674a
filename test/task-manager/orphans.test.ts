import { fork } from "node:child_process";
import { once } from "node:events";
import { describe, expect, onTestFinished, test } from "vitest";
import { taskManagerBundle } from "../support/bundle.ts";
import { functionTask, temporaryFolder } from "../support/function-task.ts";
import { startTaskManagerProcess } from "../support/task-manager-process.ts";

describe("a Task Manager without its orchestrator ends", () => {
  test("when that was gone before it had started", async () => {
    const child = fork(await taskManagerBundle(), ["tm-1", "artifacts"], { cwd: await temporaryFolder(onTestFinished), stdio: ["ignore", "ignore", "inherit", "ipc"] });
    onTestFinished(() => void child.kill("SIGKILL"));
    const ended = once(child, "exit");
    child.disconnect();
    await ended;
    expect(child.signalCode).toBe("SIGKILL");
  });

  test("when it goes while user code blocks its thread", async () => {
    const folder = await temporaryFolder(onTestFinished);
    const { task, artifacts } = await functionTask(folder, "export default () => { for (;;); };");
    const [artifact] = artifacts.values();
    const manager = await startTaskManagerProcess({ folder, task, artifact: artifact?.path ?? "" });
    manager.assign([1]);
    await manager.until(() => manager.begun().length > 0);
    manager.child.disconnect();
    await once(manager.child, "exit");
    expect(manager.child.signalCode).toBe("SIGKILL");
  });
});
