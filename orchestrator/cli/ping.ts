import { InvalidArgumentError, type Command } from "commander";
import { pingRuntime, type Ping, type PingReport } from "../service/runtime.ts";
import { addNameFlags, requestOf, type RuntimeNameFlags } from "./runtime-flags.ts";

interface PingFlags extends RuntimeNameFlags {
  readonly times: number;
  readonly cold?: true;
}

const timesMax = 100;

export function addPing(program: Command): void {
  const command = program
    .command("ping")
    .summary("ask the runtime on AWS Lambda whether it works, and how fast")
    .description("Asks the function some times and tells what a cold start and a warm answer take. Costs a few milliseconds of it.");
  addNameFlags(command)
    .option("--times <number>", "how often", numberOfPings, 5)
    .option("--cold", "start a new environment for certain (on the function's unpublished version: jobs that run notice nothing)")
    .option("--json", "one JSON object on stdout; everything else on stderr")
    .action(async (flags: PingFlags) => {
      const report = await pingRuntime(requestOf(flags, undefined), { times: flags.times, cold: flags.cold ?? false });
      process.stdout.write(flags.json ? `${JSON.stringify(report)}\n` : `${reportText(report).join("\n")}\n`);
    });
}

/** What one answer says. */
export function pingText({ functionName, qualifier, version, cold, roundTripMs, initMs, memoryMb, maxMemoryMb, versions, compatible }: Ping): string {
  const start = cold ? `cold start, ${ms(roundTripMs)} in all${initMs === null ? "" : `, ${ms(initMs)} of it init`}` : `warm, ${ms(roundTripMs)}`;
  const memory = maxMemoryMb === null ? "" : `, ${maxMemoryMb} of ${memoryMb} MB used`;
  const of = Object.entries(versions).map(([name, text]) => `${name} ${text}`).join(", ");
  return `${functionName}:${qualifier} (version ${version}) answers: ${start}${memory} (${of})${compatible ? "" : "; it is of another splitrun than this one: run `splitrun redeploy`"}`;
}

function reportText({ name, region, pings, cold, warmMs }: PingReport): readonly string[] {
  const [first] = pings;
  return [
    `${name} in ${region}`,
    ...(first === undefined ? [] : [pingText(first)]),
    cold === null ? "Cold start: none happened; --cold makes one" : `Cold start: ${ms(cold.roundTripMs)}${cold.initMs === null ? "" : `, init ${ms(cold.initMs)}`}${cold.billedMs === null ? "" : `, billed ${ms(cold.billedMs)}`}`,
    warmMs === null ? "Warm: none; ask more often (--times)" : `Warm: median ${ms(warmMs.median)}, ${ms(warmMs.min)} to ${ms(warmMs.max)} (${pings.filter((ping) => !ping.cold).length} answers)`,
  ];
}

function numberOfPings(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1 || value > timesMax) throw new InvalidArgumentError(`It has to be 1 to ${timesMax}.`);
  return value;
}

function ms(value: number): string {
  return value < 10 ? `${value.toFixed(1)} ms` : `${Math.round(value)} ms`;
}
