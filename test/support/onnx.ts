/** Writes small ONNX models: the protobuf of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3 by hand. */

/** Element types by their number in TensorProto.DataType. */
const elementTypes = { float32: 1, uint8: 2, int64: 7, bool: 9, float16: 10 } as const;
export type ElementType = keyof typeof elementTypes;

/** A number, or the name of a free dimension. */
export type Dimension = number | string;

export interface OnnxValue {
  readonly name: string;
  readonly type?: ElementType;
  readonly shape: readonly Dimension[];
}

export interface OnnxNode {
  readonly op: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes?: Readonly<Record<string, number | readonly number[] | OnnxGraph>>;
}

export interface OnnxWeights {
  readonly name: string;
  readonly shape: readonly number[];
  /** Bytes are truth values. */
  readonly values: Float32Array | BigInt64Array | Uint8Array;
}

export interface OnnxGraph {
  readonly inputs: readonly OnnxValue[];
  readonly outputs: readonly OnnxValue[];
  readonly nodes: readonly OnnxNode[];
  readonly weights: readonly OnnxWeights[];
}

/** A model of IR version 8, operator set 13. */
export function encodeModel(graph: OnnxGraph): Buffer {
  const operatorSet = Buffer.concat([field(1, ""), field(2, 13)]);
  return Buffer.concat([field(1, 8), field(2, "splitrun"), field(7, encodeGraph(graph)), field(8, operatorSet)]);
}

function encodeGraph(graph: OnnxGraph): Buffer {
  return Buffer.concat([
    ...graph.nodes.map((node) => field(1, encodeNode(node))),
    field(2, "splitrun"),
    ...graph.weights.map((weights) => field(5, encodeWeights(weights))),
    ...graph.inputs.map((value) => field(11, encodeValue(value))),
    ...graph.outputs.map((value) => field(12, encodeValue(value))),
  ]);
}

/** Attributes are integers, lists of them, or graphs. */
function encodeNode({ op, inputs, outputs, attributes = {} }: OnnxNode): Buffer {
  return Buffer.concat([
    ...inputs.map((name) => field(1, name)),
    ...outputs.map((name) => field(2, name)),
    field(4, op),
    ...Object.entries(attributes).map(([name, value]) => field(5, Buffer.concat([field(1, name), ...encodeAttribute(value)]))),
  ]);
}

function encodeAttribute(value: number | readonly number[] | OnnxGraph): Buffer[] {
  if (typeof value === "number") return [field(3, value), field(20, 2)];
  if ("nodes" in value) return [field(6, encodeGraph(value)), field(20, 5)];
  return [...value.map((each) => field(8, each)), field(20, 7)];
}

function encodeWeights({ name, shape, values }: OnnxWeights): Buffer {
  const type = values instanceof Float32Array ? elementTypes.float32 : values instanceof Uint8Array ? elementTypes.bool : elementTypes.int64;
  const raw = Buffer.from(values.buffer, values.byteOffset, values.byteLength);
  return Buffer.concat([...shape.map((size) => field(1, size)), field(2, type), field(8, name), field(9, raw)]);
}

function encodeValue({ name, type = "float32", shape }: OnnxValue): Buffer {
  const dimensions = shape.map((size) => field(1, typeof size === "number" ? field(1, size) : field(2, size)));
  const tensor = Buffer.concat([field(1, elementTypes[type]), field(2, Buffer.concat(dimensions))]);
  return Buffer.concat([field(1, name), field(2, field(1, tensor))]);
}

function field(number: number, value: number | string | Buffer): Buffer {
  if (typeof value === "number") return Buffer.concat([varint(number << 3), varint(value)]);
  const bytes = Buffer.from(value);
  return Buffer.concat([varint((number << 3) | 2), varint(bytes.length), bytes]);
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, BigInt(value));
  do {
    const low = Number(rest & 0x7fn);
    rest >>= 7n;
    bytes.push(rest === 0n ? low : low | 0x80);
  } while (rest !== 0n);
  return Buffer.from(bytes);
}

/**
 * Tells images apart by their mean colour: the score of a class is eight times the mean of the channel of that number.
 * `classes` is what the model declares; `weights`, how many it really has.
 */
export function meanColorModel(options: {
  readonly input: readonly Dimension[];
  readonly classes?: Dimension;
  readonly weights?: number;
  readonly layout?: "nchw" | "nhwc";
  readonly inputType?: ElementType;
}): Buffer {
  const { input, classes = 3, weights = 3, layout = "nchw", inputType = "float32" } = options;
  const channels = 3;
  const values = new Float32Array(channels * weights);
  for (let at = 0; at < Math.min(channels, weights); at++) values[at * weights + at] = 8;
  return encodeModel({
    inputs: [{ name: "x", type: inputType, shape: input }],
    outputs: [{ name: "y", shape: [input[0] ?? "N", classes] }],
    nodes: [
      { op: "Cast", inputs: ["x"], outputs: ["float"], attributes: { to: elementTypes.float32 } },
      { op: "ReduceMean", inputs: ["float"], outputs: ["mean"], attributes: { axes: layout === "nchw" ? [2, 3] : [1, 2], keepdims: 0 } },
      { op: "MatMul", inputs: ["mean", "w"], outputs: ["y"] },
    ],
    weights: [{ name: "w", shape: [channels, weights], values }],
  });
}

/** Gives 10 for an image of mean 0, 20 for one of mean 1; a run in which any image has a higher mean fails as a whole. */
export function pickyModel(batch: Dimension): Buffer {
  return encodeModel({
    inputs: [{ name: "x", shape: [batch, 3, "H", "W"] }],
    outputs: [{ name: "y", shape: [batch] }],
    nodes: [
      { op: "ReduceMean", inputs: ["x"], outputs: ["mean"], attributes: { axes: [1, 2, 3], keepdims: 0 } },
      { op: "Cast", inputs: ["mean"], outputs: ["index"], attributes: { to: elementTypes.int64 } },
      { op: "Gather", inputs: ["table", "index"], outputs: ["y"] },
    ],
    weights: [{ name: "table", shape: [2], values: Float32Array.of(10, 20) }],
  });
}

/** Gives the mean of each image; a run in which any image has a mean of 1 or more never ends. */
export function loopingModel(batch: Dimension): Buffer {
  return encodeModel({
    inputs: [{ name: "x", shape: [batch, 3, "H", "W"] }],
    outputs: [{ name: "y", shape: [batch] }],
    nodes: [
      { op: "ReduceMean", inputs: ["x"], outputs: ["mean"], attributes: { axes: [1, 2, 3], keepdims: 0 } },
      { op: "ReduceMax", inputs: ["mean"], outputs: ["most"], attributes: { axes: [0], keepdims: 0 } },
      { op: "Cast", inputs: ["most"], outputs: ["whole"], attributes: { to: elementTypes.int64 } },
      { op: "Mul", inputs: ["whole", "forever"], outputs: ["turns"] },
      { op: "Loop", inputs: ["turns", "yes", "mean"], outputs: ["y"], attributes: { body: unchanged } },
    ],
    weights: [
      { name: "forever", shape: [], values: BigInt64Array.of(10n ** 17n) },
      { name: "yes", shape: [], values: Uint8Array.of(1) },
    ],
  });
}

const unchanged: OnnxGraph = {
  inputs: [{ name: "turn", type: "int64", shape: [] }, { name: "again", type: "bool", shape: [] }, { name: "value", shape: ["N"] }],
  outputs: [{ name: "more", type: "bool", shape: [] }, { name: "same", shape: ["N"] }],
  nodes: [
    { op: "Identity", inputs: ["again"], outputs: ["more"] },
    { op: "Identity", inputs: ["value"], outputs: ["same"] },
  ],
  weights: [],
};

/** Gives each image the number of images in its run. */
export function countingModel(batch: Dimension): Buffer {
  return encodeModel({
    inputs: [{ name: "x", shape: [batch, 3, "H", "W"] }],
    outputs: [{ name: "y", shape: [batch] }],
    nodes: [
      { op: "ReduceMean", inputs: ["x"], outputs: ["mean"], attributes: { axes: [1, 2, 3], keepdims: 0 } },
      { op: "Sub", inputs: ["mean", "mean"], outputs: ["zeros"] },
      { op: "Add", inputs: ["zeros", "one"], outputs: ["ones"] },
      { op: "ReduceSum", inputs: ["ones"], outputs: ["count"], attributes: { keepdims: 1 } },
      { op: "Add", inputs: ["zeros", "count"], outputs: ["y"] },
    ],
    weights: [{ name: "one", shape: [1], values: Float32Array.of(1) }],
  });
}
