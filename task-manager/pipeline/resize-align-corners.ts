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
    for (let y = 0; y < view.rows.count; y++) {
      const above = (rows.lower[y] ?? 0) * rowSamples;
      const below = (rows.upper[y] ?? 0) * rowSamples;
      sampleRow(data, above, below, rows.fraction[y] ?? 0, columns, channels, row);
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

function sampleRow(
  data: Uint8Array, above: number, below: number, down: number, columns: Grid, channels: number, row: Float64Array,
): void {
  const { lower, upper, fraction } = columns;
  for (let x = 0, out = 0; x < fraction.length; x++) {
    const left = lower[x] ?? 0;
    const right = upper[x] ?? 0;
    const across = fraction[x] ?? 0;
    for (let channel = 0; channel < channels; channel++, out++) {
      const topLeft = data[above + left + channel] ?? 0;
      const bottomLeft = data[below + left + channel] ?? 0;
      const top = topLeft + across * ((data[above + right + channel] ?? 0) - topLeft);
      const bottom = bottomLeft + across * ((data[below + right + channel] ?? 0) - bottomLeft);
      row[out] = top + down * (bottom - top);
    }
  }
}
