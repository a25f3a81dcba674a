import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, rename, writeFile } from "node:fs/promises";
import path from "node:path";
import { build } from "esbuild";

const root = path.resolve(import.meta.dirname, "../..");

/**
 * The file that threads start from, bundled from the sources as they are now: Node 20 cannot run TypeScript in a
 * thread. Below node_modules, so that the native packages are found; named by its content, so that tests that run at
 * the same time share it.
 */
export async function threadBundle(): Promise<string> {
  const { outputFiles } = await build({
    stdin: { contents: 'import { runThreadRole } from "./task-manager/threads.ts"; await runThreadRole();', resolveDir: root },
    bundle: true,
    platform: "node",
    target: "node20",
    format: "esm",
    external: ["sharp", "onnxruntime-node"],
    define: { __SPLITRUN_VERSION__: '"test"' },
    banner: { js: 'import { createRequire } from "node:module"; const require = createRequire(import.meta.url);' },
    write: false,
  });
  const contents = outputFiles[0]?.contents ?? new Uint8Array();
  const directory = path.join(root, "node_modules/.cache/splitrun");
  const file = path.join(directory, `threads-${createHash("sha256").update(contents).digest("hex").slice(0, 16)}.mjs`);
  if (existsSync(file)) return file;
  await mkdir(directory, { recursive: true });
  const temporary = `${file}.${process.pid}.part`;
  await writeFile(temporary, contents);
  await rename(temporary, file);
  return file;
}
