import { Fifo } from "../scheduler/fifo.ts";
import { Calendar } from "./calendar.ts";
import type { Items } from "./items.ts";
import { Slot, type Life } from "./machine-life.ts";
import type { JobModel, Parameters } from "./workload.ts";
import { itemsOf, type WorldFigures } from "./world.ts";

/** What a machine does not do any more, or has ended, is known at the next multiple of this. */
const newsS = 0.1;
/** Machines that have an item at once. */
const holdersMax = 2;

/** An item that is under way. */
interface Doing {
  readonly run: Run;
  readonly index: number;
  readonly tries: Try[];
  done: boolean;
  /** Nobody is thought to work on it. */
  waiting: boolean;
}

/** An item at a machine. */
interface Try {
  readonly doing: Doing;
  readonly machine: Machine;
  readonly serviceS: number;
  readonly spentS: number;
  /** Since it was taken. */
  readonly sinceS: number;
  /** Nothing comes of it any more, as far as is known: the machine has ended or pauses. */
  doubted: boolean;
  over: boolean;
}

interface Machine {
  readonly slot: Slot;
  ordinal: number;
  life: Life;
  readonly tries: Set<Try>;
  /** Their wall-clock part is over. */
  readonly ready: Fifo<Try>;
  serving: Try | null;
  idle: boolean;
}

interface Run {
  readonly job: JobModel;
  readonly items: Items;
  next: number;
  left: number;
  endedS: number;
}

export interface IdealOptions {
  readonly parameters: Parameters;
  readonly jobs: readonly JobModel[];
  readonly seed: number;
}

/**
 * What could be reached if hand-over were free: every machine takes one item at a time as soon as it has nothing to do
 * for its processor; how long an item takes nobody knows beforehand; deaths and pauses are known within 0.1 s, and what
 * was there goes to others. At the end those that idle copy what has lasted longest. No bound, but where this itself is
 * far above the bound, no rule without foreknowledge comes near to that.
 */
export function runIdeal(options: IdealOptions): WorldFigures {
  return new IdealWorld(options).run();
}

class IdealWorld {
  readonly #parameters: Parameters;
  readonly #calendar = new Calendar();
  readonly #runs: readonly Run[];
  readonly #machines: readonly Machine[];
  /** In the order in which they were begun first. */
  readonly #doing = new Set<Doing>();
  readonly #again = new Fifo<Doing>();
  #left = 0;
  #looking = false;
  #spentS = 0;
  #usefulS = 0;
  #copied = 0;
  #losses = 0;

  constructor({ parameters, jobs, seed }: IdealOptions) {
    this.#parameters = parameters;
    this.#runs = jobs.map((job, number) => ({ job, items: itemsOf(job, number, seed), next: 0, left: job.items, endedS: Infinity }));
    this.#left = jobs.reduce((sum, { items }) => sum + items, 0);
    this.#machines = Array.from({ length: parameters.workers }, (_, number): Machine => {
      const slot = new Slot(parameters, seed, number);
      return { slot, ordinal: 0, life: slot.life(0), tries: new Set(), ready: new Fifo(), serving: null, idle: false };
    });
  }

  run(): WorldFigures {
    for (const { job } of this.#runs) this.#calendar.at(job.arrivesS, () => this.#wakeIdle());
    for (const machine of this.#machines) this.#begin(machine);
    while (this.#left > 0 && this.#calendar.next());
    for (const { tries } of this.#machines) for (const each of tries) this.#spend(each);
    const ends = this.#runs.map(({ endedS }) => endedS);
    return {
      makespanS: Math.max(...ends),
      jobsS: this.#runs.map(({ job, endedS }) => endedS - job.arrivesS),
      wastePercent: this.#usefulS === 0 ? 0 : (100 * Math.max(0, this.#spentS - this.#usefulS)) / this.#usefulS,
      assignments: 0,
      messages: 0,
      losses: this.#losses,
      copied: this.#copied,
      reclaimed: 0,
      failed: 0,
      costUsd: 0,
    };
  }

  // ---- machines ----

  #begin(machine: Machine): void {
    const { life } = machine;
    this.#calendar.at(life.readyS, () => this.#work(machine));
    this.#calendar.at(life.endS, () => this.#end(machine));
  }

  #end(machine: Machine): void {
    const lost = [...machine.tries];
    for (const each of lost) {
      each.over = true;
      this.#spend(each);
    }
    machine.tries.clear();
    while (machine.ready.length > 0) machine.ready.shift();
    machine.serving = null;
    machine.idle = false;
    this.#losses += 1;
    this.#calendar.at(this.#nextNewsS(), () => lost.forEach((each) => this.#doubt(each)));
    machine.life = machine.slot.life(++machine.ordinal);
    this.#begin(machine);
  }

  /** One thing for the processor, and what has to be waited for beside it. */
  #work(machine: Machine): void {
    const { life } = machine;
    if (this.#calendar.nowS >= life.endS || machine.serving !== null) return;
    const awakeS = life.awakeAt(this.#calendar.nowS);
    if (awakeS > this.#calendar.nowS) return this.#workAt(machine, awakeS);
    while (machine.serving === null && machine.tries.size < this.#parameters.lanes) {
      const doing = machine.ready.length > 0 ? undefined : this.#nextItem();
      if (doing === undefined) break;
      this.#take(machine, doing);
    }
    this.#serve(machine);
    machine.idle = machine.serving === null && machine.tries.size < this.#parameters.lanes;
    if (machine.idle) this.#lookSoon();
  }

  #workAt(machine: Machine, timeS: number): void {
    const { life } = machine;
    this.#calendar.at(timeS, () => {
      if (machine.life === life) this.#work(machine);
    });
  }

  #take(machine: Machine, doing: Doing): void {
    const { items } = doing.run;
    items.look(doing.index);
    const wallS = items.wallS;
    const serviceS = items.serviceS * machine.life.factor;
    const each: Try = { doing, machine, serviceS, spentS: wallS + serviceS, sinceS: this.#calendar.nowS, doubted: false, over: false };
    doing.tries.push(each);
    doing.waiting = false;
    machine.tries.add(each);
    // With one lane the machine waits for what the item waits for.
    if (this.#parameters.lanes === 1) return this.#occupy(machine, each, wallS + serviceS);
    if (wallS === 0) machine.ready.push(each);
    else this.#after(each, wallS, () => (items.poison ? this.#ended(each) : this.#waited(each)));
    this.#serve(machine);
  }

  #waited(each: Try): void {
    each.machine.ready.push(each);
    this.#work(each.machine);
  }

  #serve(machine: Machine): void {
    while (machine.serving === null && machine.ready.length > 0) {
      const each = machine.ready.shift();
      if (each !== undefined && !each.over) this.#occupy(machine, each, each.serviceS);
    }
  }

  #occupy(machine: Machine, each: Try, seconds: number): void {
    machine.serving = each;
    this.#after(each, seconds, () => this.#ended(each));
  }

  /** Calls when so much of it is done, unless the machine ends before; a pause meanwhile becomes known. */
  #after(each: Try, seconds: number, what: () => void): void {
    const { nowS } = this.#calendar;
    const { life } = each.machine;
    const endS = life.workedAt(nowS, seconds);
    if (endS <= life.endS) {
      this.#calendar.at(endS, () => {
        if (!each.over) what();
      });
    }
    if (endS <= nowS + seconds + 1e-9) return;
    const pause = life.pausesUntil(endS).find(([from]) => from >= nowS);
    if (pause !== undefined) this.#calendar.at(newsAfter(pause[0]), () => this.#doubt(each));
  }

  // ---- items ----

  #nextItem(): Doing | undefined {
    for (let doing = this.#again.shift(); doing !== undefined; doing = this.#again.shift()) if (doing.waiting && !doing.done) return doing;
    let best: Run | undefined;
    for (const run of this.#runs) {
      if (run.next === run.job.items || run.job.arrivesS > this.#calendar.nowS) continue;
      if (best === undefined || run.job.priority > best.job.priority) best = run;
    }
    if (best === undefined) return undefined;
    const doing: Doing = { run: best, index: best.next++, tries: [], done: false, waiting: false };
    this.#doing.add(doing);
    return doing;
  }

  #ended(each: Try): void {
    const { doing, machine } = each;
    this.#leave(each);
    if (!doing.done) {
      doing.done = true;
      this.#usefulS += each.spentS;
      this.#doing.delete(doing);
      this.#left -= 1;
      doing.run.left -= 1;
      if (doing.run.left === 0) doing.run.endedS = this.#calendar.nowS;
      const others = doing.tries.filter(({ over }) => !over);
      if (others.length > 0) this.#calendar.at(this.#nextNewsS(), () => others.forEach((other) => this.#stop(other)));
    }
    this.#work(machine);
  }

  /** Another was faster. */
  #stop(each: Try): void {
    if (each.over) return;
    this.#leave(each);
    this.#work(each.machine);
  }

  #leave(each: Try): void {
    each.over = true;
    this.#spend(each);
    each.machine.tries.delete(each);
    if (each.machine.serving === each) each.machine.serving = null;
  }

  #spend(each: Try): void {
    this.#spentS += Math.min(each.spentS, this.#calendar.nowS - each.sinceS);
  }

  #doubt(each: Try): void {
    const { doing } = each;
    if (each.doubted || doing.done) return;
    each.doubted = true;
    if (holdersOf(doing) > 0) return this.#lookSoon();
    doing.waiting = true;
    this.#again.push(doing);
    this.#wakeIdle();
  }

  // ---- those without work ----

  #wakeIdle(): void {
    for (const machine of this.#machines) if (machine.idle) this.#work(machine);
  }

  /** At the next news, whoever idles copies what was begun first. */
  #lookSoon(): void {
    if (this.#looking) return;
    this.#looking = true;
    this.#calendar.at(this.#nextNewsS(), () => {
      this.#looking = false;
      this.#copy();
    });
  }

  #copy(): void {
    const copyable = [...this.#doing].filter((doing) => holdersOf(doing) < holdersMax).values();
    for (const machine of this.#machines) {
      if (!machine.idle || machine.life.awakeAt(this.#calendar.nowS) > this.#calendar.nowS) continue;
      const next = copyable.next();
      if (next.done === true) return;
      const doing = next.value;
      if (doing.tries.some((each) => each.machine === machine && !each.over)) continue;
      this.#copied += 1;
      this.#take(machine, doing);
      machine.idle = machine.serving === null && machine.tries.size < this.#parameters.lanes;
    }
  }

  #nextNewsS(): number {
    return newsAfter(this.#calendar.nowS);
  }
}

function holdersOf({ tries }: Doing): number {
  return tries.reduce((holders, { over, doubted }) => holders + Number(!over && !doubted), 0);
}

function newsAfter(timeS: number): number {
  return (Math.floor(timeS / newsS + 1e-9) + 1) * newsS;
}
