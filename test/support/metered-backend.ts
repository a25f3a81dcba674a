import type { Backend, LaunchedTaskManager, Meter, Usage, UsageInFlight } from "../../orchestrator/backends/types.ts";
import { countOf } from "../../orchestrator/scheduler/ranges.ts";
import type { OrchestratorMessage, TaskManagerMessage } from "../../task-manager/protocol.ts";

export interface MeteredOptions {
  /** What each piece of work is billed. */
  readonly billedMs: number;
  /** What it could have taken. */
  readonly atMostMs: number;
  readonly reports?: Meter["reports"];
}

export interface MeteredBackend extends Backend {
  readonly usages: readonly Usage[];
  readonly launches: number;
  /** The most pieces of work that were in flight at once. */
  readonly inFlightMax: number;
}

/** A backend as if it cost money: each assignment is an invocation, which nothing can call back. */
export function meteredBackend(inner: Backend, { billedMs, atMostMs, reports }: MeteredOptions): MeteredBackend {
  const listeners: ((usage: Usage) => void)[] = [];
  const usages: Usage[] = [];
  const inFlight = new Map<string, UsageInFlight>();
  const sizes = { memoryMb: 1024, ephemeralMb: 512, architecture: "x86_64", region: "us-east-1" } as const;
  let inFlightMax = 0;
  let launches = 0;

  function begin(taskManager: string, assignment: number): void {
    const startedMs = Date.now();
    inFlight.set(`${taskManager}/${assignment}`, { taskManager, startedMs, notAfterMs: startedMs + atMostMs, ...sizes });
    inFlightMax = Math.max(inFlightMax, inFlight.size);
  }

  function end(taskManager: string, assignment: number): void {
    if (!inFlight.delete(`${taskManager}/${assignment}`)) return;
    const usage: Usage = {
      taskManager, requestId: `${taskManager}-${assignment}`, invocations: 1, billedMs, initMs: null, maxMemoryMb: null, source: "computed", wasted: false, seen: null, ...sizes,
    };
    usages.push(usage);
    for (const listener of listeners) listener(usage);
  }

  /** Speaks of money before it speaks of the items. */
  function overheard(name: string, launched: LaunchedTaskManager): LaunchedTaskManager {
    const left = new Map<number, number>();
    let isHeard = false;
    const { channel } = launched;
    const hear = (message: TaskManagerMessage) => {
      if (message.kind !== "items" && message.kind !== "returned") return;
      const items = message.kind === "items" ? message.results.length + message.errors.length : countOf(message.items);
      const rest = (left.get(message.assignment) ?? 0) - items;
      left.set(message.assignment, rest);
      if (rest <= 0) end(name, message.assignment);
    };
    void launched.exited.then(() => {
      for (const assignment of left.keys()) end(name, assignment);
    });
    return {
      ...launched,
      channel: {
        ...channel,
        send(message: OrchestratorMessage) {
          if (message.kind === "assign") {
            left.set(message.assignment, (left.get(message.assignment) ?? 0) + message.inputs.length);
            begin(name, message.assignment);
          }
          return channel.send(message);
        },
        onMessage(listener) {
          const isFirst = !isHeard;
          isHeard = true;
          // Whoever listens too is told of the same messages, which are to be counted once.
          channel.onMessage(isFirst ? (message) => (hear(message), listener(message)) : listener);
        },
      },
    };
  }

  const known = new Map<LaunchedTaskManager, LaunchedTaskManager>();
  return {
    name: inner.name,
    supports: { prefetch: false, reclaim: false, cancel: false },
    taskManagersMax: inner.taskManagersMax,
    meter: { longestMs: atMostMs, onUsage: (listener) => void listeners.push(listener), inFlight: () => [...inFlight.values()], ...(reports === undefined ? {} : { reports }) },
    usages,
    get launches() {
      return launches;
    },
    get inFlightMax() {
      return inFlightMax;
    },
    async launch(spec) {
      launches += 1;
      const launched = await inner.launch(spec);
      const metered = overheard(spec.name, launched);
      known.set(metered, launched);
      return metered;
    },
    stop: (launched) => inner.stop(known.get(launched) ?? launched),
    close: () => inner.close(),
  };
}
