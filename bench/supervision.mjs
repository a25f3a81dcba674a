// What watching costs where nothing goes wrong: CPU of a whole job with heartbeats, reports four times a second and
// speculation (the defaults), against the same job with none of them.
// Usage: node bench/limit/prepare.mjs && node bench/supervision.mjs [pairs] [images]
import { spawn } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";

const [pairs = 15, images = 4000] = process.argv.slice(2).map(Number);
const root = path.resolve(import.meta.dirname, "..");
const folder = await mkdtemp(path.join(tmpdir(), "splitrun-bench-"));
const urls = path.join(folder, "urls.txt");
const server = spawn(process.execPath, [path.join(root, "bench/limit/serve.mjs"), "--urls", urls, "--count", String(images)], { stdio: ["ignore", "pipe", "inherit"] });
try {
  await new Promise((resolve, reject) => server.stdout.once("data", resolve).once("end", () => reject(new Error("the server of pictures ended"))));
  const model = path.join(root, "node_modules/.cache/splitrun/models/tiny.onnx");
  await readFile(model);
  const unwatched = { keepAlive: false, speculation: false, heartbeat: { reportMs: 5000, everyMs: 5000, timeoutMs: 20_000 }, timeouts: { taskManagerMs: 600_000 } };
  const command = async (name, settings) => {
    const job = path.join(folder, `${name}.json`);
    await writeFile(job, JSON.stringify({ input: urls, task: { kind: "inference", model }, ...settings }));
    await mkdir(path.join(folder, name));
    return `${process.execPath} ${path.join(root, "dist/cli.js")} run ${job} --json --fresh --output ${path.join(folder, name)}`;
  };
  const args = [path.join(root, "bench/pairs.mjs"), "--a", await command("unwatched", unwatched), "--b", await command("watched", {}), "--pairs", String(pairs), "--items", String(images)];
  const child = spawn(process.execPath, args, { stdio: "inherit" });
  const code = await new Promise((resolve, reject) => child.on("exit", resolve).on("error", reject));
  process.exitCode = code ?? 1;
} finally {
  server.kill();
  await rm(folder, { recursive: true, force: true });
}
