import { writeFile } from "node:fs/promises";
import path from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import type { InferSpec, PostprocessSpec } from "../../task-manager/protocol.ts";
import { inferBatch } from "../../task-manager/pipeline/infer-batch.ts";
import type { InputForm } from "../../task-manager/pipeline/model-fit.ts";
import { createInputData, openModel, type Model } from "../../task-manager/pipeline/model.ts";
import { createPostprocessor } from "../../task-manager/pipeline/postprocess.ts";
import { TaskRefused } from "../../task-manager/tasks/types.ts";
import { temporaryFolder } from "../support/function-task.ts";
import { encodeModel, meanColorModel, pickyModel, type Dimension } from "../support/onnx.ts";

const infer: InferSpec = { batch: 4, sessions: 1, intraOpThreads: 1, interOpThreads: 1, batchWaitMs: 0, executionProviders: ["cpu"] };
const nchw: InputForm = { shape: [3, 2, 2], dtype: "float32", layout: "nchw" };
const none: PostprocessSpec = { activation: "none", labels: null, topK: 1 };

interface OpenOptions {
  readonly input?: InputForm;
  readonly postprocess?: Partial<PostprocessSpec>;
  readonly infer?: Partial<InferSpec>;
}

async function open(model: Buffer, options: OpenOptions = {}): Promise<Model> {
  const folder = await temporaryFolder(onTestFinished);
  const file = path.join(folder, "model.onnx");
  await writeFile(file, model);
  const opened = await openModel({
    path: file,
    name: "model.onnx",
    infer: { ...infer, ...options.infer },
    input: options.input ?? nchw,
    postprocess: { ...none, ...options.postprocess },
  });
  onTestFinished(() => opened.close());
  return opened;
}

async function refusal(opening: Promise<Model>): Promise<TaskRefused> {
  const error = await opening.then(() => new Error("it was opened"), (thrown: unknown) => thrown);
  if (!(error instanceof TaskRefused)) throw error;
  return error;
}

/** Images of one value each, all channels alike. */
function images(form: InputForm, values: readonly number[], rowsMax: number) {
  const data = createInputData(form, rowsMax);
  const length = data.length / rowsMax;
  values.forEach((value, row) => data.fill(value, row * length, (row + 1) * length));
  return data;
}

describe("a run", () => {
  test("gives each image its own result, a part-full batch too", async () => {
    const model = await open(meanColorModel({ input: ["N", 3, 2, 2] }));
    const { outcomes } = await inferBatch(model, createPostprocessor(none, null), images(nchw, [1, 2, 3], 4), 3);
    expect(outcomes).toEqual([1, 2, 3].map((value) => ({ output: { values: [8 * value, 8 * value, 8 * value] } })));
  });

  test("pads a part-full batch for a model with a fixed one, and drops what that gives", async () => {
    const model = await open(meanColorModel({ input: [4, 3, 2, 2] }), { infer: { batch: 32 } });
    expect(model.rowsMax).toBe(4);
    const { outcomes } = await inferBatch(model, createPostprocessor(none, null), images(nchw, [1, 2, 99, 99], 4), 2);
    expect(outcomes).toEqual([1, 2].map((value) => ({ output: { values: [8 * value, 8 * value, 8 * value] } })));
  });

  test.each(["N", 4] as const)("that fails is done again image by image, so that only the guilty one fails (batch %s)", async (batch) => {
    const model = await open(pickyModel(batch));
    const { outcomes } = await inferBatch(model, createPostprocessor(none, null), images(nchw, [0, 5, 1], 4), 3);
    expect(outcomes[0]).toEqual({ output: { values: [10] } });
    expect(outcomes[2]).toEqual({ output: { values: [20] } });
    expect(outcomes[1]?.error).toMatchObject({ code: "INFERENCE_FAILED", stage: "infer", retryable: false });
    expect(outcomes[1]?.error?.message).toMatch(/out of data bounds/);
  });

  test("leaves an error of postprocessing with its image", async () => {
    const model = await open(meanColorModel({ input: ["N", 3, 2, 2] }));
    const { outcomes } = await inferBatch(model, createPostprocessor(none, null), images(nchw, [1, NaN], 4), 2);
    expect(outcomes[0]?.output).toEqual({ values: [8, 8, 8] });
    expect(outcomes[1]?.error).toMatchObject({ code: "POSTPROCESS_FAILED", stage: "postprocess" });
  });

  test.each([
    ["uint8", 3, 24],
    ["float16", 0x4200, 24],
  ] as const)("takes %s", async (dtype, bits, expected) => {
    const input: InputForm = { ...nchw, dtype };
    const model = await open(meanColorModel({ input: ["N", 3, 2, 2], inputType: dtype }), { input });
    const { outcomes } = await inferBatch(model, createPostprocessor(none, null), images(input, [bits], 4), 1);
    expect(outcomes).toEqual([{ output: { values: [expected, expected, expected] } }]);
  });

  test("takes images with their channels last", async () => {
    const input: InputForm = { shape: [2, 2, 3], dtype: "float32", layout: "nhwc" };
    const model = await open(meanColorModel({ input: ["N", 2, 2, 3], layout: "nhwc" }), { input });
    const { outcomes } = await inferBatch(model, createPostprocessor(none, null), images(input, [2], 4), 1);
    expect(outcomes).toEqual([{ output: { values: [16, 16, 16] } }]);
  });
});

describe("what a model tells of itself", () => {
  test("are the names, types and shapes of its inputs and outputs", async () => {
    const model = await open(meanColorModel({ input: ["N", 3, 2, 2] }));
    expect(model.inputs).toEqual([{ name: "x", type: "float32", shape: ["N", 3, 2, 2] }]);
    expect(model.outputs).toEqual([{ name: "y", type: "float32", shape: ["N", 3] }]);
  });

  test("is completed by one run where it leaves dimensions open", async () => {
    const model = await open(meanColorModel({ input: ["N", "C", "H", "W"], classes: "K", weights: 5 }));
    expect(model.outputs).toEqual([{ name: "y", type: "float32", shape: ["N", 5] }]);
  });

  test("tells which of several outputs holds the scores", async () => {
    expect((await open(twoOutputs(2), { postprocess: { activation: "softmax" } })).scores).toBe("y");
  });
});

/** The scores y [N, 3], and beside them the mean in as many dimensions. */
function twoOutputs(rank: 2 | 1): Buffer {
  return encodeModel({
    inputs: [{ name: "x", shape: ["N", 3, 2, 2] }],
    outputs: [{ name: "y", shape: ["N", 3] }, rank === 2 ? { name: "z", shape: ["N", 3, 2, 2] } : { name: "z", shape: ["N", 3] }],
    nodes: [
      { op: "ReduceMean", inputs: ["x"], outputs: ["y"], attributes: { axes: [2, 3], keepdims: 0 } },
      rank === 2 ? { op: "Identity", inputs: ["x"], outputs: ["z"] } : { op: "Identity", inputs: ["y"], outputs: ["z"] },
    ],
    weights: [],
  });
}

function twoInputs(): Buffer {
  return encodeModel({
    inputs: [{ name: "x", shape: ["N", 3, 2, 2] }, { name: "mask", shape: ["N", 3, 2, 2] }],
    outputs: [{ name: "y", shape: ["N", 3, 2, 2] }],
    nodes: [{ op: "Add", inputs: ["x", "mask"], outputs: ["y"] }],
    weights: [],
  });
}

describe("a model that does not fit is refused before the start", () => {
  const good = meanColorModel({ input: ["N", 3, 2, 2] });
  test.each<[string, Buffer, OpenOptions, { readonly code: string; readonly field: string; readonly message: RegExp }]>([
    ["no model at all", Buffer.from("<html>not found</html>"), {}, { code: "MODEL_UNREADABLE", field: "task.model", message: /model\.onnx cannot be loaded/ }],
    ["an empty file", Buffer.alloc(0), {}, { code: "MODEL_UNREADABLE", field: "task.model", message: /model\.onnx/ }],
    ["a truncated file", good.subarray(0, good.length - 20), {}, { code: "MODEL_UNREADABLE", field: "task.model", message: /model\.onnx/ }],
    ["two inputs", twoInputs(), {}, { code: "MODEL_INPUTS", field: "task.model", message: /2 inputs \(x, mask\)/ }],
    ["another size", meanColorModel({ input: ["N", 3, 299, 299] }), {}, { code: "MODEL_INPUT_SHAPE", field: "task.preprocess", message: /\[N, 3, 299, 299\].*\[N, 3, 2, 2\].*299 x 299/ }],
    ["another layout", meanColorModel({ input: ["N", 2, 2, 3], layout: "nhwc" }), {}, { code: "MODEL_INPUT_SHAPE", field: "task.preprocess.layout", message: /set task\.preprocess\.layout to nhwc/ }],
    ["gray", unchanged(["N", 1, 2, 2]), {}, { code: "MODEL_INPUT_SHAPE", field: "task.preprocess.colorOrder", message: /colorOrder: gray, mean: \[0\.5\]/ }],
    ["a flat input", unchanged(["N", 12]), {}, { code: "MODEL_INPUT_SHAPE", field: "task.model", message: /\[N, 12\]/ }],
    ["another type", meanColorModel({ input: ["N", 3, 2, 2], inputType: "uint8" }), {}, { code: "MODEL_INPUT_TYPE", field: "task.preprocess.dtype", message: /dtype to uint8/ }],
    ["a type that no image has", meanColorModel({ input: ["N", 3, 2, 2], inputType: "int64" }), {}, { code: "MODEL_INPUT_TYPE", field: "task.model", message: /int64/ }],
    ["open dimensions that do not take this size after all", pinnedModel(), {}, { code: "MODEL_INPUT_SHAPE", field: "task.preprocess", message: /does not run on an input "x" of \[1, 3, 2, 2\]/ }],
    ["too few labels", good, { postprocess: { activation: "softmax", labels: ["a", "b"] } }, { code: "LABELS_COUNT", field: "task.postprocess.labels", message: /2 labels for a model of 3 classes/ }],
    ["too few labels for classes that only a run tells", meanColorModel({ input: ["N", "C", "H", "W"], classes: "K", weights: 5 }), { postprocess: { activation: "softmax", labels: ["a"] } }, { code: "LABELS_COUNT", field: "task.postprocess.labels", message: /1 labels for a model of 5/ }],
    ["two outputs that both may be scores", twoOutputs(1), { postprocess: { activation: "softmax" } }, { code: "MODEL_OUTPUTS", field: "task.postprocess.activation", message: /y: float32 \[N, 3\]; z: float32 \[N, 3\].*none/ }],
    ["one class for off and on", meanColorModel({ input: ["N", 3, 2, 2], classes: 1, weights: 1 }), { postprocess: { activation: "off-sample" } }, { code: "MODEL_OUTPUTS", field: "task.postprocess", message: /two classes/ }],
    ["hardware that is not there", good, { infer: { executionProviders: ["tpu"] } }, { code: "EXECUTION_PROVIDER", field: "task.infer.executionProviders", message: /"tpu" is not available here; available: .*cpu/ }],
    ["a provider whose library is not there", good, { infer: { executionProviders: ["cuda"] } }, { code: "EXECUTION_PROVIDER", field: "task.infer.executionProviders", message: /cuda/ }],
  ])("%s", async (_name, model, options, expected) => {
    const { code, field, message } = await refusal(open(model, options));
    expect({ code, field }).toEqual({ code: expected.code, field: expected.field });
    expect(message).toMatch(expected.message);
  });
});

function unchanged(shape: readonly Dimension[]): Buffer {
  return encodeModel({
    inputs: [{ name: "x", shape }],
    outputs: [{ name: "y", shape }],
    nodes: [{ op: "Identity", inputs: ["x"], outputs: ["y"] }],
    weights: [],
  });
}

/** Declares any size and takes 4 x 4 only. */
function pinnedModel(): Buffer {
  return encodeModel({
    inputs: [{ name: "x", shape: ["N", 3, "H", "W"] }],
    outputs: [{ name: "y", shape: ["N", 48] }],
    nodes: [{ op: "Reshape", inputs: ["x", "shape"], outputs: ["y"] }],
    weights: [{ name: "shape", shape: [2], values: BigInt64Array.of(-1n, 48n) }],
  });
}
