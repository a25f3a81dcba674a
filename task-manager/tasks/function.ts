import { parentPort, workerData, type Worker } from "node:worker_threads";
import type { FunctionTask, JsonValue, UserFunction } from "../protocol.ts";
import { begunItemsMax } from "../protocol.ts";
import { startThread } from "../threads.ts";
import { callFunction, loadFunction, type FunctionOutcome } from "./function-runner.ts";
import type { Executor, ExecutorContext, Overdue, WorkItem } from "./types.ts";
import { TaskRefused } from "./types.ts";

/** A group should last about this long: few messages for quick items, little begun at once for slow ones. */
const groupMs = 20;
/** Groups begun at once on a thread: one running, one behind it. */
const groupsMax = 2;

/** Of a place in a group: whoever changes it first has the item. */
const placeFree = 0;
const placeStarted = 1;
const placeTakenBack = 2;

interface ThreadData {
  readonly modulePath: string;
  readonly concurrency: number;
  readonly lanes: SharedArrayBuffer;
  /** States of all places of the groups that can be in flight: what is not started can be taken back while the thread hangs. */
  readonly places: SharedArrayBuffer;
}

type ToThread = { readonly group: number; readonly items: readonly (readonly [index: number, input: JsonValue])[] };
type FromThread =
  | { readonly kind: "ready" }
  | { readonly kind: "refused"; readonly message: string }
  | { readonly kind: "log"; readonly message: string }
  /** Some or all of a group: places in it and their outcomes. */
  | {
      readonly kind: "ended";
      readonly group: number;
      readonly places: readonly number[];
      readonly outcomes: readonly FunctionOutcome[];
      readonly busyMs: number;
      /** The thread has been through all of the group. */
      readonly last: boolean;
    };

/** Runs the user's function on threads of its own, so that heartbeats never stop for it. */
export function createFunctionExecutor(task: FunctionTask, context: ExecutorContext): Promise<Executor> {
  return context.threads ? onThreads(task, context) : onThisThread(task, context);
}

async function onThreads(task: FunctionTask, context: ExecutorContext): Promise<Executor> {
  const { host } = context;
  const modulePath = context.artifactPath(task.module.sha256);
  const threads = await Promise.all(
    Array.from({ length: task.threads }, () =>
      startFunctionThread({ modulePath, concurrency: task.concurrency, lanes: laneBuffer(task.concurrency), places: placeBuffer() }, context),
    ),
  );
  let closing = false;
  let share = 1;

  for (const thread of threads) {
    thread.worker.on("exit", (code) => {
      if (!closing) host.fatal(`the task's code ended its thread (exit code ${code})`, code === 0 ? 1 : code);
    });
    thread.worker.on("error", (error) => {
      if (!closing) host.fatal(`the task's code brought its thread down: ${error.message}`, 1);
    });
    thread.onEnded = () => fill(thread);
  }

  function fill(thread: FunctionThread): void {
    if (share < 1 && threads.indexOf(thread) >= Math.ceil(threads.length * share)) return;
    while (thread.groups.size < groupsMax && host.waiting > 0) {
      const group: WorkItem[] = [];
      const groupItems = share < 1 ? Math.max(1, Math.floor(task.concurrency * share)) : thread.groupItems;
      while (group.length < groupItems) {
        const item = host.take();
        if (item === undefined) break;
        group.push(item);
      }
      if (group.length === 0) return;
      thread.give(group);
    }
  }

  return {
    lanes: task.threads * task.concurrency,
    stageLanes: { function: task.threads * task.concurrency },
    inputs: [],
    outputs: [],
    wake: () => threads.forEach(fill),
    notBegun: () => threads.flatMap((thread) => thread.notStarted()),
    unbegun: (select) => threads.flatMap((thread) => thread.takeBack(select)),
    overdue: (limitMs) => threads.flatMap((thread) => thread.overdue(limitMs)),
    narrow(next) {
      share = next;
      threads.forEach(fill);
    },
    queues: () => ({ function: threads.reduce((sum, thread) => sum + thread.groups.size, 0) }),
    async close() {
      closing = true;
      await Promise.all(threads.map((thread) => thread.worker.terminate()));
    },
  };
}

interface FunctionThread {
  readonly worker: Worker;
  readonly groups: Map<number, { readonly items: readonly WorkItem[]; readonly sinceMs: number }>;
  groupItems: number;
  onEnded: () => void;
  overdue(limitMs: number): readonly Overdue[];
  notStarted(): readonly WorkItem[];
  takeBack(select: (item: WorkItem) => boolean): readonly WorkItem[];
  give(items: readonly WorkItem[]): void;
}

async function startFunctionThread(data: ThreadData, { host }: ExecutorContext): Promise<FunctionThread> {
  const worker = startThread("function", data);
  const places = new Int32Array(data.places);
  let nextGroup = 0;
  let lastEndMs = 0;

  /** Selected items that have not started; their places are `next` from then on. */
  function free(select: (item: WorkItem) => boolean, next: number): WorkItem[] {
    return [...thread.groups].flatMap(([group, { items }]) =>
      items.filter((item, place) => select(item) && Atomics.compareExchange(places, placeAt(group, place), placeFree, next) === placeFree),
    );
  }

  const thread: FunctionThread = {
    worker,
    groups: new Map(),
    groupItems: data.concurrency,
    onEnded: () => undefined,
    overdue: (limitMs) =>
      lanesAtWork(data.lanes)
        .filter(({ sinceMs }) => clockMs() - sinceMs >= limitMs)
        .flatMap(({ group, place }) => thread.groups.get(group)?.items[place] ?? [])
        .map((item) => ({ items: [item], stage: "function" })),
    notStarted: () => free(() => true, placeFree),
    takeBack: (select) => free(select, placeTakenBack),
    give(items) {
      const group = nextGroup++;
      thread.groups.set(group, { items, sinceMs: performance.now() });
      places.fill(placeFree, placeAt(group, 0), placeAt(group, 0) + items.length);
      const message: ToThread = { group, items: items.map(({ index, input }) => [index, input]) };
      void host.begun(items).then(() => worker.postMessage(message));
    },
  };

  function ended(message: Extract<FromThread, { kind: "ended" }>): void {
    const group = thread.groups.get(message.group);
    if (group === undefined) return;
    message.places.forEach((place, at) => {
      const item = group.items[place];
      const outcome = message.outcomes[at];
      if (item === undefined || outcome === undefined) return;
      if (outcome.error !== undefined) host.error(item, outcome.error);
      else host.result(item, outcome.output);
    });
    host.stage("function", message.places.length, message.busyMs, 0);
    if (!message.last) return;
    thread.groups.delete(message.group);
    const now = performance.now();
    thread.groupItems = nextGroupItems(group.items.length, now - Math.max(group.sinceMs, lastEndMs), data.concurrency);
    lastEndMs = now;
    thread.onEnded();
  }

  await new Promise<void>((resolve, reject) => {
    const failed = (error: Error) => reject(new TaskRefused(error.message, { code: "MODULE_INVALID", field: "task.module", cause: error }));
    worker.once("error", failed);
    worker.on("message", (message: FromThread) => {
      switch (message.kind) {
        case "ready":
          worker.off("error", failed);
          return resolve();
        case "refused":
          void worker.terminate();
          return failed(new Error(message.message));
        case "log":
          return host.log("info", message.message);
        case "ended":
          return ended(message);
      }
    });
  });
  return thread;
}

/**
 * What each lane of a thread is at, seen from outside even while the thread hangs: two numbers a lane, the item
 * (group * 64 + place + 1; 0: none) and since when.
 */
function laneBuffer(concurrency: number): SharedArrayBuffer {
  return new SharedArrayBuffer(concurrency * 2 * Float64Array.BYTES_PER_ELEMENT);
}

function lanesAtWork(buffer: SharedArrayBuffer): readonly { readonly group: number; readonly place: number; readonly sinceMs: number }[] {
  const numbers = new Float64Array(buffer);
  const lanes = [];
  for (let at = 0; at < numbers.length; at += 2) {
    const code = (numbers[at] ?? 0) - 1;
    if (code >= 0) lanes.push({ group: Math.floor(code / begunItemsMax), place: code % begunItemsMax, sinceMs: numbers[at + 1] ?? 0 });
  }
  return lanes;
}

function placeBuffer(): SharedArrayBuffer {
  return new SharedArrayBuffer(groupsMax * begunItemsMax * Int32Array.BYTES_PER_ELEMENT);
}

function placeAt(group: number, place: number): number {
  return (group % groupsMax) * begunItemsMax + place;
}

/** A clock that the threads of a process share. */
function clockMs(): number {
  return performance.timeOrigin + performance.now();
}

/** Twice as many while a group is quick, half as many when it is slow. */
function nextGroupItems(items: number, tookMs: number, concurrency: number): number {
  if (tookMs < groupMs / 2) return Math.min(begunItemsMax, Math.max(items, concurrency) * 2);
  if (tookMs > groupMs * 2) return Math.min(begunItemsMax, Math.max(1, concurrency, Math.floor(items / 2)));
  return Math.min(begunItemsMax, Math.max(items, concurrency));
}

/** The thread's side. */
export async function runFunctionThread(): Promise<void> {
  const port = parentPort;
  if (port === null) throw new Error("runs on a worker thread only");
  const { modulePath, concurrency, lanes, places } = workerData as ThreadData;
  const atWork = new Float64Array(lanes);
  const states = new Int32Array(places);
  const post = (message: FromThread) => port.postMessage(message);
  let call: UserFunction;
  try {
    call = await loadFunction(modulePath);
  } catch (error) {
    return post({ kind: "refused", message: error instanceof Error ? error.message : String(error) });
  }
  let groups = Promise.resolve();
  port.on("message", (message: ToThread) => {
    groups = groups.then(() => runGroup({ call, concurrency, atWork, states, post }, message));
  });
  post({ kind: "ready" });
}

interface FunctionLanes {
  readonly call: UserFunction;
  readonly concurrency: number;
  readonly atWork: Float64Array;
  readonly states: Int32Array;
  post(message: FromThread): void;
}

async function runGroup({ call, concurrency, atWork, states, post }: FunctionLanes, { group, items }: ToThread): Promise<void> {
  let places: number[] = [];
  let outcomes: FunctionOutcome[] = [];
  let busyMs = 0;
  let next = 0;
  let lastPostMs = performance.now();

  const flush = (last: boolean) => {
    post({ kind: "ended", group, places, outcomes, busyMs, last });
    places = [];
    outcomes = [];
    busyMs = 0;
    lastPostMs = performance.now();
  };
  const lane = async (laneNumber: number) => {
    while (next < items.length) {
      const place = next++;
      const item = items[place];
      if (item === undefined) return;
      if (Atomics.compareExchange(states, placeAt(group, place), placeFree, placeStarted) !== placeFree) continue;
      const sinceMs = performance.now();
      atWork[laneNumber * 2 + 1] = performance.timeOrigin + sinceMs;
      atWork[laneNumber * 2] = group * begunItemsMax + place + 1;
      const outcome = await callFunction(call, item[1], { index: item[0], log: (message) => post({ kind: "log", message }) });
      atWork[laneNumber * 2] = 0;
      const now = performance.now();
      busyMs += now - sinceMs;
      places.push(place);
      outcomes.push(outcome);
      if (now - lastPostMs > groupMs) flush(false);
    }
  };
  // What has ended need not wait for a neighbour that takes its time.
  const flushing = setInterval(() => {
    if (places.length > 0) flush(false);
  }, groupMs);
  await Promise.all(Array.from({ length: Math.min(concurrency, items.length) }, (_, laneNumber) => lane(laneNumber)));
  clearInterval(flushing);
  flush(true);
}

/** Everything on the caller's thread: breakpoints work, a hang hangs. */
async function onThisThread(task: FunctionTask, { host, artifactPath, itemTimeoutMs }: ExecutorContext): Promise<Executor> {
  const call = await loadFunction(artifactPath(task.module.sha256));
  let running = 0;
  let closed = false;

  async function lane(): Promise<void> {
    for (let item = closed ? undefined : host.take(); item !== undefined; item = closed ? undefined : host.take()) {
      await host.begun([item]);
      const sinceMs = performance.now();
      const outcome = await withTimeout(callFunction(call, item.input, contextOf(item)), itemTimeoutMs);
      host.stage("function", 1, performance.now() - sinceMs, 0);
      if (outcome.error !== undefined) host.error(item, outcome.error);
      else host.result(item, outcome.output);
    }
    running -= 1;
  }
  const contextOf = (item: WorkItem) => ({ index: item.index, log: (message: string) => host.log("info", message) });

  return {
    lanes: task.concurrency,
    stageLanes: { function: task.concurrency },
    inputs: [],
    outputs: [],
    wake() {
      for (; running < task.concurrency; running++) setImmediate(() => void lane());
    },
    notBegun: () => [],
    unbegun: () => [],
    // What hangs here hangs its caller too; what waits for ever ends by the race with its limit.
    overdue: () => [],
    narrow: () => undefined,
    queues: () => ({ function: running }),
    close: async () => {
      closed = true;
    },
  };
}

async function withTimeout(outcome: Promise<FunctionOutcome>, limitMs: number): Promise<FunctionOutcome> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<FunctionOutcome>((resolve) => {
    timer = setTimeout(
      () => resolve({ error: { code: "ITEM_TIMEOUT", stage: "function", message: `took longer than timeouts.itemMs (${limitMs} ms)`, retryable: false } }),
      limitMs,
    );
  });
  try {
    return await Promise.race([outcome, late]);
  } finally {
    clearTimeout(timer);
  }
}
