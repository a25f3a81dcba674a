import { createScheduler } from "./scheduler.ts";
import type { SchedulerCommand, SchedulerCounts, SchedulerEvent, SchedulerPlan } from "./types.ts";

/** Where a replay decided otherwise than the run did. */
export interface Difference {
  /** Counted from 1. */
  readonly step: number;
  readonly nowMs: number;
  readonly event: SchedulerEvent["kind"];
  readonly recordedDigest: number;
  readonly digest: number;
  /** What was decided now, the first few. */
  readonly commands: readonly SchedulerCommand[];
}

export interface ReplayReport {
  readonly steps: number;
  readonly firstDifference: Difference | null;
  readonly counts: SchedulerCounts;
}

const differenceCommandsMax = 10;

export type StepVisitor = (event: SchedulerEvent, nowMs: number, commands: readonly SchedulerCommand[]) => void;

type ItemsRead = Extract<SchedulerEvent, { kind: "items-read" }>;
/** `items-read` with its hosts and weights as [value, how often, value, how often …]. */
type RecordedItemsRead = Omit<ItemsRead, "hosts" | "weights"> & { readonly hostRuns?: readonly number[]; readonly weightRuns?: readonly number[] };

/** One step as a line of JSON: [nowMs, event, digest of the commands]. */
export function encodeStep(event: SchedulerEvent, nowMs: number, commands: readonly SchedulerCommand[]): string {
  return `[${nowMs},${JSON.stringify(event.kind === "items-read" ? recorded(event) : event)},${digestOf(commands)}]`;
}

/**
 * Steps a new scheduler through the lines of `encodeStep` and compares what it decides, up to the first difference.
 * A last line that was cut short, as by a kill, is left out. `visit` is shown each step that was decided as recorded.
 * @throws Error naming the line, if one in the middle cannot be read.
 */
export async function replay(plan: SchedulerPlan, lines: AsyncIterable<string>, visit: StepVisitor | null = null): Promise<ReplayReport> {
  const scheduler = createScheduler(plan);
  let steps = 0;
  let unreadable: Error | null = null;
  for await (const line of lines) {
    if (line === "") continue;
    if (unreadable !== null) throw unreadable;
    const step = decodeStep(line);
    if (step === null) {
      unreadable = new Error(`step ${steps + 1} cannot be read: ${line.slice(0, 200)}`);
      continue;
    }
    steps += 1;
    const { commands } = scheduler.step(step.event, step.nowMs);
    const digest = digestOf(commands);
    if (digest === step.digest) {
      visit?.(step.event, step.nowMs, commands);
      continue;
    }
    const firstDifference = {
      step: steps,
      nowMs: step.nowMs,
      event: step.event.kind,
      recordedDigest: step.digest,
      digest,
      commands: commands.slice(0, differenceCommandsMax),
    };
    return { steps, firstDifference, counts: scheduler.counts };
  }
  return { steps, firstDifference: null, counts: scheduler.counts };
}

interface Step {
  readonly nowMs: number;
  readonly event: SchedulerEvent;
  readonly digest: number;
}

function decodeStep(line: string): Step | null {
  try {
    const [nowMs, event, digest] = JSON.parse(line) as [number, SchedulerEvent | RecordedItemsRead, number];
    return { nowMs, event: event.kind === "items-read" ? restored(event) : event, digest };
  } catch {
    return null;
  }
}

function recorded({ hosts, weights, ...event }: ItemsRead): RecordedItemsRead {
  return {
    ...event,
    ...(hosts === undefined ? {} : { hostRuns: runsOf(hosts) }),
    ...(weights === undefined ? {} : { weightRuns: runsOf(weights) }),
  };
}

function restored({ hostRuns, weightRuns, ...event }: RecordedItemsRead): ItemsRead {
  return {
    ...event,
    ...(hostRuns === undefined ? {} : { hosts: valuesOf(hostRuns) }),
    ...(weightRuns === undefined ? {} : { weights: valuesOf(weightRuns) }),
  };
}

function runsOf(values: readonly number[]): number[] {
  const runs: number[] = [];
  for (const value of values) {
    const last = runs.length - 1;
    if (last > 0 && runs[last - 1] === value) runs[last] = (runs[last] ?? 0) + 1;
    else runs.push(value, 1);
  }
  return runs;
}

function valuesOf(runs: readonly number[]): number[] {
  const values: number[] = [];
  for (let at = 0; at + 1 < runs.length; at += 2) for (let count = runs[at + 1] ?? 0; count > 0; count--) values.push(runs[at] ?? 0);
  return values;
}

/** 32 bits over all that the commands say; 0 for none. */
export function digestOf(commands: readonly SchedulerCommand[]): number {
  let digest = 0;
  for (const command of commands) digest = digestOfCommand(command, digest);
  return digest >>> 0;
}

function digestOfCommand(command: SchedulerCommand, start: number): number {
  const digest = withText(start, command.kind);
  switch (command.kind) {
    case "read":
      return withNumber(digest, command.count);
    case "launch":
      return withNumbers(digest, command.ids);
    case "assign":
      return withNumbers(withNumber(withNumber(digest, command.id), command.assignment), command.items);
    case "reclaim":
      return withNumber(withNumber(withNumber(digest, command.id), command.assignment), command.items);
    case "cancel":
      return withNumber(withNumber(digest, command.id), command.assignment);
    case "store": {
      let stored = withNumbers(withNumber(digest, command.batch), command.results);
      for (const pair of command.retried) stored = withNumbers(stored, pair);
      for (const { index, attempts, made } of command.errors) {
        stored = withNumber(withNumber(stored, index), attempts);
        if (made !== null) stored = withText(withText(withText(stored, made.code), made.stage), made.message);
      }
      return stored;
    }
    case "note-quarantine":
      return withNumbers(withNumbers(digest, command.items), command.losses);
    case "release":
      return withText(withNumber(digest, command.id), command.how);
    case "finish":
      return withText(withText(withText(digest, command.state), command.reason ?? ""), command.message);
  }
}

function withNumbers(digest: number, values: readonly number[]): number {
  let mixed = withNumber(digest, values.length);
  for (const value of values) mixed = withNumber(mixed, value);
  return mixed;
}

/** FNV-1a, a word at a time; the high part matters to indexes above 2^32 only. */
function withNumber(digest: number, value: number): number {
  const low = Math.imul(digest ^ (value | 0), 0x01000193);
  const mixed = low ^ (low >>> 15);
  return value > 0xffffffff ? Math.imul(mixed ^ Math.floor(value / 2 ** 32), 0x01000193) : mixed;
}

function withText(digest: number, text: string): number {
  let mixed = withNumber(digest, text.length + 1);
  for (let at = 0; at < text.length; at++) mixed = withNumber(mixed, text.charCodeAt(at));
  return mixed;
}
