import type { Command } from "commander";
import { prepareJob } from "../service/prepare-job.ts";
import { executeForCommand } from "./execute.ts";
import { addJobFlags, overridesOf, type JobFlags } from "./job-flags.ts";

interface RunFlags extends JobFlags {
  readonly fresh?: true;
  readonly takeOver?: true;
  readonly json?: true;
  readonly quiet?: true;
}

const examples = `
Examples
  The first hundred images of a list, then all of it; the hundred are not done again:
    splitrun run --input urls.txt --model model.onnx --output out --limit 100
    splitrun run --input urls.txt --model model.onnx --output out
  A folder of pictures, with the names of the classes; results are printed:
    splitrun run --input photos/ --model model.onnx --labels labels.txt
  A column of a table, whose column "key" is carried along:
    splitrun run --input table.csv --column url --set input.id=key --model model.onnx --output out
  A host that wants a token, which is never written down, and no more than eight requests at once:
    splitrun run --input urls.txt --model model.onnx --output out \\
      --set 'task.download.headers.Authorization={"env":"TOKEN"}' --set task.download.perHost.concurrency=8
  A function of your own instead of a model, for each line of a list:
    splitrun run --input lines.txt --set task.kind=function --set task.module=./mine.mjs --output out
  A job as a file, with a field changed:
    splitrun run job.yaml --set task.infer.batch=16`;

export function addRun(program: Command): void {
  const command = program
    .command("run")
    .summary("run a job: from a file, from flags, or both")
    .description(
      "Runs a job. A job file (.json, .yaml, .js, .ts) says what to do; flags say the same or override it.\nA home (--output) that has results already is gone on with: only what is new, changed or failed is done.",
    )
    .argument("[job]", "job file");
  addJobFlags(command)
    .option("--fresh", "set aside what the output directory or prefix holds, and start anew")
    .option("--take-over", "use a home or an output that belongs to another machine, which is gone for good")
    .option("--json", "one JSON object on stdout at the end; everything else on stderr")
    .option("-q, --quiet", "no progress and no summary, but why it stopped early")
    .addHelpText("after", examples)
    .action(async (job: string | undefined, flags: RunFlags) => {
      const resolution = await prepareJob(job ?? null, overridesOf(flags), { cwd: process.cwd(), stdin: process.stdin, offer: null, items: null });
      await executeForCommand(
        resolution,
        { json: flags.json ?? false, quiet: flags.quiet ?? false },
        { mode: "run", home: null, fresh: flags.fresh ?? false, retryFailed: true, takeOver: flags.takeOver ?? false, taken: null },
      );
    });
}
