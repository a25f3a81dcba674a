import { parentPort } from "node:worker_threads";
import type { TensorShape } from "../protocol.ts";
import { TaskRefused } from "../tasks/types.ts";
import { threadsNowMs } from "./clock.ts";
import { inferBatch, type Outcome } from "./infer-batch.ts";
import { openModel, prepareRuntime, viewInputData, type Model, type ModelOptions } from "./model.ts";
import { createPostprocessor } from "./postprocess.ts";

export type InferThreadData = ModelOptions;

export type ToInferThread =
  | { readonly kind: "batch"; readonly id: number; readonly buffer: ArrayBuffer; readonly rows: number; readonly sinceMs: number }
  /** Ends the thread once the runs before it are done: ending it under a run would abort the process. */
  | { readonly kind: "close" };

export type FromInferThread =
  | { readonly kind: "ready"; readonly inputs: readonly TensorShape[]; readonly outputs: readonly TensorShape[]; readonly rowsMax: number }
  | { readonly kind: "refused"; readonly code: string; readonly field: string; readonly message: string }
  | {
      readonly kind: "batch";
      readonly id: number;
      readonly buffer: ArrayBuffer;
      readonly outcomes: readonly Outcome[];
      readonly inferMs: number;
      readonly postprocessMs: number;
      readonly waitMs: number;
    };

/** Loads what inference needs whatever the model. */
export const prepareInferThread = prepareRuntime;

/** The thread's side: one session, whose runs block this thread. */
export async function runInferThread(data: InferThreadData): Promise<void> {
  const port = parentPort;
  if (port === null) throw new Error("runs on a worker thread only");
  const post = (message: FromInferThread, transfer: readonly ArrayBuffer[]) => port.postMessage(message, transfer);
  let model: Model;
  try {
    model = await openModel(data);
  } catch (error) {
    // The listener keeps the thread until it is told to close, as if it had a model.
    port.on("message", () => port.close());
    return post({ kind: "refused", ...refusalOf(error) }, []);
  }
  const postprocess = createPostprocessor(data.postprocess, model.scores);

  async function run({ id, buffer, rows, sinceMs }: Extract<ToInferThread, { kind: "batch" }>): Promise<void> {
    const waitMs = threadsNowMs() - sinceMs;
    const done = await inferBatch(model, postprocess, viewInputData(data.input.dtype, buffer), rows);
    post({ kind: "batch", id, buffer, waitMs, ...done }, [buffer]);
  }
  async function close(): Promise<void> {
    await model.close();
    port?.close();
  }

  let work = Promise.resolve();
  port.on("message", (message: ToInferThread) => {
    work = work.then(() => (message.kind === "batch" ? run(message) : close()));
  });
  post({ kind: "ready", inputs: model.inputs, outputs: model.outputs, rowsMax: model.rowsMax }, []);
}

function refusalOf(error: unknown): { code: string; field: string; message: string } {
  if (error instanceof TaskRefused) return { code: error.code, field: error.field, message: error.message };
  return { code: "MODEL_UNREADABLE", field: "task.model", message: error instanceof Error ? error.message : String(error) };
}
