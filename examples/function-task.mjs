// Your own function instead of a model, over values instead of images. Usage: node examples/function-task.mjs
import path from "node:path";
import { runJob } from "splitrun";

const result = await runJob({
  input: ["Two words", "A somewhat longer line of text", 42, "Ein Satz, in dem ein ß steht"],
  task: { kind: "function", module: path.join(import.meta.dirname, "word-count.mjs") },
});

for await (const { input, output, error } of result.inOrder()) {
  console.log(error ? `${input}: ${error.code}, ${error.message}` : `${input}: ${output.words} words, ${output.letters} letters`);
}
console.log(result.state);
