// Compares two commands by runs in turn (A B, B A, A B, ...), since a machine's speed drifts by more than what is
// looked for: the ratio within each pair is what counts.
// Usage: node bench/pairs.mjs --a "COMMAND" --b "COMMAND" [--pairs 5] [--items 2048] [--json]
// Commands are words separated by blanks, no shell. For each run: wall-clock time, CPU of the process and all that it
// started, and the highest sum of PSS (shared pages counted once) over that tree, looked at every 100 ms.
import { spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import os from "node:os";
import { parseArgs } from "node:util";
import { childrenCpuMs, median } from "./measure.mjs";

const { values } = parseArgs({
  options: {
    a: { type: "string" },
    b: { type: "string" },
    pairs: { type: "string", default: "5" },
    items: { type: "string", default: "1" },
    json: { type: "boolean", default: false },
  },
});
if (values.a === undefined || values.b === undefined) throw new Error("--a and --b are needed, each a command");
const items = Number(values.items);
const lookMs = 100;
const ticksPerSecond = 100;

function readOrNull(file) {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return null;
  }
}

/** Fields of /proc/PID/stat behind the name: state, ppid, ..., utime, stime, cutime, cstime. */
function statOf(pid) {
  const text = readOrNull(`/proc/${pid}/stat`);
  return text?.slice(text.lastIndexOf(")") + 2).split(" ") ?? null;
}

function treeOf(root) {
  const parents = new Map();
  for (const name of readdirSync("/proc")) {
    const stat = /^\d+$/.test(name) ? statOf(name) : null;
    if (stat !== null) parents.set(Number(name), Number(stat[1]));
  }
  const tree = new Set([root]);
  for (let size = 0; size !== tree.size; ) {
    size = tree.size;
    for (const [pid, parent] of parents) if (tree.has(parent)) tree.add(pid);
  }
  return [...tree];
}

function pssMb(pid) {
  const kilobytes = /^Pss:\s+(\d+)/m.exec(readOrNull(`/proc/${pid}/smaps_rollup`) ?? "")?.[1];
  return Number(kilobytes ?? 0) / 1024;
}

/** CPU seconds of processes by name, so that what foreign ones took can be told. */
function machineCpu() {
  const [, user, nice, system, , , irq, softirq] = readFileSync("/proc/stat", "utf8").split("\n", 1)[0].split(/\s+/).map(Number);
  return (user + nice + system + irq + softirq) / ticksPerSecond;
}

async function measure(command) {
  const [program, ...args] = command.split(/\s+/).filter((word) => word !== "");
  const machineBefore = machineCpu();
  const childrenBeforeMs = childrenCpuMs();
  const startMs = performance.now();
  const child = spawn(program, args, { stdio: ["ignore", "ignore", "inherit"] });
  let peakMb = 0;
  let processes = 0;
  const looking = setInterval(() => {
    const tree = treeOf(child.pid);
    const sum = tree.reduce((total, pid) => total + pssMb(pid), 0);
    if (sum > peakMb) [peakMb, processes] = [sum, tree.length];
  }, lookMs);
  const code = await new Promise((resolve, reject) => child.on("exit", resolve).on("error", reject));
  clearInterval(looking);
  const wallSeconds = (performance.now() - startMs) / 1000;
  const cpuSeconds = (childrenCpuMs() - childrenBeforeMs) / 1000;
  const foreign = (machineCpu() - machineBefore - cpuSeconds) / wallSeconds;
  if (code !== 0) throw new Error(`exit code ${code}: ${command}`);
  return { wallSeconds, perSecond: items / wallSeconds, cpuMsPerItem: (cpuSeconds * 1000) / items, peakMb, processes, foreign };
}

const show = (name, run) =>
  `${name}: ${run.wallSeconds.toFixed(2)} s, ${run.perSecond.toFixed(1)}/s, ${run.cpuMsPerItem.toFixed(2)} ms CPU an item, ` +
  `peak PSS ${run.peakMb.toFixed(0)} MB in ${run.processes} processes, foreign ${run.foreign.toFixed(2)} of ${os.availableParallelism()} cores`;

const runs = [];
for (let pair = 0; pair < Number(values.pairs); pair++) {
  const result = {};
  for (const name of pair % 2 === 0 ? ["a", "b"] : ["b", "a"]) {
    result[name] = await measure(values[name]);
    console.error(show(name, result[name]));
  }
  runs.push(result);
}
const ratios = (field) => median(runs.map(({ a, b }) => b[field] / a[field]));
const summary = {
  pairs: runs.length,
  a: Object.fromEntries(Object.keys(runs[0].a).map((field) => [field, median(runs.map(({ a }) => a[field]))])),
  b: Object.fromEntries(Object.keys(runs[0].b).map((field) => [field, median(runs.map(({ b }) => b[field]))])),
  medianRatio: { perSecond: ratios("perSecond"), cpuMsPerItem: ratios("cpuMsPerItem"), peakMb: ratios("peakMb") },
  ratiosPerSecond: runs.map(({ a, b }) => b.perSecond / a.perSecond),
  ratiosCpu: runs.map(({ a, b }) => b.cpuMsPerItem / a.cpuMsPerItem),
};
if (values.json) console.log(JSON.stringify({ ...summary, runs }));
else {
  console.log(show("a (median)", summary.a));
  console.log(show("b (median)", summary.b));
  console.log(`b / a, median of ${runs.length} pairs: speed ${summary.medianRatio.perSecond.toFixed(3)}, CPU ${summary.medianRatio.cpuMsPerItem.toFixed(3)}, memory ${summary.medianRatio.peakMb.toFixed(3)}`);
  console.log(`speed in each pair: ${summary.ratiosPerSecond.map((ratio) => ratio.toFixed(3)).join(" ")}`);
  console.log(`CPU in each pair: ${summary.ratiosCpu.map((ratio) => ratio.toFixed(3)).join(" ")}`);
}
