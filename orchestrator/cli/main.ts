#!/usr/bin/env node
import { Command, CommanderError } from "commander";
import { SplitrunError } from "../errors.ts";
import { addDeploy, addRedeploy } from "./deploy.ts";
import { addExport } from "./export.ts";
import { addPing } from "./ping.ts";
import { addPlan } from "./plan.ts";
import { addReplay } from "./replay.ts";
import { addReport } from "./report.ts";
import { addResume } from "./resume.ts";
import { addRun } from "./run.ts";
import { addSimulate } from "./simulate.ts";
import { addUndeploy } from "./undeploy.ts";
import { addVerify } from "./verify.ts";
import { exitCodes } from "./exit-codes.ts";

const examples = `
Examples
  Try the first hundred images of a list:
    splitrun run --input urls.txt --model model.onnx --output out --limit 100
  The whole list; what is done already is not done again:
    splitrun run --input urls.txt --model model.onnx --output out
  Go on after Ctrl-C, a crash or a full disk:
    splitrun resume out
  See what a job would do, and why, without doing it:
    splitrun plan job.yaml
  Why a run took so long, on a page:
    splitrun report out
  Results as a table, in the order of the list:
    splitrun export out --to results.csv --order input
  The same on a thousand functions of AWS Lambda, and away again:
    splitrun deploy --model model.onnx
    splitrun run --backend lambda --input urls.txt --model model.onnx --output out
    splitrun undeploy

Exit codes
    0  every item has a result
    1  finished, some items ended as errors (failed.jsonl lists them)
    2  the job or the command line is wrong; nothing was started
    3  stopped early (backend, tolerance, budget, time-out, disk, S3); resume goes on
  130  interrupted; resume goes on`;

function createProgram(): Command {
  const program = new Command("splitrun")
    .description("Runs a model or a function over a list of images or values, on every core, and leaves exactly one result or one error for each.")
    .version(__SPLITRUN_VERSION__)
    .addHelpText("after", examples)
    .configureHelp({ sortSubcommands: false, showGlobalOptions: false })
    .showSuggestionAfterError()
    .showHelpAfterError("(splitrun --help shows what there is)")
    .exitOverride();
  for (const add of [addRun, addResume, addPlan, addExport, addVerify, addReport, addReplay, addDeploy, addRedeploy, addUndeploy, addPing, addSimulate]) add(program);
  for (const command of program.commands) command.exitOverride().showSuggestionAfterError().showHelpAfterError(`(splitrun ${command.name()} --help shows what there is)`);
  return program;
}

try {
  await createProgram().parseAsync();
} catch (error) {
  process.exitCode = report(error);
}

/** The problem in plain words; a stack only for what is our own fault. */
function report(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : exitCodes.wrong;
  if (error instanceof SplitrunError) {
    process.stderr.write(`splitrun: ${error.message}\n`);
    if (process.argv.includes("--json")) {
      process.stdout.write(`${JSON.stringify({ error: { code: error.code, field: error.field ?? null, message: error.message } })}\n`);
    }
    return exitCodes.wrong;
  }
  process.stderr.write(`splitrun: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
  return exitCodes.stopped;
}
