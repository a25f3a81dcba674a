import type { PreprocessSpec } from "../protocol.ts";
import { TaskRefused } from "../tasks/types.ts";
import { decode, type LibvipsResize } from "./decode.ts";
import { ItemFailure } from "./failure.ts";
import { centred, viewOf, type AxisView, type View } from "./geometry.ts";
import { createTensorWriter, type TensorData, type TensorWriter } from "./normalise.ts";
import { toGray, type Pixels } from "./pixels.ts";
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
  const painter = createPainter(spec, writer);
  const { channels } = writer;
  const length = channels * width * height;

  return {
    shape: spec.layout === "nchw" ? [channels, height, width] : [height, width, channels],
    dtype: spec.dtype,
    length,
    async run(encoded, target) {
      checkTarget(target, spec.dtype, length);
      const pixels = await decode(encoded, spec.maxPixels, painter.decodeTo);
      try {
        painter.paint(writer.channels === 1 ? toGray(pixels) : pixels, target);
      } catch (error) {
        throw preprocessFailure(error, pixels);
      }
    },
  };
}

/** Brings decoded pixels into the tensor. Synchronous, so overlapping runs can share its buffers. */
interface Painter {
  /** What libvips makes of the image while decoding; null: nothing. */
  readonly decodeTo: LibvipsResize | null;
  paint(pixels: Pixels, target: TensorData): void;
}

function createPainter(spec: PreprocessSpec, writer: TensorWriter): Painter {
  switch (spec.resize.kernel) {
    case "pillow-bilinear": return pillowPainter(spec, writer);
    case "align-corners": return alignCornersPainter(spec, writer);
    default: return libvipsPainter(spec, spec.resize.kernel, writer);
  }
}

function pillowPainter(spec: PreprocessSpec, writer: TensorWriter): Painter {
  const resize = createPillowResize();
  return {
    decodeTo: null,
    paint(pixels, target) {
      const view = viewOf(pixels.width, pixels.height, spec);
      fillPadding(view, writer, target);
      const { start, count } = view.columns;
      resize(pixels, view, (samples, y) => {
        writer.bytes(target, samples, 0, { row: view.rows.start + y, start, count });
      });
    },
  };
}

function alignCornersPainter(spec: PreprocessSpec, writer: TensorWriter): Painter {
  const resize = createAlignCornersResize();
  return {
    decodeTo: null,
    paint(pixels, target) {
      const view = viewOf(pixels.width, pixels.height, spec);
      fillPadding(view, writer, target);
      const { start, count } = view.columns;
      resize(pixels, view, (samples, y) => {
        writer.floats(target, samples, { row: view.rows.start + y, start, count });
      });
    },
  };
}

/** The square at the centre of a `shorter-side` image holds the crop, so libvips need not make the rest of it. */
function libvipsPainter(spec: PreprocessSpec, kernel: LibvipsResize["kernel"], writer: TensorWriter): Painter {
  const { width, fit } = spec.resize;
  const decodeTo: LibvipsResize = fit === "shorter-side"
    ? { width, height: width, fit: "cover", kernel }
    : { width, height: spec.resize.height, fit, kernel };
  const view: View = {
    columns: cropped(decodeTo.width, spec.crop?.width ?? decodeTo.width),
    rows: cropped(decodeTo.height, spec.crop?.height ?? decodeTo.height),
  };
  return {
    decodeTo,
    paint(pixels, target) {
      fillPadding(view, writer, target);
      const { columns, rows } = view;
      for (let y = 0; y < rows.count; y++) {
        const offset = ((rows.from + y) * pixels.width + columns.from) * pixels.channels;
        writer.bytes(target, pixels.data, offset, { row: rows.start + y, start: columns.start, count: columns.count });
      }
    },
  };
}

function cropped(size: number, crop: number): AxisView {
  return centred({ resized: size, from: 0, count: size, start: 0, size }, crop);
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
  if (resize.fit === "shorter-side" && isLibvips(resize.kernel) && crop !== null && Math.max(crop.width, crop.height) > resize.width) {
    throw refused("crop", `a crop wider than the shorter side (${resize.width}) needs kernel pillow-bilinear or align-corners`);
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

function isLibvips(kernel: PreprocessSpec["resize"]["kernel"]): boolean {
  return kernel !== "pillow-bilinear" && kernel !== "align-corners";
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

function preprocessFailure(error: unknown, { width, height }: Pixels): ItemFailure {
  const reason = error instanceof Error ? error.message : String(error);
  return new ItemFailure(`cannot resize the image of ${width} x ${height} pixels: ${reason}`, {
    code: "PREPROCESS_FAILED", stage: "preprocess", retryable: false, cause: error,
  });
}
