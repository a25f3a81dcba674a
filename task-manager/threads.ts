import { fileURLToPath } from "node:url";
import { Worker, workerData } from "node:worker_threads";
import type { DecoderData } from "./pipeline/decoder.ts";
import type { InferThreadData } from "./pipeline/infer-thread.ts";
import { dropPrepared, nativeWorkLimits, takePrepared, type PreparedThreads } from "./prepared-threads.ts";

/** What a thread of the Task Manager can be; its code is loaded in that thread only. */
const roles = {
  decode: async () => (await import("./pipeline/decode-thread.ts")).runDecodeThread(workerData as DecoderData),
  infer: async () => (await import("./pipeline/infer-thread.ts")).runInferThread(workerData as InferThreadData),
  function: async () => (await import("./tasks/function.ts")).runFunctionThread(),
} as const satisfies Record<string, () => Promise<void>>;
export type ThreadRole = keyof typeof roles;

/** Source of `native-thread.ts`, which the build puts here; not there when this runs from its sources. */
declare const __SPLITRUN_NATIVE_THREAD__: string | undefined;
/** Where the build puts it into a file of its own: that file. */
declare const __SPLITRUN_NATIVE_THREAD_FILE__: string | undefined;
/** Where the build puts this into several files: the one that threads start from. */
declare const __SPLITRUN_THREAD_FILE__: string | undefined;

// The Task Manager travels as one file, so its threads start from that same file.
const ownFile = fileURLToPath(typeof __SPLITRUN_THREAD_FILE__ === "undefined" ? import.meta.url : new URL(__SPLITRUN_THREAD_FILE__, import.meta.url));
let threadEntry = ownFile;

/** Threads start from this file instead: a bundle of the Task Manager, where the caller runs from its sources. */
export function setThreadEntry(path: string): void {
  threadEntry = path;
}

let prepared: PreparedThreads = new Map();

/** Native threads are taken from these as long as there are any. */
export function usePreparedThreads(threads: PreparedThreads): void {
  prepared = threads;
}

/** Ends those that nobody has come for. */
export function dropPreparedThreads(): void {
  dropPrepared(prepared);
}

/** Starts a thread in a role, or takes a prepared one; `data` is structured-cloned. */
export function startThread(role: ThreadRole, data: object): Worker {
  const native = role !== "function";
  const ready = native ? takePrepared(prepared, role, data) : undefined;
  if (ready !== undefined) return ready;
  return new Worker(native ? entryOfNative() : threadEntry, {
    name: `splitrun-${role}`,
    // What has no file of its own finds packages from here.
    workerData: { ...data, splitrunRole: role, splitrunFile: threadEntry },
    ...(native ? { resourceLimits: nativeWorkLimits } : {}),
  });
}

/** Its own source where there is one: compiling the whole Task Manager again costs each thread 60 ms and 5 MB. */
function entryOfNative(): string | URL {
  if (typeof __SPLITRUN_NATIVE_THREAD_FILE__ !== "undefined") return new URL(__SPLITRUN_NATIVE_THREAD_FILE__, import.meta.url);
  if (typeof __SPLITRUN_NATIVE_THREAD__ === "undefined" || threadEntry !== ownFile) return threadEntry;
  return new URL(`data:text/javascript;base64,${Buffer.from(__SPLITRUN_NATIVE_THREAD__).toString("base64")}`);
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
