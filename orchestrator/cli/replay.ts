import { createReadStream } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import path from "node:path";
import { createInterface } from "node:readline";
import type { Command } from "commander";
import { SplitrunError } from "../errors.ts";
import type { EventsHeader } from "../observe/events-log.ts";
import { count } from "../observe/progress.ts";
import { replay } from "../scheduler/replay.ts";
import { exitCodes } from "./exit-codes.ts";

export function addReplay(program: Command): void {
  program
    .command("replay")
    .summary("step the scheduler through a recorded run and compare")
    .description("Feeds the events of a run to the scheduler again and compares what it decides with what it decided then.\nExits with 0 if all is the same, 1 at the first difference.")
    .argument("<run directory>", "a directory of <home>/runs/")
    .option("--json", "as one JSON object")
    .action(async (runDir: string, flags: { readonly json?: true }) => {
      const lines = linesOf(await eventsOf(path.resolve(runDir)));
      const header = await headerOf(lines);
      const report = await replay(header.plan, lines);
      if (flags.json) process.stdout.write(`${JSON.stringify(report)}\n`);
      else if (report.firstDifference === null) {
        process.stdout.write(`The same decisions in all ${count(report.steps)} steps.\n`);
      } else process.stdout.write(`Other decisions from step ${count(report.firstDifference.step)} on: ${JSON.stringify(report.firstDifference)}\n`);
      process.exitCode = report.firstDifference === null ? exitCodes.succeeded : exitCodes.withErrors;
    });
}

/** @throws SplitrunError that names the run directories, where a home was given */
async function eventsOf(runDir: string): Promise<string> {
  const file = path.join(runDir, "events.jsonl");
  const { size } = await stat(file).catch(() => ({ size: null }));
  if (size !== null && size > 0) return file;
  const runs = await readdir(path.join(runDir, "runs")).catch(() => []);
  const wayOut = runs.length > 0 ? `; name a run of it: ${runs.map((run) => path.join(runDir, "runs", run)).join(", ")}` : "; name a directory of <home>/runs/";
  const trouble = size === 0 ? "was cut before anything of it was recorded" : "has no events.jsonl";
  throw new SplitrunError(`${runDir} ${trouble}${size === 0 ? "" : wayOut}`, { code: "REPLAY_UNREADABLE", value: runDir });
}

function linesOf(file: string): AsyncIterableIterator<string> {
  return createInterface({ input: createReadStream(file), crlfDelay: Infinity })[Symbol.asyncIterator]();
}

async function headerOf(lines: AsyncIterator<string>): Promise<EventsHeader> {
  try {
    const first = await lines.next();
    const header = JSON.parse(first.value as string) as Partial<EventsHeader>;
    if (header.splitrunEvents === 1 && header.plan !== undefined) return header as EventsHeader;
  } catch (cause) {
    throw new SplitrunError(`the run directory has no events.jsonl that can be replayed: ${cause instanceof Error ? cause.message : String(cause)}`, { code: "REPLAY_UNREADABLE", cause });
  }
  throw new SplitrunError("events.jsonl was written by another version of splitrun", { code: "REPLAY_UNREADABLE" });
}
