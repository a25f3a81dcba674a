import { assignmentItemsMax } from "../../task-manager/protocol.ts";
import { Assignment } from "./assignment.ts";
import type { Fleet, TaskManager } from "./fleet.ts";
import type { Group } from "./groups.ts";
import type { Intake } from "./intake.ts";
import type { Launcher } from "./launcher.ts";
import type { Quarantine } from "./quarantine.ts";
import { FixedSizes, guidedBudget, type Budget } from "./sizing.ts";
import type { AssignmentId, SchedulerCommand, SchedulerPlan, TaskManagerId } from "./types.ts";
import type { Waiting } from "./waiting.ts";

/** Of the Task Managers that work, the part that may be kept for items which must be alone. */
const apartShare = 4;

export interface AssignerParts {
  readonly fleet: Fleet;
  readonly launcher: Launcher;
  readonly waiting: Waiting;
  readonly quarantine: Quarantine;
  readonly intake: Intake;
  /** Its deadlines have changed. */
  watch(member: TaskManager): void;
}

/** Who gets what next. */
export class Assigner {
  readonly #parts: AssignerParts;
  readonly #sizes: FixedSizes | null;
  readonly #assignments = new Map<AssignmentId, Assignment>();
  #nextAssignment = 1;
  /** Items in an assignment, lately. */
  #typicalItems = 1;
  /** Items handed out that have neither ended nor come back. */
  running = 0;

  constructor(sizing: SchedulerPlan["sizing"], parts: AssignerParts) {
    this.#parts = parts;
    this.#sizes = sizing.kind === "fixed" ? new FixedSizes(sizing) : null;
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
    this.#parts.fleet.takeAway(member, assignment, nowMs);
  }

  /** Work that nobody has yet. */
  get restWeight(): number {
    return this.#parts.waiting.readyWeight + this.#parts.intake.remaining * this.#parts.intake.meanWeight;
  }

  /** Hands out whatever can be handed out now. */
  assign(nowMs: number): readonly SchedulerCommand[] {
    const commands: SchedulerCommand[] = [];
    this.#serveHungry(commands, nowMs);
    this.#serveSpare(commands, nowMs);
    return commands;
  }

  /** Those without work first. */
  #serveHungry(commands: SchedulerCommand[], nowMs: number): void {
    let passed: TaskManager | null = null;
    while (this.#parts.waiting.ready > 0 || this.#parts.quarantine.waitingGroups > 0) {
      const member = this.#parts.fleet.nextHungry();
      if (member === undefined) return;
      if (this.#parts.quarantine.waitingGroups > 0 && this.#mayWorkApart(member)) {
        const group = this.#parts.waiting.takeApart(nowMs);
        if (group !== null) commands.push(this.#give(member, [group], true, nowMs));
      } else if (passed !== member && this.#leavesToOthers(member)) passed = member;
      else {
        this.#parts.fleet.setReserved(member, false);
        this.#giveShare(member, commands, nowMs);
      }
      this.#parts.fleet.list(member);
    }
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
    const groups = this.#parts.waiting.take(this.#budgetOf(member, nowMs), again, nowMs);
    if (groups.length === 0) return false;
    commands.push(this.#give(member, groups, false, nowMs));
    return true;
  }

  #give(member: TaskManager, groups: readonly Group[], exclusive: boolean, nowMs: number): SchedulerCommand {
    const assignment = new Assignment({ id: this.#nextAssignment++, holder: member.id, groups, exclusive, holderEnded: member.itemsEnded, nowMs });
    this.#assignments.set(assignment.id, assignment);
    this.running += assignment.count;
    this.#typicalItems += Math.ceil((assignment.count - this.#typicalItems) / 8);
    if (!exclusive) this.#unbind(member, assignment.count);
    this.#parts.fleet.give(member, assignment, nowMs);
    this.#parts.watch(member);
    return { kind: "assign", id: member.id, assignment: assignment.id, items: assignment.items, notAfterMs: null, reversed: false, ...(assignment.exclusive ? { apart: true } : {}) };
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
      return guidedBudget(member, this.#parts.fleet, fleetSize, rest, nowMs);
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

  #mayWorkApart(member: TaskManager): boolean {
    return member.reserved || this.#parts.waiting.ready === 0 || this.#parts.fleet.apart < this.#apartMax();
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
