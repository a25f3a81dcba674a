import type { Sharp, SharpOptions } from "sharp";
import type { ItemErrorCode } from "../protocol.ts";
import { ItemFailure } from "./failure.ts";
import type { View } from "./geometry.ts";
import { describeBytes, endsEarly, headerSize, imageFormat, isCmykJpeg, type ImageFormat, type ImageSize } from "./image-format.ts";
import { cmykToRgb, type Pixels } from "./pixels.ts";

type SharpFactory = (typeof import("sharp"))["default"];
let loading: Promise<SharpFactory> | undefined;

/** Loaded where images are decoded only: the threads beside that start from the same file, and it would hold each of them up. */
function loadSharp(): Promise<SharpFactory> {
  loading ??= import("sharp").then((module) => module.default);
  return loading;
}

/** Once in each thread that decodes: images come only once, and the cores belong to the pipeline's own stages. */
export async function configureSharp(): Promise<void> {
  const sharp = await loadSharp();
  sharp.cache(false);
  sharp.concurrency(1);
}

/**
 * The pixels of the first frame as Pillow's `open(...).convert("RGB")` gives them: neither rotated by EXIF nor
 * converted by a colour profile, alpha dropped and not blended. Differs for 16-bit gray (here the high byte; Pillow
 * clips to 255), CMYK in TIFF (by way of a profile) and fully transparent pixels of GIF (here black).
 *
 * @throws ItemFailure of stage `preprocess`, never retryable: DECODE_FORMAT, DECODE_TRUNCATED,
 * DECODE_TOO_MANY_PIXELS (by the header, before any pixel is decoded), DECODE_FAILED
 */
export async function decode(encoded: Uint8Array, maxPixels: number): Promise<Pixels> {
  const format = knownFormat(encoded);
  const sharp = await loadSharp();
  try {
    return await pixelsOf(sharp(encoded, inputOptions(format, maxPixels)), isCmykJpeg(encoded, format));
  } catch (error) {
    throw await decodeFailure({ error, encoded, format, maxPixels });
  }
}

export type LibvipsKernel = "nearest" | "linear" | "cubic" | "mitchell" | "lanczos2" | "lanczos3";

export interface LibvipsView {
  readonly maxPixels: number;
  readonly kernel: LibvipsKernel;
  /** What of an image of this size is wanted. */
  viewOf(width: number, height: number): View;
}

/**
 * What the view shows (and what is below it), resized by libvips, which shrinks JPEG and WebP while it decodes where
 * it can, and weighs pixels by their alpha.
 *
 * @throws ItemFailure as `decode`, and PREPROCESS_FAILED where libvips cannot make an image of the resized size
 */
export async function decodeView(
  encoded: Uint8Array, { maxPixels, kernel, viewOf }: LibvipsView,
): Promise<{ readonly pixels: Pixels; readonly view: View }> {
  const format = knownFormat(encoded);
  const sharp = await loadSharp();
  try {
    const { width, height } = headerSize(encoded, format) ?? await sizeByLibvips(encoded);
    const view = viewOf(width, height);
    const { columns, rows } = view;
    checkResizedSize(columns.resized, rows.resized);
    const image = sharp(encoded, inputOptions(format, maxPixels))
      .resize({ width: columns.resized, height: rows.resized, fit: "fill", kernel })
      .extract(extentOf(view));
    return { pixels: await pixelsOf(image, isCmykJpeg(encoded, format)), view };
  } catch (error) {
    throw await decodeFailure({ error, encoded, format, maxPixels });
  }
}

function knownFormat(encoded: Uint8Array): ImageFormat {
  const format = imageFormat(encoded);
  if (format !== null) return format;
  throw failure("DECODE_FORMAT", `not an image of a known format: this is ${describeBytes(encoded)}`);
}

function inputOptions(format: ImageFormat, maxPixels: number): SharpOptions {
  return { failOn: failOn(format), limitInputPixels: maxPixels, ignoreIcc: true, sequentialRead: true };
}

/** libvips reports missing TIFF strips as errors; in other formats, errors include damage that Pillow puts up with. */
function failOn(format: ImageFormat): "truncated" | "error" {
  return format === "tiff" ? "error" : "truncated";
}

/** CMYK JPEG is taken as it is stored: by way of a profile it costs 200 ms an image, and is not what Pillow gives. */
async function pixelsOf(image: Sharp, isCmyk: boolean): Promise<Pixels> {
  if (isCmyk) image.pipelineColourspace("cmyk").toColourspace("cmyk");
  const { data, info } = await image.removeAlpha().raw({ depth: "uchar" }).toBuffer({ resolveWithObject: true });
  if (isCmyk && info.channels === 4) return cmykToRgb(data, info.width, info.height);
  return { data, width: info.width, height: info.height, channels: knownChannels(info.channels) };
}

/** Rows of a resized image up to which it is made to its bottom. */
const rowsToBottomMax = 65_536;

interface Extent {
  readonly left: number;
  readonly width: number;
  readonly top: number;
  readonly height: number;
}

/**
 * The columns of the view, and the rows from its top to the bottom of the image, though the crop may end before it:
 * libvips decodes only as far as it is asked to, and would not see that the rest is missing.
 */
function extentOf({ columns, rows }: View): Extent {
  const bottom = rows.resized <= rowsToBottomMax ? rows.resized : Math.min(rows.resized, rows.from + Math.max(1, rows.count));
  const width = Math.max(1, columns.count);
  const left = Math.min(columns.from, columns.resized - width);
  const top = Math.min(rows.from, rows.resized - 1);
  return { left, width, top, height: bottom - top };
}

/** VIPS_MAX_COORD of libvips. */
const libvipsSideMax = 10_000_000;

function checkResizedSize(width: number, height: number): void {
  if (Math.max(width, height) < libvipsSideMax) return;
  throw failure("PREPROCESS_FAILED", `resized to ${width} x ${height} pixels, a side is longer than ${libvipsSideMax}`);
}

function knownChannels(channels: number): 1 | 3 {
  if (channels === 1 || channels === 3) return channels;
  throw failure("DECODE_FORMAT", `image with ${channels} channels, neither gray nor RGB`);
}

interface Failed {
  readonly error: unknown;
  readonly encoded: Uint8Array;
  readonly format: ImageFormat;
  readonly maxPixels: number;
}

async function decodeFailure({ error, encoded, format, maxPixels }: Failed): Promise<ItemFailure> {
  if (error instanceof ItemFailure) return error;
  const message = oneLine(error);
  if (/exceeds pixel limit/.test(message)) {
    return failure("DECODE_TOO_MANY_PIXELS", `${await describeSize(encoded)} are more than maxPixels ${maxPixels}`, error);
  }
  if (endsEarly(encoded, format) || (format !== "png" && truncation.test(message))) {
    return failure("DECODE_TRUNCATED", `the ${format} image ends too early${/^unknown error$/i.test(message) ? "" : `: ${message}`}`, error);
  }
  return failure("DECODE_FAILED", `the ${format} image is damaged or of an unsupported kind: ${message}`, error);
}

/** As libvips and its decoders word it. libpng says "read error" to everything, so for PNG the end decides. */
const truncation = /premature end|unexpected end|end of stream|truncated|read error|not enough data|end of file/i;

async function describeSize(encoded: Uint8Array): Promise<string> {
  try {
    const { width, height } = await sizeByLibvips(encoded);
    return `${width} x ${height} pixels`;
  } catch {
    return "its pixels";
  }
}

/** From the header alone. */
async function sizeByLibvips(encoded: Uint8Array): Promise<ImageSize> {
  const sharp = await loadSharp();
  const { width, height } = await sharp(encoded, { limitInputPixels: false }).metadata();
  return { width, height };
}

function failure(code: ItemErrorCode, message: string, cause?: unknown): ItemFailure {
  return new ItemFailure(message, { code, stage: "preprocess", retryable: false, cause });
}

function oneLine(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return message.trim().replace(/\s*\n\s*/g, "; ").slice(0, 300);
}
