import type { Ranges } from "../../task-manager/protocol.ts";
import { Assigner } from "./assigner.ts";
import type { Assignment } from "./assignment.ts";
import { Deadlines } from "./deadlines.ts";
import { Fates } from "./fates.ts";
import { Fleet, type TaskManager } from "./fleet.ts";
import type { Group } from "./groups.ts";
import { Holders } from "./holders.ts";
import { Hosts } from "./hosts.ts";
import { Intake } from "./intake.ts";
import { Launcher } from "./launcher.ts";
import { Outcomes } from "./outcomes.ts";
import { Quarantine } from "./quarantine.ts";
import { seededRandom } from "./random.ts";
import { countOf, eachRange, indexesOf } from "./ranges.ts";
import { limitsWithoutWayBack, limitsWithWayBack } from "./sizing.ts";
import { speculationOf, type Speculation } from "./speculation.ts";
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
  TaskManagerId,
} from "./types.ts";
import { Waiting } from "./waiting.ts";

/** Heartbeats in a row without an assignment that should be there. */
const heartbeatsWithoutMax = 2;
/** Above so many times the mean, a size tells of an odd file rather than of long work. */
const sizedMax = 100;
const refusalsMax = 3;
/** What a start costs at least: the first Task Manager of a run may have been there before it. */
const launchLeastMs = 300;
/** The longest that anything runs which nobody can stop: an invocation of Lambda. */
const silentMaxMs = 900_000;
/** From the request to stop to the end of what runs, when the job has run out of time. */
const stopGraceMs = 10_000;

type EventOf<Kind extends SchedulerEvent["kind"]> = Extract<SchedulerEvent, { kind: Kind }>;

type Deadline =
  | { readonly kind: "task-manager"; readonly taskManager: TaskManager; readonly timeMs: number }
  | { readonly kind: "back-off"; readonly group: Group }
  | { readonly kind: "host"; readonly host: HostNumber };

/**
 * `silent`: not heard of. `gone`: for so long that nothing of it can be left. `hung`: heard of, and nothing ends.
 * `place`: what it is given from now on would not end.
 */
interface Limit {
  readonly kind: "silent" | "gone" | "hung" | "place";
  readonly timeMs: number;
  readonly message: string;
}

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
  readonly #holders = new Holders();
  readonly #fates: Fates;
  readonly #speculation: Speculation;
  readonly #deadlines = new Deadlines<Deadline>();
  #nowMs = -Infinity;
  #startedMs: number | null = null;
  #wakeAtMs: number | null = null;
  /** Silence counts from here on: before, it was the orchestrator that slept. */
  #awakeSinceMs = -Infinity;
  #reclaimed = 0;
  #losses = 0;
  #droppedReports = 0;
  #stopping: Stopping | null = null;
  #graceEndsMs: number | null = null;
  #finished = false;
  /** Releases, cancels and requests to give back of this step. */
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
    const { reclaim, cancel } = plan.supports;
    const isRemainder = plan.speculation !== false && plan.speculation.kind === "remainder";
    const assigning = { sizing: plan.sizing, limits: reclaim ? limitsWithWayBack : limitsWithoutWayBack, notAfter: !reclaim && !cancel && isRemainder };
    this.#assigner = new Assigner(assigning, {
      fleet: this.#fleet,
      launcher: this.#launcher,
      waiting: this.#waiting,
      quarantine: this.#quarantine,
      intake: this.#intake,
      holders: this.#holders,
      watch: (member) => this.#watch(member),
      retire: (member) => this.#retire(member),
    });
    this.#fates = new Fates({
      assigner: this.#assigner,
      holders: this.#holders,
      hosts: this.#hosts,
      quarantine: this.#quarantine,
      waiting: this.#waiting,
      outcomes: this.#outcomes,
      attemptsMax: plan.attemptsMax,
      hostBlockedMs: plan.hostBlockedMs,
      random: this.#random,
      together: (suspects) => this.#suspectsTogether(suspects),
      wake: (timeMs, group) => this.#deadlines.add(timeMs, { kind: "back-off", group }),
    });
    this.#speculation = speculationOf(plan, {
      fleet: this.#fleet,
      assigner: this.#assigner,
      holders: this.#holders,
      quarantine: this.#quarantine,
      waiting: this.#waiting,
      intake: this.#intake,
      fates: this.#fates,
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
      retried: this.#fates.retried,
      copied: this.#assigner.copied,
      reclaimed: this.#reclaimed,
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
          for (const group of this.#hosts.due(due.host, nowMs)) this.#fates.endAsHostBlocked(group);
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
    const speculationMs = this.#stopping === null ? (this.#speculation.nextMs(this.#nowMs) ?? Infinity) : Infinity;
    const nextMs = Math.min(this.#deadlines.nextMs ?? Infinity, speculationMs, this.#jobEndsMs(), this.#graceEndsMs ?? Infinity, launchMs);
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
    const cause = { exitCode: null, signal: null, message: limit.message };
    switch (limit.kind) {
      case "place":
        this.#retire(member);
        return this.#watch(member);
      case "silent":
        if (!this.#plan.supports.cancel && member.state !== "draining") return this.#silence(member, cause, nowMs);
        break;
      case "hung":
      case "gone":
        break;
    }
    this.#release(member.id, "kill");
    this.#lose(member, cause, limit.kind === "hung", nowMs);
  }

  /** What a Task Manager may not outlast, whichever comes first. */
  #limitOf(member: TaskManager): Limit {
    const { heartbeats, heartbeatTimeoutMs, taskManagerTimeoutMs, splitTimeoutMs } = this.#plan;
    // What nobody wants any more keeps it from other work just as long.
    const [oldest] = member.assignments.length > 0 ? member.assignments : member.ghosts;
    if (member.state === "silent") {
      const timeMs = Math.min(member.endsAtMs, member.heardMs + silentMaxMs);
      return goneLimit(timeMs);
    }
    const silentMs = heartbeats ? Math.max(member.heardMs, this.#awakeSinceMs) + heartbeatTimeoutMs : Infinity;
    const stuckMs = taskManagerTimeoutMs === null || oldest === undefined ? Infinity : member.progressMs + taskManagerTimeoutMs;
    const splitMs = splitTimeoutMs === null || oldest === undefined ? Infinity : (oldest.runningSinceMs ?? oldest.givenMs) + splitTimeoutMs;
    const goneMs = member.ghosts.size > 0 ? Math.max(member.heardMs, this.#awakeSinceMs) + silentMaxMs : Infinity;
    const placeMs = member.state === "live" && !member.retired ? member.untilMs : Infinity;
    const timeMs = Math.min(silentMs, stuckMs, splitMs, goneMs, placeMs);
    if (timeMs === silentMs) return { kind: "silent", timeMs, message: `no heartbeat for ${heartbeatTimeoutMs / 1000} s` };
    if (timeMs === placeMs) return { kind: "place", timeMs, message: "its place is about to be taken from it" };
    if (timeMs === goneMs) return goneLimit(timeMs);
    if (timeMs === stuckMs) return { kind: "hung", timeMs, message: `held items and ended none for timeouts.taskManagerMs (${taskManagerTimeoutMs} ms)` };
    return { kind: "hung", timeMs, message: `an assignment lasted longer than timeouts.splitMs (${splitTimeoutMs} ms)` };
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
        return this.#fitTo(event.taskManagers);
      case "task-manager-joined":
        return this.#joined(event, nowMs);
      case "task-manager-lost":
        return this.#lost(event, nowMs);
      case "task-manager-idle":
        return this.#idle(event, nowMs);
      case "launch-ended":
        return this.#launcher.ended(event.id, event.reason, event.message, nowMs);
      case "items-begun":
        return this.#itemsBegun(event, nowMs);
      case "items-ended":
        return this.#itemsEnded(event, nowMs);
      case "items-returned":
        return this.#itemsReturned(event, nowMs);
      case "items-sized":
        return this.#itemsSized(event, nowMs);
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

  #joined({ id, room, lanes, endsAtMs }: EventOf<"task-manager-joined">, nowMs: number): void {
    // One that was given up on while it started comes after all.
    if (!this.#launcher.isLaunching(id) && this.#launcher.isKnown(id) && this.#fleet.get(id) === undefined) return this.#release(id, "kill");
    this.#launcher.joined(id, nowMs);
    if (this.#stopping !== null) return this.#release(id, this.#stopping.how === "now" ? "kill" : "keep");
    this.#watch(this.#fleet.join({ id, room, lanes, endsAtMs: endsAtMs ?? null }, nowMs));
  }

  #lost({ id, cause }: EventOf<"task-manager-lost">, nowMs: number): void {
    const member = this.#fleet.get(id);
    if (member !== undefined) return this.#lose(member, cause, false, nowMs);
    if (this.#launcher.isLaunching(id)) return this.#launcher.ended(id, "died", cause.message, nowMs);
    if (!this.#launcher.isKnown(id)) throw new Error(`Task Manager ${id} was lost and was never launched`);
  }

  #itemsBegun(event: EventOf<"items-begun">, nowMs: number): void {
    const assignment = this.#assignmentOf(event, nowMs);
    if (assignment === undefined) return this.#drop(countOf(event.items));
    const { lastBegunMs, runningSinceMs, givenMs } = assignment;
    if (lastBegunMs === -Infinity && runningSinceMs === givenMs) this.#fleet.began(nowMs - givenMs);
    let known = 0;
    eachRange(event.items, (first, end) => (known += assignment.begin(first, end, nowMs)));
    this.#drop(countOf(event.items) - known);
    const member = this.#fleet.get(event.id);
    if (known > 0 && member !== undefined) this.#fleet.prove(member);
  }

  #itemsEnded(event: EventOf<"items-ended">, nowMs: number): void {
    const assignment = this.#assignmentOf(event, nowMs);
    const member = this.#fleet.get(event.id);
    const reported = countOf(event.results) + event.errors.length;
    if (assignment === undefined || member === undefined) {
      this.#lay(event, [...event.results, ...event.errors.flatMap(({ index }) => [index, index + 1])], nowMs);
      return this.#drop(reported);
    }
    const oldestMs = assignment.oldestBegunMs();
    const results = this.#fates.results(assignment, event.results, nowMs);
    const errors = this.#fates.errors(assignment, event.errors, member.id, nowMs);
    const items = results.items + errors.items;
    assignment.reported += reported;
    this.#drop(reported - items);
    if (items === 0) return;
    if (oldestMs !== null && assignment.oldestBegunMs() !== oldestMs) this.#fleet.lasted(nowMs - oldestMs);
    this.#fleet.ended(member, items, results.weight + errors.weight, nowMs);
    this.#launcher.itemsEnded();
    if (assignment.missing === 0) this.#speculation.completed(assignment, nowMs);
    this.#completeIfDone(member, assignment, nowMs);
    for (const loser of this.#fates.takeLosers()) this.#lostRace(loser, nowMs);
  }

  #itemsReturned(event: EventOf<"items-returned">, nowMs: number): void {
    const { items, cause } = event;
    const assignment = this.#assignmentOf(event, nowMs);
    const member = this.#fleet.get(event.id);
    if (assignment === undefined || member === undefined) {
      this.#lay(event, items, nowMs);
      return this.#drop(countOf(items));
    }
    assignment.reported += countOf(items);
    if (cause === "RECLAIMED") return this.#reclaimAnswered(member, assignment, items, nowMs);
    const idle = member.state !== "draining" && member.itemsEnded === assignment.holderEnded;
    const taken = this.#fates.returned(assignment, items, cause, idle, nowMs);
    this.#drop(countOf(items) - taken.items);
    this.#completeIfDone(member, assignment, nowMs);
  }

  #reclaimAnswered(member: TaskManager, assignment: Assignment, items: Ranges, nowMs: number): void {
    const { reclaim } = assignment;
    const { groups, items: taken } = this.#fates.reclaimed(assignment, items, nowMs);
    this.#drop(countOf(items) - taken);
    for (const { count } of groups) this.#reclaimed += count;
    if (reclaim === null) for (const group of groups) this.#waiting.release(group);
    else {
      // One that paused meanwhile says nothing of the way.
      this.#fleet.answered(member, Math.min(nowMs, reclaim.deadlineMs) - reclaim.askedMs);
      assignment.reclaim = null;
      assignment.exhausted = reclaim.whole;
      this.#assigner.arrived(reclaim, groups);
    }
    this.#completeIfDone(member, assignment, nowMs);
  }

  /** Sizes in another unit than that of the list, which has none: what counts is how they compare to their mean. */
  #itemsSized(event: EventOf<"items-sized">, nowMs: number): void {
    const assignment = this.#assignmentOf(event, nowMs);
    if (assignment === undefined || assignment.weights !== null) return;
    for (const [index, weight] of event.weights) assignment.sized(index, Math.min(weight, sizedMax));
  }

  #idle(event: EventOf<"task-manager-idle">, nowMs: number): void {
    const member = this.#heard(event, nowMs);
    if (member !== undefined) for (const ghost of [...member.ghosts]) this.#layWhole(member, ghost);
  }

  #heartbeat({ id, held }: EventOf<"heartbeat">, nowMs: number): void {
    const member = this.#heard({ id }, nowMs);
    if (member === undefined) return;
    const beforeMs = member.heartbeatMs ?? -Infinity;
    member.heartbeatMs = nowMs;
    for (const ghost of [...member.ghosts]) {
      if (ghost.givenMs < beforeMs && !held.some((each) => each.assignment === ghost.id)) this.#layWhole(member, ghost);
    }
    for (const assignment of [...member.assignments]) {
      if (held.some((each) => each.assignment === assignment.id)) assignment.heartbeatsWithout = 0;
      // One given since the heartbeat before may have crossed this one on its way.
      else if (assignment.givenMs < beforeMs) assignment.heartbeatsWithout += 1;
      if (assignment.heartbeatsWithout < heartbeatsWithoutMax) continue;
      this.#takeAway(member, assignment, nowMs, (group) => this.#fates.takeBackLater(group, "a heartbeat that did not name it", nowMs));
    }
  }

  #assignmentRefused(event: EventOf<"assignment-refused">, nowMs: number): void {
    const assignment = this.#assignmentOf(event, nowMs);
    const member = this.#fleet.get(event.id);
    if (assignment === undefined || member === undefined) return this.#drop(1);
    this.#takeAway(member, assignment, nowMs, ({ history, ...group }) =>
      this.#fates.takeBackLater({ ...group, history: { ...history, avoid: member.id } }, `a refusal: ${event.message}`, nowMs),
    );
    member.refusals += 1;
    if (member.refusals < refusalsMax) return;
    this.#launcher.barren(event.message, true, nowMs);
    this.#drain(member);
  }

  // ---- Task Managers ----

  #heard({ id }: { readonly id: TaskManagerId }, nowMs: number): TaskManager | undefined {
    const member = this.#fleet.get(id);
    if (member !== undefined) this.#fleet.heard(member, nowMs);
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
    this.#partIfEmpty(member);
  }

  /** The other holder has ended all that this one still had. */
  #lostRace(loser: Assignment, nowMs: number): void {
    const member = this.#fleet.get(loser.holder);
    if (loser.missing > 0 || member === undefined) return;
    if (this.#plan.supports.cancel) this.#partings.push({ kind: "cancel", id: member.id, assignment: loser.id });
    else this.#fleet.haunt(member, loser);
    this.#completeIfDone(member, loser, nowMs);
  }

  /** Takes back what is missing although its holder is alive; no suspicion falls on what was begun. */
  #takeAway(member: TaskManager, assignment: Assignment, nowMs: number, back: (group: Group) => void): void {
    this.#fates.takeAway(assignment, nowMs, back);
    this.#completeIfDone(member, assignment, nowMs);
  }

  /** A report about what nobody wants any more: it tells how far its holder is from having room again. */
  #lay({ id, assignment }: { readonly id: TaskManagerId; readonly assignment: AssignmentId }, items: Ranges, nowMs: number): void {
    const member = this.#fleet.get(id);
    if (member === undefined || member.ghosts.size === 0) return;
    for (const ghost of [...member.ghosts]) {
      if (ghost.id !== assignment) continue;
      ghost.reported += countOf(items);
      member.progressMs = nowMs;
      if (ghost.reported >= ghost.count) this.#layWhole(member, ghost);
    }
  }

  #layWhole(member: TaskManager, ghost: Assignment): void {
    this.#fleet.lay(member, ghost);
    if (member.ghosts.size > 0) return;
    if (member.state === "silent") {
      const isWanted = this.#fleet.live + this.#launcher.launching < this.#launcher.allowance;
      this.#fleet.setState(member, isWanted ? "live" : "leaving");
    }
    this.#partIfEmpty(member);
    this.#watch(member);
  }

  #lose(member: TaskManager, cause: LossCause, hung: boolean, nowMs: number): void {
    if (member.state !== "silent") this.#loseItems(member, cause, hung, nowMs);
    this.#fleet.remove(member);
  }

  #loseItems(member: TaskManager, cause: LossCause, hung: boolean, nowMs: number): void {
    const asked = member.state === "draining";
    let suspects = 0;
    for (const assignment of [...member.assignments]) {
      suspects += this.#fates.lost(assignment, { cause, asked, hung }, member.itemsEnded, nowMs);
      this.#assigner.close(member, assignment, nowMs);
    }
    if (asked) return;
    if (cause.turnedAway === true) return this.#launcher.turnedAway(cause.message, nowMs);
    this.#losses += 1;
    if (suspects === 0 && member.itemsEnded === 0) this.#launcher.barren(cause.message, member.given > 0, nowMs);
  }

  /** Nothing can stop it: its items go elsewhere, and its place stays taken until it is heard of again, or lost. */
  #silence(member: TaskManager, cause: LossCause, nowMs: number): void {
    for (const assignment of member.assignments) this.#fleet.haunt(member, assignment);
    this.#loseItems(member, cause, false, nowMs);
    this.#fleet.setState(member, "silent");
    this.#watch(member);
  }

  /** Parts with the excess above the allowance, and takes back into work those that are to stay after all. */
  #fitTo(allowance: number): void {
    let excess = this.#launcher.launching - allowance;
    for (const { state } of this.#fleet.all()) if (state === "live" || state === "silent") excess += 1;
    for (; excess > 0; excess--) {
      const launch = this.#launcher.abandonOne();
      if (launch === null) break;
      this.#release(launch, "kill");
    }
    if (excess > 0) return this.#shrinkBy(excess);
    for (const member of this.#fleet.all()) {
      if (excess >= 0) return;
      if (member.state !== "leaving") continue;
      this.#fleet.setState(member, "live");
      excess += 1;
    }
  }

  /** Those with the least to give back; of equal ones the youngest. */
  #shrinkBy(excess: number): void {
    const live = [...this.#fleet.all()].filter(({ state }) => state === "live");
    live.sort((a, b) => a.assignments.length - b.assignments.length || b.id - a.id);
    for (const member of live.slice(0, excess)) this.#leave(member);
  }

  /** Back to the pool as soon as it is empty, and that soon. */
  #leave(member: TaskManager): void {
    this.#fleet.setState(member, "leaving");
    if (this.#plan.supports.reclaim) for (const assignment of member.assignments) this.#reclaimWhole(assignment);
    this.#partIfEmpty(member);
  }

  #reclaimWhole(assignment: Assignment): void {
    this.#partings.push(this.#assigner.reclaim(assignment, { items: assignment.missing, whole: true, shares: [] }, this.#nowMs));
  }

  /** Where it gets nothing more, it goes as soon as it holds nothing. */
  #partIfEmpty(member: TaskManager): void {
    const isEmpty = member.assignments.length === 0 && member.ghosts.size === 0;
    if (!isEmpty) return this.#watch(member);
    if (member.state === "leaving") {
      this.#fleet.remove(member);
      this.#release(member.id, "keep");
    } else if (this.#fleet.isSpent(member)) this.#drain(member);
    else this.#watch(member);
  }

  /** Whatever it would be given would not end before its place is taken from it. */
  #retire(member: TaskManager): void {
    if (member.retired) return;
    member.retired = true;
    this.#partIfEmpty(member);
  }

  #drain(member: TaskManager): void {
    if (member.state === "draining") return;
    this.#fleet.setState(member, "draining");
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
        this.#fates.abandon(assignment);
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
    const assigns = this.#stopping === null ? [...this.#assigner.assign(nowMs), ...this.#speculation.act(nowMs, this.#awakeSinceMs)] : [];
    if (this.#stopping !== null) this.#assigner.assignNothing();
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
    if (this.#allEnded() && !this.#outcomes.isGivenUp) return "completed";
    return this.#stopping !== null && this.#assigner.running === 0 ? "stopped" : null;
  }

  #finish(state: FinishState): readonly SchedulerCommand[] {
    this.#finished = true;
    for (const { id, state, ghosts } of this.#fleet.all()) {
      if (state !== "draining") this.#release(id, ghosts.size > 0 || state === "silent" ? "drain" : "keep");
    }
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
    if (this.#stopping !== null || this.#launcher.unavailable !== null) return 0;
    const allowed = Math.min(this.#launcher.allowance, this.#plan.taskManagersMax) - this.#fleet.size - this.#launcher.launching;
    return allowed <= 0 ? 0 : Math.min(allowed, Math.max(this.#spareCount(), this.#usefulCount(nowMs)));
  }

  /** Whoever tries a suspect may be lost with it: the next one starts meanwhile. */
  #spareCount(): number {
    return this.#quarantine.any && this.#fleet.idle + this.#launcher.launching === 0 ? 1 : 0;
  }

  #usefulCount(nowMs: number): number {
    if (this.#waiting.all === 0) return this.#speculation.wanted - this.#launcher.launching;
    if (this.#isNearlyDone(nowMs)) return 0;
    const items = this.#waiting.all + this.#intake.toDo - this.#fleet.bound;
    return Math.ceil(items / (this.#assigner.fixedItems ?? this.#fleet.lanes)) - this.#fleet.idle - this.#launcher.launching;
  }

  /** In smaller groups the one to blame is found with fewer losses: worth it as far as handing them out costs less than a start. */
  #suspectsTogether(suspects: number): number {
    const { startMs } = this.#fleet;
    const launchMs = Math.max(this.#launcher.launchMs ?? 0, launchLeastMs);
    return startMs === null ? Infinity : Math.ceil((suspects * startMs) / launchMs);
  }

  /** Those that work will have done it all before another one could start. */
  #isNearlyDone(nowMs: number): boolean {
    const { launchMs } = this.#launcher;
    const meanMs = this.#fleet.meanMs(nowMs);
    if (this.#assigner.fixedItems !== null || launchMs === null || meanMs === null || this.#fleet.able === 0) return false;
    return (this.#assigner.restWeight * meanMs) / this.#fleet.able < launchMs;
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

function goneLimit(timeMs: number): Limit {
  return { kind: "gone", timeMs, message: `not heard of since ${silentMaxMs / 60_000} minutes` };
}
