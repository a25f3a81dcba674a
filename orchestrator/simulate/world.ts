import { Fifo } from "../scheduler/fifo.ts";
import { seededRandom } from "../scheduler/random.ts";
import type { Scheduler, SchedulerCommand, SchedulerEvent, TaskManagerId } from "../scheduler/types.ts";
import { Calendar } from "./calendar.ts";
import { between, streamSeed } from "./chance.ts";
import { Items } from "./items.ts";
import { Slot, type Life } from "./machine-life.ts";
import { rangesOf } from "./range-queue.ts";
import { planOf, type Rule, type Supports } from "./rule.ts";
import { noTrace, type Trace } from "./trace.ts";
import { Worker, type Assign, type Report } from "./worker.ts";
import type { JobModel, Parameters } from "./workload.ts";

const worldSalt = 0x3041d;
/** A Task Manager that was asked to end and does not is ended after this long, as the pool does it. */
const drainTimeoutS = 30;
/** A job that lasts so many times as long as its work, and as its machines live, is taken to last for ever. */
const endlessTimes = 100;
const endlessLives = 4;
const requestDollars = 2e-7;
/** 1.769 GB, one processor of Lambda, at 1.6667e-5 a GB-s. */
const secondDollars = 1.769 * 1.6667e-5;

/** How many Task Managers each of the jobs that are under way may have. */
export type Shares = (jobs: readonly { readonly share: number; readonly priority: number; readonly wanted: number }[], most: number) => readonly number[];

export interface WorldOptions {
  readonly parameters: Parameters;
  readonly jobs: readonly JobModel[];
  readonly seed: number;
  readonly supports: Supports;
  readonly rule: Rule;
  readonly shares: Shares;
  readonly trace: Trace | null;
}

export interface WorldFigures {
  /** Of all jobs; Infinity: it never ended. */
  readonly makespanS: number;
  /** Of each job, from its arrival. */
  readonly jobsS: readonly number[];
  /** Machine time that led to no result, against that which did. */
  readonly wastePercent: number;
  readonly assignments: number;
  readonly messages: number;
  readonly losses: number;
  readonly copied: number;
  readonly reclaimed: number;
  readonly failed: number;
  /** Where a request carries each assignment; else 0. */
  readonly costUsd: number;
}

/** One run of the workload in virtual time: the machines, the messages, and the schedulers that are told of them. */
export function runWorld(options: WorldOptions): WorldFigures {
  return new World(options).run();
}

/** One job and its scheduler. */
interface Run {
  readonly scheduler: Scheduler;
  readonly job: JobModel;
  readonly items: Items;
  /** A bit an item: its first result or error has arrived. */
  readonly done: Uint8Array;
  readonly places: Map<TaskManagerId, Place>;
  readonly events: SchedulerEvent[];
  readonly number: number;
  read: number;
  arrived: boolean;
  /** null: it was not told yet. */
  allowance: number | null;
  stepping: boolean;
  nowMs: number;
  wakeAtMs: number;
  finishedS: number;
  /** Not given up. */
  completed: boolean;
}

/** A Task Manager in its slot, from its launch until it is gone. */
interface Place {
  readonly run: Run;
  readonly id: TaskManagerId;
  readonly slot: Slot;
  life: Life;
  worker: Worker | null;
  /** Nothing that it says is listened to any more. */
  gone: boolean;
  freed: boolean;
  draining: boolean;
  toWorkerS: number;
  fromWorkerS: number;
  /** Said and not arrived yet, in order. */
  readonly outbox: Fifo<Report>;
  /** The next of them arrives. */
  readonly arrives: () => void;
  /** Died without a word. */
  silent: boolean;
  /** Of the request that is under way. */
  billedFromS: number | null;
}

class World {
  readonly #options: WorldOptions;
  readonly #parameters: Parameters;
  readonly #calendar = new Calendar();
  readonly #random: () => number;
  readonly #trace: Trace;
  readonly #runs: Run[] = [];
  /** Free slots, the longest free first. */
  readonly #free: Slot[] = [];
  readonly #endlessS: number;
  #freeAt = 0;
  readonly #launches: { readonly run: Run; readonly id: TaskManagerId }[] = [];
  /** Each assignment travels in a request of its own; nothing can be told to its holder. */
  readonly #byRequest: boolean;
  /** Whose request has not returned. */
  readonly #underWay = new Set<Place>();
  #spentS = 0;
  #usefulS = 0;
  #assignments = 0;
  #messages = 0;
  #costUsd = 0;

  constructor(options: WorldOptions) {
    this.#options = options;
    this.#parameters = options.parameters;
    this.#random = seededRandom(streamSeed(options.seed, 0, worldSalt));
    this.#trace = options.trace ?? noTrace;
    this.#endlessS = endlessAfterS(options);
    const { supports } = options;
    this.#byRequest = !supports.prefetch && !supports.reclaim && !supports.cancel;
    for (let number = 0; number < this.#parameters.workers; number++) this.#free.push(new Slot(this.#parameters, options.seed, number));
    options.jobs.forEach((job, number) => this.#runs.push(this.#createRun(job, number)));
  }

  run(): WorldFigures {
    for (const run of this.#runs) this.#calendar.at(run.job.arrivesS, () => this.#arrive(run));
    while (!this.#isOver() && this.#calendar.nowS < this.#endlessS && this.#calendar.next());
    this.#runOn();
    return this.#figures();
  }

  #createRun(job: JobModel, number: number): Run {
    const { parameters, supports, rule, seed } = this.#options;
    const ruleJob = { items: job.items, taskManagers: parameters.workers };
    return {
      scheduler: rule.create(planOf(parameters, supports, rule, ruleJob, streamSeed(seed, number, worldSalt)), ruleJob),
      job,
      items: itemsOf(job, number, seed),
      done: new Uint8Array(Math.ceil(job.items / 8)),
      places: new Map(),
      events: [],
      number,
      read: 0,
      arrived: false,
      allowance: null,
      stepping: false,
      nowMs: 0,
      wakeAtMs: Infinity,
      finishedS: Infinity,
      completed: false,
    };
  }

  #isOver(): boolean {
    return this.#runs.every(({ finishedS }) => finishedS < Infinity);
  }

  /** What still runs where nobody can stop it is paid for, and is work done twice; the rest ends with its job. */
  #runOn(): void {
    for (const place of this.#runs.flatMap((run) => [...run.places.values()])) {
      place.gone = true;
      if (!this.#byRequest) place.worker?.end();
    }
    while (this.#underWay.size > 0 && this.#calendar.nowS < this.#endlessS && this.#calendar.next());
  }

  #figures(): WorldFigures {
    const endsS = this.#runs.map(({ finishedS, completed }) => (completed ? finishedS : Infinity));
    const counts = this.#runs.map(({ scheduler }) => scheduler.counts);
    const sum = (of: (count: (typeof counts)[number]) => number) => counts.reduce((total, count) => total + of(count), 0);
    return {
      makespanS: Math.max(...endsS),
      jobsS: this.#runs.map(({ job }, at) => (endsS[at] ?? Infinity) - job.arrivesS),
      wastePercent: this.#usefulS === 0 ? 0 : (100 * Math.max(0, this.#spentS - this.#usefulS)) / this.#usefulS,
      assignments: this.#assignments,
      messages: this.#messages,
      losses: sum(({ losses }) => losses),
      copied: sum(({ copied }) => copied),
      reclaimed: sum(({ reclaimed }) => reclaimed),
      failed: sum(({ failed }) => failed),
      costUsd: this.#costUsd,
    };
  }

  // ---- jobs ----

  #arrive(run: Run): void {
    run.arrived = true;
    this.#share();
  }

  /** Tells each run that is under way what it may have now. */
  #share(): void {
    const active = this.#runs.filter(({ arrived, finishedS }) => arrived && finishedS === Infinity);
    const wanted = this.#parameters.workers;
    const shares = this.#options.shares(active.map(({ job }) => ({ share: job.share, priority: job.priority, wanted })), wanted);
    const changed = active.map((run, at) => ({ run, taskManagers: shares[at] ?? 0 }));
    // Those who give up come first, so that what they give can be taken.
    changed.sort((left, right) => left.taskManagers - (left.run.allowance ?? 0) - (right.taskManagers - (right.run.allowance ?? 0)));
    for (const { run, taskManagers } of changed) {
      if (run.allowance === taskManagers) continue;
      run.allowance = taskManagers;
      this.#step(run, { kind: "allowance-changed", taskManagers });
    }
  }

  #step(run: Run, event: SchedulerEvent): void {
    run.events.push(event);
    if (run.stepping) return;
    run.stepping = true;
    for (let at = 0; at < run.events.length; at++) {
      const next = run.events[at];
      if (next === undefined || run.finishedS < Infinity) break;
      run.nowMs = Math.max(run.nowMs, this.#calendar.nowS * 1000);
      const { commands, wakeAtMs } = run.scheduler.step(next, run.nowMs);
      for (const command of commands) this.#carryOut(run, command);
      if (wakeAtMs !== null) this.#wakeAt(run, wakeAtMs);
    }
    run.events.length = 0;
    run.stepping = false;
  }

  #wakeAt(run: Run, timeMs: number): void {
    if (timeMs >= run.wakeAtMs) return;
    run.wakeAtMs = timeMs;
    this.#calendar.at(timeMs / 1000, () => {
      if (run.wakeAtMs !== timeMs) return;
      run.wakeAtMs = Infinity;
      // Not a rounding error of the division before what it asked for.
      run.nowMs = Math.max(run.nowMs, timeMs);
      this.#step(run, { kind: "clock" });
    });
  }

  #carryOut(run: Run, command: SchedulerCommand): void {
    switch (command.kind) {
      case "read":
        return this.#read(run, command.count);
      case "launch":
        for (const id of command.ids) this.#launches.push({ run, id });
        return this.#serveLaunches();
      case "assign":
        return this.#assign(run, command);
      case "reclaim":
        return this.#tell(run, command.id, (worker) => worker.reclaim(command.assignment, command.items));
      case "cancel":
        return this.#tell(run, command.id, (worker) => worker.cancel(command.assignment));
      case "store":
        run.events.push({ kind: "stored", batch: command.batch });
        return;
      case "note-quarantine":
        return;
      case "release":
        return this.#release(run, command.id, command.how);
      case "finish":
        run.finishedS = this.#calendar.nowS;
        run.completed = command.state === "completed";
        if (this.#runs.length > 1) this.#calendar.at(this.#calendar.nowS, () => this.#share());
    }
  }

  #read(run: Run, count: number): void {
    const first = run.read;
    const taken = Math.min(count, run.items.count - first);
    run.read += taken;
    const remaining = run.items.count - run.read;
    if (taken > 0) run.events.push({ kind: "items-read", first, count: taken, done: [], failedDone: 0, remaining });
    if (remaining === 0) run.events.push({ kind: "input-ended" });
  }

  // ---- Task Managers ----

  #serveLaunches(): void {
    for (let launch = this.#launches[0]; launch !== undefined && this.#freeAt < this.#free.length; launch = this.#launches[0]) {
      this.#launches.shift();
      const { run, id } = launch;
      const slot = this.#free[this.#freeAt];
      if (slot === undefined) return;
      if (slot.fromS > this.#calendar.nowS) this.#launchEnds(run, id, "throttled");
      else if (this.#random() < this.#parameters.launchFailShare) this.#launchEnds(run, id, "died");
      else {
        this.#freeAt += 1;
        if (this.#freeAt > 1024 && this.#freeAt * 2 > this.#free.length) this.#freeAt -= this.#free.splice(0, this.#freeAt).length;
        this.#start(run, id, slot);
      }
    }
  }

  #launchEnds(run: Run, id: TaskManagerId, reason: "throttled" | "died"): void {
    const afterS = between(this.#parameters.roundTripS, this.#random());
    const message = reason === "throttled" ? "the simulated backend has no more machines yet" : "the simulated machine ended while it started";
    this.#calendar.at(this.#calendar.nowS + afterS, () => this.#step(run, { kind: "launch-ended", id, reason, message }));
  }

  #start(run: Run, id: TaskManagerId, slot: Slot): void {
    const { nowS } = this.#calendar;
    const life = slot.lifeAt(nowS);
    const place: Place = {
      run, id, slot, life,
      outbox: new Fifo(),
      arrives: () => this.#arrives(place),
      worker: null, gone: false, freed: false, draining: false, toWorkerS: 0, fromWorkerS: 0, silent: false, billedFromS: null,
    };
    run.places.set(id, place);
    if (this.#byRequest) return this.#startByRequest(place);
    const warmS = between(this.#parameters.warmS, this.#random());
    const readyS = life.readyS > nowS ? life.readyS : life.awakeAt(nowS + warmS);
    this.#calendar.at(readyS, () => this.#ready(place));
  }

  /** An empty request that warms the slot up; where nothing is cold, a slot is there as soon as it is wanted. */
  #startByRequest(place: Place): void {
    const { requestS, coldShare } = this.#parameters;
    const { nowS } = this.#calendar;
    if (!this.#options.rule.warmsUp || coldShare === 0) return void this.#calendar.at(nowS, () => this.#joins(place));
    const arrivedS = nowS + requestS + place.life.roundTripS / 2;
    const life = place.slot.lifeAt(arrivedS);
    place.life = life;
    const answeredS = life.awakeAt(Math.max(arrivedS, life.readyS)) + life.roundTripS / 2;
    this.#bill(Math.max(0, answeredS - arrivedS));
    this.#messages += 2;
    this.#calendar.at(answeredS, () => this.#joins(place));
  }

  #ready(place: Place): void {
    if (place.gone) return;
    const { nowS } = this.#calendar;
    const { life } = place;
    if (life.endS <= nowS) return this.#startAgain(place);
    place.worker = this.#createWorker(place, this.#parameters.handOverS);
    this.#calendar.at(life.endS, () => this.#dies(place));
    this.#calendar.at(nowS + life.roundTripS / 2, () => this.#joins(place));
  }

  /** Its machine has ended before the Task Manager was up. */
  #startAgain(place: Place): void {
    place.life = place.slot.lifeAt(this.#calendar.nowS);
    this.#calendar.at(place.life.readyS, () => this.#ready(place));
  }

  #joins(place: Place): void {
    if (place.gone) return;
    const { id, run, life } = place;
    const { prefetch } = this.#options.supports;
    const room = prefetch ? 2 : 1;
    const endsAt = this.#byRequest ? {} : { endsAtMs: life.lifetimeEndS * 1000 };
    this.#messages += 1;
    this.#step(run, { kind: "task-manager-joined", id, room, lanes: this.#parameters.lanes, ...endsAt });
    this.#beat(place);
  }

  #createWorker(place: Place, handOverS: number): Worker {
    const { lanes, reportS } = this.#parameters;
    return new Worker({
      life: place.life,
      items: place.run.items,
      calendar: this.#calendar,
      lanes,
      handOverS,
      reportS,
      say: (report) => this.#hear(place, report),
      spent: (seconds) => (this.#spentS += seconds),
      closed: (assignment, fromS) => this.#closed(place, assignment, fromS),
    });
  }

  /** Heartbeats for as long as it is there; for an idle slot, that nothing is wrong with it. */
  #beat(place: Place): void {
    const { worker, life } = place;
    const nextS = this.#calendar.nowS + this.#parameters.heartbeatS;
    const isWorking = worker !== null && !(this.#byRequest && worker.isIdle);
    this.#calendar.at(isWorking ? life.awakeAt(nextS) : nextS, () => {
      if (place.gone || place.silent || place.run.finishedS < Infinity) return;
      if (this.#byRequest && place.billedFromS === null) this.#step(place.run, { kind: "heartbeat", id: place.id, held: [] });
      else if (!this.#byRequest || place.worker?.isIdle === false) place.worker?.heartbeat();
      this.#beat(place);
    });
  }

  #dies(place: Place): void {
    const { worker, life } = place;
    if (worker === null || place.freed) return;
    worker.end();
    const knownS = life.silent ? life.lifetimeEndS : this.#calendar.nowS + life.roundTripS / 2;
    this.#calendar.at(knownS, () => this.#lost(place, life.silent ? "the machine's time is over" : "the connection ended"));
  }

  #lost(place: Place, message: string): void {
    if (place.freed) return;
    place.gone = true;
    this.#freeSlot(place);
    if (!place.run.places.delete(place.id)) return;
    this.#messages += 1;
    this.#step(place.run, { kind: "task-manager-lost", id: place.id, cause: { exitCode: null, signal: null, message } });
    this.#serveLaunches();
  }

  #release(run: Run, id: TaskManagerId, how: "keep" | "drain" | "kill"): void {
    const waiting = this.#launches.findIndex((launch) => launch.run === run && launch.id === id);
    if (waiting >= 0) this.#launches.splice(waiting, 1);
    const place = run.places.get(id);
    if (place === undefined) return;
    if (how === "drain") return this.#drain(place);
    run.places.delete(id);
    place.gone = true;
    if (place.billedFromS !== null) return;
    place.worker?.end();
    this.#freeSlot(place);
    if (this.#launches.length > 0) this.#calendar.at(this.#calendar.nowS, () => this.#serveLaunches());
  }

  #drain(place: Place): void {
    place.draining = true;
    if (this.#byRequest) {
      if (place.billedFromS === null) this.#calendar.at(this.#calendar.nowS, () => this.#lost(place, "it ended as asked"));
      return;
    }
    const left = () => this.#calendar.at(this.#arrivalS(place), () => this.#lost(place, "it ended as asked"));
    this.#arriveAtWorker(place, false, (worker) => worker.drain(left));
    this.#calendar.at(this.#calendar.nowS + drainTimeoutS, () => {
      if (place.freed) return;
      place.worker?.end();
      this.#lost(place, "it did not end when asked to");
    });
  }

  #freeSlot(place: Place): void {
    if (place.freed) return;
    place.freed = true;
    this.#free.push(place.slot);
  }

  // ---- messages ----

  #assign(run: Run, command: Assign): void {
    this.#assignments += 1;
    const place = run.places.get(command.id);
    if (place === undefined) return;
    this.#trace.assigned(run.number, command.assignment, command.items);
    if (this.#byRequest) return this.#request(place, command);
    this.#messages += 1;
    this.#arriveAtWorker(place, true, (worker) => worker.assign(command));
  }

  #tell(run: Run, id: TaskManagerId, what: (worker: Worker) => void): void {
    const place = run.places.get(id);
    if (place === undefined) return;
    if (this.#byRequest) throw new Error("nothing can be told to a holder over this carrier");
    this.#messages += 1;
    this.#arriveAtWorker(place, true, what);
  }

  #arriveAtWorker(place: Place, mayBeLost: boolean, what: (worker: Worker) => void): void {
    if (mayBeLost && this.#isLost()) return;
    const timeS = Math.max(place.toWorkerS, this.#calendar.nowS + place.life.roundTripS / 2 + this.#heldUpS());
    place.toWorkerS = timeS;
    this.#calendar.at(place.life.awakeAt(timeS), () => {
      if (place.worker !== null && !place.gone) what(place.worker);
    });
  }

  /** When something that is said now has arrived. */
  #arrivalS(place: Place): number {
    place.fromWorkerS = Math.max(place.fromWorkerS, this.#calendar.nowS + place.life.roundTripS / 2 + this.#heldUpS());
    return place.fromWorkerS;
  }

  #isLost(): boolean {
    return this.#parameters.messageLoss > 0 && this.#random() < this.#parameters.messageLoss;
  }

  #heldUpS(): number {
    const { share, maxS } = this.#parameters.messageDelay;
    return share > 0 && this.#random() < share ? maxS * this.#random() : 0;
  }

  /** The assignment goes out in a request to the slot; whoever lives there then takes it, once it has started. */
  #request(place: Place, command: Assign): void {
    const arrivedS = this.#calendar.nowS + this.#parameters.requestS + place.life.roundTripS / 2;
    const life = place.slot.lifeAt(arrivedS);
    if (place.worker === null || place.life !== life) {
      place.life = life;
      place.worker = this.#createWorker(place, 0);
      this.#calendar.at(life.endS, () => this.#endsByRequest(place, life));
    }
    const { worker } = place;
    place.billedFromS = arrivedS;
    this.#underWay.add(place);
    this.#messages += 1;
    this.#calendar.at(life.awakeAt(Math.max(arrivedS, life.readyS)), () => worker.assign(command));
  }

  /** A machine that ends while it works breaks its connection, or says nothing more; an idle one nobody misses. */
  #endsByRequest(place: Place, life: Life): void {
    if (place.life !== life || place.worker === null) return;
    const working = place.billedFromS !== null;
    place.worker.end();
    place.worker = null;
    if (!working) return;
    if (place.gone) return this.#freeZombie(place);
    place.silent = life.silent;
    if (life.silent) return;
    this.#calendar.at(this.#calendar.nowS + life.roundTripS / 2, () => this.#lost(place, "the connection ended"));
  }

  #closed(place: Place, assignment: number, fromS: number): void {
    const { nowS } = this.#calendar;
    this.#trace.worked(place.run.number, assignment, place.slot.number, fromS, nowS);
    if (!this.#byRequest || place.billedFromS === null) return;
    this.#bill(nowS - place.billedFromS);
    place.billedFromS = null;
    this.#underWay.delete(place);
    if (place.gone) this.#freeZombie(place);
    else if (place.draining) this.#calendar.at(nowS + place.life.roundTripS / 2, () => this.#lost(place, "it ended as asked"));
  }

  /** Given up on while it worked: its slot was taken until now. */
  #freeZombie(place: Place): void {
    this.#freeSlot(place);
    this.#calendar.at(this.#calendar.nowS, () => this.#serveLaunches());
  }

  #bill(seconds: number): void {
    this.#costUsd += requestDollars + seconds * secondDollars;
  }

  #hear(place: Place, report: Report): void {
    if (place.gone) return;
    this.#messages += 1;
    if (this.#isLost()) return;
    place.outbox.push(report);
    this.#calendar.at(this.#arrivalS(place), place.arrives);
  }

  #arrives(place: Place): void {
    const report = place.outbox.shift();
    if (report !== undefined && !place.gone && place.run.finishedS === Infinity) this.#deliver(place, report);
  }

  #deliver({ run, id }: Place, report: Report): void {
    switch (report.kind) {
      case "begun":
        return this.#step(run, { kind: "items-begun", id, assignment: report.assignment, items: [report.index, report.index + 1] });
      case "ended":
        return this.#ended(run, id, report);
      case "returned":
        this.#trace.settled(run.number, report.indexes);
        return this.#step(run, { kind: "items-returned", id, assignment: report.assignment, items: rangesOf(report.indexes), cause: report.cause });
      case "heartbeat":
        return this.#step(run, { kind: "heartbeat", id, held: report.held });
      case "idle":
        return this.#step(run, { kind: "task-manager-idle", id });
    }
  }

  #ended(run: Run, id: TaskManagerId, { assignment, indexes, spentS, errors }: Extract<Report, { kind: "ended" }>): void {
    for (let at = 0; at < indexes.length; at++) {
      const index = indexes[at] ?? 0;
      const bit = 1 << (index & 7);
      const byte = run.done[index >> 3] ?? 0;
      if ((byte & bit) !== 0) continue;
      run.done[index >> 3] = byte | bit;
      this.#usefulS += spentS[at] ?? 0;
    }
    this.#trace.settled(run.number, indexes);
    const failed = new Set(errors.map(({ index }) => index));
    const results = rangesOf(failed.size === 0 ? indexes : indexes.filter((index) => !failed.has(index)));
    this.#step(run, { kind: "items-ended", id, assignment, results, errors });
  }
}

function endlessAfterS({ parameters: { workers, lifetimeS }, jobs }: WorldOptions): number {
  const workS = jobs.reduce((sum, { items, meanS, tail, poison, itemTimeoutS }) => sum + items * (meanS + tail.share * tail.cap + poison * itemTimeoutS), 0);
  return Math.max(...jobs.map(({ arrivesS }) => arrivesS)) + endlessLives * lifetimeS + (endlessTimes * workS) / workers;
}

export function itemsOf(job: JobModel, number: number, seed: number): Items {
  return new Items(job, number === 0 ? seed : streamSeed(seed, number, worldSalt));
}

