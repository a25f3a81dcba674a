// Loaded before a program (`node --import`): writes how late its event loop was, and its CPU time, to the file named by
// SPLITRUN_BENCH_LOOP when it ends.
import { writeFileSync } from "node:fs";
import { monitorEventLoopDelay } from "node:perf_hooks";

const resolutionMs = 5;
const delay = monitorEventLoopDelay({ resolution: resolutionMs });
delay.enable();
process.once("exit", () => {
  // What is measured is the time from one look to the next.
  const ms = (nanoseconds) => Math.max(0, nanoseconds / 1e6 - resolutionMs);
  const { user, system } = process.cpuUsage();
  writeFileSync(process.env.SPLITRUN_BENCH_LOOP, JSON.stringify({ p50Ms: ms(delay.percentile(50)), p99Ms: ms(delay.percentile(99)), maxMs: ms(delay.max), cpuMs: (user + system) / 1000 }));
});
