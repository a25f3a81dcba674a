import { SplitrunError } from "../../errors.ts";
import type { ExportCounts, ExportFormat } from "../export-outcomes.ts";
import { exportOutcomes } from "../export-outcomes.ts";
import type { Outcome } from "../types.ts";
import { firstOfPart, outputNames } from "./names.ts";
import { type OutputObjects, outputError } from "./objects.ts";
import { visitLines } from "./read-lines.ts";
import { linesFolder } from "./rebuild.ts";
import { type RunRecord, runRecord } from "./records.ts";

/** @throws SplitrunError HOME_EMPTY, OUTPUT_UNUSABLE, OUTPUT_DAMAGED */
export async function recordOf(objects: OutputObjects): Promise<RunRecord> {
  const found = await objects.readRecord(outputNames.record, runRecord).catch((error: unknown) => {
    throw outputError(objects.url, error);
  });
  if (found !== null) return found.value;
  throw new SplitrunError(`${objects.url} holds no results: it has no ${outputNames.record}; name the output of a run`, { code: "HOME_EMPTY", field: "output", value: objects.url });
}

/**
 * Writes what the parts in S3 hold to a file, in the order of the input; of a run that has not ended, what is there.
 * @throws SplitrunError HOME_EMPTY, OUTPUT_UNUSABLE, OUTPUT_DAMAGED, EXPORT_TARGET, EXPORT_CHANGED
 */
export async function exportParts(objects: OutputObjects, options: { readonly to: string; readonly format: ExportFormat }): Promise<ExportCounts> {
  const { format } = await recordOf(objects);
  return exportOutcomes(() => readParts(objects, linesFolder(format)), options).catch((error: unknown) => {
    throw outputError(objects.url, error);
  });
}

async function* readParts(objects: OutputObjects, folder: string): AsyncGenerator<Outcome> {
  for await (const [name, object] of objects.list(folder)) {
    if (firstOfPart(name) === null) continue;
    let outcomes: Outcome[] = [];
    const visitor = {
      line: (line: { outcome(): Outcome }): void => {
        outcomes.push(line.outcome());
      },
      damaged: (): void => {
        throw new SplitrunError(`${objects.urlOf(name)} has a line that is no result; \`splitrun resume ${objects.url}\` does its item again`, { code: "OUTPUT_DAMAGED", value: name });
      },
    };
    for await (const _ of visitLines(objects.chunks(name, object), visitor)) {
      yield* outcomes;
      outcomes = [];
    }
  }
}
