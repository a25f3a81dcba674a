import { availableParallelism, totalmem } from "node:os";
import type { ArtifactStore } from "./artifact-store.ts";
import { createFaultMaker, stall, type FaultMaker } from "./faults.ts";
import { memoryGauge } from "./memory-gauge.ts";
import { createMemoryGuard } from "./memory-guard.ts";
import type { Artifact, Channel, OrchestratorMessage, ReturnCause, TaskManagerMessage, TaskSpec } from "./protocol.ts";
import { protocolVersion } from "./protocol.ts";
import { createReporter, type Reporter } from "./reporter.ts";
import { createSupply, type Supply } from "./supply.ts";
import type { Executor, ExecutorContext, Host, WorkItem } from "./tasks/types.ts";
import { TaskRefused } from "./tasks/types.ts";

/** Assignments held at once: one running, one prefetched, so that the hand-over costs no time. */
const room = 2;
const timeoutCheckMs = 100;
/** A check that comes later than this: the whole process was stopped (Ctrl-Z, a machine that was frozen). */
const stoppedMsMin = 1000;
const drainCheckMs = 5;
/** About this often; each process a little otherwise. */
const memoryLookMs = 250;
/** Given back at a time for lack of memory. */
const memoryReturnsMax = 16;

export interface TaskManagerOptions {
  readonly id: string;
  readonly channel: Channel<TaskManagerMessage, OrchestratorMessage>;
  readonly artifacts: ArtifactStore;
  /** False in the `sequential` backend: user and native code on this very thread. */
  readonly threads: boolean;
  createExecutor(task: TaskSpec, context: ExecutorContext): Promise<Executor>;
  /** Ends this Task Manager; does not return where it is a process of its own. */
  exit(code: number): void;
  /** Ends it at once, since a clean exit would wait for native calls; does not return where it is a process of its own. */
  kill(signal: EndSignal): void;
}

/** `SIGTERM`: an item hung. `SIGKILL`: what is left of the memory does not last. */
export type EndSignal = "SIGTERM" | "SIGKILL";

interface Assignment {
  readonly id: number;
  readonly reversed: boolean;
  total: number;
  /** What is not begun then goes back; by `performance.now()`. */
  readonly endsAtMs: number;
  readonly deadline: NodeJS.Timeout | undefined;
}

/** How this Task Manager comes to its end: what is not begun goes back with the cause. */
interface Ending {
  readonly cause: ReturnCause;
  readonly reason: string;
  readonly exitCode: number;
}

/** Speaks the protocol and keeps the books; the work itself is the executor's, on other threads. */
export function startTaskManager(options: TaskManagerOptions): void {
  const { channel, artifacts } = options;
  const assignments = new Map<number, Assignment>();
  const begun = new Set<WorkItem>();
  /** Begun items of cancelled assignments; their numbers may be given again, to another job's. */
  const unwanted = new Set<WorkItem>();
  let deadlines = 0;
  let apartAssignment: number | null = null;
  let nothingFollows = false;
  let task: TaskSpec | undefined;
  let settings: Extract<OrchestratorMessage, { kind: "configure" }> | undefined;
  let faults: FaultMaker | null = null;
  let supply: Supply | undefined;
  let executor: Executor | undefined;
  let reporter: Reporter | undefined;
  let draining: Ending | undefined;
  /** Of starting and of getting the task ready. */
  let cpuBeforeMs = 0;
  let ended = false;
  const timers: NodeJS.Timeout[] = [];

  const host: Host = {
    take() {
      // A timer does it, too, but not while user code keeps this thread, as it does in `sequential`.
      if (deadlines > 0) giveBackLate();
      return supply?.take();
    },
    get waiting() {
      return supply?.waiting ?? 0;
    },
    async begun(items) {
      for (const item of items) begun.add(item);
      await Promise.all(
        groupByAssignment(items).map(([assignment, group]) =>
          channel.send({ kind: "begun", assignment, items: group.map((item) => item.index) }),
        ),
      );
      if (faults !== null && options.threads) for (const item of items) meetFate(faults.fate(item));
    },
    result(item, output) {
      if (over(item)) reporter?.result(item, output);
    },
    error(item, error) {
      if (over(item)) reporter?.error(item, error);
    },
    returned(item, cause, busyHost) {
      if (over(item)) reporter?.returned(item, cause, busyHost);
    },
    sized: (item, bytes, meanBytes) => reporter?.sized(item, bytes, meanBytes),
    stage: (name, items, busyMs, waitMs) => reporter?.stage(name, items, busyMs, waitMs),
    hosts: (reports) => void channel.send({ kind: "hosts", hosts: [...reports] }),
    log: (level, message) => void channel.send({ kind: "log", level, message }),
    fatal(message, exitCode) {
      host.log("error", message);
      refuseMore(message);
      void end(message, exitCode);
    },
  };

  /** Is what became of it of interest? */
  function over(item: WorkItem): boolean {
    begun.delete(item);
    supply?.ended(item);
    return unwanted.size === 0 || !unwanted.delete(item);
  }

  // ---- giving back ----

  /** The last `count` items of an assignment that are not begun, wherever they are; they are nobody's then. */
  function takeBack({ id, reversed }: Assignment, count: number): readonly WorkItem[] {
    const back = supply?.takeBack(id, count) ?? [];
    if (back.length < count) back.push(...takeFromExecutor((item) => item.assignment === id, count - back.length, reversed));
    for (const item of back) over(item);
    return back;
  }

  function takeFromExecutor(select: (item: WorkItem) => boolean, count: number, reversed: boolean): readonly WorkItem[] {
    const found = (executor?.notBegun() ?? []).filter(select).sort((a, b) => (reversed ? b.index - a.index : a.index - b.index));
    const last = new Set(found.slice(Math.max(0, found.length - count)));
    return last.size === 0 ? [] : (executor?.unbegun((item) => last.has(item)) ?? []);
  }

  function giveBack(assignment: Assignment, cause: ReturnCause): void {
    const items = takeBack(assignment, Infinity);
    if (items.length > 0) reporter?.givenBack(assignment.id, items, cause);
  }

  /** What nobody has started on goes back, so that it costs no try whatever becomes of this process. */
  function giveBackAll(cause: ReturnCause): void {
    for (const assignment of [...assignments.values()]) giveBack(assignment, cause);
  }

  function giveBackLate(): void {
    const nowMs = performance.now();
    for (const assignment of [...assignments.values()]) if (nowMs >= assignment.endsAtMs) giveBack(assignment, "DEADLINE");
  }

  function reclaim(id: number, count: number): void {
    const assignment = assignments.get(id);
    const items = assignment === undefined ? [] : takeBack(assignment, count);
    if (assignment === undefined || reporter === undefined) void channel.send({ kind: "returned", assignment: id, items: [], cause: "RECLAIMED" });
    else reporter.givenBack(id, items, "RECLAIMED");
  }

  /** What is begun ends unheard. */
  function cancel(id: number): void {
    const assignment = assignments.get(id);
    if (assignment === undefined) return;
    takeBack(assignment, Infinity);
    for (const item of begun) if (item.assignment === id) unwanted.add(item);
    reporter?.forget(id);
    drop(assignment);
    if (assignments.size === 0 && draining === undefined) sendIdle();
  }

  function drop({ id, deadline }: Assignment): void {
    assignments.delete(id);
    if (apartAssignment === id) apartAssignment = null;
    clearTimeout(deadline);
    if (deadline !== undefined) deadlines -= 1;
  }

  // ---- the end ----

  async function end(reason: string, exitCode: number): Promise<void> {
    if (ended) return;
    ended = true;
    stopTimers();
    reporter?.flush();
    await channel.send({ kind: "bye", reason });
    if (exitCode === 0) await executor?.close();
    options.exit(exitCode);
  }

  function stopTimers(): void {
    for (const timer of timers) clearInterval(timer);
    for (const { deadline } of assignments.values()) clearTimeout(deadline);
    supply?.close();
  }

  /** What is not begun goes back, and so does whatever comes. */
  function refuseMore(reason: string): void {
    draining ??= { cause: "RESTART", reason, exitCode: 1 };
    giveBackAll(draining.cause);
  }

  /** Ends once what is begun has; whatever comes meanwhile goes back. */
  function drain(how: Ending): void {
    if (draining !== undefined) return;
    draining = how;
    giveBackAll(how.cause);
    executor?.wake(true);
    const whenDone = setInterval(() => {
      if (begun.size > unwanted.size) return;
      clearInterval(whenDone);
      void end(how.reason, how.exitCode);
    }, drainCheckMs);
    timers.push(whenDone);
  }

  /** The time in which nothing could go on does not count. */
  function watchTimeouts(limitMs: number): void {
    let lastMs = performance.now();
    let stoppedMs = 0;
    const check = () => {
      const nowMs = performance.now();
      const lateMs = nowMs - lastMs - timeoutCheckMs;
      lastMs = nowMs;
      if (lateMs > stoppedMsMin) stoppedMs += lateMs;
      checkTimeouts(limitMs, stoppedMs);
    };
    timers.push(setInterval(check, timeoutCheckMs));
  }

  /** What hangs cannot be ended without the process. */
  function checkTimeouts(limitMs: number, stoppedMs: number): void {
    const late = executor?.overdue(limitMs + stoppedMs) ?? [];
    if (late.length === 0) return;
    refuseMore("an item hung");
    // Of several in one call any may be the reason: they stay begun and not ended, which makes them suspects.
    const suspects = new Set(late.flatMap(({ items }) => (items.length > 1 ? items : [])));
    for (const { items, stage } of late) {
      const [item] = items;
      if (item === undefined || suspects.has(item)) continue;
      host.error(item, { code: "ITEM_TIMEOUT", stage, message: `took longer than timeouts.itemMs (${limitMs} ms)`, retryable: false });
    }
    for (const item of [...begun]) if (!suspects.has(item)) host.returned(item, "RESTART");
    // A clean exit would wait for the native call that hangs.
    void die("an item hung: this process ends, and another takes its place", "SIGTERM");
  }

  /** Says what it has to say and ends, whatever its threads are at. */
  async function die(reason: string, signal: EndSignal): Promise<void> {
    if (ended) return;
    ended = true;
    stopTimers();
    reporter?.flush();
    host.log("warn", reason);
    await channel.send({ kind: "bye", reason });
    options.kill(signal);
  }

  function meetFate(fate: "kill" | "stall" | null): void {
    if (fate === "kill") process.kill(process.pid, "SIGKILL");
    else if (fate === "stall") stall();
  }

  // ---- memory ----

  function watchMemory(limitMb: number | null, firstWidth: number): void {
    const gauge = memoryGauge(limitMb);
    if (gauge === null) return;
    const guard = createMemoryGuard({ base: gauge.read(), own: gauge.own, width: firstWidth, jitter: Math.random() });
    let width = firstWidth;
    if (width < 1) executor?.narrow(width);
    const look = () => {
      const advice = guard.look(gauge.read());
      if (advice.width !== width) executor?.narrow(advice.width);
      if (advice.end !== null && draining === undefined) void channel.send({ kind: "memory", width: advice.fits, ends: true });
      else if (advice.width !== width) void channel.send({ kind: "memory", width: advice.width, ends: false });
      width = advice.width;
      if (advice.giveBack) relieve();
      if (advice.end === "kill") {
        refuseMore("too much memory in use");
        // As the kernel would; what is begun is to blame.
        void die(`more than ${gauge.name} in use`, "SIGKILL");
      }
      if (advice.end === "restart") drain({ cause: "RESTART", reason: `most of ${gauge.name} in use, and smaller batches did not help`, exitCode: 0 });
    };
    timers.push(setInterval(look, memoryLookMs * (0.8 + 0.4 * Math.random())));
  }

  /** Half of what waits here goes elsewhere, what takes up memory first; never all: something must go on. */
  function relieve(): void {
    const waiting = executor?.notBegun().length ?? 0;
    const last = [...assignments.values()].at(-1);
    if (last === undefined || begun.size + waiting === 0) return;
    const held = takeFromExecutor((item) => item.assignment === last.id, Math.min(memoryReturnsMax, Math.floor(waiting / 2)), last.reversed);
    const back = held.length > 0 ? held : (supply?.takeBack(last.id, Math.min(memoryReturnsMax, Math.ceil(host.waiting / 2))) ?? []);
    for (const item of back) over(item);
    if (back.length > 0) reporter?.givenBack(last.id, back, "MEMORY");
  }

  // ---- messages ----

  function state() {
    return {
      held: [...assignments.values()].map(({ id }) => ({ assignment: id, ended: reporter?.endedOf(id) ?? 0 })),
      rssMb: process.memoryUsage.rss() / 1e6,
      cpuMs: cpuMs() - cpuBeforeMs,
      queues: { waiting: host.waiting, begun: begun.size, ...executor?.queues() },
    };
  }

  function sendIdle(): void {
    void channel.send({ kind: "idle", ...state() });
  }

  async function configureWhenComplete(): Promise<void> {
    if (settings === undefined || task === undefined) return;
    const missing = artifactsOf(task).filter((artifact) => !artifacts.has(artifact));
    if (missing.length > 0) return void channel.send({ kind: "need", artifacts: missing.map(({ sha256 }) => sha256) });
    const known = new Map(artifactsOf(task).map((artifact) => [artifact.sha256, artifacts.path(artifact)]));
    try {
      executor = await options.createExecutor(task, {
        host,
        artifactPath: (sha256) => known.get(sha256) ?? "",
        itemTimeoutMs: settings.itemTimeoutMs,
        threads: options.threads,
      });
    } catch (error) {
      const refusal = error instanceof TaskRefused ? error : undefined;
      await channel.send({
        kind: "refused",
        code: refusal?.code ?? "TASK_FAILED",
        field: refusal?.field ?? "task",
        message: error instanceof Error ? error.message : String(error),
      });
      return;
    }
    faults = settings.faults === null ? null : createFaultMaker(settings.faults);
    supply = createSupply({ faults, heldUpMax: executor.lanes, fail: (item, error) => host.error(item, error), wake: () => executor?.wake(upstreamEnded()) });
    reporter = createReporter({
      reportMs: settings.reportMs,
      send: (message) => channel.send(message),
      totalOf: (assignment) => assignments.get(assignment)?.total ?? 0,
      completed(id) {
        const assignment = assignments.get(id);
        if (assignment !== undefined) drop(assignment);
        if (assignments.size === 0 && draining === undefined && !ended) sendIdle();
      },
    });
    timers.push(setInterval(() => void channel.send({ kind: "heartbeat", ...state() }), settings.heartbeatMs));
    const { itemTimeoutMs, memoryLimitMb, width = 1 } = settings;
    if (options.threads) {
      watchTimeouts(itemTimeoutMs);
      watchMemory(memoryLimitMb, width);
    }
    cpuBeforeMs = cpuMs();
    await channel.send({
      kind: "configured",
      room,
      lanes: executor.lanes,
      stageLanes: executor.stageLanes as Record<string, number>,
      inputs: [...executor.inputs],
      outputs: [...executor.outputs],
    });
  }

  async function takeArtifact(message: Extract<OrchestratorMessage, { kind: "artifact" }>): Promise<void> {
    const artifact = task && artifactsOf(task).find(({ sha256 }) => sha256 === message.sha256);
    if (artifact === undefined) return;
    try {
      const whole = await artifacts.write(artifact, message.offset, Buffer.from(message.data, "base64"), message.last);
      if (whole && task && artifactsOf(task).every((each) => artifacts.has(each))) await configureWhenComplete();
    } catch (error) {
      await channel.send({ kind: "refused", code: "ARTIFACT_FAILED", field: "task", message: String(error) });
    }
  }

  function assign({ assignment: id, items, inputs, endWithinMs, reversed, apart = false, last = false, triedBefore = [] }: Extract<OrchestratorMessage, { kind: "assign" }>): void {
    const known = assignments.get(id);
    if (known !== undefined) known.total += inputs.length;
    else {
      const endsAtMs = endWithinMs === null ? Infinity : performance.now() + endWithinMs;
      const assignment: Assignment = {
        id,
        reversed,
        total: inputs.length,
        endsAtMs,
        // It looks at no clock: a timer may fire a little early by this one.
        deadline: endWithinMs === null ? undefined : setTimeout(() => giveBack(assignment, "DEADLINE"), endWithinMs),
      };
      if (endWithinMs !== null) deadlines += 1;
      assignments.set(id, assignment);
    }
    if (apart) apartAssignment = id;
    nothingFollows = last;
    supply?.add({ assignment: id, items, inputs, reversed, apart, triedBefore });
    if (draining !== undefined || ended) giveBackAll(draining?.cause ?? "RESTART");
    else executor?.wake(upstreamEnded());
  }

  /** Batches need not wait for company that never comes. */
  function upstreamEnded(): boolean {
    return draining !== undefined || apartAssignment !== null || nothingFollows;
  }

  channel.onClose(() => {
    stopTimers();
    reporter?.stop();
    void executor?.close();
  });
  channel.onMessage((message) => {
    switch (message.kind) {
      case "configure":
        settings = message;
        task = message.task;
        return void configureWhenComplete();
      case "artifact":
        artifactWrites = artifactWrites.then(() => takeArtifact(message));
        return;
      case "assign":
        return assign(message);
      case "reclaim":
        return reclaim(message.assignment, message.items);
      case "cancel":
        return cancel(message.assignment);
      case "grant":
        return executor?.grant?.(message);
      case "stop":
        return message.how === "drain" ? drain({ cause: "DRAIN", reason: "asked to stop", exitCode: 0 }) : options.exit(0);
    }
  });
  let artifactWrites = Promise.resolve();

  void channel.send({
    kind: "hello",
    protocol: protocolVersion,
    id: options.id,
    pid: process.pid,
    cores: availableParallelism(),
    memoryMb: Math.round(totalmem() / 1e6),
    versions: { splitrun: __SPLITRUN_VERSION__, node: process.version },
  });
}

function artifactsOf(task: TaskSpec): readonly Artifact[] {
  switch (task.kind) {
    case "inference":
      return [task.model];
    case "function":
      return [task.module];
  }
}

function groupByAssignment(items: readonly WorkItem[]): [number, WorkItem[]][] {
  const groups = new Map<number, WorkItem[]>();
  for (const item of items) {
    const group = groups.get(item.assignment);
    if (group === undefined) groups.set(item.assignment, [item]);
    else group.push(item);
  }
  return [...groups];
}

function cpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}
