/** Threads that load their libraries before it is known what they are to do with them. */
import { MessageChannel, SHARE_ENV, Worker, type MessagePort, type ResourceLimits } from "node:worker_threads";

export type NativeRole = "infer" | "decode";

interface PreparedThread {
  readonly worker: Worker;
  /** Takes what the thread is to do. */
  readonly port: MessagePort;
}

export type PreparedThreads = Map<NativeRole, PreparedThread>;

// Native work makes few objects that die young: the usual 48 MB for them would be memory without use.
export const nativeWorkLimits: ResourceLimits = { maxYoungGenerationSizeMb: 6 };

/** One thread of each of `roles`. What cannot be loaded is not told of before it is needed. */
export function prepareThreads(entry: URL, roles: readonly NativeRole[]): PreparedThreads {
  const threads: PreparedThreads = new Map();
  for (const role of roles) {
    const { port1: port, port2 } = new MessageChannel();
    const worker = new Worker(entry, {
      name: `splitrun-${role}`,
      workerData: { splitrunRole: role, splitrunData: port2 },
      transferList: [port2],
      // What the job sets comes later.
      env: SHARE_ENV,
      resourceLimits: nativeWorkLimits,
    });
    const forget = () => void (threads.get(role)?.worker === worker && threads.delete(role));
    worker.on("error", forget).on("exit", forget);
    threads.set(role, { worker, port });
  }
  return threads;
}

/** `data` is structured-cloned. undefined: there is none of this role. */
export function takePrepared(threads: PreparedThreads, role: NativeRole, data: object): Worker | undefined {
  const thread = threads.get(role);
  threads.delete(role);
  thread?.port.postMessage(data);
  thread?.port.close();
  return thread?.worker;
}

/** They end by themselves. */
export function dropPrepared(threads: PreparedThreads): void {
  for (const { port } of threads.values()) port.close();
  threads.clear();
}
