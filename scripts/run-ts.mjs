// Runs a TypeScript file on Node 20, which does not strip types: node scripts/run-ts.mjs FILE.ts [arguments]
import { build } from "esbuild";
import { spawn } from "node:child_process";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import path from "node:path";

const [file, ...args] = process.argv.slice(2);
if (file === undefined) {
  console.error("usage: node scripts/run-ts.mjs FILE.ts [arguments]");
  process.exit(2);
}

// Inside node_modules, so that imports of packages are found from there.
const cache = path.resolve(import.meta.dirname, "../node_modules/.cache/splitrun");
await mkdir(cache, { recursive: true });
const folder = await mkdtemp(path.join(cache, "run-ts-"));
const outfile = path.join(folder, `${path.basename(file, ".ts")}.mjs`);
try {
  await build({
    entryPoints: [file],
    outfile,
    bundle: true,
    packages: "external",
    platform: "node",
    target: "node20",
    format: "esm",
    sourcemap: "inline",
    logLevel: "warning",
    define: { __SPLITRUN_VERSION__: JSON.stringify("development") },
  });
  const child = spawn(process.execPath, ["--enable-source-maps", ...process.execArgv, outfile, ...args], { stdio: "inherit" });
  for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => child.kill(signal));
  process.exitCode = await new Promise((resolve) => child.on("exit", (code) => resolve(code ?? 1)));
} finally {
  await rm(folder, { recursive: true, force: true });
}
