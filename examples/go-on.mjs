// Stops a job in the middle; the same call goes on with what is left. Usage: node examples/go-on.mjs DIRECTORY
import path from "node:path";
import { runJob } from "splitrun";

const job = {
  input: Array.from({ length: 2000 }, (_, number) => number),
  task: { kind: "function", module: path.join(import.meta.dirname, "take-time.mjs"), concurrency: 4 },
  taskManagers: 2,
  output: process.argv[2],
};

const interrupt = new AbortController();
const first = await runJob(job, {
  signal: interrupt.signal,
  onProgress: ({ succeeded }) => succeeded > 0 && interrupt.abort(),
});
console.log(`first call: ${first.state}`);

const second = await runJob(job);
const { items, succeeded, reused } = second.counts;
console.log(`second call: ${second.state}, ${succeeded} of ${items} items have a result`);
console.log(`done in the first call and not again: ${reused === first.counts.succeeded ? "all" : "not all"}`);
