import type { Ranges } from "../../task-manager/protocol.ts";
import { Assigner } from "./assigner.ts";
import { Remainder, type Assignment } from "./assignment.ts";
import { Deadlines } from "./deadlines.ts";
import { Fleet, type TaskManager } from "./fleet.ts";
import type { Group, History } from "./groups.ts";
import { Hosts } from "./hosts.ts";
import { Intake } from "./intake.ts";
import { Launcher } from "./launcher.ts";
import { Outcomes } from "./outcomes.ts";
import { lossesAloneMax, Quarantine } from "./quarantine.ts";
import { backOffMs, seededRandom } from "./random.ts";
import { countOf, indexesOf } from "./ranges.ts";
import type {
  AssignmentId,
  FinishState,
  HostNumber,
  LossCause,
  Scheduler,
  SchedulerCommand,
  SchedulerCounts,
  SchedulerEvent,
  SchedulerPlan,
  StepResult,
  StopReason,
  StoredError,
  TaskManagerId,
} from "./types.ts";
import { Waiting } from "./waiting.ts";

const retryFirstMs = 200;
const retryMaxMs = 30_000;
/** Times that an item may come back while its Task Manager ends nothing at all. */
const returnsMax = 20;
/** The first of them in a group, the others alone. */
const memoryReturnsMax = 4;
/** Heartbeats in a row without an assignment that should be there. */
const heartbeatsWithoutMax = 2;
const refusalsMax = 3;
/** From the request to stop to the end of what runs, when the job has run out of time. */
const stopGraceMs = 10_000;

type EventOf<Kind extends SchedulerEvent["kind"]> = Extract<SchedulerEvent, { kind: Kind }>;

type Deadline =
  | { readonly kind: "task-manager"; readonly taskManager: TaskManager; readonly timeMs: number }
  | { readonly kind: "back-off"; readonly group: Group }
  | { readonly kind: "host"; readonly host: HostNumber };

interface Stopping {
  readonly reason: StopReason;
  readonly message: string;
  readonly how: "drain" | "now";
}

/** Decides what one job does next. No clock, no I/O, no chance but the plan's seed: same events, same commands. */
export function createScheduler(plan: SchedulerPlan): Scheduler {
  return new StateMachine(plan);
}

class StateMachine implements Scheduler {
  readonly #plan: SchedulerPlan;
  readonly #random: () => number;
  readonly #fleet: Fleet;
  readonly #launcher: Launcher;
  readonly #hosts: Hosts;
  readonly #quarantine = new Quarantine();
  readonly #waiting: Waiting;
  readonly #intake = new Intake();
  readonly #assigner: Assigner;
  readonly #outcomes = new Outcomes();
  readonly #deadlines = new Deadlines<Deadline>();
  #nowMs = -Infinity;
  #startedMs: number | null = null;
  #wakeAtMs: number | null = null;
  /** Silence counts from here on: before, it was the orchestrator that slept. */
  #awakeSinceMs = -Infinity;
  #retried = 0;
  #losses = 0;
  #droppedReports = 0;
  #stopping: Stopping | null = null;
  #graceEndsMs: number | null = null;
  #finished = false;
  /** Releases and cancels of this step. */
  #partings: SchedulerCommand[] = [];

  constructor(plan: SchedulerPlan) {
    this.#plan = plan;
    this.#random = seededRandom(plan.seed);
    this.#fleet = new Fleet({ prefetch: plan.supports.prefetch, assignmentsMax: plan.assignmentsPerTaskManagerMax });
    this.#launcher = new Launcher(this.#random);
    this.#hosts = new Hosts({
      hostBlockedMs: plan.hostBlockedMs,
      wake: (timeMs, host) => this.#deadlines.add(timeMs, { kind: "host", host }),
      release: (group) => this.#waiting.release(group),
    });
    this.#waiting = new Waiting(this.#hosts, this.#quarantine);
    this.#assigner = new Assigner(plan.sizing, {
      fleet: this.#fleet,
      launcher: this.#launcher,
      waiting: this.#waiting,
      quarantine: this.#quarantine,
      intake: this.#intake,
      watch: (member) => this.#watch(member),
    });
  }

  step(event: SchedulerEvent, nowMs: number): StepResult {
    if (this.#finished) return { commands: [], wakeAtMs: null };
    this.#passTo(nowMs);
    this.#apply(event, this.#nowMs);
    this.#meetDeadlines(this.#nowMs);
    const commands = this.#settle(this.#nowMs);
    this.#wakeAtMs = this.#nextDeadlineMs();
    return { commands, wakeAtMs: this.#wakeAtMs };
  }

  get counts(): SchedulerCounts {
    const { succeeded, failed, reused } = this.#outcomes;
    return {
      read: this.#intake.read,
      succeeded,
      failed,
      reused,
      retried: this.#retried,
      copied: 0,
      reclaimed: 0,
      running: this.#assigner.running,
      waiting: this.#waiting.ready + this.#quarantine.waitingItems,
      setAside: this.#waiting.setAside,
      taskManagers: this.#fleet.size,
      launching: this.#launcher.launching,
      losses: this.#losses,
      droppedReports: this.#droppedReports,
    };
  }

  // ---- time ----

  #passTo(nowMs: number): void {
    const late = this.#wakeAtMs === null ? 0 : nowMs - this.#wakeAtMs;
    if (late > this.#plan.heartbeatTimeoutMs / 2) this.#awakeSinceMs = nowMs;
    this.#nowMs = Math.max(this.#nowMs, nowMs);
    this.#startedMs ??= nowMs;
  }

  #meetDeadlines(nowMs: number): void {
    for (let due = this.#deadlines.takeDue(nowMs); due !== undefined; due = this.#deadlines.takeDue(nowMs)) {
      switch (due.kind) {
        case "task-manager":
          this.#checkTaskManager(due.taskManager, due.timeMs, nowMs);
          break;
        case "back-off":
          this.#waiting.backOffOver(due.group);
          break;
        case "host":
          for (const group of this.#hosts.due(due.host, nowMs)) this.#endAsHostBlocked(group);
      }
    }
    if (nowMs >= this.#jobEndsMs()) {
      const message = `timeouts.jobMs (${this.#plan.jobTimeoutMs} ms) has passed`;
      if (this.#stopping === null) {
        this.#stop({ reason: "job-timeout", how: "drain", message });
        this.#graceEndsMs = nowMs + stopGraceMs;
      }
    }
    if (this.#stopping !== null && this.#graceEndsMs !== null && nowMs >= this.#graceEndsMs) {
      this.#graceEndsMs = null;
      this.#stop({ ...this.#stopping, how: "now" });
    }
  }

  #jobEndsMs(): number {
    const { jobTimeoutMs } = this.#plan;
    return jobTimeoutMs === null || this.#stopping !== null ? Infinity : (this.#startedMs ?? 0) + jobTimeoutMs;
  }

  #nextDeadlineMs(): number | null {
    if (this.#finished) return null;
    const launchMs = this.#wantsLaunch() ? (this.#launcher.retryAtMs(this.#nowMs) ?? Infinity) : Infinity;
    const nextMs = Math.min(this.#deadlines.nextMs ?? Infinity, this.#jobEndsMs(), this.#graceEndsMs ?? Infinity, launchMs);
    return nextMs === Infinity ? null : nextMs;
  }

  /** Adds a deadline of a Task Manager where the one that it has is too late. */
  #watch(member: TaskManager): void {
    const { timeMs } = this.#limitOf(member);
    if (timeMs >= member.wakeMs) return;
    member.wakeMs = timeMs;
    this.#deadlines.add(timeMs, { kind: "task-manager", taskManager: member, timeMs });
  }

  #checkTaskManager(member: TaskManager, timeMs: number, nowMs: number): void {
    if (member.wakeMs !== timeMs || this.#fleet.get(member.id) !== member) return;
    member.wakeMs = Infinity;
    const limit = this.#limitOf(member);
    if (limit.timeMs > nowMs) return this.#watch(member);
    this.#release(member.id, "kill");
    this.#lose(member, { exitCode: null, signal: null, message: limit.message }, nowMs);
  }

  /** What a Task Manager may not outlast, whichever comes first. */
  #limitOf(member: TaskManager): { readonly timeMs: number; readonly message: string } {
    const { heartbeats, heartbeatTimeoutMs, taskManagerTimeoutMs, splitTimeoutMs } = this.#plan;
    const [oldest] = member.assignments;
    const silentMs = heartbeats ? Math.max(member.heardMs, this.#awakeSinceMs) + heartbeatTimeoutMs : Infinity;
    const stuckMs = taskManagerTimeoutMs === null || oldest === undefined ? Infinity : member.progressMs + taskManagerTimeoutMs;
    const splitMs = splitTimeoutMs === null || oldest === undefined ? Infinity : (oldest.runningSinceMs ?? oldest.givenMs) + splitTimeoutMs;
    const timeMs = Math.min(silentMs, stuckMs, splitMs);
    if (timeMs === silentMs) return { timeMs, message: `no heartbeat for ${heartbeatTimeoutMs / 1000} s` };
    if (timeMs === stuckMs) return { timeMs, message: `held items and ended none for timeouts.taskManagerMs (${taskManagerTimeoutMs} ms)` };
    return { timeMs, message: `an assignment lasted longer than timeouts.splitMs (${splitTimeoutMs} ms)` };
  }

  // ---- events ----

  #apply(event: SchedulerEvent, nowMs: number): void {
    switch (event.kind) {
      case "items-read":
        return this.#itemsRead(event);
      case "input-ended":
        return this.#intake.end();
      case "input-failed":
        this.#intake.fail();
        return this.#stop({ reason: "input", how: "drain", message: event.message });
      case "quarantine-restored":
        if (this.#intake.read > 0) this.#refuse(event, "the quarantine must be restored before items are read");
        return this.#quarantine.restore(indexesOf(event.items), event.losses);
      case "allowance-changed":
        this.#launcher.allowance = event.taskManagers;
        return this.#shrinkTo(event.taskManagers);
      case "task-manager-joined":
        return this.#joined(event, nowMs);
      case "task-manager-lost":
        return this.#lost(event, nowMs);
      case "task-manager-idle":
        return void this.#heard(event, nowMs);
      case "launch-ended":
        return this.#launcher.ended(event.id, event.reason, event.message, nowMs);
      case "items-begun":
        return this.#itemsBegun(event, nowMs);
      case "items-ended":
        return this.#itemsEnded(event, nowMs);
      case "items-returned":
        return this.#itemsReturned(event, nowMs);
      case "items-sized":
        return void this.#heard(event, nowMs);
      case "heartbeat":
        return this.#heartbeat(event, nowMs);
      case "assignment-refused":
        return this.#assignmentRefused(event, nowMs);
      case "host-blocked":
        return this.#hosts.block(event.host, event.untilMs, nowMs);
      case "host-free":
        return this.#hosts.free(event.host);
      case "host-paced":
        return this.#hosts.pace(event.host, event.itemsPerSecond, nowMs);
      case "stored":
        return this.#outcomes.stored(event.batch);
      case "store-failed":
        this.#stop({ reason: "disk", how: "now", message: event.message });
        this.#outcomes.giveUp();
        return;
      case "stop":
        return this.#stop(event);
      case "clock":
        return;
    }
  }

  #itemsRead(event: EventOf<"items-read">): void {
    const { first, done, failedDone, errors = [] } = event;
    const expected = this.#intake.read;
    if (first !== expected) this.#refuse(event, `items were read from ${first} on, expected from ${expected} on`);
    if (this.#intake.ended) this.#refuse(event, "items were read after the input had ended");
    eachRange(done, (from, end) => this.#outcomes.reuse(from, end));
    this.#outcomes.reuseFailed(failedDone);
    for (const { index } of errors) this.#outcomes.error({ index, attempts: 0, made: null });
    this.#waiting.addRead(this.#intake.take(event));
  }

  #joined({ id, room, lanes }: EventOf<"task-manager-joined">, nowMs: number): void {
    // One that was given up on while it started comes after all.
    if (!this.#launcher.isLaunching(id) && this.#launcher.isKnown(id) && this.#fleet.get(id) === undefined) return this.#release(id, "kill");
    this.#launcher.joined(id, nowMs);
    if (this.#stopping !== null) return this.#release(id, this.#stopping.how === "now" ? "kill" : "keep");
    this.#watch(this.#fleet.join(id, room, lanes, nowMs));
  }

  #lost({ id, cause }: EventOf<"task-manager-lost">, nowMs: number): void {
    const member = this.#fleet.get(id);
    if (member !== undefined) return this.#lose(member, cause, nowMs);
    if (this.#launcher.isLaunching(id)) return this.#launcher.ended(id, "died", cause.message, nowMs);
    if (!this.#launcher.isKnown(id)) throw new Error(`Task Manager ${id} was lost and was never launched`);
  }

  #itemsBegun(event: EventOf<"items-begun">, nowMs: number): void {
    const assignment = this.#assignmentOf(event, nowMs);
    if (assignment === undefined) return this.#drop(countOf(event.items));
    let known = 0;
    eachRange(event.items, (first, end) => (known += assignment.begin(first, end)));
    this.#drop(countOf(event.items) - known);
    const member = this.#fleet.get(event.id);
    if (known > 0 && member !== undefined) this.#fleet.prove(member);
  }

  #itemsEnded(event: EventOf<"items-ended">, nowMs: number): void {
    const assignment = this.#assignmentOf(event, nowMs);
    const member = this.#fleet.get(event.id);
    const reported = countOf(event.results) + event.errors.length;
    if (assignment === undefined || member === undefined) return this.#drop(reported);
    let items = 0;
    let weight = 0;
    eachRange(event.results, (first, end) => {
      items += assignment.take(first, end, (from, to, ordinal, history) => {
        weight += assignment.weightOf(ordinal, to - from);
        this.#outcomes.result(from, to, history.attempts + 1);
        if (this.#hosts.any) for (let at = 0; at < to - from; at++) this.#hosts.ended(assignment.hostAt(ordinal + at), from + at, true, nowMs);
        if (this.#quarantine.any) for (let index = from; index < to; index++) this.#quarantine.clear(index);
      });
    });
    const again = new Remainder(assignment);
    for (const { index, retryable } of [...event.errors].sort((a, b) => a.index - b.index)) {
      items += assignment.take(index, index + 1, (first, end, ordinal, history) => {
        weight += assignment.weightOf(ordinal, 1);
        this.#quarantine.clear(index);
        if (retryable && history.attempts + 1 < this.#plan.attemptsMax) again.add(first, end, ordinal, history);
        else this.#outcomes.error({ index, attempts: history.attempts + 1, made: null });
        this.#hosts.ended(assignment.hostAt(ordinal), index, !retryable, nowMs);
      });
    }
    this.#drop(reported - items);
    if (items === 0) return;
    this.#assigner.running -= items;
    this.#fleet.ended(member, items, weight, nowMs);
    this.#launcher.itemsEnded();
    this.#retry(again.groups(), member.id, nowMs);
    this.#completeIfDone(member, assignment, nowMs);
  }

  #itemsReturned(event: EventOf<"items-returned">, nowMs: number): void {
    const assignment = this.#assignmentOf(event, nowMs);
    const member = this.#fleet.get(event.id);
    if (assignment === undefined || member === undefined) return this.#drop(countOf(event.items));
    const returned = new Remainder(assignment);
    let items = 0;
    eachRange(event.items, (first, end) => {
      items += assignment.take(first, end, (from, to, ordinal, history) => returned.add(from, to, ordinal, history));
    });
    this.#drop(countOf(event.items) - items);
    this.#assigner.running -= items;
    const asked = member.draining || event.cause === "RECLAIMED";
    const idle = !asked && member.itemsEnded === assignment.holderEnded;
    for (const group of returned.groups()) this.#takeBack(group, event.cause, idle, nowMs);
    this.#completeIfDone(member, assignment, nowMs);
  }

  #takeBack(group: Group, cause: EventOf<"items-returned">["cause"], idle: boolean, nowMs: number): void {
    switch (cause) {
      case "MEMORY": {
        const memoryReturns = group.history.memoryReturns + 1;
        const message = `does not fit into the memory of a Task Manager, not even alone (given back ${memoryReturns} times)`;
        if (memoryReturns > memoryReturnsMax) return this.#endAll(group, { code: "INPUT_TOO_LARGE", stage: "run", message }, nowMs);
        return this.#waiting.release({ ...group, history: { ...group.history, memoryReturns } });
      }
      case "HOST_BUSY": {
        const rest = this.#hosts.returned(group, nowMs);
        if (rest !== null) this.#takeBackLater(rest, cause, nowMs);
        return;
      }
      case "DRAIN":
      case "DEADLINE":
      case "RECLAIMED":
      case "RESTART":
        if (idle) return this.#takeBackLater(group, cause, nowMs);
        return this.#waiting.release(group);
    }
  }

  /** Nothing came of it: wait a little, and not for ever. */
  #takeBackLater(group: Group, cause: string, nowMs: number): void {
    const returns = group.history.returns + 1;
    const message = `given back ${returns} times by Task Managers that ended nothing meanwhile, the last time for ${cause}`;
    if (returns > returnsMax) return this.#endAll(group, { code: "TASK_MANAGER_LOST", stage: "run", message }, nowMs);
    this.#backOff({ ...group, history: { ...group.history, returns } }, returns - 1, nowMs);
  }

  #heartbeat({ id, held }: EventOf<"heartbeat">, nowMs: number): void {
    const member = this.#heard({ id }, nowMs);
    if (member === undefined) return;
    const beforeMs = member.heartbeatMs ?? -Infinity;
    member.heartbeatMs = nowMs;
    for (const assignment of [...member.assignments]) {
      if (held.some((each) => each.assignment === assignment.id)) assignment.heartbeatsWithout = 0;
      // One given since the heartbeat before may have crossed this one on its way.
      else if (assignment.givenMs < beforeMs) assignment.heartbeatsWithout += 1;
      if (assignment.heartbeatsWithout < heartbeatsWithoutMax) continue;
      this.#takeAway(member, assignment, nowMs, (group) => this.#takeBackLater(group, "a heartbeat that did not name it", nowMs));
    }
  }

  #assignmentRefused(event: EventOf<"assignment-refused">, nowMs: number): void {
    const assignment = this.#assignmentOf(event, nowMs);
    const member = this.#fleet.get(event.id);
    if (assignment === undefined || member === undefined) return this.#drop(1);
    this.#takeAway(member, assignment, nowMs, ({ history, ...group }) =>
      this.#takeBackLater({ ...group, history: { ...history, avoid: member.id } }, `a refusal: ${event.message}`, nowMs),
    );
    member.refusals += 1;
    if (member.refusals < refusalsMax) return;
    this.#launcher.barren(event.message, true, nowMs);
    this.#drain(member);
  }

  // ---- items ----

  #retry(groups: readonly Group[], avoid: TaskManagerId, nowMs: number): void {
    for (const group of groups) {
      const history: History = { ...group.history, attempts: group.history.attempts + 1, avoid };
      if (group.history.attempts === 0) this.#retried += group.count;
      this.#backOff({ ...group, history }, history.attempts - 1, nowMs);
    }
  }

  #backOff(group: Group, failures: number, nowMs: number): void {
    this.#waiting.backOff(group);
    this.#deadlines.add(nowMs + backOffMs(failures, retryFirstMs, retryMaxMs, this.#random), { kind: "back-off", group });
  }

  #endAsHostBlocked(group: Group): void {
    const message = `the host answered no request for ${this.#plan.hostBlockedMs / 1000} s but asked to be left alone (download.hostBlockedMs)`;
    for (const index of indexesOf(group.ranges)) {
      this.#quarantine.clear(index);
      this.#outcomes.error({ index, attempts: group.history.attempts, made: { code: "HOST_BLOCKED", stage: "run", message } });
    }
  }

  #endAll(group: Group, made: NonNullable<StoredError["made"]>, nowMs: number): void {
    let ordinal = 0;
    for (const index of indexesOf(group.ranges)) {
      this.#quarantine.clear(index);
      this.#outcomes.error({ index, attempts: group.history.attempts, made });
      this.#hosts.ended(group.hosts?.[ordinal++] ?? 0, index, false, nowMs);
    }
  }

  // ---- Task Managers ----

  #heard({ id }: { readonly id: TaskManagerId }, nowMs: number): TaskManager | undefined {
    const member = this.#fleet.get(id);
    if (member !== undefined) member.heardMs = nowMs;
    else if (!this.#launcher.isKnown(id)) throw new Error(`Task Manager ${id} reported and was never launched`);
    return member;
  }

  /** The assignment that a report speaks of, if it is the sender's. */
  #assignmentOf(report: { readonly id: TaskManagerId; readonly assignment: AssignmentId }, nowMs: number): Assignment | undefined {
    const member = this.#heard(report, nowMs);
    return member === undefined ? undefined : this.#assigner.get(report.assignment, member.id);
  }

  #drop(reports: number): void {
    this.#droppedReports += Math.max(0, reports);
  }

  #completeIfDone(member: TaskManager, assignment: Assignment, nowMs: number): void {
    if (assignment.missing > 0) return;
    this.#assigner.close(member, assignment, nowMs);
    if (this.#fleet.isSpent(member) && member.assignments.length === 0) this.#drain(member);
    else this.#watch(member);
  }

  /** Takes back what is missing although its holder is alive; no suspicion falls on what was begun. */
  #takeAway(member: TaskManager, assignment: Assignment, nowMs: number, back: (group: Group) => void): void {
    const { begun, unbegun } = assignment.takeAll();
    for (const group of [...begun, ...unbegun]) {
      this.#assigner.running -= group.count;
      back(group);
    }
    this.#completeIfDone(member, assignment, nowMs);
  }

  #lose(member: TaskManager, cause: LossCause, nowMs: number): void {
    let suspects = 0;
    for (const assignment of [...member.assignments]) {
      const alone = assignment.exclusive && assignment.count === 1 && !member.draining;
      const { begun, unbegun } = assignment.takeAll();
      for (const group of unbegun) this.#waiting.release(this.#withoutRunning(group));
      for (const group of begun) {
        suspects += group.count;
        if (alone) this.#lostAlone(this.#withoutRunning(group), cause, nowMs);
        else this.#quarantine.suspect(this.#withoutRunning(group), assignment.exclusive ? Math.ceil(group.count / 2) : Infinity);
      }
      this.#assigner.close(member, assignment, nowMs);
    }
    if (!member.draining) {
      this.#losses += 1;
      if (suspects === 0 && member.itemsEnded === 0) this.#launcher.barren(cause.message, member.given > 0, nowMs);
    }
    this.#fleet.remove(member);
  }

  #withoutRunning(group: Group): Group {
    this.#assigner.running -= group.count;
    return group;
  }

  /** It took its Task Manager with it while nothing else was there. */
  #lostAlone(group: Group, cause: LossCause, nowMs: number): void {
    for (const index of indexesOf(group.ranges)) {
      const losses = this.#quarantine.lostAlone(index);
      if (losses < lossesAloneMax) {
        this.#quarantine.suspect(group, 1);
        continue;
      }
      const history = { ...group.history, attempts: group.history.attempts + losses };
      this.#endAll({ ...group, history }, { code: "TASK_MANAGER_LOST", stage: "run", message: lossMessage(cause, losses) }, nowMs);
    }
  }

  #shrinkTo(allowance: number): void {
    let excess = this.#fleet.size + this.#launcher.launching - allowance;
    for (const member of this.#fleet.all()) if (member.draining) excess -= 1;
    for (; excess > 0; excess--) {
      const launch = this.#launcher.abandonOne();
      if (launch === null) break;
      this.#release(launch, "kill");
    }
    if (excess <= 0) return;
    // Those with the least to give back; of equal ones the youngest.
    const live = [...this.#fleet.all()].filter(({ draining }) => !draining);
    live.sort((a, b) => a.assignments.length - b.assignments.length || b.id - a.id);
    for (const member of live.slice(0, excess)) this.#drain(member);
  }

  #drain(member: TaskManager): void {
    if (member.draining) return;
    this.#fleet.drain(member);
    this.#release(member.id, "drain");
  }

  #release(id: TaskManagerId, how: "keep" | "drain" | "kill"): void {
    this.#partings.push({ kind: "release", id, how });
  }

  // ---- stopping ----

  /** The first reason stays; `now` may follow `drain`. */
  #stop({ reason, message, how }: Stopping): void {
    if (this.#stopping?.how === "now" || (this.#stopping !== null && how === "drain")) return;
    this.#stopping = this.#stopping === null ? { reason, message, how } : { ...this.#stopping, how };
    if (how === "now") return this.#killAll();
    for (const member of this.#fleet.all()) if (member.assignments.length > 0) this.#drain(member);
  }

  #killAll(): void {
    for (let id = this.#launcher.abandonOne(); id !== null; id = this.#launcher.abandonOne()) this.#release(id, "kill");
    for (const member of [...this.#fleet.all()]) {
      for (const assignment of [...member.assignments]) {
        const { begun, unbegun } = assignment.takeAll();
        for (const group of [...begun, ...unbegun]) this.#waiting.release(this.#withoutRunning(group));
        this.#assigner.close(member, assignment, this.#nowMs);
      }
      this.#fleet.remove(member);
      this.#release(member.id, "kill");
    }
  }

  // ---- what is now possible ----

  #settle(nowMs: number): readonly SchedulerCommand[] {
    this.#stopIfTooManyFailed();
    this.#stopIfNobodyCanWork();
    const assigns = this.#stopping === null ? this.#assigner.assign(nowMs) : [];
    const launch = this.#launch(nowMs);
    const read = this.#more();
    const store = this.#outcomes.takeStore();
    const note = this.#quarantine.note();
    const commands: SchedulerCommand[] = [];
    if (store !== null) commands.push(store);
    if (note !== null) commands.push(note);
    commands.push(...this.#partings);
    if (launch.length > 0) commands.push({ kind: "launch", ids: launch });
    commands.push(...assigns);
    if (read > 0) commands.push({ kind: "read", count: read });
    this.#partings = [];
    const state = this.#endState();
    if (state !== null) commands.push(...this.#finish(state));
    return commands;
  }

  #stopIfTooManyFailed(): void {
    if (this.#stopping !== null) return;
    const { failedItemsPercent, afterItems } = this.#plan.tolerate;
    const { failed, ended } = this.#outcomes;
    if (ended < afterItems || failed * 100 <= failedItemsPercent * ended || this.#allEnded()) return;
    const percent = ((failed * 100) / ended).toFixed(1);
    const message = `${failed} of ${ended} items ended as errors (${percent} %), more than tolerate.failedItemsPercent (${failedItemsPercent} %)`;
    this.#stop({ reason: "tolerance", how: "drain", message });
  }

  #stopIfNobodyCanWork(): void {
    if (this.#stopping !== null || this.#waiting.all === 0) return;
    const hopeless = this.#fleet.proven > 0 ? null : this.#launcher.hopeless(this.#fleet.live);
    if (hopeless !== null) return this.#stop({ reason: "backend", how: "now", message: hopeless });
    const { unavailable } = this.#launcher;
    const obtainable = this.#fleet.live + this.#launcher.launching;
    const needed = Math.max(1, this.#plan.taskManagersMin);
    if (unavailable === null || obtainable >= needed) return;
    const message = obtainable === 0 && needed === 1 ? unavailable : `${obtainable} Task Managers are left of at least ${needed} (resources.minTaskManagers): ${unavailable}`;
    this.#stop({ reason: "backend", how: "drain", message });
  }

  #allEnded(): boolean {
    return this.#intake.ended && this.#outcomes.ended === this.#intake.read;
  }

  #endState(): FinishState | null {
    if (this.#outcomes.unstored > 0) return null;
    if (this.#allEnded()) return "completed";
    return this.#stopping !== null && this.#assigner.running === 0 ? "stopped" : null;
  }

  #finish(state: FinishState): readonly SchedulerCommand[] {
    this.#finished = true;
    for (const { id, draining } of this.#fleet.all()) if (!draining) this.#release(id, "keep");
    for (const id of this.#launcher.ids) this.#release(id, "keep");
    const stopping = state === "stopped" ? this.#stopping : null;
    return [...this.#partings, { kind: "finish", state, reason: stopping?.reason ?? null, message: stopping?.message ?? "" }];
  }

  // ---- launching and reading ----

  #wantsLaunch(): boolean {
    return this.#launchCount(this.#nowMs) > 0;
  }

  #launch(nowMs: number): readonly TaskManagerId[] {
    const count = this.#launchCount(nowMs);
    return count > 0 ? this.#launcher.launch(count, nowMs) : [];
  }

  /** As many more as are allowed and can have something to do. */
  #launchCount(nowMs: number): number {
    if (this.#stopping !== null || this.#waiting.all === 0 || this.#launcher.unavailable !== null) return 0;
    const allowed = Math.min(this.#launcher.allowance, this.#plan.taskManagersMax) - this.#fleet.size - this.#launcher.launching;
    if (allowed <= 0 || this.#isNearlyDone(nowMs)) return 0;
    const items = this.#waiting.all + this.#intake.remaining - this.#fleet.bound;
    const useful = Math.ceil(items / (this.#assigner.fixedItems ?? this.#fleet.lanes)) - this.#fleet.idle - this.#launcher.launching;
    return Math.min(allowed, useful);
  }

  /** Those that work will have done it all before another one could start. */
  #isNearlyDone(nowMs: number): boolean {
    const { launchMs } = this.#launcher;
    const meanMs = this.#fleet.meanMs(nowMs);
    if (this.#assigner.fixedItems !== null || launchMs === null || meanMs === null || this.#fleet.live === 0) return false;
    return (this.#assigner.restWeight * meanMs) / this.#fleet.live < launchMs;
  }

  #more(): number {
    if (this.#stopping !== null) return 0;
    const taskManagers = this.#fleet.live + this.#launcher.launching;
    return this.#intake.more(2 * taskManagers * this.#assigner.typicalItems, this.#waiting);
  }

  /** A mistake of the caller: the event cannot be. */
  #refuse(event: SchedulerEvent, problem: string): never {
    const story = { event: event.kind, atMs: this.#nowMs, ...this.counts, stopping: this.#stopping?.reason ?? null };
    throw new Error(`${problem}; ${JSON.stringify(story)}`);
  }
}

function eachRange(ranges: Ranges, visit: (first: number, end: number) => void): void {
  for (let pair = 0; pair + 1 < ranges.length; pair += 2) visit(ranges[pair] ?? 0, ranges[pair + 1] ?? 0);
}

function lossMessage({ exitCode, signal, message }: LossCause, losses: number): string {
  const how = signal ?? (exitCode === null ? null : `exit code ${exitCode}`);
  const told = how === null || message.includes(how) ? message : `${message} (${how})`;
  return `its Task Manager was lost ${losses} times while nothing else was there, the last time: ${told}`;
}
