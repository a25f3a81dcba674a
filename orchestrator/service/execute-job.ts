import { randomBytes } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import path from "node:path";
import type { Backend, StorageRequests } from "../backends/types.ts";
import { openSource } from "../inputs/open-source.ts";
import type { ItemSource } from "../inputs/types.ts";
import { prepareArtifacts, type PreparedArtifacts } from "../jobs/artifacts.ts";
import { readsLocalPaths } from "../jobs/resolve-backend.ts";
import { taskManagerEnvironment } from "../jobs/references.ts";
import type { ResolvedJob } from "../jobs/types.ts";
import { usdText, type Cost } from "../observe/cost.ts";
import { openEventsLog } from "../observe/events-log.ts";
import { createMachineMeter } from "../observe/machine.ts";
import { createHostsInTrouble } from "../observe/hosts-in-trouble.ts";
import { createMemoryGatherer, type MemorySettings } from "../observe/memory-short.ts";
import { count, createProgressMeter, type Progress } from "../observe/progress.ts";
import { createStalls, type Stalls } from "../observe/stalls.ts";
import { Timeline } from "../observe/report/timeline.ts";
import { reportFile, writeReport } from "../observe/report/write-report.ts";
import { openRunLog } from "../observe/run-log.ts";
import { createSummaryGatherer, emptySummary, whereTheTimeWent, type Counts, type RunState, type Summary } from "../observe/summary.ts";
import { exportResults } from "../results/export.ts";
import { openHome } from "../results/home.ts";
import { isOfTheDisk, reasonOf } from "../results/journal.ts";
import { readOutcomes } from "../results/read-outcomes.ts";
import type { Output } from "../results/s3/output.ts";
import type { Home, Outcome } from "../results/types.ts";
import type { SchedulerPlan } from "../scheduler/types.ts";
import { quarantineFile, startRun, type Run, type RunEnd } from "../run/run.ts";
import { createRunCost, type RunCost } from "./run-cost.ts";
import { filesOf, outputInS3, type TakenOutput } from "./output-in-s3.ts";
import { planOf } from "./plan-of.ts";
import type { RunNeeds, RunPool } from "./pool.ts";
import { runsOf } from "./prepare-job.ts";
import { createService, type Service } from "./service.ts";
import type { StopSwitch } from "./stop-switch.ts";

const progressEveryMs = 200;
/** Who waits for longer wants to know what for. */
const outputSlowMs = 3000;

export interface ExecuteOptions {
  /** `resume` goes on with the list and the errors as they are. */
  readonly mode: "run" | "resume";
  /** Home to be used; null: what the job's output says. */
  readonly home: string | null;
  readonly fresh: boolean;
  readonly retryFailed: boolean;
  readonly takeOver: boolean;
  readonly cwd: string;
  /** Cache of artifacts by content. */
  readonly cacheDir: string;
  readonly stdin: NodeJS.ReadableStream;
  /** The job as it is recorded: secrets as references. */
  readonly record: unknown;
  /** What the job says and nothing comes of, a sentence each. */
  readonly withoutEffect: readonly string[];
  readonly stop: StopSwitch;
  /** The output in S3 where the caller has taken it already; null: it is taken here. */
  readonly taken: TakenOutput | null;
  readonly onProgress: ((progress: Progress) => void) | null;
  /** What was just stored; the next is waited for. */
  readonly onStored: ((outcomes: readonly Outcome[]) => Promise<void> | void) | null;
  readonly onNote: ((text: string) => void) | null;
  /** The home is open: its results can be read. */
  readonly onHome: ((home: string) => void) | null;
}

/** How a run ended, and the way to its results. */
export interface RunResult {
  readonly state: RunState;
  readonly counts: Counts;
  readonly summary: Summary;
  /** Directory of the results; `splitrun resume`, `verify` and `export` take it. */
  readonly home: string;
  readonly runDir: string;
  /** Every item's outcome as it is stored, in the order of completion. */
  items(): AsyncIterable<Outcome>;
  /** The same in the order of the input. */
  inOrder(): AsyncIterable<Outcome>;
}

/** A service with one job in it. */
export async function executeAlone(job: ResolvedJob, options: ExecuteOptions): Promise<RunResult> {
  const service = createService({ taskManagersMax: job.taskManagers, cacheDir: options.cacheDir });
  try {
    return await executeJob(job, service, options);
  } finally {
    await service.close();
  }
}

/**
 * Runs one job from its files to its summary.
 * @throws SplitrunError for all that is wrong before the run starts; afterwards it resolves, with a state.
 */
export async function executeJob(job: ResolvedJob, service: Service, options: ExecuteOptions): Promise<RunResult> {
  const startedAt = new Date();
  const startedMs = performance.now();
  const prepared = await prepareArtifacts(job, { cacheDir: options.cacheDir });
  const backend = await service.backend(job.backend);
  const plan = planOf(job, backend, randomBytes(4).readUInt32LE());
  const output = await outputInS3(job, options);
  try {
    return await executePrepared({ job, service, options, prepared, backend, plan, output, startedAt, startedMs });
  } finally {
    await output?.close();
  }
}

interface Execution {
  readonly job: ResolvedJob;
  readonly service: Service;
  readonly options: ExecuteOptions;
  readonly prepared: PreparedArtifacts;
  readonly backend: Backend;
  readonly plan: SchedulerPlan;
  /** null: the results stay here. */
  readonly output: Output | null;
  readonly startedAt: Date;
  readonly startedMs: number;
}

async function executePrepared({ job, service, options, prepared, backend, plan, output, startedAt, startedMs }: Execution): Promise<RunResult> {
  const source = output?.keptList ?? (await openSource(job.input, {
    baseDir: job.baseDir,
    bucket: job.bucket,
    s3: job.s3,
    stdin: options.stdin,
    itemKind: job.task.kind === "inference" ? "image" : "value",
    localPaths: readsLocalPaths(job.backend),
  }));
  const cost = createRunCost({ job, backend, metering: service.metering, storageRequests: () => requestsOf(source, output) });
  const pool = service.pool.open({ ...needsOf(job, prepared, backend, plan), account: cost.account });
  cost.open(pool);
  const newId = newRunId(startedAt);
  let opening: Promise<Home> | undefined;
  const open = () =>
    (opening = openHome({
      dir: homeDirectory(job, options, newId),
      mode: options.mode,
      fingerprint: prepared.fingerprint,
      source: source.identity,
      fresh: options.fresh,
      retryFailed: options.retryFailed,
      takeOver: options.takeOver,
      // Below a prefix, parts and the copy of the list know items by their place in it.
      listAgain: output === null,
    }));
  try {
    // Refused by its first Task Manager, a task that cannot work leaves nothing behind. A home that is there already
    // is read meanwhile.
    const warming = warmUnlessStopped(pool, options.stop);
    if (options.mode === "resume") await Promise.allSettled([warming, open()]);
    const stageLanes = await warming;
    const home = await (opening ?? open());
    options.onHome?.(home.dir);
    for (const note of [...options.withoutEffect, ...home.notes]) options.onNote?.(note);
    const runId = idAfter(await runsOf(home.dir), newId);
    const runDir = await home.createRunDir(runId, options.record);
    pool.logTo(path.join(runDir, "logs", "task-managers"));
    const list = output === null
      ? await home.list(source)
      : await output.begin({ home, source, runId, fingerprint: prepared.fingerprint, record: options.record, retryFailed: options.retryFailed, files: await filesOf(job, prepared) });
    for (const note of output?.notes ?? []) options.onNote?.(note);
    try {
      return await runInHome({ job, service, options, plan, home, pool, cost, output, source: list, stageLanes, runDir, runId, startedAt, startedMs });
    } finally {
      await list.close();
    }
  } finally {
    await source.close();
    pool.close();
    await opening?.then(
      (home) => home.close(),
      () => undefined,
    );
  }
}

/** Of the list and the output, where they are in S3. */
function requestsOf(source: ItemSource, output: Output | null): StorageRequests {
  const all = [source.storageRequests?.(), output?.requests].filter((requests) => requests !== undefined);
  return all.reduce((sum, { reads, writes }) => ({ reads: sum.reads + reads, writes: sum.writes + writes }), { reads: 0, writes: 0 });
}

/** The end of a job that was cancelled while it was queued: its home is as it was. */
export function neverStarted(job: ResolvedJob, options: ExecuteOptions): RunResult {
  const now = new Date();
  const runId = newRunId(now);
  const home = homeDirectory(job, options, runId);
  const runDir = path.join(home, "runs", runId);
  const summary = emptySummary({
    runId,
    state: "cancelled",
    home,
    runDir,
    output: path.join(home, "results.jsonl"),
    reason: "user",
    message: "Cancelled while it was queued: nothing was started, and nothing written.",
    startedAt: now.toISOString(),
  });
  return { state: "cancelled", counts: summary.counts, summary, home, runDir, items: noOutcomes, inOrder: noOutcomes };
}

async function* noOutcomes(): AsyncGenerator<Outcome> {}

/** A job that was stopped before its turn came needs nobody. */
async function warmUnlessStopped(pool: RunPool, stop: StopSwitch): Promise<Prepared["stageLanes"]> {
  const ready = pool.warm();
  const first = await Promise.race([ready, stop.requested]);
  // What becomes of it when the run closes its part of the pool is no news.
  ready.catch(() => undefined);
  return first?.stageLanes ?? {};
}

interface Prepared {
  readonly job: ResolvedJob;
  readonly service: Service;
  readonly options: ExecuteOptions;
  readonly plan: SchedulerPlan;
  readonly home: Home;
  readonly pool: RunPool;
  readonly cost: RunCost;
  readonly output: Output | null;
  readonly source: ItemSource;
  /** Items that each stage of one Task Manager works on at once. */
  readonly stageLanes: Readonly<Record<string, number>>;
  readonly runDir: string;
  readonly runId: string;
  readonly startedAt: Date;
  readonly startedMs: number;
}

async function runInHome(prepared: Prepared): Promise<RunResult> {
  const { job, options, plan, home, pool, cost, output: outputPlace, source, runDir } = prepared;
  const log = openRunLog(path.join(runDir, "logs", "orchestrator.log"));
  const events = openEventsLog(path.join(runDir, "events.jsonl"), plan, (message) => log.log("warn", message));
  const gatherer = createSummaryGatherer();
  const timeline = new Timeline();
  const memory = createMemoryGatherer();
  const hosts = createHostsInTrouble();
  let stored = 0;
  const stalls = createStalls(() => performance.now());
  let crowded = false;
  const readyMs = performance.now();
  const machine = createMachineMeter();

  const run = startRun({
    plan,
    source,
    home,
    pool,
    runDir,
    quarantined: home.isResumed ? await lastQuarantine(home.dir, prepared.runId) : null,
    observer: {
      stepped(event, nowMs, commands) {
        events.stepped(event, nowMs, commands);
        timeline.stepped(event, nowMs, commands);
      },
      stages: (stages) => gatherer.stages(stages),
      load: (id, load) => gatherer.load(id, load),
      joined: (id) => gatherer.joined(id),
      left: (id) => gatherer.left(id),
      surroundings(message) {
        if (message.kind === "hosts") hosts.report(message.hosts, performance.now());
        else memory.narrowed(message.width);
      },
      paced: (host, itemsPerSecond) => hosts.paced(host, itemsPerSecond),
      ranOutOfMemory: () => memory.ended(),
      crowded: () => void (crowded = true),
      taskManagerFailed: (message) => stalls.failed(message),
      stored(outcomes) {
        stored += outcomes.length;
        stalls.stored();
        outputPlace?.stored(outcomes.length);
        gatherer.outcomes(outcomes);
        for (const { input, attempts } of outcomes) cost.stored(input, attempts);
        return options.onStored?.(outcomes);
      },
      log: (level, message) => log.log(level, message),
    },
  });
  obeyStops(run, options.stop);
  outputPlace?.onFailed((message) => run.stop("output", "drain", message));
  cost.watch(run, pool);
  const stopProgress = reportProgress(run, () => ({ stored, costUsd: cost.usd }), options);
  const stopLooking = tellStalls(stalls, options);
  try {
    const ended = await run.ended.finally(() => {
      stopLooking();
      stopProgress();
    });
    await home.finish({ complete: ended.state === "completed" });
    const { output, unwritable } = await writeOutput(job, home);
    const seen = unwritable === null ? ended : { ...ended, state: "stopped" as const, reason: "disk" as const, message: unwritable };
    const { end, notes } = await endOfOutput(seen, outputPlace, options);
    const atMs = performance.now();
    const machineShare = machine.share();
    const billed = await cost.end({ items: stored, duplicates: ended.counts.droppedReports });
    const told = summaryOf(prepared, end, gatherer, {
      output,
      stored,
      readyMs,
      atMs,
      machineShare,
      notes: [
        ...options.withoutEffect, ...home.notes, ...(outputPlace?.notes ?? []), ...notes, ...warmNotes(prepared.service),
        ...emptyNotes(job, end), ...crowdedNotes(job, { crowded, billedSeconds: billed?.billedSeconds ?? 0, elapsedMs: atMs - readyMs }),
      ],
      cost: billed,
      hosts: hosts.list(),
      memoryShort: memory.short(memorySettingsOf(job)),
    });
    const unreported = await writeReport(runDir, { name: job.name, backend: job.backend.kind, summary: told, timeline: timeline.report(), note: null }).then(() => null, unwrittenFile(reportFile(runDir)));
    const summary = unreported === null ? told : { ...told, report: null };
    const unsummarised = await writeSummary(runDir, summary).then(() => null, unwrittenFile(path.join(runDir, "summary.json")));
    for (const unwritten of [unreported, unsummarised]) if (unwritten !== null) options.onNote?.(unwritten);
    return {
      state: summary.state,
      counts: summary.counts,
      summary,
      home: home.dir,
      runDir,
      items: () => readOutcomes(home.dir, { order: "completion" }),
      inOrder: () => readOutcomes(home.dir, { order: "input" }),
    };
  } finally {
    await events.close();
    await log.close();
  }
}

function needsOf(job: ResolvedJob, prepared: PreparedArtifacts, backend: Backend, { taskManagersMax }: SchedulerPlan): Omit<RunNeeds, "account"> {
  return {
    backend,
    settings: {
      task: prepared.task,
      env: taskManagerEnvironment(job, process.env),
      maxRamMb: job.resources.maxRamPerWorkerMb,
      reportMs: job.heartbeat.reportMs,
      heartbeatMs: job.heartbeat.everyMs,
      heartbeatTimeoutMs: job.heartbeat.timeoutMs,
      itemTimeoutMs: job.timeouts.itemMs,
      faults: job.faults,
    },
    artifacts: prepared.artifacts,
    taskManagersMax,
    share: job.share,
    priority: job.priority,
    hostLimits: job.task.kind === "inference" ? job.task.download.perHost : { concurrency: null, requestsPerSecond: null },
  };
}

/** Begun anywhere, so that two processes differ; counted on, so that the jobs of one do. */
let runNumber = randomBytes(2).readUInt16LE();

/** `20261121-143005123-9f3c`: sorts by time; the end keeps homes apart that are made in the same millisecond. */
function newRunId(now: Date): string {
  runNumber = (runNumber + 1) % 2 ** 16;
  const stamp = now.toISOString().replace(/[-:.Z]/g, "").replace("T", "-");
  return `${stamp}-${runNumber.toString(16).padStart(4, "0")}`;
}

const runIdForm = /^(\d{4})(\d\d)(\d\d)-(\d\d)(\d\d)(\d\d)(\d{3})-.*$/;

/** That which sorts last is the last one, also after the clock was set back: `resume` goes on with that. */
function idAfter(runs: readonly string[], runId: string): string {
  const last = runs.at(-1);
  if (last === undefined || last < runId) return runId;
  const lastMs = Date.parse(last.replace(runIdForm, "$1-$2-$3T$4:$5:$6.$7Z"));
  return Number.isNaN(lastMs) ? runId : newRunId(new Date(lastMs + 1));
}

/** Only a directory that the user named is ever used again. */
function homeDirectory(job: ResolvedJob, options: ExecuteOptions, runId: string): string {
  if (options.home !== null) return options.home;
  return job.output.kind === "directory" ? job.output.dir : path.join(options.cwd, ".splitrun", runId);
}

/** Who was in quarantine when the run before this one ended, or was ended. */
async function lastQuarantine(homeDir: string, runId: string): Promise<{ readonly items: readonly number[]; readonly losses: readonly number[] } | null> {
  const last = (await runsOf(homeDir)).filter((name) => name < runId).at(-1);
  if (last === undefined) return null;
  try {
    return JSON.parse(await readFile(path.join(homeDir, "runs", last, quarantineFile), "utf8")) as { items: number[]; losses: number[] };
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return null;
    throw error;
  }
}

function obeyStops(run: Run, stop: StopSwitch): void {
  let asked = false;
  stop.onRequest((how) => {
    run.stop("user", asked ? "now" : how, "Stopped on request.");
    asked = true;
  });
}

function reportProgress(run: Run, sofar: () => { readonly stored: number; readonly costUsd: number | null }, { onProgress }: ExecuteOptions): () => void {
  if (onProgress === null) return () => undefined;
  const measure = createProgressMeter();
  const timer = setInterval(() => onProgress(measure(run, sofar())), progressEveryMs);
  return () => {
    clearInterval(timer);
    // All have been given back.
    onProgress({ ...measure(run, sofar()), running: 0, waitingAside: 0, taskManagers: 0, leftMs: null });
  };
}

function tellStalls(stalls: Stalls, { onNote }: ExecuteOptions): () => void {
  const timer = setInterval(() => {
    const text = stalls.look();
    if (text !== null) onNote?.(text);
  }, progressEveryMs);
  return () => clearInterval(timer);
}

/** What counts is in the journal, and a full disk must not hide how the run ended. */
function unwrittenFile(file: string): (error: unknown) => string {
  return (error) => `${file} could not be written: ${reasonOf(error)}.`;
}

async function writeSummary(runDir: string, summary: Summary): Promise<void> {
  await writeFile(path.join(runDir, "summary.json"), `${JSON.stringify(summary, null, 2)}\n`, { mode: 0o600 });
}

/** The journal is JSONL in the order of completion; what else the job wants is written from it, later too. */
async function writeOutput(job: ResolvedJob, home: Home): Promise<{ readonly output: string; readonly unwritable: string | null }> {
  const { output } = job;
  if (output.kind === "s3") return { output: output.url, unwritable: null };
  const journal = path.join(home.dir, "results.jsonl");
  if (output.kind !== "directory" || (output.format === "jsonl" && output.order === "completion")) return { output: journal, unwritable: null };
  const to = path.join(home.dir, output.format === "jsonl" ? "results-in-order.jsonl" : `results.${output.format}`);
  try {
    await exportResults(home.dir, { to, format: output.format, order: output.order });
    return { output: to, unwritable: null };
  } catch (error) {
    if (!isOfTheDisk(error)) throw error;
    return { output: journal, unwritable: `${to} could not be written: ${reasonOf(error)}. The results are all in ${journal}; \`splitrun resume ${home.dir}\` writes it.` };
  }
}

/** What is not in S3 in the end makes a run that can be resumed of one that was complete. */
async function endOfOutput(end: RunEnd, output: Output | null, { stop, onNote }: ExecuteOptions): Promise<{ readonly end: RunEnd; readonly notes: readonly string[] }> {
  const notes: string[] = [];
  if (output === null) return { end, notes };
  const complete = end.state === "completed";
  const giveUp = new AbortController();
  let requests = 0;
  stop.onRequest(() => {
    requests += 1;
    // The first one ended the run.
    if (complete || requests > 1) giveUp.abort();
  });
  const slow = setTimeout(() => onNote?.(`The last results are on their way to ${output.url}.`), outputSlowMs);
  const unfinished = await output.finish({ complete, giveUp: giveUp.signal, onNote: (text) => notes.push(text) }).finally(() => clearTimeout(slow));
  return { end: unfinished === null ? end : { ...end, state: "stopped", ...unfinished }, notes };
}

function summaryOf(
  { job, home, stageLanes, runDir, runId, startedAt, startedMs }: Prepared,
  end: RunEnd,
  gatherer: ReturnType<typeof createSummaryGatherer>,
  { stored, readyMs, atMs, machineShare, cost, ...told }: Gathered,
): Summary {
  const { read, succeeded, failed, reused, copied, retried } = end.counts;
  const makespanMs = Math.round(atMs - startedMs);
  const elapsedMs = atMs - readyMs;
  // What is paid for is only there while it is: between invocations a Task Manager is a place that waits for one.
  const meanTaskManagers = cost === null ? gatherer.meanTaskManagers() : (cost.billedSeconds * 1000) / Math.max(1, elapsedMs);
  return {
    runId,
    state: stateOf(end),
    counts: { items: end.listRead ? read : Math.max(read, end.itemsTotal ?? 0), succeeded, failed, reused, copied, retried },
    makespanMs,
    itemsPerSecond: Math.round((stored * 1e5) / Math.max(1, makespanMs)) / 100,
    home: home.dir,
    runDir,
    ...told,
    ...(cost === null ? {} : { cost }),
    reason: end.reason,
    message: end.state === "stopped" ? end.message : "",
    times: { prepareMs: Math.round(readyMs - startedMs), runMs: end.makespanMs, finishMs: Math.max(0, makespanMs - Math.round(readyMs - startedMs) - end.makespanMs) },
    ...whereTheTimeWent({
      stages: gatherer.stageTimes(),
      lanes: Object.fromEntries(Object.entries(stageLanes).map(([stage, lanes]) => [stage, lanes * meanTaskManagers])),
      elapsedMs,
      cpuMs: gatherer.cpuMs,
      cores: job.backend.kind === "lambda" ? null : availableParallelism(),
      machineShare,
    }),
    waitedAsideMs: end.waitedAsideMs,
    taskManagersRssMb: Math.round(gatherer.peakRssMb),
    errors: gatherer.errors(),
    taskManagerLosses: end.counts.losses,
    itemsAre: end.listRead ? "all" : end.itemsTotal === null ? "at least" : "about",
    startedAt: startedAt.toISOString(),
    report: reportFile(runDir),
  };
}

function memorySettingsOf({ backend, task, resources: { maxRamPerWorkerMb } }: ResolvedJob): MemorySettings {
  return { backend: backend.kind, task: task.kind, maxRamPerWorkerMb };
}

/** Where the account, the function or its region takes fewer, nothing of the job's own shows why it is slow. */
function crowdedNotes({ backend, taskManagers }: ResolvedJob, { crowded, billedSeconds, elapsedMs }: Crowd): readonly string[] {
  if (backend.kind !== "lambda" || !crowded) return [];
  const mean = ((billedSeconds * 1000) / Math.max(1, elapsedMs)).toFixed(1);
  return [`Lambda does not take as many invocations at once as taskManagers (${taskManagers}) asks for: ${mean} ran on average. \`splitrun deploy --dry-run\` shows the account's limit in the region; Service Quotas (Lambda, Concurrent executions) raises it.`];
}

interface Crowd {
  readonly crowded: boolean;
  readonly billedSeconds: number;
  readonly elapsedMs: number;
}

function warmNotes(service: Service): readonly string[] {
  const kept = service.keptWarm();
  if (kept === null) return [];
  return [`Keeping environments warm (backend.keepWarm) has cost ${usdText(kept.usd)} so far, beside what this run cost: ${count(kept.invocations)} invocations.`];
}

/** A prefix or a folder that is misspelt has no items. */
function emptyNotes({ input: { from } }: ResolvedJob, { state, counts }: RunEnd): readonly string[] {
  if (state !== "completed" || counts.read > 0 || typeof from !== "string" || from === "-") return [];
  return [`Nothing is listed at ${from}.`];
}

interface Gathered extends Pick<Summary, "output" | "notes" | "hosts" | "memoryShort"> {
  readonly stored: number;
  readonly readyMs: number;
  readonly atMs: number;
  readonly machineShare: number;
  readonly cost: Cost | null;
}

function stateOf({ state, reason, counts }: RunEnd): RunState {
  if (state === "stopped") return reason === "user" ? "cancelled" : "failed";
  return counts.failed > 0 ? "finished-with-errors" : "succeeded";
}
