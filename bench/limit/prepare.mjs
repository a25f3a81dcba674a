// Makes what the straight-line programs need: the models, and the preprocessing compiled to one file.
// Usage: node bench/limit/prepare.mjs
import { build } from "esbuild";
import { spawnSync } from "node:child_process";
import path from "node:path";

const root = path.resolve(import.meta.dirname, "../..");
await build({
  entryPoints: [path.join(root, "task-manager/pipeline/preprocess.ts")],
  outfile: path.join(root, "node_modules/.cache/splitrun/limit/preprocess.mjs"),
  bundle: true,
  platform: "node",
  target: "node20",
  format: "esm",
  external: ["sharp"],
});
process.exitCode = spawnSync(process.execPath, [path.join(root, "scripts/make-bench-models.mjs")], { stdio: "inherit" }).status ?? 1;
