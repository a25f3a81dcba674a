/** What the scheduler may believe, from what it was told, and what it may therefore ask for. */
import { countOf, indexesOf } from "../../orchestrator/scheduler/ranges.ts";
import type { AssignmentId, SchedulerCommand, SchedulerEvent, SchedulerPlan, TaskManagerId } from "../../orchestrator/scheduler/types.ts";

type CommandOf<Kind extends SchedulerCommand["kind"]> = Extract<SchedulerCommand, { kind: Kind }>;
type EventOf<Kind extends SchedulerEvent["kind"]> = Extract<SchedulerEvent, { kind: Kind }>;

interface Given {
  readonly id: AssignmentId;
  readonly holder: TaskManagerId;
  readonly givenMs: number;
  /** Neither ended nor come back. */
  readonly missing: Set<number>;
  readonly begun: Set<number>;
  /** Heartbeats in a row that lack it although they should not. */
  lacking: number;
}

interface Known {
  state: "launching" | "joined" | "draining";
  room: number;
  endsAtMs: number;
  /** Given something since the allowance was last not raised. */
  wanted: boolean;
  /** Asked to give back since it was given something. */
  asked: boolean;
  heartbeatMs: number;
  heardMs: number;
  readonly given: Map<AssignmentId, Given>;
}

export class Books {
  readonly #plan: SchedulerPlan;
  readonly #known = new Map<TaskManagerId, Known>();
  /** Who has the item: its assignments, the copies last. */
  readonly #holders = new Map<number, Given[]>();
  readonly #ended = new Map<number, "result" | "error">();
  /** Losses of a Task Manager while nothing but the item was there, those that an earlier run saw included. */
  readonly #lossesAlone = new Map<number, number>();
  /** The last note of those in quarantine; a try of some of them has ended since, so that they are not any more. */
  #noted: ReadonlyMap<number, number> = new Map();
  readonly #cleared = new Set<number>();
  /** Known from an earlier run to have been lost alone, and not tried to an end in this one. */
  readonly #restoredAlone = new Set<number>();
  #allowance = 0;
  #read = 0;
  /** Items that were given to a second one. */
  copied = 0;

  constructor(plan: SchedulerPlan) {
    this.#plan = plan;
  }

  get running(): number {
    return this.#holders.size;
  }

  get read(): number {
    return this.#read;
  }

  get endedCount(): number {
    return this.#ended.size;
  }

  get taskManagers(): number {
    return this.#known.size;
  }

  knows(id: TaskManagerId): boolean {
    return this.#known.has(id);
  }

  // ---- what it is told ----

  hear(event: SchedulerEvent, nowMs: number): void {
    this.#apply(event, nowMs);
    const sender = "id" in event ? this.#known.get(event.id) : undefined;
    if (sender !== undefined && event.kind !== "launch-ended") sender.heardMs = nowMs;
    if (this.#plan.heartbeats && !this.#plan.supports.cancel) this.#forgetSilent(nowMs);
  }

  /** Where nothing can stop them, those that are silent keep their place and lose what they hold. */
  #forgetSilent(nowMs: number): void {
    for (const known of this.#known.values()) {
      if (known.state === "draining" || nowMs < known.heardMs + this.#plan.heartbeatTimeoutMs) continue;
      this.#loseAll(known);
      // Another may work in its stead, and it again once it is heard of.
      if (known.state === "joined") known.wanted = false;
    }
  }

  #apply(event: SchedulerEvent, nowMs: number): void {
    switch (event.kind) {
      case "items-read":
        for (const index of indexesOf(event.done)) this.#ended.set(index, "result");
        this.#read += event.count;
        return;
      case "quarantine-restored": {
        const losses = lossesOf(event);
        for (const [index, count] of losses) this.#lossesAlone.set(index, count);
        for (const [index, count] of losses) if (count > 0) this.#restoredAlone.add(index);
        return;
      }
      case "allowance-changed":
        // The same once more is one more occasion to choose who stays.
        if (event.taskManagers <= this.#allowance) for (const known of this.#known.values()) known.wanted = false;
        this.#allowance = event.taskManagers;
        return;
      case "task-manager-joined": {
        const known = this.#known.get(event.id);
        if (known === undefined) return;
        known.state = "joined";
        known.room = event.room;
        known.endsAtMs = event.endsAtMs ?? Infinity;
        known.heardMs = nowMs;
        return;
      }
      case "launch-ended":
      case "task-manager-lost":
        return this.#forget(event.id);
      case "items-begun":
        for (const index of indexesOf(event.items)) this.#givenOf(event)?.begun.add(index);
        return;
      case "items-ended":
        return this.#heardEnded(event);
      case "items-returned":
        for (const index of indexesOf(event.items)) this.#leave(this.#givenOf(event), index);
        return;
      case "assignment-refused":
        return this.#close(this.#givenOf(event));
      case "heartbeat":
        return this.#heardHeartbeat(event, nowMs);
      default:
        return;
    }
  }

  #heardEnded(event: EventOf<"items-ended">): void {
    const given = this.#givenOf(event);
    for (const index of [...indexesOf(event.results), ...event.errors.map((error) => error.index)]) {
      if (given?.missing.has(index) === true) {
        this.#cleared.add(index);
        this.#restoredAlone.delete(index);
      }
      this.#leave(given, index);
    }
  }

  #heardHeartbeat({ id, held }: EventOf<"heartbeat">, nowMs: number): void {
    const known = this.#known.get(id);
    if (known === undefined) return;
    const beforeMs = known.heartbeatMs;
    known.heartbeatMs = nowMs;
    for (const given of [...known.given.values()]) {
      if (held.some(({ assignment }) => assignment === given.id)) given.lacking = 0;
      else if (given.givenMs < beforeMs) given.lacking += 1;
      if (given.lacking >= 2) this.#close(given);
    }
  }

  #givenOf({ id, assignment }: { readonly id: TaskManagerId; readonly assignment: AssignmentId }): Given | undefined {
    return this.#known.get(id)?.given.get(assignment);
  }

  #leave(given: Given | undefined, index: number): void {
    if (given === undefined || !given.missing.delete(index)) return;
    const others = this.#holders.get(index)?.filter((each) => each !== given) ?? [];
    if (others.length === 0) this.#holders.delete(index);
    else this.#holders.set(index, others);
    if (given.missing.size === 0) this.#known.get(given.holder)?.given.delete(given.id);
  }

  #close(given: Given | undefined): void {
    for (const index of [...(given?.missing ?? [])]) this.#leave(given, index);
  }

  #forget(id: TaskManagerId): void {
    const known = this.#known.get(id);
    if (known !== undefined) this.#loseAll(known);
    this.#known.delete(id);
  }

  #loseAll(known: Known): void {
    const given = [...known.given.values()];
    const [first] = given;
    const [alone] = first?.missing ?? [];
    if (given.length === 1 && first?.missing.size === 1 && alone !== undefined) this.#lossesAlone.set(alone, (this.#lossesAlone.get(alone) ?? 0) + 1);
    for (const each of given) this.#close(each);
  }

  // ---- what it asks for ----

  launch({ ids }: CommandOf<"launch">): void {
    for (const id of ids) {
      check(!this.#known.has(id), `Task Manager ${id} is launched twice`);
      this.#known.set(id, { state: "launching", room: 0, endsAtMs: Infinity, wanted: true, asked: false, heartbeatMs: -Infinity, heardMs: Infinity, given: new Map() });
    }
    const allowed = Math.min(this.#allowance, this.#plan.taskManagersMax);
    check(this.#known.size <= allowed, `${this.#known.size} Task Managers are launched or there, ${allowed} are allowed`);
  }

  /** Returns how many of them are copies. */
  assign({ id, assignment, items, notAfterMs, reversed }: CommandOf<"assign">, nowMs: number): number {
    const known = this.#known.get(id);
    if (known === undefined || known.state !== "joined") throw new Error(`assignment ${assignment} goes to Task Manager ${id}, which is ${known?.state ?? "gone"}`);
    const indexes = [...indexesOf(items)];
    check(indexes.length >= 1 && indexes.length <= 4096, `assignment ${assignment} has ${indexes.length} items`);
    check(nowMs < known.endsAtMs, `assignment ${assignment} goes to Task Manager ${id}, whose time is up`);
    check(notAfterMs === null || notAfterMs >= nowMs, `assignment ${assignment} may not be worked on`);
    const given: Given = { id: assignment, holder: id, givenMs: nowMs, missing: new Set(indexes), begun: new Set(), lacking: 0 };
    check(given.missing.size === indexes.length, `assignment ${assignment} has an item twice`);
    let copies = 0;
    for (const index of indexes) if (this.#hold(index, given)) copies += 1;
    check(!reversed || copies > 0, `assignment ${assignment} is to be done backwards and meets nobody`);
    this.copied += copies;
    known.given.set(assignment, given);
    check(known.given.size <= (this.#plan.supports.prefetch ? known.room : 1), `Task Manager ${id} has no room for assignment ${assignment}`);
    known.wanted = true;
    known.asked = false;
    this.#checkWanted();
    this.#checkQuarantine(known, indexes);
    return copies;
  }

  /** True: it is a copy. */
  #hold(index: number, given: Given): boolean {
    check(index < this.#read && !this.#ended.has(index), `item ${index} is not to be handed out`);
    const holders = this.#holders.get(index);
    if (holders === undefined) {
      this.#holders.set(index, [given]);
      return false;
    }
    check(this.#plan.speculation !== false, `item ${index} is handed out twice, and nothing may be copied`);
    const isAtMostOneAtIt = holders.length === 2 && !this.#plan.supports.reclaim && holders[0]?.begun.has(index) === false;
    check(holders.length === 1 || isAtMostOneAtIt, `item ${index} gets a third holder`);
    check(!holders.some(({ holder }) => holder === given.holder), `item ${index} is copied to its holder`);
    this.#holders.set(index, [...holders, given]);
    return true;
  }

  /** Who was lost alone once is never again tried with others, and its Task Manager gets nothing beside it. */
  #checkQuarantine(known: Known, indexes: readonly number[]): void {
    for (const index of indexes) {
      if (!this.#isSuspectAlone(index)) continue;
      check(indexes.length === 1, `item ${index} was lost alone and is tried with others`);
      check(known.given.size === 1, `item ${index} was lost alone and its Task Manager has more to do`);
    }
    const [other] = [...known.given.values()].flatMap(({ missing }) => (missing.size === 1 && !indexes.some((index) => missing.has(index)) ? [...missing] : []));
    check(other === undefined || !this.#isSuspectAlone(other), `item ${other} was lost alone and its Task Manager is given more`);
  }

  #isSuspectAlone(index: number): boolean {
    return this.#restoredAlone.has(index) || ((this.#noted.get(index) ?? 0) > 0 && !this.#cleared.has(index));
  }

  /** Those that are asked to go are not given anything more. */
  #checkWanted(): void {
    let wanted = 0;
    for (const { state, wanted: isWanted } of this.#known.values()) if (state === "launching" || isWanted) wanted += 1;
    check(wanted <= this.#allowance, `${wanted} Task Managers are given items or launched, ${this.#allowance} are allowed`);
  }

  /** After the step in which the allowance shrank: so many may go on, the others were asked to give back. */
  checkShrunk(): void {
    if (!this.#plan.supports.reclaim) return;
    let staying = 0;
    for (const { state, asked, given } of this.#known.values()) {
      const hasMore = [...given.values()].some(({ missing, begun }) => [...missing].some((index) => !begun.has(index)));
      if (state === "launching" || (state === "joined" && !asked && hasMore)) staying += 1;
    }
    check(staying <= this.#allowance, `${staying} Task Managers go on, ${this.#allowance} are allowed`);
  }

  reclaim({ id, assignment, items }: CommandOf<"reclaim">): void {
    check(this.#plan.supports.reclaim, "something is reclaimed where that is not possible");
    check(items >= 1, `${items} items are reclaimed`);
    // One that nothing can stop has it still, although it is believed silent since this very step.
    check(!this.#plan.supports.cancel || this.#givenOf({ id, assignment }) !== undefined, `assignment ${assignment} is reclaimed from Task Manager ${id}, which does not have it`);
    const known = this.#known.get(id);
    if (known !== undefined) known.asked = true;
  }

  cancel({ id, assignment }: CommandOf<"cancel">): void {
    check(this.#plan.supports.cancel, "something is cancelled where that is not possible");
    this.#close(this.#givenOf({ id, assignment }));
  }

  end(index: number, how: "result" | "error"): void {
    check(!this.#ended.has(index), `item ${index} ends twice`);
    this.#ended.set(index, how);
    for (const given of this.#holders.get(index) ?? []) this.#leave(given, index);
  }

  note(command: CommandOf<"note-quarantine">): void {
    check(countOf(command.items) === command.losses.length, "as many losses as items are noted");
    this.#cleared.clear();
    this.#noted = lossesOf(command);
  }

  checkBlame(index: number): void {
    // Where silence is the reason, the release comes after the store.
    const now = this.#holders.has(index) ? 1 : 0;
    const losses = (this.#lossesAlone.get(index) ?? 0) + now;
    check(losses >= 2, `item ${index} is blamed for losses, but was alone in ${losses} of them`);
  }

  release({ id, how }: CommandOf<"release">): void {
    const known = this.#known.get(id);
    switch (how) {
      case "kill":
        return this.#forget(id);
      case "keep":
        check(known !== undefined && known.given.size === 0, `Task Manager ${id} is kept and holds items`);
        this.#known.delete(id);
        return;
      case "drain":
        check(known?.state === "joined", `Task Manager ${id} is asked to end and is ${known?.state ?? "gone"}`);
        if (known !== undefined) known.state = "draining";
    }
  }
}

function lossesOf({ items, losses }: { readonly items: readonly number[]; readonly losses: readonly number[] }): ReadonlyMap<number, number> {
  return new Map([...indexesOf(items)].map((index, at) => [index, losses[at] ?? 0]));
}

export function check(holds: boolean, promise: string): void {
  if (!holds) throw new Error(promise);
}
