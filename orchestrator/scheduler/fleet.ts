import type { Assignment, Reclaim } from "./assignment.ts";
import { Fifo } from "./fifo.ts";
import type { TaskManagerId } from "./types.ts";

/** Busy time behind a measured rate; older work counts for half as much, so that a change is noticed. */
const rateMemoryMs = 30_000;
/** Before the end of its place nothing is handed out that would not have ended; a quarter of a place that is short. */
const endMarginMs = 5_000;

/**
 * `live`: can be given work. `leaving`: goes back to the pool once it is empty, or stays where it is wanted again.
 * `silent`: not heard of for so long that its items went elsewhere, yet nothing can stop it. `draining`: asked to end.
 */
export type MemberState = "live" | "leaving" | "silent" | "draining";

export interface TaskManager {
  readonly id: TaskManagerId;
  readonly room: number;
  readonly lanes: number;
  /** Oldest first: the first one runs, the others are prefetched. */
  readonly assignments: Assignment[];
  /** Items of its split that are not handed out yet. */
  bound: number;
  state: MemberState;
  /** When its place is taken from it. */
  readonly endsAtMs: number;
  /** Nothing that would end later is given to it. */
  readonly untilMs: number;
  /** Given up, and still worked on there: until they have ended it has no room. */
  readonly ghosts: Set<Assignment>;
  /** The reclaimed items that it is to be given. */
  promised: Reclaim | null;
  /** Smoothed time from a request to give back to the answer. */
  roundTripMs: number | null;
  /** Holds items that must be alone. */
  exclusive: boolean;
  /** Gets nothing more until it is empty, then items that must be alone. */
  reserved: boolean;
  given: number;
  /** Whatever it would be given would not end before its place is taken from it. */
  retired: boolean;
  refusals: number;
  heardMs: number;
  heartbeatMs: number | null;
  /** When it ended an item last, or got work while it had none. */
  progressMs: number;
  /** It has begun or ended an item. */
  proven: boolean;
  itemsEnded: number;
  /** Time of its one valid entry among the deadlines. */
  wakeMs: number;
  busySinceMs: number | null;
  busyMs: number;
  weightEnded: number;
  inHungry: boolean;
  inSpare: boolean;
}

export interface FleetOptions {
  readonly prefetch: boolean;
  readonly assignmentsMax: number | null;
}

export interface Joining {
  readonly id: TaskManagerId;
  readonly room: number;
  readonly lanes: number;
  readonly endsAtMs: number | null;
}

/** The Task Managers that joined, who of them can take more, and how fast they are. */
export class Fleet {
  readonly #options: FleetOptions;
  readonly #members = new Map<TaskManagerId, TaskManager>();
  readonly #hungry = new Fifo<TaskManager>();
  readonly #spare = new Fifo<TaskManager>();
  #live = 0;
  #proven = 0;
  #holding = 0;
  #idle = 0;
  /** Live and without an assignment: those that idle, and those that are busy with what nobody wants any more. */
  #resting = 0;
  #apart = 0;
  #lanes = 1;
  #bound = 0;
  // Sums that give the fleet's busy time without a walk over its members.
  #busySinceSumMs = 0;
  #busyMs = 0;
  #weightEnded = 0;
  #heardMs = -Infinity;
  #roundTripMs: number | null = null;
  #startMs: number | null = null;
  #longestMs = 0;

  constructor(options: FleetOptions) {
    this.#options = options;
  }

  /** All that joined and have not ended, whatever their state. */
  get size(): number {
    return this.#members.size;
  }

  /** Those that can be given work. */
  get live(): number {
    return this.#live;
  }

  /** Of the one that joined last: what to expect of the next. */
  get lanes(): number {
    return this.#lanes;
  }

  /** Those of them that have begun or ended an item. */
  get proven(): number {
    return this.#proven;
  }

  /** Those that hold items. */
  get holding(): number {
    return this.#holding;
  }

  /** Those that hold nothing and can be given work. */
  get idle(): number {
    return this.#idle;
  }

  /** Those that do what is wanted, or could. */
  get able(): number {
    return this.#live - (this.#resting - this.#idle);
  }

  /** Those that hold, or wait for, items that must be alone. */
  get apart(): number {
    return this.#apart;
  }

  /** Items bound to Task Managers that are not handed out yet. */
  get bound(): number {
    return this.#bound;
  }

  get(id: TaskManagerId): TaskManager | undefined {
    return this.#members.get(id);
  }

  all(): IterableIterator<TaskManager> {
    return this.#members.values();
  }

  join({ id, room, lanes, endsAtMs }: Joining, nowMs: number): TaskManager {
    const member: TaskManager = {
      id,
      room: this.#options.prefetch ? Math.max(1, room) : 1,
      lanes: Math.max(1, lanes),
      assignments: [],
      bound: 0,
      state: "live",
      endsAtMs: endsAtMs ?? Infinity,
      untilMs: endsAtMs === null ? Infinity : endsAtMs - Math.min(endMarginMs, Math.max(0, endsAtMs - nowMs) / 4),
      ghosts: new Set(),
      promised: null,
      roundTripMs: null,
      exclusive: false,
      reserved: false,
      given: 0,
      retired: false,
      refusals: 0,
      heardMs: nowMs,
      heartbeatMs: null,
      progressMs: nowMs,
      proven: false,
      itemsEnded: 0,
      wakeMs: Infinity,
      busySinceMs: null,
      busyMs: 0,
      weightEnded: 0,
      inHungry: false,
      inSpare: false,
    };
    this.#members.set(id, member);
    this.#lanes = member.lanes;
    this.#live += 1;
    this.#idle += 1;
    this.#resting += 1;
    this.list(member);
    return member;
  }

  /** Its assignments must have been taken from it. */
  remove(member: TaskManager): void {
    if (member.assignments.length > 0) throw new Error(`Task Manager ${member.id} leaves with ${member.assignments.length} assignments`);
    this.setState(member, "draining");
    this.#members.delete(member.id);
  }

  setState(member: TaskManager, state: MemberState): void {
    if (member.state === state) return;
    const change = Number(state === "live") - Number(member.state === "live");
    member.state = state;
    this.#live += change;
    if (isIdle(member)) this.#idle += change;
    if (member.assignments.length === 0) this.#resting += change;
    if (member.proven) this.#proven += change;
    if (change > 0) return this.list(member);
    this.bind(member, 0);
    this.setReserved(member, false);
  }

  bind(member: TaskManager, items: number): void {
    this.#bound += items - member.bound;
    member.bound = items;
  }

  setReserved(member: TaskManager, reserved: boolean): void {
    if (member.reserved === reserved) return;
    member.reserved = reserved;
    this.#apart += reserved ? 1 : -1;
  }

  give(member: TaskManager, assignment: Assignment, nowMs: number): void {
    if (assignment.exclusive) {
      this.setReserved(member, false);
      member.exclusive = true;
      this.#apart += 1;
    }
    if (member.assignments.length === 0) {
      this.#holding += 1;
      if (member.state === "live") {
        this.#idle -= 1;
        this.#resting -= 1;
      }
      member.busySinceMs = nowMs;
      member.progressMs = nowMs;
      assignment.runningSinceMs = nowMs;
      this.#busySinceSumMs += nowMs;
    }
    member.promised = null;
    member.assignments.push(assignment);
    member.given += 1;
    this.list(member);
  }

  /** The assignment is over, whatever became of its items. */
  takeAway(member: TaskManager, assignment: Assignment, nowMs: number): void {
    const at = member.assignments.indexOf(assignment);
    if (at < 0) throw new Error(`assignment ${assignment.id} is not at Task Manager ${member.id}`);
    member.assignments.splice(at, 1);
    if (assignment.exclusive) {
      member.exclusive = false;
      this.#apart -= 1;
    }
    const [oldest] = member.assignments;
    if (oldest === undefined) this.#rest(member, nowMs);
    else oldest.runningSinceMs ??= nowMs;
    this.list(member);
  }

  /** It is over for the job, yet its holder goes on with it. */
  haunt(member: TaskManager, assignment: Assignment): void {
    if (member.state === "live" && isIdle(member)) this.#idle -= 1;
    member.ghosts.add(assignment);
  }

  /** Its holder has ended what nobody wanted any more. */
  lay(member: TaskManager, assignment: Assignment): void {
    if (!member.ghosts.delete(assignment)) return;
    if (member.state === "live" && isIdle(member)) this.#idle += 1;
    this.list(member);
  }

  heard(member: TaskManager, nowMs: number): void {
    member.heardMs = nowMs;
    this.#heardMs = nowMs;
  }

  /** When any of them was heard of last. */
  get heardMs(): number {
    return this.#heardMs;
  }

  /** It began what it was given while it idled after that time. */
  began(startMs: number): void {
    this.#startMs = smoothed(this.#startMs, startMs);
  }

  /** From an assignment to the first item that its holder begins, where it idled; null: not measured yet. */
  get startMs(): number | null {
    return this.#startMs;
  }

  /** It answered a request after that time. */
  answered(member: TaskManager, roundTripMs: number): void {
    member.roundTripMs = smoothed(member.roundTripMs, roundTripMs);
    this.#roundTripMs = smoothed(this.#roundTripMs, roundTripMs);
  }

  /** From a request to its answer, for one that may not have been asked yet; null: nobody was. */
  roundTripMs(member: TaskManager): number | null {
    return member.roundTripMs ?? this.#roundTripMs;
  }

  /** An item ended so long after its holder began it. */
  lasted(timeMs: number): void {
    this.#longestMs = Math.max(this.#longestMs, timeMs);
  }

  /** The longest that an item lasted, as far as was seen. */
  get longestMs(): number {
    return this.#longestMs;
  }

  prove(member: TaskManager): void {
    if (member.proven) return;
    member.proven = true;
    if (member.state === "live") this.#proven += 1;
  }

  ended(member: TaskManager, items: number, weight: number, nowMs: number): void {
    this.prove(member);
    member.progressMs = nowMs;
    member.itemsEnded += items;
    member.weightEnded += weight;
    this.#weightEnded += weight;
    const busyMs = this.busyMsOf(member, nowMs);
    if (busyMs <= rateMemoryMs) return;
    member.busyMs -= busyMs / 2;
    member.weightEnded /= 2;
  }

  /** Notes that it can take more, if it can. */
  list(member: TaskManager): void {
    if (member.assignments.length === 0 && !member.inHungry && this.#canTake(member)) {
      member.inHungry = true;
      this.#hungry.push(member);
    } else if (member.assignments.length > 0 && !member.inSpare && this.#canPrefetch(member)) {
      member.inSpare = true;
      this.#spare.push(member);
    }
  }

  /** The Task Manager that has been without work for longest. */
  nextHungry(): TaskManager | undefined {
    for (let member = this.#hungry.shift(); member !== undefined; member = this.#hungry.shift()) {
      member.inHungry = false;
      if (member.assignments.length === 0 && this.#canTake(member)) return member;
      this.list(member);
    }
    return undefined;
  }

  /** One that works and has room for more. */
  nextSpare(): TaskManager | undefined {
    for (let member = this.#spare.shift(); member !== undefined; member = this.#spare.shift()) {
      member.inSpare = false;
      if (member.assignments.length > 0 && this.#canPrefetch(member)) return member;
      this.list(member);
    }
    return undefined;
  }

  /** It holds nothing and can be given work. */
  isFree(member: TaskManager): boolean {
    return member.assignments.length === 0 && this.#members.get(member.id) === member && this.#canTake(member);
  }

  /** No more assignments may be given to it. */
  isSpent(member: TaskManager): boolean {
    const { assignmentsMax } = this.#options;
    return member.retired || (assignmentsMax !== null && member.given >= assignmentsMax);
  }

  /** Milliseconds of one Task Manager for a unit of weight; null: nothing has ended yet. */
  meanMs(nowMs: number): number | null {
    return this.#weightEnded === 0 ? null : Math.max(this.busyMs(nowMs), 1) / this.#weightEnded;
  }

  /** The same of all but one, so that its own trouble does not seem usual; of all where the others have ended nothing. */
  meanMsBeside(member: TaskManager, nowMs: number): number | null {
    const weight = this.#weightEnded - member.weightEnded;
    if (weight <= 0) return this.meanMs(nowMs);
    return Math.max(this.busyMs(nowMs) - this.busyMsOf(member, nowMs), 1) / weight;
  }

  /** Milliseconds in which they held items, summed over all. */
  busyMs(nowMs: number): number {
    return this.#busyMs + this.#holding * nowMs - this.#busySinceSumMs;
  }

  /** The same for one of them, drawn to the fleet's mean as if that had been seen on four items. */
  estimateMs(member: TaskManager, fleetMeanMs: number, meanWeight: number, nowMs: number): number {
    const priorWeight = 4 * meanWeight;
    return (this.busyMsOf(member, nowMs) + priorWeight * fleetMeanMs) / (member.weightEnded + priorWeight);
  }

  /** The same by what it has ended: the item that it is at now may be long, which says nothing of the machine. */
  paceMs(member: TaskManager, fleetMeanMs: number, meanWeight: number): number {
    const priorWeight = 4 * meanWeight;
    return (this.busyMsOf(member, member.progressMs) + priorWeight * fleetMeanMs) / (member.weightEnded + priorWeight);
  }

  #rest(member: TaskManager, nowMs: number): void {
    const sinceMs = member.busySinceMs ?? nowMs;
    member.busyMs += nowMs - sinceMs;
    member.busySinceMs = null;
    this.#holding -= 1;
    if (member.state === "live") {
      this.#resting += 1;
      if (isIdle(member)) this.#idle += 1;
    }
    this.#busySinceSumMs -= sinceMs;
    this.#busyMs += nowMs - sinceMs;
  }

  /** The same for one of them, as far as it is remembered. */
  busyMsOf(member: TaskManager, nowMs: number): number {
    return member.busyMs + (member.busySinceMs === null ? 0 : Math.max(0, nowMs - member.busySinceMs));
  }

  #canTake(member: TaskManager): boolean {
    return member.state === "live" && member.ghosts.size === 0 && !this.isSpent(member);
  }

  #canPrefetch(member: TaskManager): boolean {
    if (member.exclusive || member.reserved || member.assignments.length >= member.room || !this.#canTake(member)) return false;
    // What it was just asked to give back must not be handed to it again.
    return member.assignments.every(({ reclaim, exhausted }) => reclaim === null && !exhausted);
  }
}

/** It holds nothing, nor works on anything that was given up. */
function isIdle({ assignments, ghosts }: TaskManager): boolean {
  return assignments.length === 0 && ghosts.size === 0;
}

function smoothed(before: number | null, value: number): number {
  return before === null ? value : before + (value - before) / 4;
}
