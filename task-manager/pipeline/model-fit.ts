import type { PostprocessSpec, PreprocessSpec, TensorShape } from "../protocol.ts";
import { TaskRefused } from "../tasks/types.ts";

/** What is fed to the model, without the batch. */
export interface InputForm {
  readonly shape: readonly number[];
  readonly dtype: PreprocessSpec["dtype"];
  readonly layout: PreprocessSpec["layout"];
}

/** How the model is to be fed. */
export interface InputFit {
  readonly name: string;
  /** Rows that every run must have; null: any number. */
  readonly fixedRows: number | null;
  /** Dimensions are left open, so only a run can tell whether it takes this input. */
  readonly open: boolean;
}

/** @throws TaskRefused naming the shape or type that the model wants, what preprocessing gives, and what to change. */
export function fitInput(inputs: readonly TensorShape[], form: InputForm): InputFit {
  const [input] = inputs;
  if (input === undefined || inputs.length !== 1) {
    throw refusal("MODEL_INPUTS", "task.model", `the model has ${inputs.length} inputs (${inputs.map(({ name }) => name).join(", ")}); it must have one, the image`);
  }
  checkType(input, form);
  const [batch, ...wanted] = input.shape;
  if (batch === undefined) return { name: input.name, fixedRows: null, open: true };
  if (wanted.length !== form.shape.length) {
    throw misfit("task.model", input, form, `the model must take a batch of images, in ${form.shape.length + 1} dimensions`);
  }
  if (!fits(wanted, form.shape)) throw explainMisfit(input, wanted, form);
  return {
    name: input.name,
    fixedRows: typeof batch === "number" ? batch : null,
    open: wanted.some((size) => typeof size !== "number"),
  };
}

function checkType(input: TensorShape, { dtype }: InputForm): void {
  if (input.type === dtype) return;
  const known = ["float32", "uint8", "float16"].includes(input.type);
  const wayOut = known ? `set task.preprocess.dtype to ${input.type}` : "such a model cannot be given an image";
  throw refusal(
    "MODEL_INPUT_TYPE",
    known ? "task.preprocess.dtype" : "task.model",
    `the model's input ${JSON.stringify(input.name)} takes ${input.type}, preprocessing gives ${dtype}: ${wayOut}`,
  );
}

function explainMisfit(input: TensorShape, wanted: TensorShape["shape"], form: InputForm): TaskRefused {
  const modelLayout = layoutOf(wanted) ?? form.layout;
  if (modelLayout !== form.layout) {
    return misfit("task.preprocess.layout", input, form, `the model's channels come ${modelLayout === "nchw" ? "first" : "last"}: set task.preprocess.layout to ${modelLayout}`);
  }
  const channelsAt = modelLayout === "nchw" ? 0 : 2;
  const channels = wanted[channelsAt];
  const misfitChannels = typeof channels === "number" && channels !== form.shape[channelsAt];
  if (misfitChannels && channels !== 1 && channels !== 3) return misfit("task.model", input, form, "images have one channel or three");
  const [height, width] = wanted.filter((_, at) => at !== channelsAt);
  const settings = [...(misfitChannels ? colorSettings(channels === 1) : []), ...sizeSettings(width, height, form.shape.filter((_, at) => at !== channelsAt))];
  return misfit(
    misfitChannels ? "task.preprocess.colorOrder" : "task.preprocess",
    input,
    form,
    `it wants images of ${width} x ${height} (width x height): set task.preprocess to { ${settings.join(", ")} }, with the size, mean and std that it was trained with`,
  );
}

function colorSettings(gray: boolean): readonly string[] {
  return gray ? ["colorOrder: gray", "mean: [0.5]", "std: [0.5]"] : ["colorOrder: rgb", "mean: [0.5, 0.5, 0.5]", "std: [0.5, 0.5, 0.5]"];
}

/** A free dimension takes any size. */
function sizeSettings(width: number | string | undefined, height: number | string | undefined, given: readonly number[]): readonly string[] {
  if (typeof width !== "number" || typeof height !== "number" || (given[0] === height && given[1] === width)) return [];
  return [`resize: { width: ${width}, height: ${height}, fit: fill }`, "crop: null"];
}

/** Images have one channel or three, and hardly ever that many rows. */
function layoutOf(wanted: TensorShape["shape"]): InputForm["layout"] | null {
  const isChannels = (size: number | string | undefined) => size === 1 || size === 3;
  if (isChannels(wanted[0])) return "nchw";
  return isChannels(wanted[2]) ? "nhwc" : null;
}

function fits(wanted: TensorShape["shape"], given: readonly number[]): boolean {
  return wanted.every((size, at) => typeof size !== "number" || size === given[at]);
}

function misfit(field: string, input: TensorShape, form: InputForm, wayOut: string): TaskRefused {
  const given = ["N", ...form.shape].join(", ");
  return refusal(
    "MODEL_INPUT_SHAPE",
    field,
    `the model's input ${JSON.stringify(input.name)} takes [${input.shape.join(", ")}], preprocessing gives [${given}] (${form.layout}): ${wayOut}`,
  );
}

/** Are there outputs of which only a run tells the shape? */
export function outputsAreOpen(outputs: readonly TensorShape[]): boolean {
  return outputs.some(({ shape }) => shape.length === 0 || shape.slice(1).some((size) => typeof size !== "number"));
}

/**
 * The name of the output that holds the scores; null with activation `none`, which takes every output.
 * @throws TaskRefused where it is not clear which one, or where there are not as many labels as classes.
 */
export function fitOutputs(outputs: readonly TensorShape[], spec: PostprocessSpec): string | null {
  if (spec.activation === "none") return null;
  const scores = outputs.length === 1 ? outputs[0] : onlyOne(outputs.filter(({ shape }) => shape.length === 2));
  if (scores === undefined || scores.type === "string") {
    const described = outputs.map(({ name, type, shape }) => `${name}: ${type} [${shape.join(", ")}]`).join("; ");
    throw refusal(
      "MODEL_OUTPUTS",
      "task.postprocess.activation",
      `activation ${spec.activation} needs one output of scores, [N, classes]; the model has ${described}: set task.postprocess.activation to none to get all values`,
    );
  }
  const sizes = scores.shape.slice(1);
  if (scores.shape.length === 0 || sizes.some((size) => typeof size !== "number")) return scores.name;
  checkClasses(sizes.reduce<number>((product, size) => product * Number(size), 1), spec);
  return scores.name;
}

function checkClasses(classes: number, { activation, labels }: PostprocessSpec): void {
  if (activation === "off-sample" && classes < 2) {
    throw refusal("MODEL_OUTPUTS", "task.postprocess", `off-sample needs a model of two classes (off, on); this one gives ${classes} value an image`);
  }
  if (activation === "off-sample" || labels === null || labels.length === classes) return;
  throw refusal(
    "LABELS_COUNT",
    "task.postprocess.labels",
    `${labels.length} labels for a model of ${classes} classes: give one label a class, in the model's order`,
  );
}

function onlyOne<T>(list: readonly T[]): T | undefined {
  return list.length === 1 ? list[0] : undefined;
}

export function refusal(code: string, field: string, message: string, cause?: unknown): TaskRefused {
  return new TaskRefused(message, { code, field, cause });
}
