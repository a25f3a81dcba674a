import type { ItemError, ItemResult, JsonValue, ReturnCause, Stage, StageTimes, TaskManagerMessage } from "./protocol.ts";
import type { WorkError, WorkItem } from "./tasks/types.ts";

/** Enough for few messages, little enough that a lost process costs little. */
const reportItemsMax = 1024;
/** About what one message may weigh; outputs are measured roughly. */
const reportBytesMax = 1_000_000;

export interface ReporterOptions {
  readonly reportMs: number;
  send(message: TaskManagerMessage): Promise<void>;
  /** Items of an assignment so far. */
  totalOf(assignment: number): number;
  /** All items of the assignment were reported or returned. */
  completed(assignment: number): void;
}

export interface Reporter {
  result(item: WorkItem, output: JsonValue): void;
  error(item: WorkItem, error: WorkError): void;
  returned(item: WorkItem, cause: ReturnCause, host?: { readonly name: string; readonly retryAfterMs: number | null }): void;
  /** Given back all at once: told at once, in one message, after what ended before. */
  givenBack(assignment: number, items: readonly WorkItem[], cause: ReturnCause): void;
  /** Told with the next report, if the item has not ended by then. */
  sized(item: WorkItem, bytes: number, meanBytes: number): void;
  stage(name: Stage, items: number, busyMs: number, waitMs: number): void;
  /** Items of it that were reported or returned. */
  endedOf(assignment: number): number;
  forget(assignment: number): void;
  /** Sends what has gathered. */
  flush(): void;
  /** Nobody listens any more. */
  stop(): void;
}

interface Gathered {
  ended: number;
  results: ItemResult[];
  errors: ItemError[];
  sizes: Map<number, number>;
  returned: Map<string, { cause: ReturnCause; host: string | undefined; retryAfterMs: number | null; items: number[] }>;
}

/** Gathers ended items into messages: one every `reportMs`, sooner when much has gathered or an assignment ends. */
export function createReporter(options: ReporterOptions): Reporter {
  const assignments = new Map<number, Gathered>();
  let stages: Partial<Record<Stage, StageTimes>> = {};
  let gatheredItems = 0;
  let gatheredBytes = 0;
  let meanBytes = 1;
  let timer: NodeJS.Timeout | undefined;

  function gatheredOf(assignment: number): Gathered {
    let gathered = assignments.get(assignment);
    if (gathered === undefined) {
      gathered = { ended: 0, results: [], errors: [], sizes: new Map(), returned: new Map() };
      assignments.set(assignment, gathered);
    }
    return gathered;
  }

  function gather({ assignment, index }: WorkItem, bytes: number): Gathered {
    const gathered = gatheredOf(assignment);
    gathered.ended += 1;
    if (gathered.sizes.size > 0) gathered.sizes.delete(index);
    gatheredItems += 1;
    gatheredBytes += bytes;
    return gathered;
  }

  function settle(assignment: number, gathered: Gathered): void {
    const full = gatheredItems >= reportItemsMax || gatheredBytes >= reportBytesMax;
    if (full || gathered.ended >= options.totalOf(assignment)) flush();
    else timer ??= setTimeout(flush, options.reportMs);
  }

  function flush(): void {
    clearTimeout(timer);
    timer = undefined;
    gatheredItems = 0;
    gatheredBytes = 0;
    for (const [assignment, gathered] of assignments) {
      sendGathered(assignment, gathered);
      completeIfOver(assignment, gathered);
    }
  }

  function sendGathered(assignment: number, gathered: Gathered): void {
    sendSizes(assignment, gathered);
    sendItems(assignment, gathered);
    sendReturned(assignment, gathered);
  }

  function completeIfOver(assignment: number, { ended }: Gathered): void {
    if (ended < options.totalOf(assignment)) return;
    assignments.delete(assignment);
    options.completed(assignment);
  }

  function sendSizes(assignment: number, { sizes }: Gathered): void {
    if (sizes.size === 0) return;
    void options.send({ kind: "sized", assignment, bytes: [...sizes], meanBytes });
    sizes.clear();
  }

  function sendItems(assignment: number, gathered: Gathered): void {
    const { results, errors } = gathered;
    if (results.length === 0 && errors.length === 0) return;
    gathered.results = [];
    gathered.errors = [];
    void options.send({ kind: "items", assignment, results, errors, stages: stages as Record<string, StageTimes> });
    stages = {};
  }

  function sendReturned(assignment: number, gathered: Gathered): void {
    for (const { cause, host, retryAfterMs, items } of gathered.returned.values()) {
      void options.send({
        kind: "returned",
        assignment,
        items: rangesOf(items),
        cause,
        ...(host === undefined ? {} : { host }),
        ...(retryAfterMs === null ? {} : { retryAfterMs }),
      });
    }
    gathered.returned.clear();
  }

  return {
    result(item, output) {
      const gathered = gather(item, roughBytes(output));
      gathered.results.push({ index: item.index, output });
      settle(item.assignment, gathered);
    },
    error(item, error) {
      const gathered = gather(item, 200);
      gathered.errors.push({ index: item.index, ...error });
      settle(item.assignment, gathered);
    },
    returned(item, cause, host) {
      const gathered = gather(item, 20);
      const key = `${cause} ${host?.name ?? ""}`;
      const group = gathered.returned.get(key);
      if (group !== undefined) group.items.push(item.index);
      else gathered.returned.set(key, { cause, host: host?.name, retryAfterMs: host?.retryAfterMs ?? null, items: [item.index] });
      settle(item.assignment, gathered);
    },
    givenBack(assignment, items, cause) {
      const gathered = gatheredOf(assignment);
      gathered.ended += items.length;
      for (const { index } of items) gathered.sizes.delete(index);
      sendGathered(assignment, gathered);
      void options.send({ kind: "returned", assignment, items: rangesOf(items.map(({ index }) => index)), cause });
      completeIfOver(assignment, gathered);
    },
    sized({ assignment, index }, bytes, mean) {
      meanBytes = mean;
      gatheredOf(assignment).sizes.set(index, bytes);
      timer ??= setTimeout(flush, options.reportMs);
    },
    stage(name, items, busyMs, waitMs) {
      const times = (stages[name] ??= { items: 0, busyMs: 0, waitMs: 0 });
      times.items += items;
      times.busyMs += busyMs;
      times.waitMs += waitMs;
    },
    endedOf: (assignment) => assignments.get(assignment)?.ended ?? 0,
    forget: (assignment) => void assignments.delete(assignment),
    flush,
    stop: () => clearTimeout(timer),
  };
}

function rangesOf(indexes: number[]): number[] {
  indexes.sort((a, b) => a - b);
  const ranges: number[] = [];
  for (const index of indexes) {
    if (ranges.at(-1) === index) ranges[ranges.length - 1] = index + 1;
    else ranges.push(index, index + 1);
  }
  return ranges;
}

/** Length in JSON, near enough to bound a message. */
function roughBytes(value: JsonValue): number {
  if (typeof value === "string") return value.length + 2;
  if (Array.isArray(value)) return value.reduce<number>((sum, each) => sum + roughBytes(each) + 1, 2);
  if (typeof value === "object" && value !== null) {
    let sum = 2;
    for (const key in value) sum += key.length + 4 + roughBytes(value[key] ?? null);
    return sum;
  }
  return 8;
}
