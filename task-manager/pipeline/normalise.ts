import type { PreprocessSpec } from "../protocol.ts";

/** Elements of a tensor; float16 as its bits. */
export type TensorData = Float32Array | Uint8Array | Uint16Array;

export type TensorSpec = Pick<PreprocessSpec, "colorOrder" | "layout" | "dtype" | "scale" | "mean" | "std"> & {
  readonly width: number;
  readonly height: number;
};

/** Where a piece of an output row goes: pixels [start, start + count) of `row`. */
export interface RowPiece {
  readonly row: number;
  readonly start: number;
  readonly count: number;
}

/**
 * Puts samples into a tensor of one image as value = (pixel * scale - mean) / std, in its layout and dtype. Mean and
 * std are in the order of the tensor's channels (for `bgr`: blue first). uint8 takes the pixels as they are.
 */
export interface TensorWriter {
  readonly channels: 1 | 3;
  /** Black (pixel 0) everywhere. */
  fill(target: TensorData): void;
  /** Interleaved RGB or gray samples, from `offset` on. */
  bytes(target: TensorData, samples: Uint8Array, offset: number, piece: RowPiece): void;
  /** The same, unrounded samples in 0..255. */
  floats(target: TensorData, samples: Float64Array, piece: RowPiece): void;
}

export function createTensorWriter(spec: TensorSpec): TensorWriter {
  const channels = spec.colorOrder === "gray" ? 1 : 3;
  const lookup = lookupTable(spec, channels);
  const convert = valueConverter(spec.dtype);
  const places = channelPlaces(spec, channels);
  const linears = places.map((_, channel) => linear(spec, channel));
  const step = spec.layout === "nchw" ? 1 : channels;
  const rowStep = spec.width * step;

  return {
    channels,
    fill(target) {
      places.forEach((place, channel) => {
        const black = lookup[channel * 256] ?? 0;
        const end = place + spec.width * spec.height * step;
        for (let at = place; at < end; at += step) target[at] = black;
      });
    },
    bytes(target, samples, offset, { row, start, count }) {
      const at = row * rowStep + start * step;
      if (channels === 1) lookUpGray(target, samples, offset, count, lookup, at, step);
      else lookUpRgb(target, samples, offset, count, lookup, at, places, step);
    },
    floats(target, samples, { row, start, count }) {
      const at = row * rowStep + start * step;
      if (spec.dtype === "float32" && channels === 3) scaleRgb(target, samples, count, linears, at, places, step);
      else convertAll(target, samples, count, linears, convert, at, places, step);
    },
  };
}

/** 256 values for each of R, G, B (or gray): one table is faster than three, and much faster than arithmetic. */
function lookupTable(spec: TensorSpec, channels: number): TensorData {
  const convert = valueConverter(spec.dtype);
  const table = newTensorData(spec.dtype, channels * 256);
  for (let channel = 0; channel < channels; channel++) {
    const { factor, offset } = linear(spec, channel);
    for (let pixel = 0; pixel < 256; pixel++) table[channel * 256 + pixel] = convert(pixel * factor + offset);
  }
  return table;
}

function newTensorData(dtype: PreprocessSpec["dtype"], length: number): TensorData {
  switch (dtype) {
    case "float32": return new Float32Array(length);
    case "uint8": return new Uint8Array(length);
    case "float16": return new Uint16Array(length);
  }
}

/** value = pixel * factor + offset. */
interface Linear {
  readonly factor: number;
  readonly offset: number;
}

const asItIs: Linear = { factor: 1, offset: 0 };

/** `channel` counts R, G, B; the tensor's mean and std are in its own order. */
function linear(spec: TensorSpec, channel: number): Linear {
  if (spec.dtype === "uint8") return asItIs;
  const position = tensorChannel(spec, channel);
  const mean = spec.mean[position] ?? 0;
  const std = spec.std[position] ?? 1;
  return { factor: spec.scale / std, offset: -mean / std };
}

function tensorChannel(spec: TensorSpec, channel: number): number {
  return spec.colorOrder === "bgr" ? 2 - channel : channel;
}

/** Offset of the first pixel's R, G, B (or gray) in the tensor. */
function channelPlaces(spec: TensorSpec, channels: number): readonly number[] {
  const plane = spec.layout === "nchw" ? spec.width * spec.height : 1;
  return Array.from({ length: channels }, (_, channel) => tensorChannel(spec, channel) * plane);
}

function valueConverter(dtype: PreprocessSpec["dtype"]): (value: number) => number {
  switch (dtype) {
    case "float32": return (value) => value;
    case "uint8": return Math.round;
    case "float16": return float16Bits;
  }
}

function lookUpRgb(
  target: TensorData, samples: Uint8Array, offset: number, count: number, lookup: TensorData,
  at: number, places: readonly number[], step: number,
): void {
  let red = at + (places[0] ?? 0);
  let green = at + (places[1] ?? 0);
  let blue = at + (places[2] ?? 0);
  const end = offset + count * 3;
  for (let sample = offset; sample < end; sample += 3) {
    target[red] = lookup[samples[sample] ?? 0] ?? 0;
    target[green] = lookup[256 + (samples[sample + 1] ?? 0)] ?? 0;
    target[blue] = lookup[512 + (samples[sample + 2] ?? 0)] ?? 0;
    red += step;
    green += step;
    blue += step;
  }
}

function lookUpGray(
  target: TensorData, samples: Uint8Array, offset: number, count: number, lookup: TensorData, at: number, step: number,
): void {
  for (let index = 0; index < count; index++) target[at + index * step] = lookup[samples[offset + index] ?? 0] ?? 0;
}

/** The usual case of `convertAll`, in half of its time. */
function scaleRgb(
  target: TensorData, samples: Float64Array, count: number, linears: readonly Linear[],
  at: number, places: readonly number[], step: number,
): void {
  const { factor: redFactor, offset: redOffset } = linears[0] ?? asItIs;
  const { factor: greenFactor, offset: greenOffset } = linears[1] ?? asItIs;
  const { factor: blueFactor, offset: blueOffset } = linears[2] ?? asItIs;
  let red = at + (places[0] ?? 0);
  let green = at + (places[1] ?? 0);
  let blue = at + (places[2] ?? 0);
  for (let sample = 0; sample < count * 3; sample += 3) {
    target[red] = (samples[sample] ?? 0) * redFactor + redOffset;
    target[green] = (samples[sample + 1] ?? 0) * greenFactor + greenOffset;
    target[blue] = (samples[sample + 2] ?? 0) * blueFactor + blueOffset;
    red += step;
    green += step;
    blue += step;
  }
}

function convertAll(
  target: TensorData, samples: Float64Array, count: number, linears: readonly Linear[],
  convert: (value: number) => number, at: number, places: readonly number[], step: number,
): void {
  linears.forEach(({ factor, offset }, channel) => {
    const to = at + (places[channel] ?? 0);
    for (let pixel = 0; pixel < count; pixel++) {
      target[to + pixel * step] = convert((samples[pixel * linears.length + channel] ?? 0) * factor + offset);
    }
  });
}

const float = new Float32Array(1);
const floatBits = new Uint32Array(float.buffer);

/** IEEE 754 binary16 of a number, rounded to the nearest, ties to even, by way of binary32. */
export function float16Bits(value: number): number {
  float[0] = value;
  const bits = floatBits[0] ?? 0;
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fff_ffff;
  if (magnitude > 0x7f80_0000) return sign | 0x7e00;
  if (magnitude >= 0x477f_f000) return sign | 0x7c00;
  if (magnitude < 0x3880_0000) return sign | subnormalBits(Math.abs(float[0]));
  const rebased = magnitude - 0x3800_0000;
  return sign | ((rebased + 0xfff + ((rebased >>> 13) & 1)) >>> 13);
}

/** Multiples of 2^-24. Adding 2^52 leaves no fraction bits, so the addition itself rounds to even. */
function subnormalBits(magnitude: number): number {
  return magnitude * 2 ** 24 + 2 ** 52 - 2 ** 52;
}
