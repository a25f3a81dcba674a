import { randomInt } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { strikeKinds, Torture, type StrikeKind } from "../test/run/kills.ts";

const help = `Usage: node scripts/torture.mjs [options]     (after npm run build)

Runs small jobs with the local backend, does them harm at random moments, resumes them, and compares their results,
byte for byte, with those of the same job left alone.

  --kinds LIST      of ${strikeKinds.join(",")} (default: all, in turn)
  --rounds N        jobs (default: until --minutes or --strikes are over; 10 if neither is given)
  --minutes N       goes on for so long
  --strikes N       goes on until so many kills, stops or full disks of each kind are done
  --seed N          of the first round; the next ones count up (default: random, printed)
  --cli PATH        the command line (default: dist/cli.js)
  --json            one JSON object on stdout at the end
`;

interface Tally {
  rounds: number;
  strikes: number;
  resumes: number;
  failedSeeds: number[];
}

const { values } = parseArgs({
  options: {
    kinds: { type: "string" }, rounds: { type: "string" }, minutes: { type: "string" }, strikes: { type: "string" },
    seed: { type: "string" }, json: { type: "boolean", default: false },
    cli: { type: "string", default: "dist/cli.js" }, help: { type: "boolean", default: false },
  },
});

function numberOf(name: "rounds" | "minutes" | "strikes" | "seed"): number | null {
  const text = values[name];
  if (text === undefined) return null;
  const number = Number(text);
  if (!(number >= 0)) throw new Error(`--${name} must be a number, not ${text}`);
  return number;
}

function kindsOf(text: string | undefined): readonly StrikeKind[] {
  if (text === undefined) return strikeKinds;
  return text.split(",").map((name) => {
    const kind = strikeKinds.find((each) => each === name);
    if (kind === undefined) throw new Error(`--kinds has ${JSON.stringify(name)}; there are ${strikeKinds.join(", ")}`);
    return kind;
  });
}

async function torture(): Promise<number> {
  const kinds = kindsOf(values.kinds);
  const minutes = numberOf("minutes");
  const strikesMin = numberOf("strikes");
  const roundsMax = numberOf("rounds") ?? (minutes === null && strikesMin === null ? 10 : Infinity);
  const firstSeed = numberOf("seed") ?? randomInt(2 ** 31);
  const say = (text: string) => console.error(text);
  const startedMs = performance.now();
  const endsMs = minutes === null ? Infinity : startedMs + minutes * 60_000;
  const tallies = new Map(kinds.map((kind): [StrikeKind, Tally] => [kind, { rounds: 0, strikes: 0, resumes: 0, failedSeeds: [] }]));
  const folder = await mkdtemp(path.join(tmpdir(), "splitrun-torture-"));
  let stopped = false;
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => (stopped = true));
  say(`seeds from ${firstSeed} on`);
  try {
    const machine = new Torture(folder, path.resolve(values.cli));
    for (let round = 0; round < roundsMax && performance.now() < endsMs && !stopped; round++) {
      const open = kinds.filter((kind) => (tallies.get(kind)?.strikes ?? 0) < (strikesMin ?? Infinity));
      const kind = open[round % open.length];
      const tally = kind === undefined ? undefined : tallies.get(kind);
      if (kind === undefined || tally === undefined) break;
      const seed = firstSeed + round;
      tally.rounds += 1;
      try {
        const end = await machine.round(kind, { seed, strikesMax: kind === "leak" ? 100 : 5, say: (what) => say(`    ${what}`) });
        tally.strikes += end.strikes;
        tally.resumes += end.resumes;
        say(`${kind} (seed ${seed}, ${end.job}): ${end.strikes} strikes, ${end.resumes} resumes; ${tally.strikes} strikes of its kind so far`);
      } catch (error) {
        tally.failedSeeds.push(seed);
        say(`${kind} (seed ${seed}) FAILED: ${error instanceof Error ? error.message : String(error)}`);
      }
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  const seconds = Math.round((performance.now() - startedMs) / 1000);
  for (const [kind, { rounds, strikes, resumes, failedSeeds }] of tallies) {
    const failed = failedSeeds.length === 0 ? "none failed" : `${failedSeeds.length} FAILED: seeds ${failedSeeds.join(" ")}`;
    say(`${kind}: ${rounds} jobs, ${strikes} strikes, ${resumes} resumes, ${failed}`);
  }
  if (values.json) console.log(JSON.stringify({ firstSeed, seconds, kinds: Object.fromEntries(tallies) }));
  else say(`${seconds} s, seeds from ${firstSeed} on`);
  return [...tallies.values()].every(({ failedSeeds }) => failedSeeds.length === 0) ? 0 : 1;
}

if (values.help) console.log(help);
else process.exitCode = await torture();
