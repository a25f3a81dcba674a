import path from "node:path";
import type { Command } from "commander";
import { SplitrunError } from "../errors.ts";
import { isS3 } from "../inputs/is-s3.ts";
import { homeOfOutput, itemsOfHome, type TakenOutput } from "../service/output-in-s3.ts";
import { prepareJob, recordedJob } from "../service/prepare-job.ts";
import { executeForCommand } from "./execute.ts";
import { outputUrl } from "./in-s3.ts";
import { collect } from "./job-flags.ts";

interface ResumeFlags {
  readonly retryFailed?: true;
  readonly takeOver?: true;
  readonly set?: readonly string[];
  readonly json?: true;
  readonly quiet?: true;
}

const examples = `
Examples
  After Ctrl-C, a crash or a full disk:
    splitrun resume out
  Once the host is up again, with fewer requests at once:
    splitrun resume out --retry-failed --set task.download.perHost.concurrency=4
  The rest on AWS Lambda, or back on this machine with --set backend=local:
    splitrun resume out --set backend=lambda`;

export function addResume(program: Command): void {
  program
    .command("resume")
    .summary("go on with a run that was interrupted")
    .description(
      "Goes on where a run ended, whatever ended it: items with a line in the journal are done, the others are run.\nAnything but the input, the model and what else decides the results may be changed with --set;\nwith another backend, Task Managers and threads are found anew where it does not say them.\nOf an output in S3, a run is gone on with on any machine: without its home here, what S3 holds is fetched first.",
    )
    .argument("<home>", "output directory of the run, or s3://bucket/prefix/")
    .option("--retry-failed", "also try again the items that ended as errors")
    .option("--take-over", "use a home or an output that belongs to another machine, which is gone for good")
    .option("--set <path=value>", "change a field of the job; can be repeated", collect)
    .option("--json", "one JSON object on stdout at the end; everything else on stderr")
    .option("-q, --quiet", "no progress and no summary, but why it stopped early")
    .addHelpText("after", examples)
    .action(async (home: string, flags: ResumeFlags) => {
      refuseAnotherInput(flags.set ?? []);
      if (isS3(home)) await resumeInS3(home, flags);
      else await resumeIn(path.resolve(home), flags, null);
    });
}

async function resumeInS3(url: string, flags: ResumeFlags): Promise<void> {
  const { dir, taken, notes } = await homeOfOutput(outputUrl(url), { set: flags.set ?? [], takeOver: flags.takeOver ?? false, cwd: process.cwd() });
  try {
    for (const note of notes) process.stderr.write(`Note: ${note}\n`);
    await resumeIn(dir, flags, taken);
  } finally {
    await taken.lease.release({ forget: false });
    taken.objects.close();
  }
}

async function resumeIn(dir: string, flags: ResumeFlags, taken: TakenOutput | null): Promise<void> {
  const set = flags.set ?? [];
  const resolution = await prepareJob(await recordedJob(dir, set), { set }, { cwd: process.cwd(), stdin: process.stdin, offer: null, items: await itemsOfHome(dir) });
  await executeForCommand(
    resolution,
    { json: flags.json ?? false, quiet: flags.quiet ?? false },
    { mode: "resume", home: dir, fresh: false, retryFailed: flags.retryFailed ?? false, takeOver: flags.takeOver ?? false, taken },
  );
}

function refuseAnotherInput(set: readonly string[]): void {
  const change = set.find((text) => /^input[.=]/.test(text));
  if (change === undefined) return;
  throw new SplitrunError(`--set ${change}: resume goes on with the list that it has; for another list use \`splitrun run\` with the same output, what is done is kept`, {
    code: "SOURCE_CHANGED",
    field: "input",
    value: change,
  });
}
