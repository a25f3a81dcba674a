import { parentPort } from "node:worker_threads";
import { createDecoder, type DecoderData, type ToDecoder } from "./decoder.ts";

export { prepareDecoder } from "./decoder.ts";

/** A decoder on a thread of its own: batch buffers leave by transfer. */
export async function runDecodeThread(data: DecoderData): Promise<void> {
  if (parentPort === null) throw new Error("runs on a worker thread only");
  const port = parentPort;
  const take = await createDecoder(data, {
    post: (message, transfer) => port.postMessage(message, transfer),
    onClosed: () => port.close(),
  });
  port.on("message", (message: ToDecoder) => take(message));
}
