import { readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { InvalidArgumentError, Option, type Command } from "commander";
import { SplitrunError } from "../errors.ts";
import { nearestName } from "../jobs/nearest-name.ts";
import { askPolicy, splitSizeDefault } from "../jobs/policies.ts";
import { PictureTrace } from "../simulate/trace.ts";
import { ganttPage } from "./gantt-page.ts";
import { count } from "../observe/progress.ts";
import { sharesOf } from "../scheduler/shares.ts";
import type { SpeculationPlan } from "../scheduler/types.ts";
import { productRule, type ProductPlan, type RuleJob, type Supports } from "../simulate/rule.ts";
import { rivals } from "../simulate/rivals/rivals.ts";
import { boundOfSeed, ideal, seedsOf, simulateSeed, summaryOf, type ClassFigures, type Contender, type SeedFigures } from "../simulate/simulate.ts";
import { jobsOf, type Workload, type WorkloadClass } from "../simulate/workload.ts";
import { parseWorkload } from "./parse-workload.ts";

const description = `Runs jobs in virtual time with the scheduler that ships: machines that start
cold, are slow, pause and die, items with heavy tails, messages on their way.
Prints how long each class of jobs takes against the clairvoyant bound, below
which no scheduler gets (median and 95th percentile over the seeds), and how
much work was done twice.`;

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
/** Assignments in one picture. */
const barsMax = 200_000;
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
  readonly seed?: number;
  readonly lanes?: number;
  readonly html?: string;
  readonly json?: true;
}

export function addSimulate(program: Command): void {
  program
    .command("simulate")
    .summary("run jobs in virtual time and compare with the best possible")
    .description(description)
    .argument("<workload>", "JSON file of workload classes")
    .option("--seeds <n>", "seeds of each class instead of as many as it says", wholeNumber)
    .option("--seed <n>", "the first of them", wholeNumber)
    .option("--class <name>", "only this class (may be repeated)", (name: string, names: readonly string[] = []) => [...names, name])
    .addOption(new Option("--policy <name>", "how splits are sized").choices(policyNames).default("guided"))
    .option("--split-size <n>", "what the policies other than guided start from", wholeNumber, splitSizeDefault)
    .addOption(new Option("--speculation <kind>", "what is done about stragglers").choices(speculationNames).default("remainder"))
    .addOption(new Option("--rule <name>", "whose rule; z: what could be reached if hand-over were free").choices(["splitrun", ...Object.keys(rivals), ideal.name]).default("splitrun"))
    .option("--compare", "all rules and z, one below the other")
    .addOption(
      new Option("--supports <list>", "what can be told to a machine that works: of prefetch, reclaim and cancel, or none")
        .argParser(supportsOf)
        .default({ prefetch: true, reclaim: true, cancel: true }, supportNames.join(",")),
    )
    .option("--lanes <n>", "items in flight at once at a machine, whatever the classes say", wholeNumber)
    .option("--html <file>", "draw the first seed of the first class: machines by time, copies, pauses, deaths")
    .option("--json", "one JSON object on stdout: { classes: [{ name, ratioMedian, ratioP95, wastePercent, ... }] }")
    .addHelpText("after", examples)
    .action(simulate);
}

async function simulate(file: string, flags: SimulateFlags): Promise<void> {
  const classes = chosen(await readWorkload(file), flags);
  const figures: ClassFigures[] = [];
  if (!flags.json) process.stdout.write(header);
  for (const [at, workloadClass] of classes.entries()) {
    const rules = await rulesOf(workloadClass, flags);
    for (const each of await figuresOf(workloadClass, rules, flags, at === 0 ? (flags.html ?? null) : null)) {
      figures.push(each);
      if (!flags.json) process.stdout.write(rowOf(each));
    }
  }
  if (flags.json) process.stdout.write(`${JSON.stringify({ classes: figures.map(finite) })}\n`);
}

/** Seed by seed with all rules, so that the bound of a seed is worked out once. `html`: where the first run is drawn. */
async function figuresOf(workloadClass: WorkloadClass, rules: readonly Contender[], { supports }: SimulateFlags, html: string | null): Promise<readonly ClassFigures[]> {
  const { name, parameters } = workloadClass;
  const bySeeds = rules.map((): SeedFigures[] => []);
  const seeds = seedsOf(workloadClass);
  for (const [done, seed] of seeds.entries()) {
    progress(`${name}: seed ${done + 1} of ${seeds.length}`);
    const boundS = boundOfSeed(parameters, seed);
    for (const [at, rule] of rules.entries()) {
      const trace = html !== null && done === 0 && at === 0 ? new PictureTrace(jobsOf(parameters), barsMax) : null;
      const figures = simulateSeed(parameters, seed, boundS, { rule, supports, shares: sharesOf }, trace);
      bySeeds[at]?.push(figures);
      if (trace !== null && html !== null) await draw(html, workloadClass, rule, figures, trace);
    }
  }
  progress("");
  return rules.map((rule, at) => summaryOf(name, rule.name, bySeeds[at] ?? []));
}

async function draw(file: string, { name, parameters }: WorkloadClass, rule: Contender, figures: SeedFigures, trace: PictureTrace): Promise<void> {
  const { seed, boundS, makespanS, wastePercent, assignments, messages } = figures;
  const page = ganttPage({
    title: `${name} · ${rule.name}`,
    facts: [
      ["makespan", `${makespanS.toFixed(2)} s`],
      ["clairvoyant bound", `${boundS.toFixed(2)} s`],
      ["ratio", (makespanS / boundS).toFixed(3)],
      ["done twice", `${wastePercent.toFixed(2)} %`],
      ["items", count(jobsOf(parameters).reduce((sum, { items }) => sum + items, 0))],
      ["machines", count(parameters.workers)],
      ["assignments", count(assignments)],
      ["messages", count(messages)],
      ["seed", String(seed)],
    ],
    boundS,
    makespanS,
    jobs: figures.jobsS.length,
    picture: trace.picture(parameters, seed, Number.isFinite(makespanS) ? makespanS : boundS * 10),
  });
  try {
    await writeFile(path.resolve(file), page);
    progress("");
    process.stderr.write(`The picture of ${name}, seed ${seed}: ${path.resolve(file)}\n`);
  } catch (cause) {
    throw new SplitrunError(`--html ${file} cannot be written: ${cause instanceof Error ? cause.message : String(cause)}`, { code: "HTML_UNWRITABLE", field: "--html", value: file, cause });
  }
}

async function rulesOf(workloadClass: WorkloadClass, flags: SimulateFlags): Promise<readonly Contender[]> {
  const own = productRule(await sizingOf(workloadClass, flags), speculationOf(flags.speculation));
  if (flags.compare) return [own, ...Object.values(rivals), ideal];
  return [flags.rule === ideal.name ? ideal : (rivals[flags.rule] ?? own)];
}

function speculationOf(name: string): SpeculationPlan {
  if (name === "false") return false;
  return name === "quartile" ? quartileDefaults : remainderDefaults;
}

/** What the product's policy answers for each job of the class: `default` fixes the Task Managers, the others the size. */
async function sizingOf({ parameters }: WorkloadClass, { policy, splitSize }: SimulateFlags): Promise<(job: RuleJob) => ProductPlan> {
  if (policy === "guided") return () => ({ sizing: { kind: "guided" } });
  const plans = new Map<number, ProductPlan>();
  for (const { items } of jobsOf(parameters)) {
    const taskManagersMax = parameters.workers;
    const decision = await askPolicy(policy, { items, splitSize, taskManagers: taskManagersMax, taskManagersMax });
    const taskManagers = Math.min(taskManagersMax, decision.taskManagers ?? taskManagersMax);
    const size = decision.splitSize ?? (policy === "default" ? Math.ceil(items / taskManagers) : splitSize);
    plans.set(items, { sizing: { kind: "fixed", sizes: [size] }, taskManagersMax: taskManagers });
  }
  return ({ items }) => plans.get(items) ?? { sizing: { kind: "guided" } };
}

async function readWorkload(file: string): Promise<Workload> {
  let text: string;
  try {
    text = await readFile(path.resolve(file), "utf8");
  } catch (cause) {
    const isMissing = cause instanceof Error && "code" in cause && cause.code === "ENOENT";
    const reason = isMissing ? `${path.resolve(file)} does not exist` : String(cause);
    throw new SplitrunError(`${file} cannot be read: ${reason}`, { code: "WORKLOAD_UNREADABLE", field: "workload", value: file, cause });
  }
  return parseWorkload(file, text);
}

/** The classes that are asked for, with what the flags say instead of the file. */
function chosen({ classes }: Workload, { class: names, seed, seeds, lanes }: SimulateFlags): readonly WorkloadClass[] {
  const wanted = names === undefined ? classes : names.map((name) => classNamed(classes, name));
  return wanted.map(({ parameters, ...rest }) => ({
    ...rest,
    seed: seed ?? rest.seed,
    seeds: seeds ?? rest.seeds,
    parameters: { ...parameters, lanes: lanes ?? parameters.lanes },
  }));
}

function classNamed(classes: readonly WorkloadClass[], name: string): WorkloadClass {
  const found = classes.find((each) => each.name === name);
  if (found !== undefined) return found;
  const known = classes.map((each) => each.name);
  const meant = nearestName(name, known);
  const message = `--class ${name}: there is no such class${meant === null ? "" : `; did you mean ${meant}?`}; the file has: ${known.join(", ")}`;
  throw new SplitrunError(message, { code: "CLASS_UNKNOWN", field: "--class", value: name });
}

interface Column {
  readonly title: string;
  readonly width: number;
  readonly of: (figures: ClassFigures) => string;
}

const columns: readonly Column[] = [
  { title: "median", width: 8, of: ({ ratioMedian }) => ratioText(ratioMedian) },
  { title: "p95", width: 8, of: ({ ratioP95 }) => ratioText(ratioP95) },
  { title: "twice %", width: 9, of: ({ wastePercent }) => wastePercent.toFixed(2) },
  { title: "bound s", width: 10, of: ({ boundS }) => boundS.toFixed(2) },
  { title: "makespan s", width: 12, of: ({ makespanS }) => (Number.isFinite(makespanS) ? makespanS.toFixed(2) : "DNF") },
  { title: "assignments", width: 13, of: ({ assignments }) => count(Math.round(assignments)) },
  { title: "messages", width: 12, of: ({ messages }) => count(Math.round(messages)) },
  { title: "seeds", width: 7, of: ({ seeds }) => String(seeds) },
];

const header = `${"class".padEnd(20)} ${"rule".padEnd(20)}${columns.map(({ title, width }) => title.padStart(width)).join("")}\n`;

function rowOf(figures: ClassFigures): string {
  return `${figures.name.padEnd(20)} ${figures.rule.padEnd(20)}${columns.map(({ width, of }) => of(figures).padStart(width)).join("")}\n`;
}

function ratioText(ratio: number): string {
  return Number.isFinite(ratio) ? ratio.toFixed(3) : "DNF";
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
