// Runs a command as a whole process: wall clock, CPU of it and its children, peak RSS of the process itself.
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";

/** Of all processes that this one started and that have ended, those that they started included (proc(5): hundredths of a second). */
export function childrenCpuMs() {
  const fields = readFileSync("/proc/self/stat", "latin1").split(") ").at(-1).split(" ");
  return (Number(fields[13]) + Number(fields[14])) * 10;
}

/** @returns {Promise<{ wallMs: number, cpuMs: number, peakRssMb: number, stdout: string, stderr: string, code: number | null }>} */
export function measure(command, args, { cwd, env = {}, stdin = "ignore" } = {}) {
  return new Promise((resolve) => {
    const startedMs = performance.now();
    const cpuBeforeMs = childrenCpuMs();
    const child = spawn(command, args, { cwd, env: { ...process.env, ...env }, stdio: [stdin, "pipe", "pipe"] });
    let stdout = "";
    let stderr = "";
    child.stdout.setEncoding("utf8").on("data", (text) => (stdout += text));
    child.stderr.setEncoding("utf8").on("data", (text) => (stderr += text));
    let peakRssMb = 0;
    const poll = setInterval(() => {
      try {
        // VmHWM is the kernel's own high-water mark, so a late poll misses nothing but the last moment.
        const kib = /VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${child.pid}/status`, "latin1"));
        if (kib) peakRssMb = Math.max(peakRssMb, Number(kib[1]) / 1000);
      } catch {}
    }, 20);
    child.once("close", (code) => {
      clearInterval(poll);
      resolve({ wallMs: performance.now() - startedMs, cpuMs: childrenCpuMs() - cpuBeforeMs, peakRssMb, stdout, stderr, code });
    });
  });
}

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
