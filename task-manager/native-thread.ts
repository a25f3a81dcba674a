/** Entry of the threads that decode and infer, in a bundle of its own: see `startThread` and `prepareThreads`. */
import { once } from "node:events";
import { workerData, type MessagePort } from "node:worker_threads";
import type { DecoderData } from "./pipeline/decoder.ts";
import type { InferThreadData } from "./pipeline/infer-thread.ts";

interface NativeThread {
  readonly splitrunRole: string;
  /** A prepared thread is told here what else there would be. */
  readonly splitrunData?: MessagePort;
}

const { splitrunRole, splitrunData } = workerData as NativeThread;
// Not awaited here: one of its bundles is CommonJS. What it throws ends the thread, and whoever started it hears of it.
void run();

async function run(): Promise<void> {
  if (splitrunRole === "decode") {
    const { prepareDecoder, runDecodeThread } = await import("./pipeline/decode-thread.ts");
    const data = await dataAfter(prepareDecoder);
    if (data !== undefined) await runDecodeThread(data as DecoderData);
  } else {
    const { prepareInferThread, runInferThread } = await import("./pipeline/infer-thread.ts");
    const data = await dataAfter(prepareInferThread);
    if (data !== undefined) await runInferThread(data as InferThreadData);
  }
}

/** undefined: nothing is to be done, and the thread ends. */
async function dataAfter(prepare: () => Promise<void>): Promise<unknown> {
  if (splitrunData === undefined) return workerData;
  const told = once(splitrunData, "message").then(([data]: unknown[]) => data);
  const over = once(splitrunData, "close").then(() => undefined);
  // What fails now fails again when it is needed, where it is heard.
  await prepare().catch(() => undefined);
  return Promise.race([told, over]);
}
