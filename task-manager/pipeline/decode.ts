import type { ItemErrorCode } from "../protocol.ts";
import { ItemFailure } from "./failure.ts";
import { describeBytes, endsEarly, imageFormat, type ImageFormat } from "./image-format.ts";
import type { Pixels } from "./pixels.ts";

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

export interface LibvipsResize {
  readonly width: number;
  readonly height: number;
  readonly fit: "cover" | "contain" | "fill";
  readonly kernel: "nearest" | "linear" | "cubic" | "mitchell" | "lanczos2" | "lanczos3";
}

/**
 * The pixels of the first frame as Pillow's `open(...).convert("RGB")` gives them: neither rotated by EXIF nor
 * converted by a colour profile, alpha dropped and not blended. Differs for 16-bit gray (here the high byte; Pillow
 * clips to 255), CMYK (by way of a profile) and fully transparent pixels of GIF (here black).
 * With `resize`, brought to its size by libvips, which may shrink while it decodes and weighs pixels by their alpha.
 *
 * @throws ItemFailure of stage `preprocess`, never retryable: DECODE_FORMAT, DECODE_TRUNCATED,
 * DECODE_TOO_MANY_PIXELS (by the header, before any pixel is decoded), DECODE_FAILED
 */
export async function decode(encoded: Uint8Array, maxPixels: number, resize: LibvipsResize | null): Promise<Pixels> {
  const format = imageFormat(encoded);
  if (format === null) {
    throw failure("DECODE_FORMAT", `not an image of a known format: this is ${describeBytes(encoded)}`);
  }
  const sharp = await loadSharp();
  const image = sharp(encoded, {
    failOn: failOn(format), limitInputPixels: maxPixels, ignoreIcc: true, sequentialRead: true,
  });
  if (resize !== null) image.resize({ ...resize, position: "centre", background: "#000000" });
  try {
    const { data, info } = await image.removeAlpha().raw({ depth: "uchar" }).toBuffer({ resolveWithObject: true });
    return { data, width: info.width, height: info.height, channels: knownChannels(info.channels) };
  } catch (error) {
    throw error instanceof ItemFailure ? error : await decodeFailure({ error, encoded, format, maxPixels });
  }
}

/** libvips reports missing TIFF strips as errors; in other formats, errors include damage that Pillow puts up with. */
function failOn(format: ImageFormat): "truncated" | "error" {
  return format === "tiff" ? "error" : "truncated";
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
  const message = oneLine(error);
  if (/exceeds pixel limit/.test(message)) {
    return failure("DECODE_TOO_MANY_PIXELS", `${await sizeOf(encoded)} are more than maxPixels ${maxPixels}`, error);
  }
  if (truncation.test(message) || endsEarly(encoded, format)) {
    return failure("DECODE_TRUNCATED", `the ${format} image ends too early: ${message}`, error);
  }
  return failure("DECODE_FAILED", `the ${format} image is damaged or of an unsupported kind: ${message}`, error);
}

/** As libvips and its decoders word it. */
const truncation = /premature end|unexpected end|end of stream|truncated|read error|not enough data|end of file/i;

/** From the header alone. */
async function sizeOf(encoded: Uint8Array): Promise<string> {
  try {
    const sharp = await loadSharp();
    const { width, height } = await sharp(encoded, { limitInputPixels: false }).metadata();
    return `${width} x ${height} pixels`;
  } catch {
    return "its pixels";
  }
}

function failure(code: ItemErrorCode, message: string, cause?: unknown): ItemFailure {
  return new ItemFailure(message, { code, stage: "preprocess", retryable: false, cause });
}

function oneLine(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return message.trim().replace(/\s*\n\s*/g, "; ").slice(0, 300);
}
