// Faults on purpose, to see what they do to a job: nothing but that it takes longer. Usage: node examples/faults.mjs
import path from "node:path";
import { runJob } from "splitrun";

const job = {
  input: Array.from({ length: 300 }, (_, number) => number),
  task: { kind: "function", module: path.join(import.meta.dirname, "take-time.mjs"), concurrency: 8 },
  taskManagers: 2,
};
/** Of the items, by seed and index: the same in every run, at their first try only. */
const faults = { exceptionPercent: 5, delayPercent: 5, delayMaxMs: 200, killPercent: 1, seed: 7 };

const calm = await runJob(job);
const storm = await runJob({ ...job, faults });

console.log(`without faults: ${calm.state}`);
console.log(`with faults: ${storm.state}, ${storm.counts.succeeded} of ${storm.counts.items} items have a result`);
console.log(`Task Managers were lost: ${storm.summary.taskManagerLosses > 0 ? "yes" : "no"}; items were tried again: ${storm.counts.retried > 0 ? "yes" : "no"}`);
console.log(`the results are the same: ${(await outputsOf(calm)) === (await outputsOf(storm)) ? "yes" : "no"}`);

async function outputsOf(result) {
  const outputs = [];
  for await (const { output } of result.inOrder()) outputs.push(output);
  return JSON.stringify(outputs);
}
