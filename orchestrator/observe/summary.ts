import path from "node:path";
import type { ItemErrorCode, JsonValue, Stage, StageTimes } from "../../task-manager/protocol.ts";
import { isS3 } from "../inputs/is-s3.ts";
import type { Outcome } from "../results/types.ts";
import type { StopReason } from "../scheduler/types.ts";
import { costLines, type Cost } from "./cost.ts";
import { hostLines, type HostInTrouble } from "./hosts-in-trouble.ts";
import { memoryLines, type MemoryShort } from "./memory-short.ts";
import { count, duration, errorsText, rate } from "./progress.ts";
import { withoutSecrets } from "./run-log.ts";

export type RunState = "succeeded" | "finished-with-errors" | "failed" | "cancelled";

export interface Counts {
  /** Of the whole list, as far as `itemsAre` says. */
  readonly items: number;
  readonly succeeded: number;
  readonly failed: number;
  readonly reused: number;
  readonly copied: number;
  readonly retried: number;
}

export interface ErrorGroup {
  readonly code: ItemErrorCode;
  readonly stage: Stage;
  readonly count: number;
  readonly example: { readonly index: number; readonly input: JsonValue; readonly message: string };
}

export interface StageShare extends StageTimes {
  /** Lanes of this stage over all Task Managers. */
  readonly lanes: number;
  /** Share of the time that these lanes were at work, 0 to 1. */
  readonly busyShare: number;
}

/** What holds the others up, and how to make it wider. */
export interface Bottleneck {
  readonly stage: Stage | "processor";
  readonly knob: string;
}

/** `summary.json`, and what `--json` prints. The first lines of it are the contract. */
export interface Summary {
  readonly runId: string;
  readonly state: RunState;
  readonly counts: Counts;
  readonly makespanMs: number;
  readonly itemsPerSecond: number;
  readonly home: string;
  readonly runDir: string;
  readonly output: string;
  /** Absent where the backend costs nothing. */
  readonly cost?: Cost;
  readonly reason: StopReason | null;
  readonly message: string;
  /** What `makespanMs` is made of: until the task was loaded and the list open; the run itself; writing what is made of the journal. */
  readonly times: { readonly prepareMs: number; readonly runMs: number; readonly finishMs: number };
  readonly stages: Readonly<Partial<Record<Stage, StageShare>>>;
  readonly bottleneck: Bottleneck | null;
  /** Share of the machine's cores that the Task Managers used, 0 to 1; null: they were on other machines. */
  readonly processorShare: number | null;
  /** The same with all else that ran on this machine, splitrun's own orchestrator too. */
  readonly machineShare: number | null;
  /** Lanes stood empty for so long, since what was left waited for its host or for another try. */
  readonly waitedAsideMs: number;
  /** Highest resident memory of all Task Managers together, as heartbeats told it. */
  readonly taskManagersRssMb: number;
  /** Of this run, the most frequent first. */
  readonly errors: readonly ErrorGroup[];
  readonly taskManagerLosses: number;
  /** Those of this run, the worst first, ten at most. */
  readonly hosts: readonly HostInTrouble[];
  /** null: Task Managers had enough. */
  readonly memoryShort: MemoryShort | null;
  /** Whether `counts.items` is all of the list, or the run stopped before its end was seen. */
  readonly itemsAre: "all" | "about" | "at least";
  readonly startedAt: string;
  readonly notes: readonly string[];
  /** The page that shows all this, and what happened when; null: it could not be written. */
  readonly report: string | null;
}

/** Of a run in which nothing has happened. */
export function emptySummary(run: Pick<Summary, "runId" | "state" | "home" | "runDir" | "output" | "reason" | "message" | "startedAt">): Summary {
  return {
    ...run,
    counts: { items: 0, succeeded: 0, failed: 0, reused: 0, copied: 0, retried: 0 },
    makespanMs: 0,
    itemsPerSecond: 0,
    times: { prepareMs: 0, runMs: 0, finishMs: 0 },
    stages: {},
    bottleneck: null,
    processorShare: 0,
    machineShare: 0,
    waitedAsideMs: 0,
    taskManagersRssMb: 0,
    errors: [],
    taskManagerLosses: 0,
    hosts: [],
    memoryShort: null,
    itemsAre: "at least",
    notes: [],
    report: null,
  };
}

/** Gathers what only passes by once: errors by code with an example each, and the stages' times. */
export interface SummaryGatherer {
  outcomes(outcomes: readonly Outcome[]): void;
  stages(stages: Readonly<Record<string, StageTimes>>): void;
  load(id: number, load: { readonly rssMb: number; readonly cpuMs: number }): void;
  joined(id: number): void;
  /** It says nothing more. */
  left(id: number): void;
  /** How many there were, on average since the first one joined. */
  meanTaskManagers(): number;
  readonly cpuMs: number;
  readonly peakRssMb: number;
  errors(): readonly ErrorGroup[];
  stageTimes(): Readonly<Partial<Record<Stage, StageTimes>>>;
}

export function createSummaryGatherer(): SummaryGatherer {
  const errors = new Map<string, { -readonly [Key in keyof ErrorGroup]: ErrorGroup[Key] }>();
  const stages: Partial<Record<Stage, StageTimes>> = {};
  const loads = new Map<number, { readonly rssMb: number; readonly cpuMs: number }>();
  const joinedMs = new Map<number, number>();
  let firstMs: number | null = null;
  let presentMsOfLeft = 0;
  let peakRssMb = 0;
  let cpuMsOfLeft = 0;
  // Kept as they change: with a thousand Task Managers, each message of any would go through all of them.
  const sums = { rssMb: 0, cpuMs: 0 };
  const loadOf = (id: number) => loads.get(id) ?? { rssMb: 0, cpuMs: 0 };
  return {
    load(id, { rssMb, cpuMs }) {
      const before = loadOf(id);
      sums.rssMb += rssMb - before.rssMb;
      sums.cpuMs += cpuMs - before.cpuMs;
      loads.set(id, { rssMb, cpuMs });
      peakRssMb = Math.max(peakRssMb, sums.rssMb);
    },
    joined(id) {
      const nowMs = performance.now();
      firstMs ??= nowMs;
      joinedMs.set(id, nowMs);
    },
    meanTaskManagers() {
      const nowMs = performance.now();
      const presentMs = [...joinedMs.values()].reduce((total, sinceMs) => total + nowMs - sinceMs, presentMsOfLeft);
      return firstMs === null ? 0 : presentMs / Math.max(1, nowMs - firstMs);
    },
    left(id) {
      const nowMs = performance.now();
      presentMsOfLeft += nowMs - (joinedMs.get(id) ?? nowMs);
      joinedMs.delete(id);
      const { rssMb, cpuMs } = loadOf(id);
      sums.rssMb -= rssMb;
      sums.cpuMs -= cpuMs;
      cpuMsOfLeft += cpuMs;
      loads.delete(id);
    },
    get cpuMs() {
      return cpuMsOfLeft + sums.cpuMs;
    },
    get peakRssMb() {
      return peakRssMb;
    },
    outcomes(outcomes) {
      for (const { index, input, error } of outcomes) {
        if (error === undefined) continue;
        const key = `${error.code} ${error.stage}`;
        const group = errors.get(key);
        if (group !== undefined) group.count += 1;
        else errors.set(key, { code: error.code, stage: error.stage, count: 1, example: exampleOf(index, input, error.message) });
      }
    },
    stages(times) {
      for (const [stage, { items, busyMs, waitMs }] of Object.entries(times) as [Stage, StageTimes][]) {
        const sum = (stages[stage] ??= { items: 0, busyMs: 0, waitMs: 0 });
        sum.items += items;
        sum.busyMs += busyMs;
        sum.waitMs += waitMs;
      }
    },
    errors: () => [...errors.values()].sort((a, b) => b.count - a.count),
    stageTimes: () => stages,
  };
}

/** The summary is shown to others, so no URL in it has its query or its user. */
function exampleOf(index: number, input: JsonValue, message: string): ErrorGroup["example"] {
  return { index, input: JSON.parse(withoutSecrets(JSON.stringify(input))) as JsonValue, message: withoutSecrets(message) };
}

const knobs: Readonly<Record<Stage, string>> = {
  download: "raise task.download.concurrency, or bring the images nearer",
  preprocess: "raise task.preprocess.concurrency or taskManagers; `preset: fast` decodes cheaper where exact PyTorch values are not needed",
  infer: "more cores or machines: raise taskManagers or task.infer.sessions where cores are idle; a smaller or quantised model",
  postprocess: "lower task.postprocess.topK",
  function: "raise task.threads or taskManagers where cores are idle; task.concurrency where the function waits",
  run: "nothing: this is not a stage of work",
};

/** A stage whose lanes are at work for this share of the time holds the others up. */
const bottleneckShare = 0.6;
/** Around invocations: less than this share of their time is as it has to be. */
const overheadToldShare = 0.25;
/** A shorter wait is no news. */
const waitedAsideToldMs = 1000;
/** Above this share of all cores, whoever uses them, there is nothing to be had from more lanes. */
const processorFullShare = 0.85;
/** Stages that do nothing but compute. */
const computing: ReadonlySet<Bottleneck["stage"]> = new Set(["preprocess", "infer", "postprocess"]);
/** Of all cores: other work that takes more is worth a word. */
const othersToldShare = 0.2;

export interface Times {
  readonly stages: Readonly<Partial<Record<Stage, StageTimes>>>;
  /** All Task Managers' together, as many as there were on average. */
  readonly lanes: Readonly<Partial<Record<Stage, number>>>;
  /** From the first Task Manager's being ready to the end. */
  readonly elapsedMs: number;
  /** CPU time of the Task Managers, and the cores that they could have used; null: those of machines elsewhere. */
  readonly cpuMs: number;
  readonly cores: number | null;
  /** Share of this machine's cores that was at work for anybody. */
  readonly machineShare: number;
}

/**
 * What share of its lanes' time each stage was at work, and what holds the others up: the processor where it is full,
 * else the busiest stage. A stage that waits on a full queue behind it is not at work, so the busiest is the one to
 * widen.
 */
export function whereTheTimeWent(times: Times): Pick<Summary, "stages" | "bottleneck" | "processorShare" | "machineShare"> {
  const stages: Partial<Record<Stage, StageShare>> = {};
  for (const [stage, time] of Object.entries(times.stages) as [Stage, StageTimes][]) {
    const lanes = Math.max(1, Math.round(times.lanes[stage] ?? 1));
    stages[stage] = { ...time, lanes, busyShare: Math.min(1, time.busyMs / Math.max(1, lanes * times.elapsedMs)) };
  }
  const full = fullStage(stages);
  if (times.cores === null) return { stages, bottleneck: full, processorShare: null, machineShare: null };
  const processorShare = Math.min(1, times.cpuMs / Math.max(1, times.cores * times.elapsedMs));
  // Measured by the kernel's ticks, a little too little.
  const machineShare = Math.max(times.machineShare, processorShare);
  const own = processorShare >= machineShare / 2;
  // Work of others holds up what computes; a function or a download that waits is none the worse for it.
  const lacksProcessor = machineShare >= processorFullShare && (own || (full !== null && computing.has(full.stage)));
  return { stages, bottleneck: lacksProcessor ? processorFull(machineShare - processorShare) : full, processorShare, machineShare };
}

function processorFull(othersShare: number): Bottleneck {
  const others = othersShare < othersToldShare ? "" : `less other work on this machine, which takes ${percent(othersShare)} of it; `;
  return { stage: "processor", knob: `${others}more cores or machines; a smaller or quantised model; smaller images` };
}

function fullStage(stages: Summary["stages"]): Bottleneck | null {
  const [busiest] = (Object.entries(stages) as [Stage, StageShare][]).sort(([, a], [, b]) => b.busyShare - a.busyShare);
  if (busiest === undefined || busiest[1].busyShare < bottleneckShare) return null;
  return { stage: busiest[0], knob: knobs[busiest[0]] };
}

const stateText: Readonly<Record<RunState, string>> = {
  succeeded: "Done: every item has a result.",
  "finished-with-errors": "Finished: some items ended as errors.",
  failed: "Stopped early.",
  cancelled: "Interrupted.",
};

/** The summary for a person: what came out, where the time went, what to do next. */
export function summaryText(summary: Summary): string {
  const { counts } = summary;
  const about = summary.itemsAre === "all" ? "" : `${summary.itemsAre} `;
  const lines = [
    "",
    (counts.items === 0 && summary.state === "succeeded" ? "The list is empty: nothing to do." : stateText[summary.state]) + (summary.message === "" ? "" : ` ${summary.message}`),
    `  ${about}${count(counts.items)} items: ${count(counts.succeeded)} with a result, ${errorsText(counts.failed)}` +
      extras([
        [counts.reused, "from earlier runs"],
        [counts.retried, "tried more than once"],
        [counts.items - counts.succeeded - counts.failed, "still to do", about],
      ]),
    `  ${duration(summary.makespanMs)}${summary.itemsPerSecond === 0 ? "" : `, ${rate(summary.itemsPerSecond)} items/s`}`,
    ...lossLines(summary),
    ...memoryLines(summary.memoryShort),
  ];
  const stages = Object.entries(summary.stages) as [Stage, StageShare][];
  if (stages.length > 0) {
    lines.push("", "Where the time went (share of the time that a stage's lanes were at work)");
    for (const [stage, share] of stages) {
      const perItem = share.items === 0 ? 0 : share.busyMs / share.items;
      lines.push(
        `  ${stage.padEnd(11)} ${shareBar(share.busyShare)} ${percent(share.busyShare).padStart(4)}  ${perItem.toFixed(2)} ms an item, ${share.lanes} ${share.lanes === 1 ? "lane" : "lanes"}`,
      );
    }
    const { processorShare, machineShare } = summary;
    if (processorShare !== null && machineShare !== null) {
      lines.push(`  ${"processor".padEnd(11)} ${shareBar(machineShare)} ${percent(machineShare).padStart(4)}  of all cores, ${percent(processorShare)} by Task Managers`);
    }
    if (summary.waitedAsideMs >= waitedAsideToldMs) {
      lines.push(`  For ${duration(summary.waitedAsideMs)} all that was left waited: for a host that asked for fewer requests, or for another try.`);
    }
    const overhead = overheadText(summary);
    if (summary.bottleneck === null) {
      const rest = `the start-up, the source${summary.waitedAsideMs >= waitedAsideToldMs ? ", this wait" : ""} or the hand-over takes the rest.`;
      lines.push(`  No stage is full: ${overhead ?? rest}`);
    } else {
      lines.push(`  Bottleneck: ${summary.bottleneck.stage}. To go faster: ${summary.bottleneck.knob}.`, ...(overhead === null ? [] : [`  ${overhead}`]));
    }
  }
  lines.push(...hostLines(summary.hosts));
  if (summary.cost !== undefined) lines.push("", "What it cost", ...costLines(summary.cost));
  if (summary.errors.length > 0) {
    lines.push("", "Errors of this run");
    for (const { code, stage, count: times, example } of summary.errors) {
      lines.push(`  ${count(times).padStart(7)} × ${code} (${stage})`, `            e.g. item ${example.index}, ${shortInput(example.input)}: ${example.message}`);
    }
  }
  for (const note of summary.notes) lines.push("", `Note: ${note}`);
  lines.push("", `Results: ${summary.output}`);
  if (summary.report !== null) lines.push(`Report:  ${summary.report}`);
  if (summary.state === "failed" || summary.state === "cancelled") lines.push(goOnText(summary));
  else if (counts.failed > 0) lines.push(`Try the errors again: ${resumeText(summary, " --retry-failed")}`);
  return lines.join("\n");
}

/** Why it stopped and what to do, for those who want no summary; null: it came to its end, or was told to stop. */
export function stopText(summary: Pick<Summary, "state" | "message" | "home" | "output">): string | null {
  if (summary.state !== "failed") return null;
  return `${stateText.failed} ${summary.message}\n${goOnText(summary)}`;
}

function goOnText(summary: Pick<Summary, "home" | "output">): string {
  return `Go on with: ${resumeText(summary, "")}`;
}

/** What is in S3 can be gone on with without this machine. */
function resumeText({ home, output }: Pick<Summary, "home" | "output">, flags: string): string {
  const resume = (what: string) => `splitrun resume ${shellWord(what)}${flags}`;
  return isS3(output) ? `${resume(home)}, or from any machine: ${resume(output)}` : resume(home);
}

/** Where Task Managers are invocations, and much of their time is none of the function's. */
export function overheadText({ cost }: Pick<Summary, "cost">): string | null {
  const overhead = cost?.overhead ?? null;
  if (overhead === null || overhead.share < overheadToldShare) return null;
  return `${percent(overhead.share)} of the time of warm invocations is their overhead, ${duration(overhead.eachMs)} each: the way to Lambda and back. Larger splits need fewer of them: fewer taskManagers under \`policy: guided\`, else a larger splitSize.`;
}

/** Errors that they cost are among the errors; what they cost in time is seen nowhere else. */
function lossLines({ taskManagerLosses, runDir }: Summary): readonly string[] {
  if (taskManagerLosses === 0) return [];
  const who = taskManagerLosses === 1 ? "1 Task Manager was lost" : `${count(taskManagerLosses)} Task Managers were lost`;
  return [`  ${who} and replaced; why: ${path.join(runDir, "logs", "orchestrator.log")}`];
}

function extras(parts: readonly (readonly [number, string, string?])[]): string {
  const said = parts.filter(([value]) => value > 0).map(([value, text, before = ""]) => `${before}${count(value)} ${text}`);
  return said.length === 0 ? "" : ` (${said.join(", ")})`;
}

function shareBar(share: number): string {
  const full = Math.round(share * 20);
  return "█".repeat(full) + "·".repeat(20 - full);
}

function percent(share: number): string {
  return `${Math.round(share * 100)}%`;
}

function shortInput(input: JsonValue): string {
  const text = typeof input === "string" ? input : JSON.stringify(input);
  return text.length > 100 ? `${text.slice(0, 97)}…` : text;
}

function shellWord(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
