import type { HostGrant, HostReport, ItemErrorCode, JsonValue, ReturnCause, Stage, TensorShape } from "../protocol.ts";

/** One item as it goes through a Task Manager. */
export interface WorkItem {
  readonly assignment: number;
  readonly index: number;
  readonly input: JsonValue;
  /** No fault is made of it any more. Absent: no. */
  readonly triedBefore?: boolean;
}

export interface WorkError {
  readonly code: ItemErrorCode;
  readonly stage: Stage;
  readonly message: string;
  readonly retryable: boolean;
}

/** What an executor takes its items from and tells its news to; the Task Manager's protocol loop implements it. */
export interface Host {
  /** The next item that is not begun, over all assignments in order; undefined: none right now. */
  take(): WorkItem | undefined;
  /** Items still to be taken. */
  readonly waiting: number;
  /**
   * Called before native or user code sees the items (at most 64); they may go on once it resolves, since only then
   * a crash of this process can be blamed on them. The item's time limit starts here.
   */
  begun(items: readonly WorkItem[]): Promise<void>;
  result(item: WorkItem, output: JsonValue): void;
  error(item: WorkItem, error: WorkError): void;
  /** Not tried, given back. */
  returned(item: WorkItem, cause: ReturnCause, host?: { readonly name: string; readonly retryAfterMs: number | null }): void;
  /** The size of an item that is much larger than the others, known before it is here. */
  sized(item: WorkItem, bytes: number, meanBytes: number): void;
  /** Busy and waiting time of `items` items in a stage. */
  stage(name: Stage, items: number, busyMs: number, waitMs: number): void;
  /** How downloads of these hosts went since they were last told of; told at once. */
  hosts(reports: readonly HostReport[]): void;
  log(level: "debug" | "info" | "warn" | "error", message: string): void;
  /** The process can no longer be trusted (thread died, native code hangs): what is held is given back, and it ends. */
  fatal(message: string, exitCode: number): void;
}

/** Items in one call that hangs: of several, any one may be the reason. */
export interface Overdue {
  readonly items: readonly WorkItem[];
  readonly stage: Stage;
}

/** Runs items of one task: inference, function. Native and user code is on other threads than the caller's. */
export interface Executor {
  /** Items in flight that keep it busy. */
  readonly lanes: number;
  /** Items that each stage works on at once. */
  readonly stageLanes: Readonly<Partial<Record<Stage, number>>>;
  readonly inputs: readonly TensorShape[];
  readonly outputs: readonly TensorShape[];
  /** There is more to take, or (`upstreamEnded`) nothing more is coming for now: part-full batches may leave. */
  wake(upstreamEnded: boolean): void;
  /** What was taken and no native or user code has seen, announced as begun or not. */
  notBegun(): readonly WorkItem[];
  /** Forgets those of them that are selected, downloads included; returns them. The others go on to their end. */
  unbegun(select: (item: WorkItem) => boolean): readonly WorkItem[];
  /** What native or user code has been busy with for longer than this. */
  overdue(limitMs: number): readonly Overdue[];
  /** Batches, and items in flight, at this share of what they usually are, but one at least; 1: as usual. */
  narrow(share: number): void;
  /** What may be asked of a host from now on. Absent where nothing is downloaded. */
  readonly grant?: (grant: HostGrant) => void;
  /** The process was stopped for a while: idle connections may be dead. Absent where there are none. */
  readonly thawed?: () => void;
  /** Items waiting before each stage. */
  queues(): Readonly<Record<string, number>>;
  /** Ends threads and connections; waits for native calls under way, since ending a thread under them aborts the process. */
  close(): Promise<void>;
}

/** Where an executor is in the process of a Task Manager. */
export interface ExecutorContext {
  readonly host: Host;
  /** Local path of an artifact by its sha256. */
  artifactPath(sha256: string): string;
  readonly itemTimeoutMs: number;
  /** False in the `sequential` backend: everything on the caller's thread, so that breakpoints work. */
  readonly threads: boolean;
  /** One decoder, on the caller's thread: where there is one core, a thread for it costs more than it brings. Absent: no. */
  readonly decodesHere?: boolean;
}

/** The task does not fit: the run is refused before it starts, naming the job's field. */
export class TaskRefused extends Error {
  readonly code: string;
  readonly field: string;

  constructor(message: string, options: { readonly code: string; readonly field: string; readonly cause?: unknown }) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "TaskRefused";
    this.code = options.code;
    this.field = options.field;
  }
}
