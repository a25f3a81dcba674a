/**
 * Jobs on real processes that are killed, stopped, filled up and starved at random moments, resumed until they end, and
 * compared with the results of the same job left alone. Used by the tests and by `scripts/torture.mjs`.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync, statSync } from "node:fs";
import { cp, mkdir, readdir, readFile, rm, statfs, writeFile } from "node:fs/promises";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import sharp from "sharp";
import { processesMarked, startCommand, taskManagersMarked, type CliEnd, type StartedCli } from "../support/cli.ts";
import { meanColorModel } from "../support/onnx.ts";
import { createRandom, type Random } from "../support/random.ts";

const run = promisify(execFile);

/** Whoever has not ended by then hangs. */
const endsWithinMs = 120_000;

export const strikeKinds = ["orchestrator", "task-managers", "stops", "leak", "disk"] as const;
/** What is done to a job: see `rounds` below. */
export type StrikeKind = (typeof strikeKinds)[number];

const jobKinds = ["numbers", "pictures", "grown", "leak"] as const;
/** `grown`: a list that has changed, most of it done already, so that its run compacts the journal at its end. */
type JobKind = (typeof jobKinds)[number];

interface Job {
  readonly kind: JobKind;
  readonly file: string;
  /** Home that the run begins with; null: none. */
  readonly base: string | null;
  /** The journal's lines left alone: sorted by index, without `attempts`. */
  readonly expected: string;
  readonly items: number;
  /** How long it takes left alone, and how large its journal gets. */
  readonly ms: number;
  readonly bytes: number;
}

export interface RoundOptions {
  readonly seed: number;
  /** Kills and stops that are tried in this round, at most. */
  readonly strikesMax: number;
  readonly say: (what: string) => void;
}

export interface RoundEnd {
  readonly job: JobKind;
  readonly strikes: number;
  readonly resumes: number;
}

/** One job at a time in its own folder, with everything that rounds need in it. */
export class Torture {
  readonly #folder: string;
  readonly #cliPath: string;
  readonly #jobs = new Map<JobKind, Promise<Job>>();
  #rounds = 0;

  /** `folder`: an empty one; the caller removes it. `cliPath`: the command line as it is built. */
  constructor(folder: string, cliPath: string) {
    this.#folder = folder;
    this.#cliPath = cliPath;
  }

  /** @throws AssertionError when something got lost, came twice, came out otherwise or stayed behind. */
  async round(kind: StrikeKind, options: RoundOptions): Promise<RoundEnd> {
    const random = createRandom(options.seed);
    const job = await this.#job(jobFor(kind, random));
    const name = `${kind}-${this.#rounds++}`;
    const folder = path.join(this.#folder, name);
    await mkdir(path.join(folder, "tmp"), { recursive: true });
    const round = new Round({ ...options, job, random, folder, cacheDir: this.#cacheDir, cliPath: this.#cliPath, mark: `${process.pid}-${options.seed}-${name}` });
    try {
      if (job.base !== null) await cp(job.base, round.home, { recursive: true });
      await rounds[kind](round);
      return { job: job.kind, strikes: round.strikes, resumes: round.resumes };
    } finally {
      await round.killAll();
      await rm(folder, { recursive: true, force: true });
    }
  }

  get #cacheDir(): string {
    return path.join(this.#folder, "cache");
  }

  #job(kind: JobKind): Promise<Job> {
    let job = this.#jobs.get(kind);
    if (job === undefined) this.#jobs.set(kind, (job = this.#prepare(kind)));
    return job;
  }

  /** Makes the job and runs it undisturbed. */
  async #prepare(kind: JobKind): Promise<Job> {
    const folder = path.join(this.#folder, `job-${kind}`);
    await mkdir(folder, { recursive: true });
    const file = await writeJob[kind](folder);
    const base = kind === "grown" ? await this.#leftAlone(folder, path.join(folder, "before.json"), "before") : null;
    const startedMs = performance.now();
    const home = await this.#leftAlone(folder, file, "alone");
    const journal = path.join(home, "results.jsonl");
    const expected = await canonicalLines(journal);
    return { kind, file, base, expected, items: expected.split("\n").length, ms: performance.now() - startedMs, bytes: statSync(journal).size };
  }

  async #leftAlone(folder: string, file: string, name: string): Promise<string> {
    const home = path.join(folder, name);
    const args = [this.#cliPath, "run", file, "--output", home, "--json"];
    const { code, stderr } = await startCommand(process.execPath, args, { cwd: folder, cacheDir: this.#cacheDir }).ended;
    assert.equal(code, 0, stderr);
    return home;
  }
}

function jobFor(kind: StrikeKind, random: Random): JobKind {
  if (kind === "leak") return "leak";
  const kinds = ["numbers", "numbers", "pictures", ...(kind === "orchestrator" ? ["grown" as const] : [])] as const;
  return kinds[random.between(0, kinds.length)] ?? "numbers";
}

// ---- jobs ----

const heartbeat = { reportMs: 20, everyMs: 300, timeoutMs: 3000 };

const writeJob: Readonly<Record<JobKind, (folder: string) => Promise<string>>> = {
  numbers: (folder) => writeNumbers(folder, "job.json", range(0, 3000)),
  async grown(folder) {
    await writeNumbers(folder, "before.json", range(500, 3000));
    return writeNumbers(folder, "job.json", [...range(2000, 2600), ...range(0, 500), ...range(600, 1900), 7, 7]);
  },
  async leak(folder) {
    await writeFile(path.join(folder, "leak.mjs"), `const kept = [];\nexport default async (n) => { kept.push(Buffer.alloc(4_000_000, 1)); await new Promise((r) => setTimeout(r, 5)); return n * 2; };\n`);
    return writeFunctionJob(folder, "job.json", "leak.mjs", range(0, 300));
  },
  async pictures(folder) {
    const colors = ["#f00", "#0f0", "#00f"] as const;
    const files = await Promise.all(
      colors.map(async (background, at) => {
        const file = path.join(folder, `${at}.png`);
        await sharp({ create: { width: 24, height: 16, channels: 3, background } }).png().toFile(file);
        return file;
      }),
    );
    await writeFile(path.join(folder, "model.onnx"), meanColorModel({ input: ["N", 3, 8, 8] }));
    await writeFile(path.join(folder, "pictures.txt"), range(0, 2000).map((n) => `${files[n % files.length] ?? ""}\n`).join(""));
    const preprocess = { resize: { width: 8, height: 8, fit: "fill", kernel: "linear" }, crop: null, mean: [0, 0, 0], std: [1, 1, 1] };
    return writeJson(folder, "job.json", {
      input: "pictures.txt",
      task: { kind: "inference", model: "model.onnx", preprocess, infer: { batch: 4 } },
      taskManagers: 2,
      heartbeat,
    });
  },
};

async function writeNumbers(folder: string, name: string, numbers: readonly number[]): Promise<string> {
  await writeFile(path.join(folder, "double.mjs"), `export default async (n) => { await new Promise((r) => setTimeout(r, 2)); return { twice: n * 2 }; };\n`);
  return writeFunctionJob(folder, name, "double.mjs", numbers);
}

async function writeFunctionJob(folder: string, name: string, module: string, numbers: readonly number[]): Promise<string> {
  const list = name.replace(".json", ".jsonl");
  await writeFile(path.join(folder, list), numbers.map((n) => `${n}\n`).join(""));
  return writeJson(folder, name, {
    input: { from: list },
    task: { kind: "function", module: `./${module}`, concurrency: 4, threads: 1 },
    taskManagers: 2,
    heartbeat,
  });
}

async function writeJson(folder: string, name: string, value: unknown): Promise<string> {
  const file = path.join(folder, name);
  await writeFile(file, JSON.stringify(value));
  return file;
}

function range(first: number, end: number): readonly number[] {
  return Array.from({ length: end - first }, (_, at) => first + at);
}

/** `attempts` tells how often it went wrong, which is what differs. */
async function canonicalLines(journal: string): Promise<string> {
  const lines = (await wholeLines(journal)).map((line) => line.replace(/,"attempts":\d+\}$/, "}"));
  return lines.sort((a, b) => indexOf(a) - indexOf(b)).join("\n");
}

async function wholeLines(journal: string): Promise<readonly string[]> {
  const text = await readFile(journal, "utf8").catch(() => "");
  return text.slice(0, text.lastIndexOf("\n") + 1).split("\n").filter((line) => line !== "");
}

function indexOf(line: string): number {
  return Number(/^\{"index":(\d+),/.exec(line)?.[1] ?? Number.NaN);
}

// ---- one round ----

interface RoundParts extends RoundOptions {
  readonly job: Job;
  readonly random: Random;
  readonly folder: string;
  readonly cacheDir: string;
  readonly cliPath: string;
  readonly mark: string;
}

class Round {
  readonly job: Job;
  readonly random: Random;
  readonly strikesMax: number;
  readonly #parts: RoundParts;
  home: string;
  strikes = 0;
  resumes = 0;
  #runs = 0;
  #started: StartedCli | null = null;
  /** Results that were in the journal at some time: index → line. */
  #seen = new Map<number, string>();
  readonly #runsBefore: Promise<number>;

  constructor(parts: RoundParts) {
    this.#parts = parts;
    this.job = parts.job;
    this.random = parts.random;
    this.strikesMax = parts.strikesMax;
    this.home = path.join(parts.folder, "out");
    this.#runsBefore = parts.job.base === null ? Promise.resolve(0) : recordedRuns(parts.job.base);
  }

  get journal(): string {
    return path.join(this.home, "results.jsonl");
  }

  say(what: string): void {
    this.#parts.say(what);
  }

  /** `run`, or `resume` once a run has recorded its job: before that nothing was done. */
  async start(wrap: (command: readonly string[]) => readonly string[] = (command) => command): Promise<StartedCli> {
    const resumes = (await recordedRuns(this.home)) > (await this.#runsBefore);
    if (resumes) this.resumes += 1;
    this.#runs += 1;
    const args = resumes ? ["resume", this.home, "--json"] : ["run", this.job.file, "--output", this.home, "--json"];
    const [command = "", ...rest] = wrap([process.execPath, this.#parts.cliPath, ...args]);
    this.#started = startCommand(command, rest, {
      cwd: this.#parts.folder,
      cacheDir: this.#parts.cacheDir,
      // What a killed process leaves in the system's temporary folder goes with the round.
      env: { SPLITRUN_MARK: this.#parts.mark, TMPDIR: path.join(this.#parts.folder, "tmp") },
    });
    return this.#started;
  }

  /** How it ended; one that hangs is a failure. */
  async endOf({ ended }: StartedCli): Promise<CliEnd> {
    let hangs = false;
    const timer = setTimeout(() => {
      hangs = true;
      // All of them: `ended` waits for whoever has its output open.
      void this.killAll();
    }, endsWithinMs);
    const end = await ended.finally(() => clearTimeout(timer));
    assert.ok(!hangs, `did not end within ${endsWithinMs / 1000} s: ${end.stderr}`);
    return end;
  }

  /** Lets it run to its end, undisturbed from here on. */
  async finish(started: StartedCli): Promise<void> {
    await this.succeeded(await this.endOf(started));
  }

  async succeeded({ code, signal, stdout, stderr }: CliEnd): Promise<void> {
    assert.equal(code, 0, `ended with ${code ?? signal}: ${stderr}${stdout}`);
    const { state, counts } = JSON.parse(stdout) as { state: string; counts: Record<string, number> };
    assert.equal(state, "succeeded");
    assert.equal(counts["items"], this.job.items);
    assert.equal(counts["succeeded"], this.job.items);
    await this.#checkResults();
  }

  /** What was in the journal, whole lines, is in it still, and no item twice. */
  async keepsAll(): Promise<void> {
    if (this.job.base !== null) return;
    const lines = await wholeLines(this.journal);
    const now = new Map(lines.map((line) => [indexOf(line), line]));
    assert.equal(now.size, lines.length, "an item has two lines");
    for (const [index, line] of this.#seen) assert.equal(now.get(index), line, `item ${index} has lost its line`);
    this.#seen = now;
  }

  taskManagers(): Promise<readonly number[]> {
    return taskManagersMarked(`SPLITRUN_MARK=${this.#parts.mark}`);
  }

  async #processes(): Promise<readonly number[]> {
    const orchestrator = this.#started?.child.pid;
    const marked = await processesMarked(`SPLITRUN_MARK=${this.#parts.mark}`);
    return marked.filter((pid) => pid !== orchestrator);
  }

  /** Sends a signal to one of the Task Managers; false: there is none. */
  async strikeOne(signal: NodeJS.Signals): Promise<number | null> {
    const victims = await this.taskManagers();
    const victim = victims[this.random.between(0, victims.length)];
    if (victim === undefined || !send(victim, signal)) return null;
    this.strikes += 1;
    return victim;
  }

  /** Waits until a run has recorded its job: before, a killed Task Manager is a refusal of the job. */
  async recorded(isOver: () => boolean): Promise<void> {
    while (!isOver() && (await recordedRuns(this.home)) <= (await this.#runsBefore)) await sleep(10);
  }

  async #checkResults(): Promise<void> {
    assert.equal(await canonicalLines(this.journal), this.job.expected, "other results than left alone");
    const { folder, cacheDir, cliPath } = this.#parts;
    const verified = await startCommand(process.execPath, [cliPath, "verify", this.home], { cwd: folder, cacheDir }).ended;
    assert.equal(verified.code, 0, verified.stderr);
    for (let tries = 0; tries < 600 && (await this.#processes()).length > 0; tries++) await sleep(50);
    assert.deepEqual(await this.#processes(), [], "processes stayed behind");
  }

  async killAll(): Promise<void> {
    this.#started?.child.kill("SIGKILL");
    for (const pid of await processesMarked(`SPLITRUN_MARK=${this.#parts.mark}`)) send(pid, "SIGKILL");
    await this.#started?.ended;
  }
}

async function recordedRuns(home: string): Promise<number> {
  const names = await readdir(path.join(home, "runs")).catch(() => []);
  return names.filter((name) => existsSync(path.join(home, "runs", name, "job.json"))).length;
}

function send(pid: number, signal: NodeJS.Signals): boolean {
  try {
    return process.kill(pid, signal);
  } catch {
    // It has ended meanwhile.
    return false;
  }
}

// ---- what is done to a job ----

const rounds: Readonly<Record<StrikeKind, (round: Round) => Promise<void>>> = {
  /** kill -9 of the orchestrator: while it starts, runs, ends; then `resume`, which may be killed too. */
  async orchestrator(round) {
    for (;;) {
      const started = await round.start();
      const killing = round.strikes < round.strikesMax ? killAtSomeTime(round, started) : null;
      const end = await round.endOf(started);
      await killing;
      await round.keepsAll();
      if (end.signal !== "SIGKILL") return round.succeeded(end);
      round.strikes += 1;
    }
  },

  async "task-managers"(round) {
    await strikeWhileItRuns(round, 150, 500, () => round.strikeOne("SIGKILL"));
  },

  /** SIGSTOP; some go on later, before or after they are given up, some never. */
  async stops(round) {
    await strikeWhileItRuns(round, 100, 900, async () => {
      const victim = await round.strikeOne("SIGSTOP");
      if (victim === null) return null;
      const waitMs = round.random.between(0, 10) < 3 ? null : round.random.between(50, 4000);
      round.say(`process ${victim} is stopped${waitMs === null ? "" : ` for ${waitMs} ms`}`);
      if (waitMs !== null) setTimeout(() => send(victim, "SIGCONT"), waitMs).unref();
      return victim;
    });
  },

  /** Every item leaves memory behind; whoever has too much is killed, as the kernel does it. */
  async leak(round) {
    const residentMaxKb = round.random.between(250, 400) * 1000;
    await strikeWhileItRuns(round, 10, 11, async () => {
      for (const pid of await round.taskManagers()) {
        if ((await residentKb(pid)) < residentMaxKb || !send(pid, "SIGKILL")) continue;
        round.strikes += 1;
        round.say(`process ${pid} had more than ${Math.round(residentMaxKb / 1000)} MB and is killed`);
      }
      return null;
    });
  },

  async disk(round) {
    if (process.getuid?.() === 0) await fullDisk(round);
    else await fileTooLarge(round);
  },
};

async function killAtSomeTime(round: Round, { child, ended }: StartedCli): Promise<void> {
  let over = false;
  void ended.then(() => (over = true));
  const { ms, bytes } = round.job;
  if (round.random.between(0, 10) < 6) {
    const atMs = round.random.between(0, Math.ceil(ms * 1.1));
    for (const startMs = performance.now(); !over && performance.now() - startMs < atMs; ) await sleep(Math.min(20, atMs));
  } else {
    // Around the last group, the record of the list, the compaction and the files made from the journal.
    while (!over && (statSync(round.journal, { throwIfNoEntry: false })?.size ?? 0) < bytes * 0.99) await sleep(2);
    await sleep(round.random.between(0, 60));
  }
  if (!over) child.kill("SIGKILL");
}

async function strikeWhileItRuns(round: Round, fromMs: number, toMs: number, strike: () => Promise<number | null>): Promise<void> {
  const started = await round.start();
  let over = false;
  const finished = round.finish(started).finally(() => (over = true));
  finished.catch(() => undefined);
  await round.recorded(() => over);
  while (!over && round.strikes < round.strikesMax) {
    await sleep(round.random.between(fromMs, toMs));
    if (!over) await strike();
  }
  await finished;
  await round.keepsAll();
}

async function residentKb(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8").catch(() => "");
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1] ?? 0);
}

/** A small disk that is nearly full; then there is room again. */
async function fullDisk(round: Round): Promise<void> {
  const mount = `${round.home}-disk`;
  await mkdir(mount);
  await run("mount", ["-t", "tmpfs", "-o", "size=8m", "tmpfs", mount]);
  try {
    round.home = path.join(mount, "out");
    const filler = path.join(mount, "filler");
    const freeBytes = round.random.between(0, Math.ceil(round.job.bytes * 1.5));
    const { bavail, bsize } = await statfs(mount);
    await writeFile(filler, Buffer.alloc(Math.max(0, bavail * bsize - freeBytes)));
    round.say(`a disk with ${Math.round(freeBytes / 1000)} kB left`);
    await runsOut(round);
    await rm(filler);
    await round.finish(await round.start());
  } finally {
    await round.killAll();
    await run("umount", ["-l", mount]);
  }
}

/** Where one cannot mount: no file may grow beyond a size. */
async function fileTooLarge(round: Round): Promise<void> {
  // dash counts blocks of 512 bytes, bash of 1024: either way it is too small.
  const blocks = round.random.between(1, Math.ceil(round.job.bytes / 1024));
  round.say(`no file may be larger than ${blocks} blocks`);
  await runsOut(round, (command) => ["/bin/sh", "-c", `ulimit -f ${blocks}; exec "$@"`, "sh", ...command]);
  await round.finish(await round.start());
}

/** 3: stopped and can be resumed; 2: not even begun; 0: there was just enough. */
async function runsOut(round: Round, wrap?: (command: readonly string[]) => readonly string[]): Promise<void> {
  const { code, signal, stderr } = await round.endOf(await round.start(wrap));
  assert.ok(code === 0 || code === 2 || code === 3, `ended with ${code ?? signal}: ${stderr}`);
  if (code !== 0) assert.match(stderr, /no space is left|largest size that is allowed/);
  if (code !== 0) round.strikes += 1;
  await round.keepsAll();
}
