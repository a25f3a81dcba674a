import { createScheduler } from "../../orchestrator/scheduler/scheduler.ts";
import type {
  AssignmentId,
  EndedError,
  LossCause,
  SchedulerCommand,
  SchedulerCounts,
  SchedulerEvent,
  SchedulerPlan,
  TaskManagerId,
} from "../../orchestrator/scheduler/types.ts";

export const plainPlan: SchedulerPlan = {
  sizing: { kind: "fixed", sizes: [10] },
  taskManagersMax: 2,
  taskManagersMin: 1,
  attemptsMax: 3,
  heartbeatTimeoutMs: 6000,
  heartbeats: true,
  tolerate: { failedItemsPercent: 100, afterItems: 200 },
  hostBlockedMs: 300_000,
  taskManagerTimeoutMs: null,
  splitTimeoutMs: null,
  jobTimeoutMs: null,
  assignmentsPerTaskManagerMax: null,
  supports: { prefetch: false, reclaim: true, cancel: true },
  speculation: false,
  reportMs: 250,
  seed: 1,
};

export type Command<Kind extends SchedulerCommand["kind"]> = Extract<SchedulerCommand, { kind: Kind }>;

/** A scheduler and its clock; every step returns what it asks for. */
export interface Started {
  /** Answers each `store` at the next step, as a disk does that never waits. */
  step(event: SchedulerEvent, atMs?: number): readonly SchedulerCommand[];
  /** Steps the clock from wake to wake until `atMs`. */
  waitUntil(atMs: number): readonly SchedulerCommand[];
  /** Steps the clock to the next time that the scheduler asked for. */
  wake(): readonly SchedulerCommand[];
  readonly counts: SchedulerCounts;
  readonly wakeAtMs: number | null;
  readonly nowMs: number;
}

export function newScheduler(plan: Partial<SchedulerPlan>): Started {
  const scheduler = createScheduler({ ...plainPlan, ...plan });
  let nowMs = 0;
  let wakeAtMs: number | null = null;
  const started: Started = {
    step(event, atMs = nowMs) {
      nowMs = atMs;
      const result = scheduler.step(event, nowMs);
      wakeAtMs = result.wakeAtMs;
      return result.commands;
    },
    waitUntil(atMs) {
      const commands: SchedulerCommand[] = [];
      while (wakeAtMs !== null && wakeAtMs <= atMs) commands.push(...started.step({ kind: "clock" }, Math.max(nowMs, wakeAtMs)));
      nowMs = Math.max(nowMs, atMs);
      return commands;
    },
    wake() {
      if (wakeAtMs === null) throw new Error("the scheduler waits for nothing");
      return started.step({ kind: "clock" }, Math.max(nowMs, wakeAtMs));
    },
    get counts() {
      return scheduler.counts;
    },
    get wakeAtMs() {
      return wakeAtMs;
    },
    get nowMs() {
      return nowMs;
    },
  };
  return started;
}

export interface StartOptions {
  readonly items: number;
  /** How many of them to launch and let join. */
  readonly taskManagers: number;
  readonly room?: number;
  readonly lanes?: number;
  readonly hosts?: readonly number[];
  readonly weights?: readonly number[];
  readonly plan?: Partial<SchedulerPlan>;
}

/** All items are read, the input has ended, the Task Managers 1, 2, … have joined: what they were given is in `given`. */
export function startedScheduler(options: StartOptions): Started & { readonly given: readonly Command<"assign">[] } {
  const { items, taskManagers, room = 1, lanes = 1, hosts, weights, plan = {} } = options;
  const started = newScheduler({ taskManagersMax: taskManagers, ...plan });
  started.step(allowance(taskManagers));
  started.step(itemsRead(0, items, { ...(hosts === undefined ? {} : { hosts }), ...(weights === undefined ? {} : { weights }) }));
  const commands = [...started.step({ kind: "input-ended" })];
  for (let id = 1; id <= taskManagers; id++) commands.push(...started.step(joined(id, room, lanes)));
  return Object.defineProperties({}, {
    ...Object.getOwnPropertyDescriptors(started),
    given: { value: only("assign", commands) },
  }) as Started & { readonly given: readonly Command<"assign">[] };
}

export function only<Kind extends SchedulerCommand["kind"]>(kind: Kind, commands: readonly SchedulerCommand[]): readonly Command<Kind>[] {
  return commands.filter((command): command is Command<Kind> => command.kind === kind);
}

// ---- events ----

export const allowance = (taskManagers: number): SchedulerEvent => ({ kind: "allowance-changed", taskManagers });

export function itemsRead(first: number, count: number, more: Partial<Extract<SchedulerEvent, { kind: "items-read" }>> = {}): SchedulerEvent {
  return { kind: "items-read", first, count, done: [], failedDone: 0, remaining: 0, ...more };
}

export const joined = (id: TaskManagerId, room = 1, lanes = 1): SchedulerEvent => ({ kind: "task-manager-joined", id, room, lanes });

export const begun = (id: TaskManagerId, assignment: AssignmentId, ...items: number[]): SchedulerEvent => ({ kind: "items-begun", id, assignment, items });

/** `results`: ranges. */
export const ended = (id: TaskManagerId, assignment: AssignmentId, ...results: number[]): SchedulerEvent => ({ kind: "items-ended", id, assignment, results, errors: [] });

export function failed(id: TaskManagerId, assignment: AssignmentId, index: number, retryable: boolean): SchedulerEvent {
  const error: EndedError = { index, code: "DOWNLOAD_STATUS", stage: "download", retryable };
  return { kind: "items-ended", id, assignment, results: [], errors: [error] };
}

export function returned(
  id: TaskManagerId,
  assignment: AssignmentId,
  cause: Extract<SchedulerEvent, { kind: "items-returned" }>["cause"],
  ...items: number[]
): SchedulerEvent {
  return { kind: "items-returned", id, assignment, items, cause };
}

export function lost(id: TaskManagerId, cause: Partial<LossCause> = {}): SchedulerEvent {
  return { kind: "task-manager-lost", id, cause: { exitCode: null, signal: "SIGKILL", message: "killed by SIGKILL", ...cause } };
}

export const heartbeat = (id: TaskManagerId, ...held: AssignmentId[]): SchedulerEvent => ({ kind: "heartbeat", id, held: held.map((assignment) => ({ assignment, ended: 0 })) });

export const stored = (batch: number): SchedulerEvent => ({ kind: "stored", batch });
