// What it costs to go on: a second run over finished items plus some new ones, a resume, a receipt.
//   node bench/go-on.mjs [items] [new items]
import { appendFile, mkdtemp, readFile, rm, stat, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { measure } from "./measure.mjs";

const [items = 1_000_000, added = 1000] = process.argv.slice(2).map(Number);
const cli = fileURLToPath(new URL("../dist/cli.js", import.meta.url));
const folder = await mkdtemp(path.join(tmpdir(), "splitrun-bench-"));
const firstCall = path.join(folder, "first-call");
const env = { SPLITRUN_BENCH_FIRST_CALL: firstCall, SPLITRUN_CACHE_DIR: path.join(folder, "cache") };
const url = (n) => `https://images.example/photographs/2026/${String(n).padStart(9, "0")}.jpg`;

async function splitrun(...args) {
  const end = await measure(process.execPath, [cli, ...args, "--json"], { cwd: folder, env });
  if (end.code !== 0) throw new Error(`${args[0]} ended with ${end.code}: ${end.stderr}`);
  return { ...end, json: JSON.parse(end.stdout) };
}

try {
  const list = path.join(folder, "list.txt");
  await writeFile(list, Array.from({ length: items }, (_, n) => `${url(n)}\n`).join(""));
  const run = ["run", "--input", list, "--output", "out", "--set", "task.kind=function", "--set", `task.module=${fileURLToPath(new URL("./first-call.mjs", import.meta.url))}`];
  const first = await splitrun(...run);
  console.log(`first run of ${items}: ${(first.wallMs / 1000).toFixed(2)} s, peak RSS ${Math.round(first.peakRssMb)} MB`);

  await cutLines(path.join(folder, "out", "results.jsonl"), added);
  await rm(firstCall);
  const resumedAtMs = Date.now();
  const resumed = await splitrun("resume", "out");
  const firstMs = Number(await readFile(firstCall, "utf8")) - resumedAtMs;
  console.log(`resume with ${added} to do of ${resumed.json.counts.items}: first item begun ${(firstMs / 1000).toFixed(2)} s after the command, ${(resumed.wallMs / 1000).toFixed(2)} s in all (reused ${resumed.json.counts.reused})`);

  await appendFile(list, Array.from({ length: added }, (_, n) => `${url(items + n)}\n`).join(""));
  const second = await splitrun(...run);
  console.log(`second run with ${added} new: ${(second.wallMs / 1000).toFixed(2)} s, did ${second.json.counts.items - second.json.counts.reused}, peak RSS ${Math.round(second.peakRssMb)} MB`);

  const receipt = await splitrun("verify", "out");
  console.log(`verify of ${receipt.json.items}: ${(receipt.wallMs / 1000).toFixed(2)} s, ${receipt.json.ok ? "whole" : "NOT whole"}`);
} finally {
  await rm(folder, { recursive: true, force: true });
}

/** As if the run had been killed before the last lines were written. */
async function cutLines(file, count) {
  const { size } = await stat(file);
  const text = await readFile(file);
  let end = size - 1;
  for (let lines = 0; lines < count; lines++) end = text.lastIndexOf(10, end - 1);
  await truncate(file, end + 1);
}
