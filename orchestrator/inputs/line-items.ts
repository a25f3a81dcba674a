import type { JsonValue } from "../../task-manager/protocol.ts";
import type { InputSpec } from "../jobs/types.ts";
import type { ItemRules, RawItem } from "./item.ts";
import { invalid, shown, textItem, toItem, tooLarge } from "./item.ts";
import type { Lines } from "./lines.ts";
import type { SourceItem } from "./types.ts";

type Fields = Pick<InputSpec, "column" | "id" | "weight">;
type JsonObject = { readonly [key: string]: JsonValue };

/** A line of text is the item. */
export function textLine(lines: Lines, rules: ItemRules): SourceItem {
  const text = lines.text();
  if (text === null) return notUtf8(lines);
  return lines.cut ? tooLarge(shown(text), rules, lines.number) : textItem(text, lines.number, rules);
}

/** A line of JSON: its value is the item, or what `valueFields` finds in it. */
export function jsonLine(lines: Lines, fields: Fields, rules: ItemRules): SourceItem {
  const text = lines.text();
  if (text === null) return notUtf8(lines);
  if (lines.cut) return tooLarge(shown(text), rules, lines.number);
  const value = parse(text);
  // The engine's own message quotes the line, which may be a presigned URL.
  if (value === undefined) return invalid(shown(text), `line ${lines.number} is not JSON`);
  return jsonItem(value, { fields, rules, number: lines.number, bytes: lines.byteLength });
}

export interface JsonPlace {
  readonly fields: Fields;
  readonly rules: ItemRules;
  readonly number: number;
  readonly bytes: number;
}

/**
 * The field that `column` names, else the field `input` of an object that has one, else the value itself. An object
 * with `input` gives its `id` and `weight` too; otherwise only the fields that were named do.
 */
export function jsonItem(value: JsonValue, place: JsonPlace): SourceItem {
  const { fields, rules, number, bytes } = place;
  const object = isObject(value) ? value : null;
  const column = fields.column ?? "input";
  if (object !== null && Object.hasOwn(object, column)) {
    const enveloped = fields.column === null;
    return toItem({
      value: object[column],
      id: field(object, fields.id ?? (enveloped ? "id" : null)),
      weight: field(object, fields.weight ?? (enveloped ? "weight" : null)),
      number,
      bytes,
    }, rules);
  }
  if (fields.column !== null) {
    return invalid(shown(value), `${rules.unit} ${number} has no field ${JSON.stringify(fields.column)}`);
  }
  const raw: RawItem = { value, id: field(object, fields.id), weight: field(object, fields.weight), number, bytes };
  return toItem(raw, rules);
}

function notUtf8(lines: Lines): SourceItem {
  return invalid("", `line ${lines.number} is not UTF-8`);
}

function field(object: JsonObject | null, name: string | null): JsonValue | undefined {
  return object !== null && name !== null && Object.hasOwn(object, name) ? object[name] : undefined;
}

function isObject(value: JsonValue): value is { [key: string]: JsonValue } {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function parse(text: string): JsonValue | undefined {
  try {
    return JSON.parse(text) as JsonValue;
  } catch {
    return undefined;
  }
}
