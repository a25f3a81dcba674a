import type { FileHandle } from "node:fs/promises";

const blockBytes = 32_768;
const blocksMax = 512;

/**
 * Lines by their place. Results end nearly in the order of the input, so the blocks used last (16 MB of them) answer
 * nearly every read.
 */
export class BlockReader {
  readonly #handle: FileHandle;
  readonly #bytes: number;
  readonly #blocks = new Map<number, Buffer>();

  constructor(handle: FileHandle, bytes: number) {
    this.#handle = handle;
    this.#bytes = bytes;
  }

  /** The line that begins at `offset`, without its end. */
  async lineAt(offset: number): Promise<string> {
    const parts: Buffer[] = [];
    for (let at = offset; at < this.#bytes; ) {
      const number = Math.floor(at / blockBytes);
      const block = this.#blocks.get(number) ?? (await this.#load(number));
      const start = at - number * blockBytes;
      const end = block.indexOf(0x0a, start);
      parts.push(block.subarray(start, end === -1 ? block.length : end));
      if (end !== -1 || block.length === 0) break;
      at += block.length - start;
    }
    const [only] = parts;
    return parts.length === 1 && only !== undefined ? only.toString() : Buffer.concat(parts).toString();
  }

  async #load(number: number): Promise<Buffer> {
    const from = number * blockBytes;
    const block = Buffer.allocUnsafeSlow(Math.min(blockBytes, this.#bytes - from));
    let filled = 0;
    while (filled < block.length) {
      const { bytesRead } = await this.#handle.read(block, filled, block.length - filled, from + filled);
      if (bytesRead === 0) break;
      filled += bytesRead;
    }
    const [oldest] = this.#blocks.keys();
    if (this.#blocks.size >= blocksMax && oldest !== undefined) this.#blocks.delete(oldest);
    this.#blocks.set(number, block.subarray(0, filled));
    return block.subarray(0, filled);
  }
}
