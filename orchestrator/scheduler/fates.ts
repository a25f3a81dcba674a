import type { Ranges, ReturnCause } from "../../task-manager/protocol.ts";
import type { Assigner } from "./assigner.ts";
import { Remainder, type Assignment } from "./assignment.ts";
import type { Group, History } from "./groups.ts";
import type { FailedTry, Holders } from "./holders.ts";
import type { Hosts } from "./hosts.ts";
import type { Outcomes } from "./outcomes.ts";
import { lossesAloneMax, type Quarantine } from "./quarantine.ts";
import { backOffMs } from "./random.ts";
import { eachRange, indexesOf } from "./ranges.ts";
import type { EndedError, LossCause, StoredError, TaskManagerId } from "./types.ts";
import type { Waiting } from "./waiting.ts";

const retryFirstMs = 200;
const retryMaxMs = 30_000;
/** Times that an item may come back while its Task Manager ends nothing at all. */
const returnsMax = 20;
/** The first of them in a group, the others alone. */
const memoryReturnsMax = 4;
/** Task Managers that may be given up with an item in hand because they end nothing. */
const hangsMax = 3;

export interface FatesParts {
  readonly assigner: Assigner;
  readonly holders: Holders;
  readonly hosts: Hosts;
  readonly quarantine: Quarantine;
  readonly waiting: Waiting;
  readonly outcomes: Outcomes;
  readonly attemptsMax: number;
  readonly hostBlockedMs: number;
  random(): number;
  /** How many of so many new suspects may be tried at once, at most. */
  together(suspects: number): number;
  /** Asks for `backOffOver` at that time. */
  wake(timeMs: number, group: Group): void;
}

/** Items and weight that a report took out of an assignment. */
export interface Taken {
  readonly items: number;
  readonly weight: number;
}

/** Why items were lost with their Task Manager. */
export interface Loss {
  readonly cause: LossCause;
  /** It had been asked to end: a loss then is held against nobody. */
  readonly asked: boolean;
  /** It was given up because it ended nothing. */
  readonly hung: boolean;
}

/** What becomes of items that leave their assignment: an end, another try, a wait. */
export class Fates {
  readonly #parts: FatesParts;
  /** Assignments that lost items to the other holder's end since they were last taken. */
  #losers = new Set<Assignment>();
  /** Items that were tried more than once. */
  retried = 0;
  /** Items that two Task Managers worked on although one would have done. */
  doneTwice = 0;

  constructor(parts: FatesParts) {
    this.#parts = parts;
  }

  takeLosers(): readonly Assignment[] {
    if (this.#losers.size === 0) return [];
    const losers = [...this.#losers];
    this.#losers.clear();
    return losers;
  }

  results(assignment: Assignment, results: Ranges, nowMs: number): Taken {
    const { assigner, outcomes, hosts, quarantine, holders } = this.#parts;
    let items = 0;
    let weight = 0;
    eachRange(results, (first, end) => {
      items += assignment.take(first, end, (from, to, ordinal, history) => {
        weight += assignment.weightOf(ordinal, to - from);
        outcomes.result(from, to, history.attempts + 1);
        if (hosts.any) for (let at = 0; at < to - from; at++) hosts.ended(assignment.hostAt(ordinal + at), from + at, true, nowMs);
        if (quarantine.any) for (let index = from; index < to; index++) quarantine.clear(index);
        if (holders.any) for (let index = from; index < to; index++) this.#endElsewhere(index, assignment);
      });
    });
    assigner.running -= items;
    return { items, weight };
  }

  errors(assignment: Assignment, errors: readonly EndedError[], holder: TaskManagerId, nowMs: number): Taken {
    const { assigner, outcomes, hosts, quarantine, attemptsMax } = this.#parts;
    const again = new Remainder(assignment);
    let items = 0;
    let weight = 0;
    for (const error of [...errors].sort((a, b) => a.index - b.index)) {
      const { index, retryable } = error;
      items += assignment.take(index, index + 1, (first, end, ordinal, history) => {
        weight += assignment.weightOf(ordinal, 1);
        quarantine.clear(index);
        if (!this.#isLeftToOther(error, assignment)) {
          assigner.running -= 1;
          if (retryable && history.attempts + 1 < attemptsMax) again.add(first, end, ordinal, history);
          else outcomes.error({ index, attempts: history.attempts + 1, made: null });
        }
        hosts.ended(assignment.hostAt(ordinal), index, !retryable, nowMs);
      });
    }
    for (const group of again.groups()) this.#retry(group, holder, nowMs);
    return { items, weight };
  }

  /** Given back: what of it nobody else has goes on by its cause. `idle`: nothing was ended there meanwhile. */
  returned(assignment: Assignment, items: Ranges, cause: ReturnCause, idle: boolean, nowMs: number): Taken {
    const { free, taken } = this.#takeFree(assignment, items, nowMs);
    for (const group of free) this.#takeBack(group, cause, idle, nowMs);
    return taken;
  }

  /** Given back because that was asked for: what of it nobody else has, to be handed on. */
  reclaimed(assignment: Assignment, items: Ranges, nowMs: number): Taken & { readonly groups: readonly Group[] } {
    const { free, taken } = this.#takeFree(assignment, items, nowMs);
    return { ...taken, groups: free };
  }

  /** Takes all that is missing although its holder is alive; no suspicion falls on what was begun. */
  takeAway(assignment: Assignment, nowMs: number, back: (group: Group) => void): void {
    const { begun, unbegun } = assignment.takeAll();
    for (const group of [...begun, ...unbegun]) for (const free of this.#unheld(group, assignment, nowMs)) back(free);
  }

  /** The run stops: all that is missing waits for another run. */
  abandon(assignment: Assignment): void {
    const { assigner, holders, waiting } = this.#parts;
    const { begun, unbegun } = assignment.takeAll();
    for (const group of [...begun, ...unbegun]) {
      const { free } = holders.sift(group, assignment);
      if (free === null) continue;
      assigner.running -= free.count;
      waiting.release(free);
    }
  }

  /** All that is missing was lost with its holder; returns how many items are suspects. */
  lost(assignment: Assignment, { cause, asked, hung }: Loss, holderEnded: number, nowMs: number): number {
    const { quarantine, waiting } = this.#parts;
    const alone = assignment.exclusive && assignment.count === 1 && !asked;
    const { begun, unbegun } = assignment.takeAll();
    let suspects = 0;
    for (const group of unbegun) {
      for (const free of this.#unheld(group, assignment, nowMs)) {
        if (hung && holderEnded === assignment.holderEnded) this.#afterHang(free, cause, nowMs);
        else waiting.release(free);
      }
    }
    for (const group of begun) {
      suspects += group.count;
      for (const free of this.#unheld(group, assignment, nowMs, true)) {
        if (alone) this.#lostAlone(free, cause, nowMs);
        else quarantine.suspect(free, Math.min(this.#parts.together(free.count), assignment.exclusive ? Math.ceil(free.count / 2) : Infinity));
      }
    }
    return suspects;
  }

  /** Nothing came of it: wait a little, and not for ever. */
  takeBackLater(group: Group, cause: string, nowMs: number): void {
    const returns = group.history.returns + 1;
    const message = `given back ${returns} times by Task Managers that ended nothing meanwhile, the last time for ${cause}`;
    if (returns > returnsMax) return this.#endAll(group, { code: "TASK_MANAGER_LOST", stage: "run", message }, nowMs);
    this.#backOff({ ...group, history: { ...group.history, returns } }, returns - 1, nowMs);
  }

  endAsHostBlocked(group: Group): void {
    const message = `the host answered no request for ${this.#parts.hostBlockedMs / 1000} s but asked to be left alone (download.hostBlockedMs)`;
    for (const index of indexesOf(group.ranges)) {
      this.#parts.quarantine.clear(index);
      this.#parts.outcomes.error({ index, attempts: group.history.attempts, made: { code: "HOST_BLOCKED", stage: "run", message } });
    }
  }

  // ---- items that two hold ----

  #endElsewhere(index: number, assignment: Assignment): void {
    const { holders } = this.#parts;
    holders.takeFailed(index);
    const others = holders.leave(index, assignment);
    for (const other of others) {
      holders.leave(index, other);
      if (other.hasBegun(index)) this.doneTwice += 1;
      other.take(index, index + 1, () => undefined);
      this.#losers.add(other);
    }
  }

  /** A failure that another try could mend counts for nothing while another goes on with the item. */
  #isLeftToOther({ index, code, stage, retryable }: EndedError, assignment: Assignment): boolean {
    const { holders } = this.#parts;
    if (!retryable) {
      if (holders.any) this.#endElsewhere(index, assignment);
      return false;
    }
    if (holders.leave(index, assignment).length === 0) {
      holders.takeFailed(index);
      return false;
    }
    holders.fail(index, { code, stage });
    return true;
  }

  #takeFree(assignment: Assignment, items: Ranges, nowMs: number): { readonly free: readonly Group[]; readonly taken: Taken } {
    const returned = new Remainder(assignment);
    let count = 0;
    let weight = 0;
    eachRange(items, (first, end) => {
      count += assignment.take(first, end, (from, to, ordinal, history) => {
        weight += assignment.weightOf(ordinal, to - from);
        returned.add(from, to, ordinal, history);
      });
    });
    const free = returned.groups().flatMap((group) => this.#unheld(group, assignment, nowMs));
    return { free, taken: { items: count, weight } };
  }

  /** What of a group that has left its assignment nobody has any more. `suspect`: it was begun where it was lost. */
  #unheld(group: Group, assignment: Assignment, nowMs: number, suspect = false): readonly Group[] {
    const { assigner, holders, quarantine } = this.#parts;
    const { held, free } = holders.sift(group, assignment);
    if (held !== null && suspect) quarantine.mark(held);
    if (free === null) return [];
    assigner.running -= free.count;
    const { failed, clean } = holders.siftFailed(free);
    for (const { group: part, how } of failed) this.#retryFailed(part, how, nowMs);
    return clean === null ? [] : [clean];
  }

  /** One holder had failed them, the other has given up on them: that makes a try. */
  #retryFailed(group: Group, { code, stage }: FailedTry, nowMs: number): void {
    const attempts = group.history.attempts + 1;
    if (attempts < this.#parts.attemptsMax) return this.#retry(group, group.history.avoid, nowMs);
    const message = "its last try failed, and the Task Manager that tried it at the same time did not end it";
    this.#endAll({ ...group, history: { ...group.history, attempts } }, { code, stage, message }, nowMs);
  }

  // ---- another try, or none ----

  #takeBack(group: Group, cause: ReturnCause, idle: boolean, nowMs: number): void {
    switch (cause) {
      case "MEMORY": {
        const memoryReturns = group.history.memoryReturns + 1;
        const message = `does not fit into the memory of a Task Manager, not even alone (given back ${memoryReturns} times)`;
        if (memoryReturns > memoryReturnsMax) return this.#endAll(group, { code: "INPUT_TOO_LARGE", stage: "run", message }, nowMs);
        return this.#parts.waiting.release({ ...group, history: { ...group.history, memoryReturns } });
      }
      case "HOST_BUSY": {
        const rest = this.#parts.hosts.returned(group, nowMs);
        if (rest !== null) this.takeBackLater(rest, cause, nowMs);
        return;
      }
      case "DRAIN":
      case "DEADLINE":
      case "RECLAIMED":
      case "RESTART":
        if (idle) return this.takeBackLater(group, cause, nowMs);
        return this.#parts.waiting.release(group);
    }
  }

  #retry(group: Group, avoid: TaskManagerId, nowMs: number): void {
    const history: History = { ...group.history, attempts: group.history.attempts + 1, avoid };
    if (group.history.attempts === 0) this.retried += group.count;
    this.#backOff({ ...group, history }, history.attempts - 1, nowMs);
  }

  #backOff(group: Group, failures: number, nowMs: number): void {
    this.#parts.waiting.backOff(group);
    this.#parts.wake(nowMs + backOffMs(failures, retryFirstMs, retryMaxMs, () => this.#parts.random()), group);
  }

  #afterHang(group: Group, cause: LossCause, nowMs: number): void {
    const hangs = group.history.hangs + 1;
    const message = `${hangs} Task Managers in turn that had it were given up, the last one since it ${cause.message}`;
    if (hangs > hangsMax) return this.#endAll(group, { code: "ITEM_TIMEOUT", stage: "run", message }, nowMs);
    this.#parts.waiting.release({ ...group, history: { ...group.history, hangs } });
  }

  /** It took its Task Manager with it while nothing else was there. */
  #lostAlone(group: Group, cause: LossCause, nowMs: number): void {
    for (const index of indexesOf(group.ranges)) {
      const losses = this.#parts.quarantine.lostAlone(index);
      if (losses < lossesAloneMax) {
        this.#parts.quarantine.suspect(group, 1);
        continue;
      }
      const history = { ...group.history, attempts: group.history.attempts + losses };
      this.#endAll({ ...group, history }, { code: "TASK_MANAGER_LOST", stage: "run", message: lossMessage(cause, losses) }, nowMs);
    }
  }

  #endAll(group: Group, made: NonNullable<StoredError["made"]>, nowMs: number): void {
    let ordinal = 0;
    for (const index of indexesOf(group.ranges)) {
      this.#parts.quarantine.clear(index);
      this.#parts.outcomes.error({ index, attempts: group.history.attempts, made });
      this.#parts.hosts.ended(group.hosts?.[ordinal++] ?? 0, index, false, nowMs);
    }
  }
}

function lossMessage({ exitCode, signal, message }: LossCause, losses: number): string {
  const how = signal ?? (exitCode === null ? null : `exit code ${exitCode}`);
  const told = how === null || message.includes(how) ? message : `${message} (${how})`;
  return `its Task Manager was lost ${losses} times while nothing else was there, the last time: ${told}`;
}
