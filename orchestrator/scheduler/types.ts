/** What the scheduler hears and what it asks for. Times are milliseconds on the caller's clock. */
import type { ItemErrorCode, Ranges, ReturnCause, Stage } from "../../task-manager/protocol.ts";

export type TaskManagerId = number;
export type AssignmentId = number;
/** A host that items are downloaded from, numbered by the caller. 0: none (local file, JSON value). */
export type HostNumber = number;

/**
 * What is done about stragglers. `remainder`: idle Task Managers take over what others have not begun, and copy what
 * cannot be moved; copies are at most `maxExtraPercent` of the items. `quartile`: once `quartile` of the splits have
 * ended, those that last longer than `multiplier` × their median are copied whole, looked at every `intervalMs`, at
 * most `maxRetries` times each; `extraTaskManagers`: on Task Managers launched for them, beyond those that are idle.
 */
export type SpeculationPlan =
  | false
  | { readonly kind: "remainder"; readonly maxExtraPercent: number }
  | {
      readonly kind: "quartile";
      readonly quartile: number;
      readonly multiplier: number;
      readonly intervalMs: number;
      readonly maxRetries: number;
      readonly extraTaskManagers: boolean;
    };

/** The settings that the scheduler obeys; complete and validated, no defaults inside. */
export interface SchedulerPlan {
  /** Guided: sized when asked for. Fixed: `sizes` in turn, over and over. */
  readonly sizing: { readonly kind: "guided" } | { readonly kind: "fixed"; readonly sizes: readonly number[] };
  readonly taskManagersMax: number;
  /** Fewer than this and the run stops once no more can be launched. */
  readonly taskManagersMin: number;
  readonly attemptsMax: number;
  readonly heartbeatTimeoutMs: number;
  /** False where the carrier sends none (`keepAlive: false`). */
  readonly heartbeats: boolean;
  readonly tolerate: { readonly failedItemsPercent: number; readonly afterItems: number };
  readonly hostBlockedMs: number;
  /** A Task Manager that holds items and ends none for this long is replaced; null: never. */
  readonly taskManagerTimeoutMs: number | null;
  /** An assignment that lasts longer is taken away and its Task Manager replaced; null: never. */
  readonly splitTimeoutMs: number | null;
  readonly jobTimeoutMs: number | null;
  /** A Task Manager is replaced after this many assignments; null: never. */
  readonly assignmentsPerTaskManagerMax: number | null;
  readonly supports: { readonly prefetch: boolean; readonly reclaim: boolean; readonly cancel: boolean };
  readonly speculation: SpeculationPlan;
  /** Ended items are reported at least this often: silence of a busy Task Manager means something. */
  readonly reportMs: number;
  /** For the jitter of back-off. */
  readonly seed: number;
}

export interface EndedError {
  readonly index: number;
  readonly code: ItemErrorCode;
  readonly stage: Stage;
  readonly retryable: boolean;
}

/** Why a Task Manager is gone, for messages and for the error of an item that killed it. */
export interface LossCause {
  readonly exitCode: number | null;
  readonly signal: string | null;
  /** One sentence: "killed by SIGKILL", "no heartbeat for 6 s". */
  readonly message: string;
  /** Its backend takes fewer at once than there were: it has begun nothing, and no other could have in its place. */
  readonly turnedAway?: boolean;
}

export type StopReason = "user" | "budget" | "disk" | "output" | "job-timeout" | "tolerance" | "backend" | "input" | "refused";

export type SchedulerEvent =
  /**
   * The next `count` items, the first with index `first`. `done`: those of them that have a line in the journal
   * already; `failedDone` of these are errors. `weights` and `hosts`: one an item (missing: 1, and 0).
   * `remaining`: estimate of the items not read yet; null: unknown.
   */
  | {
      readonly kind: "items-read";
      readonly first: number;
      readonly count: number;
      readonly done: Ranges;
      readonly failedDone: number;
      readonly weights?: readonly number[];
      readonly hosts?: readonly HostNumber[];
      /** Errors found while reading (over 1 MB, not JSON): ended with no try. */
      readonly errors?: readonly EndedError[];
      readonly remaining: number | null;
    }
  | { readonly kind: "input-ended" }
  | { readonly kind: "input-failed"; readonly message: string }
  /** Items known to have been in quarantine when an earlier orchestrator died; sent before any item is read. */
  | { readonly kind: "quarantine-restored"; readonly items: Ranges; readonly losses: readonly number[] }
  | { readonly kind: "allowance-changed"; readonly taskManagers: number }
  | {
      readonly kind: "task-manager-joined";
      readonly id: TaskManagerId;
      /** Assignments it can hold: one running, the rest prefetched. */
      readonly room: number;
      /** Items in flight that keep it busy. */
      readonly lanes: number;
      /** When its place will be taken from it (time limit of a batch job or function); absent: never. */
      readonly endsAtMs?: number;
    }
  | { readonly kind: "task-manager-lost"; readonly id: TaskManagerId; readonly cause: LossCause }
  | { readonly kind: "task-manager-idle"; readonly id: TaskManagerId }
  /** A launch that led to no Task Manager. `refused`: will not work later either (message has the way out). */
  | {
      readonly kind: "launch-ended";
      readonly id: TaskManagerId;
      readonly reason: "throttled" | "refused" | "died";
      readonly message: string;
    }
  | { readonly kind: "items-begun"; readonly id: TaskManagerId; readonly assignment: AssignmentId; readonly items: Ranges }
  | {
      readonly kind: "items-ended";
      readonly id: TaskManagerId;
      readonly assignment: AssignmentId;
      readonly results: Ranges;
      readonly errors: readonly EndedError[];
    }
  | {
      readonly kind: "items-returned";
      readonly id: TaskManagerId;
      readonly assignment: AssignmentId;
      readonly items: Ranges;
      readonly cause: ReturnCause;
    }
  /** Sizes of items that became known while they ran (Content-Length), as [index, how many times the mean of all]. */
  | {
      readonly kind: "items-sized";
      readonly id: TaskManagerId;
      readonly assignment: AssignmentId;
      readonly weights: readonly (readonly [index: number, weight: number])[];
    }
  | {
      readonly kind: "heartbeat";
      readonly id: TaskManagerId;
      /** Every assignment that it still holds. */
      readonly held: readonly { readonly assignment: AssignmentId; readonly ended: number }[];
    }
  | { readonly kind: "assignment-refused"; readonly id: TaskManagerId; readonly assignment: AssignmentId; readonly message: string }
  | { readonly kind: "host-blocked"; readonly host: HostNumber; readonly untilMs: number }
  | { readonly kind: "host-free"; readonly host: HostNumber }
  /** How many of its items may be handed out in a second, once it is not blocked; null: as many as there are. */
  | { readonly kind: "host-paced"; readonly host: HostNumber; readonly itemsPerSecond: number | null }
  /** All that the `store` command with this number asked for is synced. */
  | { readonly kind: "stored"; readonly batch: number }
  | { readonly kind: "store-failed"; readonly batch: number; readonly message: string }
  /** `drain`: what is begun may end. `now`: nothing is waited for but what was told to be stored. */
  | { readonly kind: "stop"; readonly reason: StopReason; readonly how: "drain" | "now"; readonly message: string }
  | { readonly kind: "clock" };

export interface StoredError {
  readonly index: number;
  readonly attempts: number;
  /** null: the error of the event being stepped; else one that the scheduler made itself. */
  readonly made: { readonly code: ItemErrorCode; readonly stage: Stage; readonly message: string } | null;
}

export type FinishState = "completed" | "stopped";

export type SchedulerCommand =
  | { readonly kind: "read"; readonly count: number }
  | { readonly kind: "launch"; readonly ids: readonly TaskManagerId[] }
  /**
   * `notAfterMs`: what is not begun by then comes back as returned, where nothing can be told to the holder any more
   * (null: no such time). `reversed`: worked on from the last item to the first, so that a copy meets its original.
   */
  | {
      readonly kind: "assign";
      readonly id: TaskManagerId;
      readonly assignment: AssignmentId;
      readonly items: Ranges;
      readonly notAfterMs: number | null;
      readonly reversed: boolean;
      /** One item at a time, so that a loss or a hang blames the one that is begun. Absent: no. */
      readonly apart?: boolean;
      /** Those of `items` that were tried before, or were begun where a Task Manager was lost. Absent: none. */
      readonly triedBefore?: Ranges;
      /** Its items are at another Task Manager, too. Absent: no. */
      readonly copy?: boolean;
    }
  /** Give back the last `items` that are not begun; answered by `items-returned` with cause RECLAIMED, maybe empty. */
  | { readonly kind: "reclaim"; readonly id: TaskManagerId; readonly assignment: AssignmentId; readonly items: number }
  | { readonly kind: "cancel"; readonly id: TaskManagerId; readonly assignment: AssignmentId }
  /**
   * Write these outcomes. Results and errors with `made: null` are those of the event just stepped; `retried`
   * has [index, attempts] of the results that needed more than one try.
   */
  | {
      readonly kind: "store";
      readonly batch: number;
      readonly results: Ranges;
      readonly retried: readonly (readonly [index: number, attempts: number])[];
      readonly errors: readonly StoredError[];
    }
  /** Must be on disk before commands that come after it in the list are carried out. Items now in quarantine, with their losses while alone. */
  | { readonly kind: "note-quarantine"; readonly items: Ranges; readonly losses: readonly number[] }
  /** `keep`: back to the pool. `drain`: ask it to give back what is not begun, then end. `kill`: lost or stuck, end it at once. */
  | { readonly kind: "release"; readonly id: TaskManagerId; readonly how: "keep" | "drain" | "kill" }
  /** Nothing follows. `stopped`: resumable; reason and message are those of the stop. */
  | { readonly kind: "finish"; readonly state: FinishState; readonly reason: StopReason | null; readonly message: string };

export interface StepResult {
  readonly commands: readonly SchedulerCommand[];
  /** When to step `clock` at the latest; null: not before the next event. */
  readonly wakeAtMs: number | null;
}

export interface SchedulerCounts {
  readonly read: number;
  readonly succeeded: number;
  readonly failed: number;
  /** Had a result in the journal already; part of succeeded. */
  readonly reused: number;
  /** Items that were tried more than once. */
  readonly retried: number;
  /** Items that were given to a second Task Manager while the first still had them. */
  readonly copied: number;
  /** Items that moved before they were begun. */
  readonly reclaimed: number;
  readonly running: number;
  readonly waiting: number;
  readonly setAside: number;
  readonly taskManagers: number;
  readonly launching: number;
  readonly losses: number;
  /** Reports about items not in the sender's assignment. */
  readonly droppedReports: number;
}

export interface Scheduler {
  step(event: SchedulerEvent, nowMs: number): StepResult;
  readonly counts: SchedulerCounts;
}
