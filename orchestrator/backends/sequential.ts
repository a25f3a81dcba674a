import { pathToFileURL } from "node:url";
import type { Channel, OrchestratorMessage, TaskManagerMessage } from "../../task-manager/protocol.ts";
import { taskManagerBundlePath } from "./task-manager-bundle.ts";
import type { Backend, ExitInfo, LaunchedTaskManager } from "./types.ts";

type TaskManagerModule = typeof import("../../task-manager/main.ts");

export interface SequentialOptions {
  readonly artifactDirectory: string;
}

/** Everything in this process and on this thread, for debugging: breakpoints work, and a hang hangs. */
export function sequentialBackend(options: SequentialOptions): Backend {
  const ends = new Map<LaunchedTaskManager, () => void>();
  return {
    name: "sequential",
    supports: { prefetch: true, reclaim: true, cancel: true },
    meter: null,
    taskManagersMax: 1,

    async launch(spec) {
      const { startTaskManager, createArtifactStore, createExecutor } = (await import(
        pathToFileURL(taskManagerBundlePath()).href
      )) as TaskManagerModule;
      Object.assign(process.env, spec.env);
      const pair = memoryChannels();
      let end: (info: ExitInfo) => void = () => undefined;
      const exited = new Promise<ExitInfo>((resolve) => {
        end = resolve;
      });
      const exit = (exitCode: number) => {
        pair.close();
        end({ exitCode, signal: null });
      };
      startTaskManager({
        id: spec.name,
        channel: pair.taskManager,
        artifacts: createArtifactStore(options.artifactDirectory),
        threads: false,
        createExecutor,
        exit,
        // Nothing is watched on the very thread that works.
        kill: () => exit(1),
      });
      // What it prints is the orchestrator's own output.
      const launched = { channel: pair.orchestrator, exited, logTo: () => undefined };
      ends.set(launched, () => exit(0));
      return launched;
    },

    async stop(launched) {
      ends.get(launched)?.();
      ends.delete(launched);
    },

    async close() {
      for (const launched of [...ends.keys()]) await this.stop(launched);
    },
  };
}

interface ChannelPair {
  readonly orchestrator: Channel<OrchestratorMessage, TaskManagerMessage>;
  readonly taskManager: Channel<TaskManagerMessage, OrchestratorMessage>;
  close(): void;
}

/** Two ends in one process. Messages arrive on a later turn, as over a real carrier, and as copies. */
function memoryChannels(): ChannelPair {
  const closeListeners: (() => void)[] = [];
  let open = true;
  const close = () => {
    if (!open) return;
    open = false;
    for (const listener of closeListeners) listener();
  };
  function half<Out, In>(): { end: Channel<Out, In>; deliver: (message: In) => void; connect: (deliver: (message: Out) => void) => void } {
    const listeners: ((message: In) => void)[] = [];
    const early: In[] = [];
    let other: (message: Out) => void = () => undefined;
    return {
      connect: (deliver) => {
        other = deliver;
      },
      deliver(message) {
        if (!open) return;
        if (listeners.length === 0) early.push(message);
        for (const listener of listeners) listener(message);
      },
      end: {
        send: (message) =>
          new Promise((resolve) => {
            const copy = structuredClone(message);
            setImmediate(() => {
              other(copy);
              resolve();
            });
          }),
        onMessage(listener) {
          listeners.push(listener);
          for (const message of early.splice(0)) listener(message);
        },
        onClose: (listener) => void closeListeners.push(listener),
        close,
      },
    };
  }
  const orchestrator = half<OrchestratorMessage, TaskManagerMessage>();
  const taskManager = half<TaskManagerMessage, OrchestratorMessage>();
  orchestrator.connect(taskManager.deliver);
  taskManager.connect(orchestrator.deliver);
  return { orchestrator: orchestrator.end, taskManager: taskManager.end, close };
}
