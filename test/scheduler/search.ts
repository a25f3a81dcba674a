/**
 * A world that does to a scheduler all that can happen to it, drawn from a seed, in virtual time, and checks after
 * every step that it kept its promises. Faults end after a while; then the run must finish.
 */
import type { Ranges, ReturnCause } from "../../task-manager/protocol.ts";
import { Deadlines } from "../../orchestrator/scheduler/deadlines.ts";
import { seededRandom } from "../../orchestrator/scheduler/random.ts";
import { countOf, indexesOf, rangesFromSorted } from "../../orchestrator/scheduler/ranges.ts";
import { encodeStep } from "../../orchestrator/scheduler/replay.ts";
import { createScheduler } from "../../orchestrator/scheduler/scheduler.ts";
import type {
  AssignmentId,
  EndedError,
  Scheduler,
  SchedulerCommand,
  SchedulerEvent,
  SchedulerPlan,
  StopReason,
  TaskManagerId,
} from "../../orchestrator/scheduler/types.ts";

const stepsMax = 60_000;
const healedMs = 40_000;
const heartbeatMs = 2000;

/** How the items of one schedule behave, each for itself, and always in the same way. */
interface ItemNature {
  readonly serviceMs: number;
  readonly poison: boolean;
  /** Tries that fail, retryably, before one succeeds. */
  readonly flaky: number;
  readonly broken: boolean;
  readonly host: number;
  readonly weight: number;
  readonly unreadable: boolean;
}

interface HeldAssignment {
  readonly id: AssignmentId;
  readonly waiting: number[];
  readonly begun: Set<number>;
  results: number[];
  errors: EndedError[];
  ended: number;
}

interface Machine {
  readonly id: TaskManagerId;
  readonly lanes: number;
  readonly room: number;
  readonly speed: number;
  alive: boolean;
  draining: boolean;
  pausedUntilMs: number;
  /** No message of it arrives before this. */
  lastArrivalMs: number;
  held: HeldAssignment[];
}

/** What the scheduler may believe of a Task Manager, from what it was told. */
interface Known {
  state: "launching" | "joined" | "draining";
  room: number;
  assignments: Map<AssignmentId, Set<number>>;
}

export interface Exploration {
  readonly seed: number;
  readonly steps: number;
  readonly runs: number;
  readonly items: number;
  readonly state: string;
  readonly plan: SchedulerPlan;
  /** Of the last run. */
  readonly lines: readonly string[];
  readonly seen: ReadonlySet<string>;
}

/** Runs one schedule to its end; throws, with what happened last, when a promise is broken. */
export function explore(seed: number): Exploration {
  return new World(seed).run();
}

class World {
  readonly #seed: number;
  readonly #random: () => number;
  readonly #items: readonly ItemNature[];
  readonly #plan: SchedulerPlan;
  readonly #faults: ReadonlySet<string>;
  readonly #agenda = new Deadlines<() => void>();
  readonly #stored = new Map<number, "result" | "error">();
  readonly #tries: number[];
  readonly #deathsAlone: number[];
  readonly #busyHosts = new Map<number, number>();
  readonly #lines: string[] = [];
  readonly #seen = new Set<string>();
  #scheduler: Scheduler;
  #machines = new Map<TaskManagerId, Machine>();
  #known = new Map<TaskManagerId, Known>();
  #assigned = new Map<number, AssignmentId>();
  #told = new Set<number>();
  #noted: { readonly items: Ranges; readonly losses: readonly number[] } | null = null;
  #read = 0;
  #allowance = 0;
  #nowMs = 0;
  #wakeAtMs: number | null = null;
  #steps = 0;
  #runs = 1;
  /** Rises with every orchestrator: what an earlier one was sent is not delivered. */
  #epoch = 1;
  #finish: Extract<SchedulerCommand, { kind: "finish" }> | null = null;

  constructor(seed: number) {
    this.#seed = seed;
    this.#random = seededRandom(seed);
    const names = ["kills", "silent", "stalls", "duplicates", "drops", "forgets", "throttles", "hosts", "returns", "flaky", "poison", "allowance", "restarts", "stops", "unreadable", "broken"];
    this.#faults = new Set(names.filter(() => this.#chance(0.35)));
    this.#items = Array.from({ length: Math.floor(this.#random() ** 2 * 120) }, () => this.#nature());
    this.#tries = this.#items.map(() => 0);
    this.#deathsAlone = this.#items.map(() => 0);
    this.#plan = this.#drawPlan();
    this.#scheduler = createScheduler(this.#plan);
  }

  run(): Exploration {
    try {
      this.#start();
      while (this.#finish === null || this.#finish.state === "stopped") {
        if (this.#finish !== null) this.#restart("stopped");
        this.#goOn();
      }
      this.#checkEnd();
    } catch (error) {
      const last = this.#lines.slice(-12).join("\n");
      const text = error instanceof Error ? error.stack : String(error);
      throw new Error(`SPLITRUN_SEED=${this.#seed} (faults: ${[...this.#faults].join(" ")}), after ${this.#steps} steps: ${text}\n${JSON.stringify(this.#plan)}\n${JSON.stringify(this.#scheduler.counts)}\n${last}`);
    }
    return {
      seed: this.#seed,
      steps: this.#steps,
      runs: this.#runs,
      items: this.#items.length,
      state: this.#finish.state,
      plan: this.#plan,
      lines: this.#lines,
      seen: this.#seen,
    };
  }

  // ---- drawing ----

  #chance(probability: number): boolean {
    return this.#random() < probability;
  }

  #between(low: number, high: number): number {
    return Math.floor(low + this.#random() * (high - low + 1));
  }

  #nature(): ItemNature {
    const has = (fault: string) => this.#faults.has(fault);
    return {
      serviceMs: this.#between(1, this.#chance(0.05) ? 4000 : 300),
      poison: has("poison") && this.#chance(0.03),
      flaky: has("flaky") && this.#chance(0.1) ? this.#between(1, 4) : 0,
      broken: has("broken") && this.#chance(0.1),
      host: has("hosts") ? this.#between(0, 2) : 0,
      weight: this.#between(0, 9),
      unreadable: has("unreadable") && this.#chance(0.05),
    };
  }

  #drawPlan(): SchedulerPlan {
    return {
      sizing: this.#chance(0.6) ? { kind: "guided" } : { kind: "fixed", sizes: [this.#between(1, 30), this.#between(1, 12)] },
      taskManagersMax: this.#between(1, 6),
      taskManagersMin: 1,
      attemptsMax: this.#between(1, 3),
      heartbeatTimeoutMs: 6000,
      heartbeats: true,
      tolerate: { failedItemsPercent: 100, afterItems: 200 },
      hostBlockedMs: 30_000,
      taskManagerTimeoutMs: this.#chance(0.3) ? 30_000 : null,
      splitTimeoutMs: this.#chance(0.1) ? 60_000 : null,
      jobTimeoutMs: null,
      assignmentsPerTaskManagerMax: this.#chance(0.2) ? this.#between(1, 3) : null,
      supports: { prefetch: this.#chance(0.8), reclaim: true, cancel: true },
      speculation: false,
      reportMs: 250,
      seed: this.#seed,
    };
  }

  #faulty(fault: string, probability: number): boolean {
    const strikes = this.#nowMs < healedMs && this.#faults.has(fault) && this.#chance(probability);
    if (strikes) this.#seen.add(fault);
    return strikes;
  }

  // ---- the orchestrator's side ----

  #start(): void {
    if (this.#noted !== null) this.#step({ ...this.#noted, kind: "quarantine-restored" });
    this.#setAllowance(this.#between(1, this.#plan.taskManagersMax + 1));
    if (this.#faults.has("allowance")) for (let n = 0; n < 4; n++) this.#laterHere(this.#between(100, healedMs), () => this.#setAllowance(this.#between(0, this.#plan.taskManagersMax)));
    this.#laterHere(healedMs + 1, () => this.#setAllowance(this.#plan.taskManagersMax));
    if (this.#faulty("stops", 0.5)) {
      this.#laterHere(this.#between(0, 20_000), () => {
        this.#step({ kind: "stop", reason: "user", how: this.#chance(0.5) ? "drain" : "now", message: "asked to" });
        this.#laterHere(this.#between(10, 5000), () => this.#step({ kind: "stop", reason: "user", how: "now", message: "asked twice" }));
      });
    }
    if (this.#faulty("restarts", 0.7)) this.#laterHere(this.#between(0, 20_000), () => this.#restart("killed"));
  }

  #setAllowance(taskManagers: number): void {
    this.#allowance = taskManagers;
    this.#step({ kind: "allowance-changed", taskManagers });
    if (this.#finish !== null) return;
    const live = [...this.#known.values()].filter(({ state }) => state !== "draining").length;
    check(live <= taskManagers, `${live} Task Managers are wanted, allowed are ${taskManagers}`);
  }

  /** Another orchestrator takes over from what is on disk. */
  #restart(how: "killed" | "stopped"): void {
    if (how === "stopped") check(this.#told.size === 0 || this.#finish?.reason === "disk", "stopped with batches that are not stored");
    this.#epoch += 1;
    this.#runs += 1;
    this.#machines.clear();
    this.#known.clear();
    this.#assigned.clear();
    this.#told.clear();
    this.#lacking.clear();
    this.#lastHeartbeatMs.clear();
    this.#givenMs.clear();
    this.#tries.fill(0);
    this.#deathsAlone.fill(0);
    this.#read = 0;
    this.#finish = null;
    this.#wakeAtMs = null;
    this.#lines.length = 0;
    this.#scheduler = createScheduler(this.#plan);
    this.#start();
  }

  #goOn(): void {
    while (this.#finish === null) {
      const eventMs = this.#agenda.nextMs ?? Infinity;
      const wakeMs = this.#wakeAtMs ?? Infinity;
      check(Math.min(eventMs, wakeMs) < Infinity, "nothing will ever happen again, and the run has not finished");
      this.#nowMs = Math.max(this.#nowMs, Math.min(eventMs, wakeMs));
      if (wakeMs < eventMs) this.#step({ kind: "clock" });
      else this.#agenda.takeDue(this.#nowMs)?.();
    }
  }

  #laterHere(delayMs: number, what: () => void): void {
    const epoch = this.#epoch;
    this.#agenda.add(this.#nowMs + delayMs, () => {
      if (this.#epoch === epoch && this.#finish === null) what();
    });
  }

  #step(event: SchedulerEvent): void {
    if (this.#finish !== null) return;
    this.#steps += 1;
    check(this.#steps < stepsMax, "the run does not end");
    this.#hear(event);
    const { commands, wakeAtMs } = this.#scheduler.step(event, this.#nowMs);
    this.#lines.push(encodeStep(event, this.#nowMs, commands));
    this.#wakeAtMs = wakeAtMs;
    for (const command of commands) this.#carryOut(command, event);
    const { waiting, setAside, running, succeeded, failed, read } = this.#scheduler.counts;
    check(waiting + setAside + running + succeeded + failed === read, "items got lost from the books");
    check(running === this.#assigned.size, `${running} items run by the scheduler's books, ${this.#assigned.size} by the world's`);
  }

  /** Keeps the books of what the scheduler is told. */
  #hear(event: SchedulerEvent): void {
    switch (event.kind) {
      case "task-manager-joined": {
        const known = this.#known.get(event.id);
        if (known !== undefined) this.#known.set(event.id, { ...known, state: "joined", room: event.room });
        return;
      }
      case "launch-ended":
      case "task-manager-lost":
        return this.#forget(event.id);
      case "items-ended":
        return this.#left(event.id, event.assignment, [...indexesOf(event.results), ...event.errors.map(({ index }) => index)]);
      case "items-returned":
        return this.#left(event.id, event.assignment, indexesOf(event.items));
      case "heartbeat":
        return this.#matchHeld(event);
      default:
        return;
    }
  }

  readonly #lacking = new Map<AssignmentId, number>();
  readonly #lastHeartbeatMs = new Map<TaskManagerId, number>();
  readonly #givenMs = new Map<AssignmentId, number>();

  #matchHeld({ id, held }: Extract<SchedulerEvent, { kind: "heartbeat" }>): void {
    const known = this.#known.get(id);
    const beforeMs = this.#lastHeartbeatMs.get(id) ?? -Infinity;
    this.#lastHeartbeatMs.set(id, this.#nowMs);
    for (const [assignment, items] of known?.assignments ?? []) {
      if (held.some((each) => each.assignment === assignment)) this.#lacking.delete(assignment);
      else if ((this.#givenMs.get(assignment) ?? 0) < beforeMs) this.#lacking.set(assignment, (this.#lacking.get(assignment) ?? 0) + 1);
      if ((this.#lacking.get(assignment) ?? 0) >= 2) this.#left(id, assignment, [...items]);
    }
  }

  #left(id: TaskManagerId, assignment: AssignmentId, indexes: Iterable<number>): void {
    const known = this.#known.get(id);
    const items = known?.assignments.get(assignment);
    if (known === undefined || items === undefined) return;
    for (const index of indexes) if (items.delete(index)) this.#assigned.delete(index);
    if (items.size === 0) known.assignments.delete(assignment);
  }

  #forget(id: TaskManagerId): void {
    const missing = [...(this.#known.get(id)?.assignments.values() ?? [])].flatMap((items) => [...items]);
    const [alone] = missing;
    if (alone !== undefined && missing.length === 1) this.#deathsAlone[alone] = (this.#deathsAlone[alone] ?? 0) + 1;
    for (const index of missing) this.#assigned.delete(index);
    this.#known.delete(id);
  }

  #carryOut(command: SchedulerCommand, event: SchedulerEvent): void {
    switch (command.kind) {
      case "read":
        return this.#laterHere(this.#between(0, 20), () => this.#readItems(command.count));
      case "launch": {
        for (const id of command.ids) this.#launch(id);
        const allowed = Math.min(this.#allowance, this.#plan.taskManagersMax);
        check(this.#known.size <= allowed, `${this.#known.size} Task Managers launched, ${allowed} allowed`);
        return;
      }
      case "assign":
        return this.#assign(command);
      case "store":
        return this.#store(command, event);
      case "note-quarantine":
        check(countOf(command.items) === command.losses.length, "as many losses as items are noted");
        this.#noted = command;
        return;
      case "release":
        return this.#release(command);
      case "finish":
        if (command.state === "stopped") check(this.#mayStop(command.reason), `stopped for ${command.reason}: ${command.message}`);
        this.#finish = command;
        return;
      case "reclaim":
      case "cancel":
        throw new Error(`${command.kind} is not to be asked for`);
    }
  }

  #mayStop(reason: StopReason | null): boolean {
    // So many machines may die in a row that it looks hopeless.
    const deaths = ["kills", "silent", "drops", "stalls", "throttles"].some((fault) => this.#faults.has(fault));
    return this.#faults.has("stops") || (reason === "backend" && deaths && this.#nowMs < healedMs + 10_000);
  }

  #readItems(asked: number): void {
    const count = Math.min(asked, this.#between(1, 50), this.#items.length - this.#read);
    if (count === 0) return this.#step({ kind: "input-ended" });
    const first = this.#read;
    this.#read += count;
    const indexes = Array.from({ length: count }, (_, at) => first + at);
    const done = indexes.filter((index) => this.#stored.has(index));
    const weighted = this.#seed % 3 === 0;
    const unreadable = indexes.filter((index) => this.#items[index]?.unreadable === true && !this.#stored.has(index));
    this.#step({
      kind: "items-read",
      first,
      count,
      done: rangesFromSorted(done),
      failedDone: done.filter((index) => this.#stored.get(index) === "error").length,
      ...(this.#faults.has("hosts") ? { hosts: indexes.map((index) => this.#items[index]?.host ?? 0) } : {}),
      ...(weighted ? { weights: indexes.map((index) => this.#items[index]?.weight ?? 1) } : {}),
      ...(unreadable.length > 0 ? { errors: unreadable.map((index) => ({ index, code: "INPUT_INVALID", stage: "run", retryable: false }) as const) } : {}),
      remaining: this.#seed % 2 === 0 ? null : this.#items.length - this.#read,
    });
  }

  #assign({ id, assignment, items }: Extract<SchedulerCommand, { kind: "assign" }>): void {
    const known = this.#known.get(id);
    check(known?.state === "joined", `assignment ${assignment} goes to Task Manager ${id}, which is ${known?.state ?? "gone"}`);
    const indexes = [...indexesOf(items)];
    check(indexes.length >= 1 && indexes.length <= 4096, `an assignment has ${indexes.length} items`);
    known?.assignments.set(assignment, new Set(indexes));
    check((known?.assignments.size ?? 0) <= (this.#plan.supports.prefetch ? (known?.room ?? 0) : 1), `Task Manager ${id} has no room for assignment ${assignment}`);
    for (const index of indexes) {
      check(!this.#assigned.has(index), `item ${index} is handed out twice`);
      check(!this.#stored.has(index) && index < this.#read, `item ${index} is not to be handed out`);
      this.#assigned.set(index, assignment);
    }
    this.#givenMs.set(assignment, this.#nowMs);
    this.#checkQuarantine(id, indexes);
    if (this.#faulty("forgets", 0.03)) return;
    this.#laterHere(this.#between(0, 50), () => this.#receive(id, assignment, indexes));
  }

  /** Who was lost alone once is never again tried with others, and its Task Manager gets nothing beside it. */
  #checkQuarantine(id: TaskManagerId, indexes: readonly number[]): void {
    const losses = new Map([...indexesOf(this.#noted?.items ?? [])].map((index, at) => [index, this.#noted?.losses[at] ?? 0]));
    const [alone] = indexes.filter((index) => (losses.get(index) ?? 0) > 0);
    if (alone === undefined) return;
    // Its name may still be in the note although a try of it has ended.
    const suspected = this.#tries[alone] === 0;
    check(!suspected || indexes.length === 1, `item ${alone} was lost alone and is tried with others`);
    check(!suspected || this.#known.get(id)?.assignments.size === 1, `item ${alone} was lost alone and its Task Manager has more to do`);
  }

  #store({ batch, results, retried, errors }: Extract<SchedulerCommand, { kind: "store" }>, event: SchedulerEvent): void {
    const brought = event.kind === "items-ended" ? new Set(indexesOf(event.results)) : new Set<number>();
    const broughtErrors = new Set(event.kind === "items-ended" || event.kind === "items-read" ? (event.errors ?? []).map(({ index }) => index) : []);
    for (const index of indexesOf(results)) {
      check(brought.has(index), `the result of item ${index} is stored and was not brought`);
      this.#end(index, "result");
    }
    for (const [index, attempts] of retried) check(attempts > 1 && attempts <= this.#plan.attemptsMax, `item ${index} was tried ${attempts} times`);
    for (const { index, attempts, made } of errors) {
      if (made === null) check(broughtErrors.has(index), `the error of item ${index} is stored and was not brought`);
      check(attempts <= this.#plan.attemptsMax + (made?.code === "TASK_MANAGER_LOST" ? 2 : 0), `item ${index} was tried ${attempts} times`);
      if (made?.code === "TASK_MANAGER_LOST") this.#checkBlame(index, made.message);
      if (made?.code === "HOST_BLOCKED") this.#seen.add("host given up");
      this.#end(index, "error");
    }
    this.#told.add(batch);
    this.#laterHere(this.#between(0, 100), () => {
      this.#told.delete(batch);
      this.#step({ kind: "stored", batch });
    });
  }

  #checkBlame(index: number, message: string): void {
    if (message.startsWith("given back")) return;
    this.#seen.add("blamed");
    // An earlier orchestrator may have seen some of them.
    const unseen = this.#runs > 1 ? 2 : 0;
    // Where silence is the reason, the release comes after the store.
    const now = this.#assigned.has(index) ? 1 : 0;
    const deaths = (this.#deathsAlone[index] ?? 0) + now + unseen;
    check(deaths >= 2, `item ${index} is blamed for losses, but was alone in ${deaths} of them`);
  }

  #end(index: number, how: "result" | "error"): void {
    check(!this.#stored.has(index), `item ${index} ends twice`);
    this.#stored.set(index, how);
  }

  #release({ id, how }: Extract<SchedulerCommand, { kind: "release" }>): void {
    const machine = this.#machines.get(id);
    const known = this.#known.get(id);
    switch (how) {
      case "kill":
        this.#forget(id);
        if (machine !== undefined) machine.alive = false;
        return;
      case "keep":
        check(known !== undefined && known.assignments.size === 0, `Task Manager ${id} is kept and holds items`);
        this.#known.delete(id);
        return;
      case "drain":
        check(known?.state === "joined", `Task Manager ${id} is asked to end and is ${known?.state ?? "gone"}`);
        if (known !== undefined) known.state = "draining";
        if (machine === undefined) return;
        return this.#laterHere(this.#between(0, 50), () => this.#drain(machine));
    }
  }

  // ---- the Task Managers' side ----

  #launch(id: TaskManagerId): void {
    this.#known.set(id, { state: "launching", room: 0, assignments: new Map() });
    this.#laterHere(this.#between(5, this.#chance(0.2) ? 3000 : 100), () => {
      if (!this.#known.has(id) && this.#chance(0.5)) return;
      if (this.#faulty("throttles", 0.3)) return this.#step({ kind: "launch-ended", id, reason: this.#chance(0.9) ? "throttled" : "died", message: "not now" });
      const machine: Machine = {
        id,
        lanes: this.#between(1, 4),
        room: this.#between(1, 3),
        speed: this.#chance(0.2) ? 4 : 1,
        alive: true,
        draining: false,
        pausedUntilMs: 0,
        lastArrivalMs: 0,
        held: [],
      };
      this.#machines.set(id, machine);
      this.#step({ kind: "task-manager-joined", id, room: machine.room, lanes: machine.lanes });
      this.#act(machine, heartbeatMs, () => this.#beat(machine));
    });
  }

  /** Something that the machine does, unless it is dead by then; a paused one does it later. */
  #act(machine: Machine, delayMs: number, what: () => void): void {
    this.#laterHere(delayMs, () => {
      if (!machine.alive) return;
      if (machine.pausedUntilMs > this.#nowMs) return this.#act(machine, machine.pausedUntilMs - this.#nowMs, what);
      what();
    });
  }

  /** In order of sending, from this machine; sometimes twice, sometimes never, and then it ends soon. */
  #send(machine: Machine, event: SchedulerEvent): void {
    if (this.#faulty("drops", 0.01)) return void this.#act(machine, this.#between(0, 1000), () => this.#die(machine, false));
    const arrivalMs = Math.max(machine.lastArrivalMs, this.#nowMs + this.#between(1, 60));
    machine.lastArrivalMs = arrivalMs;
    const times = this.#faulty("duplicates", 0.05) ? 2 : 1;
    for (let n = 0; n < times; n++) this.#laterHere(arrivalMs - this.#nowMs, () => this.#step(event));
  }

  #beat(machine: Machine): void {
    if (this.#faulty("kills", 0.05)) return this.#die(machine, false);
    if (this.#faulty("silent", 0.03)) return this.#die(machine, true);
    if (this.#faulty("stalls", 0.1)) machine.pausedUntilMs = this.#nowMs + this.#between(1000, 12_000);
    this.#send(machine, { kind: "heartbeat", id: machine.id, held: machine.held.map(({ id, ended }) => ({ assignment: id, ended })) });
    this.#act(machine, heartbeatMs, () => this.#beat(machine));
  }

  #receive(id: TaskManagerId, assignment: AssignmentId, indexes: readonly number[]): void {
    const machine = this.#machines.get(id);
    if (machine === undefined || !machine.alive) return;
    const held: HeldAssignment = { id: assignment, waiting: [...indexes], begun: new Set(), results: [], errors: [], ended: 0 };
    machine.held.push(held);
    if (machine.draining) return this.#giveBack(machine, held, held.waiting.splice(0), "DRAIN");
    if (this.#faulty("returns", 0.1)) {
      const count = this.#between(1, held.waiting.length);
      const cause = (["MEMORY", "RESTART", "DEADLINE", "DRAIN"] as const)[this.#between(0, 3)] ?? "DRAIN";
      this.#giveBack(machine, held, held.waiting.splice(held.waiting.length - count), cause);
    }
    this.#work(machine);
    this.#act(machine, 250, () => this.#report(machine, held));
  }

  #work(machine: Machine): void {
    for (const held of [...machine.held]) {
      while (held.waiting.length > 0 && busyLanes(machine) < machine.lanes) {
        const index = held.waiting.shift();
        if (index !== undefined) this.#begin(machine, held, index);
        if (!machine.alive) return;
      }
    }
  }

  #begin(machine: Machine, held: HeldAssignment, index: number): void {
    const nature = this.#items[index];
    if (nature === undefined) throw new Error(`item ${index} was never there`);
    if (this.#isBusy(nature.host)) {
      const untilMs = this.#busyHosts.get(nature.host) ?? 0;
      const host = nature.host;
      this.#laterHere(0, () => this.#step({ kind: "host-blocked", host, untilMs: Math.max(untilMs, this.#nowMs + 100) }));
      return this.#giveBack(machine, held, [index], "HOST_BUSY");
    }
    held.begun.add(index);
    this.#send(machine, { kind: "items-begun", id: machine.id, assignment: held.id, items: [index, index + 1] });
    this.#act(machine, nature.serviceMs * machine.speed, () => {
      if (!held.begun.has(index)) return;
      if (nature.poison) return this.#die(machine, this.#chance(0.3));
      held.begun.delete(index);
      const tries = (this.#tries[index] = (this.#tries[index] ?? 0) + 1);
      if (nature.broken) held.errors.push({ index, code: "DECODE_FAILED", stage: "preprocess", retryable: false });
      else if (tries <= nature.flaky) held.errors.push({ index, code: "DOWNLOAD_STATUS", stage: "download", retryable: true });
      else held.results.push(index);
      if (held.waiting.length === 0 && held.begun.size === 0) this.#report(machine, held);
      this.#work(machine);
    });
  }

  #isBusy(host: number): boolean {
    if (host === 0 || !this.#faults.has("hosts") || this.#nowMs >= healedMs) return false;
    if ((this.#busyHosts.get(host) ?? 0) > this.#nowMs) return true;
    // The second host never answers while faults last.
    if (host !== 2 && !this.#chance(0.05)) return false;
    this.#seen.add("hosts");
    this.#busyHosts.set(host, this.#nowMs + this.#between(100, 5000));
    return true;
  }

  #report(machine: Machine, held: HeldAssignment): void {
    const { results, errors } = held;
    if (results.length + errors.length > 0) {
      held.results = [];
      held.errors = [];
      held.ended += results.length + errors.length;
      this.#send(machine, { kind: "items-ended", id: machine.id, assignment: held.id, results: rangesFromSorted(results.sort((a, b) => a - b)), errors });
    }
    if (held.waiting.length === 0 && held.begun.size === 0) machine.held = machine.held.filter((each) => each !== held);
    else this.#act(machine, 250, () => machine.held.includes(held) && this.#report(machine, held));
  }

  #giveBack(machine: Machine, held: HeldAssignment, indexes: readonly number[], cause: ReturnCause): void {
    if (indexes.length > 0) {
      held.ended += indexes.length;
      this.#send(machine, { kind: "items-returned", id: machine.id, assignment: held.id, items: rangesFromSorted([...indexes].sort((a, b) => a - b)), cause });
    }
    this.#report(machine, held);
  }

  #drain(machine: Machine): void {
    if (!machine.alive) return;
    machine.draining = true;
    for (const held of [...machine.held]) this.#giveBack(machine, held, held.waiting.splice(0), "DRAIN");
    const end = () => {
      if (machine.held.length > 0) return this.#act(machine, 50, end);
      machine.alive = false;
      this.#laterHere(Math.max(0, machine.lastArrivalMs - this.#nowMs) + 1, () => this.#lose(machine, "ended as asked"));
    };
    this.#act(machine, 1, end);
  }

  #die(machine: Machine, silently: boolean): void {
    if (!machine.alive) return;
    machine.alive = false;
    if (silently) return;
    this.#laterHere(Math.max(0, machine.lastArrivalMs - this.#nowMs) + this.#between(1, 500), () => this.#lose(machine, "killed by SIGKILL"));
  }

  #lose(machine: Machine, message: string): void {
    this.#step({ kind: "task-manager-lost", id: machine.id, cause: { exitCode: null, signal: "SIGKILL", message } });
  }

  // ---- the end ----

  #checkEnd(): void {
    check(this.#told.size === 0, "finished before all was stored");
    check(this.#stored.size === this.#items.length, `${this.#stored.size} of ${this.#items.length} items ended`);
    this.#items.forEach((nature, index) => {
      const wrong = this.#stored.get(index) === "result" && (nature.broken || nature.poison);
      check(!wrong, `item ${index} has a result that it cannot have`);
    });
    const { taskManagers, launching } = this.#scheduler.counts;
    if (this.#items.every(({ unreadable }) => unreadable)) check(taskManagers + launching === 0, "Task Managers were launched for nothing");
  }
}

function busyLanes(machine: Machine): number {
  let busy = 0;
  for (const { begun } of machine.held) busy += begun.size;
  return busy;
}

function check(holds: boolean, promise: string): void {
  if (!holds) throw new Error(promise);
}
