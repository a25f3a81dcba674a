import type { Ranges } from "../../../task-manager/protocol.ts";
import { pushRange } from "../../scheduler/ranges.ts";
import { backOffMs, seededRandom } from "../../scheduler/random.ts";
import type { AssignmentId, Scheduler, SchedulerCommand, SchedulerCounts, SchedulerEvent, SchedulerPlan, StepResult, TaskManagerId } from "../../scheduler/types.ts";
import type { RuleJob } from "../rule.ts";

const scanMs = 250;

/** A split of fixed size, handed out whole. */
export interface Task {
  readonly first: number;
  readonly end: number;
  /** Its items that have ended, once it has been handed out. */
  done: Uint8Array | null;
  missing: number;
  /** Tries under way. */
  readonly attempts: Attempt[];
  copies: number;
}

export interface Attempt {
  readonly id: AssignmentId;
  readonly task: Task;
  readonly holder: Holder;
  readonly items: number;
  readonly startedMs: number;
  ended: number;
}

export interface Holder {
  readonly id: TaskManagerId;
  attempt: Attempt | null;
  heardMs: number;
  endsAtMs: number;
  /** Of what it was given, for rules that judge machines. */
  progress: number;
  joinedMs: number;
}

/** What a rule may know when it decides about copies. */
export interface View {
  readonly nowMs: number;
  readonly tasks: number;
  readonly tasksDone: number;
  /** Milliseconds from start to end of each task that is done. */
  readonly durationsMs: readonly number[];
  readonly running: ReadonlySet<Task>;
  readonly holders: Iterable<Holder>;
  readonly workers: number;
}

export interface SplitRule {
  /** How often it looks for what to copy. */
  readonly intervalMs: number;
  /** What this idle machine should copy; null: nothing. */
  copy(view: View, holder: Holder): Task | null;
}

/** Fixed splits in order, one at a time at a machine; what a lost one was missing is handed out again. */
export class SplitScheduler implements Scheduler {
  readonly #plan: SchedulerPlan;
  readonly #job: RuleJob;
  readonly #rule: SplitRule | null;
  readonly #splitItems: number;
  readonly #random: () => number;
  readonly #holders = new Map<TaskManagerId, Holder>();
  readonly #attempts = new Map<AssignmentId, Attempt>();
  readonly #idle = new Set<Holder>();
  readonly #again: Task[] = [];
  readonly #running = new Set<Task>();
  readonly #durationsMs: number[] = [];
  readonly #launching = new Set<TaskManagerId>();
  #commands: SchedulerCommand[] = [];
  #nextItem = 0;
  #nextAssignment = 1;
  #nextLaunch = 1;
  #nextBatch = 1;
  #unstored = 0;
  #allowance = 0;
  #reading = false;
  #launchFailures = 0;
  #launchAtMs = 0;
  #scanAtMs = 0;
  #lookAtMs = 0;
  #ended = 0;
  #failed = 0;
  #copied = 0;
  #losses = 0;
  #tasksDone = 0;
  #finished = false;

  constructor(plan: SchedulerPlan, job: RuleJob, splitItems: number, rule: SplitRule | null) {
    this.#plan = plan;
    this.#job = job;
    this.#rule = rule;
    this.#splitItems = splitItems;
    this.#random = seededRandom(plan.seed);
  }

  get counts(): SchedulerCounts {
    return {
      read: this.#job.items, succeeded: this.#ended - this.#failed, failed: this.#failed, reused: 0, retried: 0, copied: this.#copied, reclaimed: 0,
      running: 0, waiting: 0, setAside: 0, taskManagers: this.#holders.size, launching: this.#launching.size, losses: this.#losses, droppedReports: 0,
    };
  }

  step(event: SchedulerEvent, nowMs: number): StepResult {
    if (this.#finished) return { commands: [], wakeAtMs: null };
    this.#commands = [];
    this.#apply(event, nowMs);
    if (nowMs >= this.#scanAtMs) this.#scan(nowMs);
    this.#hand(nowMs);
    this.#launch(nowMs);
    this.#finishIfDone();
    return { commands: this.#commands, wakeAtMs: this.#wakeAtMs(nowMs) };
  }

  #wakeAtMs(nowMs: number): number | null {
    if (this.#finished) return null;
    const looks = this.#rule !== null && this.#idle.size > 0 && this.#running.size > 0 ? this.#lookAtMs : Infinity;
    return Math.max(nowMs, Math.min(this.#scanAtMs, looks));
  }

  #apply(event: SchedulerEvent, nowMs: number): void {
    switch (event.kind) {
      case "allowance-changed":
        this.#allowance = event.taskManagers;
        if (!this.#reading) this.#commands.push({ kind: "read", count: this.#job.items });
        this.#reading = true;
        return;
      case "task-manager-joined": {
        this.#launching.delete(event.id);
        const endsAtMs = event.endsAtMs ?? Infinity;
        const holder: Holder = { id: event.id, attempt: null, heardMs: nowMs, endsAtMs, progress: 0, joinedMs: nowMs };
        this.#holders.set(event.id, holder);
        this.#idle.add(holder);
        return;
      }
      case "launch-ended":
        this.#launching.delete(event.id);
        // Of those refused together one counts.
        if (nowMs >= this.#launchAtMs) this.#launchAtMs = nowMs + backOffMs(this.#launchFailures++, 200, 30_000, this.#random);
        return;
      case "task-manager-lost": {
        this.#launching.delete(event.id);
        const holder = this.#holders.get(event.id);
        if (holder !== undefined) this.#lose(holder);
        return;
      }
      case "items-begun":
      case "heartbeat":
      case "task-manager-idle":
      case "items-returned":
        return this.#heard(event.id, nowMs);
      case "items-ended":
        this.#heard(event.id, nowMs);
        return this.#itemsEnded(event, nowMs);
      case "stored":
        this.#unstored -= 1;
        return;
      default:
        return;
    }
  }

  #heard(id: TaskManagerId, nowMs: number): void {
    const holder = this.#holders.get(id);
    if (holder !== undefined) holder.heardMs = nowMs;
  }

  #itemsEnded({ assignment, results, errors }: Extract<SchedulerEvent, { kind: "items-ended" }>, nowMs: number): void {
    const attempt = this.#attempts.get(assignment);
    if (attempt === undefined) return;
    const { task } = attempt;
    const fresh: number[] = [];
    const end = (index: number, failed: boolean): void => {
      attempt.ended += 1;
      attempt.holder.progress += 1;
      if (task.done === null || task.done[index - task.first] === 1) return;
      task.done[index - task.first] = 1;
      task.missing -= 1;
      this.#ended += 1;
      if (failed) this.#failed += 1;
      else pushRange(fresh, index, index + 1);
    };
    for (let pair = 0; pair < results.length; pair += 2) for (let index = results[pair] ?? 0; index < (results[pair + 1] ?? 0); index++) end(index, false);
    for (const { index } of errors) end(index, true);
    const storedErrors = errors.map(({ index }) => ({ index, attempts: 1, made: null }));
    this.#commands.push({ kind: "store", batch: this.#nextBatch++, results: fresh, retried: [], errors: storedErrors });
    this.#unstored += 1;
    if (attempt.ended === attempt.items) this.#close(attempt);
    if (task.missing === 0 && this.#running.has(task)) this.#taskDone(task, attempt, nowMs);
  }

  #taskDone(task: Task, winner: Attempt, nowMs: number): void {
    this.#running.delete(task);
    this.#tasksDone += 1;
    this.#durationsMs.push(nowMs - winner.startedMs);
    task.done = null;
    // Where nothing can be told to a holder, the loser runs to its end and its slot is taken until then.
    if (!this.#plan.supports.cancel) return;
    for (const attempt of [...task.attempts]) {
      this.#commands.push({ kind: "cancel", id: attempt.holder.id, assignment: attempt.id });
      this.#close(attempt);
    }
  }

  #close(attempt: Attempt): void {
    const { holder, task } = attempt;
    this.#attempts.delete(attempt.id);
    task.attempts.splice(task.attempts.indexOf(attempt), 1);
    holder.attempt = null;
    this.#idle.add(holder);
  }

  #lose(holder: Holder): void {
    const { attempt } = holder;
    this.#holders.delete(holder.id);
    this.#losses += 1;
    if (attempt !== null) {
      this.#close(attempt);
      const { task } = attempt;
      if (task.missing > 0 && task.attempts.length === 0) this.#again.push(task);
    }
    this.#idle.delete(holder);
  }

  /** Those who have said nothing for too long are lost. */
  #scan(nowMs: number): void {
    this.#scanAtMs = nowMs + scanMs;
    if (!this.#plan.heartbeats) return;
    for (const holder of [...this.#holders.values()]) {
      if (nowMs - holder.heardMs <= this.#plan.heartbeatTimeoutMs) continue;
      this.#commands.push({ kind: "release", id: holder.id, how: "kill" });
      this.#lose(holder);
    }
  }

  #hand(nowMs: number): void {
    for (const holder of this.#idle) {
      const task = this.#nextTask();
      if (task === null) break;
      this.#give(holder, task, nowMs);
    }
    if (this.#rule === null || this.#idle.size === 0 || this.#running.size === 0 || nowMs < this.#lookAtMs) return;
    this.#lookAtMs = nowMs + this.#rule.intervalMs;
    for (const holder of this.#idle) {
      const task = this.#rule.copy(this.#view(nowMs), holder);
      if (task === null) continue;
      task.copies += 1;
      this.#copied += task.end - task.first;
      this.#give(holder, task, nowMs);
    }
  }

  #view(nowMs: number): View {
    return {
      nowMs,
      tasks: Math.ceil(this.#job.items / this.#splitItems),
      tasksDone: this.#tasksDone,
      durationsMs: this.#durationsMs,
      running: this.#running,
      holders: this.#holders.values(),
      workers: this.#job.taskManagers,
    };
  }

  #nextTask(): Task | null {
    const again = this.#again.shift();
    if (again !== undefined) return again;
    if (this.#nextItem >= this.#job.items) return null;
    const first = this.#nextItem;
    const end = Math.min(this.#job.items, first + this.#splitItems);
    this.#nextItem = end;
    return { first, end, done: null, missing: end - first, attempts: [], copies: 0 };
  }

  #give(holder: Holder, task: Task, nowMs: number): void {
    // A copy is of the whole task; what a lost machine had delivered stays delivered.
    const items = task.attempts.length > 0 ? [task.first, task.end] : this.#missingOf(task);
    const count = task.attempts.length > 0 ? task.end - task.first : task.missing;
    const attempt: Attempt = { id: this.#nextAssignment++, task, holder, items: count, startedMs: nowMs, ended: 0 };
    task.done ??= new Uint8Array(task.end - task.first);
    task.attempts.push(attempt);
    holder.attempt = attempt;
    this.#idle.delete(holder);
    this.#running.add(task);
    this.#attempts.set(attempt.id, attempt);
    this.#commands.push({ kind: "assign", id: holder.id, assignment: attempt.id, items, notAfterMs: null, reversed: false });
  }

  #missingOf({ first, end, done }: Task): Ranges {
    if (done === null) return [first, end];
    const ranges: number[] = [];
    for (let index = first; index < end; index++) if (done[index - first] === 0) pushRange(ranges, index, index + 1);
    return ranges;
  }

  #launch(nowMs: number): void {
    const wanted = this.#allowance - this.#holders.size - this.#launching.size;
    if (wanted <= 0 || nowMs < this.#launchAtMs || this.#ended === this.#job.items) return;
    const ids: TaskManagerId[] = [];
    for (; ids.length < wanted; this.#nextLaunch++) {
      this.#launching.add(this.#nextLaunch);
      ids.push(this.#nextLaunch);
    }
    this.#commands.push({ kind: "launch", ids });
  }

  #finishIfDone(): void {
    if (this.#ended < this.#job.items || this.#unstored > 0) return;
    this.#finished = true;
    for (const id of [...this.#holders.keys(), ...this.#launching]) this.#commands.push({ kind: "release", id, how: "keep" });
    this.#commands.push({ kind: "finish", state: "completed", reason: null, message: "" });
  }
}
