import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import * as z from "zod";
import { errorCode } from "./durable.ts";

export const processIdentity = z.object({
  host: z.string(),
  /** null: the system does not tell. */
  boot: z.string().nullable(),
  pid: z.number(),
  /** Clock ticks from boot to the process's start; a number that was given again has another one. */
  pidStart: z.string().nullable(),
});

/** Tells a process from every other, on any machine. */
export type ProcessIdentity = z.infer<typeof processIdentity>;

export function thisProcess(): ProcessIdentity {
  return { host: hostname(), boot: bootId(), pid: process.pid, pidStart: startOf(process.pid) };
}

/** Of a process of this machine and this boot. */
export function hasEnded({ pid, pidStart }: ProcessIdentity): boolean {
  return !isRunning(pid) || startOf(pid) !== pidStart;
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return errorCode(error) === "EPERM";
  }
}

function bootId(): string | null {
  try {
    return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  } catch {
    return null;
  }
}

/** Field 22 of `/proc/PID/stat` (proc(5)), counted from behind the name, which may hold anything. A zombie is dead. */
function startOf(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" ? "ended" : (fields[19] ?? null);
  } catch {
    return null;
  }
}
