// Writes resnet18.onnx and tiny.onnx (random weights, always the same) into a directory and prints their paths.
// Usage: node scripts/make-bench-models.mjs [DIRECTORY]
import { build } from "esbuild";
import { mkdir, stat, writeFile } from "node:fs/promises";
import path from "node:path";

const root = path.resolve(import.meta.dirname, "..");
const directory = path.resolve(process.argv[2] ?? path.join(root, "node_modules/.cache/splitrun/models"));
const { outputFiles } = await build({
  entryPoints: [path.join(root, "test/support/bench-models.ts")],
  bundle: true,
  platform: "node",
  format: "esm",
  write: false,
});
const { resnet18, tinyNetwork } = await import(`data:text/javascript;base64,${Buffer.from(outputFiles[0].contents).toString("base64")}`);

await mkdir(directory, { recursive: true });
for (const [name, make] of [["resnet18", resnet18], ["tiny", tinyNetwork]]) {
  const file = path.join(directory, `${name}.onnx`);
  if (!(await stat(file).catch(() => null))) await writeFile(file, make(1));
  console.log(file);
}
