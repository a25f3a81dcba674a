// One of two Task Managers is stopped (SIGSTOP, for good) at a third of a job: when does the job end?
//   node bench/sigstop.mjs [seconds] [item ms] [rounds]
// The job takes that many seconds where nobody is stopped; its items wait, four at a time in each Task Manager. Printed is
// the time from the stop to the end, over the time that the other one alone would have needed for what was left.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, open, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { median } from "./measure.mjs";

const [seconds = 60, itemMs = 50, rounds = 1] = process.argv.slice(2).map(Number);
const lanes = 4;
const taskManagers = 2;
const items = Math.round((seconds * 1000 * taskManagers * lanes) / itemMs);
const cli = path.resolve(import.meta.dirname, "../dist/cli.js");
const folder = await mkdtemp(path.join(tmpdir(), "splitrun-bench-"));
try {
  await writeFile(path.join(folder, "numbers.jsonl"), Array.from({ length: items }, (_, n) => `${n}\n`).join(""));
  await writeFile(path.join(folder, "wait.mjs"), `export default async (n) => { await new Promise((r) => setTimeout(r, ${itemMs})); return n; };\n`);
  const task = { kind: "function", module: "./wait.mjs", concurrency: lanes, threads: 1 };
  await writeFile(path.join(folder, "job.json"), JSON.stringify({ input: { from: "numbers.jsonl" }, task, taskManagers }));
  const ratios = [];
  for (let round = 0; round < rounds; round++) ratios.push(await oneRound(path.join(folder, `out-${round}`)));
  if (rounds > 1) console.log(`median ${median(ratios).toFixed(2)}, from ${Math.min(...ratios).toFixed(2)} to ${Math.max(...ratios).toFixed(2)}`);
} finally {
  await rm(folder, { recursive: true, force: true });
}

async function oneRound(home) {
  const child = spawn(process.execPath, [cli, "run", "job.json", "--output", home, "--json"], {
    cwd: folder,
    env: { ...process.env, SPLITRUN_CACHE_DIR: path.join(folder, "cache") },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let stdout = "";
  let stderr = "";
  child.stderr.setEncoding("utf8").on("data", (text) => (stderr += text));
  child.stdout.setEncoding("utf8").on("data", (text) => (stdout += text));
  const closed = once(child, "close");
  const ended = lineCounter(path.join(home, "results.jsonl"));
  while ((await ended()) < items / 3) await sleep(20);
  const [victim] = await taskManagersOf(child.pid);
  process.kill(victim, "SIGSTOP");
  const stoppedMs = performance.now();
  const left = items - (await ended());
  const [code] = await closed;
  const tookMs = performance.now() - stoppedMs;
  const aloneMs = (left * itemMs) / lanes;
  if (code !== 0) throw new Error(`exit ${code}: ${stderr}${stdout}`);
  const { counts, makespanMs } = JSON.parse(stdout);
  const ratio = tookMs / aloneMs;
  console.log(
    `${items} items of ${itemMs} ms, ${left} left when one was stopped: ended ${(tookMs / 1000).toFixed(1)} s later, ` +
      `alone the other would have taken ${(aloneMs / 1000).toFixed(1)} s: ratio ${ratio.toFixed(2)} ` +
      `(whole job ${(makespanMs / 1000).toFixed(1)} s, ${counts.copied} items copied, ${counts.retried} tried again)`,
  );
  return ratio;
}

/** Counts the lines of a file that grows. */
function lineCounter(file) {
  let handle = null;
  let position = 0;
  let lines = 0;
  const buffer = Buffer.alloc(1 << 20);
  return async () => {
    handle ??= await open(file).catch(() => null);
    if (handle === null) return 0;
    for (;;) {
      const { bytesRead } = await handle.read(buffer, 0, buffer.length, position);
      if (bytesRead === 0) return lines;
      position += bytesRead;
      for (let at = buffer.indexOf(0x0a); at !== -1 && at < bytesRead; at = buffer.indexOf(0x0a, at + 1)) lines += 1;
    }
  };
}

async function taskManagersOf(pid) {
  const found = [];
  for (const name of await readdir("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const [stat, command] = await Promise.all([readFile(`/proc/${name}/stat`, "latin1"), readFile(`/proc/${name}/cmdline`, "latin1")].map((text) => text.catch(() => "")));
    if (Number(/\) \S (\d+)/.exec(stat)?.[1]) === pid && command.includes("task-manager")) found.push(Number(name));
  }
  return found;
}
