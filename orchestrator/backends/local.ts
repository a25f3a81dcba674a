import { fork, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { createWriteStream, type WriteStream } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Channel, OrchestratorMessage, TaskManagerMessage } from "../../task-manager/protocol.ts";
import { taskManagerMessageOf } from "./messages.ts";
import { taskManagerBundlePath } from "./task-manager-bundle.ts";
import type { Backend, ExitInfo, LaunchedTaskManager, LaunchSpec } from "./types.ts";
import { LaunchError } from "./types.ts";

/** What is kept of a Task Manager's stdout and stderr: a function that prints for ever must not fill the disk. */
const logBytesMax = 10_000_000;
/** Of that, before it is known where to. */
const earlyBytesMax = 65_536;
/** Of that, what an error quotes; its pipe may be held open by somebody else. */
const lastWordsLines = 4;
const lastWordsLengthMax = 500;
const lastWordsWaitMs = 500;

export interface LocalOptions {
  /** Cache of artifacts by content, shared with the orchestrator so that nothing travels. */
  readonly artifactDirectory: string;
  readonly taskManagersMax: number;
}

/** Task Managers as child processes of this one, each in an empty folder of its own. */
export function localBackend(options: LocalOptions): Backend {
  const processes = new Map<LaunchedTaskManager, ChildProcess>();
  let workDirectory: Promise<string> | undefined;

  return {
    name: "local",
    supports: { prefetch: true, reclaim: true, cancel: true },
    meter: null,
    taskManagersMax: options.taskManagersMax,

    async launch(spec) {
      workDirectory ??= mkdtemp(path.join(tmpdir(), "splitrun-"));
      const cwd = await mkdtemp(path.join(await workDirectory, `${spec.name}-`));
      const child = start(spec, cwd, options.artifactDirectory);
      await spawned(child);
      const log = keepLog(child);
      if (spec.logPath !== null) log.to(spec.logPath);
      const launched: LaunchedTaskManager = { channel: channelTo(child), exited: exitOf(child, log), logTo: log.to };
      processes.set(launched, child);
      void launched.exited.then(async () => {
        processes.delete(launched);
        await rm(cwd, { recursive: true, force: true });
      });
      return launched;
    },

    async stop(launched) {
      processes.get(launched)?.kill("SIGKILL");
      await launched.exited;
    },

    async close() {
      await Promise.all([...processes.keys()].map((launched) => this.stop(launched)));
      if (workDirectory !== undefined) await rm(await workDirectory, { recursive: true, force: true });
    },
  };
}

function start(spec: LaunchSpec, cwd: string, artifactDirectory: string): ChildProcess {
  const heapLimit = spec.maxRamMb === null ? [] : [`--max-old-space-size=${Math.max(64, Math.floor(spec.maxRamMb * 0.75))}`];
  return fork(taskManagerBundlePath(), [spec.name, artifactDirectory], {
    cwd,
    // The heap limit of the orchestrator's own command line is not the Task Manager's.
    execArgv: ["--enable-source-maps", ...heapLimit],
    env: { ...process.env, ...spec.env },
    stdio: ["ignore", "pipe", "pipe", "ipc"],
    serialization: "json",
  });
}

async function spawned(child: ChildProcess): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    child.once("spawn", resolve);
    child.once("error", (cause: NodeJS.ErrnoException) => {
      const full = cause.code === "EAGAIN" || cause.code === "ENOMEM";
      reject(new LaunchError(`a Task Manager process could not be started: ${cause.message}`, { reason: full ? "throttled" : "refused", cause }));
    });
  });
  // Later errors are of its IPC channel; its exit tells the rest.
  child.on("error", () => undefined);
}

/** One that has no log yet is given a moment to have what it printed read: nobody could look it up. */
async function exitOf(child: ChildProcess, log: TaskManagerLog): Promise<ExitInfo> {
  const exit = await new Promise<ExitInfo>((resolve) => child.once("exit", (exitCode, signal) => resolve({ exitCode, signal })));
  if (log.early() === null) return exit;
  await Promise.race([once(child, "close").catch(() => undefined), sleep(lastWordsWaitMs)]);
  const lastWords = endOf(log.early() ?? "");
  return lastWords === "" ? exit : { ...exit, lastWords };
}

/** The last lines, as one. */
function endOf(printed: string): string {
  const lines = printed.split("\n").map((line) => line.trim()).filter((line) => line !== "");
  return lines.slice(-lastWordsLines).join(" / ").slice(-lastWordsLengthMax);
}

function channelTo(child: ChildProcess): Channel<OrchestratorMessage, TaskManagerMessage> {
  const listeners: ((message: TaskManagerMessage) => void)[] = [];
  child.on("message", (raw) => {
    const message = taskManagerMessageOf(raw);
    // A process that breaks the protocol has nothing to say that can be trusted.
    if (message === null) return void child.kill("SIGKILL");
    for (const listener of listeners) listener(message);
  });
  return {
    send: (message) =>
      new Promise((resolve) => {
        if (!child.connected) return resolve();
        child.send(message, () => resolve());
      }),
    onMessage: (listener) => void listeners.push(listener),
    onClose(listener) {
      child.once("disconnect", listener);
    },
    close() {
      if (child.connected) child.disconnect();
    },
  };
}

interface TaskManagerLog {
  /** From now on into that file, what was printed until now included. */
  to(path: string): void;
  /** What was printed while there was no file; null: there is one. */
  early(): string | null;
}

/** Read for ever, kept up to the limit: a full pipe would stop the Task Manager. */
function keepLog(child: ChildProcess): TaskManagerLog {
  let log: WriteStream | undefined;
  let logPath = "";
  let kept = 0;
  /** Printed while there was no file. */
  let early: Buffer[] = [];
  const keep = (chunk: Buffer) => {
    const limit = log === undefined ? earlyBytesMax : logBytesMax;
    if (kept > limit) return;
    kept += chunk.length;
    if (log === undefined) early.push(chunk);
    else log.write(chunk);
    if (kept > limit) log?.write(`\n[more than ${limit} bytes: the rest is not kept]\n`);
  };
  for (const stream of [child.stdout, child.stderr]) stream?.on("data", keep);
  child.once("close", () => log?.end());
  const to = (path: string) => {
    if (path === logPath) return;
    log?.end();
    logPath = path;
    log = createWriteStream(path, { flags: "a", mode: 0o600 });
    // A full disk is the journal's to report.
    log.on("error", () => undefined);
    kept = 0;
    for (const chunk of early) keep(chunk);
    early = [];
    if (child.exitCode !== null || child.signalCode !== null) log.end();
  };
  return { to, early: () => (log === undefined ? Buffer.concat(early).toString() : null) };
}
