import type { JsonValue, PostprocessSpec } from "../protocol.ts";
import { ItemFailure } from "./failure.ts";

/** Numbers of a tensor as onnxruntime gives them; float16 comes as its bits in a Uint16Array where Node has no Float16Array. */
export type TensorData =
  | Float32Array | Float64Array | Uint8Array | Int8Array | Uint16Array | Int16Array | Uint32Array | Int32Array
  | BigInt64Array | BigUint64Array | readonly string[];

export interface OutputTensor {
  readonly name: string;
  /** Element type as onnxruntime names it: `float32`, `float16`, `int64`, ... */
  readonly type: string;
  /** The first one is the batch. */
  readonly dims: readonly number[];
  readonly data: TensorData;
}

/**
 * Turns row `row` of the model's outputs into the item's `output`.
 * @throws ItemFailure POSTPROCESS_FAILED where JSON cannot hold it: NaN, an infinity.
 */
export type Postprocessor = (outputs: readonly OutputTensor[], row: number) => JsonValue;

/** `scores`: the name of the output that an activation is applied to; null with activation `none`, which takes all. */
export function createPostprocessor(spec: PostprocessSpec, scores: string | null): Postprocessor {
  if (spec.activation === "none" || scores === null) return allValues;
  const { activation, labels, topK } = spec;
  const scoresOf = (outputs: readonly OutputTensor[], row: number) => {
    const output = outputs.find(({ name }) => name === scores);
    if (output === undefined) throw failure(`the model gave no output named ${JSON.stringify(scores)}`);
    return numbersOfRow(output, row);
  };
  switch (activation) {
    case "softmax":
      return (outputs, row) => best(softmax(scoresOf(outputs, row)), labels, topK);
    case "sigmoid":
      return (outputs, row) => best(sigmoid(scoresOf(outputs, row)), labels, topK);
    case "off-sample":
      return (outputs, row) => offSample(softmax(scoresOf(outputs, row)));
  }
}

/** exp(x - max) / sum, in double precision. */
export function softmax(logits: readonly number[]): number[] {
  let max = -Infinity;
  for (const logit of logits) max = logit > max ? logit : max;
  const powers = logits.map((logit) => Math.exp(logit - max));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => power / sum);
}

export function sigmoid(logits: readonly number[]): number[] {
  return logits.map((logit) => 1 / (1 + Math.exp(-logit)));
}

/** The `topK` best classes, the lower index first where scores are equal. */
function best(scores: readonly number[], labels: readonly string[] | null, topK: number): JsonValue {
  const top = indexesOfBest(scores, Math.min(topK, scores.length)).map((index) => ({
    label: labels?.[index] ?? index,
    score: scores[index] ?? 0,
  }));
  const [first] = top;
  if (first === undefined) throw failure("the model gave no score");
  return { label: first.label, score: first.score, top };
}

function indexesOfBest(scores: readonly number[], count: number): number[] {
  if (count > 8) {
    return [...scores.keys()].sort((a, b) => (scores[b] ?? 0) - (scores[a] ?? 0) || a - b).slice(0, count);
  }
  const chosen: number[] = [];
  for (let place = 0; place < count; place++) {
    let winner = -1;
    for (let index = 0; index < scores.length; index++) {
      if (chosen.includes(index)) continue;
      if (winner < 0 || (scores[index] ?? 0) > (scores[winner] ?? 0)) winner = index;
    }
    chosen.push(winner);
  }
  return chosen;
}

/** The original's result: `prob` is the probability of class 0, `label` says whether that class wins. */
function offSample(probabilities: readonly number[]): JsonValue {
  const prob = probabilities[0] ?? 0;
  const wins = probabilities.every((probability) => probability <= prob);
  return { prob, label: wins ? "off" : "on" };
}

function allValues(outputs: readonly OutputTensor[], row: number): JsonValue {
  const valuesOf = (output: OutputTensor) => ({ values: nested(valuesOfRow(output, row), output.dims.slice(1)) });
  const [only] = outputs;
  if (outputs.length === 1 && only !== undefined) return valuesOf(only);
  return Object.fromEntries(outputs.map((output) => [output.name, valuesOf(output)]));
}

/** A flat row in the shape of the output without its batch; a row of one value without further dimensions is a list of one. */
function nested(flat: readonly JsonValue[], shape: readonly number[]): JsonValue[] {
  if (shape.length <= 1) return [...flat];
  const [size = 0, ...inner] = shape;
  const step = flat.length / size;
  return Array.from({ length: size }, (_, at) => nested(flat.slice(at * step, (at + 1) * step), inner));
}

function numbersOfRow(output: OutputTensor, row: number): number[] {
  return valuesOfRow(output, row).map((value) => {
    if (typeof value !== "number") throw failure(`output ${JSON.stringify(output.name)} holds ${output.type}, not numbers`);
    return value;
  });
}

function valuesOfRow({ name, type, dims, data }: OutputTensor, row: number): (number | string | boolean)[] {
  const length = data.length / (dims[0] ?? 1);
  const values: (number | string | boolean)[] = [];
  for (let at = row * length; at < (row + 1) * length; at++) {
    const value = data[at];
    if (typeof value === "string") values.push(value);
    else if (type === "bool") values.push(value !== 0);
    else values.push(numberOf(name, type, value ?? 0, data instanceof Uint16Array));
  }
  return values;
}

function numberOf(name: string, type: string, value: number | bigint, bits: boolean): number {
  const number = type === "float16" && bits ? numberOfHalf(Number(value)) : Number(value);
  if (!Number.isFinite(number)) throw failure(`output ${JSON.stringify(name)} holds ${number}, which JSON cannot`);
  return number;
}

/** IEEE 754 binary16 from its bits. */
export function numberOfHalf(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 0x1f) return fraction === 0 ? sign * Infinity : NaN;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

function failure(message: string): ItemFailure {
  return new ItemFailure(message, { code: "POSTPROCESS_FAILED", stage: "postprocess", retryable: false });
}
