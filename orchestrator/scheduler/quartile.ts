import { assignmentItemsMax } from "../../task-manager/protocol.ts";
import type { Assignment } from "./assignment.ts";
import type { TaskManager } from "./fleet.ts";
import type { Speculation, SpeculationParts } from "./speculation.ts";
import type { SchedulerCommand, SpeculationPlan } from "./types.ts";

type QuartilePlan = Extract<SpeculationPlan, { kind: "quartile" }>;

/** Durations fall into classes that are this many times as long as the one before. */
const classFactor = 1.02;

/**
 * The original's rule: once so many of the splits have ended, those that last longer than a multiple of their median
 * are copied whole, looked at at intervals, a number of times each.
 */
export class Quartile implements Speculation {
  readonly #plan: QuartilePlan;
  readonly #parts: SpeculationParts;
  /** Durations of splits that ended, as counts by class: a split more takes no memory. */
  readonly #classes = new Map<number, number>();
  #ended = 0;
  #lookedMs = -Infinity;
  wanted = 0;

  constructor(plan: QuartilePlan, parts: SpeculationParts) {
    this.#plan = plan;
    this.#parts = parts;
  }

  nextMs(nowMs: number): number | null {
    if (this.#parts.fleet.holding === 0 || !this.#isLate()) return null;
    return Math.max(nowMs, this.#lookedMs + this.#plan.intervalMs);
  }

  completed(assignment: Assignment, nowMs: number): void {
    const durationMs = Math.max(1, nowMs - (assignment.runningSinceMs ?? assignment.givenMs));
    const durationClass = Math.round(Math.log(durationMs) / Math.log(classFactor));
    this.#classes.set(durationClass, (this.#classes.get(durationClass) ?? 0) + 1);
    this.#ended += 1;
  }

  act(nowMs: number): readonly SchedulerCommand[] {
    if (nowMs < this.#lookedMs + this.#plan.intervalMs) return [];
    if (this.#parts.fleet.holding === 0 || !this.#isLate()) return [];
    this.#lookedMs = nowMs;
    const commands: SchedulerCommand[] = [];
    const late = this.#lateOnes(nowMs);
    const free = late.length === 0 ? [] : [...this.#parts.fleet.all()].filter((member) => this.#parts.fleet.isFree(member));
    let copied = 0;
    for (const { member, assignment } of late) {
      const taker = free.find((each) => each !== member);
      if (taker === undefined) break;
      free.splice(free.indexOf(taker), 1);
      const groups = this.#missingOf(assignment);
      if (groups.length > 0) commands.push(this.#parts.assigner.copy(taker, assignment, { groups, apart: false, reversed: false }, nowMs));
      copied += 1;
    }
    this.wanted = this.#plan.extraTaskManagers ? late.length - copied : 0;
    return commands;
  }

  /** Have so many splits ended that those that run on are late? */
  #isLate(): boolean {
    const { intake, waiting, fleet, assigner } = this.#parts;
    if (!intake.ended || this.#ended === 0) return false;
    const unsplit = Math.ceil(waiting.all / (assigner.fixedItems ?? assigner.typicalItems));
    return this.#ended >= this.#plan.quartile * (this.#ended + fleet.holding + unsplit);
  }

  #lateOnes(nowMs: number): readonly { readonly member: TaskManager; readonly assignment: Assignment }[] {
    const limitMs = this.#plan.multiplier * this.#medianMs();
    const late: { member: TaskManager; assignment: Assignment }[] = [];
    for (const member of this.#parts.fleet.all()) {
      for (const assignment of member.assignments) {
        const { runningSinceMs, isCopy, exclusive, copies } = assignment;
        if (runningSinceMs === null || isCopy || exclusive || copies >= this.#plan.maxRetries) continue;
        if (nowMs - runningSinceMs > limitMs) late.push({ member, assignment });
      }
    }
    return late;
  }

  #missingOf(assignment: Assignment): ReturnType<Assignment["chosen"]> {
    const { holders, quarantine } = this.#parts;
    const isWanted = (index: number) => !holders.has(index) && !quarantine.has(index);
    return assignment.chosen({ begunBeforeMs: null, itemsMax: assignmentItemsMax, fromEnd: false, isWanted });
  }

  #medianMs(): number {
    let left = this.#ended / 2;
    for (const durationClass of [...this.#classes.keys()].sort((a, b) => a - b)) {
      left -= this.#classes.get(durationClass) ?? 0;
      if (left <= 0) return classFactor ** durationClass;
    }
    return Infinity;
  }
}
