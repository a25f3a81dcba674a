// How many item-ends a second the scheduler alone can take: its commands are answered at once, nothing runs.
//   node scripts/run-ts.mjs bench/scheduler.ts [items] [task managers] [items a report]
import { createScheduler } from "../orchestrator/scheduler/scheduler.ts";
import type { AssignmentId, SchedulerCommand, SchedulerEvent, SchedulerPlan, TaskManagerId } from "../orchestrator/scheduler/types.ts";

const [items = 1_000_000, taskManagers = 1000, itemsPerReport = 64] = process.argv.slice(2).map(Number);
const itemMs = 50;
const readMax = 8192;

const plan: SchedulerPlan = {
  sizing: { kind: "guided" },
  taskManagersMax: taskManagers,
  taskManagersMin: 1,
  attemptsMax: 3,
  heartbeatTimeoutMs: 6000,
  heartbeats: true,
  tolerate: { failedItemsPercent: 50, afterItems: 200 },
  hostBlockedMs: 300_000,
  taskManagerTimeoutMs: 600_000,
  splitTimeoutMs: null,
  jobTimeoutMs: null,
  assignmentsPerTaskManagerMax: null,
  supports: { prefetch: true, reclaim: true, cancel: true },
  speculation: false,
  reportMs: 250,
  seed: 1,
};

/** An assignment under way: the part of it not reported yet, in ranges. */
interface Work {
  readonly id: TaskManagerId;
  readonly assignment: AssignmentId;
  readonly items: readonly number[];
  pair: number;
  at: number;
}

const scheduler = createScheduler(plan);
const working = new Map<TaskManagerId, Work[]>();
let events: SchedulerEvent[] = [{ kind: "allowance-changed", taskManagers }];
let read = 0;
let steps = 0;
let nowMs = 0;
let finished = false;
let steppingMs = 0;

function carryOut(command: SchedulerCommand): void {
  switch (command.kind) {
    case "read": {
      const count = Math.min(command.count, readMax, items - read);
      if (count === 0) events.push({ kind: "input-ended" });
      else events.push({ kind: "items-read", first: read, count, done: [], failedDone: 0, remaining: items - read - count });
      read += count;
      return;
    }
    case "launch":
      for (const id of command.ids) events.push({ kind: "task-manager-joined", id, room: 2, lanes: 1 });
      return;
    case "assign": {
      const work: Work = { id: command.id, assignment: command.assignment, items: command.items, pair: 0, at: command.items[0] ?? 0 };
      const queue = working.get(command.id);
      if (queue === undefined) working.set(command.id, [work]);
      else queue.push(work);
      return;
    }
    case "store":
      events.push({ kind: "stored", batch: command.batch });
      return;
    case "finish":
      finished = true;
      return;
    default:
      return;
  }
}

function stepAll(): void {
  while (events.length > 0 && !finished) {
    const batch = events;
    events = [];
    const startedMs = performance.now();
    const all: SchedulerCommand[] = [];
    for (const event of batch) all.push(...scheduler.step(event, nowMs).commands);
    steppingMs += performance.now() - startedMs;
    steps += batch.length;
    for (const command of all) carryOut(command);
  }
}

/** Every Task Manager reports its next items, then time passes. */
function report(): void {
  for (const queue of working.values()) {
    const [work] = queue;
    if (work === undefined) continue;
    const first = work.at;
    const end = Math.min(first + itemsPerReport, work.items[work.pair + 1] ?? first);
    events.push({ kind: "items-ended", id: work.id, assignment: work.assignment, results: [first, end], errors: [] });
    work.at = end;
    if (end < (work.items[work.pair + 1] ?? 0)) continue;
    work.pair += 2;
    work.at = work.items[work.pair] ?? 0;
    if (work.pair >= work.items.length) queue.shift();
  }
  nowMs += itemMs * itemsPerReport;
}

// Reports further apart than the heartbeat's time-out are not what is measured here.
if (itemMs * itemsPerReport >= plan.heartbeatTimeoutMs) throw new Error(`at most ${plan.heartbeatTimeoutMs / itemMs - 1} items a report`);
stepAll();
while (!finished) {
  report();
  stepAll();
}
const { succeeded } = scheduler.counts;
if (succeeded !== items) throw new Error(`${succeeded} of ${items} items ended`);
const { user, system } = process.cpuUsage();
const cpuMs = (user + system) / 1000;
console.log(
  `${items} items, ${taskManagers} Task Managers, ${itemsPerReport} items a report: ` +
    `${Math.round((items * 1000) / steppingMs)} item-ends/s, ${steps} steps (${((steppingMs * 1000) / steps).toFixed(2)} us each), ` +
    `${(cpuMs / items).toFixed(4)} ms CPU an item with the bench's own, peak RSS ${Math.round(process.resourceUsage().maxRSS / 1024)} MB`,
);
