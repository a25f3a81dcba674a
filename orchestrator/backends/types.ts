import type { Channel, OrchestratorMessage, TaskManagerMessage } from "../../task-manager/protocol.ts";

/** How a Task Manager's process or thread of life ended. */
export interface ExitInfo {
  readonly exitCode: number | null;
  readonly signal: string | null;
}

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
}

/** What a backend's carrier can do; the plan takes it into account, nobody probes. */
export interface BackendSupports {
  readonly prefetch: boolean;
  readonly reclaim: boolean;
  readonly cancel: boolean;
}

/** A place where Task Managers are started and stopped. One file each. */
export interface Backend {
  readonly name: string;
  readonly supports: BackendSupports;
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

  constructor(message: string, options: { readonly reason: "throttled" | "refused"; readonly cause?: unknown }) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "LaunchError";
    this.reason = options.reason;
  }
}
