import type { InferenceSession, Tensor } from "onnxruntime-node";
import type { InferSpec, PostprocessSpec, PreprocessSpec, TensorShape } from "../protocol.ts";
import { fitInput, fitOutputs, outputsAreOpen, refusal, type InputFit, type InputForm } from "./model-fit.ts";
import type { OutputTensor } from "./postprocess.ts";

export interface ModelOptions {
  readonly path: string;
  /** As the user knows it, for messages. */
  readonly name: string;
  readonly infer: InferSpec;
  readonly input: InputForm;
  readonly postprocess: PostprocessSpec;
}

export type InputData = Float32Array | Uint8Array | Uint16Array;

/** A model that was found to fit what comes before and after it. */
export interface Model {
  readonly inputs: readonly TensorShape[];
  readonly outputs: readonly TensorShape[];
  /** Output that holds the scores; null with activation `none`. */
  readonly scores: string | null;
  /** Images that one run takes at most. */
  readonly rowsMax: number;
  /**
   * Runs the first `rows` images of `pixels` (which has room for `rowsMax`, or at least for `rows` where the model's
   * batch is free). Blocks its thread all the while. @throws what onnxruntime throws.
   */
  run(pixels: InputData, rows: number): Promise<readonly OutputTensor[]>;
  close(): Promise<void>;
}

/** @throws TaskRefused where the file is no model, or not one that fits. */
export async function openModel(options: ModelOptions): Promise<Model> {
  const runtime = await loadRuntime();
  checkProviders(options.infer.executionProviders, runtime.listSupportedBackends());
  const session = await createSession(runtime, options);
  try {
    return await fitModel(runtime, session, options);
  } catch (error) {
    await session.release();
    throw error;
  }
}

/** One node that gives what it is given. */
const smallestModel = "CAgSCHNwbGl0cnVuOj4KEAoBYRIBYiIISWRlbnRpdHkSCHNwbGl0cnVuWg8KAWESCgoICAESBAoCCAFiDwoBYhIKCggIARIECgIIAUIECgAQDQ==";

/** Loads onnxruntime and opens a first session, which costs 20 ms whatever its model. */
export async function prepareRuntime(): Promise<void> {
  const runtime = await loadRuntime();
  const session = await runtime.InferenceSession.create(Buffer.from(smallestModel, "base64"), { intraOpNumThreads: 1, interOpNumThreads: 1, logSeverityLevel: 4 });
  await session.release();
}

type Runtime = typeof import("onnxruntime-node");

async function loadRuntime(): Promise<Runtime> {
  const runtime = (await import("onnxruntime-node")).default as unknown as Runtime;
  // What goes wrong is thrown as well; its own lines would say it twice, on a stream that others read.
  runtime.env.logLevel = "fatal";
  return runtime;
}

function checkProviders(wanted: readonly string[], supported: readonly { readonly name: string }[]): void {
  const names = supported.map(({ name }) => name);
  const missing = wanted.find((name) => !names.includes(name));
  if (missing === undefined) return;
  throw refusal("EXECUTION_PROVIDER", "task.infer.executionProviders", `${JSON.stringify(missing)} is not available here; available: ${names.join(", ")}`);
}

async function createSession(runtime: Runtime, { path, name, infer }: ModelOptions): Promise<InferenceSession> {
  try {
    return await runtime.InferenceSession.create(path, sessionOptions(infer));
  } catch (cause) {
    const why = messageOf(cause);
    const providers = infer.executionProviders.filter((provider) => provider !== "cpu");
    if (providers.length > 0 && /provider|backend|cuda|tensorrt|webgpu|shared library/i.test(why)) {
      throw refusal("EXECUTION_PROVIDER", "task.infer.executionProviders", `${providers.join(", ")} cannot be used here: ${why}`, cause);
    }
    throw refusal("MODEL_UNREADABLE", "task.model", `${name} cannot be loaded as an ONNX model: ${why.replaceAll(path, name)}`, cause);
  }
}

function sessionOptions({ intraOpThreads, interOpThreads, executionProviders }: InferSpec): InferenceSession.SessionOptions {
  return {
    executionProviders: [...executionProviders],
    // Any lower level runs half as fast: only "all" keeps the blocked memory layout.
    graphOptimizationLevel: "all",
    intraOpNumThreads: intraOpThreads,
    interOpNumThreads: interOpThreads,
    executionMode: interOpThreads > 1 ? "parallel" : "sequential",
    logSeverityLevel: 4,
    // Threads that spin while they wait take the processor from those that decode.
    extra: { session: { intra_op: { allow_spinning: "0" }, inter_op: { allow_spinning: "0" } } },
  };
}

async function fitModel(runtime: Runtime, session: InferenceSession, options: ModelOptions): Promise<Model> {
  const { input: form, infer, postprocess } = options;
  const inputs = session.inputMetadata.map(shapeOf);
  const input = fitInput(inputs, form);
  const rowsMax = input.fixedRows ?? infer.batch;
  const run = (pixels: InputData, rows: number) => runSession(runtime, session, { pixels, rows, input, form });
  const declared = session.outputMetadata.map(shapeOf);
  const outputs = input.open || outputsAreOpen(declared) ? await probe(run, declared, input, form) : declared;
  return { inputs, outputs, scores: fitOutputs(outputs, postprocess), rowsMax, run, close: () => session.release() };
}

/** Runs one black image: the only way to know whether a model with open dimensions takes this size, and what it gives. */
async function probe(run: Model["run"], declared: readonly TensorShape[], { name, fixedRows }: InputFit, form: InputForm): Promise<TensorShape[]> {
  const given = await run(createInputData(form, fixedRows ?? 1), 1).catch((cause: unknown) => {
    throw refusal(
      "MODEL_INPUT_SHAPE",
      "task.preprocess",
      `the model does not run on an input ${JSON.stringify(name)} of [1, ${form.shape.join(", ")}]: ${messageOf(cause)}`,
      cause,
    );
  });
  return given.map(({ name: output, type, dims }, at) => ({ name: output, type, shape: [declared[at]?.shape[0] ?? "N", ...dims.slice(1)] }));
}

interface SessionInput {
  readonly pixels: InputData;
  readonly rows: number;
  readonly input: InputFit;
  readonly form: InputForm;
}

async function runSession(runtime: Runtime, session: InferenceSession, { pixels, rows, input, form }: SessionInput): Promise<readonly OutputTensor[]> {
  const length = form.shape.reduce((product, size) => product * size, 1);
  const fedRows = input.fixedRows ?? rows;
  const fed = pixels.subarray(0, fedRows * length);
  // Rows of an earlier batch; whatever they gave would be dropped, but a NaN in them may be slow.
  if (rows < fedRows) fed.fill(0, rows * length);
  const tensor = new runtime.Tensor(form.dtype, fed, [fedRows, ...form.shape]);
  const results = await session.run({ [input.name]: tensor });
  return session.outputNames.map((name) => outputOf(name, results[name], fedRows));
}

function outputOf(name: string, value: Tensor | undefined, rows: number): OutputTensor {
  if (value === undefined) throw new Error(`the model gave no output ${JSON.stringify(name)}`);
  if (value.dims[0] !== rows) {
    throw new Error(`output ${JSON.stringify(name)} has the shape [${value.dims.join(", ")}] for ${rows} images: its first dimension must be the batch`);
  }
  return { name, type: value.type, dims: value.dims, data: value.data as OutputTensor["data"] };
}

/** Room for `rows` images. */
export function createInputData(form: InputForm, rows: number): InputData {
  return viewInputData(form.dtype, new ArrayBuffer(rows * bytesOfRow(form)));
}

export function viewInputData(dtype: PreprocessSpec["dtype"], buffer: ArrayBuffer): InputData {
  switch (dtype) {
    case "float32":
      return new Float32Array(buffer);
    case "uint8":
      return new Uint8Array(buffer);
    case "float16":
      return new Uint16Array(buffer);
  }
}

export function bytesOfRow({ shape, dtype }: InputForm): number {
  const bytesOfValue = { float32: 4, uint8: 1, float16: 2 }[dtype];
  return shape.reduce((product, size) => product * size, bytesOfValue);
}

/** A value that is no tensor (a sequence, a map) keeps its name and has the type `other`. */
function shapeOf(metadata: InferenceSession.ValueMetadata): TensorShape {
  if (!metadata.isTensor) return { name: metadata.name, type: "other", shape: [] };
  return { name: metadata.name, type: metadata.type, shape: [...metadata.shape] };
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
