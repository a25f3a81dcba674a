import { describe, expect, test } from "vitest";
import type { PostprocessSpec } from "../../task-manager/protocol.ts";
import { ItemFailure } from "../../task-manager/pipeline/failure.ts";
import { createPostprocessor, numberOfHalf, sigmoid, softmax, type OutputTensor } from "../../task-manager/pipeline/postprocess.ts";

function scores(values: readonly (readonly number[])[]): OutputTensor[] {
  return [{ name: "y", type: "float32", dims: [values.length, values[0]?.length ?? 0], data: Float32Array.from(values.flat()) }];
}

function spec(changes: Partial<PostprocessSpec>): PostprocessSpec {
  return { activation: "softmax", labels: null, topK: 1, ...changes };
}

describe("softmax", () => {
  test("sums to one and keeps the order", () => {
    const probabilities = softmax([1, 3, 2]);
    expect(probabilities.reduce((a, b) => a + b)).toBeCloseTo(1, 12);
    expect(probabilities[1]).toBeGreaterThan(probabilities[2] ?? 1);
    expect(probabilities[0]).toBeCloseTo(Math.exp(1) / (Math.exp(1) + Math.exp(3) + Math.exp(2)), 12);
  });

  test("does not overflow where exp alone would", () => {
    expect(softmax([1000, 1000])).toEqual([0.5, 0.5]);
    expect(softmax([-1000, 0])).toEqual([0, 1]);
  });
});

test("sigmoid judges each class by itself", () => {
  expect(sigmoid([0, 100, -100])[0]).toBe(0.5);
  expect(sigmoid([0, 100, -100])[1]).toBe(1);
  expect(sigmoid([0, 1000, -1000])[2]).toBe(0);
});

describe("the output with an activation", () => {
  test("names the best class by its label, and the top ones in order", () => {
    const postprocess = createPostprocessor(spec({ labels: ["cat", "dog", "cow"], topK: 2 }), "y");
    const output = postprocess(scores([[0, 0, 0], [1, 3, 2]]), 1) as { label: string; score: number; top: { label: string }[] };
    expect(output.label).toBe("dog");
    expect(output.score).toBeCloseTo(0.6652, 4);
    expect(output.top.map(({ label }) => label)).toEqual(["dog", "cow"]);
  });

  test("names the class by its index where there are no labels", () => {
    expect(createPostprocessor(spec({}), "y")(scores([[0, 5]]), 0)).toMatchObject({ label: 1, top: [{ label: 1 }] });
  });

  test("prefers the lower index where scores are equal", () => {
    const output = createPostprocessor(spec({ topK: 3 }), "y")(scores([[1, 1, 1]]), 0) as { top: { label: number }[] };
    expect(output.top.map(({ label }) => label)).toEqual([0, 1, 2]);
  });

  test("gives all classes where topK is more than there are, however many", () => {
    const many = Array.from({ length: 20 }, (_, index) => index);
    const output = createPostprocessor(spec({ topK: 100 }), "y")(scores([many]), 0) as { top: { label: number }[] };
    expect(output.top.map(({ label }) => label)).toEqual(many.toReversed());
  });

  test("takes the named output among several", () => {
    const outputs = [{ name: "features", type: "float32", dims: [1, 2], data: Float32Array.of(9, 0) }, ...scores([[0, 9]])];
    expect(createPostprocessor(spec({}), "y")(outputs, 0)).toMatchObject({ label: 1 });
  });
});

describe("off-sample", () => {
  const postprocess = createPostprocessor(spec({ activation: "off-sample" }), "y");

  test("says off where class 0 wins, with its probability", () => {
    expect(postprocess(scores([[2, 1]]), 0)).toEqual({ prob: softmax([2, 1])[0], label: "off" });
  });

  test("says on where another class wins, still with the probability of class 0", () => {
    expect(postprocess(scores([[1, 2]]), 0)).toEqual({ prob: softmax([1, 2])[0], label: "on" });
  });
});

describe("activation none", () => {
  const postprocess = createPostprocessor(spec({ activation: "none" }), null);

  test("gives the values in the output's shape without the batch", () => {
    const data = Float32Array.from({ length: 12 }, (_, index) => index);
    expect(postprocess([{ name: "y", type: "float32", dims: [2, 2, 3], data }], 1)).toEqual({ values: [[6, 7, 8], [9, 10, 11]] });
  });

  test("gives a list of one for an output of one value an image", () => {
    expect(postprocess([{ name: "y", type: "float32", dims: [2], data: Float32Array.of(4, 5) }], 1)).toEqual({ values: [5] });
  });

  test("gives each output under its name where there are several", () => {
    const outputs: OutputTensor[] = [
      { name: "box", type: "float32", dims: [1, 2], data: Float32Array.of(1, 2) },
      { name: "count", type: "int64", dims: [1], data: BigInt64Array.of(7n) },
      { name: "word", type: "string", dims: [1], data: ["cat"] },
      { name: "found", type: "bool", dims: [1], data: Uint8Array.of(1) },
    ];
    expect(postprocess(outputs, 0)).toEqual({ box: { values: [1, 2] }, count: { values: [7] }, word: { values: ["cat"] }, found: { values: [true] } });
  });

  test("reads float16 from its bits", () => {
    const data = Uint16Array.of(0x3c00, 0xc000, 0x3555);
    const { values } = postprocess([{ name: "y", type: "float16", dims: [1, 3], data }], 0) as { values: number[] };
    expect(values[0]).toBe(1);
    expect(values[1]).toBe(-2);
    expect(values[2]).toBeCloseTo(1 / 3, 3);
  });
});

test.each([NaN, Infinity, -Infinity])("%s is the item's error, and its neighbour's result stands", (bad) => {
  for (const [activation, name] of [["none", null], ["softmax", "y"], ["sigmoid", "y"], ["off-sample", "y"]] as const) {
    const postprocess = createPostprocessor(spec({ activation }), name);
    const outputs = scores([[1, bad], [1, 0]]);
    expect(() => postprocess(outputs, 0)).toThrow(ItemFailure);
    expect(() => postprocess(outputs, 0)).toThrow(/which JSON cannot/);
    expect(postprocess(outputs, 1)).toBeTypeOf("object");
  }
});

test.each([
  [0x0000, 0], [0x3c00, 1], [0xbc00, -1], [0x7bff, 65504], [0x0001, 2 ** -24], [0x0400, 2 ** -14], [0x7c00, Infinity], [0xfc00, -Infinity],
])("half precision bits %i are %f", (bits, number) => {
  expect(numberOfHalf(bits)).toBe(number);
});
