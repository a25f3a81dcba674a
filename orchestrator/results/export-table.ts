import type { JsonValue } from "../../task-manager/protocol.ts";
import { SplitrunError } from "../errors.ts";
import type { Outcome } from "./types.ts";

export type ColumnKind = "integer" | "number" | "boolean" | "text";

export interface Column {
  readonly name: string;
  readonly kind: ColumnKind;
  /** Every row has a value. */
  readonly required: boolean;
  valueOf(outcome: Outcome): JsonValue | undefined;
}

export interface Table {
  readonly columns: readonly Column[];
  /** Rows that there were when the columns were found. */
  readonly rows: number;
}

/** Above this many, keys are data rather than names. */
const keysMax = 256;

const before: readonly Column[] = [
  column("index", "integer", true, (outcome) => outcome.index),
  column("id", "text", false, (outcome) => outcome.id),
  column("input", "text", false, (outcome) => outcome.input),
];

const after: readonly Column[] = [
  column("error_code", "text", false, (outcome) => outcome.error?.code),
  column("error_stage", "text", false, (outcome) => outcome.error?.stage),
  column("error_message", "text", false, (outcome) => outcome.error?.message),
  column("attempts", "integer", true, (outcome) => outcome.attempts),
];

/** Reads all outcomes once, since only the last may tell that a column holds more than integers. */
export async function findTable(outcomes: AsyncIterable<Outcome>): Promise<Table> {
  const keys = new Map<string, KindOfAll>();
  let others: KindOfAll = null;
  let split = true;
  let rows = 0;
  for await (const { output } of outcomes) {
    rows += 1;
    if (output === undefined) continue;
    if (!isObject(output)) {
      others = widened(others, output);
    } else if (split) {
      for (const key in output) keys.set(key, widened(keys.get(key) ?? null, output[key] ?? null));
      split = keys.size <= keysMax;
    }
  }
  if (!split) return { columns: [...before, wholeOutput("text"), ...after], rows };
  const whole = others === null ? [] : [wholeOutput(others)];
  const taken = new Set([...before, ...whole, ...after].map(({ name }) => name));
  const named = [...keys].map(([key, kind]) => column(freeName(key, taken), kind ?? "text", false, (outcome) => field(outcome, key)));
  return { columns: [...before, ...named, ...whole.map(onlyOthers), ...after], rows };
}

/** What the column says of an outcome; null: nothing. */
export function cellOf(column: Column, outcome: Outcome): JsonValue {
  const value = column.valueOf(outcome) ?? null;
  if (value !== null && widened(column.kind, value) !== column.kind) throw changedError();
  return value;
}

/** Passes rows on, and throws where they are not those that the columns were found in. */
export async function* rowsOf(table: Table, outcomes: AsyncIterable<Outcome>): AsyncGenerator<Outcome> {
  let rows = 0;
  for await (const outcome of outcomes) {
    rows += 1;
    yield outcome;
  }
  if (rows !== table.rows) throw changedError();
}

/** Text as it is, anything else as JSON. */
export function cellText(value: JsonValue): string {
  return typeof value === "string" ? value : JSON.stringify(value);
}

/** null: no value was seen. */
type KindOfAll = ColumnKind | null;

function widened(known: KindOfAll, value: JsonValue): KindOfAll {
  if (value === null) return known;
  const kind = kindOf(value);
  if (known === null || known === kind) return kind;
  const numbers = (known === "integer" || known === "number") && (kind === "integer" || kind === "number");
  return numbers ? "number" : "text";
}

function changedError(): SplitrunError {
  return new SplitrunError("results were added while they were exported; export again when the run has ended, or as jsonl", { code: "EXPORT_CHANGED" });
}

function kindOf(value: JsonValue): ColumnKind {
  switch (typeof value) {
    case "number":
      return Number.isSafeInteger(value) ? "integer" : "number";
    case "boolean":
      return "boolean";
    default:
      return "text";
  }
}

function wholeOutput(kind: ColumnKind): Column {
  return column("output", kind, false, (outcome) => outcome.output);
}

function onlyOthers(whole: Column): Column {
  return { ...whole, valueOf: ({ output }) => (output === undefined || isObject(output) ? undefined : output) };
}

function field({ output }: Outcome, key: string): JsonValue | undefined {
  return output !== undefined && isObject(output) && Object.hasOwn(output, key) ? output[key] : undefined;
}

function freeName(key: string, taken: Set<string>): string {
  const name = taken.has(key) ? freeName(`output_${key}`, taken) : key;
  taken.add(name);
  return name;
}

function isObject(value: JsonValue): value is { [key: string]: JsonValue } {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function column(name: string, kind: ColumnKind, required: boolean, valueOf: Column["valueOf"]): Column {
  return { name, kind, required, valueOf };
}
