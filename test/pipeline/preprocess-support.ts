import { readFileSync } from "node:fs";
import { deflateSync, crc32 } from "node:zlib";
import { presets, type PreprocessPreset } from "../../orchestrator/jobs/presets.ts";
import type { PreprocessSpec } from "../../task-manager/protocol.ts";

export const maxPixels = 268_402_689;

const folder = new URL("../fixtures/preprocess/", import.meta.url);

export function fixture(name: string): Buffer {
  return readFileSync(new URL(name, folder));
}

export interface Golden {
  readonly width: number;
  readonly height: number;
  readonly torchvision: { readonly sha256: string; readonly samples: string };
  readonly offSample: { readonly samples: string; readonly blockMeans: string };
  /** Lengths at which Pillow refuses the file. */
  readonly truncation: readonly number[];
}

export const goldens = JSON.parse(fixture("goldens.json").toString()) as {
  readonly positions: readonly number[];
  readonly images: Readonly<Record<string, Golden>>;
};

/** Why an image of the fixtures is not what Pillow makes of it. A result is enough there. */
export const differsFromPillow: Readonly<Record<string, string>> = {
  "sixteen-bit-gray-80x60.png": "Pillow 9.4 clips 16-bit gray to 255; the high byte is what one wants",
  "transparent-90x60.gif": "Pillow gives transparent pixels the palette's colour for them, which no viewer ever shows; here they are black",
};

export function float32(base64: string): Float32Array {
  const bytes = Buffer.from(base64, "base64");
  return new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
}

export function specOf(preset: keyof typeof presets, change: Partial<PreprocessPreset> = {}): PreprocessSpec {
  return { ...presets[preset], concurrency: 1, maxPixels, ...change };
}

/** A spec whose tensor is the pixels themselves, row by row: 8-bit RGB. */
export function pixelSpec(resize: PreprocessSpec["resize"], crop: PreprocessSpec["crop"]): PreprocessSpec {
  return specOf("torchvision-imagenet", { resize, crop, dtype: "uint8", layout: "nhwc" });
}

export function maxDistance(left: ArrayLike<number>, right: ArrayLike<number>): number {
  if (left.length !== right.length) return Infinity;
  let most = 0;
  for (let at = 0; at < left.length; at++) {
    const distance = Math.abs((left[at] ?? NaN) - (right[at] ?? NaN));
    if (!(distance <= most)) most = distance;
  }
  return most;
}

/** A PNG of any depth and colour type, without filters. `rows` are packed samples. */
export function png(options: { width: number; height: number; depth: number; colorType: number; rows: readonly Uint8Array[] }): Buffer {
  const header = Buffer.alloc(13);
  header.writeUInt32BE(options.width, 0);
  header.writeUInt32BE(options.height, 4);
  header[8] = options.depth;
  header[9] = options.colorType;
  const data = deflateSync(Buffer.concat(options.rows.flatMap((row) => [Buffer.from([0]), row])));
  const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
  return Buffer.concat([signature, pngChunk("IHDR", header), pngChunk("IDAT", data), pngChunk("IEND", Buffer.alloc(0))]);
}

function pngChunk(kind: string, data: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(kind), data]);
  const chunk = Buffer.alloc(8 + body.length);
  chunk.writeUInt32BE(data.length, 0);
  body.copy(chunk, 4);
  chunk.writeUInt32BE(crc32(body) >>> 0, 4 + body.length);
  return chunk;
}

/** 8-bit RGB as a PNG. */
export function rgbPng(pixels: Uint8Array, width: number, height: number): Buffer {
  const rows = Array.from({ length: height }, (_, y) => pixels.subarray(y * width * 3, (y + 1) * width * 3));
  return png({ width, height, depth: 8, colorType: 2, rows });
}

/** mulberry32: all randomness of a test comes from its seed. */
export function randomBytes(length: number, seed: number): Uint8Array {
  let state = seed >>> 0;
  return Uint8Array.from({ length }, () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return (mixed ^ (mixed >>> 14)) & 255;
  });
}

/** Seed of the randomised tests: SPLITRUN_SEED replays one. */
export function testSeed(): number {
  const seed = Number(process.env["SPLITRUN_SEED"] ?? Math.trunc(Math.random() * 2 ** 31));
  console.log(`SPLITRUN_SEED=${seed}`);
  return seed;
}
