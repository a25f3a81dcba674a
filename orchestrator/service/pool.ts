import { open } from "node:fs/promises";
import path from "node:path";
import type { OrchestratorMessage, TaskManagerMessage, TaskSpec, TensorShape } from "../../task-manager/protocol.ts";
import { protocolVersion } from "../../task-manager/protocol.ts";
import type { Backend, ExitInfo, LaunchedTaskManager } from "../backends/types.ts";
import { LaunchError } from "../backends/types.ts";
import { SplitrunError } from "../errors.ts";
import type { Pool, PoolListener } from "../run/pool.ts";
import type { LossCause, TaskManagerId } from "../scheduler/types.ts";

/** From the launch to `configured`; a model of gigabytes takes its time. */
const readyTimeoutMs = 120_000;
/** After a request to end, before it is ended. */
const drainTimeoutMs = 30_000;
const artifactChunkBytes = 512 * 1024;
const warmTriesMax = 3;

export interface PoolOptions {
  readonly backend: Backend;
  readonly task: TaskSpec;
  /** Local files of the task's artifacts by sha256. */
  readonly artifacts: ReadonlyMap<string, { readonly path: string }>;
  readonly allowance: number;
  readonly env: Readonly<Record<string, string>>;
  readonly maxRamMb: number | null;
  readonly reportMs: number;
  readonly heartbeatMs: number;
  readonly itemTimeoutMs: number;
}

export interface ReadyTaskManager {
  readonly lanes: number;
  readonly room: number;
  /** Items that each stage works on at once. */
  readonly stageLanes: Readonly<Record<string, number>>;
  readonly inputs: readonly TensorShape[];
  readonly outputs: readonly TensorShape[];
}

/** One Task Manager as the pool sees it, from its launch to its end. */
interface Member {
  readonly name: string;
  readonly launched: LaunchedTaskManager;
  readonly ready: ReadyTaskManager;
  /** The run's number for it; null: warm, waiting to be given to a run. */
  id: TaskManagerId | null;
  ending: boolean;
}

export interface ServicePool extends Pool {
  /**
   * Starts one Task Manager ahead of the run, so that a task that cannot work is refused before anything is made.
   * @throws SplitrunError with the refusal's code and field.
   */
  warm(): Promise<ReadyTaskManager>;
  /** Directory for the Task Managers' logs, once there is one. */
  logTo(directory: string): void;
  close(): Promise<void>;
}

/** Starts Task Managers on a backend, gives them the task and its artifacts, and hands them to the run. */
export function createPool(options: PoolOptions): ServicePool {
  const { backend } = options;
  const members = new Map<TaskManagerId, Member>();
  /** Everything that runs, ready or not. */
  const running = new Set<LaunchedTaskManager>();
  const warmMembers: Member[] = [];
  let listener: PoolListener | undefined;
  let logDirectory: string | null = null;
  let started = 0;
  let closing = false;
  let onWarmLog: string[] = [];

  async function start(): Promise<Member> {
    const name = `tm-${++started}`;
    const launched = await backend.launch({
      name,
      env: options.env,
      logPath: logDirectory === null ? null : path.join(logDirectory, `${name}.log`),
      maxRamMb: options.maxRamMb,
    });
    running.add(launched);
    void launched.exited.then(() => running.delete(launched));
    if (closing) await backend.stop(launched);
    const ready = await becomeReady(launched, name);
    const member: Member = { name, launched, ready, id: null, ending: false };
    void launched.exited.then((exit) => gone(member, exit));
    return member;
  }

  /** Nobody but chance ends a Task Manager several times before it has even begun. */
  async function startDespiteDeaths(): Promise<Member> {
    for (let tries = 1; ; tries++) {
      try {
        return await start();
      } catch (error) {
        if (!(error instanceof DiedError) || tries >= warmTriesMax) throw error;
      }
    }
  }

  /** Hello, configure, the artifacts that it lacks, configured. */
  function becomeReady(launched: LaunchedTaskManager, name: string): Promise<ReadyTaskManager> {
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
      void launched.exited.then((exit) => fail(new DiedError(`${name} ended while it started (${exitText(exit)})`)));
      channel.onMessage((message) => {
        if (settled) return;
        switch (message.kind) {
          case "hello":
            if (message.protocol !== protocolVersion) {
              return fail(new LaunchError(`${name} speaks protocol ${message.protocol}, not ${protocolVersion}`, { reason: "refused" }));
            }
            return void channel.send(configureMessage());
          case "need":
            return void sendArtifacts(channel, message.artifacts).catch(fail);
          case "refused":
            return fail(new SplitrunError(`${message.field}: ${message.message}`, { code: message.code, field: message.field }));
          case "configured":
            settled = true;
            clearTimeout(timer);
            return resolve(message);
          case "log":
            return log(name, message.level, message.message);
          default:
            return undefined;
        }
      });
    });
  }

  function configureMessage(): OrchestratorMessage {
    return {
      kind: "configure",
      task: options.task,
      reportMs: options.reportMs,
      heartbeatMs: options.heartbeatMs,
      itemTimeoutMs: options.itemTimeoutMs,
      profile: "off",
      faults: null,
      memoryLimitMb: options.maxRamMb,
    };
  }

  async function sendArtifacts(channel: LaunchedTaskManager["channel"], needed: readonly string[]): Promise<void> {
    for (const sha256 of needed) {
      const artifact = options.artifacts.get(sha256);
      if (artifact === undefined) throw new LaunchError(`an artifact that is not of this task was asked for: ${sha256}`, { reason: "refused" });
      const file = await open(artifact.path);
      try {
        const { size } = await file.stat();
        const buffer = Buffer.alloc(artifactChunkBytes);
        for (let offset = 0; offset < size; ) {
          const { bytesRead } = await file.read(buffer, 0, buffer.length, offset);
          const data = buffer.toString("base64", 0, bytesRead);
          await channel.send({ kind: "artifact", sha256, offset, data, last: offset + bytesRead >= size });
          offset += bytesRead;
        }
      } finally {
        await file.close();
      }
    }
  }

  function bind(member: Member, id: TaskManagerId): void {
    member.id = id;
    members.set(id, member);
    member.launched.channel.onMessage((message) => hear(member, message));
    listener?.joined(id, member.ready);
  }

  function hear(member: Member, message: TaskManagerMessage): void {
    if (member.id === null) return;
    switch (message.kind) {
      case "begun":
      case "items":
      case "returned":
      case "sized":
      case "heartbeat":
      case "idle":
        return listener?.message(member.id, message);
      case "log":
        return listener?.log(member.id, message.level, message.message);
      case "hello":
      case "need":
      case "configured":
      case "refused":
      case "hosts":
      case "bye":
        return undefined;
    }
  }

  function gone(member: Member, exit: ExitInfo): void {
    const warmAt = warmMembers.indexOf(member);
    if (warmAt >= 0) warmMembers.splice(warmAt, 1);
    if (member.id === null || !members.delete(member.id) || closing) return;
    listener?.lost(member.id, lossOf(member, exit));
  }

  function log(name: string, level: "debug" | "info" | "warn" | "error", message: string): void {
    if (listener === undefined) onWarmLog.push(`${name}: ${message}`);
    else listener.log(0, level, `${name}: ${message}`);
  }

  return {
    allowance: options.allowance,

    listen(next) {
      listener = next;
      for (const message of onWarmLog) next.log(0, "info", message);
      onWarmLog = [];
    },

    logTo(directory) {
      logDirectory = directory;
    },

    async warm() {
      try {
        const member = await startDespiteDeaths();
        warmMembers.push(member);
        return member.ready;
      } catch (error) {
        if (error instanceof SplitrunError) throw error;
        throw new SplitrunError(error instanceof Error ? error.message : String(error), {
          code: "LAUNCH_FAILED",
          field: "backend",
          value: backend.name,
          cause: error,
        });
      }
    },

    launch(id) {
      const warm = warmMembers.pop();
      if (warm !== undefined) return void setImmediate(() => bind(warm, id));
      start().then(
        (member) => (closing ? void backend.stop(member.launched) : bind(member, id)),
        (error: unknown) => {
          const reason = error instanceof LaunchError ? error.reason : error instanceof DiedError ? "died" : "refused";
          if (!closing) listener?.launchEnded(id, reason, error instanceof Error ? error.message : String(error));
        },
      );
    },

    send(id, message) {
      void members.get(id)?.launched.channel.send(message);
    },

    release(id, how) {
      const member = members.get(id);
      if (member === undefined) return;
      switch (how) {
        case "keep":
          // One job a service so far: it ends with the pool.
          members.delete(id);
          member.id = null;
          return;
        case "drain": {
          member.ending = true;
          void member.launched.channel.send({ kind: "stop", how: "drain" });
          const timer = setTimeout(() => void backend.stop(member.launched), drainTimeoutMs);
          void member.launched.exited.then(() => clearTimeout(timer));
          return;
        }
        case "kill":
          members.delete(id);
          member.id = null;
          return void backend.stop(member.launched);
      }
    },

    async close() {
      closing = true;
      await Promise.all([...running].map((launched) => endGently(backend, launched)));
      await backend.close();
    },
  };
}

/** A native call under way must not be cut by a clean exit, so a short while is given before it is ended. */
async function endGently(backend: Backend, launched: LaunchedTaskManager): Promise<void> {
  void launched.channel.send({ kind: "stop", how: "now" });
  const timer = setTimeout(() => void backend.stop(launched), 1000);
  await launched.exited;
  clearTimeout(timer);
}

class DiedError extends Error {}

function lossOf(member: Member, exit: ExitInfo): LossCause {
  const message = member.ending && exit.exitCode === 0 ? `${member.name} ended as asked` : `${member.name} ended (${exitText(exit)})`;
  return { exitCode: exit.exitCode, signal: exit.signal, message };
}

function exitText({ exitCode, signal }: ExitInfo): string {
  if (signal === "SIGKILL") return "killed by SIGKILL, as the kernel does when memory runs out";
  return signal === null ? `exit code ${exitCode}` : `killed by ${signal}`;
}
