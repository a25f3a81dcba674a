// Several jobs in one process: how long a job of 10 items takes behind a job of 10^6, and how many Task Managers each
// of several jobs has.
//   node bench/several-jobs.mjs [rounds]
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { availableParallelism, tmpdir } from "node:os";
import path from "node:path";
import { createOrchestrator } from "../dist/index.js";
import { median } from "./measure.mjs";

const [rounds = 3] = process.argv.slice(2).map(Number);
const folder = await mkdtemp(path.join(tmpdir(), "splitrun-bench-"));
process.env.SPLITRUN_CACHE_DIR = path.join(folder, "cache");

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function job(module, name, input, more) {
  return { name, input, task: { kind: "function", module, concurrency: 1, threads: 1 }, output: path.join(folder, name), ...more };
}

try {
  const list = path.join(folder, "list.txt");
  const module = path.join(folder, "wait.mjs");
  const other = path.join(folder, "wait-too.mjs");
  await writeFile(list, Array.from({ length: 1_000_000 }, (_, number) => `${number}\n`).join(""));
  await writeFile(module, "export default () => new Promise((resolve) => setTimeout(resolve, 50, 1));\n");
  await writeFile(other, "export default () => new Promise((resolve) => setTimeout(resolve, 50, 2));\n");
  for (const [what, maxTaskManagers, small] of [
    ["its own Task Manager to be had", availableParallelism(), other],
    ["the only Task Manager to be given up, another task", 1, other],
    ["the only Task Manager to be handed over, the same task", 1, module],
  ]) {
    const secondsEach = [];
    for (let round = 0; round < rounds; round++) secondsEach.push(await behindHuge({ list, module, small, maxTaskManagers, round }));
    console.log(`10 items of 50 ms behind 10^6, ${what}: ${median(secondsEach).toFixed(2)} s (${secondsEach.map((seconds) => seconds.toFixed(2)).join(" ")})`);
  }
  for (const shares of [[1, 1], [1, 2, 3], [1, 1, 1, 1, 1]]) await measureShares(list, module, shares);
} finally {
  await rm(folder, { recursive: true, force: true });
}

async function behindHuge({ list, module, small, maxTaskManagers, round }) {
  const orchestrator = createOrchestrator({ maxTaskManagers });
  const huge = orchestrator.enqueueJob(job(module, `huge-${maxTaskManagers}-${path.basename(small)}-${round}`, list, { taskManagers: maxTaskManagers }));
  while (huge.progress.succeeded === 0) await sleep(20);
  const startedMs = performance.now();
  const result = await orchestrator.runJob(job(small, `small-${maxTaskManagers}-${path.basename(small)}-${round}`, Array.from({ length: 10 }, (_, number) => number)));
  const seconds = (performance.now() - startedMs) / 1000;
  if (result.counts.succeeded !== 10 || huge.state !== "running") throw new Error(`the small job ended as ${result.state}, the huge one is ${huge.state}`);
  huge.cancel();
  await huge.done;
  await orchestrator.close();
  return seconds;
}

/** Jobs that differ in their environment, so that none can use another's Task Managers. */
async function measureShares(list, module, shares) {
  const maxTaskManagers = 6;
  const orchestrator = createOrchestrator({ maxTaskManagers });
  const name = (at) => `shares-${shares.join("-")}-${at}`;
  const handles = shares.map((share, at) => orchestrator.enqueueJob(job(module, name(at), list, { share, taskManagers: maxTaskManagers, env: { JOB: String(at) } })));
  while (handles.some(({ progress }) => progress.succeeded === 0)) await sleep(20);
  const had = shares.map(() => 0);
  const samples = 200;
  for (let sample = 0; sample < samples; sample++) {
    await sleep(100);
    for (const [at, { progress }] of handles.entries()) had[at] += progress.taskManagers / samples;
  }
  const total = shares.reduce((sum, share) => sum + share, 0);
  const text = shares.map((share, at) => `${had[at].toFixed(2)} of ${((maxTaskManagers * share) / total).toFixed(2)}`);
  console.log(`shares ${shares.join(":")} of ${maxTaskManagers} Task Managers, mean over ${samples / 10} s: ${text.join(", ")}`);
  for (const handle of handles) handle.cancel();
  await orchestrator.close();
}
