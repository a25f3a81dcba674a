import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import { configureSharp, createPreprocessor } from "../../task-manager/pipeline/preprocess.ts";
import { differsFromPillow, fixture, float32, goldens, maxDistance, specOf } from "./preprocess-support.ts";

await configureSharp();

const torchvision = createPreprocessor(specOf("torchvision-imagenet"));
const torchvisionPixels = createPreprocessor(specOf("torchvision-imagenet", { dtype: "uint8", layout: "nhwc" }));
const offSample = createPreprocessor(specOf("off-sample"));

const images = Object.entries(goldens.images);
const same = images.filter(([name]) => !(name in differsFromPillow));

function atPositions(tensor: Float32Array): number[] {
  return goldens.positions.map((position) => tensor[position] ?? NaN);
}

/** Means over blocks of 16 x 16 of each plane: every element of the tensor counts in one. */
function blockMeans(tensor: Float32Array): Float64Array {
  const means = new Float64Array(3 * 14 * 14);
  tensor.forEach((value, at) => {
    const plane = Math.trunc(at / 50_176);
    const row = Math.trunc((at % 50_176) / 224 / 16);
    const column = Math.trunc((at % 224) / 16);
    const block = plane * 196 + row * 14 + column;
    means[block] = (means[block] ?? 0) + value / 256;
  });
  return means;
}

describe("torchvision-imagenet equals torchvision", () => {
  test.each(same)("%s", async (name, golden) => {
    const tensor = new Float32Array(torchvision.length);
    await torchvision.run(fixture(name), tensor);
    expect(maxDistance(atPositions(tensor), float32(golden.torchvision.samples))).toBeLessThanOrEqual(1e-6);

    const pixels = new Uint8Array(torchvisionPixels.length);
    await torchvisionPixels.run(fixture(name), pixels);
    expect(createHash("sha256").update(pixels).digest("hex"), "all pixels, to the bit").toBe(golden.torchvision.sha256);
  });
});

describe("off-sample equals torch's align-corners sampling", () => {
  test.each(same)("%s", async (name, golden) => {
    const tensor = new Float32Array(offSample.length);
    await offSample.run(fixture(name), tensor);
    expect(maxDistance(atPositions(tensor), float32(golden.offSample.samples))).toBeLessThanOrEqual(1e-6);
    expect(maxDistance(blockMeans(tensor), float32(golden.offSample.blockMeans))).toBeLessThanOrEqual(1e-6);
  });
});

test.each(Object.entries(differsFromPillow))("%s gives a result, though %s", async (name) => {
  for (const preprocessor of [torchvision, offSample]) {
    const tensor = new Float32Array(preprocessor.length).fill(NaN);
    await preprocessor.run(fixture(name), tensor);
    expect(tensor.every(Number.isFinite)).toBe(true);
  }
});

test("fast gives a result for all of them", async () => {
  const fast = createPreprocessor(specOf("fast"));
  for (const [name] of images) {
    const tensor = new Float32Array(fast.length).fill(NaN);
    await fast.run(fixture(name), tensor);
    expect(tensor.every(Number.isFinite), name).toBe(true);
  }
});

test("overlapping runs into slots of one batch do not touch each other", async () => {
  const names = images.map(([name]) => name);
  const slot = torchvision.length;
  const batch = new Float32Array(slot * (names.length + 2)).fill(NaN);
  await Promise.all(names.map((name, index) => torchvision.run(fixture(name), batch.subarray((index + 1) * slot, (index + 2) * slot))));
  for (const [index, name] of names.entries()) {
    const alone = new Float32Array(slot);
    await torchvision.run(fixture(name), alone);
    expect(maxDistance(batch.subarray((index + 1) * slot, (index + 2) * slot), alone), name).toBe(0);
  }
  expect(batch.subarray(0, slot).every(Number.isNaN)).toBe(true);
  expect(batch.subarray((names.length + 1) * slot).every(Number.isNaN)).toBe(true);
});
