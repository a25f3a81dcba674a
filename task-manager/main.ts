/** The Task Manager as a process, and the entry of its threads. Importing it starts nothing. */
import { isMainThread, workerData } from "node:worker_threads";
import { pathToFileURL } from "node:url";
import { createArtifactStore } from "./artifact-store.ts";
import { ipcChannel } from "./channel/ipc.ts";
import { startTaskManager } from "./task-manager.ts";
import { createExecutor } from "./tasks/create-executor.ts";
import { runThreadRole } from "./threads.ts";

export { createArtifactStore } from "./artifact-store.ts";
export { startTaskManager } from "./task-manager.ts";
export { createExecutor } from "./tasks/create-executor.ts";

function startProcess(): void {
  const [id = "task-manager", artifactDirectory = "artifacts"] = process.argv.slice(2);
  const channel = ipcChannel();
  // The orchestrator is gone: nobody wants the results. Not a clean exit, which would wait for native calls.
  const leave = () => process.kill(process.pid, "SIGKILL");
  channel.onClose(leave);
  // It may have gone before anybody could listen for that.
  if (!process.connected) leave();
  // Ctrl-C reaches the whole process group; the orchestrator decides what becomes of this process.
  process.on("SIGINT", () => undefined);
  startTaskManager({
    id,
    channel,
    artifacts: createArtifactStore(artifactDirectory),
    threads: true,
    createExecutor,
    exit: (code) => process.exit(code),
    kill: (signal) => process.kill(process.pid, signal),
  });
}

const isProgram = process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href;
if (!isMainThread && (workerData as { splitrunRole?: string } | null)?.splitrunRole !== undefined) await runThreadRole();
else if (isMainThread && isProgram) startProcess();
