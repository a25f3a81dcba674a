import type { HostReport, JsonValue, ReturnCause, Stage } from "../../task-manager/protocol.ts";
import type { Host, WorkError, WorkItem } from "../../task-manager/tasks/types.ts";

/** A host that hands out a list of items and keeps what it hears. */
export interface RecordingHost extends Host {
  readonly results: Map<number, JsonValue>;
  readonly errors: Map<number, WorkError>;
  readonly returns: { readonly index: number; readonly cause: ReturnCause; readonly name: string | undefined }[];
  /** Indexes of each `begun`. */
  readonly groups: number[][];
  readonly stages: Partial<Record<Stage, { items: number; busyMs: number; waitMs: number }>>;
  readonly hostReports: HostReport[];
  readonly sizes: Map<number, number>;
  readonly fatals: string[];
  add(inputs: readonly JsonValue[]): void;
  /** Resolves once the condition holds; it is looked at after every piece of news. */
  until(condition: () => boolean): Promise<void>;
  /** Once every item added so far has ended or come back. */
  allEnded(): Promise<void>;
}

export interface RecordingHostOptions {
  /** What `begun` waits for. */
  readonly onBegun?: (indexes: readonly number[]) => Promise<void>;
}

export function createRecordingHost(options: RecordingHostOptions = {}): RecordingHost {
  const queue: WorkItem[] = [];
  const waiters: { readonly condition: () => boolean; resolve(): void }[] = [];
  let added = 0;

  function news(): void {
    for (const waiter of [...waiters]) {
      if (!waiter.condition()) continue;
      waiters.splice(waiters.indexOf(waiter), 1);
      waiter.resolve();
    }
  }
  const host: RecordingHost = {
    results: new Map(),
    errors: new Map(),
    returns: [],
    groups: [],
    stages: {},
    hostReports: [],
    sizes: new Map(),
    fatals: [],
    add(inputs) {
      for (const input of inputs) queue.push({ assignment: 1, index: added++, input });
    },
    until(condition) {
      if (condition()) return Promise.resolve();
      return new Promise((resolve) => waiters.push({ condition, resolve }));
    },
    allEnded: () => host.until(() => host.results.size + host.errors.size + host.returns.length >= added || host.fatals.length > 0),
    take: () => queue.shift(),
    get waiting() {
      return queue.length;
    },
    async begun(items) {
      const indexes = items.map(({ index }) => index);
      host.groups.push(indexes);
      news();
      await options.onBegun?.(indexes);
    },
    result(item, output) {
      refuseTwice(item);
      host.results.set(item.index, output);
      news();
    },
    error(item, error) {
      refuseTwice(item);
      host.errors.set(item.index, error);
      news();
    },
    returned(item, cause, busyHost) {
      refuseTwice(item);
      host.returns.push({ index: item.index, cause, name: busyHost?.name });
      news();
    },
    stage(name, items, busyMs, waitMs) {
      const total = (host.stages[name] ??= { items: 0, busyMs: 0, waitMs: 0 });
      total.items += items;
      total.busyMs += busyMs;
      total.waitMs += waitMs;
    },
    sized(item, bytes) {
      if (host.sizes.has(item.index)) throw new Error(`the size of item ${item.index} was told twice`);
      host.sizes.set(item.index, bytes);
      news();
    },
    hosts(reports) {
      host.hostReports.push(...reports);
      news();
    },
    log: () => undefined,
    fatal(message) {
      host.fatals.push(message);
      news();
    },
  };

  function refuseTwice({ index }: WorkItem): void {
    if (host.results.has(index) || host.errors.has(index) || host.returns.some((back) => back.index === index)) {
      throw new Error(`item ${index} ended twice`);
    }
  }
  return host;
}
