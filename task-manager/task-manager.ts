import { availableParallelism, totalmem } from "node:os";
import type { ArtifactStore } from "./artifact-store.ts";
import { createReporter, type Reporter } from "./reporter.ts";
import type { Artifact, Channel, JsonValue, OrchestratorMessage, Ranges, TaskManagerMessage, TaskSpec } from "./protocol.ts";
import { protocolVersion } from "./protocol.ts";
import type { Executor, ExecutorContext, Host, WorkItem } from "./tasks/types.ts";
import { TaskRefused } from "./tasks/types.ts";

/** Assignments held at once: one running, one prefetched, so that the hand-over costs no time. */
const room = 2;
const timeoutCheckMs = 100;

export interface TaskManagerOptions {
  readonly id: string;
  readonly channel: Channel<TaskManagerMessage, OrchestratorMessage>;
  readonly artifacts: ArtifactStore;
  /** False in the `sequential` backend: user and native code on this very thread. */
  readonly threads: boolean;
  createExecutor(task: TaskSpec, context: ExecutorContext): Promise<Executor>;
  /** Ends this Task Manager; does not return where it is a process of its own. */
  exit(code: number): void;
}

interface Assignment {
  readonly id: number;
  total: number;
}

/** Speaks the protocol and keeps the books; the work itself is the executor's, on other threads. */
export function startTaskManager(options: TaskManagerOptions): void {
  const { channel, artifacts } = options;
  const assignments = new Map<number, Assignment>();
  const begun = new Set<WorkItem>();
  let queue: WorkItem[] = [];
  let queueHead = 0;
  let task: TaskSpec | undefined;
  let settings: Extract<OrchestratorMessage, { kind: "configure" }> | undefined;
  let executor: Executor | undefined;
  let reporter: Reporter | undefined;
  let ending: { readonly reason: string; readonly exitCode: number } | undefined;
  const timers: NodeJS.Timeout[] = [];

  const host: Host = {
    take() {
      const item = queue[queueHead];
      if (item === undefined) return undefined;
      queueHead += 1;
      if (queueHead > 4096) dropTaken();
      return item;
    },
    get waiting() {
      return queue.length - queueHead;
    },
    async begun(items) {
      for (const item of items) begun.add(item);
      await Promise.all(
        groupByAssignment(items).map(([assignment, group]) =>
          channel.send({ kind: "begun", assignment, items: group.map((item) => item.index) }),
        ),
      );
    },
    result(item, output) {
      begun.delete(item);
      if (assignments.has(item.assignment)) reporter?.result(item, output);
    },
    error(item, error) {
      begun.delete(item);
      if (assignments.has(item.assignment)) reporter?.error(item, error);
    },
    returned(item, cause, busyHost) {
      begun.delete(item);
      if (assignments.has(item.assignment)) reporter?.returned(item, cause, busyHost);
    },
    stage: (name, items, busyMs, waitMs) => reporter?.stage(name, items, busyMs, waitMs),
    hosts: (reports) => void channel.send({ kind: "hosts", hosts: [...reports] }),
    log: (level, message) => void channel.send({ kind: "log", level, message }),
    fatal(message, exitCode) {
      host.log("error", message);
      giveBackUnbegun("RESTART");
      void end({ reason: message, exitCode });
    },
  };

  function dropTaken(): void {
    queue = queue.slice(queueHead);
    queueHead = 0;
  }

  /** What nobody has started on goes back, so that it costs no try whatever becomes of this process. */
  function giveBackUnbegun(cause: "RESTART" | "DRAIN"): void {
    dropTaken();
    const back = [...(executor?.unbegun(() => true) ?? []), ...queue];
    queue = [];
    for (const item of back) host.returned(item, cause);
  }

  async function end(how: { readonly reason: string; readonly exitCode: number }): Promise<void> {
    if (ending !== undefined) return;
    ending = how;
    stopTimers();
    reporter?.flush();
    await channel.send({ kind: "bye", reason: how.reason });
    if (how.exitCode === 0) await executor?.close();
    options.exit(how.exitCode);
  }

  function stopTimers(): void {
    for (const timer of timers) clearInterval(timer);
  }

  function drain(): void {
    giveBackUnbegun("DRAIN");
    executor?.wake(true);
    const whenDone = setInterval(() => {
      if (begun.size > 0) return;
      clearInterval(whenDone);
      void end({ reason: "asked to stop", exitCode: 0 });
    }, 5);
    timers.push(whenDone);
  }

  function checkTimeouts(): void {
    if (settings === undefined) return;
    const limitMs = settings.itemTimeoutMs;
    const late = executor?.overdue(limitMs) ?? [];
    if (late.length === 0) return;
    for (const item of late) {
      host.error(item, {
        code: "ITEM_TIMEOUT",
        stage: task?.kind === "function" ? "function" : "infer",
        message: `took longer than timeouts.itemMs (${limitMs} ms)`,
        retryable: false,
      });
    }
    // What hangs cannot be ended without the process: its neighbours start again elsewhere.
    for (const item of [...begun]) host.returned(item, "RESTART");
    giveBackUnbegun("RESTART");
    void end({ reason: "an item hung", exitCode: 1 });
  }

  function state() {
    return {
      held: [...assignments.values()].map(({ id }) => ({ assignment: id, ended: reporter?.endedOf(id) ?? 0 })),
      rssMb: process.memoryUsage.rss() / 1e6,
      cpuMs: cpuMs(),
      queues: { waiting: host.waiting, begun: begun.size, ...executor?.queues() },
    };
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
    reporter = createReporter({
      reportMs: settings.reportMs,
      send: (message) => channel.send(message),
      totalOf: (assignment) => assignments.get(assignment)?.total ?? 0,
      completed(assignment) {
        assignments.delete(assignment);
        if (assignments.size === 0 && ending === undefined) void channel.send({ kind: "idle", ...state() });
      },
    });
    timers.push(setInterval(() => void channel.send({ kind: "heartbeat", ...state() }), settings.heartbeatMs));
    if (options.threads) timers.push(setInterval(checkTimeouts, timeoutCheckMs));
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

  function assign(assignment: number, items: Ranges, inputs: readonly JsonValue[]): void {
    const known = assignments.get(assignment);
    if (known === undefined) assignments.set(assignment, { id: assignment, total: inputs.length });
    else known.total += inputs.length;
    let next = 0;
    for (let pair = 0; pair < items.length; pair += 2) {
      for (let index = items[pair] ?? 0; index < (items[pair + 1] ?? 0); index++) {
        queue.push({ assignment, index, input: inputs[next++] ?? null });
      }
    }
    if (ending !== undefined) giveBackUnbegun("DRAIN");
    else executor?.wake(false);
  }

  function reclaim(assignment: number, count: number): void {
    dropTaken();
    const mine = queue.filter((item) => item.assignment === assignment);
    const back = new Set(mine.slice(Math.max(0, mine.length - count)));
    queue = queue.filter((item) => !back.has(item));
    for (const item of back) host.returned(item, "RECLAIMED");
    if (back.size === 0) void channel.send({ kind: "returned", assignment, items: [], cause: "RECLAIMED" });
    reporter?.flush();
  }

  function cancel(assignment: number): void {
    dropTaken();
    queue = queue.filter((item) => item.assignment !== assignment);
    executor?.unbegun((item) => item.assignment === assignment);
    assignments.delete(assignment);
    reporter?.forget(assignment);
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
        return assign(message.assignment, message.items, message.inputs);
      case "reclaim":
        return reclaim(message.assignment, message.items);
      case "cancel":
        return cancel(message.assignment);
      case "grant":
        return executor?.grant?.(message);
      case "stop":
        return message.how === "drain" ? drain() : options.exit(0);
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
