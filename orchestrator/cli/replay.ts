import path from "node:path";
import type { Command } from "commander";
import { count } from "../observe/progress.ts";
import { openRecordedEvents } from "../observe/recorded-events.ts";
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
      const { plan, lines } = await openRecordedEvents(path.resolve(runDir));
      const report = await replay(plan, lines);
      if (flags.json) process.stdout.write(`${JSON.stringify(report)}\n`);
      else if (report.firstDifference === null) {
        process.stdout.write(`The same decisions in all ${count(report.steps)} steps.\n`);
      } else process.stdout.write(`Other decisions from step ${count(report.firstDifference.step)} on: ${JSON.stringify(report.firstDifference)}\n`);
      process.exitCode = report.firstDifference === null ? exitCodes.succeeded : exitCodes.withErrors;
    });
}
