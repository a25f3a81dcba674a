import { SplitrunError } from "../errors.ts";
import { nearestName } from "../jobs/nearest-name.ts";
import type { InputSpec } from "../jobs/types.ts";

/** Places of the columns that matter, or null where there is none. */
export interface Columns {
  readonly value: number;
  readonly id: number | null;
  readonly weight: number | null;
}

/**
 * The column with the items: the one that was named, else `input`, else `url`, else the only one.
 * @throws SplitrunError INPUT_COLUMN
 */
export function chooseColumns(names: readonly string[], spec: InputSpec): Columns {
  return {
    value: spec.column === null ? unnamed(names, spec) : named(names, spec.column, "column"),
    id: spec.id === null ? null : named(names, spec.id, "id"),
    weight: spec.weight === null ? null : named(names, spec.weight, "weight"),
  };
}

function named(names: readonly string[], name: string, option: string): number {
  const found = names.indexOf(name);
  if (found !== -1) return found;
  const nearest = nearestName(name, names);
  const hint = nearest === null ? "" : `; did you mean ${JSON.stringify(nearest)}?`;
  throw columnError(`input has no column ${JSON.stringify(name)}, it has ${listed(names)}${hint}`, `input.${option}`, name);
}

function unnamed(names: readonly string[], spec: InputSpec): number {
  for (const name of ["input", "url"]) {
    const found = names.indexOf(name);
    if (found !== -1) return found;
  }
  if (names.length !== 1) {
    throw columnError(`input has the columns ${listed(names)}: name the one with the items in input.column`, "input.column", null);
  }
  // Taking an item for the header would lose it without a word.
  if (spec.format !== "parquet" && /[/\\]/.test(names[0] ?? "")) {
    throw columnError("the first line of a CSV file names its columns, and this one looks like an item: "
      + "put a line `input` before it, or say input.format: text", "input.format", "csv");
  }
  return 0;
}

const namesShownMax = 20;

function listed(names: readonly string[]): string {
  const shown = names.slice(0, namesShownMax).map((name) => JSON.stringify(name)).join(", ");
  return names.length > namesShownMax ? `${shown} and ${names.length - namesShownMax} more` : shown;
}

function columnError(message: string, field: string, value: unknown): SplitrunError {
  return new SplitrunError(message, { code: "INPUT_COLUMN", field, value });
}
