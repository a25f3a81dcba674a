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

/** The file from `from` to `to`, cut at line ends; only the very last line may lack its end. */
export async function* wholeLines(handle: FileHandle, from: number, to: number): AsyncGenerator<LineChunk> {
  let buffer = Buffer.allocUnsafeSlow(Math.max(1, Math.min(chunkBytes, to - from)));
  let offset = from;
  let filled = 0;
  while (offset + filled < to) {
    const wanted = Math.min(buffer.length - filled, to - offset - filled);
    const { bytesRead } = await handle.read(buffer, filled, wanted, offset + filled);
    if (bytesRead === 0) break;
    const lastEnd = buffer.lastIndexOf(0x0a, filled + bytesRead - 1);
    const hasLine = lastEnd >= filled;
    filled += bytesRead;
    if (hasLine) {
      yield { bytes: buffer.subarray(0, lastEnd + 1), offset };
      buffer.copyWithin(0, lastEnd + 1, filled);
      offset += lastEnd + 1;
      filled -= lastEnd + 1;
    } else if (filled === buffer.length && offset + filled < to) {
      buffer = larger(buffer, offset);
    }
  }
  if (filled > 0) yield { bytes: buffer.subarray(0, filled), offset };
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
