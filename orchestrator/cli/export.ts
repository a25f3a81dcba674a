import path from "node:path";
import { Option, type Command } from "commander";
import { SplitrunError } from "../errors.ts";
import { isS3 } from "../inputs/is-s3.ts";
import type { ExportCounts } from "../results/export-outcomes.ts";
import { exportResults } from "../results/export.ts";
import { count } from "../observe/progress.ts";
import { requesterPaysOption, withOutput } from "./in-s3.ts";

const formats = ["jsonl", "csv", "parquet"] as const;
type Format = (typeof formats)[number];

interface ExportFlags {
  readonly to: string;
  readonly format?: Format;
  readonly order: "completion" | "input";
  readonly requesterPays?: true;
  readonly json?: true;
}

export function addExport(program: Command): void {
  program
    .command("export")
    .summary("write the results as CSV, Parquet or JSONL")
    .description("Writes one row an item from the journal of a home, whether its run is finished or not.")
    .argument("<home>", "output directory of the run, or s3://bucket/prefix/")
    .requiredOption("--to <file>", "file to write; its ending tells the format")
    .addOption(new Option("--format <format>", "if the ending does not tell").choices(formats))
    .addOption(new Option("--order <order>", "order of the rows").choices(["completion", "input"]).default("completion", "completion; of an output in S3 always input"))
    .addOption(requesterPaysOption())
    .option("--json", "one JSON object on stdout at the end")
    .action(async (home: string, flags: ExportFlags) => {
      const to = path.resolve(flags.to);
      const format = flags.format ?? formatOf(to);
      const counts = isS3(home) ? await exportFromS3(home, flags, { to, format }) : await exportResults(path.resolve(home), { to, format, order: flags.order });
      if (flags.json) process.stdout.write(`${JSON.stringify({ ...counts, to })}\n`);
      else process.stderr.write(`${count(counts.items)} rows in ${to}\n`);
    });
}

async function exportFromS3(url: string, flags: ExportFlags, options: { readonly to: string; readonly format: Format }): Promise<ExportCounts> {
  const { exportParts } = await import("../results/s3/read-parts.ts");
  return withOutput(url, flags, (objects) => exportParts(objects, options));
}

function formatOf(file: string): Format {
  const ending = path.extname(file).slice(1).toLowerCase();
  const format = formats.find((name) => name === ending);
  if (format === undefined) {
    throw new SplitrunError(`the ending of ${file} does not tell the format: add --format ${formats.join("|")}`, {
      code: "EXPORT_FORMAT",
      field: "--format",
      value: ending,
    });
  }
  return format;
}
