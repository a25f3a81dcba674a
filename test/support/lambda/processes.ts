import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";

export interface SpawnOptions {
  readonly program: string;
  readonly args: readonly string[];
  readonly directory: string;
  readonly environment: Readonly<Record<string, string>>;
  /** An open file: a pipe would have to be read while the process is stopped. */
  readonly output: number;
}

/** A process in a group of its own, so that what it starts is stopped and killed with it. */
export function spawnGroup({ program, args, directory, environment, output }: SpawnOptions): ChildProcess {
  return spawn(program, args, { cwd: directory, env: environment, stdio: ["ignore", output, output], detached: true });
}

export function signalGroup(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

export interface MemoryUse {
  /** Resident, of the process and all that descend from it. */
  readonly nowKib: number;
  /** The same with the highest that the process itself ever had. */
  readonly peakKib: number;
}

/** Nothing where there is no /proc. */
export function memoryOf(pid: number): MemoryUse {
  try {
    const status = readFileSync(`/proc/${pid}/status`, "utf8");
    const children = readdirSync(`/proc/${pid}/task`)
      .flatMap((thread) => readFileSync(`/proc/${pid}/task/${thread}/children`, "utf8").split(" "))
      .filter((child) => child !== "");
    const below = children.reduce((sum, child) => sum + memoryOf(Number(child)).nowKib, 0);
    return { nowKib: kib(status, "VmRSS") + below, peakKib: kib(status, "VmHWM") + below };
  } catch {
    // It ended, or a thread of it did, while it was looked at.
    return { nowKib: 0, peakKib: 0 };
  }
}

function kib(status: string, field: string): number {
  return Number(new RegExp(`^${field}:\\s+(\\d+) kB`, "m").exec(status)?.[1] ?? 0);
}

/** Only process groups named on its input are killed, only the directory made for the emulator is removed. */
const watch = `
live=
while read -r step pid; do
  case $step in
    +) live="$live $pid " ;;
    -) case $live in *" $pid "*) live="\${live%% $pid *} \${live##* $pid }" ;; esac ;;
  esac
done
for pid in $live; do kill -s KILL -- "-$pid" 2>/dev/null; done
case $1 in */splitrun-lambda-*) rm -rf -- "$1" ;; esac
`;

/** Kills what is left and removes the emulator's directory when this process is gone, however it ended: a stopped process would stay for good. */
export class Watchdog {
  readonly #child: ChildProcess;

  constructor(directory: string) {
    this.#child = spawn("sh", ["-c", watch, "sh", directory], { stdio: ["pipe", "ignore", "ignore"], detached: true });
    this.#child.stdin?.on("error", () => {});
    // It must not keep this process alive.
    this.#child.unref();
    (this.#child.stdin as unknown as { unref?: () => void } | null)?.unref?.();
  }

  add(pid: number): void {
    this.#child.stdin?.write(`+ ${pid}\n`);
  }

  remove(pid: number): void {
    this.#child.stdin?.write(`- ${pid}\n`);
  }

  /** Removes the directory. */
  async close(): Promise<void> {
    if (this.#child.exitCode !== null) return;
    const ended = new Promise<void>((resolve) => { this.#child.once("exit", () => resolve()); });
    this.#child.ref();
    this.#child.stdin?.end();
    await ended;
  }
}
