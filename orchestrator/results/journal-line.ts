import type { JsonValue } from "../../task-manager/protocol.ts";
import type { KeyHash } from "./key.ts";
import { keyHash } from "./key.ts";
import { outcomeLine } from "./outcome-line.ts";
import { isPlain } from "./plain-bytes.ts";
import type { Outcome } from "./types.ts";

const quote = 0x22;
const backslash = 0x5c;
const openBrace = 0x7b;
const closeBrace = 0x7d;
const openBracket = 0x5b;
const closeBracket = 0x5d;
const comma = 0x2c;
const colon = 0x3a;
const minus = 0x2d;
const plus = 0x2b;
const point = 0x2e;
const zero = 0x30;
const nine = 0x39;

const unicodeEscape = 0x75;
const escapes: ReadonlySet<number> = new Set(Buffer.from('"\\\\/bfnrt'));

const indexName = Buffer.from('{"index":');
const idName = Buffer.from('"id":');
const inputName = Buffer.from('"input":');
const versionName = Buffer.from('"version":');
const outputName = Buffer.from('"output":');
const errorName = Buffer.from('"error":');
const attemptsName = Buffer.from('"attempts":');
const words = [Buffer.from("null"), Buffer.from("true"), Buffer.from("false")] as const;

/** Longest list. An index above it is damage, and must not make anyone's array grow. */
export const itemsMax = 268_435_456;

/** Deeper values are left to the JSON parser. */
const depthMax = 64;

interface Span {
  start: number;
  end: number;
}

/**
 * One line of the journal where it lies in a buffer: checked byte by byte and located, not turned into objects, since
 * whoever resumes a million items needs a few numbers of each line. A line of another key order (made by hand, say) is
 * parsed instead.
 */
export class JournalLine {
  index = 0;
  failed = false;
  #bytes: Buffer = Buffer.alloc(0);
  /** Of `#bytes`: strings in them have no escapes and nothing to be refused. */
  #plain = true;
  #start = 0;
  #end = 0;
  #indexEnd = 0;
  /** Empty: the line has none. */
  readonly #id: Span = { start: 0, end: 0 };
  readonly #input: Span = { start: 0, end: 0 };
  readonly #version: Span = { start: 0, end: 0 };
  /** Of a line in another key order. */
  #parsed: Outcome | null = null;

  /**
   * Looks at the bytes from `start` to `end`, without the line's end, which is nowhere between them. False: this is no
   * line of a journal. A buffer object stays as it is from its first line to its last.
   */
  read(bytes: Buffer, start: number, end: number): boolean {
    if (bytes !== this.#bytes) this.#plain = isPlain(bytes);
    this.#bytes = bytes;
    this.#start = start;
    this.#end = end;
    this.#parsed = null;
    return this.#locate() || this.#parse();
  }

  key(): KeyHash {
    if (this.#parsed !== null) return keyHash(this.#parsed);
    const id = this.#id.end === 0 ? undefined : this.#text(this.#id);
    const version = this.#version.end === 0 ? undefined : this.#text(this.#version);
    return keyHash({ ...(id !== undefined && { id }), input: id === undefined ? this.#value(this.#input) : null, ...(version !== undefined && { version }) });
  }

  /** What an input file needs of it. */
  item(): Pick<Outcome, "id" | "input"> {
    const { id, input } = this.outcome();
    return id === undefined ? { input } : { id, input };
  }

  outcome(): Outcome {
    return this.#parsed ?? (JSON.parse(this.#bytes.toString("utf8", this.#start, this.#end)) as Outcome);
  }

  /** The line with another index, and its end; the bytes are the scanned buffer's own where nothing changes. */
  withIndex(index: number): readonly Buffer[] {
    if (this.#parsed !== null) return [Buffer.from(outcomeLine({ ...this.#parsed, index }))];
    if (index === this.index) return [this.#bytes.subarray(this.#start, this.#end), lineEnd];
    return [indexName, Buffer.from(String(index)), this.#bytes.subarray(this.#indexEnd, this.#end), lineEnd];
  }

  #locate(): boolean {
    const bytes = this.#bytes;
    let at = this.#skipName(indexName, this.#start);
    if (at === -1) return false;
    const digits = at;
    let index = 0;
    for (let byte = bytes[at] ?? 0; at < this.#end && byte >= zero && byte <= nine; byte = bytes[++at] ?? 0) index = index * 10 + byte - zero;
    // No number of JSON begins with a zero that is not all of it.
    const isPadded = bytes[digits] === zero && at > digits + 1;
    if (at === digits || isPadded || index >= itemsMax) return false;
    this.index = index;
    this.#indexEnd = at;
    at = this.#skipComma(at);
    at = this.#optional(idName, at, this.#id);
    const input = this.#skipName(inputName, at);
    if (input === -1) return false;
    at = this.#skipValue(input, 0);
    if (at === -1) return false;
    this.#input.start = input;
    this.#input.end = at;
    at = this.#optional(versionName, this.#skipComma(at), this.#version);
    const output = this.#skipName(outputName, at);
    this.failed = output === -1;
    at = this.#skipValue(this.failed ? this.#skipName(errorName, at) : output, 0);
    at = this.#skipName(attemptsName, this.#skipComma(at));
    at = this.#skipScalar(at);
    return at === this.#end - 1 && bytes[at] === closeBrace;
  }

  /** A field that may be there: a string, and the comma behind it. */
  #optional(name: Buffer, at: number, span: Span): number {
    span.end = 0;
    const start = this.#skipName(name, at);
    if (start === -1) return at;
    const end = this.#bytes[start] === quote ? this.#skipString(start) : -1;
    if (end === -1) return -1;
    span.start = start;
    span.end = end;
    return this.#skipComma(end);
  }

  #skipName(name: Buffer, at: number): number {
    if (at === -1 || at + name.length > this.#end) return -1;
    for (let i = 0; i < name.length; i++) if (this.#bytes[at + i] !== name[i]) return -1;
    return at + name.length;
  }

  #skipComma(at: number): number {
    return at !== -1 && at < this.#end && this.#bytes[at] === comma ? at + 1 : -1;
  }

  /** Behind the value that begins here; -1: there is none. Spaces between tokens are another writer's. */
  #skipValue(at: number, depth: number): number {
    if (at === -1 || at >= this.#end || depth > depthMax) return -1;
    const byte = this.#bytes[at];
    if (byte === quote) return this.#skipString(at);
    if (byte === openBrace) return this.#skipMembers(at + 1, closeBrace, depth + 1);
    if (byte === openBracket) return this.#skipMembers(at + 1, closeBracket, depth + 1);
    return this.#skipScalar(at);
  }

  #skipMembers(first: number, closing: number, depth: number): number {
    const bytes = this.#bytes;
    if (bytes[first] === closing) return first < this.#end ? first + 1 : -1;
    let at = first;
    for (;;) {
      if (closing === closeBrace) {
        at = bytes[at] === quote ? this.#skipString(at) : -1;
        if (at === -1 || bytes[at] !== colon) return -1;
        at += 1;
      }
      at = this.#skipValue(at, depth);
      if (at === -1 || at >= this.#end) return -1;
      if (bytes[at] === closing) return at + 1;
      if (bytes[at] !== comma) return -1;
      at += 1;
    }
  }

  #skipString(start: number): number {
    const bytes = this.#bytes;
    if (this.#plain) {
      const end = bytes.indexOf(quote, start + 1);
      return end === -1 || end >= this.#end ? -1 : end + 1;
    }
    for (let at = start + 1; at < this.#end; at++) {
      const byte = bytes[at] ?? 0;
      if (byte === quote) return at + 1;
      if (byte === backslash) at = this.#skipEscape(at + 1);
      else if (byte < 0x20) return -1;
      if (at === -1) return -1;
    }
    return -1;
  }

  /** The last byte of the escape whose letter stands here. */
  #skipEscape(at: number): number {
    if (this.#bytes[at] !== unicodeEscape) return escapes.has(this.#bytes[at] ?? 0) ? at : -1;
    for (let digit = at + 1; digit <= at + 4; digit++) if (!isHex(this.#bytes[digit] ?? 0)) return -1;
    return at + 4;
  }

  /** A number, or `true`, `false`, `null`. */
  #skipScalar(start: number): number {
    if (start === -1) return -1;
    for (const word of words) {
      const end = this.#skipName(word, start);
      if (end !== -1) return end;
    }
    return this.#skipNumber(start);
  }

  #skipNumber(start: number): number {
    const bytes = this.#bytes;
    const whole = bytes[start] === minus ? start + 1 : start;
    let at = this.#skipDigits(whole);
    if (at === -1 || (bytes[whole] === zero && at > whole + 1)) return -1;
    if (bytes[at] === point) at = this.#skipDigits(at + 1);
    if (at === -1 || (bytes[at] !== 0x65 && bytes[at] !== 0x45)) return at;
    const signed = bytes[at + 1] === minus || bytes[at + 1] === plus;
    return this.#skipDigits(at + (signed ? 2 : 1));
  }

  #skipDigits(start: number): number {
    let at = start;
    for (let byte = this.#bytes[at] ?? 0; at < this.#end && byte >= zero && byte <= nine; byte = this.#bytes[++at] ?? 0);
    return at === start ? -1 : at;
  }

  #text(span: Span): string {
    const text = this.#bytes.toString("utf8", span.start + 1, span.end - 1);
    return text.includes("\\") ? (JSON.parse(`"${text}"`) as string) : text;
  }

  #value(span: Span): JsonValue {
    return this.#bytes[span.start] === quote ? this.#text(span) : (JSON.parse(this.#bytes.toString("utf8", span.start, span.end)) as JsonValue);
  }

  #parse(): boolean {
    // A torn line ends in anything but this; the parser's exceptions cost more than the scan.
    if (this.#bytes[this.#start] !== openBrace || this.#bytes[this.#end - 1] !== closeBrace) return false;
    try {
      const value = JSON.parse(this.#bytes.toString("utf8", this.#start, this.#end)) as Partial<Outcome>;
      if (!Number.isInteger(value.index) || (value.index ?? -1) < 0 || (value.index ?? itemsMax) >= itemsMax || value.input === undefined) return false;
      if ((value.output === undefined) === (value.error === undefined)) return false;
      this.#parsed = value as Outcome;
      this.index = this.#parsed.index;
      this.failed = value.error !== undefined;
      return true;
    } catch {
      return false;
    }
  }
}

const lineEnd = Buffer.from("\n");

function isHex(byte: number): boolean {
  return (byte >= zero && byte <= nine) || (byte >= 0x41 && byte <= 0x46) || (byte >= 0x61 && byte <= 0x66);
}
