/**
 * Bilinear samples on the align-corners grid, no antialias: output i is read at input coordinate
 * i * (size - 1) / (resized - 1), on both axes, as torch's `interpolate(mode="bilinear", align_corners=True)`.
 */
import type { AxisView, View } from "./geometry.ts";
import type { Pixels } from "./pixels.ts";

/** Gets the finished rows of the view in order: unrounded samples in 0..255. `samples` is valid during the call only. */
export type FloatRowSink = (samples: Float64Array, row: number) => void;

export type AlignCornersResize = (pixels: Pixels, view: View, emit: FloatRowSink) => void;

/** Sampler with its own row buffer. Not reentrant from `emit`. */
export function createAlignCornersResize(): AlignCornersResize {
  let row = new Float64Array(0);
  let columns: Grid | null = null;

  return (pixels, view, emit) => {
    const { data, width, height, channels } = pixels;
    columns = reusedGrid(columns, width, view.columns, channels);
    const rows = gridOf(height, view.rows, 1);
    const rowSamples = width * channels;
    const samples = view.columns.count * channels;
    if (row.length !== samples) row = new Float64Array(samples);
    const sampleRow = channels === 1 ? sampleGrayRow : sampleRgbRow;
    for (let y = 0; y < view.rows.count; y++) {
      const above = (rows.lower[y] ?? 0) * rowSamples;
      const below = (rows.upper[y] ?? 0) * rowSamples;
      sampleRow(data, above, below, rows.fraction[y] ?? 0, columns, row);
      emit(row, y);
    }
  };
}

/** For each output pixel the offsets of its two neighbours and how far it lies towards the upper one. */
interface Grid {
  readonly inputSize: number;
  readonly view: AxisView;
  readonly stride: number;
  readonly lower: Int32Array;
  readonly upper: Int32Array;
  readonly fraction: Float64Array;
}

function gridOf(inputSize: number, view: AxisView, stride: number): Grid {
  const lower = new Int32Array(view.count);
  const upper = new Int32Array(view.count);
  const fraction = new Float64Array(view.count);
  for (let index = 0; index < view.count; index++) {
    const at = view.resized === 1 ? 0 : ((view.from + index) * (inputSize - 1)) / (view.resized - 1);
    const below = Math.floor(at);
    lower[index] = below * stride;
    upper[index] = Math.min(below + 1, inputSize - 1) * stride;
    fraction[index] = at - below;
  }
  return { inputSize, view, stride, lower, upper, fraction };
}

function reusedGrid(last: Grid | null, inputSize: number, view: AxisView, stride: number): Grid {
  const same = last !== null && last.inputSize === inputSize && last.stride === stride
    && last.view.resized === view.resized && last.view.from === view.from && last.view.count === view.count;
  return same ? last : gridOf(inputSize, view, stride);
}

/** Gray and RGB apart: a loop over channels inside costs half as much again. */
function sampleGrayRow(data: Uint8Array, above: number, below: number, down: number, columns: Grid, row: Float64Array): void {
  const { lower, upper, fraction } = columns;
  for (let x = 0; x < fraction.length; x++) {
    const left = lower[x] ?? 0;
    const right = upper[x] ?? 0;
    row[x] = sample(data, above + left, above + right, below + left, below + right, fraction[x] ?? 0, down);
  }
}

function sampleRgbRow(data: Uint8Array, above: number, below: number, down: number, columns: Grid, row: Float64Array): void {
  const { lower, upper, fraction } = columns;
  for (let x = 0, out = 0; x < fraction.length; x++, out += 3) {
    const topLeft = above + (lower[x] ?? 0);
    const topRight = above + (upper[x] ?? 0);
    const bottomLeft = below + (lower[x] ?? 0);
    const bottomRight = below + (upper[x] ?? 0);
    const across = fraction[x] ?? 0;
    row[out] = sample(data, topLeft, topRight, bottomLeft, bottomRight, across, down);
    row[out + 1] = sample(data, topLeft + 1, topRight + 1, bottomLeft + 1, bottomRight + 1, across, down);
    row[out + 2] = sample(data, topLeft + 2, topRight + 2, bottomLeft + 2, bottomRight + 2, across, down);
  }
}

function sample(
  data: Uint8Array, topLeft: number, topRight: number, bottomLeft: number, bottomRight: number, across: number, down: number,
): number {
  const left = data[topLeft] ?? 0;
  const leftBelow = data[bottomLeft] ?? 0;
  const top = left + across * ((data[topRight] ?? 0) - left);
  const bottom = leftBelow + across * ((data[bottomRight] ?? 0) - leftBelow);
  return top + down * (bottom - top);
}
