import type { Channel, OrchestratorMessage, TaskManagerMessage } from "../../task-manager/protocol.ts";
import type { S3Requests as StorageRequests } from "../../task-manager/s3-client.ts";
import type { LambdaReport } from "./lambda/report.ts";

/** How a Task Manager's process or thread of life ended. */
export interface ExitInfo {
  readonly exitCode: number | null;
  readonly signal: string | null;
  /** In words, where the backend knows more than the two above say. */
  readonly message?: string;
  /** Its backend says that it needed more memory than there was. */
  readonly outOfMemory?: boolean;
  /** The end of what it printed, where that has no log yet: it ended while it started. */
  readonly lastWords?: string;
  /** It did not end but was not to be had, now or ever: a `LaunchError`, or what the user has to put right. */
  readonly refusal?: Error;
}

/** Local files of the task's artifacts by sha256. */
export type ArtifactFiles = ReadonlyMap<string, { readonly path: string }>;

/** A Task Manager that was started; whether it ever says hello is seen on its channel. */
export interface LaunchedTaskManager {
  readonly channel: Channel<OrchestratorMessage, TaskManagerMessage>;
  /** Resolves once it is certainly gone; never rejects. */
  readonly exited: Promise<ExitInfo>;
  /** From now on, what it prints goes there: its next user has logs of its own. */
  logTo(path: string): void;
}

export interface LaunchSpec {
  /** For its log and its own folder: `tm-3`. */
  readonly name: string;
  /** Environment on top of the orchestrator's own. */
  readonly env: Readonly<Record<string, string>>;
  /** Where what it prints goes; null: not known yet, `logTo` will say. */
  readonly logPath: string | null;
  /** Limit of its resident memory as far as the backend can set one; null: none. */
  readonly maxRamMb: number | null;
  /** For carriers over which they travel in another way than in messages. */
  readonly artifacts: ArtifactFiles;
  /** For carriers whose connections may drop: one that is taken up again within that time was never lost. */
  readonly comeBackWithinMs: number;
}

/** What a backend's carrier can do; the plan takes it into account, nobody probes. */
export interface BackendSupports {
  readonly prefetch: boolean;
  readonly reclaim: boolean;
  readonly cancel: boolean;
}

/** What one paid piece of work cost in time; the ledger makes money of it. */
export interface Usage {
  /** `LaunchSpec.name` of the Task Manager that it was done for: its run pays. Null: for none, such as keeping warm. */
  readonly taskManager: string | null;
  /** What Lambda calls it in its log; null: never told. */
  readonly requestId: string | null;
  readonly invocations: number;
  /** Rounded up as it is billed; holds the init. */
  readonly billedMs: number;
  readonly memoryMb: number;
  readonly ephemeralMb: number;
  readonly architecture: "x86_64" | "arm64";
  readonly region: string;
  readonly initMs: number | null;
  readonly maxMemoryMb: number | null;
  /** `report`: Lambda said so; `computed`: from the invocation's duration as seen here. */
  readonly source: "report" | "computed";
  /** Nothing of it was of use: a copy that lost, work after Ctrl-C. */
  readonly wasted: boolean;
  /** Of a warm environment's: from its being asked for to the end of its answer, and how much of that its code did not run. Null: of another. */
  readonly seen: { readonly ms: number; readonly overheadMs: number } | null;
}

/** Paid work that has not ended. */
export interface UsageInFlight {
  readonly taskManager: string | null;
  /** Epoch ms. */
  readonly startedMs: number;
  /** Epoch ms: the longest possible end. */
  readonly notAfterMs: number;
  readonly memoryMb: number;
  readonly ephemeralMb: number;
  readonly architecture: Usage["architecture"];
  readonly region: string;
}

export type { StorageRequests };

export interface ReportsAsked {
  readonly requestIds: readonly string[];
  /** Epoch ms: nothing is older. */
  readonly fromMs: number;
  /** Epoch ms: no longer worth waiting. */
  readonly untilMs: number;
}

/** What a backend that costs money says of it. */
export interface Meter {
  /** Hears of work as it ends, and of nothing that ended before. */
  onUsage(listener: (usage: Usage) => void): void;
  /** Work in flight, what it will have cost at most. */
  readonly inFlight: () => readonly UsageInFlight[];
  /** The longest that any piece of work can take. */
  readonly longestMs: number;
  /** Requests to S3 that the backend made for its jobs since this was asked last. Absent: it makes none. */
  readonly takeStorageRequests?: () => StorageRequests;
  /**
   * What Lambda itself says of invocations whose usage was computed, as far as it can be had until then; asked once,
   * after a run. Never rejects. Absent: nowhere to ask.
   */
  readonly reports?: (asked: ReportsAsked) => Promise<readonly LambdaReport[]>;
}

/** A place where Task Managers are started and stopped. One file each. */
export interface Backend {
  readonly name: string;
  readonly supports: BackendSupports;
  /** Null where work costs nothing. */
  readonly meter: Meter | null;
  /** Most Task Managers that one job can use at once. */
  readonly taskManagersMax: number;
  /** @throws LaunchError when none can be started now (`retryable`) or ever. */
  launch(spec: LaunchSpec): Promise<LaunchedTaskManager>;
  /** Ends it at once, whatever it is doing. */
  stop(launched: LaunchedTaskManager): Promise<void>;
  /** After the last Task Manager: removes what was made for them. */
  close(): Promise<void>;
}

export class LaunchError extends Error {
  /** `throttled`: later, fewer. `refused`: not at all, as things are. */
  readonly reason: "throttled" | "refused";
  /** As many as the backend takes at once are there already. */
  readonly crowded: boolean;

  constructor(message: string, options: { readonly reason: "throttled" | "refused"; readonly crowded?: boolean; readonly cause?: unknown }) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "LaunchError";
    this.reason = options.reason;
    this.crowded = options.crowded ?? false;
  }
}
