import fc from "fast-check";
import sharp from "sharp";
import { describe, expect, test } from "vitest";
import { resampleModule } from "../../scripts/build-resample.mjs";
import { viewOf } from "../../task-manager/pipeline/geometry.ts";
import { float16Bits } from "../../task-manager/pipeline/normalise.ts";
import { configureSharp, createPreprocessor } from "../../task-manager/pipeline/preprocess.ts";
import { createAlignCornersResize } from "../../task-manager/pipeline/resize-align-corners.ts";
import { createPillowResize } from "../../task-manager/pipeline/resize-pillow.ts";
import type { PreprocessSpec } from "../../task-manager/protocol.ts";
import { readFileSync } from "node:fs";
import { fixture, maxDistance, pixelSpec, png, randomBytes, rgbPng, specOf, testSeed } from "./preprocess-support.ts";

await configureSharp();
const seed = testSeed();

type Geometry = Pick<PreprocessSpec, "resize" | "crop">;

interface Image {
  readonly data: Uint8Array;
  readonly width: number;
  readonly height: number;
  readonly channels: 1 | 3;
}

// ---- slow references: the whole resized image, one sample at a time ----

/** One pass of libImaging's ImagingResample along one axis of a plane given as a function. */
function pillowPass(at: (index: number) => number, inputSize: number, outputSize: number, output: number): number {
  if (inputSize === outputSize) return at(output);
  const scale = inputSize / outputSize;
  const support = Math.max(scale, 1);
  const center = (output + 0.5) * scale;
  const first = Math.max(0, Math.trunc(center - support + 0.5));
  const end = Math.min(inputSize, Math.trunc(center + support + 0.5));
  const weights = Array.from({ length: end - first }, (_, tap) => Math.max(0, 1 - Math.abs((tap + first - center + 0.5) / support)));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const sum = weights.reduce((acc, weight, tap) => acc + Math.trunc(0.5 + (weight / total) * 2 ** 22) * at(first + tap), 2 ** 21);
  return Math.min(255, Math.max(0, Math.floor(sum / 2 ** 22)));
}

function slowPillow({ data, width, height, channels }: Image, toWidth: number, toHeight: number): Uint8Array {
  const across = new Uint8Array(toWidth * height * channels);
  for (let at = 0; at < across.length; at++) {
    const channel = at % channels;
    const x = Math.trunc(at / channels) % toWidth;
    const y = Math.trunc(at / channels / toWidth);
    across[at] = pillowPass((column) => data[(y * width + column) * channels + channel] ?? NaN, width, toWidth, x);
  }
  return Uint8Array.from({ length: toWidth * toHeight * channels }, (_, at) => {
    const rowSamples = toWidth * channels;
    return pillowPass((row) => across[row * rowSamples + (at % rowSamples)] ?? NaN, height, toHeight, Math.trunc(at / rowSamples));
  });
}

function slowAlignCorners({ data, width, height, channels }: Image, toWidth: number, toHeight: number): Float64Array {
  const pixel = (x: number, y: number, channel: number): number => data[(y * width + x) * channels + channel] ?? NaN;
  return Float64Array.from({ length: toWidth * toHeight * channels }, (_, at) => {
    const channel = at % channels;
    const x = toWidth === 1 ? 0 : ((Math.trunc(at / channels) % toWidth) * (width - 1)) / (toWidth - 1);
    const y = toHeight === 1 ? 0 : (Math.trunc(at / channels / toWidth) * (height - 1)) / (toHeight - 1);
    const [left, top] = [Math.floor(x), Math.floor(y)];
    const [right, bottom] = [Math.min(left + 1, width - 1), Math.min(top + 1, height - 1)];
    return (1 - (y - top)) * ((1 - (x - left)) * pixel(left, top, channel) + (x - left) * pixel(right, top, channel))
      + (y - top) * ((1 - (x - left)) * pixel(left, bottom, channel) + (x - left) * pixel(right, bottom, channel));
  });
}

/** What the view shows of a resized image. */
function seen(resized: ArrayLike<number>, { columns, rows }: ReturnType<typeof viewOf>, channels: number): number[] {
  const values: number[] = [];
  for (let y = 0; y < rows.count; y++) {
    for (let x = 0; x < columns.count * channels; x++) {
      values.push(resized[((rows.from + y) * columns.resized + columns.from) * channels + x] ?? NaN);
    }
  }
  return values;
}

const side = fc.oneof({ weight: 4, arbitrary: fc.integer({ min: 1, max: 40 }) }, { weight: 1, arbitrary: fc.integer({ min: 1, max: 300 }) });
const target = fc.integer({ min: 1, max: 24 });
const images = fc.record({ width: side, height: side, channels: fc.constantFrom(1 as const, 3 as const), seed: fc.nat() });
const geometries: fc.Arbitrary<Geometry> = fc.record({
  resize: fc.record({
    width: target, height: target,
    fit: fc.constantFrom("shorter-side", "cover", "contain", "fill"),
    kernel: fc.constant("pillow-bilinear"),
  }),
  crop: fc.option(fc.record({ width: target, height: target })),
});

function randomImage({ width, height, channels, seed }: { width: number; height: number; channels: 1 | 3; seed: number }): Image {
  return { width, height, channels, data: randomBytes(width * height * channels, seed) };
}

/** Keeps the slow reference fast. */
const isSmall = ({ columns, rows }: ReturnType<typeof viewOf>): boolean => columns.resized * rows.resized <= 20_000;

test("the Pillow kernel equals a slow reference to the bit, whatever the sizes", () => {
  const resize = createPillowResize();
  fc.assert(
    fc.property(images, geometries, (shape, geometry) => {
      const image = randomImage(shape);
      const view = viewOf(image.width, image.height, geometry);
      fc.pre(isSmall(view));
      const rows: number[] = [];
      resize(image, view, (samples, row) => {
        expect(row * view.columns.count * image.channels).toBe(rows.length);
        rows.push(...samples);
      });
      expect(rows).toEqual(seen(slowPillow(image, view.columns.resized, view.rows.resized), view, image.channels));
    }),
    { seed, numRuns: 150 },
  );
});

test("the align-corners kernel equals a slow reference, whatever the sizes", () => {
  const resize = createAlignCornersResize();
  fc.assert(
    fc.property(images, geometries, (shape, geometry) => {
      const image = randomImage(shape);
      const view = viewOf(image.width, image.height, geometry);
      fc.pre(isSmall(view));
      const rows: number[] = [];
      resize(image, view, (samples) => rows.push(...samples));
      const expected = seen(slowAlignCorners(image, view.columns.resized, view.rows.resized), view, image.channels);
      expect(maxDistance(rows, expected)).toBeLessThan(1e-10);
    }),
    { seed, numRuns: 150 },
  );
});

test("a view never shows more than there is, and fills its size exactly", () => {
  fc.assert(
    fc.property(images, geometries, ({ width, height }, geometry) => {
      const { columns, rows } = viewOf(width, height, geometry);
      for (const axis of [columns, rows]) {
        expect(axis.from).toBeGreaterThanOrEqual(0);
        expect(axis.from + axis.count).toBeLessThanOrEqual(axis.resized);
        expect(axis.start).toBeGreaterThanOrEqual(0);
        expect(axis.start + axis.count).toBeLessThanOrEqual(axis.size);
      }
      const { resize, crop } = geometry;
      if (crop !== null) expect([columns.size, rows.size]).toEqual([crop.width, crop.height]);
      else if (resize.fit !== "shorter-side") expect([columns.size, rows.size]).toEqual([resize.width, resize.height]);
    }),
    { seed },
  );
});

describe("geometry as torchvision has it", () => {
  const geometry: Geometry = {
    resize: { width: 256, height: 256, fit: "shorter-side", kernel: "pillow-bilinear" },
    crop: { width: 224, height: 224 },
  };

  test("the longer side is truncated, and a half offset goes to the even pixel", () => {
    const { columns, rows } = viewOf(640, 480, geometry);
    expect(columns).toEqual({ resized: 341, from: 58, count: 224, start: 0, size: 224 });
    expect(rows).toEqual({ resized: 256, from: 16, count: 224, start: 0, size: 224 });
    expect(viewOf(343, 256, geometry).columns.from).toBe(60);
  });

  test("a side shorter than the crop is padded, with the odd pixel after it", () => {
    const { columns, rows } = viewOf(5, 5, { ...geometry, resize: { ...geometry.resize, width: 5 }, crop: { width: 8, height: 3 } });
    expect(columns).toEqual({ resized: 5, from: 0, count: 5, start: 1, size: 8 });
    expect(rows).toEqual({ resized: 5, from: 1, count: 3, start: 0, size: 3 });
  });
});

test("padding is black before normalisation, also where a used buffer is written again", async () => {
  const white = rgbPng(new Uint8Array(4 * 2 * 3).fill(255), 4, 2);
  const resize = { width: 4, height: 4, fit: "contain", kernel: "pillow-bilinear" } as const;
  const preprocessor = createPreprocessor(specOf("torchvision-imagenet", { resize, crop: null }));
  const tensor = new Float32Array(preprocessor.length).fill(NaN);
  await preprocessor.run(white, tensor);
  const [black, lit] = [-0.485 / 0.229, (1 - 0.485) / 0.229].map(Math.fround);
  expect([...tensor.subarray(0, 16)]).toEqual([...Array(4).fill(black), ...Array(8).fill(lit), ...Array(4).fill(black)]);
});

test("an image whose resized size would take gigabytes costs only what the crop shows", async () => {
  const preprocessor = createPreprocessor(specOf("torchvision-imagenet"));
  const tensor = new Float32Array(preprocessor.length);
  const gray = png({ width: 1, height: 300_000, depth: 1, colorType: 0, rows: Array(300_000).fill(Buffer.from([0x80])) });
  const before = process.memoryUsage().rss;
  await preprocessor.run(fixture("wide-4000x3.png"), tensor);
  await createPreprocessor(specOf("fast")).run(fixture("wide-4000x3.png"), tensor);
  await preprocessor.run(gray, tensor);
  expect(process.memoryUsage().rss - before).toBeLessThan(150_000_000);
  expect(tensor.subarray(0, 50_176).every((value) => value === Math.fround((1 - 0.485) / 0.229))).toBe(true);
});

describe("layout, colour order and dtype", () => {
  const pixels = randomBytes(6 * 5 * 3, 11);
  const image = rgbPng(pixels, 6, 5);
  const resize = { width: 6, height: 5, fit: "fill", kernel: "pillow-bilinear" } as const;
  const base = { resize, crop: null, scale: 1, mean: [1, 2, 3], std: [2, 4, 8] } as const;
  const at = (x: number, y: number, channel: number): number => pixels[(y * 6 + x) * 3 + channel] ?? NaN;

  async function values(change: Partial<PreprocessSpec>): Promise<number[]> {
    const preprocessor = createPreprocessor({ ...specOf("off-sample"), ...base, mean: [...base.mean], std: [...base.std], ...change });
    const arrays = { float32: Float32Array, uint8: Uint8Array, float16: Uint16Array };
    const tensor = new arrays[preprocessor.dtype](preprocessor.length);
    await preprocessor.run(image, tensor);
    return [...tensor];
  }

  function expected(layout: "nchw" | "nhwc", order: readonly number[], value: (pixel: number, position: number) => number): number[] {
    const out: number[] = [];
    const [channels, width, height] = [order.length, 6, 5];
    for (let index = 0; index < channels * width * height; index++) {
      const position = layout === "nchw" ? Math.trunc(index / 30) : index % channels;
      const pixel = layout === "nchw" ? index % 30 : Math.trunc(index / channels);
      out.push(value(at(pixel % 6, Math.trunc(pixel / 6), order[position] ?? NaN), position));
    }
    return out;
  }

  const normalised = (pixel: number, position: number): number => Math.fround((pixel - (base.mean[position] ?? NaN)) / (base.std[position] ?? NaN));

  for (const kernel of ["pillow-bilinear", "align-corners", "linear"] as const) {
    for (const layout of ["nchw", "nhwc"] as const) {
      for (const [colorOrder, order] of [["rgb", [0, 1, 2]], ["bgr", [2, 1, 0]]] as const) {
        test(`${kernel} ${layout} ${colorOrder}`, async () => {
          const same = { ...base, resize: { ...resize, kernel }, mean: [...base.mean], std: [...base.std], layout, colorOrder };
          expect(await values({ ...same, dtype: "float32" })).toEqual(expected(layout, order, normalised));
          expect(await values({ ...same, dtype: "uint8" })).toEqual(expected(layout, order, (pixel) => pixel));
          expect(await values({ ...same, dtype: "float16" })).toEqual(expected(layout, order, (pixel, position) => float16Bits(normalised(pixel, position))));
        });
      }
    }
    test(`${kernel} gray is Pillow's luma`, async () => {
      const gray = await values({ resize: { ...resize, kernel }, colorOrder: "gray", dtype: "uint8", mean: [0], std: [1] });
      const luma = Array.from({ length: 30 }, (_, pixel) =>
        (at(pixel % 6, Math.trunc(pixel / 6), 0) * 19595 + at(pixel % 6, Math.trunc(pixel / 6), 1) * 38470 + at(pixel % 6, Math.trunc(pixel / 6), 2) * 7471 + 0x8000) >> 16);
      expect(gray).toEqual(luma);
    });
  }

  test("the shape says what the layout is", () => {
    expect(createPreprocessor(specOf("torchvision-imagenet"))).toMatchObject({ shape: [3, 224, 224], dtype: "float32", length: 150_528 });
    expect(createPreprocessor(specOf("off-sample", { layout: "nhwc" })).shape).toEqual([224, 224, 3]);
    expect(createPreprocessor(specOf("fast", { colorOrder: "gray", mean: [0.5], std: [0.5] })).shape).toEqual([1, 224, 224]);
  });
});

describe("float16", () => {
  /** The number that 16 bits of IEEE 754 binary16 stand for. */
  function valueOf(bits: number): number {
    const sign = bits & 0x8000 ? -1 : 1;
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN;
    return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  }

  test("every finite half survives, and so does infinity", () => {
    const halves = Array.from({ length: 0x1_0000 }, (_, bits) => bits).filter((bits) => !Number.isNaN(valueOf(bits)));
    expect(halves.filter((bits) => float16Bits(valueOf(bits)) !== bits)).toEqual([]);
    expect(valueOf(float16Bits(NaN))).toBeNaN();
  });

  test("what lies between two halves goes to the nearer, a tie to the even one", () => {
    const between = (bits: number, share: number): number => float16Bits(valueOf(bits) + (valueOf(bits + 1) - valueOf(bits)) * share);
    const finite = Array.from({ length: 0x7bff }, (_, bits) => bits);
    expect(finite.filter((bits) => between(bits, 0.5) !== bits + (bits % 2))).toEqual([]);
    expect(finite.filter((bits) => between(bits, 0.49) !== bits)).toEqual([]);
    expect(finite.filter((bits) => between(bits, 0.51) !== bits + 1)).toEqual([]);
    expect([65_519, 65_520, -65_520, 1e30].map(float16Bits)).toEqual([0x7bff, 0x7c00, 0xfc00, 0x7c00]);
  });
});

describe("libvips' own resize", () => {
  const kernels = ["nearest", "linear", "cubic", "mitchell", "lanczos2", "lanczos3"] as const;

  async function pixelsOf(resize: PreprocessSpec["resize"], crop: PreprocessSpec["crop"], image: Buffer): Promise<Uint8Array> {
    const preprocessor = createPreprocessor(pixelSpec(resize, crop));
    const pixels = new Uint8Array(preprocessor.length);
    await preprocessor.run(image, pixels);
    return pixels;
  }

  const meanDistance = (left: Uint8Array, right: Uint8Array): number =>
    left.reduce((sum, value, at) => sum + Math.abs(value - (right[at] ?? NaN)), 0) / left.length;

  test.each(kernels)("%s shows the same part of the image as Pillow's, in every fit", async (kernel) => {
    for (const image of [fixture("large-1900x1427.jpg"), fixture("portrait-333x500.jpg"), fixture("baseline-640x480.jpg")]) {
      for (const fit of ["shorter-side", "cover", "contain", "fill"] as const) {
        const resize = { width: 160, height: 120, fit };
        const crop = { width: 100, height: 130 };
        const ours = await pixelsOf({ ...resize, kernel }, crop, image);
        const pillow = await pixelsOf({ ...resize, kernel: "pillow-bilinear" }, crop, image);
        expect(meanDistance(ours, pillow), fit).toBeLessThan(kernel === "nearest" ? 12 : 4);
      }
    }
  });
});

test("16-bit gray gives its high byte", async () => {
  const values = [0x0000, 0x00ff, 0x0100, 0x7fff, 0x80ff, 0xffff];
  const row = Buffer.from(Uint16Array.from(values).buffer).swap16();
  const image = png({ width: 6, height: 1, depth: 16, colorType: 0, rows: [row] });
  const preprocessor = createPreprocessor(pixelSpec({ width: 6, height: 1, fit: "fill", kernel: "pillow-bilinear" }, null));
  const pixels = new Uint8Array(preprocessor.length);
  await preprocessor.run(image, pixels);
  expect([...pixels].filter((_, at) => at % 3 === 0)).toEqual(values.map((value) => value >> 8));
});

test("AVIF is decoded", async () => {
  const source = await sharp(fixture("lossless-100x75.webp")).raw().toBuffer();
  const avif = await sharp(source, { raw: { width: 100, height: 75, channels: 3 } }).avif({ quality: 95, effort: 0 }).toBuffer();
  const preprocessor = createPreprocessor(pixelSpec({ width: 100, height: 75, fit: "fill", kernel: "pillow-bilinear" }, null));
  const pixels = new Uint8Array(preprocessor.length);
  await preprocessor.run(avif, pixels);
  expect(maxDistance(pixels, source)).toBeLessThan(64);
});

test("the checked-in kernel is what its source compiles to", async () => {
  const checkedIn = readFileSync(new URL("../../task-manager/pipeline/resample-wasm.ts", import.meta.url), "utf8");
  expect(checkedIn).toBe(await resampleModule());
});
