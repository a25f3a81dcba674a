import path from "node:path";
import type { Command } from "commander";
import { SplitrunError } from "../errors.ts";
import { prepareJob, recordedJob } from "../service/prepare-job.ts";
import { executeForCommand } from "./execute.ts";

interface ResumeFlags {
  readonly retryFailed?: true;
  readonly takeOver?: true;
  readonly set?: readonly string[];
  readonly json?: true;
  readonly quiet?: true;
}

export function addResume(program: Command): void {
  program
    .command("resume")
    .summary("go on with a run that was interrupted")
    .description(
      "Goes on where a run ended, whatever ended it: items with a line in the journal are done, the others are run.\nAnything but the input, the model and what else decides the results may be changed with --set.",
    )
    .argument("<home>", "output directory of the run")
    .option("--retry-failed", "also try again the items that ended as errors")
    .option("--take-over", "use a home whose lock belongs to another machine")
    .option("--set <path=value>", "change a field of the job", (text: string, earlier: readonly string[]) => [...earlier, text], [])
    .option("--json", "one JSON object on stdout at the end; everything else on stderr")
    .option("-q, --quiet", "no progress and no summary")
    .action(async (home: string, flags: ResumeFlags) => {
      const dir = path.resolve(home);
      refuseAnotherInput(flags.set ?? []);
      const resolution = await prepareJob(await recordedJob(dir), { set: flags.set ?? [] }, { cwd: process.cwd(), stdin: process.stdin, offer: null });
      await executeForCommand(
        resolution,
        { json: flags.json ?? false, quiet: flags.quiet ?? false },
        { mode: "resume", home: dir, fresh: false, retryFailed: flags.retryFailed ?? false, takeOver: flags.takeOver ?? false },
      );
    });
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
