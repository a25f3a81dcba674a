// What it costs to hand items over: no-op items through the whole local path, journal and events on disk.
//   node bench/handover.mjs [items] [rounds]
import { createWriteStream } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { once } from "node:events";
import { tmpdir } from "node:os";
import path from "node:path";
import { measure, median } from "./measure.mjs";

const [items = 1_000_000, rounds = 3] = process.argv.slice(2).map(Number);
const cli = path.resolve(import.meta.dirname, "../dist/cli.js");
const folder = await mkdtemp(path.join(tmpdir(), "splitrun-bench-"));
try {
  const list = path.join(folder, "items.jsonl");
  const out = createWriteStream(list);
  for (let n = 0; n < items; n += 10_000) {
    let text = "";
    for (let k = n; k < Math.min(items, n + 10_000); k++) text += `${k}\n`;
    if (!out.write(text)) await once(out, "drain");
  }
  out.end();
  await once(out, "close");

  const rates = [];
  for (let round = 0; round < rounds; round++) {
    const home = path.join(folder, `out-${round}`);
    const args = [
      cli, "run", "--json", "--input", list, "--output", home,
      "--set", "task.kind=function", "--set", `task.module=${path.resolve(import.meta.dirname, "no-op.mjs")}`,
    ];
    const run = await measure(process.execPath, args, { env: { SPLITRUN_CACHE_DIR: path.join(folder, "cache") } });
    if (run.code !== 0) throw new Error(`exit ${run.code}: ${run.stderr}`);
    const summary = JSON.parse(run.stdout);
    const rate = (items * 1000) / run.wallMs;
    rates.push(rate);
    console.log(
      `${items} items: ${Math.round(rate)} items/s over the whole process (${(run.wallMs / 1000).toFixed(2)} s), ` +
        `${Math.round((items * 1000) / summary.makespanMs)} items/s over the run, ${(run.cpuMs / items).toFixed(4)} ms CPU an item, orchestrator's peak RSS ${Math.round(run.peakRssMb)} MB`,
    );
    await rm(home, { recursive: true });
  }
  console.log(`median ${Math.round(median(rates))} items/s`);
} finally {
  await rm(folder, { recursive: true, force: true });
}
