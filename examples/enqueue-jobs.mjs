// Several jobs in one process: a small one overtakes a large one, which is then cancelled. Usage: node examples/enqueue-jobs.mjs DIRECTORY
import path from "node:path";
import { createOrchestrator } from "splitrun";

const orchestrator = createOrchestrator({ maxTaskManagers: 2 });
const task = { kind: "function", module: path.join(import.meta.dirname, "take-time.mjs") };
const numbers = (count) => Array.from({ length: count }, (_, number) => number);
const output = (name) => path.join(process.argv[2], name);

const large = orchestrator.enqueueJob({ input: numbers(100_000), task, taskManagers: 2, output: output("large") });
const small = orchestrator.enqueueJob({ input: numbers(10), task, share: 2, output: output("small") });

let sum = 0;
for await (const item of small.items()) sum += item.output;
console.log(`small: ${small.state}, the squares of 0 to 9 add up to ${sum}`);
console.log(`large: ${large.state}`);

large.cancel();
const { state } = await large.done;
console.log(`large: ${state}; what is stored stays, and the same job goes on from there`);

await orchestrator.close();
