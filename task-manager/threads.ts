import { fileURLToPath } from "node:url";
import { Worker, workerData } from "node:worker_threads";

/** What a thread of the Task Manager can be; its code is loaded in that thread only. */
const roles = {
  decode: async () => (await import("./pipeline/decode-thread.ts")).runDecodeThread(),
  infer: async () => (await import("./pipeline/infer-thread.ts")).runInferThread(),
  function: async () => (await import("./tasks/function.ts")).runFunctionThread(),
} as const satisfies Record<string, () => Promise<void>>;
export type ThreadRole = keyof typeof roles;

// The Task Manager travels as one file, so its threads start from that same file.
let threadEntry = fileURLToPath(import.meta.url);

/** Threads start from this file instead: a bundle of the Task Manager, where the caller runs from its sources. */
export function setThreadEntry(path: string): void {
  threadEntry = path;
}

// Native work makes few objects that die young: the usual 48 MB for them would be memory without use.
const nativeWorkLimits = { maxYoungGenerationSizeMb: 6 };

/** Starts a thread in a role; `data` is structured-cloned and found beside the role in its `workerData`. */
export function startThread(role: ThreadRole, data: object): Worker {
  return new Worker(threadEntry, {
    name: `splitrun-${role}`,
    workerData: { ...data, splitrunRole: role },
    ...(role === "function" ? {} : { resourceLimits: nativeWorkLimits }),
  });
}

/** Called first by the entry of every thread: does what the thread was started for. */
export async function runThreadRole(): Promise<void> {
  const { splitrunRole } = workerData as { readonly splitrunRole: string };
  if (!isThreadRole(splitrunRole)) throw new Error(`unknown thread role ${JSON.stringify(splitrunRole)}`);
  await roles[splitrunRole]();
}

function isThreadRole(role: string): role is ThreadRole {
  return Object.hasOwn(roles, role);
}
