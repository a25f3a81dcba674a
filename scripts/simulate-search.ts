// Plays adversary to the scheduler and its journal: npm run simulate:search -- --help
import { randomInt } from "node:crypto";
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { explore } from "../test/scheduler/search.ts";

const help = `Usage: npm run simulate:search -- [options]

Plays adversary to the scheduler and its journal, one schedule of faults a seed, on all cores, and checks after every
step that no item is lost and none done twice.

  --schedules N     how many (default: 100000)
  --seed N          of the first one; the next ones count up (default: random, printed)
  --workers N       threads (default: one a core)
  --replay N        tells what happens in the one with the seed N, step by step
`;

/** Schedules that a worker takes at once. */
const shareSchedules = 500;
const failuresToldMax = 10;
const progressEveryMs = 5000;
/** A schedule takes milliseconds: one that lasts longer never comes back. */
const hangsAfterMs = 60_000;

interface Share {
  readonly first: number;
  readonly count: number;
}

interface ShareDone extends Share {
  readonly steps: number;
  readonly runs: number;
  readonly failures: readonly { readonly seed: number; readonly story: string }[];
  /** In how many schedules each thing happened. */
  readonly seen: ReadonlyMap<string, number>;
}

/** `at`: shared with the main thread, which is told what is being explored. */
async function searchShare({ first, count }: Share, at: Float64Array): Promise<ShareDone> {
  const failures: { seed: number; story: string }[] = [];
  const seen = new Map<string, number>();
  let steps = 0;
  let runs = 0;
  for (let seed = first; seed < first + count; seed++) {
    at[0] = seed;
    try {
      const explored = await explore(seed);
      steps += explored.steps;
      runs += explored.runs;
      for (const what of explored.seen) seen.set(what, (seen.get(what) ?? 0) + 1);
    } catch (error) {
      failures.push({ seed, story: error instanceof Error ? error.message : String(error) });
    }
  }
  return { first, count, steps, runs, failures, seen };
}

async function search(firstSeed: number, schedules: number, workers: number): Promise<number> {
  const end = firstSeed + schedules;
  const startedMs = performance.now();
  const failures: { readonly seed: number; readonly story: string }[] = [];
  const seen = new Map<string, number>();
  const sum = { schedules: 0, steps: 0, runs: 0 };
  let next = firstSeed;
  console.error(`schedules with the seeds ${firstSeed} to ${end - 1}, on ${workers} threads`);
  const rate = () => Math.round((sum.schedules * 1000) / (performance.now() - startedMs));
  const progress = setInterval(() => console.error(`${sum.schedules} of ${schedules} schedules, ${rate()}/s, ${failures.length} failed`), progressEveryMs);
  const fail = (failure: { readonly seed: number; readonly story: string }) => {
    if (failures.push(failure) <= failuresToldMax) console.error(`${failure.story}\n`);
  };
  const left: Share[] = [];
  const nextShare = (): Share | undefined => {
    const count = Math.min(shareSchedules, end - next);
    if (count <= 0) return left.pop();
    next += count;
    return { first: next - count, count };
  };
  const one = (): Promise<void> =>
    new Promise((resolve, reject) => {
      const at = new Float64Array(new SharedArrayBuffer(8));
      const worker = new Worker(new URL(import.meta.url), { workerData: at });
      let share = nextShare();
      let watched = { seed: -1, sinceMs: 0 };
      const watch = setInterval(() => {
        const [seed = 0] = at;
        if (seed !== watched.seed) watched = { seed, sinceMs: performance.now() };
        else if (share !== undefined && performance.now() - watched.sinceMs > hangsAfterMs) {
          fail({ seed, story: `SPLITRUN_SEED=${seed} does not come back` });
          const end = share.first + share.count;
          if (seed + 1 < end) left.push({ first: seed + 1, count: end - seed - 1 });
          sum.schedules += seed + 1 - share.first;
          leave(one);
        }
      }, 1000);
      const leave = (goOn: () => Promise<void>) => {
        clearInterval(watch);
        void worker.terminate().then(goOn).then(resolve, reject);
      };
      const give = () => (share === undefined ? leave(() => Promise.resolve()) : worker.postMessage(share));
      worker.on("error", reject);
      worker.on("message", (done: ShareDone) => {
        sum.schedules += done.count;
        sum.steps += done.steps;
        sum.runs += done.runs;
        for (const [what, times] of done.seen) seen.set(what, (seen.get(what) ?? 0) + times);
        done.failures.forEach(fail);
        share = nextShare();
        give();
      });
      give();
    });
  await Promise.all(Array.from({ length: workers }, one));
  clearInterval(progress);
  const seconds = ((performance.now() - startedMs) / 1000).toFixed(1);
  console.log(`${sum.schedules} schedules (seeds ${firstSeed} to ${end - 1}; ${sum.runs} orchestrators, ${sum.steps} steps) in ${seconds} s, ${rate()}/s: ${failures.length} failed`);
  console.error(`schedules with: ${[...seen].sort(([, a], [, b]) => b - a).map(([what, times]) => `${what} ${times}`).join(", ")}`);
  for (const { seed } of failures.slice(0, failuresToldMax)) console.log(`  npm run simulate:search -- --replay ${seed}`);
  return failures.length === 0 ? 0 : 1;
}

async function replay(seed: number): Promise<number> {
  try {
    const { steps, runs, items } = await explore(seed, console.log);
    console.log(`schedule ${seed} ended as it should: ${items} items, ${runs} orchestrators, ${steps} steps`);
    return 0;
  } catch (error) {
    console.log(error instanceof Error ? error.message : String(error));
    return 1;
  }
}

function wholeNumber(name: string, value: string): number {
  const number = Number(value);
  if (!Number.isSafeInteger(number) || number < 0) throw new Error(`--${name} must be a whole number, not ${value}`);
  return number;
}

if (isMainThread) {
  const { values } = parseArgs({
    options: { schedules: { type: "string" }, seed: { type: "string" }, workers: { type: "string" }, replay: { type: "string" }, help: { type: "boolean", default: false } },
  });
  if (values.help) console.log(help);
  else if (values.replay !== undefined) process.exitCode = await replay(wholeNumber("replay", values.replay));
  else {
    const schedules = wholeNumber("schedules", values.schedules ?? "100000");
    const seed = wholeNumber("seed", values.seed ?? String(randomInt(2 ** 47)));
    process.exitCode = await search(seed, schedules, wholeNumber("workers", values.workers ?? String(availableParallelism())));
  }
} else {
  parentPort?.on("message", (share: Share) => void searchShare(share, workerData as Float64Array).then((done) => parentPort?.postMessage(done)));
}
