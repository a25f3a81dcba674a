import { closeSync, constants, ftruncateSync, openSync, readSync, writeSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { errorCode } from "./durable.ts";
import { homeFiles } from "./home-files.ts";

const entriesHeld = 8192;
const headerBytes = 8;
const entryBytes = 8;

/** Instead of an index: the line's item is in the list, but has, or gets, a newer line. */
export const superseded = 0xffffffff;

/**
 * Notes which line of an older list (its place among the good lines) was given to which item, so that whoever reads
 * the results before they are compacted needs no list. Every run makes it again from the list: nothing is lost with
 * it, and nothing waits for the disk.
 */
export class ReusedWriter {
  readonly #fd: number;
  readonly #buffer = new Uint32Array(entriesHeld * 2);
  #held = 0;
  #position = headerBytes;

  /**
   * `again`: the same list is matched once more, which gives the same entries in the same order. Those from last time
   * stay until they are written over, so that a reader does not see less than before.
   */
  constructor(dir: string, { listStart, again }: { readonly listStart: number; readonly again: boolean }) {
    this.#fd = openSync(join(dir, homeFiles.reused), constants.O_RDWR | constants.O_CREAT | (again ? 0 : constants.O_TRUNC), 0o600);
    const header = new Float64Array([0]);
    readSync(this.#fd, header, { position: 0 });
    if (header[0] === listStart) return;
    ftruncateSync(this.#fd, 0);
    header[0] = listStart;
    writeAll(this.#fd, new Uint8Array(header.buffer), 0);
  }

  add(place: number, index: number): void {
    this.#buffer[this.#held++] = place;
    // Never 0, which is what a power cut leaves.
    this.#buffer[this.#held++] = index === superseded ? superseded : index + 1;
    if (this.#held === this.#buffer.length) this.flush();
  }

  flush(): void {
    if (this.#held === 0) return;
    writeAll(this.#fd, new Uint8Array(this.#buffer.buffer, 0, this.#held * 4), this.#position);
    this.#position += this.#held * 4;
    this.#held = 0;
  }

  /** All of the list was matched: what lies behind is none of its. */
  end(): void {
    this.flush();
    ftruncateSync(this.#fd, this.#position);
  }

  close(): void {
    closeSync(this.#fd);
  }
}

function writeAll(fd: number, bytes: Uint8Array, position: number): void {
  for (let written = 0; written < bytes.length; ) written += writeSync(fd, bytes, written, bytes.length - written, position + written);
}

/** For each line of the older lists, by its place: 0, or `superseded`, or the item's index plus one. */
export type Reused = Uint32Array;

export async function readReused(dir: string, listStart: number): Promise<Reused> {
  if (listStart === 0) return new Uint32Array(0);
  let bytes: Buffer;
  try {
    bytes = await readFile(join(dir, homeFiles.reused));
  } catch (error) {
    if (errorCode(error) === "ENOENT") return new Uint32Array(0);
    throw error;
  }
  // Another list's, or cut in the head.
  if (bytes.length < headerBytes || bytes.readDoubleLE(0) !== listStart) return new Uint32Array(0);
  const entries = Math.floor((bytes.length - headerBytes) / entryBytes);
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset + headerBytes, entries * 2);
  let places = 0;
  for (let at = 0; at < words.length; at += 2) places = Math.max(places, (words[at] ?? 0) + 1);
  const reused = new Uint32Array(places);
  for (let at = 0; at < words.length; at += 2) {
    const value = words[at + 1] ?? 0;
    if (value !== 0) reused[words[at] ?? 0] = value;
  }
  return reused;
}
