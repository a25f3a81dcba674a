import { readFile, stat } from "node:fs/promises";
import path from "node:path";
import type { Command } from "commander";
import { SplitrunError } from "../errors.ts";
import { isS3 } from "../inputs/is-s3.ts";
import { openRecordedEvents } from "../observe/recorded-events.ts";
import { Timeline } from "../observe/report/timeline.ts";
import { reportFile, writeReport } from "../observe/report/write-report.ts";
import type { Summary } from "../observe/summary.ts";
import { count } from "../observe/progress.ts";
import { replay } from "../scheduler/replay.ts";
import { runsOf } from "../service/prepare-job.ts";

const more = `
The page is one file that takes nothing from elsewhere: send it to whoever asks. It shows why the run took so long, when
each Task Manager had work, the stages' times, errors by code and what it cost. Each run writes it when it ends; this
writes it anew, of a run that was killed, too, or that is under way.

Examples
  splitrun report out                            the last run of a home
  splitrun report out/runs/20261121-143005123-9f3c`;

export function addReport(program: Command): void {
  program
    .command("report")
    .summary("a page that shows what a run did, and why it took so long")
    .description("Writes report.html into the run's directory, from its summary.json and events.jsonl, and prints its path.")
    .argument("<home>", "output directory of a run, whose last run is meant, or a directory of <home>/runs/")
    .option("--json", "as one JSON object")
    .addHelpText("after", more)
    .action(async (place: string, flags: { readonly json?: true }) => {
      const runDir = await runDirOf(place);
      const note = await report(runDir);
      if (flags.json) process.stdout.write(`${JSON.stringify({ runDir, report: reportFile(runDir), note })}\n`);
      else process.stdout.write(`${reportFile(runDir)}\n`);
    });
}

/** Writes it; what a reader has to know of it is returned. */
async function report(runDir: string): Promise<string | null> {
  const { plan, lines } = await openRecordedEvents(runDir);
  const timeline = new Timeline();
  const { steps, firstDifference } = await replay(plan, lines, (event, nowMs, commands) => timeline.stepped(event, nowMs, commands));
  const note = firstDifference === null
    ? null
    : `The run was made by a version of splitrun that decided otherwise from step ${count(firstDifference.step)} of ${count(steps)} and more on: what happened after it is not shown.`;
  const summary = await jsonOf<Summary>(path.join(runDir, "summary.json"));
  const job = await jsonOf<{ readonly name?: string; readonly backend?: string | { readonly kind?: string } }>(path.join(runDir, "job.json"));
  const backend = (typeof job?.backend === "object" ? job.backend.kind : job?.backend) ?? "unknown";
  try {
    await writeReport(runDir, { name: job?.name ?? path.basename(runDir), backend, summary, timeline: timeline.report(), note });
  } catch (cause) {
    throw new SplitrunError(`${reportFile(runDir)} cannot be written: ${cause instanceof Error ? cause.message : String(cause)}`, { code: "HTML_UNWRITABLE", value: runDir, cause });
  }
  return note;
}

/** null where there is none: a run that was killed has written no summary. */
async function jsonOf<T>(file: string): Promise<T | null> {
  try {
    return JSON.parse(await readFile(file, "utf8")) as T;
  } catch (cause) {
    if (cause instanceof Error && "code" in cause && cause.code === "ENOENT") return null;
    throw new SplitrunError(`${file} cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`, { code: "REPORT_UNREADABLE", value: file, cause });
  }
}

/** Of a home, the run that began last. */
async function runDirOf(place: string): Promise<string> {
  if (isS3(place)) {
    throw new SplitrunError(`${place} has results, but not what a report is made of: that is in the home of the machine that ran the job; name that directory`, { code: "REPORT_UNREADABLE", field: "home", value: place });
  }
  const dir = path.resolve(place);
  const last = (await runsOf(dir)).at(-1);
  if (last !== undefined) return path.join(dir, "runs", last);
  if (await isDirectory(dir)) return dir;
  throw new SplitrunError(`${dir} is no directory; name the output directory of a run, or a directory of <home>/runs/`, { code: "REPORT_UNREADABLE", field: "home", value: place });
}

async function isDirectory(dir: string): Promise<boolean> {
  return (await stat(dir).catch(() => null))?.isDirectory() ?? false;
}
