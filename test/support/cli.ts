import { spawn, type ChildProcess } from "node:child_process";
import { readdir, readFile } from "node:fs/promises";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

/** The command line as it is built and shipped. */
export const cliPath = path.resolve(import.meta.dirname, "../../dist/cli.js");

export interface CliEnd {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CliOptions {
  readonly cwd: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly stdin?: string;
  /** Each folder of tests has its own cache of artifacts. */
  readonly cacheDir?: string;
}

export interface StartedCli {
  readonly child: ChildProcess;
  readonly ended: Promise<CliEnd>;
  /** Resolves once its standard error has it; an end without it is an error. */
  untilSaid(text: RegExp): Promise<void>;
}

/** What a run says when it has heard the first Ctrl-C. */
export const stopping = /^Stopping: /m;

export function startSplitrun(args: readonly string[], options: CliOptions): StartedCli {
  return startCommand(process.execPath, [cliPath, ...args], options);
}

/** The command line inside another command, which limits it, say. */
export function startCommand(command: string, args: readonly string[], options: CliOptions): StartedCli {
  const child = spawn(command, args, {
    cwd: options.cwd,
    env: { ...process.env, SPLITRUN_CACHE_DIR: options.cacheDir ?? path.join(options.cwd, ".cache"), ...options.env },
    stdio: ["pipe", "pipe", "pipe"],
  });
  child.stdin.on("error", () => undefined);
  child.stdin.end(options.stdin ?? "");
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  const ended = new Promise<CliEnd>((resolve) => child.once("close", (code, signal) => resolve({ code, signal, stdout, stderr })));
  return {
    child,
    ended,
    async untilSaid(text) {
      let over = false;
      void ended.then(() => (over = true));
      while (!text.test(stderr)) {
        if (over) throw new Error(`it ended without ${text}: ${stderr}`);
        await sleep(10);
      }
    },
  };
}

export function splitrun(args: readonly string[], options: CliOptions): Promise<CliEnd> {
  return startSplitrun(args, options).ended;
}

/** Processes that carry a mark in their environment: what a run may have left behind. */
export async function processesMarked(mark: string): Promise<readonly number[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name)).map(Number);
  const marked = await Promise.all(
    pids.map(async (pid) => {
      const [environment, state] = await Promise.all([
        readFile(`/proc/${pid}/environ`, "latin1").catch(() => ""),
        readFile(`/proc/${pid}/stat`, "latin1").catch(() => ""),
      ]);
      const zombie = /\) Z /.test(state);
      return environment.includes(mark) && !zombie ? pid : null;
    }),
  );
  return marked.filter((pid) => pid !== null);
}

/** Of those, the Task Managers: a strike at a helper of the orchestrator's own would say nothing about them. */
export async function taskManagersMarked(mark: string): Promise<readonly number[]> {
  const marked = await Promise.all(
    (await processesMarked(mark)).map(async (pid) => {
      const command = await readFile(`/proc/${pid}/cmdline`, "latin1").catch(() => "");
      return command.split("\0").some((argument) => argument.endsWith("task-manager.js")) ? pid : null;
    }),
  );
  return marked.filter((pid) => pid !== null);
}

export async function jsonLines<Line>(file: string): Promise<Line[]> {
  const text = await readFile(file, "utf8");
  return text.split("\n").filter((line) => line !== "").map((line) => JSON.parse(line) as Line);
}
