import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, rename, writeFile } from "node:fs/promises";
import path from "node:path";
import { build } from "esbuild";

const root = path.resolve(import.meta.dirname, "../..");

/** The file that threads start from: Node 20 cannot run TypeScript in a thread. */
export function threadBundle(): Promise<string> {
  return bundleOf("threads", 'import { runThreadRole } from "./task-manager/threads.ts"; await runThreadRole();');
}

/** The Task Manager as a process of its own, and what its threads start from. */
export function taskManagerBundle(): Promise<string> {
  return (taskManager ??= bundleOf("task-manager", 'import "./task-manager/main.ts";'));
}
let taskManager: Promise<string> | undefined;

/**
 * Bundled from the sources as they are now. Below node_modules, so that the native packages are found; named by its
 * content, so that tests that run at the same time share it.
 */
async function bundleOf(name: string, contents: string): Promise<string> {
  const { outputFiles } = await build({
    stdin: { contents, resolveDir: root },
    bundle: true,
    platform: "node",
    target: "node20",
    format: "esm",
    external: ["sharp", "onnxruntime-node", "@aws-sdk/client-s3"],
    define: { __SPLITRUN_VERSION__: '"test"' },
    banner: { js: 'import { createRequire } from "node:module"; const require = createRequire(import.meta.url);' },
    write: false,
  });
  const bundled = outputFiles[0]?.contents ?? new Uint8Array();
  const directory = path.join(root, "node_modules/.cache/splitrun");
  const file = path.join(directory, `${name}-${createHash("sha256").update(bundled).digest("hex").slice(0, 16)}.mjs`);
  if (existsSync(file)) return file;
  await mkdir(directory, { recursive: true });
  const temporary = `${file}.${process.pid}.part`;
  await writeFile(temporary, bundled);
  await rename(temporary, file);
  return file;
}
