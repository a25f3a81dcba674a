/** A decoded image: 8-bit samples, row by row, RGB or gray interleaved without padding. */
export interface Pixels {
  readonly data: Uint8Array;
  readonly width: number;
  readonly height: number;
  readonly channels: 1 | 3;
}

/** Part of ES2024: Node has it from 22 on. */
type Detachable = ArrayBufferLike & { transfer?(bytes: number): ArrayBuffer };

/** Gives the memory back at once, where Node can, instead of with a collection that so much memory would bring about. */
export function release({ data }: Pixels): void {
  const buffer: Detachable = data.buffer;
  // What is smaller may be a part of Node's own pool.
  if (buffer.byteLength > Buffer.poolSize) buffer.transfer?.(0);
}

/**
 * Turns RGB into gray where it stands: ITU-R 601 luma in Pillow's 16-bit fixed point, as its `convert("L")` does it.
 * The data of `pixels` is overwritten.
 */
export function toGray(pixels: Pixels): Pixels {
  if (pixels.channels === 1) return pixels;
  const { data, width, height } = pixels;
  const count = width * height;
  for (let pixel = 0, sample = 0; pixel < count; pixel++, sample += 3) {
    const red = data[sample] ?? 0;
    const green = data[sample + 1] ?? 0;
    const blue = data[sample + 2] ?? 0;
    data[pixel] = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16;
  }
  return { data: data.subarray(0, count), width, height, channels: 1 };
}

/** Turns CMYK into RGB where it stands, by subtraction as Pillow does it (its Convert.c, cmyk2rgb). */
export function cmykToRgb(data: Uint8Array, width: number, height: number): Pixels {
  const count = width * height;
  for (let pixel = 0, from = 0, to = 0; pixel < count; pixel++, from += 4, to += 3) {
    const light = 255 - (data[from + 3] ?? 0);
    data[to] = light - multiplied(data[from] ?? 0, light);
    data[to + 1] = light - multiplied(data[from + 1] ?? 0, light);
    data[to + 2] = light - multiplied(data[from + 2] ?? 0, light);
  }
  return { data: data.subarray(0, count * 3), width, height, channels: 3 };
}

/** a * b / 255, rounded, without a division. */
function multiplied(a: number, b: number): number {
  const product = a * b + 128;
  return (product + (product >> 8)) >> 8;
}
