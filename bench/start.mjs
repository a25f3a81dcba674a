// What a start costs: one image through `splitrun run`, against a bare script that does one inference.
//   node bench/limit/prepare.mjs && node bench/start.mjs [pairs]
import { copyFile, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import sharp from "sharp";
import { measure, median } from "./measure.mjs";

/** Where `bench/limit/prepare.mjs` puts its models. */
const modelsFolder = fileURLToPath(new URL("../node_modules/.cache/splitrun/models/", import.meta.url));

const pairs = Number(process.argv[2] ?? 5);
const cli = fileURLToPath(new URL("../dist/cli.js", import.meta.url));
const folder = await mkdtemp(path.join(tmpdir(), "splitrun-bench-"));
try {
  const image = path.join(folder, "image.jpg");
  await sharp({ create: { width: 640, height: 480, channels: 3, background: "#7a9" } }).jpeg().toFile(image);
  await writeFile(path.join(folder, "list.txt"), `${image}\n`);
  const model = path.join(folder, "tiny.onnx");
  await copyFile(path.join(modelsFolder, "tiny.onnx"), model);

  const env = { SPLITRUN_CACHE_DIR: path.join(folder, "cache") };
  const bare = () => measure(process.execPath, [fileURLToPath(new URL("./one-inference.mjs", import.meta.url)), image, model]);
  const ours = async () => {
    const home = path.join(folder, "out");
    await rm(home, { recursive: true, force: true });
    return measure(process.execPath, [cli, "run", "--json", "--quiet", "--input", "list.txt", "--model", model, "--output", home], { cwd: folder, env });
  };
  const times = { bare: [], ours: [] };
  for (let pair = 0; pair < pairs; pair++) {
    const order = pair % 2 === 0 ? [["bare", bare], ["ours", ours]] : [["ours", ours], ["bare", bare]];
    for (const [name, run] of order) {
      const end = await run();
      if (end.code !== 0) throw new Error(`${name} ended with ${end.code}: ${end.stderr}`);
      times[name].push(end.wallMs);
    }
  }
  const extra = times.ours.map((ours, at) => ours - times.bare[at]);
  console.log(`bare ${Math.round(median(times.bare))} ms, splitrun ${Math.round(median(times.ours))} ms, ${Math.round(median(extra))} ms more (medians of ${pairs} pairs)`);
} finally {
  await rm(folder, { recursive: true, force: true });
}
