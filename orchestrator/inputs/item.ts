import { isAbsolute, join } from "node:path";
import type { ItemErrorCode, JsonValue } from "../../task-manager/protocol.ts";
import { assignmentBytesMax } from "../../task-manager/protocol.ts";
import type { SourceItem } from "./types.ts";

/** What an item's value has to be, and what its place in the source is called. */
export interface ItemRules {
  /** `image`: a string, a URL or a path; a relative path is taken to be relative to `directory`, in S3 any that is no URL. */
  readonly itemKind: "image" | "value";
  /** Absolute, or `s3://bucket/prefix/`, to which a key is added as it stands. */
  readonly directory: string;
  readonly unit: "line" | "row" | "item";
  /** False: whoever fetches the items is on another machine. */
  readonly localPaths: boolean;
}

export interface RawItem {
  /** undefined: it has a value, but none that JSON can hold. */
  readonly value: JsonValue | undefined;
  /** Bytes that the value took up at most where it was read; infinite: unknown. */
  readonly bytes: number;
  /** undefined and null: none. */
  readonly id: unknown;
  readonly weight: unknown;
  /** Line, row or item, from 1. */
  readonly number: number;
}

/** What of an input that cannot be an item is shown with its error. */
const shownCharsMax = 200;
const idCharsMax = 1024;
/** JSON writes one UTF-16 unit as six bytes at most, and a number as 22 characters where the source had four. */
const growthMax = 6;

const webUrl = /^(?:[a-z][a-z0-9+.-]*:\/\/|data:)/i;

export function toItem(raw: RawItem, rules: ItemRules): SourceItem {
  const value = raw.value;
  if (value === undefined || value === Infinity || value === -Infinity) {
    return invalid("", `${rules.unit} ${raw.number} has a value that JSON cannot hold`);
  }
  if (rules.itemKind === "image" && (typeof value !== "string" || value === "")) {
    return invalid(shown(value), `${rules.unit} ${raw.number} must be a URL or a path, not ${kindOf(value)}${fieldsHint(value)}`);
  }
  const id = toId(raw.id);
  if (id === null) {
    return invalid(shown(value), `${rules.unit} ${raw.number} has an id that is no number and no string up to ${idCharsMax} characters`);
  }
  if (raw.bytes * growthMax > assignmentBytesMax && isTooLarge(value)) return tooLarge(shown(value), rules, raw.number);
  const weight = toWeight(raw.weight);
  const input = typeof value === "string" && rules.itemKind === "image" ? toLocation(value, rules.directory) : value;
  if (isOutOfReach(input, rules)) return outOfReach(input, rules, raw.number);
  if (id === undefined && weight === undefined) return { input };
  return { input, ...(id !== undefined && { id }), ...(weight !== undefined && { weight }) };
}

function fieldsHint(value: JsonValue): string {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return "";
  const names = Object.keys(value).slice(0, 8).map((name) => JSON.stringify(name));
  return `; say in input.column which of its fields it is: ${names.join(", ")}`;
}

/** An item that is a line as it stands. */
export function textItem(text: string, number: number, rules: ItemRules): SourceItem {
  if (text.length * growthMax > assignmentBytesMax && isTooLarge(text)) return tooLarge(shown(text), rules, number);
  const input = rules.itemKind === "image" ? toLocation(text, rules.directory) : text;
  return isOutOfReach(input, rules) ? outOfReach(input, rules, number) : { input };
}

function isOutOfReach(input: JsonValue, { itemKind, localPaths }: ItemRules): input is string {
  return !localPaths && itemKind === "image" && typeof input === "string" && !webUrl.test(input);
}

function outOfReach(input: string, { unit }: ItemRules, number: number): SourceItem {
  return failed(shown(input), "INPUT_SCHEME", `${unit} ${number} is a path on this machine, where the Task Managers are not; give s3:// or http(s) URLs, or set backend.sharedFilesystem: true`);
}

export function tooLarge(input: string, rules: ItemRules, number: number): SourceItem {
  return failed(input, "INPUT_TOO_LARGE", `${rules.unit} ${number} is larger than ${assignmentBytesMax} bytes`);
}

export function invalid(input: string, message: string): SourceItem {
  return failed(input, "INPUT_INVALID", message);
}

/** A short form of an input, for an item that ends as an error. */
export function shown(value: JsonValue): string {
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return text.length <= shownCharsMax ? text : `${text.slice(0, shownCharsMax)}…`;
}

function failed(input: string, code: ItemErrorCode, message: string): SourceItem {
  return { input, error: { code, message } };
}

/** URLs stay as they are; relative paths become absolute, and keys URLs. */
function toLocation(text: string, directory: string): string {
  if (webUrl.test(text)) return text;
  if (directory.startsWith("s3://")) return directory + text;
  return isAbsolute(text) ? text : join(directory, text);
}

function isTooLarge(value: JsonValue): boolean {
  if (typeof value === "string" && value.length * growthMax + 2 <= assignmentBytesMax) return false;
  return Buffer.byteLength(JSON.stringify(value)) > assignmentBytesMax;
}

function toId(id: unknown): string | undefined | null {
  if (id === undefined || id === null || id === "") return undefined;
  if (typeof id === "number" || typeof id === "bigint") return String(id);
  return typeof id === "string" && id.length <= idCharsMax ? id : null;
}

/** A weight only helps to cut the work evenly: what is no weight is left out, not an error. */
function toWeight(weight: unknown): number | undefined {
  if (weight === undefined || weight === null || weight === "") return undefined;
  if (typeof weight !== "number" && typeof weight !== "string" && typeof weight !== "bigint") return undefined;
  const number = Number(weight);
  return Number.isFinite(number) && number >= 0 ? number : undefined;
}

function kindOf(value: JsonValue): string {
  if (value === "") return "empty";
  if (value === null) return "null";
  return Array.isArray(value) ? "a list" : typeof value === "object" ? "an object" : `a ${typeof value}`;
}
