import { setFlagsFromString } from "node:v8";
import { endBundling } from "../jobs/bundle.ts";
import { defaultCacheDir } from "../jobs/content-cache.ts";
import { jobForRecord } from "../jobs/record.ts";
import { createProgressLine } from "../observe/progress.ts";
import { stopText, summaryText } from "../observe/summary.ts";
import { outcomeLine } from "../results/outcome-line.ts";
import type { Outcome } from "../results/types.ts";
import { executeAlone, type ExecuteOptions } from "../service/execute-job.ts";
import type { PreparedJob } from "../service/prepare-job.ts";
import { createStopSwitch, type StopSwitch } from "../service/stop-switch.ts";
import { exitCodeOf, exitCodes } from "./exit-codes.ts";

export interface ExecuteFlags {
  readonly json: boolean;
  readonly quiet: boolean;
}

/** Runs a job in front of a person or a script: progress on stderr, results or one JSON object on stdout. */
export async function executeForCommand(
  { job, withoutEffect, stdin }: PreparedJob,
  flags: ExecuteFlags,
  options: Pick<ExecuteOptions, "mode" | "home" | "fresh" | "retryFailed" | "takeOver" | "taken">,
): Promise<void> {
  // Answers of many invocations are garbage soon; by itself the heap grows to four times what lives in it.
  if (job.backend.kind === "lambda") setFlagsFromString("--heap-growing-percent=100");
  const line = createProgressLine(process.stderr);
  const stop = createStopSwitch();
  const unlisten = listenToSignals(stop, (text) => line.say(text));
  const said = new Set<string>();
  const prints = job.output.kind === "print" && !flags.json;
  try {
    const result = await executeAlone(job, {
      ...options,
      cwd: process.cwd(),
      cacheDir: defaultCacheDir(process.env),
      stdin,
      record: jobForRecord(job),
      // A job that was recorded is complete, and its first run has said it.
      withoutEffect: options.mode === "resume" ? [] : withoutEffect,
      stop,
      onProgress: flags.quiet ? null : (progress) => line.show(progress),
      onStored: prints ? printer(stop) : null,
      onNote(text) {
        said.add(text);
        line.say(`Note: ${text}`);
      },
      onHome: () => void endBundling(),
    });
    line.end();
    const notes = result.summary.notes.filter((note) => !said.has(note));
    const told = flags.quiet ? stopText(result.summary) : summaryText({ ...result.summary, notes });
    if (told !== null) process.stderr.write(`${told}\n`);
    if (flags.json) process.stdout.write(`${JSON.stringify(result.summary)}\n`);
    process.exitCode = exitCodeOf(result.state);
  } finally {
    line.end();
    unlisten();
  }
}

/** Once: end what is begun. Twice: end at once. A terminal that is gone counts as once. */
function listenToSignals(stop: StopSwitch, say: (text: string) => void): () => void {
  let requests = 0;
  const onSignal = () => {
    // Nothing is begun, and Task Managers end when their orchestrator does.
    if (!stop.heard) process.exit(exitCodes.interrupted);
    requests += 1;
    if (requests === 1) say("Stopping: what is begun may end, the rest can be resumed. Ctrl-C again stops at once.");
    stop.request(requests === 1 ? "drain" : "now");
  };
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
  for (const signal of signals) process.on(signal, onSignal);
  return () => {
    for (const signal of signals) process.off(signal, onSignal);
  };
}

/** Every item's line as it is stored. A reader that went away (`| head`) ends the run. */
function printer(stop: StopSwitch): (outcomes: readonly Outcome[]) => Promise<void> | void {
  process.stdout.on("error", () => stop.request("drain"));
  return (outcomes) => {
    const drained = process.stdout.write(outcomes.map(outcomeLine).join(""));
    if (drained || process.stdout.destroyed) return;
    return new Promise((resolve) => {
      process.stdout.once("drain", resolve);
      process.stdout.once("error", () => resolve());
    });
  };
}
