import { encodeModel, type OnnxNode, type OnnxWeights } from "./onnx.ts";

/** Numbers in [0, 1) that depend on the seed alone: https://en.wikipedia.org/wiki/Xorshift#xorshift* family, 32 bits. */
function createRandom(seed: number): () => number {
  let state = seed >>> 0 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}

/** Layers over one another, weights random, of the scale of He et al. 2015 so that the values neither vanish nor explode. */
function createNetwork(seed: number) {
  const random = createRandom(seed);
  const nodes: OnnxNode[] = [];
  const weights: OnnxWeights[] = [];

  function addWeights(name: string, shape: readonly number[], limit: number): string {
    const values = new Float32Array(shape.reduce((product, size) => product * size, 1));
    for (let at = 0; at < values.length; at++) values[at] = (random() * 2 - 1) * limit;
    weights.push({ name, shape, values });
    return name;
  }
  function add(op: string, inputs: readonly string[], attributes: OnnxNode["attributes"] = {}): string {
    const output = `v${nodes.length}`;
    nodes.push({ op, inputs, outputs: [output], attributes });
    return output;
  }
  function convolution(input: string, from: number, to: number, kernel: number, stride: number, gain = 1): string {
    const name = `c${nodes.length}`;
    const limit = gain * Math.sqrt(6 / (from * kernel * kernel));
    const padding = (kernel - 1) / 2;
    return add("Conv", [input, addWeights(`${name}w`, [to, from, kernel, kernel], limit), addWeights(`${name}b`, [to], 0.05)], {
      kernel_shape: [kernel, kernel],
      strides: [stride, stride],
      pads: [padding, padding, padding, padding],
    });
  }
  const relu = (input: string) => add("Relu", [input]);

  function head(input: string, features: number, classes: number): Buffer {
    const flat = add("Flatten", [add("GlobalAveragePool", [input])], { axis: 1 });
    const limit = 1 / Math.sqrt(features);
    nodes.push({
      op: "Gemm",
      inputs: [flat, addWeights("fcw", [classes, features], limit), addWeights("fcb", [classes], limit)],
      outputs: ["logits"],
      attributes: { transB: 1 },
    });
    return encodeModel({
      inputs: [{ name: "image", shape: ["batch", 3, 224, 224] }],
      outputs: [{ name: "logits", shape: ["batch", classes] }],
      nodes,
      weights,
    });
  }
  return { add, convolution, relu, head };
}

/** ResNet-18 (He et al. 2016, arXiv:1512.03385, table 1), batch normalisation folded into the convolutions, 2 classes. 44.7 MB. */
export function resnet18(seed: number): Buffer {
  const { add, convolution, relu, head } = createNetwork(seed);
  let from = 64;
  let value = relu(convolution("image", 3, from, 7, 2));
  value = add("MaxPool", [value], { kernel_shape: [3, 3], strides: [2, 2], pads: [1, 1, 1, 1] });
  for (const to of [64, 128, 256, 512]) {
    for (const stride of [to === 64 ? 1 : 2, 1]) {
      const inner = convolution(relu(convolution(value, from, to, 3, stride)), to, to, 3, 1, 0.3);
      const shortcut = from === to && stride === 1 ? value : convolution(value, from, to, 1, stride, 0.7);
      value = relu(add("Add", [inner, shortcut]));
      from = to;
    }
  }
  return head(value, from, 2);
}

/** Four convolutions and a linear layer, some 150 000 parameters: what remains when inference costs next to nothing. */
export function tinyNetwork(seed: number): Buffer {
  const { convolution, relu, head } = createNetwork(seed);
  let from = 3;
  let value = "image";
  for (const [to, stride] of [[16, 2], [32, 2], [64, 2], [216, 2]] as const) {
    value = relu(convolution(value, from, to, 3, stride));
    from = to;
  }
  return head(value, from, 2);
}
