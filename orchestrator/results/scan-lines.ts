import type { FileHandle } from "node:fs/promises";
import { SplitrunError } from "../errors.ts";

/** Whole lines as they lie in a file. The bytes are overwritten once the next chunk is asked for. */
export interface LineChunk {
  readonly bytes: Buffer;
  /** Place of the first byte in the file. */
  readonly offset: number;
}

const chunkBytes = 1_048_576;
/** A file without line ends is none of ours; it must not fill the memory. */
const lineBytesMax = 268_435_456;

/**
 * The file from `from` to `to`, cut at line ends; only the very last line may lack its end. While the caller looks at
 * one chunk, the next is read.
 */
export async function* wholeLines(handle: FileHandle, from: number, to: number): AsyncGenerator<LineChunk> {
  let buffer = Buffer.allocUnsafeSlow(Math.max(1, Math.min(chunkBytes, to - from)));
  let spare = Buffer.alloc(0);
  let offset = from;
  let filled = 0;
  const readOn = (): Promise<number> => {
    const reading = readInto(handle, buffer.subarray(filled, to - offset), offset + filled);
    // Whoever asks for the next chunk hears of it.
    reading.catch(() => undefined);
    return reading;
  };
  let reading = readOn();
  try {
    for (let bytesRead = await reading; bytesRead > 0; bytesRead = await reading) {
      const lastEnd = buffer.lastIndexOf(0x0a, filled + bytesRead - 1);
      const hasLine = lastEnd >= filled;
      filled += bytesRead;
      const chunk = { bytes: buffer.subarray(0, lastEnd + 1), offset };
      if (hasLine) {
        if (spare.length < buffer.length) spare = Buffer.allocUnsafeSlow(buffer.length);
        filled = buffer.copy(spare, 0, lastEnd + 1, filled);
        offset += lastEnd + 1;
        [buffer, spare] = [spare, buffer];
      } else if (filled === buffer.length && offset + filled < to) {
        buffer = larger(buffer, offset);
      }
      reading = readOn();
      if (hasLine) yield chunk;
    }
    if (filled > 0) yield { bytes: buffer.subarray(0, filled), offset };
  } finally {
    // Whoever stops in the middle closes the file next.
    await reading.catch(() => undefined);
  }
}

async function readInto(handle: FileHandle, bytes: Buffer, position: number): Promise<number> {
  if (bytes.length === 0) return 0;
  return (await handle.read(bytes, 0, bytes.length, position)).bytesRead;
}

/** Calls with start and end of each line, the line's end excluded. */
export function eachLine({ bytes }: LineChunk, onLine: (start: number, end: number) => void): void {
  for (let start = 0; start < bytes.length; ) {
    const found = bytes.indexOf(0x0a, start);
    const end = found === -1 ? bytes.length : found;
    onLine(start, end);
    start = end + 1;
  }
}

function larger(buffer: Buffer, offset: number): Buffer<ArrayBuffer> {
  if (buffer.length >= lineBytesMax) {
    throw new SplitrunError(`the journal has no line end in ${lineBytesMax} bytes from byte ${offset} on: it is damaged; set it aside with --fresh`, {
      code: "HOME_DAMAGED",
      value: offset,
    });
  }
  const next = Buffer.allocUnsafeSlow(Math.min(lineBytesMax, buffer.length * 2));
  buffer.copy(next);
  return next;
}
