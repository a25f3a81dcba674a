import type { Stage } from "../../../task-manager/protocol.ts";
import { memoryLines } from "../memory-short.ts";
import { count, duration } from "../progress.ts";
import { overheadText, type Summary } from "../summary.ts";
import type { TimelineReport } from "./timeline.ts";

/** A stretch of the time that the run took, and what it went to. */
export interface Phase {
  readonly kind: "prepare" | "start" | "ramp" | "full" | "tail" | "write" | "finish";
  readonly name: string;
  readonly ms: number;
  readonly text: string;
}

/** Below this share of the whole, and this time, nothing is said of it. */
const worthSayingShare = 0.01;
const worthSayingMs = 200;

/** The whole time, each moment of it in one phase. */
export function phasesOf(timeline: TimelineReport, times: Summary["times"] | null): readonly Phase[] {
  const { runMs, firstAssignedMs, lastItemMs, workingPeak } = timeline;
  const firstMs = firstAssignedMs ?? runMs;
  const lastMs = Math.max(firstMs, lastItemMs ?? firstMs);
  const fullFromMs = within(timeline.fullFromMs, firstMs, lastMs);
  const fullToMs = within(timeline.fullToMs, fullFromMs, lastMs);
  const most = workingPeak <= 1 ? "the Task Manager" : `nine tenths of the ${count(workingPeak)} Task Managers`;
  const phases: readonly Phase[] = [
    { kind: "prepare", name: "Preparing", ms: times?.prepareMs ?? 0, text: "the task loaded for the first time, the list opened, the home read" },
    { kind: "start", name: "Waiting to begin", ms: firstMs, text: "until the first items could be handed out" },
    { kind: "ramp", name: "Starting up", ms: fullFromMs - firstMs, text: `until ${most} had work` },
    { kind: "full", name: "At full speed", ms: fullToMs - fullFromMs, text: workingPeak <= 1 ? "the Task Manager had work" : `most of the time ${most} or more had work` },
    { kind: "tail", name: "Running out", ms: lastMs - fullToMs, text: "fewer and fewer had work, until the last item ended" },
    { kind: "write", name: "Writing", ms: runMs - lastMs, text: "from the last item's end until all was stored and given back" },
    { kind: "finish", name: "Finishing", ms: times?.finishMs ?? 0, text: "what is made of the journal: failed.jsonl, exports, parts in S3" },
  ];
  return phases.filter(({ ms }) => ms > 0);
}

/** Why it took so long, as far as the run's steps tell: what cost most first. */
export function reasonsOf(timeline: TimelineReport, summary: Summary | null): readonly string[] {
  const present = timeline.workingMs + timeline.idleMs;
  const wholeMs = summary?.makespanMs ?? timeline.runMs;
  const matters = (ms: number) => ms >= worthSayingMs && ms >= worthSayingShare * wholeMs;
  const reasons: (readonly [ms: number, text: string | null])[] = [
    [Infinity, bottleneckText(summary, timeline)],
    [Infinity, overheadText(summary ?? {})],
    ...memoryLines(summary?.memoryShort ?? null).map((line) => [Infinity, line.trim()] as const),
    [summary?.waitedAsideMs ?? 0, `For ${duration(summary?.waitedAsideMs ?? 0)} all that was left waited, for a host that asked for fewer requests or for another try.`],
    [each(timeline.idleInTailMs, timeline), tailText(timeline)],
    [each(timeline.idleReadingMs, timeline), `Task Managers stood idle for ${duration(timeline.idleReadingMs)}, all together, while the list was being read or the disk was waited for.`],
    [each(timeline.idleMs - timeline.idleInTailMs - timeline.idleReadingMs, timeline), `In between, Task Managers stood idle for ${percent(timeline.idleMs - timeline.idleInTailMs - timeline.idleReadingMs, present)} of their time: hand-over, or nothing that could be handed out.`],
    [timeline.taskManagers === 0 ? 0 : timeline.startingMs / timeline.taskManagers, startText(timeline)],
    [each(timeline.lostWorkMs, timeline), lossText(timeline)],
    [each(timeline.copyMs, timeline), copyText(timeline)],
    [timeline.hostBlocks > 0 ? worthSayingMs + worthSayingShare * wholeMs : 0, `${times(timeline.hostBlocks)} a host asked to be left alone for a while.`],
  ];
  const said = reasons.filter(([ms]) => matters(ms)).sort(([a], [b]) => b - a).flatMap(([, text]) => (text === null ? [] : [text]));
  return said.length > 0 ? said : ["Nothing stands out: Task Managers had work for nearly all of the time."];
}

/** As if it were shared by all: what the whole run could have been shorter by. */
function each(ms: number, { workingPeak }: TimelineReport): number {
  return ms / Math.max(1, workingPeak);
}

function bottleneckText(summary: Summary | null, { workingMs, idleMs }: TimelineReport): string | null {
  if (summary === null || Object.keys(summary.stages).length === 0) return null;
  const { bottleneck, machineShare, stages } = summary;
  if (bottleneck === null) {
    const busiest = Math.max(...Object.values(stages).map(({ busyShare }) => busyShare));
    return `No stage was full: Task Managers had work for ${percent(workingMs, workingMs + idleMs)} of their time, yet no stage's lanes were at work for more than ${Math.round(busiest * 100)} %. The rest went to single slow items that others waited for, to reading and hand-over within them, and to what is below.`;
  }
  const share = bottleneck.stage === "processor" ? machineShare : (stages[bottleneck.stage as Stage]?.busyShare ?? null);
  const what = bottleneck.stage === "processor" ? "The processor's cores were" : `The lanes of ${bottleneck.stage} were`;
  return `${what} at work for ${share === null ? "most" : `${Math.round(share * 100)} %`} of the time, and held the others up. To go faster: ${bottleneck.knob}.`;
}

function tailText(timeline: TimelineReport): string {
  const { idleInTailMs, last } = timeline;
  const who = last === null ? "" : ` The last to end was Task Manager ${last.name}: ${items(last.items)} in ${duration(last.toMs - last.fromMs)}.`;
  return `When work ran out, Task Managers stood idle for ${duration(idleInTailMs)}, all together: had all ended at once, it would have been about ${duration(each(idleInTailMs, timeline))} less.${who}`;
}

function startText({ startingMs, slowestStartMs, taskManagers }: TimelineReport): string {
  if (taskManagers === 1) return `Starting the Task Manager took ${duration(slowestStartMs)}.`;
  return `Starting a Task Manager took ${duration(startingMs / Math.max(1, taskManagers))} on average, ${duration(slowestStartMs)} at most; ${count(taskManagers)} were started or taken over.`;
}

function lossText({ lostWorkMs, losses }: TimelineReport): string {
  const number = losses.reduce((sum, loss) => sum + loss.count, 0);
  return `${number === 1 ? "A Task Manager was" : `${count(number)} Task Managers were`} lost with items in hand: ${duration(lostWorkMs)} of work, part of which had to be done again.`;
}

function copyText({ copyMs, copies }: TimelineReport): string {
  return `${times(copies)} items were given to a second Task Manager since the first was late with them: ${duration(copyMs)} of work.`;
}

function times(number: number): string {
  return number === 1 ? "Once" : `${count(number)} times`;
}

export function items(number: number): string {
  return `${count(number)} ${number === 1 ? "item" : "items"}`;
}

function percent(part: number, whole: number): string {
  return `${Math.round((100 * part) / Math.max(1, whole))} %`;
}

function within(value: number, low: number, high: number): number {
  return Math.min(high, Math.max(low, value));
}
