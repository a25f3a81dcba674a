import type { JsonValue } from "../protocol.ts";

/** A result above this is an error: it would hold up every message behind it. */
export const resultBytesMax = 8_000_000;

/** Why a value is not JSON, with the place in it; null: it is. Properties that are undefined are left out, as JSON does. */
export function whyNotJson(value: unknown, place = "the returned value", ancestors: readonly object[] = []): string | null {
  switch (typeof value) {
    case "string":
    case "boolean":
      return null;
    case "number":
      return Number.isFinite(value) ? null : `${place} is ${value}, which JSON cannot hold`;
    case "object":
      return value === null ? null : whyObjectNotJson(value, place, ancestors);
    default:
      return `${place} is ${typeof value === "undefined" ? "undefined (return null for nothing)" : `a ${typeof value}`}`;
  }
}

function whyObjectNotJson(value: object, place: string, ancestors: readonly object[]): string | null {
  if (ancestors.includes(value)) return `${place} contains itself`;
  const inside = [...ancestors, value];
  if (Array.isArray(value)) {
    for (let at = 0; at < value.length; at++) {
      const why = whyNotJson(value[at], `${place}[${at}]`, inside);
      if (why !== null) return why;
    }
    return null;
  }
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) {
    return `${place} is a ${value.constructor.name}, not a plain object`;
  }
  for (const [key, each] of Object.entries(value)) {
    if (each === undefined) continue;
    const why = whyNotJson(each, `${place}.${key}`, inside);
    if (why !== null) return why;
  }
  return null;
}

export function asJson(value: unknown): JsonValue {
  return value as JsonValue;
}
