import { assignmentItemsMax, type Ranges } from "../../task-manager/protocol.ts";
import { Assignment, type Reclaim, type Share } from "./assignment.ts";
import type { Fleet, TaskManager } from "./fleet.ts";
import { GroupQueue, weightOf, type Group } from "./groups.ts";
import type { Holders } from "./holders.ts";
import type { Intake } from "./intake.ts";
import type { Launcher } from "./launcher.ts";
import type { Quarantine } from "./quarantine.ts";
import { ascending, indexesOf, rangesFromSorted } from "./ranges.ts";
import { FixedSizes, guidedBudget, type Budget, type GuidedLimits } from "./sizing.ts";
import type { AssignmentId, SchedulerCommand, SchedulerPlan, TaskManagerId } from "./types.ts";
import type { Waiting } from "./waiting.ts";

/** Of the Task Managers that work, the part that may be kept for items which must be alone. */
const apartShare = 4;
/** From an assignment to its first item, until one was measured. */
const handOverMs = 70;

/** Time for an answer to a request to give back. */
const answerMs = 250;
const answerRoundTrips = 4;
const answerMsMax = 2_000;

export interface AssignerParts {
  readonly fleet: Fleet;
  readonly launcher: Launcher;
  readonly waiting: Waiting;
  readonly quarantine: Quarantine;
  readonly intake: Intake;
  readonly holders: Holders;
  /** Its deadlines have changed. */
  watch(member: TaskManager): void;
  /** Nothing that it could be given would end in time. */
  retire(member: TaskManager): void;
}

export interface AssignerOptions {
  readonly sizing: SchedulerPlan["sizing"];
  readonly limits: GuidedLimits;
  /** What is not begun in time comes back by itself: nothing can be told to its holder. */
  readonly notAfter: boolean;
}

export interface Asking {
  readonly items: number;
  /** All that is not begun. */
  readonly whole: boolean;
  readonly shares: readonly Share[];
}

export interface Copying {
  readonly groups: readonly Group[];
  readonly apart: boolean;
  readonly reversed: boolean;
}

interface Giving {
  readonly groups: readonly Group[];
  /** Its holder gets nothing else. */
  readonly exclusive: boolean;
  /** Whose items these are, too. */
  readonly copyOf: Assignment | null;
  readonly reversed: boolean;
}

/** Who gets what next. */
export class Assigner {
  readonly #options: AssignerOptions;
  readonly #parts: AssignerParts;
  readonly #sizes: FixedSizes | null;
  readonly #assignments = new Map<AssignmentId, Assignment>();
  /** Answers to requests to give back, until they are handed on in the same step. */
  #arrived: { readonly reclaim: Reclaim; readonly groups: readonly Group[] }[] = [];
  #nextAssignment = 1;
  /** Items in an assignment, lately. */
  #typicalItems = 1;
  /** Items handed out that have neither ended nor come back. */
  running = 0;
  /** Items that were given to a second Task Manager. */
  copied = 0;

  constructor(options: AssignerOptions, parts: AssignerParts) {
    this.#options = options;
    this.#parts = parts;
    this.#sizes = options.sizing.kind === "fixed" ? new FixedSizes(options.sizing) : null;
  }

  get typicalItems(): number {
    return this.#typicalItems;
  }

  /** Items of the next split, where that is fixed. */
  get fixedItems(): number | null {
    return this.#sizes?.next ?? null;
  }

  /** The assignment, if it is this Task Manager's. */
  get(id: AssignmentId, holder: TaskManagerId): Assignment | undefined {
    const assignment = this.#assignments.get(id);
    return assignment?.holder === holder ? assignment : undefined;
  }

  /** It is over, whatever became of its items. */
  close(member: TaskManager, assignment: Assignment, nowMs: number): void {
    this.#assignments.delete(assignment.id);
    if (assignment.reclaim !== null) breakPromises(assignment.reclaim);
    this.#parts.fleet.takeAway(member, assignment, nowMs);
  }

  /** Work that nobody has yet. */
  get restWeight(): number {
    return this.#parts.waiting.readyWeight + this.#parts.intake.remaining * this.#parts.intake.meanWeight;
  }

  /** What came back for those it was meant for. */
  arrived(reclaim: Reclaim, groups: readonly Group[]): void {
    this.#arrived.push({ reclaim, groups });
  }

  /** Hands out whatever can be handed out now. */
  assign(nowMs: number): readonly SchedulerCommand[] {
    const commands: SchedulerCommand[] = [];
    for (const { reclaim, groups } of this.#takeArrived()) this.#handOn(reclaim, groups, commands, nowMs);
    this.#serveHungry(commands, nowMs);
    this.#serveSpare(commands, nowMs);
    return commands;
  }

  /** Nothing is handed out any more. */
  assignNothing(): void {
    for (const { groups } of this.#takeArrived()) for (const group of groups) this.#parts.waiting.release(group);
  }

  /** Asks for the end of what is not begun of it. */
  reclaim(assignment: Assignment, { items, whole, shares }: Asking, nowMs: number): SchedulerCommand {
    const holder = this.#parts.fleet.get(assignment.holder);
    if (holder === undefined) throw new Error(`assignment ${assignment.id} is to be given back by Task Manager ${assignment.holder}, which is gone`);
    if (assignment.reclaim !== null) breakPromises(assignment.reclaim);
    const roundTripMs = this.#parts.fleet.roundTripMs(holder) ?? 0;
    const deadlineMs = nowMs + Math.min(answerMsMax, Math.max(answerMs, answerRoundTrips * roundTripMs));
    const reclaim: Reclaim = { askedMs: nowMs, deadlineMs, whole, shares };
    assignment.reclaim = reclaim;
    for (const { member } of shares) member.promised = reclaim;
    return { kind: "reclaim", id: holder.id, assignment: assignment.id, items };
  }

  /** A second try at once of items that their holder keeps. `apart`: they must be alone. */
  copy(member: TaskManager, original: Assignment, { groups, apart, reversed }: Copying, nowMs: number): SchedulerCommand {
    return this.#give(member, { groups, exclusive: original.exclusive || apart, copyOf: original, reversed }, nowMs);
  }

  #takeArrived(): readonly { readonly reclaim: Reclaim; readonly groups: readonly Group[] }[] {
    const arrived = this.#arrived;
    if (arrived.length > 0) this.#arrived = [];
    return arrived;
  }

  #handOn(reclaim: Reclaim, groups: readonly Group[], commands: SchedulerCommand[], nowMs: number): void {
    breakPromises(reclaim);
    const queue = new GroupQueue();
    for (const group of groups) {
      const free = this.#parts.waiting.admit(group, nowMs);
      if (free !== null) queue.push(free);
    }
    const able = reclaim.shares.filter(({ member }) => this.#parts.fleet.isFree(member));
    let sharesWeight = able.reduce((sum, { weight }) => sum + weight, 0);
    for (const { member, weight } of able) {
      if (queue.count === 0) break;
      const part = takeWeight(queue, (queue.weight * weight) / sharesWeight);
      sharesWeight -= weight;
      commands.push(this.#give(member, { groups: part, exclusive: false, copyOf: null, reversed: false }, nowMs));
    }
    for (const rest of takeWeight(queue, Infinity)) this.#parts.waiting.release(rest);
  }

  /** Those without work first. */
  #serveHungry(commands: SchedulerCommand[], nowMs: number): void {
    let passed: TaskManager | null = null;
    const unserved: TaskManager[] = [];
    while (this.#parts.waiting.ready > 0 || this.#parts.quarantine.waitingGroups > 0) {
      const member = this.#parts.fleet.nextHungry();
      if (member === undefined) break;
      if (this.#mayWorkApart(member)) {
        const group = this.#parts.waiting.takeApart(this.#mayBeApart(member), nowMs);
        if (group !== null) commands.push(this.#give(member, { groups: [group], exclusive: true, copyOf: null, reversed: false }, nowMs));
      } else if (passed !== member && this.#leavesToOthers(member)) passed = member;
      else if (this.#parts.waiting.ready > 0) {
        this.#parts.fleet.setReserved(member, false);
        this.#giveShare(member, commands, nowMs);
      } else {
        unserved.push(member);
        continue;
      }
      this.#parts.fleet.list(member);
    }
    for (const member of unserved) this.#parts.fleet.list(member);
  }

  /** Then those that have room for more than what they work on. */
  #serveSpare(commands: SchedulerCommand[], nowMs: number): void {
    while (this.#parts.waiting.ready > 0 || this.#parts.quarantine.waitingGroups > 0) {
      const member = this.#parts.fleet.nextSpare();
      if (member === undefined) return;
      if (this.#parts.quarantine.waitingGroups > this.#parts.fleet.apart && this.#parts.fleet.apart < this.#apartMax()) {
        this.#parts.fleet.setReserved(member, true);
        continue;
      }
      const given = this.#parts.waiting.ready > 0 && this.#mayPrefetch(member) && this.#giveShare(member, commands, nowMs);
      this.#parts.fleet.list(member);
      if (!given) return;
    }
  }

  #giveShare(member: TaskManager, commands: SchedulerCommand[], nowMs: number): boolean {
    const again = !(this.#avoids(member) && this.#parts.waiting.anyFresh);
    const budget = this.#inTime(member, this.#budgetOf(member, nowMs), nowMs);
    if (budget === null) {
      this.#parts.retire(member);
      return false;
    }
    const groups = this.#parts.waiting.take(budget, again, nowMs);
    if (groups.length === 0) return false;
    commands.push(this.#give(member, { groups, exclusive: false, copyOf: null, reversed: false }, nowMs));
    return true;
  }

  #give(member: TaskManager, { groups, exclusive, copyOf, reversed }: Giving, nowMs: number): SchedulerCommand {
    const isCopy = copyOf !== null;
    const holderEnded = member.itemsEnded;
    const assignment = new Assignment({ id: this.#nextAssignment++, holder: member.id, groups, exclusive, isCopy, reversed, holderEnded, nowMs });
    const notAfterMs = this.#notAfterMs(member, groups, nowMs);
    this.#assignments.set(assignment.id, assignment);
    if (isCopy) {
      this.#parts.holders.share(copyOf, assignment);
      copyOf.copies += 1;
      this.copied += assignment.count;
    } else {
      this.running += assignment.count;
      this.#typicalItems += Math.ceil((assignment.count - this.#typicalItems) / 8);
      if (!exclusive) this.#unbind(member, assignment.count);
    }
    this.#parts.fleet.give(member, assignment, nowMs);
    this.#parts.watch(member);
    const triedBefore = this.#triedBefore(groups);
    return {
      kind: "assign",
      id: member.id,
      assignment: assignment.id,
      items: assignment.items,
      notAfterMs,
      reversed,
      ...(exclusive ? { apart: true } : {}),
      ...(triedBefore.length > 0 ? { triedBefore } : {}),
      ...(isCopy ? { copy: true } : {}),
    };
  }

  /** Faults made on purpose strike a first try only. */
  #triedBefore(groups: readonly Group[]): Ranges {
    const { quarantine } = this.#parts;
    const tried: Ranges[] = [];
    for (const { ranges, history } of groups) {
      if (history.attempts > 0) tried.push(ranges);
      else if (quarantine.any) tried.push(rangesFromSorted([...indexesOf(ranges)].filter((index) => quarantine.has(index))));
    }
    return ascending(tried.flat());
  }

  /** Expected start, half a second, and twice as long as it should take; for ever where nobody knows how long that is. */
  #notAfterMs(member: TaskManager, groups: readonly Group[], nowMs: number): number | null {
    if (!this.#options.notAfter) return null;
    const predictedMs = this.#predictedMs(member, groups.reduce((weight, group) => weight + weightOf(group), 0), nowMs);
    return predictedMs === null ? null : Math.ceil(nowMs + (this.#parts.fleet.startMs ?? handOverMs) + 500 + 2 * predictedMs);
  }

  #predictedMs(member: TaskManager, weight: number, nowMs: number): number | null {
    const { fleet, intake } = this.#parts;
    const fleetMeanMs = fleet.meanMs(nowMs);
    return fleetMeanMs === null ? null : weight * fleet.estimateMs(member, fleetMeanMs, intake.meanWeight, nowMs);
  }

  /** No more than what ends before its place is taken from it; null: nothing would. */
  #inTime(member: TaskManager, budget: Budget, nowMs: number): Budget | null {
    if (member.untilMs === Infinity) return budget;
    const { meanWeight } = this.#parts.intake;
    const unitMs = this.#predictedMs(member, 1, nowMs);
    if (unitMs === null) return nowMs < member.untilMs ? budget : null;
    const heldWeight = member.assignments.reduce((weight, { missingWeight }) => weight + missingWeight, 0);
    const weight = (member.untilMs - nowMs) / unitMs - heldWeight;
    // One that was given nothing yet gets an item all the same, or nobody would ever try it.
    if (weight < meanWeight) return member.given === 0 && nowMs < member.untilMs ? { items: 1, weight: Infinity } : null;
    return { items: Math.min(budget.items, Math.max(1, Math.floor(weight / meanWeight))), weight: Math.min(budget.weight, weight) };
  }

  /** A fixed split is bound to its Task Manager until all of it is handed out, or nothing is left of the input. */
  #unbind(member: TaskManager, items: number): void {
    const isLast = this.#parts.intake.ended && this.#parts.waiting.all === 0;
    this.#parts.fleet.bind(member, isLast ? 0 : Math.max(0, member.bound - items));
  }

  #budgetOf(member: TaskManager, nowMs: number): Budget {
    if (this.#sizes === null) {
      const fleetSize = this.#parts.fleet.live + this.#parts.launcher.launching;
      const meanWeight = this.#parts.intake.meanWeight;
      const rest = { weight: this.restWeight, runningWeight: this.running * meanWeight, meanWeight };
      return guidedBudget(member, this.#parts.fleet, fleetSize, rest, this.#options.limits, nowMs);
    }
    if (member.bound === 0) this.#parts.fleet.bind(member, this.#sizes.take());
    return { items: Math.min(member.bound, assignmentItemsMax), weight: Infinity };
  }

  /** Prefetching the next fixed split must not leave one that is about to join without any. */
  #mayPrefetch(member: TaskManager): boolean {
    if (this.#sizes === null || member.bound > 0) return true;
    const unbound = this.#parts.waiting.ready + this.#parts.intake.remaining - this.#parts.fleet.bound;
    return unbound > this.#parts.launcher.launching * this.#sizes.next;
  }

  /** Is there something that must be alone which it can have? Suspects, where nothing else waits, are tried by all. */
  #mayWorkApart(member: TaskManager): boolean {
    const { quarantine, waiting } = this.#parts;
    if (quarantine.waitingGroups === 0) return false;
    return this.#mayBeApart(member) || (waiting.ready === 0 && quarantine.waitingSuspects > 0);
  }

  #mayBeApart(member: TaskManager): boolean {
    return member.reserved || this.#parts.fleet.apart < this.#apartMax();
  }

  #apartMax(): number {
    return Math.max(1, Math.floor(this.#parts.fleet.live / apartShare));
  }

  /** What went wrong there is tried elsewhere, where there is an elsewhere. */
  #leavesToOthers(member: TaskManager): boolean {
    return this.#avoids(member) && !this.#parts.waiting.anyFresh && this.#parts.fleet.idle > 1;
  }

  #avoids(member: TaskManager): boolean {
    return this.#parts.waiting.front?.avoid === member.id;
  }
}

/** Those it was meant for may be given something else. */
export function breakPromises(reclaim: Reclaim): void {
  for (const { member } of reclaim.shares) if (member.promised === reclaim) member.promised = null;
}

function takeWeight(queue: GroupQueue, weightMax: number): readonly Group[] {
  const groups: Group[] = [];
  let items = 0;
  for (let left = weightMax; left > 0 && items < assignmentItemsMax; ) {
    const group = queue.take(assignmentItemsMax - items, left);
    if (group === null) break;
    groups.push(group);
    items += group.count;
    left -= weightOf(group);
  }
  return groups;
}
