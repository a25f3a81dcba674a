/** A Task Manager as the scheduler sees it: what it says, when, and what goes wrong with it. */
import type { ReturnCause } from "../../task-manager/protocol.ts";
import { indexesOf, rangesFromSorted } from "../../orchestrator/scheduler/ranges.ts";
import type { AssignmentId, EndedError, SchedulerCommand, SchedulerEvent, TaskManagerId } from "../../orchestrator/scheduler/types.ts";
import type { Chance, Fault, ItemNature } from "./search-nature.ts";

export const heartbeatMs = 2000;
const reportMs = 250;
/** So that the end comes within a bounded number of looks at what is late. */
const serviceMaxMs = 120_000;

export interface Surroundings {
  readonly chance: Chance;
  readonly items: readonly ItemNature[];
  heartbeats(): boolean;
  nowMs(): number;
  /** While this orchestrator lives. */
  later(delayMs: number, what: () => void): void;
  /** Does this fault happen now? */
  strikes(fault: Fault, probability: number): boolean;
  hear(event: SchedulerEvent): void;
  /** Until when a host answers nothing; null: it answers. */
  busyUntilMs(host: number): number | null;
  /** One more try of the item has ended; how many that makes. */
  tried(index: number): number;
}

interface Held {
  readonly id: AssignmentId;
  /** In the order in which they will be begun. */
  waiting: number[];
  readonly begun: Set<number>;
  results: number[];
  errors: EndedError[];
  ended: number;
}

export class TaskManagerModel {
  readonly id: TaskManagerId;
  readonly room: number;
  readonly lanes: number;
  /** When its place is taken from it; undefined: never. */
  readonly endsAtMs: number | undefined;
  readonly #speed: number;
  readonly #around: Surroundings;
  #alive = true;
  #draining = false;
  #pausedUntilMs = 0;
  #lastArrivalMs = 0;
  #lastToldMs = 0;
  #held: Held[] = [];
  /** What it has said lately, for a carrier that sends it again. */
  #said: SchedulerEvent[] = [];

  constructor(id: TaskManagerId, slow: boolean, around: Surroundings) {
    const { chance } = around;
    this.id = id;
    this.room = chance.between(1, 3);
    this.lanes = chance.between(1, 4);
    this.#speed = slow ? chance.between(2, 30) : 1;
    this.#around = around;
    this.endsAtMs = around.strikes("ends-at", 0.3) ? around.nowMs() + chance.between(500, 20_000) : undefined;
  }

  join(): void {
    const { id, room, lanes, endsAtMs } = this;
    this.#around.hear({ kind: "task-manager-joined", id, room, lanes, ...(endsAtMs === undefined ? {} : { endsAtMs }) });
    this.#act(heartbeatMs, () => this.#beat());
    if (endsAtMs !== undefined) this.#around.later(endsAtMs - this.#around.nowMs(), () => this.#die(false));
  }

  // ---- what it is told, in the order in which it was said ----

  assign({ assignment, items, notAfterMs, reversed }: Extract<SchedulerCommand, { kind: "assign" }>): void {
    if (this.#around.strikes("forgets", 0.03)) return;
    this.#told(() => {
      if (this.#around.strikes("declines", 0.05)) return this.#send({ kind: "assignment-refused", id: this.id, assignment, message: "not with me" });
      const indexes = [...indexesOf(items)];
      this.#receive(assignment, reversed ? indexes.reverse() : indexes);
      if (notAfterMs !== null) this.#act(Math.max(0, notAfterMs - this.#around.nowMs()), () => this.#giveBackWaiting(assignment, Infinity, "DEADLINE"));
    });
  }

  reclaim({ assignment, items }: Extract<SchedulerCommand, { kind: "reclaim" }>): void {
    if (this.#around.strikes("forgets", 0.1) || this.#around.strikes("mute", 0.3)) return;
    this.#told(() => {
      const late = this.#around.strikes("stalls", 0.2) ? this.#around.chance.between(100, 5000) : 0;
      this.#act(late, () => {
        const known = this.#held.some(({ id }) => id === assignment);
        if (known) this.#giveBackWaiting(assignment, items, "RECLAIMED");
        else this.#send({ kind: "items-returned", id: this.id, assignment, items: [], cause: "RECLAIMED" });
      });
    });
  }

  cancel(assignment: AssignmentId): void {
    if (this.#around.strikes("forgets", 0.1)) return;
    this.#told(() => {
      this.#held = this.#held.filter(({ id }) => id !== assignment);
      this.#work();
    });
  }

  drain(): void {
    this.#told(() => {
      this.#draining = true;
      for (const { id } of [...this.#held]) this.#giveBackWaiting(id, Infinity, "DRAIN");
      const end = () => {
        if (this.#held.length > 0) return this.#act(50, end);
        this.#alive = false;
        this.#afterLastWord(1, () => this.#lose("ended as asked"));
      };
      this.#act(1, end);
    });
  }

  /** Where the carrier has no way to it any more, it goes on for a while, and is heard. */
  kill(): void {
    if (!this.#around.strikes("zombies", 0.5)) this.#alive = false;
    else this.#around.later(this.#around.chance.between(100, 10_000), () => (this.#alive = false));
  }

  // ---- what it does ----

  /** Something that it does, unless it is dead by then; paused, it does it later. */
  #act(delayMs: number, what: () => void): void {
    this.#around.later(delayMs, () => {
      if (!this.#alive) return;
      const nowMs = this.#around.nowMs();
      if (this.#pausedUntilMs > nowMs) return this.#act(this.#pausedUntilMs - nowMs, what);
      what();
    });
  }

  #told(what: () => void): void {
    const nowMs = this.#around.nowMs();
    this.#lastToldMs = Math.max(this.#lastToldMs + 1, nowMs + this.#around.chance.between(0, 50));
    this.#act(this.#lastToldMs - nowMs, what);
  }

  /** In order of sending; sometimes twice, sometimes never, and then it ends soon. */
  #send(event: SchedulerEvent): void {
    const { chance, strikes } = this.#around;
    if (strikes("drops", 0.01)) return void this.#act(chance.between(0, 1000), () => this.#die(false));
    this.#said.push(event);
    if (this.#said.length > 4) this.#said.shift();
    this.#deliver(event);
    if (strikes("duplicates", 0.05)) this.#deliver(event);
    if (strikes("resends", 0.02)) for (const again of this.#said) this.#deliver(again);
  }

  #deliver(event: SchedulerEvent): void {
    const nowMs = this.#around.nowMs();
    this.#lastArrivalMs = Math.max(this.#lastArrivalMs + 1, nowMs + this.#around.chance.between(1, 60));
    this.#around.later(this.#lastArrivalMs - nowMs, () => this.#around.hear(event));
  }

  #beat(): void {
    const { chance, strikes, heartbeats } = this.#around;
    if (strikes("kills", 0.08)) return this.#die(false);
    if (heartbeats() && strikes("silent", 0.05)) return this.#die(true);
    if (strikes("stalls", 0.15)) this.#pausedUntilMs = this.#around.nowMs() + chance.between(1000, 12_000);
    if (heartbeats()) this.#send({ kind: "heartbeat", id: this.id, held: this.#held.map(({ id, ended }) => ({ assignment: id, ended })) });
    this.#act(heartbeatMs, () => this.#beat());
  }

  #receive(assignment: AssignmentId, indexes: number[]): void {
    const { chance, strikes } = this.#around;
    const held: Held = { id: assignment, waiting: indexes, begun: new Set(), results: [], errors: [], ended: 0 };
    this.#held.push(held);
    if (this.#draining) return this.#giveBackWaiting(assignment, Infinity, "DRAIN");
    if (strikes("returns", 0.1)) {
      const cause = chance.oneOf<ReturnCause>(["MEMORY", "RESTART", "DEADLINE", "DRAIN"]);
      this.#giveBackWaiting(assignment, chance.between(1, indexes.length), cause);
    }
    this.#work();
    this.#act(reportMs, () => this.#report(held));
  }

  #work(): void {
    for (const held of [...this.#held]) {
      while (held.waiting.length > 0 && this.#busyLanes() < this.lanes) {
        const index = held.waiting.shift();
        if (index !== undefined) this.#begin(held, index);
        if (!this.#alive) return;
      }
    }
  }

  #busyLanes(): number {
    let busy = 0;
    for (const { begun } of this.#held) busy += begun.size;
    return busy;
  }

  #begin(held: Held, index: number): void {
    const nature = this.#around.items[index];
    if (nature === undefined) throw new Error(`item ${index} was never there`);
    const untilMs = this.#around.busyUntilMs(nature.host);
    if (untilMs !== null) {
      this.#around.later(0, () => this.#around.hear({ kind: "host-blocked", host: nature.host, untilMs: Math.max(untilMs, this.#around.nowMs() + 100) }));
      return this.#giveBack(held, [index], "HOST_BUSY");
    }
    held.begun.add(index);
    this.#send({ kind: "items-begun", id: this.id, assignment: held.id, items: [index, index + 1] });
    if (this.#around.chance.is(0.02)) this.#send({ kind: "items-sized", id: this.id, assignment: held.id, weights: [[index, this.#around.chance.between(0, 20)]] });
    this.#act(Math.min(nature.serviceMs * this.#speed, serviceMaxMs), () => this.#end(held, index, nature));
  }

  #end(held: Held, index: number, nature: ItemNature): void {
    if (!this.#held.includes(held)) return;
    if (nature.poison) return this.#die(this.#around.heartbeats() && this.#around.chance.is(0.3));
    held.begun.delete(index);
    const tries = this.#around.tried(index);
    if (nature.broken) held.errors.push({ index, code: "DECODE_FAILED", stage: "preprocess", retryable: false });
    else if (tries <= nature.flaky) held.errors.push({ index, code: "DOWNLOAD_STATUS", stage: "download", retryable: true });
    else held.results.push(index);
    if (held.waiting.length === 0 && held.begun.size === 0) this.#report(held);
    this.#work();
  }

  #report(held: Held): void {
    if (!this.#held.includes(held)) return;
    const { results, errors } = held;
    if (results.length + errors.length > 0) {
      held.results = [];
      held.errors = [];
      held.ended += results.length + errors.length;
      this.#send({ kind: "items-ended", id: this.id, assignment: held.id, results: rangesFromSorted(results.sort((a, b) => a - b)), errors });
    }
    if (held.waiting.length > 0 || held.begun.size > 0) return this.#act(reportMs, () => this.#report(held));
    this.#held = this.#held.filter((each) => each !== held);
    if (this.#held.length === 0) this.#send({ kind: "task-manager-idle", id: this.id });
  }

  /** The last `count` of those that it has not begun. */
  #giveBackWaiting(assignment: AssignmentId, count: number, cause: ReturnCause): void {
    const held = this.#held.find(({ id }) => id === assignment);
    if (held === undefined) return;
    this.#giveBack(held, held.waiting.splice(Math.max(0, held.waiting.length - count)), cause);
  }

  #giveBack(held: Held, indexes: readonly number[], cause: ReturnCause): void {
    if (indexes.length > 0 || cause === "RECLAIMED") {
      held.ended += indexes.length;
      this.#send({ kind: "items-returned", id: this.id, assignment: held.id, items: rangesFromSorted([...indexes].sort((a, b) => a - b)), cause });
    }
    if (held.waiting.length === 0 && held.begun.size === 0) this.#report(held);
  }

  #die(silently: boolean): void {
    if (!this.#alive) return;
    this.#alive = false;
    if (!silently) this.#afterLastWord(this.#around.chance.between(1, 500), () => this.#lose("killed by SIGKILL"));
  }

  #afterLastWord(delayMs: number, what: () => void): void {
    this.#around.later(Math.max(0, this.#lastArrivalMs - this.#around.nowMs()) + delayMs, what);
  }

  #lose(message: string): void {
    this.#around.hear({ kind: "task-manager-lost", id: this.id, cause: { exitCode: null, signal: "SIGKILL", message } });
  }
}
