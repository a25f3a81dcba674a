/**
 * How fast a home is: appending, opening again, matching a changed list, verifying, reading. First argument: items
 * (default 1 000 000); second: folder whose disk is measured (default: that of temporary files). Bundle it with esbuild
 * (platform node, format esm, a banner that makes `require` with createRequire) and run it with node. CPU seconds are
 * what to compare; the list itself is made up on the way and is part of them.
 */
import { rmSync } from "node:fs";
import { mkdtemp, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { SourceItem } from "../orchestrator/inputs/types.ts";
import { openHome } from "../orchestrator/results/home.ts";
import { readOutcomes } from "../orchestrator/results/read-outcomes.ts";
import type { Home, Outcome } from "../orchestrator/results/types.ts";
import { verify } from "../orchestrator/results/verify.ts";

const items = Number(process.argv[2] ?? 1_000_000);
const appended = 1000;
const batchItems = 512;
const readItems = 4096;
const pendingBytesMax = 16_000_000;

const folder = await mkdtemp(join(process.argv[3] ?? tmpdir(), "splitrun-bench-"));
const dir = join(folder, "home");
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));

const itemAt = (index: number): SourceItem => ({ input: `https://images.example.org/set-${index % 97}/photo-${index}.jpg` });

async function openFor(mode: "run" | "resume", size: number): Promise<Home> {
  return openHome({
    dir,
    mode,
    fingerprint: "0123456789abcdef",
    source: { kind: "text", from: "/list.txt", size, modifiedMs: 1 },
    fresh: false,
    retryFailed: false,
    takeOver: false,
    listAgain: false,
  });
}

/** Matches the list and appends what is not done; returns how many were. */
async function work(home: Home, count: number): Promise<number> {
  let stored = 0;
  let wake: () => void = () => undefined;
  home.onStored(() => {
    stored += 1;
    wake();
  });
  let batch = 0;
  let outcomes: Outcome[] = [];
  let done = 0;
  const flush = async (): Promise<void> => {
    if (outcomes.length === 0) return;
    home.append(batch++, outcomes);
    outcomes = [];
    while (home.pendingBytes > pendingBytesMax) await new Promise<void>((resolve) => { wake = resolve; });
  };
  for (let first = 0; first < count; first += readItems) {
    const chunk = Array.from({ length: Math.min(readItems, count - first) }, (_, at) => itemAt(first + at));
    const { done: ranges } = home.match(first, chunk);
    let pair = 0;
    for (let index = first; index < first + chunk.length; index++) {
      while (pair < ranges.length && index >= (ranges[pair + 1] ?? 0)) pair += 2;
      if (index >= (ranges[pair] ?? Infinity)) continue;
      done += 1;
      outcomes.push({ index, input: chunk[index - first]?.input ?? null, output: { label: "cat", score: 0.5 + index / 1e9 }, attempts: 1 });
      if (outcomes.length === batchItems) await flush();
    }
  }
  home.inputEnded();
  await flush();
  while (stored < batch) await new Promise<void>((resolve) => { wake = resolve; });
  return done;
}

async function timed<T>(name: string, act: () => Promise<T>): Promise<T> {
  const startedMs = performance.now();
  const cpu = process.cpuUsage();
  const result = await act();
  const used = process.cpuUsage(cpu);
  const seconds = (performance.now() - startedMs) / 1000;
  const cpuSeconds = (used.user + used.system) / 1e6;
  console.log(`${name.padEnd(44)} ${seconds.toFixed(2).padStart(7)} s ${cpuSeconds.toFixed(2).padStart(7)} s CPU ${Math.round(items / cpuSeconds).toLocaleString("en").padStart(12)} items a CPU second   RSS ${Math.round(process.memoryUsage().rss / 1e6)} MB`);
  return result;
}

async function whole(mode: "run" | "resume", count: number, size: number): Promise<number> {
  const home = await openFor(mode, size);
  const done = await work(home, count);
  await home.finish({ complete: true });
  await home.close();
  return done;
}

async function countOutcomes(order: "completion" | "input"): Promise<number> {
  let count = 0;
  for await (const _ of readOutcomes(dir, { order })) count += 1;
  return count;
}

console.log(`${items} items`);
await timed("first run", () => whole("run", items, 1));
console.log(`  journal: ${Math.round((await stat(join(dir, "results.jsonl"))).size / 1e6)} MB`);
await timed("resume of finished: open", async () => (await openFor("resume", 1)).close());
console.log(`  did ${await timed("run, list with 1000 more: all", () => whole("run", items + appended, 2))}`);
console.log(`  did ${await timed("run, list without its first: all", async () => {
  const home = await openFor("run", 3);
  const shifted = Array.from({ length: 1 }, () => itemAt(items + appended));
  home.match(0, shifted);
  for (let first = 1; first < items; first += readItems) home.match(first, Array.from({ length: Math.min(readItems, items - first) }, (_, at) => itemAt(first + at)));
  home.inputEnded();
  home.append(0, [{ index: 0, input: shifted[0]?.input ?? null, output: null, attempts: 1 }]);
  await home.finish({ complete: true });
  await home.close();
  return 1;
})}`);
console.log(JSON.stringify(await timed("verify", () => verify(dir))));
console.log(`  read ${await timed("read in completion order", () => countOutcomes("completion"))}`);
console.log(`  read ${await timed("read in input order", () => countOutcomes("input"))}`);
