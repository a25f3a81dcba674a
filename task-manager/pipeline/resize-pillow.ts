/**
 * Pillow's `resize(..., BILINEAR)` to the bit: the triangle filter scaled with the reduction, in 8-bit fixed point,
 * horizontal pass before vertical, rounded and clipped to 8 bits in between (libImaging/Resample.c of Pillow 9.4).
 * Only what is seen is computed: the columns inside the view, and of the input the rows that contribute to it.
 */
import type { AxisView, View } from "./geometry.ts";
import type { Pixels } from "./pixels.ts";
import { resampleWasm } from "./resample-wasm.ts";

/** Gets the finished rows of the view in order. `samples` is valid during the call only. */
export type RowSink = (samples: Uint8Array, row: number) => void;

/** @throws RangeError where a side of the image is longer than `sideMax`. */
export type PillowResize = (pixels: Pixels, view: View, emit: RowSink) => void;

/** Bounds the tables and the ring of rows, which grow with the side (about 25 MB at the limit). */
export const sideMax = 1_000_000;

/** Sizes kept at once; photographs of one source have few. */
const tablesMax = 64;
/** Tables longer than this are made anew each time, so that the cache stays within some 8 MB. */
const cachedWeightsMax = 32_768;
const pageBytes = 65_536;

/** Resizer with its own memory. Not reentrant from `emit`. */
export function createPillowResize(): PillowResize {
  const kernel = instantiateKernel();
  const tables = createTableCache();

  return (pixels, view, emit) => {
    if (view.columns.count === 0 || view.rows.count === 0) return;
    const columns = tables(pixels.width, view.columns);
    const rows = tables(pixels.height, view.rows);
    const layout = layOut(columns, rows, pixels.channels);
    growTo(kernel.memory, layout.bytes);
    resample({ kernel, pixels, columns, rows, layout, emit });
  };
}

interface Resampling {
  readonly kernel: Kernel;
  readonly pixels: Pixels;
  readonly columns: Table;
  readonly rows: Table;
  readonly layout: Layout;
  readonly emit: RowSink;
}

/** Rows pass through a ring that holds as many as one output row is made of: whatever the image, it stays in cache. */
function resample({ kernel, pixels, columns, rows, layout, emit }: Resampling): void {
  const { data, width, channels } = pixels;
  const bytes = new Uint8Array(kernel.memory.buffer);
  const words = new Int32Array(kernel.memory.buffer);
  words.set(columns.starts, layout.starts >> 2);
  words.set(columns.weights, layout.columnWeights >> 2);
  words.set(rows.weights, layout.rowWeights >> 2);

  const outCount = columns.starts.length;
  const out = bytes.subarray(layout.out, layout.out + outCount * channels);
  const sliceBytes = columns.span * channels;
  let nextRow = 0;
  for (let y = 0; y < rows.starts.length; y++) {
    const firstRow = rows.first + (rows.starts[y] ?? 0);
    const endRow = firstRow + rows.taps;
    for (nextRow = Math.max(nextRow, firstRow); nextRow < endRow; nextRow++) {
      const slice = (nextRow * width + columns.first) * channels;
      bytes.set(data.subarray(slice, slice + sliceBytes), layout.slice);
      const slot = layout.ring + (nextRow % rows.taps) * layout.slotBytes;
      kernel.horizontal(layout.slice, layout.starts, layout.columnWeights, columns.taps, outCount, channels, slot);
    }
    const weights = layout.rowWeights + y * rows.taps * 4;
    kernel.vertical(layout.ring, layout.slotBytes, firstRow % rows.taps, weights, rows.taps, outCount * channels, layout.out);
    emit(out, y);
  }
}

// ---- weights ----

/** Output pixel i of the view is the sum of `taps` input pixels from `first + starts[i]` on, weighted. */
interface Table {
  readonly first: number;
  /** Input pixels from `first` to the end of the last output pixel's. */
  readonly span: number;
  readonly taps: number;
  readonly starts: Int32Array;
  /** `taps` for each output pixel. */
  readonly weights: Int32Array;
}

const precisionBits = 32 - 8 - 2;

/**
 * Pillow's precompute_coeffs and normalize_coeffs_8bpc for the pixels of the view, in its order of operations. All
 * get the same number of taps: windows are moved inward at the image's end and filled up with zeros. A scale of 1
 * gives weights of exactly one and zero, so leaving a side as it is needs no special case.
 */
function weightTable(inputSize: number, view: AxisView): Table {
  const scale = inputSize / view.resized;
  const support = Math.max(scale, 1);
  const windows = Array.from({ length: view.count }, (_, index) => filterWindow(inputSize, view.from + index, scale, support));
  const taps = windows.reduce((most, window) => Math.max(most, window.end - window.start), 1);
  const starts = Int32Array.from(windows, ({ start }) => Math.min(start, inputSize - taps));
  const weights = new Int32Array(view.count * taps);
  windows.forEach((window, index) => {
    writeWeights(window, support, weights, index * taps + window.start - (starts[index] ?? 0));
  });
  const first = starts[0] ?? 0;
  const span = (starts[view.count - 1] ?? 0) + taps - first;
  return { first, span, taps, starts: starts.map((start) => start - first), weights };
}

interface FilterWindow {
  readonly center: number;
  readonly start: number;
  readonly end: number;
}

function filterWindow(inputSize: number, output: number, scale: number, support: number): FilterWindow {
  const center = (output + 0.5) * scale;
  return {
    center,
    start: Math.max(0, Math.trunc(center - support + 0.5)),
    end: Math.min(inputSize, Math.trunc(center + support + 0.5)),
  };
}

function writeWeights({ center, start, end }: FilterWindow, support: number, weights: Int32Array, at: number): void {
  const inverse = 1 / support;
  let total = 0;
  for (let input = start; input < end; input++) total += triangle((input - center + 0.5) * inverse);
  for (let input = start; input < end; input++) {
    const weight = triangle((input - center + 0.5) * inverse) / total;
    weights[at + input - start] = Math.trunc(0.5 + weight * (1 << precisionBits));
  }
}

function triangle(x: number): number {
  const distance = Math.abs(x);
  return distance < 1 ? 1 - distance : 0;
}

/** Least recently used first. */
function createTableCache(): (inputSize: number, view: AxisView) => Table {
  const cache = new Map<string, Table>();
  return (inputSize, view) => {
    if (inputSize > sideMax) throw new RangeError(`a side of ${inputSize} pixels is longer than ${sideMax}`);
    const key = `${inputSize} ${view.resized} ${view.from} ${view.count}`;
    const table = cache.get(key) ?? weightTable(inputSize, view);
    if (table.weights.length > cachedWeightsMax) return table;
    cache.delete(key);
    cache.set(key, table);
    if (cache.size > tablesMax) cache.delete(cache.keys().next().value ?? "");
    return table;
  };
}

// ---- the kernel's memory ----

interface Kernel {
  readonly memory: WebAssembly.Memory;
  readonly horizontal: (row: number, starts: number, weights: number, taps: number, count: number, channels: number, out: number) => void;
  readonly vertical: (ring: number, slotBytes: number, first: number, weights: number, taps: number, bytes: number, out: number) => void;
}

function instantiateKernel(): Kernel {
  return new WebAssembly.Instance(new WebAssembly.Module(resampleWasm)).exports as unknown as Kernel;
}

/** Addresses in the kernel's memory, each a multiple of 16. */
interface Layout {
  readonly starts: number;
  readonly columnWeights: number;
  readonly rowWeights: number;
  readonly slice: number;
  readonly ring: number;
  readonly slotBytes: number;
  readonly out: number;
  readonly bytes: number;
}

/** Each area ends with the 16 bytes that the kernel may read or write past it. */
function layOut(columns: Table, rows: Table, channels: number): Layout {
  let end = 0;
  const area = (bytes: number): number => {
    const start = end;
    end += padded(bytes);
    return start;
  };
  const slotBytes = padded(columns.starts.length * channels);
  const starts = area(columns.starts.byteLength);
  const columnWeights = area(columns.weights.byteLength);
  const rowWeights = area(rows.weights.byteLength);
  const slice = area(columns.span * channels);
  const ring = area(rows.taps * slotBytes);
  const out = area(slotBytes);
  return { starts, columnWeights, rowWeights, slice, ring, slotBytes, out, bytes: end };
}

function padded(bytes: number): number {
  return (Math.ceil(bytes / 16) + 1) * 16;
}

function growTo(memory: WebAssembly.Memory, bytes: number): void {
  const missing = bytes - memory.buffer.byteLength;
  if (missing > 0) memory.grow(Math.ceil(missing / pageBytes));
}
