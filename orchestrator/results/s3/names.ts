/**
 * What is below an output's prefix. The parts, `manifest.json` and `_SUCCESS` are for those who read the results; what
 * `resume` needs is below `_splitrun/`.
 */
export const outputNames = {
  manifest: "manifest.json",
  success: "_SUCCESS",
  parts: "parts/",
  own: "_splitrun/",
  record: "_splitrun/run.json",
  lease: "_splitrun/lease.json",
  /** The list, in pieces named by their first item. */
  inputs: "_splitrun/inputs/",
  /** Lines that are in no part yet. */
  tails: "_splitrun/tails/",
  /** The parts as lines of the journal, where those for the readers have another format. */
  lines: "_splitrun/parts/",
  /** Models and modules, by content. */
  artifacts: "_splitrun/artifacts/",
} as const;

const digits = 12;

/** Named by its first item, so that it is the same object however often it is written. */
export function partName(folder: string, first: number, ending: string): string {
  return `${folder}part-${String(first).padStart(digits, "0")}.${ending}`;
}

export function inputsName(first: number): string {
  return `${outputNames.inputs}inputs-${String(first).padStart(digits, "0")}.jsonl`;
}

/** Of the lines of one home up to a place in its journal. */
export function tailName(homeId: string, end: number): string {
  return `${outputNames.tails}${homeId}-${String(end).padStart(digits + 3, "0")}.jsonl`;
}

/** null: it is no part. */
export function firstOfPart(name: string): number | null {
  const [, first] = /\/part-(\d{12,})\.[a-z]+$/.exec(name) ?? [];
  return first === undefined ? null : Number(first);
}
