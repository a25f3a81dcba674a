import { realpath } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { SplitrunError } from "../errors.ts";
import type { ExportCounts, ExportFormat } from "./export-outcomes.ts";
import { exportOutcomes } from "./export-outcomes.ts";
import { homeFiles } from "./home-files.ts";
import { readOutcomes } from "./read-outcomes.ts";

export interface ExportOptions {
  /** The file to write; one that is there is replaced once the new one is complete. */
  readonly to: string;
  readonly format: ExportFormat;
  readonly order: "completion" | "input";
}

/**
 * Writes the results of a home, one row or line an outcome, to a file that only its owner can read.
 *
 * `jsonl`: the lines of the journal. `csv` and `parquet`: `index`, `id`, `input`, the output's columns, `error_code`,
 * `error_stage`, `error_message`, `attempts`. An output that is an object gives one column a key, those of all
 * outcomes together, in the order in which they first appear; any other output goes to the column `output`. A key
 * with the name of another column gets `output_` before it, and objects with more than 256 different keys stay whole
 * in `output`. Text is written as it is, nested values as JSON text. Parquet columns are INT64, DOUBLE or BOOLEAN
 * where every value allows it, else text. In CSV (RFC 4180, LF) nothing is an empty cell and empty text is `""`.
 *
 * Cells that begin with `=`, `+`, `-` or `@` are not changed, since programs have to read back what was there:
 * import untrusted results into a spreadsheet with all columns as text.
 *
 * @throws SplitrunError EXPORT_TARGET, and whatever reading the home throws
 */
export async function exportResults(homeDir: string, options: ExportOptions): Promise<ExportCounts> {
  const to = resolve(options.to);
  await refuseHomeFiles(homeDir, to);
  const read = () => readOutcomes(homeDir, { order: options.order });
  return exportOutcomes(read, { to, format: options.format });
}

const namesInHome: ReadonlySet<string> = new Set(Object.values(homeFiles));
/** Journals of other tasks. */
const otherJournal = /^results\.[0-9a-f]+\.jsonl$/;

/** The journal must not be replaced by its own projection. */
async function refuseHomeFiles(homeDir: string, to: string): Promise<void> {
  if (!namesInHome.has(basename(to)) && !otherJournal.test(basename(to))) return;
  const real = (path: string): Promise<string> => realpath(path).catch(() => resolve(path));
  if (await real(dirname(to)) !== await real(homeDir)) return;
  throw new SplitrunError(`to: ${to} is a file of the home itself; give another name, ${join(homeDir, `export-${basename(to)}`)} say`, {
    code: "EXPORT_TARGET",
    field: "to",
    value: to,
  });
}
