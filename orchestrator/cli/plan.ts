import type { Command } from "commander";
import { formatPlan, planJson } from "../jobs/plan.ts";
import { prepareJob } from "../service/prepare-job.ts";
import { addJobFlags, overridesOf, type JobFlags } from "./job-flags.ts";

export function addPlan(program: Command): void {
  const command = program
    .command("plan")
    .summary("show what a job would do, and where each value comes from")
    .description("Prints the complete job with the rule that each value came from. Starts nothing.")
    .argument("[job]", "job file");
  addJobFlags(command)
    .option("--json", "as one JSON object")
    .action(async (file: string | undefined, flags: JobFlags & { readonly json?: true }) => {
      const resolution = await prepareJob(file ?? null, overridesOf(flags), { cwd: process.cwd(), stdin: process.stdin, offer: null, items: null });
      process.stdout.write(flags.json ? `${JSON.stringify(planJson(resolution))}\n` : `${formatPlan(resolution)}\n`);
    });
}
