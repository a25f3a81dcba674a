import type { JsonValue } from "../protocol.ts";
import type { WorkError } from "../tasks/types.ts";
import { ItemFailure } from "./failure.ts";
import type { Model, InputData } from "./model.ts";
import type { OutputTensor, Postprocessor } from "./postprocess.ts";
import { workErrorOf } from "./work-error.ts";

export type Outcome =
  | { readonly output: JsonValue; readonly error?: never }
  | { readonly error: WorkError; readonly output?: never };

export interface BatchOutcome {
  /** One for each row. */
  readonly outcomes: readonly Outcome[];
  readonly inferMs: number;
  readonly postprocessMs: number;
}

/** Infers and postprocesses the first `rows` images. Never throws: what goes wrong is the outcome of the image whose fault it is. */
export async function inferBatch(model: Model, postprocess: Postprocessor, pixels: InputData, rows: number): Promise<BatchOutcome> {
  const startMs = performance.now();
  const runs = await runOrSplit(model, pixels, rows);
  const inferredMs = performance.now();
  const outcomes = runs.map((run) => ("error" in run ? run : postprocessRow(postprocess, run.outputs, run.row)));
  return { outcomes, inferMs: inferredMs - startMs, postprocessMs: performance.now() - inferredMs };
}

type RowRun = { readonly outputs: readonly OutputTensor[]; readonly row: number } | { readonly error: WorkError };

async function runOrSplit(model: Model, pixels: InputData, rows: number): Promise<RowRun[]> {
  try {
    const outputs = await model.run(pixels, rows);
    return Array.from({ length: rows }, (_, row) => ({ outputs, row }));
  } catch (error) {
    if (rows === 1) return [{ error: inferenceFailed(error) }];
    return runSingly(model, pixels, rows);
  }
}

/** The batch failed, and one image may be the reason: each alone, so that its neighbours get their results. */
async function runSingly(model: Model, pixels: InputData, rows: number): Promise<RowRun[]> {
  const length = pixels.length / model.rowsMax;
  // A copy, since a model with a fixed batch overwrites the rows behind the one that it is given.
  const alone = pixels.slice();
  const runs: RowRun[] = [];
  for (let row = 0; row < rows; row++) {
    alone.set(pixels.subarray(row * length, (row + 1) * length));
    runs.push(...(await runOrSplit(model, alone, 1)));
  }
  return runs;
}

function postprocessRow(postprocess: Postprocessor, outputs: readonly OutputTensor[], row: number): Outcome {
  try {
    return { output: postprocess(outputs, row) };
  } catch (error) {
    if (error instanceof ItemFailure) return { error: workErrorOf(error) };
    return { error: { code: "POSTPROCESS_FAILED", stage: "postprocess", message: String(error), retryable: false } };
  }
}

function inferenceFailed(error: unknown): WorkError {
  const message = error instanceof Error ? error.message : String(error);
  return { code: "INFERENCE_FAILED", stage: "infer", message, retryable: false };
}
