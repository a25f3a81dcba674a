import type { Command } from "commander";
import { deleteRuntime } from "../service/runtime.ts";
import { addNameFlags, requestOf, stepText, type RuntimeNameFlags } from "./runtime-flags.ts";

interface UndeployFlags extends RuntimeNameFlags {
  readonly stagingBucket?: string;
  readonly dryRun?: true;
}

export function addUndeploy(program: Command): void {
  const command = program
    .command("undeploy")
    .summary("remove the runtime from AWS Lambda")
    .description("Removes what deploy has made, and nothing else: functions, role, log groups with their logs, and what is staged in S3 for them.")
    .addHelpText("after", "\nInvocations that run are not stopped: they end by themselves. Results of jobs are not touched.");
  addNameFlags(command)
    .option("--staging-bucket <bucket>", "bucket or s3://bucket/prefix/ to look into, beside the one that deploy was told")
    .option("--dry-run", "say what would be removed, and do nothing")
    .option("--json", "one JSON object on stdout; everything else on stderr")
    .action(async (flags: UndeployFlags) => {
      const dryRun = flags.dryRun ?? false;
      const report = await deleteRuntime(requestOf(flags, undefined), { dryRun, onStep: (step) => process.stderr.write(`${stepText(step)}\n`) });
      if (flags.json) process.stdout.write(`${JSON.stringify(report)}\n`);
      else if (!report.changed) process.stdout.write(`Nothing to remove: there is no ${report.name} in ${report.region}\n`);
      else process.stdout.write(dryRun ? `Would do:\n${report.steps.map(stepText).join("\n")}\n` : `${report.name} is removed from ${report.region}\n`);
    });
}
