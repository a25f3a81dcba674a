/**
 * A world that does to a scheduler and its journal all that can happen to them, drawn from a seed, in virtual time, and
 * checks after every step that promises were kept. Faults end after a while; then the job must finish.
 */
import { Deadlines } from "../../orchestrator/scheduler/deadlines.ts";
import { indexesOf, rangesFromSorted } from "../../orchestrator/scheduler/ranges.ts";
import { digestOf, encodeStep } from "../../orchestrator/scheduler/replay.ts";
import { createScheduler } from "../../orchestrator/scheduler/scheduler.ts";
import type { Scheduler, SchedulerCommand, SchedulerEvent, SchedulerPlan, StopReason, TaskManagerId } from "../../orchestrator/scheduler/types.ts";
import type { Outcome } from "../../orchestrator/results/types.ts";
import { Books, check } from "./search-books.ts";
import { Disk, OpenJournal } from "./search-disk.ts";
import { Chance, drawNature, drawPlan, type Fault, type Nature } from "./search-nature.ts";
import { TaskManagerModel, type Surroundings } from "./search-task-manager.ts";

/** Steps to the end once the faults are over, and of all runs together. */
const healedStepsMax = 20_000;
const stepsMax = 60_000;
/** What goes on with no step is no end either. */
const healedMsMax = 24 * 3_600_000;
const runsMax = 30;
const faultyRunsMax = 15;

interface Step {
  readonly event: SchedulerEvent;
  readonly nowMs: number;
  readonly commands: readonly SchedulerCommand[];
}

type Finish = Extract<SchedulerCommand, { kind: "finish" }>;

export interface Exploration {
  readonly seed: number;
  readonly steps: number;
  readonly runs: number;
  readonly items: number;
  /** Of the last run. */
  readonly plan: SchedulerPlan;
  readonly lines: readonly string[];
  /** What happened at all. */
  readonly seen: ReadonlySet<string>;
}

/** Runs one schedule to its end; throws, with what happened last, when a promise is broken. `trace` is told everything. */
export function explore(seed: number, trace: ((line: string) => void) | null = null): Promise<Exploration> {
  return new World(seed, trace).run();
}

class World {
  readonly #seed: number;
  readonly #trace: ((line: string) => void) | null;
  readonly #chance: Chance;
  readonly #nature: Nature;
  readonly #agenda = new Deadlines<() => void>();
  readonly #disk = new Disk();
  readonly #seen = new Set<string>();
  readonly #surroundings: Surroundings;
  readonly #busyHosts = new Map<number, number>();
  /** Inputs that are in the list once. */
  readonly #single: ReadonlySet<string>;
  /** What some orchestrator was told is stored. */
  readonly #acknowledged = new Map<number, "result" | "error">();
  #plan: SchedulerPlan;
  #scheduler: Scheduler;
  #books: Books;
  #journal: OpenJournal | null = null;
  #mode: "run" | "resume" = "run";
  #retryFailed = true;
  #taskManagers = new Map<TaskManagerId, TaskManagerModel>();
  #tries: number[] = [];
  #batches = new Map<number, readonly Outcome[]>();
  /** What is in the file of the run: read by the run that resumes it. */
  #note: Extract<SchedulerCommand, { kind: "note-quarantine" }> | null = null;
  #history: Step[] = [];
  #read = 0;
  #nowMs = 0;
  #wakeAtMs: number | null = null;
  #steps = 0;
  #healedAtStep: number | null = null;
  #runs = 0;
  /** Rises with every orchestrator: what an earlier one was sent is not delivered. */
  #epoch = 0;
  #killed = false;
  /** Steps until the orchestrator is killed, in the middle of carrying out what that step asks for. */
  #stepsToLive = Infinity;
  #diskStrikes: "full" | "broken" | null = null;
  #storeFailed = false;
  #finish: Finish | null = null;

  constructor(seed: number, trace: ((line: string) => void) | null) {
    this.#seed = seed;
    this.#trace = trace;
    this.#chance = new Chance(seed);
    this.#nature = drawNature(this.#chance);
    this.#plan = drawPlan(this.#chance, this.#nature, 1);
    this.#scheduler = createScheduler(this.#plan);
    this.#books = new Books(this.#plan);
    this.#single = singlesOf(this.#nature.items.map(({ input }) => input));
    this.#surroundings = this.#surround();
  }

  async run(): Promise<Exploration> {
    try {
      do await this.#live();
      while (this.#finish?.state !== "completed");
      await this.#checkEnd();
      if (this.#seed % 8 === 0) this.#checkReplay();
    } catch (error) {
      throw this.#told(error);
    }
    return {
      seed: this.#seed,
      steps: this.#steps,
      runs: this.#runs,
      items: this.#nature.items.length,
      plan: this.#plan,
      lines: this.#seed % 256 === 0 || this.#trace !== null ? this.#history.map(({ event, nowMs, commands }) => encodeStep(event, nowMs, commands)) : [],
      seen: this.#seen,
    };
  }

  #told(error: unknown): Error {
    const last = this.#history.slice(-12).map(({ event, nowMs, commands }) => `${nowMs} ${JSON.stringify(event)} → ${JSON.stringify(commands)}`);
    const what = error instanceof Error ? error.stack : String(error);
    const faults = [...this.#nature.faults].join(" ");
    return new Error(
      `SPLITRUN_SEED=${this.#seed}, run ${this.#runs}, step ${this.#steps}: ${what}\nfaults: ${faults}\n${JSON.stringify(this.#plan)}\n${JSON.stringify(this.#scheduler.counts)}\n${last.join("\n")}`,
    );
  }

  // ---- one orchestrator's life ----

  async #live(): Promise<void> {
    await this.#begin();
    for (;;) {
      if (this.#journal?.isRestless === true) await this.#turn();
      if (this.#killed || this.#finish !== null) break;
      const eventMs = this.#agenda.nextMs ?? Infinity;
      const wakeMs = this.#wakeAtMs ?? Infinity;
      check(Math.min(eventMs, wakeMs) < Infinity, "nothing will ever happen again, and the run has not finished");
      check(this.#nowMs < this.#nature.healedMs + healedMsMax, `the job does not end, ${healedMsMax / 3_600_000} hours after the last fault`);
      this.#nowMs = Math.max(this.#nowMs, Math.min(eventMs, wakeMs));
      if (wakeMs < eventMs) this.#step({ kind: "clock" });
      else this.#agenda.takeDue(this.#nowMs)?.();
    }
    this.#endLife();
  }

  async #begin(): Promise<void> {
    this.#epoch += 1;
    this.#runs += 1;
    check(this.#runs <= runsMax, "the job does not end, however often it is resumed");
    this.#mode = this.#runs === 1 || this.#chance.is(0.2) ? "run" : "resume";
    this.#retryFailed = this.#mode === "run" || this.#chance.is(0.2);
    if (this.#runs > 1) this.#plan = this.#chance.is(0.5) ? drawPlan(this.#chance, this.#nature, this.#runs) : drawAgain(this.#plan);
    this.#say(`${this.#mode} ${this.#runs} with ${JSON.stringify(this.#plan)}`);
    this.#taskManagers.clear();
    this.#batches.clear();
    this.#tries = this.#nature.items.map(() => 0);
    this.#history = [];
    this.#read = 0;
    this.#killed = false;
    this.#finish = null;
    this.#wakeAtMs = null;
    this.#diskStrikes = null;
    this.#storeFailed = false;
    this.#scheduler = createScheduler(this.#plan);
    this.#books = new Books(this.#plan);
    const epoch = this.#epoch;
    const { between, is } = bound(this.#chance);
    const world = { later: (delayMs: number, what: () => void) => this.#laterIn(epoch, delayMs, what), between, chance: is, strikes: () => this.#strikesDisk() };
    this.#journal = await OpenJournal.open(this.#disk, world, { mode: this.#mode, retryFailed: this.#retryFailed });
    if (this.#mode === "run") this.#forgetOlder();
    this.#stepsToLive = this.#mayStrike("mid-step", 0.8) ? this.#chance.between(1, 150) : Infinity;
    const note = this.#mode === "resume" ? this.#note : null;
    if (note === null) this.#note = null;
    else this.#step({ kind: "quarantine-restored", items: note.items, losses: note.losses });
    this.#drawFate();
  }

  /** What will be done to this run, beside what happens to its Task Managers. */
  #drawFate(): void {
    const { taskManagersMax } = this.#plan;
    const { healedMs } = this.#nature;
    this.#setAllowance(this.#chance.between(1, taskManagersMax + 1));
    const leftMs = Math.max(0, healedMs - this.#nowMs);
    for (let n = 0; n < 4 && this.#mayStrike("allowance", 1); n++) this.#laterHere(this.#chance.between(0, leftMs), () => this.#setAllowance(this.#chance.between(0, taskManagersMax)));
    this.#laterHere(leftMs + 1, () => this.#setAllowance(taskManagersMax));
    if (this.#mayStrike("restarts", 0.7)) this.#laterHere(this.#chance.between(0, healedMs), () => this.#kill());
    if (this.#mayStrike("full", 0.5)) this.#laterHere(this.#chance.between(0, healedMs / 2), () => (this.#diskStrikes = this.#chance.is(0.7) ? "full" : "broken"));
    if (!this.#mayStrike("stops", 0.5)) return;
    this.#laterHere(this.#chance.between(0, healedMs / 2), () => {
      this.#step({ kind: "stop", reason: "user", how: this.#chance.is(0.5) ? "drain" : "now", message: "asked to" });
      this.#laterHere(this.#chance.between(10, 5000), () => this.#step({ kind: "stop", reason: "user", how: "now", message: "asked twice" }));
    });
  }

  /** A run that begins anew tries errors again, and of equal inputs it gives the first line to the first of them. */
  #forgetOlder(): void {
    for (const [index, how] of [...this.#acknowledged]) if (how === "error" || !this.#single.has(this.#inputOf(index))) this.#acknowledged.delete(index);
  }

  #endLife(): void {
    if (this.#finish?.state === "completed") return;
    if (this.#finish !== null) {
      check(this.#mayStop(this.#finish.reason), `stopped for ${this.#finish.reason}: ${this.#finish.message}`);
      check(this.#batches.size === 0 || this.#storeFailed, "stopped with batches that are not stored");
    }
    this.#journal?.kill();
    if (this.#nature.faults.has("power") && this.#chance.is(0.7)) {
      this.#seen.add("power");
      const { between, is } = bound(this.#chance);
      this.#disk.losePower({ between, chance: is });
    }
  }

  #kill(): void {
    this.#say("the orchestrator is killed");
    this.#killed = true;
  }

  #setAllowance(taskManagers: number): void {
    this.#step({ kind: "allowance-changed", taskManagers });
  }

  #mayStop(reason: StopReason | null): boolean {
    const has = (...faults: readonly Fault[]) => faults.some((fault) => this.#nature.faults.has(fault));
    switch (reason) {
      case "user":
        return has("stops");
      case "disk":
        return has("full");
      case "input":
        return has("input-fails");
      case "job-timeout":
        return this.#plan.jobTimeoutMs !== null;
      case "tolerance":
        return this.#plan.tolerate.failedItemsPercent < 100;
      case "backend":
        // Whoever refused once refuses for ever; and so many may die in a row that it looks hopeless.
        return has("refuses") || (has("kills", "silent", "drops", "stalls", "throttles", "declines", "ends-at", "poison") && this.#nowMs < this.#nature.healedMs + 60_000);
      default:
        return false;
    }
  }

  // ---- chance ----

  /** Faults have ended, after a time or so many runs. */
  get #isHealed(): boolean {
    return this.#nowMs >= this.#nature.healedMs || this.#runs > faultyRunsMax;
  }

  #mayStrike(fault: Fault, probability: number): boolean {
    const strikes = !this.#isHealed && this.#nature.faults.has(fault) && this.#chance.is(probability);
    if (strikes) this.#seen.add(fault);
    return strikes;
  }

  #strikesDisk(): "full" | "broken" | null {
    return this.#isHealed ? null : this.#diskStrikes;
  }

  #surround(): Surroundings {
    return {
      chance: this.#chance,
      items: this.#nature.items,
      heartbeats: () => this.#plan.heartbeats,
      nowMs: () => this.#nowMs,
      later: (delayMs, what) => this.#laterHere(delayMs, what),
      strikes: (fault, probability) => this.#mayStrike(fault, probability),
      hear: (event) => this.#step(event),
      busyUntilMs: (host) => this.#busyUntilMs(host),
      tried: (index) => (this.#tries[index] = (this.#tries[index] ?? 0) + 1),
    };
  }

  /** What the host is found to bear, from time to time. */
  #maybePace(host: number): void {
    if (this.#chance.is(0.8)) return;
    this.#seen.add("paced");
    const itemsPerSecond = this.#chance.oneOf([null, 1, 5, 50]);
    this.#laterHere(this.#chance.between(0, 1000), () => this.#step({ kind: "host-paced", host, itemsPerSecond }));
  }

  #busyUntilMs(host: number): number | null {
    if (host === 0 || !this.#nature.hosted || this.#isHealed) return null;
    const untilMs = this.#busyHosts.get(host) ?? 0;
    if (untilMs > this.#nowMs) return untilMs;
    // The second host never answers while faults last.
    if (host !== 2 && !this.#chance.is(0.05)) return null;
    this.#seen.add("hosts");
    const busyMs = this.#nowMs + this.#chance.between(100, 5000);
    this.#busyHosts.set(host, busyMs);
    this.#maybePace(host);
    return busyMs;
  }

  #laterHere(delayMs: number, what: () => void): void {
    this.#laterIn(this.#epoch, delayMs, what);
  }

  #laterIn(epoch: number, delayMs: number, what: () => void): void {
    this.#agenda.add(Math.round(this.#nowMs + delayMs), () => {
      if (this.#epoch === epoch && this.#finish === null && !this.#killed) what();
    });
  }

  #say(what: string): void {
    this.#trace?.(`${this.#nowMs} ${what}`);
  }

  // ---- steps ----

  #step(event: SchedulerEvent): void {
    if (this.#finish !== null || this.#killed) return;
    this.#countStep();
    this.#books.hear(event, this.#nowMs);
    const { commands, wakeAtMs } = this.#scheduler.step(event, this.#nowMs);
    this.#history.push({ event, nowMs: this.#nowMs, commands });
    this.#trace?.(`${this.#nowMs} ${JSON.stringify(event)} → ${JSON.stringify(commands)}`);
    this.#wakeAtMs = wakeAtMs;
    this.#stepsToLive -= 1;
    let left = this.#stepsToLive === 0 ? this.#chance.between(0, commands.length) : Infinity;
    for (const command of commands) {
      if (left-- === 0) break;
      this.#carryOut(command, event);
    }
    if (this.#stepsToLive === 0) return this.#kill();
    this.#checkCounts();
    if (event.kind === "allowance-changed" && this.#finish === null) this.#books.checkShrunk();
  }

  #countStep(): void {
    this.#steps += 1;
    check(this.#steps < stepsMax, "the job does not end");
    if (!this.#isHealed) return;
    this.#healedAtStep ??= this.#steps;
    check(this.#steps - this.#healedAtStep < healedStepsMax, `the job does not end, ${healedStepsMax} steps after the last fault`);
  }

  #checkCounts(): void {
    const { waiting, setAside, running, succeeded, failed, read, copied, taskManagers, launching } = this.#scheduler.counts;
    check(waiting + setAside + running + succeeded + failed === read, "items got lost from the books");
    check(read === this.#books.read, `${read} items are read by the scheduler's books, ${this.#books.read} by the world's`);
    check(succeeded + failed === this.#books.endedCount, `${succeeded + failed} items have ended by the scheduler's books, ${this.#books.endedCount} by the world's`);
    check(running === this.#books.running, `${running} items run by the scheduler's books, ${this.#books.running} by the world's`);
    check(copied === this.#books.copied, `${copied} items were copied by the scheduler's books, ${this.#books.copied} by the world's`);
    check(setAside <= 100_000, `${setAside} items are set aside`);
    check(this.#finish !== null || taskManagers + launching <= this.#books.taskManagers, `${taskManagers + launching} Task Managers by the scheduler's books, ${this.#books.taskManagers} by the world's`);
    check(this.#books.copied <= this.#copiesMax(), `${this.#books.copied} items were copied, ${this.#copiesMax()} may be`);
  }

  #copiesMax(): number {
    const { speculation } = this.#plan;
    if (speculation === false) return 0;
    if (speculation.kind === "quartile") return Infinity;
    return Math.ceil((this.#nature.items.length * speculation.maxExtraPercent) / 100);
  }

  #carryOut(command: SchedulerCommand, event: SchedulerEvent): void {
    switch (command.kind) {
      case "read":
        return this.#laterHere(this.#chance.between(0, 20), () => this.#readItems(command.count));
      case "launch":
        this.#books.launch(command);
        return command.ids.forEach((id) => this.#launch(id));
      case "assign":
        if (command.reversed) this.#seen.add("reversed");
        if (command.notAfterMs !== null) this.#seen.add("not after");
        if (this.#books.assign(command, this.#nowMs) > 0) this.#seen.add("copied");
        return this.#taskManagers.get(command.id)?.assign(command);
      case "reclaim":
        this.#seen.add("reclaim");
        this.#books.reclaim(command);
        return this.#taskManagers.get(command.id)?.reclaim(command);
      case "cancel":
        this.#seen.add("cancel");
        this.#books.cancel(command);
        return this.#taskManagers.get(command.id)?.cancel(command.assignment);
      case "store":
        return this.#store(command, event);
      case "note-quarantine":
        this.#books.note(command);
        this.#note = command;
        return;
      case "release":
        this.#books.release(command);
        if (command.how === "drain") return this.#taskManagers.get(command.id)?.drain();
        if (command.how === "kill") return this.#taskManagers.get(command.id)?.kill();
        return;
      case "finish":
        this.#finish = command;
    }
  }

  #launch(id: TaskManagerId): void {
    this.#laterHere(this.#chance.between(5, this.#chance.is(0.2) ? 3000 : 100), () => {
      if (!this.#books.knows(id) && this.#chance.is(0.5)) return;
      if (this.#mayStrike("throttles", 0.3)) return this.#step({ kind: "launch-ended", id, reason: this.#chance.is(0.9) ? "throttled" : "died", message: "not now" });
      if (this.#mayStrike("refuses", 0.03)) return this.#step({ kind: "launch-ended", id, reason: "refused", message: "never" });
      const taskManager = new TaskManagerModel(id, this.#chance.is(this.#nature.slowShare), this.#surroundings);
      this.#taskManagers.set(id, taskManager);
      taskManager.join();
    });
  }

  // ---- items ----

  #inputOf(index: number): string {
    return this.#nature.items[index]?.input ?? "";
  }

  #readItems(asked: number): void {
    if (this.#mayStrike("input-fails", 0.1)) return this.#step({ kind: "input-failed", message: "the list is gone" });
    const { items, hosted, weighted, estimated } = this.#nature;
    const count = Math.min(asked, this.#chance.between(1, 50), items.length - this.#read);
    if (count === 0) return this.#step({ kind: "input-ended" });
    const first = this.#read;
    this.#read += count;
    const indexes = Array.from({ length: count }, (_, at) => first + at);
    const found = indexes.map((index) => this.#find(index));
    const unreadable = indexes.filter((index, at) => items[index]?.unreadable === true && found[at] === "none");
    this.#step({
      kind: "items-read",
      first,
      count,
      done: rangesFromSorted(indexes.filter((_, at) => found[at] !== "none")),
      failedDone: found.filter((how) => how === "error").length,
      ...(hosted ? { hosts: indexes.map((index) => items[index]?.host ?? 0) } : {}),
      ...(weighted ? { weights: indexes.map((index) => items[index]?.weight ?? 1) } : {}),
      ...(unreadable.length > 0 ? { errors: unreadable.map((index) => ({ index, code: "INPUT_INVALID", stage: "run", retryable: false }) as const) } : {}),
      remaining: estimated ? items.length - this.#read : null,
    });
  }

  /** Nothing that was acknowledged is lost. */
  #find(index: number): "result" | "error" | "none" {
    const found = this.#journal?.find(index, { input: this.#inputOf(index) }) ?? "none";
    const acknowledged = this.#acknowledged.get(index);
    if (acknowledged === "result") check(found === "result", `the result of item ${index} was acknowledged, and now it has ${found}`);
    if (acknowledged === "error" && !this.#retryFailed) check(found !== "none", `the error of item ${index} was acknowledged and is gone`);
    return found;
  }

  #store({ batch, results, retried, errors }: Extract<SchedulerCommand, { kind: "store" }>, event: SchedulerEvent): void {
    const brought = event.kind === "items-ended" ? new Set(indexesOf(event.results)) : new Set<number>();
    const broughtErrors = new Set(event.kind === "items-ended" || event.kind === "items-read" ? (event.errors ?? []).map(({ index }) => index) : []);
    const attemptsOf = new Map(retried);
    const outcomes: Outcome[] = [];
    for (const index of indexesOf(results)) {
      check(brought.has(index), `the result of item ${index} is stored and was not brought`);
      this.#books.end(index, "result");
      outcomes.push({ index, input: this.#inputOf(index), output: `${this.#inputOf(index)}!`, attempts: attemptsOf.get(index) ?? 1 });
    }
    for (const [index, attempts] of retried) check(attempts > 1 && attempts <= this.#plan.attemptsMax, `item ${index} was tried ${attempts} times`);
    for (const { index, attempts, made } of errors) {
      if (made === null) check(broughtErrors.has(index), `the error of item ${index} is stored and was not brought`);
      check(attempts <= this.#plan.attemptsMax + (made?.code === "TASK_MANAGER_LOST" ? 2 : 0), `item ${index} was tried ${attempts} times`);
      if (made?.code === "TASK_MANAGER_LOST" && !made.message.startsWith("given back")) {
        this.#seen.add("blamed");
        this.#books.checkBlame(index);
      }
      if (made?.code === "HOST_BLOCKED") this.#seen.add("host given up");
      this.#books.end(index, "error");
      const error = { code: made?.code ?? "DECODE_FAILED", stage: made?.stage ?? "run", message: made?.message ?? "as brought" } as const;
      outcomes.push({ index, input: this.#inputOf(index), error, attempts });
    }
    this.#batches.set(batch, outcomes);
    this.#journal?.append(batch, outcomes);
  }

  /** What the journal has to say, in its own time. */
  async #turn(): Promise<void> {
    const journal = this.#journal;
    if (journal === null) return;
    await journal.turn();
    const failure = journal.takeFailure();
    for (let batch = journal.takeStored(); batch !== undefined && !this.#killed; batch = journal.takeStored()) {
      for (const { index, error } of this.#batches.get(batch) ?? []) this.#acknowledged.set(index, error === undefined ? "result" : "error");
      this.#batches.delete(batch);
      this.#step({ kind: "stored", batch });
    }
    if (failure === null || this.#killed) return;
    this.#storeFailed = true;
    this.#seen.add("full");
    this.#step({ kind: "store-failed", ...failure });
  }

  // ---- the end ----

  async #checkEnd(): Promise<void> {
    const { items } = this.#nature;
    check(this.#batches.size === 0, "finished before all was stored");
    check(this.#books.endedCount === items.length, `${this.#books.endedCount} of ${items.length} items ended`);
    if (this.#journal === null) throw new Error("finished without a journal");
    const { winners, outcomes } = await this.#journal.lines(items.length);
    check(winners.count === items.length && outcomes.size === items.length, `${winners.count} of ${items.length} items have a line`);
    check(winners.duplicates === 0, `${winners.duplicates} lines are for items that had a result`);
    check(winners.foreign === 0, `${winners.foreign} lines are for items that are not in the list`);
    check(winners.damaged === 0 || this.#disk.holed, `${winners.damaged} lines are damaged`);
    for (const [index, { input, output }] of outcomes) {
      check(input === this.#inputOf(index), `item ${index} has the line of another`);
      if (output === undefined) continue;
      check(output === `${String(input)}!`, `item ${index} has the result of another`);
      const nature = items[index];
      check(!(nature?.broken === true || nature?.poison === true), `item ${index} has a result that it cannot have`);
    }
    const { taskManagers, launching } = this.#scheduler.counts;
    if (items.every(({ unreadable }) => unreadable)) check(taskManagers + launching === 0, "Task Managers were launched for nothing");
  }

  /** The same plan and the same events lead to the same commands. */
  #checkReplay(): void {
    const again = createScheduler(this.#plan);
    for (const { event, nowMs, commands } of this.#history) {
      check(digestOf(again.step(event, nowMs).commands) === digestOf(commands), `the same events lead to other commands at ${nowMs}: ${JSON.stringify(event)}`);
    }
  }
}

function bound(chance: Chance): { between(low: number, high: number): number; is(probability: number): boolean } {
  return { between: (low, high) => chance.between(low, high), is: (probability) => chance.is(probability) };
}

/** What would stop every run in the same way stops one only. */
function drawAgain(plan: SchedulerPlan): SchedulerPlan {
  return { ...plan, jobTimeoutMs: null, tolerate: { failedItemsPercent: 100, afterItems: 200 } };
}

function singlesOf(inputs: readonly string[]): ReadonlySet<string> {
  const counts = new Map<string, number>();
  for (const input of inputs) counts.set(input, (counts.get(input) ?? 0) + 1);
  return new Set([...counts].filter(([, count]) => count === 1).map(([input]) => input));
}
