import type { FaultSpec, OrchestratorMessage, TaskSpec, TensorShape } from "../../task-manager/protocol.ts";
import { protocolVersion } from "../../task-manager/protocol.ts";
import { sendArtifacts } from "../backends/send-artifacts.ts";
import type { ArtifactFiles, Backend, ExitInfo, LaunchedTaskManager } from "../backends/types.ts";
import { LaunchError } from "../backends/types.ts";
import { SplitrunError } from "../errors.ts";
import { withoutSecrets } from "../observe/run-log.ts";

/** From the launch to `configured`; a model of gigabytes takes its time. */
const readyTimeoutMs = 120_000;

/** What a Task Manager is told once: two jobs with equal settings can use the same one. */
export interface TaskManagerSettings {
  readonly task: TaskSpec;
  readonly env: Readonly<Record<string, string>>;
  readonly maxRamMb: number | null;
  readonly reportMs: number;
  readonly heartbeatMs: number;
  /** Silent for so long it counts as lost. */
  readonly heartbeatTimeoutMs: number;
  readonly itemTimeoutMs: number;
  readonly faults: FaultSpec | null;
}

export interface ReadyTaskManager {
  readonly lanes: number;
  readonly room: number;
  /** Items that each stage works on at once. */
  readonly stageLanes: Readonly<Record<string, number>>;
  readonly inputs: readonly TensorShape[];
  readonly outputs: readonly TensorShape[];
}

export interface Starting {
  readonly name: string;
  readonly backend: Backend;
  readonly launched: LaunchedTaskManager;
  readonly settings: TaskManagerSettings;
  /** How much of what it could do at once it begins with. */
  readonly width: number;
  readonly artifacts: ArtifactFiles;
  log(level: "debug" | "info" | "warn" | "error", message: string): void;
}

/** It ended while it started, whoever is to blame. */
export class DiedError extends Error {}

/**
 * Hello, configure, the artifacts that it lacks, configured. One that does not get there is stopped.
 * @throws SplitrunError with the refusal's code and field, LaunchError, DiedError
 */
export function becomeReady({ name, backend, launched, settings, width, artifacts, log }: Starting): Promise<ReadyTaskManager> {
  const { channel } = launched;
  return new Promise((resolve, reject) => {
    let settled = false;
    const timer = setTimeout(
      () => fail(new LaunchError(`${name} was not ready within ${readyTimeoutMs / 1000} s`, { reason: "throttled" })),
      readyTimeoutMs,
    );
    const fail = (error: Error) => {
      if (settled) return;
      settled = true;
      clearTimeout(timer);
      void backend.stop(launched);
      reject(error);
    };
    void launched.exited.then((exit) => fail(exit.refusal ?? new DiedError(`${name} ended while it started (${exitText(exit)})`)));
    channel.onMessage((message) => {
      if (settled) return;
      switch (message.kind) {
        case "hello":
          if (message.protocol !== protocolVersion) {
            return fail(new LaunchError(`${name} speaks protocol ${message.protocol}, not ${protocolVersion}`, { reason: "refused" }));
          }
          return void channel.send(configureMessage(settings, width));
        case "need":
          return void sendArtifacts(channel, artifacts, message.artifacts).catch(fail);
        case "refused":
          return fail(new SplitrunError(`${message.field}: ${message.message}`, { code: message.code, field: message.field }));
        case "configured":
          settled = true;
          clearTimeout(timer);
          return resolve(message);
        case "log":
          return log(message.level, `${name}: ${message.message}`);
        default:
          return undefined;
      }
    });
  });
}

export function exitText({ exitCode, signal, message, lastWords }: ExitInfo): string {
  if (message !== undefined) return message;
  if (signal === "SIGKILL") return "killed by SIGKILL: out of memory, or somebody did it";
  const how = signal === null ? `exit code ${exitCode}` : `killed by ${signal}`;
  return lastWords === undefined ? how : `${how}; it printed: ${withoutSecrets(lastWords)}`;
}

function configureMessage(settings: TaskManagerSettings, width: number): OrchestratorMessage {
  return {
    kind: "configure",
    task: settings.task,
    reportMs: settings.reportMs,
    heartbeatMs: settings.heartbeatMs,
    itemTimeoutMs: settings.itemTimeoutMs,
    profile: "off",
    faults: settings.faults,
    memoryLimitMb: settings.maxRamMb,
    ...(width < 1 ? { width } : {}),
  };
}
