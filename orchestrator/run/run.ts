import { openSync, closeSync, fsyncSync, renameSync, writeSync } from "node:fs";
import path from "node:path";
import type { ItemError, ItemResult, JsonValue, Ranges, StageTimes } from "../../task-manager/protocol.ts";
import { assignmentBytesMax, hostOf } from "../../task-manager/protocol.ts";
import type { ItemSource, SourceItem } from "../inputs/types.ts";
import { storeError } from "../results/journal.ts";
import type { Home, Outcome } from "../results/types.ts";
import { hostBackOffFirstMs, hostBackOffMs } from "../scheduler/hosts.ts";
import { intersection, pushRange, rangesFromSorted } from "../scheduler/ranges.ts";
import { createScheduler } from "../scheduler/scheduler.ts";
import type {
  EndedError,
  FinishState,
  SchedulerCommand,
  SchedulerCounts,
  SchedulerEvent,
  SchedulerPlan,
  StopReason,
  TaskManagerId,
} from "../scheduler/types.ts";
import { hostNumber } from "./hosts.ts";
import { createPayloads, inputBytes } from "./payloads.ts";
import type { ItemMessage, Pool, SurroundingsMessage } from "./pool.ts";

/** Items taken from the source for one event. */
const readItemsMax = 8192;
/** Reading waits while this much is held or on its way to the disk. */
const heldBytesMax = 64_000_000;
const unstoredItemsMax = 262_144;

export const quarantineFile = "quarantine.json";

/** What a run tells those who watch it; all of it is already stored where it says so. */
export interface RunObserver {
  stepped(event: SchedulerEvent, nowMs: number, commands: readonly SchedulerCommand[]): void;
  stages(stages: Readonly<Record<string, StageTimes>>): void;
  /** What a Task Manager says of itself: memory now, CPU time since its start. */
  load(id: TaskManagerId, load: { readonly rssMb: number; readonly cpuMs: number }): void;
  /** It says nothing more to this run. */
  joined(id: TaskManagerId): void;
  left(id: TaskManagerId): void;
  /** The run goes on reading once it resolves, so that a slow reader holds the run up and not the memory. */
  stored(outcomes: readonly Outcome[]): Promise<void> | void;
  surroundings(message: SurroundingsMessage): void;
  /** A host's items are handed out at this pace from now on; null: as they come. */
  paced(host: string, itemsPerSecond: number | null): void;
  /** A Task Manager ended for lack of memory. */
  ranOutOfMemory(): void;
  /** The backend takes no more Task Managers at once than are there. */
  crowded(): void;
  /** One could not be had, or was lost: why. */
  taskManagerFailed(message: string): void;
  log(level: "debug" | "info" | "warn" | "error", message: string): void;
}

export interface RunOptions {
  readonly plan: SchedulerPlan;
  readonly source: ItemSource;
  readonly home: Home;
  readonly pool: Pool;
  readonly runDir: string;
  readonly observer: RunObserver;
  /** Items left in quarantine by an orchestrator that died. */
  readonly quarantined: Quarantined | null;
}

interface Quarantined {
  readonly items: Ranges;
  readonly losses: readonly number[];
}

export interface RunEnd {
  readonly state: FinishState;
  readonly reason: StopReason | null;
  readonly message: string;
  readonly counts: SchedulerCounts;
  /** The end of the list was seen. */
  readonly listRead: boolean;
  /** Estimate of all items of the list; null: not known. */
  readonly itemsTotal: number | null;
  /** Lanes stood empty for so long, since what was left waited for its host or for another try. */
  readonly waitedAsideMs: number;
  readonly makespanMs: number;
}

export interface Run {
  readonly counts: SchedulerCounts;
  /** Milliseconds since the start. */
  elapsedMs(): number;
  /** Estimate of all items of the list; null: not known yet. */
  itemsTotal(): number | null;
  stop(reason: StopReason, how: "drain" | "now", message: string): void;
  readonly ended: Promise<RunEnd>;
}

/** What the event being stepped brought along, for the `store` commands that answer it. */
interface Brought {
  readonly results: readonly ItemResult[];
  readonly errors: ReadonlyMap<number, Pick<ItemError, "code" | "stage" | "message">>;
}
const nothingBrought: Brought = { results: [], errors: new Map() };

/** Runs ONE job: feeds events to its scheduler, carries out its commands. */
export function startRun(options: RunOptions): Run {
  const { plan, source, home, pool, observer } = options;
  const scheduler = createScheduler(plan);
  const payloads = createPayloads();
  const startedAt = performance.now();
  const elapsedMs = () => Math.round(performance.now() - startedAt);
  /** Those at work, by the names that logs call them, and when they last said anything. */
  const present = new Map<TaskManagerId, { readonly name: string; readonly lanes: number; heardMs: number }>();
  const hostFailures = new Map<number, { rounds: number; untilMs: number }>();
  const awaitingStore = new Map<number, readonly Outcome[]>();
  const events: { readonly event: SchedulerEvent; readonly brought: Brought }[] = [];
  let stepping = false;
  let unstoredItems = 0;
  let readItems = 0;
  let inputEnded = false;
  let listRead = false;
  let wanted = 0;
  let reading = false;
  /** Fewer than that are not worth a Task Manager of their own. */
  let itemsPerTaskManager = plan.sizing.kind === "fixed" ? plan.sizing.sizes.reduce((least, size) => Math.min(least, size)) : 1;
  let toldTaskManagers = -1;
  let asideSinceMs: number | null = null;
  let waitedAsideMs = 0;
  let wakeTimer: NodeJS.Timeout | undefined;
  let finish: (end: RunEnd) => void = () => undefined;
  let fail: (error: unknown) => void = () => undefined;
  let finished = false;
  let losses = 0;
  const ended = new Promise<RunEnd>((resolve, reject) => {
    finish = resolve;
    fail = reject;
  });

  /** One event at a time, in the order of arrival, even when a command causes the next at once. */
  function step(event: SchedulerEvent, brought: Brought = nothingBrought): void {
    events.push({ event, brought });
    if (stepping) return;
    stepping = true;
    try {
      for (let next = events.shift(); next !== undefined && !finished; next = events.shift()) stepOne(next.event, next.brought);
    } catch (error) {
      finished = true;
      clearTimeout(wakeTimer);
      fail(error);
    } finally {
      stepping = false;
    }
  }

  function stepOne(event: SchedulerEvent, brought: Brought): void {
    const nowMs = elapsedMs();
    const { commands, wakeAtMs } = scheduler.step(event, nowMs);
    const { counts } = scheduler;
    // Time is up in whatever step comes next, which is not always the clock's own.
    if (counts.losses > losses) sayWhoIsGivenUp(commands, nowMs);
    losses = counts.losses;
    observer.stepped(event, nowMs, commands);
    timeAside(counts, nowMs);
    for (const command of commands) carryOut(command, brought);
    sayWhatIsWanted(counts);
    clearTimeout(wakeTimer);
    if (wakeAtMs !== null && !finished) wakeTimer = setTimeout(() => step({ kind: "clock" }), Math.max(0, wakeAtMs - elapsedMs()));
  }

  function sayWhoIsGivenUp(commands: readonly SchedulerCommand[], nowMs: number): void {
    for (const command of commands) {
      const member = command.kind === "release" && command.how === "kill" ? present.get(command.id) : undefined;
      if (member === undefined) continue;
      const silentMs = nowMs - member.heardMs;
      const why = plan.heartbeats && silentMs >= plan.heartbeatTimeoutMs ? `said nothing for ${(silentMs / 1000).toFixed(1)} s (heartbeat.timeoutMs)` : "got no further (timeouts.taskManagerMs, timeouts.splitMs)";
      observer.log("warn", `${member.name} ${why}: it is ended, and what it had goes to others`);
    }
  }

  function carryOut(command: SchedulerCommand, brought: Brought): void {
    switch (command.kind) {
      case "read":
        wanted = command.count;
        return void readOn();
      case "launch":
        return command.ids.forEach((id) => pool.launch(id));
      case "assign":
        return assign(command);
      case "reclaim":
        return pool.send(command.id, { kind: "reclaim", assignment: command.assignment, items: command.items });
      case "cancel":
        return pool.send(command.id, { kind: "cancel", assignment: command.assignment });
      case "store":
        return store(command, brought);
      case "note-quarantine":
        return note(command);
      case "release":
        if (command.how !== "drain") left(command.id);
        return pool.release(command.id, command.how);
      case "finish":
        finished = true;
        clearTimeout(wakeTimer);
        return finish({
          state: command.state,
          reason: command.reason,
          message: command.message,
          counts: { ...scheduler.counts },
          listRead,
          itemsTotal: itemsTotal(),
          waitedAsideMs: waitedAsideMs + (asideSinceMs === null ? 0 : elapsedMs() - asideSinceMs),
          makespanMs: elapsedMs(),
        });
    }
  }

  /** Adds up the time in which lanes stand empty since what is left waits for its host or for another try. */
  function timeAside({ running, waiting, setAside }: SchedulerCounts, nowMs: number): void {
    let lanes = 0;
    if (setAside > 0 && waiting === 0) for (const member of present.values()) lanes += member.lanes;
    const isAside = running < lanes;
    if (isAside === (asideSinceMs !== null)) return;
    if (asideSinceMs !== null) waitedAsideMs += nowMs - asideSinceMs;
    asideSinceMs = isAside ? nowMs : null;
  }

  /** What the run could use; what it gets is for the pool to say, which knows the other runs. */
  function sayWhatIsWanted({ running, waiting, setAside }: SchedulerCounts): void {
    const unread = inputEnded ? 0 : (source.remaining() ?? Infinity);
    const useful = Math.ceil((running + waiting + setAside + unread) / itemsPerTaskManager);
    const taskManagers = Math.min(plan.taskManagersMax, useful);
    if (taskManagers === toldTaskManagers) return;
    toldTaskManagers = taskManagers;
    pool.want(taskManagers);
  }

  /** Answers one `read` command with one event, once there is room for what it brings. */
  async function readOn(): Promise<void> {
    if (reading || inputEnded || wanted === 0 || finished) return;
    if (mustWait()) return;
    reading = true;
    const count = Math.min(wanted, readItemsMax);
    wanted = 0;
    try {
      const items = await source.read(count);
      reading = false;
      if (items.length > 0) return took(items);
      inputEnded = true;
      listRead = true;
      home.inputEnded();
      step({ kind: "input-ended" });
    } catch (error) {
      reading = false;
      inputEnded = true;
      step({ kind: "input-failed", message: error instanceof Error ? error.message : String(error) });
    }
  }

  function itemsTotal(): number | null {
    if (inputEnded) return readItems;
    const remaining = source.remaining();
    return remaining === null ? null : readItems + Math.round(remaining);
  }

  /** Never while nothing runs: then only reading goes on. */
  function mustWait(): boolean {
    const full = payloads.bytes + home.pendingBytes > heldBytesMax || unstoredItems > unstoredItemsMax;
    return full && (scheduler.counts.running > 0 || unstoredItems > 0);
  }

  function took(items: readonly SourceItem[]): void {
    const first = readItems;
    readItems += items.length;
    const { done, failedDone } = home.match(first, items);
    const errors = new Map<number, Pick<ItemError, "code" | "stage" | "message">>();
    const ended: EndedError[] = [];
    let hosts: number[] | null = null;
    let weights: number[] | null = null;
    let nextDone = 0;
    for (let at = 0; at < items.length; at++) {
      const index = first + at;
      if (index === done[nextDone]) {
        // What is done needs no host and no weight, only its place: a resume passes over millions of them.
        at = (done[nextDone + 1] ?? 0) - first - 1;
        nextDone += 2;
        continue;
      }
      const item = items[at];
      if (item === undefined) continue;
      const host = hostNumber(hostOf(item.input));
      if (host !== 0) (hosts ??= new Array<number>(items.length).fill(0))[at] = host;
      if (item.weight !== undefined) (weights ??= new Array<number>(items.length).fill(1))[at] = item.weight;
      payloads.add(index, item);
      if (item.error === undefined) continue;
      errors.set(index, { ...item.error, stage: "run" });
      ended.push({ index, code: item.error.code, stage: "run", retryable: false });
    }
    step(
      {
        kind: "items-read",
        first,
        count: items.length,
        done,
        failedDone,
        ...(weights === null ? {} : { weights }),
        ...(hosts === null ? {} : { hosts }),
        ...(ended.length > 0 ? { errors: ended } : {}),
        remaining: roundedEstimate(source.remaining()),
      },
      { results: [], errors },
    );
  }

  /** As several messages where the inputs are long; they belong to one assignment all the same. */
  function assign({ id, assignment, items, notAfterMs, reversed, apart = false, triedBefore = [] }: Extract<SchedulerCommand, { kind: "assign" }>): void {
    const endWithinMs = notAfterMs === null ? null : Math.max(0, notAfterMs - elapsedMs());
    let ranges: number[] = [];
    let inputs: JsonValue[] = [];
    let bytes = 0;
    const send = () => {
      const tried = triedBefore.length === 0 ? [] : intersection(ranges, triedBefore);
      if (inputs.length > 0) {
        pool.send(id, { kind: "assign", assignment, items: ranges, inputs, endWithinMs, reversed, apart, ...(tried.length > 0 ? { triedBefore: tried } : {}) });
      }
      ranges = [];
      inputs = [];
      bytes = 0;
    };
    for (let pair = 0; pair < items.length; pair += 2) {
      for (let index = items[pair] ?? 0; index < (items[pair + 1] ?? 0); index++) {
        const item = payloads.get(index);
        if (item === undefined) throw new Error(`item ${index} is to be handed out, but it has ended or was never read`);
        const { input } = item;
        const itemBytes = inputBytes(input);
        if (bytes + itemBytes > assignmentBytesMax) send();
        bytes += itemBytes;
        inputs.push(input);
        pushRange(ranges, index, index + 1);
      }
    }
    send();
  }

  function note(quarantined: Quarantined): void {
    const file = path.join(options.runDir, quarantineFile);
    try {
      noteQuarantine(file, quarantined);
    } catch (error) {
      step({ kind: "stop", reason: "disk", how: "now", message: storeError(file, error).message });
    }
  }

  function store(command: Extract<SchedulerCommand, { kind: "store" }>, brought: Brought): void {
    const outcomes: Outcome[] = [];
    const attempts = new Map(command.retried);
    let at = 0;
    for (let pair = 0; pair < command.results.length; pair += 2) {
      const end = command.results[pair + 1] ?? 0;
      for (let index = command.results[pair] ?? 0; index < end; index++) {
        while ((brought.results[at]?.index ?? Infinity) < index) at += 1;
        const result = brought.results[at];
        const item = payloads.remove(index);
        if (item === undefined || result?.index !== index) throw new Error(`item ${index} is to be stored, but its result is not there`);
        outcomes.push(outcomeOf(index, item, { output: result.output }, attempts.get(index) ?? 1));
      }
    }
    for (const { index, attempts: tries, made } of command.errors) {
      const item = payloads.remove(index);
      const error = made ?? brought.errors.get(index);
      if (item === undefined || error === undefined) throw new Error(`item ${index} is to be stored, but its error is not there`);
      const host = error.code === "HOST_BLOCKED" ? hostOf(item.input) : null;
      const message = host === null ? error.message : `${host}: ${error.message}`;
      outcomes.push(outcomeOf(index, item, { error: { code: error.code, stage: error.stage, message } }, tries));
    }
    unstoredItems += outcomes.length;
    awaitingStore.set(command.batch, outcomes);
    home.append(command.batch, outcomes);
  }

  function left(id: TaskManagerId): void {
    present.delete(id);
    observer.left(id);
  }

  function hear(id: TaskManagerId, message: ItemMessage): void {
    const member = present.get(id);
    if (member !== undefined) member.heardMs = elapsedMs();
    switch (message.kind) {
      case "begun":
        return step({ kind: "items-begun", id, assignment: message.assignment, items: rangesFromSorted([...message.items].sort((a, b) => a - b)) });
      case "items": {
        const results = message.results.sort((a, b) => a.index - b.index);
        const event: SchedulerEvent = {
          kind: "items-ended",
          id,
          assignment: message.assignment,
          results: rangesFromSorted(results.map(({ index }) => index)),
          errors: message.errors.map(({ index, code, stage, retryable }) => ({ index, code, stage, retryable })),
        };
        observer.stages(message.stages);
        if (hostFailures.size > 0) noteWorkingHosts(results);
        return step(event, { results, errors: new Map(message.errors.map((error) => [error.index, error])) });
      }
      case "returned": {
        const { host } = message;
        if (message.cause === "HOST_BUSY" && host !== undefined) blockHost(hostNumber(host), message.retryAfterMs);
        return step({ kind: "items-returned", id, assignment: message.assignment, items: message.items, cause: message.cause });
      }
      case "sized":
        return step({ kind: "items-sized", id, assignment: message.assignment, weights: message.bytes.map(([index, bytes]) => [index, bytes / message.meanBytes]) });
      case "heartbeat":
        observer.load(id, message);
        return step({ kind: "heartbeat", id, held: message.held });
      case "idle":
        observer.load(id, message);
        return step({ kind: "task-manager-idle", id });
    }
  }

  /** Many requests of one moment are refused together: that is one failure. */
  function blockHost(host: number, retryAfterMs: number | undefined): void {
    const nowMs = elapsedMs();
    const failing = hostFailures.get(host) ?? { rounds: 0, untilMs: 0 };
    if (nowMs >= failing.untilMs) failing.rounds += 1;
    const waitMs = retryAfterMs ?? hostBackOffMs(failing.rounds - 1);
    failing.untilMs = Math.max(failing.untilMs, nowMs + Math.max(waitMs, hostBackOffFirstMs / 10));
    hostFailures.set(host, failing);
    step({ kind: "host-blocked", host, untilMs: failing.untilMs });
  }

  function noteWorkingHosts(results: readonly ItemResult[]): void {
    for (const { index } of results) hostFailures.delete(hostNumber(hostOf(payloads.get(index)?.input)));
  }

  pool.listen({
    joined(id, { name, room, lanes }) {
      present.set(id, { name, lanes, heardMs: elapsedMs() });
      if (plan.sizing.kind === "guided") itemsPerTaskManager = lanes;
      observer.joined(id);
      step({ kind: "task-manager-joined", id, room, lanes });
    },
    launchEnded(id, reason, message, crowded) {
      if (finished) return;
      if (crowded) observer.crowded();
      else observer.taskManagerFailed(message);
      observer.log("warn", message);
      step({ kind: "launch-ended", id, reason, message });
    },
    message: hear,
    // After the end, Task Managers go one after the other, as they should.
    lost(id, cause, ranOut) {
      left(id);
      if (finished) return;
      if (ranOut) observer.ranOutOfMemory();
      if (cause.turnedAway !== true) observer.taskManagerFailed(cause.message);
      observer.log("warn", cause.message);
      step({ kind: "task-manager-lost", id, cause });
    },
    surroundings: (message) => observer.surroundings(message),
    log(_id, level, message) {
      if (!finished) observer.log(level, message);
    },
    paced(host, itemsPerSecond) {
      observer.paced(host, itemsPerSecond);
      if (!finished) step({ kind: "host-paced", host: hostNumber(host), itemsPerSecond });
    },
    allowance: (taskManagers) => step({ kind: "allowance-changed", taskManagers }),
  });
  home.onStored((batch) => {
    const outcomes = awaitingStore.get(batch) ?? [];
    awaitingStore.delete(batch);
    const seen = observer.stored(outcomes);
    step({ kind: "stored", batch });
    if (seen instanceof Promise) void seen.then(() => done(outcomes.length));
    else done(outcomes.length);
  });
  function done(items: number): void {
    unstoredItems -= items;
    void readOn();
  }
  home.onStoreFailed((batch, error) => step({ kind: "store-failed", batch, message: error.message }));

  if (options.quarantined !== null) {
    // In this run's own file, too, before it can be killed.
    note(options.quarantined);
    step({ kind: "quarantine-restored", ...options.quarantined });
  }
  step({ kind: "allowance-changed", taskManagers: pool.allowance });

  return {
    get counts() {
      return scheduler.counts;
    },
    elapsedMs,
    itemsTotal,
    stop: (reason, how, message) => step({ kind: "stop", reason, how, message }),
    ended,
  };
}

/** Spelled out for the usual case, since it runs once an item. */
function outcomeOf(index: number, item: SourceItem, end: Pick<Outcome, "output"> | Pick<Outcome, "error">, attempts: number): Outcome {
  const { id, input, version } = item;
  if (id === undefined && version === undefined && "output" in end && end.output !== undefined) {
    return { index, input, output: end.output, attempts };
  }
  return { index, ...(id === undefined ? {} : { id }), input, ...(version === undefined ? {} : { version }), ...end, attempts };
}

/**
 * On disk before the items are handed out: should they take the orchestrator with them, they are not forgotten. Whole,
 * or as it was before, since whoever resumes reads it.
 */
function noteQuarantine(file: string, { items, losses }: Quarantined): void {
  const next = `${file}.next`;
  const descriptor = openSync(next, "w", 0o600);
  try {
    writeSync(descriptor, JSON.stringify({ items, losses }));
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
  renameSync(next, file);
}

function roundedEstimate(remaining: number | null): number | null {
  return remaining === null ? null : Math.round(remaining);
}
