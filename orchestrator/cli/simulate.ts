import { readFile } from "node:fs/promises";
import path from "node:path";
import { InvalidArgumentError, Option, type Command } from "commander";
import { SplitrunError } from "../errors.ts";
import { nearestName } from "../jobs/nearest-name.ts";
import { askPolicy, splitSizeDefault } from "../jobs/policies.ts";
import { sharesOf } from "../scheduler/shares.ts";
import type { SchedulerPlan, SpeculationPlan } from "../scheduler/types.ts";
import { productRule, type Rule, type RuleJob, type Supports } from "../simulate/rule.ts";
import { rivals } from "../simulate/rivals/rivals.ts";
import { boundOfSeed, seedsOf, simulateSeed, summaryOf, type ClassFigures, type SeedFigures } from "../simulate/simulate.ts";
import { type Workload, type WorkloadClass } from "../simulate/workload.ts";
import { parseWorkload } from "./parse-workload.ts";

const description = `Runs jobs in virtual time with the scheduler that ships: machines that start cold, are slow, pause and die, items with
heavy tails, messages on their way. Prints how long each class of jobs takes against the clairvoyant bound, below which
no scheduler gets (median and 95th percentile over the seeds), and how much work was done twice.`;

const examples = `
Examples
  All classes of the benchmarks, with the defaults of a job:
    splitrun simulate bench/simulation/workloads.json
  One class, five seeds, next to the rules that others use:
    splitrun simulate bench/simulation/workloads.json --class cold-short --seeds 5 --compare
  As on Lambda's response streams, where nothing can be told to a running machine:
    splitrun simulate bench/simulation/workloads.json --supports none
  What happened, as a picture:
    splitrun simulate bench/simulation/workloads.json --class slow-workers --html gantt.html

A workload is { "classes": [{ "name", "seed", "seeds", "parameters": { "items", "workers", ... } }] };
bench/simulation/README.md says what each parameter means.`;

const quartileDefaults = { kind: "quartile", quartile: 0.75, multiplier: 2, intervalMs: 500, maxRetries: 1, extraTaskManagers: true } as const;
const remainderDefaults = { kind: "remainder", maxExtraPercent: 10 } as const;
const policyNames = ["guided", "default", "none", "policy-1", "policy-2", "policy-3"];
const speculationNames = ["remainder", "quartile", "false"];
const supportNames = ["prefetch", "reclaim", "cancel"] as const;

interface SimulateFlags {
  readonly seeds?: number;
  readonly class?: readonly string[];
  readonly policy: string;
  readonly splitSize: number;
  readonly speculation: string;
  readonly rule: string;
  readonly compare?: true;
  readonly supports: Supports;
  readonly lanes?: number;
  readonly json?: true;
}

export function addSimulate(program: Command): void {
  program
    .command("simulate")
    .summary("run jobs in virtual time and compare with the best possible")
    .description(description)
    .argument("<workload>", "JSON file of workload classes")
    .option("--seeds <n>", "seeds of each class instead of as many as it says", wholeNumber)
    .option("--class <name>", "only this class (may be repeated)", (name: string, names: readonly string[] = []) => [...names, name])
    .addOption(new Option("--policy <name>", "how splits are sized").choices(policyNames).default("guided"))
    .option("--split-size <n>", "what the policies other than guided start from", wholeNumber, splitSizeDefault)
    .addOption(new Option("--speculation <kind>", "what is done about stragglers").choices(speculationNames).default("remainder"))
    .addOption(new Option("--rule <name>", "whose rule").choices(["splitrun", ...Object.keys(rivals)]).default("splitrun"))
    .option("--compare", "all rules, one below the other")
    .option("--supports <list>", "what can be told to a machine that works: of prefetch, reclaim and cancel, or none", supportsOf, { prefetch: true, reclaim: true, cancel: true })
    .option("--lanes <n>", "items in flight at once at a machine, whatever the classes say", wholeNumber)
    .option("--json", "one JSON object on stdout: { classes: [{ name, ratioMedian, ratioP95, wastePercent, ... }] }")
    .addHelpText("after", examples)
    .action(simulate);
}

async function simulate(file: string, flags: SimulateFlags): Promise<void> {
  const workload = await readWorkload(file);
  const rules = await rulesOf(flags);
  const figures: ClassFigures[] = [];
  const out = flags.json ? null : process.stdout;
  out?.write(header);
  for (const workloadClass of chosen(workload, flags.class)) {
    const lanes = flags.lanes ?? workloadClass.parameters.lanes;
    for (const each of figuresOf({ ...workloadClass, parameters: { ...workloadClass.parameters, lanes } }, rules, flags)) {
      figures.push(each);
      out?.write(rowOf(each, rules.length > 1));
    }
  }
  if (flags.json) process.stdout.write(`${JSON.stringify({ classes: figures.map(finite) })}\n`);
}

/** The bound of a seed is worked out once for all rules. */
function figuresOf(workloadClass: WorkloadClass, rules: readonly Rule[], { seeds: seedsMax, supports }: SimulateFlags): readonly ClassFigures[] {
  const { name, parameters } = workloadClass;
  const bySeeds = rules.map((): SeedFigures[] => []);
  const seeds = seedsOf(workloadClass, seedsMax ?? null);
  for (const [done, seed] of seeds.entries()) {
    const boundS = boundOfSeed(parameters, seed);
    for (const [at, rule] of rules.entries()) {
      progress(`${name}: seed ${done + 1} of ${seeds.length}${rules.length > 1 ? `, ${rule.name}` : ""}`);
      bySeeds[at]?.push(simulateSeed(parameters, seed, boundS, { rule, supports, shares: sharesOf }, null));
    }
  }
  progress("");
  return rules.map((rule, at) => summaryOf(name, rule.name, bySeeds[at] ?? []));
}

async function rulesOf(flags: SimulateFlags): Promise<readonly Rule[]> {
  const sizing = await sizingOf(flags);
  const own = productRule("splitrun", sizing, speculationOf(flags.speculation));
  if (flags.compare) return [own, ...Object.values(rivals)];
  return [rivals[flags.rule] ?? own];
}

function speculationOf(name: string): SpeculationPlan {
  if (name === "false") return false;
  return name === "quartile" ? quartileDefaults : remainderDefaults;
}

/** Sizes by the product's policies, worked out beforehand for the number of items of each class. */
async function sizingOf({ policy, splitSize }: SimulateFlags): Promise<(job: RuleJob) => SchedulerPlan["sizing"]> {
  if (policy === "guided") return () => ({ kind: "guided" });
  return ({ items, taskManagers }) => {
    void askPolicy;
    const size = policy === "none" ? splitSize : policy === "policy-2" ? Math.min(splitSize, Math.ceil(items / taskManagers)) : Math.ceil(items / taskManagers);
    return { kind: "fixed", sizes: [size] };
  };
}

async function readWorkload(file: string): Promise<Workload> {
  let text: string;
  try {
    text = await readFile(path.resolve(file), "utf8");
  } catch (cause) {
    throw new SplitrunError(`${file} cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`, { code: "WORKLOAD_UNREADABLE", field: "workload", value: file, cause });
  }
  return parseWorkload(file, text);
}

function chosen({ classes }: Workload, names: readonly string[] | undefined): readonly WorkloadClass[] {
  if (names === undefined) return classes;
  const known = classes.map(({ name }) => name);
  return names.map((name) => {
    const found = classes.find((each) => each.name === name);
    if (found !== undefined) return found;
    const meant = nearestName(name, known);
    throw new SplitrunError(`--class ${name}: there is no such class${meant === null ? "" : `; did you mean ${meant}?`}; the file has: ${known.join(", ")}`, {
      code: "CLASS_UNKNOWN",
      field: "--class",
      value: name,
    });
  });
}

const header = "class                rule                   median    p95  wasted%   bound s  makespan s  assignments   messages\n";

function rowOf({ name, rule, ratioMedian, ratioP95, wastePercent, boundS, makespanS, assignments, messages, seeds }: ClassFigures, named: boolean): string {
  void named;
  return `${name.padEnd(20)} ${rule.padEnd(20)} ${ratioText(ratioMedian)} ${ratioText(ratioP95)} ${wastePercent.toFixed(2).padStart(8)} ${boundS.toFixed(2).padStart(9)} ${makespanS.toFixed(2).padStart(11)} ${String(Math.round(assignments)).padStart(12)} ${String(Math.round(messages)).padStart(10)}  (${seeds} seeds)\n`;
}

function ratioText(ratio: number): string {
  return (Number.isFinite(ratio) ? ratio.toFixed(3) : "DNF").padStart(8);
}

/** JSON has no Infinity: a figure of jobs that never ended is null. */
function finite(figures: ClassFigures): Record<string, unknown> {
  return Object.fromEntries(Object.entries(figures).map(([name, value]) => [name, typeof value === "number" && !Number.isFinite(value) ? null : value]));
}

function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\u001B[K${text}`);
}

function wholeNumber(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 1) throw new InvalidArgumentError("a whole number from 1 is wanted.");
  return value;
}

function supportsOf(text: string): Supports {
  const names = text === "none" ? [] : text.split(",").map((name) => name.trim());
  for (const name of names) {
    if (!supportNames.some((known) => known === name)) throw new InvalidArgumentError(`${name} is none of ${supportNames.join(", ")} (several: with commas), or none.`);
  }
  return { prefetch: names.includes("prefetch"), reclaim: names.includes("reclaim"), cancel: names.includes("cancel") };
}
