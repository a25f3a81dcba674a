import type { ReturnCause } from "../../task-manager/protocol.ts";
import type { AssignmentId, EndedError, SchedulerCommand } from "../scheduler/types.ts";
import type { Calendar } from "./calendar.ts";
import type { Items } from "./items.ts";
import type { Life } from "./machine-life.ts";
import { RangeQueue } from "./range-queue.ts";

export type Assign = Extract<SchedulerCommand, { kind: "assign" }>;

/** What a worker says; the carrier makes events of it. */
export type Report =
  | { readonly kind: "begun"; readonly assignment: AssignmentId; readonly index: number }
  | {
      readonly kind: "ended";
      readonly assignment: AssignmentId;
      /** In the order of their ends, and the seconds that each one took of the machine. */
      readonly indexes: readonly number[];
      readonly spentS: readonly number[];
      readonly errors: readonly EndedError[];
    }
  | { readonly kind: "returned"; readonly assignment: AssignmentId; readonly indexes: readonly number[]; readonly cause: ReturnCause }
  | { readonly kind: "heartbeat"; readonly held: readonly { readonly assignment: AssignmentId; readonly ended: number }[] }
  | { readonly kind: "idle" };

export interface WorkerOptions {
  readonly life: Life;
  readonly items: Items;
  readonly calendar: Calendar;
  readonly lanes: number;
  /** Of machine time before the first item of an assignment. */
  readonly handOverS: number;
  readonly reportS: number;
  say(report: Report): void;
  /** Seconds of the machine that an item took, whether it came to its end or not. */
  spent(seconds: number): void;
  /** For pictures: an assignment's time at the machine is over. */
  closed(assignment: AssignmentId, fromS: number): void;
}

interface Held {
  readonly id: AssignmentId;
  readonly waiting: RangeQueue;
  readonly notAfterS: number;
  opened: "no" | "opening" | "yes";
  openedS: number;
  /** Neither ended nor given back. */
  missing: number;
  /** Reported so far. */
  reported: number;
  indexes: number[];
  spentS: number[];
  errors: EndedError[];
  returned: { cause: ReturnCause; indexes: number[] }[];
  inLanes: number;
  cancelled: boolean;
}

interface Lane {
  readonly held: Held;
  readonly index: number;
  readonly serviceS: number;
  readonly wallS: number;
  readonly poison: boolean;
  begun: boolean;
  sinceS: number;
  /** Given back or forgotten. */
  dropped: boolean;
}

/** The machine side of a Task Manager: items through lanes, one machine part at a time, reports as they end. */
export class Worker {
  readonly #options: WorkerOptions;
  readonly #held: Held[] = [];
  /** Taken: the oldest first. */
  readonly #lanes: Lane[] = [];
  /** Their wall-clock part is over, or they have none. */
  #ready: Lane[] = [];
  /** What the machine works on, an item or a hand-over: one thing at a time, so that one function serves all. */
  #serving: Lane | null = null;
  #opening: Held | null = null;
  readonly #machineDone = () => this.#doneByMachine();
  #gathered = false;
  #reportTurn = 0;
  #draining: (() => void) | null = null;
  #dead = false;

  constructor(options: WorkerOptions) {
    this.#options = options;
  }

  get isIdle(): boolean {
    return this.#held.length === 0 && this.#lanes.length === 0;
  }

  assign({ assignment, items, reversed, notAfterMs }: Assign): void {
    if (this.#dead) return;
    const waiting = new RangeQueue(items, reversed);
    const held: Held = {
      id: assignment,
      waiting,
      notAfterS: notAfterMs === null ? Infinity : notAfterMs / 1000,
      opened: "no",
      openedS: this.#options.calendar.nowS,
      missing: waiting.count,
      reported: 0,
      indexes: [],
      spentS: [],
      errors: [],
      returned: [],
      inLanes: 0,
      cancelled: false,
    };
    this.#held.push(held);
    if (this.#draining !== null) return this.#giveBackAll("DRAIN");
    this.#work();
  }

  reclaim(assignment: AssignmentId, count: number): void {
    if (this.#dead) return;
    const held = this.#held.find(({ id }) => id === assignment);
    if (held === undefined) return this.#options.say({ kind: "returned", assignment, indexes: [], cause: "RECLAIMED" });
    const indexes = this.#takeUnbegun(held, count);
    if (indexes.length === 0) this.#options.say({ kind: "returned", assignment, indexes, cause: "RECLAIMED" });
    else this.#giveBack(held, indexes, "RECLAIMED");
    this.#flush();
    this.#work();
  }

  cancel(assignment: AssignmentId): void {
    if (this.#dead) return;
    const held = this.#held.find(({ id }) => id === assignment);
    if (held === undefined) return;
    held.cancelled = true;
    this.#takeUnbegun(held, Infinity);
    this.#remove(held);
    this.#work();
  }

  /** Ends what is begun, gives back the rest, then calls. */
  drain(done: () => void): void {
    if (this.#dead) return;
    this.#draining = done;
    this.#giveBackAll("DRAIN");
    this.#leaveIfDone();
  }

  /** Nothing more happens here; what was begun is lost. */
  end(): void {
    if (this.#dead) return;
    this.#dead = true;
    const { nowS } = this.#options.calendar;
    for (const lane of this.#lanes) if (lane.begun) this.#options.spent(this.#soFarS(lane, nowS));
    for (const held of this.#held) this.#options.closed(held.id, held.openedS);
    this.#held.length = 0;
    this.#lanes.length = 0;
    this.#ready = [];
  }

  heartbeat(): void {
    if (this.#dead) return;
    this.#options.say({ kind: "heartbeat", held: this.#held.map(({ id, reported }) => ({ assignment: id, ended: reported })) });
  }

  // ---- work ----

  #work(): void {
    if (this.#dead) return;
    this.#fillLanes();
    this.#serve();
  }

  #fillLanes(): void {
    while (this.#lanes.length < this.#options.lanes) {
      const held = this.#nextHeld();
      if (held === undefined) return;
      if (held.notAfterS <= this.#options.calendar.nowS) {
        this.#giveBack(held, held.waiting.giveBack(Infinity), "DEADLINE");
        continue;
      }
      if (held.opened !== "yes") {
        // A split's hand-over is machine time, so that with one lane it waits for the item before.
        if (held.opened === "no" && this.#options.handOverS === 0) held.opened = "yes";
        else return;
      } else this.#enter(held);
    }
  }

  /** The assignment that the next item comes from. */
  #nextHeld(): Held | undefined {
    for (const held of this.#held) if (held.waiting.count > 0) return held;
    return undefined;
  }

  #enter(held: Held): void {
    const { items, calendar, lanes, life } = this.#options;
    const index = held.waiting.take();
    items.look(index);
    const lane: Lane = {
      held,
      index,
      serviceS: items.serviceS * life.factor,
      wallS: items.wallS,
      poison: items.poison,
      begun: false,
      sinceS: calendar.nowS,
      dropped: false,
    };
    held.inLanes += 1;
    this.#lanes.push(lane);
    if (lanes === 1 || lane.poison) this.#begin(lane);
    if (lane.poison) return this.#after(lane.wallS, () => this.#left(lane));
    if (lane.wallS === 0) return void this.#ready.push(lane);
    this.#after(lane.wallS, () => this.#wallOver(lane));
  }

  #wallOver(lane: Lane): void {
    if (this.#dead || lane.dropped) return;
    this.#ready.push(lane);
    this.#serve();
  }

  /** Gives the machine its next piece of work. */
  #serve(): void {
    if (this.#serving !== null || this.#opening !== null || this.#dead) return;
    const opening = this.#lanes.length < this.#options.lanes ? this.#nextHeld() : undefined;
    if (opening?.opened === "no") return this.#open(opening);
    const lane = this.#nextReady();
    if (lane === undefined) return;
    if (!lane.begun) {
      this.#begin(lane);
      lane.sinceS = this.#options.calendar.nowS;
    }
    this.#serving = lane;
    this.#after(lane.serviceS, this.#machineDone);
  }

  #doneByMachine(): void {
    const lane = this.#serving;
    const held = this.#opening;
    this.#serving = null;
    this.#opening = null;
    if (this.#dead) return;
    if (held !== null) held.opened = "yes";
    if (lane === null) this.#work();
    else this.#left(lane);
  }

  #nextReady(): Lane | undefined {
    for (;;) {
      const lane = this.#ready.shift();
      if (lane === undefined || !lane.dropped) return lane;
    }
  }

  #open(held: Held): void {
    held.opened = "opening";
    held.openedS = this.#options.calendar.nowS;
    this.#opening = held;
    this.#after(this.#options.handOverS, this.#machineDone);
  }

  #begin(lane: Lane): void {
    lane.begun = true;
    this.#options.say({ kind: "begun", assignment: lane.held.id, index: lane.index });
  }

  #leaveLane(lane: Lane): void {
    this.#lanes.splice(this.#lanes.indexOf(lane), 1);
  }

  /** The item is at its end. */
  #left(lane: Lane): void {
    if (this.#dead) return;
    const { held, index, poison } = lane;
    this.#leaveLane(lane);
    held.inLanes -= 1;
    const spentS = lane.serviceS + lane.wallS;
    this.#options.spent(spentS);
    if (held.cancelled) this.#leaveIfDone();
    else {
      held.missing -= 1;
      held.indexes.push(index);
      held.spentS.push(spentS);
      if (poison) held.errors.push({ index, code: "ITEM_TIMEOUT", stage: "function", retryable: false });
      this.#gather(held);
    }
    this.#work();
    if (this.#draining !== null) this.#leaveIfDone();
  }

  /** Nothing is taken from the calendar again: what is called looks itself whether the machine is still there. */
  #after(seconds: number, happening: () => void): void {
    const { life, calendar } = this.#options;
    calendar.at(life.workedAt(calendar.nowS, seconds), happening);
  }

  #soFarS(lane: Lane, nowS: number): number {
    return Math.min(lane.serviceS + lane.wallS, Math.max(0, nowS - lane.sinceS));
  }

  // ---- giving back ----

  /** The last of what is not begun: first from the queue, then from the lanes. */
  #takeUnbegun(held: Held, count: number): number[] {
    const indexes = held.waiting.giveBack(count);
    const inLanes = this.#lanes.filter((lane) => lane.held === held && !lane.begun).reverse();
    for (const lane of inLanes.slice(0, Math.max(0, count - indexes.length))) {
      lane.dropped = true;
      held.inLanes -= 1;
      this.#leaveLane(lane);
      indexes.push(lane.index);
    }
    return indexes;
  }

  #giveBackAll(cause: ReturnCause): void {
    for (const held of [...this.#held]) {
      const indexes = this.#takeUnbegun(held, Infinity);
      if (indexes.length > 0) this.#giveBack(held, indexes, cause);
    }
    this.#flush();
  }

  #giveBack(held: Held, indexes: number[], cause: ReturnCause): void {
    held.missing -= indexes.length;
    held.returned.push({ cause, indexes });
    this.#gather(held);
  }

  // ---- reports ----

  /** At once where the assignment is complete, else after a while. */
  #gather({ missing }: Held): void {
    if (missing === 0) return this.#flush();
    if (this.#gathered) return;
    this.#gathered = true;
    const turn = ++this.#reportTurn;
    this.#after(this.#options.reportS, () => {
      if (turn === this.#reportTurn && !this.#dead) this.#flush();
    });
  }

  #flush(): void {
    this.#reportTurn += 1;
    this.#gathered = false;
    for (const held of [...this.#held]) {
      this.#report(held);
      if (held.missing === 0) this.#remove(held);
    }
    if (this.isIdle) this.#options.say({ kind: "idle" });
  }

  #report(held: Held): void {
    const { indexes, spentS, errors, returned } = held;
    if (indexes.length > 0) {
      held.indexes = [];
      held.spentS = [];
      held.errors = [];
      held.reported += indexes.length;
      this.#options.say({ kind: "ended", assignment: held.id, indexes, spentS, errors });
    }
    for (const { cause, indexes: back } of returned) {
      held.reported += back.length;
      this.#options.say({ kind: "returned", assignment: held.id, indexes: back, cause });
    }
    held.returned = [];
  }

  #remove(held: Held): void {
    const at = this.#held.indexOf(held);
    if (at >= 0) this.#held.splice(at, 1);
    this.#options.closed(held.id, held.openedS);
  }

  #leaveIfDone(): void {
    if (this.#draining === null || this.#lanes.length > 0) return;
    this.#flush();
    this.#draining();
  }
}

