// Labels for a few images: paths or URLs. Usage: node examples/classify.mjs MODEL.onnx LABELS.txt IMAGE...
import { runJob } from "splitrun";

const [model, labels, ...images] = process.argv.slice(2);

const result = await runJob({
  input: images,
  task: { kind: "inference", model, postprocess: { labels, topK: 3 } },
});

for await (const { input, output, error } of result.inOrder()) {
  if (error) console.log(`${input}: ${error.code}, ${error.message}`);
  else console.log(`${input}: ${output.top.map(({ label, score }) => `${label} ${(100 * score).toFixed(1)} %`).join(", ")}`);
}
console.log(`${result.state}: ${result.counts.succeeded} of ${result.counts.items}; all of it is in ${result.home}`);
