import { isAscii, isUtf8 } from "node:buffer";
import { SplitrunError } from "../errors.ts";
import type { ByteReader } from "./bytes.ts";

/** A longer line is cut while it is read. JSON may escape a byte as six, and carry other fields. */
export const lineBytesMax = 8_000_000;
/** What is kept of a line that is cut. */
const cutLineBytes = 400;

const newline = 0x0a;
const carriageReturn = 0x0d;
const space = 0x20;
const nothing = Buffer.alloc(0);

/**
 * Lines of UTF-8 text, ended by LF or CRLF, blank ones left out. A cursor rather than an iterator: a line costs no
 * allocation until its text is asked for, and the text is a string of its own, so that keeping one line does not
 * keep the chunk it came in.
 */
export class Lines {
  /** Of the current line, from 1, blank lines counted. */
  number = 0;
  /** The current line was longer than `lineBytesMax`: `text()` is its beginning only. */
  cut = false;
  readonly #bytes: ByteReader;
  readonly #name: string;
  #block: Buffer = nothing;
  #at = 0;
  /** What the block's decoding can rely on. */
  #known: "ascii" | "utf8" | "nothing" = "nothing";
  #line: Buffer = nothing;
  #start = 0;
  #end = 0;
  /** Beginning of a line that was too long to be held. */
  #cutLine: Buffer | null = null;
  #readBytes = 0;
  #started = false;
  #ended = false;

  constructor(bytes: ByteReader, name: string) {
    this.#bytes = bytes;
    this.#name = name;
  }

  /** Moves to the next line that is not blank; false: `load` first. */
  next(): boolean {
    while (this.#nextLine()) {
      if (this.firstByte() !== space) return true;
    }
    return false;
  }

  /** Reads more; false: there is nothing more. */
  async load(): Promise<boolean> {
    if (!this.#started) return this.#loadFirst();
    if (this.#ended) return false;
    const rest = this.#block.subarray(this.#at);
    if (rest.length > lineBytesMax) await this.#dropLine(rest);
    else await this.#append(rest);
    this.#at = 0;
    return this.#look();
  }

  /** The current line; null: it is not UTF-8. */
  text(): string | null {
    if (this.#known === "ascii") return this.#line.toString("latin1", this.#start, this.#end);
    const whole = this.#known === "utf8" || this.cut || isUtf8(this.#line.subarray(this.#start, this.#end));
    return whole ? this.#line.toString("utf8", this.#start, this.#end) : null;
  }

  /** Length of the current line. */
  get byteLength(): number {
    return this.#end - this.#start;
  }

  /** The first byte of the current line that is not white space. */
  firstByte(): number {
    for (let at = this.#start; at < this.#end; at += 1) {
      const byte = this.#line[at] ?? space;
      if (byte > space) return byte;
    }
    return space;
  }

  /** Whether everything was read and handed over. */
  get done(): boolean {
    return this.#ended && this.#at >= this.#block.length && this.#cutLine === null;
  }

  /** How much of the source was handed over, 0 to 1; null: unknown. */
  fraction(): number | null {
    const read = this.#bytes.fraction();
    const waiting = this.#block.length - this.#at;
    return read === null || this.#readBytes === 0 ? null : Math.max(0, read * (1 - waiting / this.#readBytes));
  }

  close(): Promise<void> {
    return this.#bytes.close();
  }

  #nextLine(): boolean {
    if (this.#cutLine !== null) {
      this.#setLine(this.#cutLine, 0, this.#cutLine.length, true);
      this.#cutLine = null;
      return true;
    }
    if (this.#at >= this.#block.length) return false;
    const found = this.#block.indexOf(newline, this.#at);
    if (found === -1 && !this.#ended) return false;
    const end = found === -1 ? this.#block.length : found;
    this.#setLine(this.#block, this.#at, end, end - this.#at > lineBytesMax);
    this.#at = end + 1;
    return true;
  }

  #setLine(line: Buffer, start: number, end: number, cut: boolean): void {
    this.number += 1;
    this.cut = cut;
    this.#line = line;
    this.#start = start;
    this.#end = cut ? Math.min(end, start + cutLineBytes) : line[end - 1] === carriageReturn && end > start ? end - 1 : end;
  }

  async #loadFirst(): Promise<boolean> {
    this.#started = true;
    let first: Buffer = nothing;
    while (first.length < 3 && !this.#ended) {
      const chunk = await this.#read();
      if (chunk !== null) first = Buffer.concat([first, chunk]);
    }
    refuseOtherEncodings(first, this.#name);
    this.#block = hasByteOrderMark(first) ? first.subarray(3) : first;
    return this.#look();
  }

  #look(): boolean {
    this.#known = isAscii(this.#block) ? "ascii" : isUtf8(this.#block) ? "utf8" : "nothing";
    return !this.#ended || this.#block.length > 0 || this.#cutLine !== null;
  }

  async #append(rest: Buffer): Promise<void> {
    const chunk = await this.#read();
    if (chunk === null) this.#block = rest;
    else this.#block = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
  }

  async #dropLine(rest: Buffer): Promise<void> {
    this.#cutLine = Buffer.from(rest.subarray(0, cutLineBytes));
    this.#block = nothing;
    for (let chunk = await this.#read(); chunk !== null; chunk = await this.#read()) {
      const found = chunk.indexOf(newline);
      if (found === -1) continue;
      this.#block = chunk.subarray(found + 1);
      return;
    }
  }

  async #read(): Promise<Buffer | null> {
    const chunk = await this.#bytes.read();
    if (chunk === null) this.#ended = true;
    else this.#readBytes += chunk.length;
    return chunk;
  }
}

function hasByteOrderMark(block: Buffer): boolean {
  return block[0] === 0xef && block[1] === 0xbb && block[2] === 0xbf;
}

/**
 * @throws SplitrunError INPUT_FORMAT for UTF-16 and for what is no text at all
 */
export function refuseOtherEncodings(first: Buffer, name: string): void {
  const utf16 = (first[0] === 0xff && first[1] === 0xfe) || (first[0] === 0xfe && first[1] === 0xff);
  if (!utf16 && !first.includes(0)) return;
  const what = utf16 ? "is UTF-16; save it as UTF-8" : "is not text: it has a byte 0; give a list of the images, their folder or a glob; of another format, say `format`";
  throw new SplitrunError(`input ${name} ${what}`, { code: "INPUT_FORMAT", field: "input", value: name });
}
