import type { Command } from "commander";
import { backendNames, policyNames } from "../jobs/names.ts";
import type { JobOverrides } from "../jobs/load.ts";

export interface JobFlags {
  readonly input?: string;
  readonly column?: string;
  readonly model?: string;
  readonly labels?: string;
  readonly preset?: string;
  readonly output?: string;
  readonly backend?: string;
  readonly policy?: string;
  readonly taskManagers?: number | string;
  readonly limit?: number | string;
  readonly name?: string;
  readonly set?: readonly string[];
}

/** Flags that stand for a part of the job; what the job file says gives way to them. */
export function addJobFlags(command: Command): Command {
  return command
    .option("-i, --input <list>", "list of images: a file (text, .csv, .jsonl, .parquet), a folder or a glob, here or as s3://bucket/…, or - for stdin")
    .option("--column <name>", "column or field of the list that holds the image")
    .option("-m, --model <file>", "ONNX model: a path, or an http(s) or s3:// URL")
    .option("--labels <file>", "names of the model's classes, one a line")
    .option("--preset <name>", "preprocessing: torchvision-imagenet (default), off-sample or fast")
    .option("-o, --output <place>", "directory or s3://bucket/prefix/ for the results; without it they are printed")
    .option("-b, --backend <name>", `where Task Managers run: ${backendNames.join(", ")}`)
    .option("--policy <name>", `how splits are sized: ${policyNames.join(", ")} or module.mjs#function`)
    .option("--task-managers <number>", "Task Managers to start with", wholeNumber)
    .option("--limit <number>", "only the first items of the list", wholeNumber)
    .option("--name <name>", "name of the job")
    .option("--set <path=value>", "any other field of the job, e.g. --set task.infer.batch=16; can be repeated", collect);
}

/** The flags as the part of a job that they stand for. */
export function overridesOf(flags: JobFlags): JobOverrides {
  const task = defined({
    model: flags.model,
    preprocess: flags.preset === undefined ? undefined : { preset: flags.preset },
    postprocess: flags.labels === undefined ? undefined : { labels: flags.labels },
  });
  const input = inputOf(flags);
  return {
    flags: defined({
      name: flags.name,
      input,
      task: Object.keys(task).length === 0 ? undefined : { ...(flags.model === undefined ? {} : { kind: "inference" }), ...task },
      output: flags.output,
      backend: flags.backend,
      policy: flags.policy,
      taskManagers: flags.taskManagers,
    }),
    set: [
      ...(input === undefined && flags.limit !== undefined ? [`input.limit=${flags.limit}`] : []),
      ...(flags.set ?? []),
    ],
  };
}

function inputOf({ input, column, limit }: JobFlags): unknown {
  if (input === undefined) return undefined;
  if (column === undefined && limit === undefined) return input;
  return defined({ from: input, column, limit });
}

function defined<Value extends object>(value: Value): Partial<Value> {
  return Object.fromEntries(Object.entries(value).filter(([, each]) => each !== undefined)) as Partial<Value>;
}

/** What is no number goes on as text, so that the refusal quotes it. */
function wholeNumber(text: string): number | string {
  const value = Number(text);
  return Number.isNaN(value) || text.trim() === "" ? text : value;
}

/** Of an option that can be repeated. */
export function collect(text: string, earlier: readonly string[] = []): readonly string[] {
  return [...earlier, text];
}
