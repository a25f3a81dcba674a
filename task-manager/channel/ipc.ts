import type { Channel, OrchestratorMessage, TaskManagerMessage } from "../protocol.ts";
import { orchestratorMessage } from "../protocol.ts";

/** The child's end of a forked process's IPC channel. A message that breaks the protocol closes it. */
export function ipcChannel(): Channel<TaskManagerMessage, OrchestratorMessage> {
  const closeListeners: (() => void)[] = [];
  process.once("disconnect", () => {
    for (const listener of closeListeners) listener();
  });
  return {
    send: (message) =>
      new Promise((resolve) => {
        if (!process.connected || process.send === undefined) return resolve();
        process.send(message, undefined, undefined, () => resolve());
      }),
    onMessage(listener) {
      process.on("message", (raw) => {
        const parsed = orchestratorMessage.safeParse(raw);
        if (parsed.success) listener(parsed.data);
        else process.disconnect();
      });
    },
    onClose(listener) {
      closeListeners.push(listener);
    },
    close() {
      if (process.connected) process.disconnect();
    },
  };
}
