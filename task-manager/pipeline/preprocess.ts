import type { PreprocessSpec } from "../protocol.ts";
import { TaskRefused } from "../tasks/types.ts";
import { decode, decodeView, type LibvipsKernel } from "./decode.ts";
import { ItemFailure } from "./failure.ts";
import { viewOf, type View } from "./geometry.ts";
import { createTensorWriter, type TensorData, type TensorWriter } from "./normalise.ts";
import { release, toGray, type Pixels } from "./pixels.ts";
import { createAlignCornersResize } from "./resize-align-corners.ts";
import { createPillowResize } from "./resize-pillow.ts";

export { configureSharp } from "./decode.ts";

export interface Preprocessor {
  /** Of one image, without the batch: `[channels, height, width]` for nchw, `[height, width, channels]` for nhwc. */
  readonly shape: readonly [number, number, number];
  readonly dtype: PreprocessSpec["dtype"];
  /** Elements of one image. */
  readonly length: number;
  /**
   * Decodes, resizes and normalises one image straight into `target`, which has `length` elements of the dtype's
   * array (float16: Uint16Array of bits). Runs may overlap; `target` and `encoded` must not change until the end.
   *
   * @throws ItemFailure of stage `preprocess`, never retryable: DECODE_FORMAT, DECODE_TRUNCATED, DECODE_FAILED,
   * DECODE_TOO_MANY_PIXELS, PREPROCESS_FAILED. `target` may hold part of an image then.
   */
  run(encoded: Uint8Array, target: TensorData): Promise<void>;
}

/** @throws TaskRefused where the spec does not describe a tensor of one size and type */
export function createPreprocessor(spec: PreprocessSpec): Preprocessor {
  checkSpec(spec);
  const { width, height } = spec.crop ?? spec.resize;
  const writer = createTensorWriter({ ...spec, width, height });
  const paint = createPainter(spec, writer);
  const { channels } = writer;
  const length = channels * width * height;

  return {
    shape: spec.layout === "nchw" ? [channels, height, width] : [height, width, channels],
    dtype: spec.dtype,
    length,
    async run(encoded, target) {
      checkTarget(target, spec.dtype, length);
      await paint(encoded, target);
    },
  };
}

/**
 * Brings an image into the tensor. After decoding all is synchronous, so that overlapping runs can share a kernel's
 * buffers.
 */
type Painter = (encoded: Uint8Array, target: TensorData) => Promise<void>;

function createPainter(spec: PreprocessSpec, writer: TensorWriter): Painter {
  switch (spec.resize.kernel) {
    case "pillow-bilinear": return pillowPainter(spec, writer);
    case "align-corners": return alignCornersPainter(spec, writer);
    default: return libvipsPainter(spec, spec.resize.kernel, writer);
  }
}

function pillowPainter(spec: PreprocessSpec, writer: TensorWriter): Painter {
  const resize = createPillowResize();
  return async (encoded, target) => {
    const pixels = inChannelsOf(writer, await decode(encoded, spec.maxPixels));
    const view = viewOf(pixels.width, pixels.height, spec);
    const { start, count } = view.columns;
    fillPadding(view, writer, target);
    try {
      resize(pixels, view, (samples, y) => {
        writer.bytes(target, samples, 0, { row: view.rows.start + y, start, count });
      });
    } catch (error) {
      throw resizeFailure(error, pixels);
    }
    release(pixels);
  };
}

function alignCornersPainter(spec: PreprocessSpec, writer: TensorWriter): Painter {
  const resize = createAlignCornersResize();
  return async (encoded, target) => {
    const pixels = inChannelsOf(writer, await decode(encoded, spec.maxPixels));
    const view = viewOf(pixels.width, pixels.height, spec);
    const { start, count } = view.columns;
    fillPadding(view, writer, target);
    resize(pixels, view, (samples, y) => {
      writer.floats(target, samples, { row: view.rows.start + y, start, count });
    });
    release(pixels);
  };
}

function libvipsPainter(spec: PreprocessSpec, kernel: LibvipsKernel, writer: TensorWriter): Painter {
  return async (encoded, target) => {
    const decoded = await decodeView(encoded, { maxPixels: spec.maxPixels, kernel, viewOf: (width, height) => viewOf(width, height, spec) });
    const pixels = inChannelsOf(writer, decoded.pixels);
    const { columns, rows } = decoded.view;
    fillPadding(decoded.view, writer, target);
    for (let y = 0; y < rows.count; y++) {
      const offset = y * pixels.width * pixels.channels;
      writer.bytes(target, pixels.data, offset, { row: rows.start + y, start: columns.start, count: columns.count });
    }
    release(pixels);
  };
}

function inChannelsOf(writer: TensorWriter, pixels: Pixels): Pixels {
  return writer.channels === 1 ? toGray(pixels) : pixels;
}

function fillPadding({ columns, rows }: View, writer: TensorWriter, target: TensorData): void {
  if (columns.count < columns.size || rows.count < rows.size) writer.fill(target);
}

// ---- checks ----

function checkSpec(spec: PreprocessSpec): void {
  const { resize, crop } = spec;
  if (resize.fit === "shorter-side" && crop === null) {
    throw refused("crop", "fit shorter-side leaves the longer side open: give a crop, or fit cover, contain or fill");
  }
  if (spec.dtype === "uint8") return;
  const channels = spec.colorOrder === "gray" ? 1 : 3;
  for (const field of ["mean", "std"] as const) {
    if (spec[field].length !== channels) {
      throw refused(field, `${spec[field].length} values, but colorOrder ${spec.colorOrder} has ${channels} channels`);
    }
  }
  if (spec.std.includes(0)) throw refused("std", "0 is no divisor");
}

function refused(field: string, message: string): TaskRefused {
  const path = `task.preprocess.${field}`;
  return new TaskRefused(`${path}: ${message}`, { code: "PREPROCESS_INVALID", field: path });
}

const arrays = { float32: Float32Array, uint8: Uint8Array, float16: Uint16Array } as const;

function checkTarget(target: TensorData, dtype: PreprocessSpec["dtype"], length: number): void {
  if (target instanceof arrays[dtype] && target.length === length) return;
  throw new TypeError(`target is ${target.constructor.name} of ${target.length}, not ${arrays[dtype].name} of ${length}`);
}

function resizeFailure(error: unknown, { width, height }: Pixels): ItemFailure {
  const reason = error instanceof Error ? error.message : String(error);
  return new ItemFailure(`cannot resize the image of ${width} x ${height} pixels: ${reason}`, {
    code: "PREPROCESS_FAILED", stage: "preprocess", retryable: false, cause: error,
  });
}
