import { countOf } from "../../scheduler/ranges.ts";
import type { AssignmentId, LossCause, SchedulerCommand, SchedulerEvent, TaskManagerId } from "../../scheduler/types.ts";
import { withoutSecrets } from "../run-log.ts";
import { PictureKeeper, type GanttPicture } from "./picture.ts";
import { TimeBins } from "./time-bins.ts";

const binsMax = 480;
const binMsAtFirst = 50;
/** A message that is older than that has arrived. */
const crossingMs = 2000;
/** Of what is counted by kind, so many kinds. */
const kindsMax = 12;

const series = { results: 0, errors: 1, working: 2, present: 3 } as const;

/** How often something happened, and one example of it. */
export interface Tally {
  readonly count: number;
  readonly example: string;
}

/** What a run's steps tell of where its time went. Milliseconds on the run's clock; bounded whatever the run's size. */
export interface TimelineReport {
  readonly runMs: number;
  /** The run's end was recorded. */
  readonly ended: boolean;
  /** The first assignment; null: there was none. */
  readonly firstAssignedMs: number | null;
  /** Nine tenths of the most that worked at once did so from here to there. */
  readonly fullFromMs: number;
  readonly fullToMs: number;
  readonly lastItemMs: number | null;
  readonly workingPeak: number;
  readonly taskManagers: number;
  /** Sums over Task Managers. */
  readonly startingMs: number;
  readonly workingMs: number;
  readonly idleMs: number;
  /** Part of `idleMs`: the list had no more to give just then. */
  readonly idleReadingMs: number;
  /** Part of `idleMs`: after `fullToMs`. */
  readonly idleInTailMs: number;
  readonly slowestStartMs: number;
  readonly lostWorkMs: number;
  readonly assignments: number;
  readonly copies: number;
  readonly copyMs: number;
  /** The assignment that ended last. */
  readonly last: { readonly name: string; readonly items: number; readonly fromMs: number; readonly toMs: number } | null;
  readonly losses: readonly Tally[];
  readonly launchEnds: readonly (Tally & { readonly reason: string })[];
  readonly returned: readonly { readonly cause: string; readonly items: number }[];
  readonly hostBlocks: number;
  readonly throughput: {
    readonly binMs: number;
    readonly results: readonly number[];
    readonly errors: readonly number[];
    /** Mean over the bin. */
    readonly working: readonly number[];
    readonly present: readonly number[];
  };
  readonly picture: GanttPicture;
  /** What of the picture was left out. */
  readonly rowsSeen: number;
  readonly rowStride: number;
  readonly joinedS: number;
}

interface Life {
  readonly id: TaskManagerId;
  readonly row: number;
  readonly launchedMs: number;
  joinedMs: number | null;
  /** It was asked to end. */
  leaving: boolean;
  readonly open: Map<AssignmentId, Open>;
  /** End of what was drawn of it last. */
  drawnToMs: number;
}

interface Open {
  readonly givenMs: number;
  readonly items: number;
  readonly copy: boolean;
  left: number;
  heardMs: number;
}

type How = "ended" | "lost" | "left";

export class Timeline {
  readonly #bins = new TimeBins(4, binsMax, binMsAtFirst);
  readonly #keeper = new PictureKeeper();
  readonly #lives = new Map<TaskManagerId, Life>();
  readonly #freeRows: number[] = [];
  #rows = 0;
  #nowMs = 0;
  #present = 0;
  #working = 0;
  /** By number of Task Managers: when so many first worked, and when last. */
  readonly #reachedMs: number[] = [];
  readonly #fellMs: number[] = [];
  /** Idle time summed up by the time that as many began to idle for good. */
  readonly #idleAtFall: number[] = [];
  #reading = false;
  #inputEnded = false;
  #stopping = false;
  #ended = false;
  #firstAssignedMs: number | null = null;
  #lastItemMs: number | null = null;
  #taskManagers = 0;
  #startingMs = 0;
  #workingMs = 0;
  #idleMs = 0;
  #idleReadingMs = 0;
  #slowestStartMs = 0;
  #lostWorkMs = 0;
  #assignments = 0;
  #copies = 0;
  #copyMs = 0;
  #hostBlocks = 0;
  #last: TimelineReport["last"] = null;
  readonly #losses = new Map<string, { count: number; readonly example: string }>();
  readonly #launchEnds = new Map<string, { count: number; readonly example: string; readonly reason: string }>();
  readonly #returned = new Map<string, number>();

  stepped(event: SchedulerEvent, nowMs: number, commands: readonly SchedulerCommand[]): void {
    this.#passTo(nowMs);
    this.#hear(event);
    if (commands.some(({ kind }) => kind === "finish")) this.#stopping = true;
    for (const command of commands) this.#carryOut(command);
  }

  report(): TimelineReport {
    for (const life of [...this.#lives.values()]) this.#end(life, "left");
    const nearlyAll = Math.max(1, Math.ceil(this.#peak * 0.9));
    const fullToMs = this.#fellMs[nearlyAll] ?? this.#lastItemMs ?? this.#nowMs;
    const bins = (of: number) => this.#bins.values(of, this.#nowMs);
    const { binMs } = this.#bins;
    const mean = (of: number) => bins(of).map((sum) => sum / binMs);
    return {
      runMs: this.#nowMs,
      ended: this.#ended,
      firstAssignedMs: this.#firstAssignedMs,
      fullFromMs: this.#reachedMs[nearlyAll] ?? 0,
      fullToMs,
      lastItemMs: this.#lastItemMs,
      workingPeak: this.#peak,
      taskManagers: this.#taskManagers,
      startingMs: this.#startingMs,
      workingMs: this.#workingMs,
      idleMs: this.#idleMs,
      idleReadingMs: this.#idleReadingMs,
      idleInTailMs: this.#idleMs - (this.#idleAtFall[nearlyAll] ?? this.#idleMs),
      slowestStartMs: this.#slowestStartMs,
      lostWorkMs: this.#lostWorkMs,
      assignments: this.#assignments,
      copies: this.#copies,
      copyMs: this.#copyMs,
      last: this.#last,
      losses: byCount([...this.#losses.values()]),
      launchEnds: byCount([...this.#launchEnds.values()]),
      returned: [...this.#returned].map(([cause, items]) => ({ cause, items })),
      hostBlocks: this.#hostBlocks,
      throughput: { binMs, results: bins(series.results), errors: bins(series.errors), working: mean(series.working), present: mean(series.present) },
      picture: this.#keeper.picture(),
      rowsSeen: this.#keeper.rowsSeen,
      rowStride: this.#keeper.stride,
      joinedS: this.#keeper.joinedS,
    };
  }

  get #peak(): number {
    return Math.max(0, this.#reachedMs.length - 1);
  }

  #passTo(nowMs: number): void {
    const sinceMs = this.#nowMs;
    const passedMs = nowMs - sinceMs;
    if (passedMs <= 0) return;
    const idle = this.#present - this.#working;
    this.#bins.addOver(series.working, sinceMs, nowMs, this.#working);
    this.#bins.addOver(series.present, sinceMs, nowMs, this.#present);
    this.#workingMs += passedMs * this.#working;
    this.#idleMs += passedMs * idle;
    if (this.#reading && !this.#inputEnded && this.#firstAssignedMs !== null) this.#idleReadingMs += passedMs * idle;
    this.#nowMs = nowMs;
  }

  // ---- what was heard ----

  #hear(event: SchedulerEvent): void {
    switch (event.kind) {
      case "items-read":
        this.#reading = false;
        return;
      case "input-ended":
      case "input-failed":
        this.#inputEnded = true;
        return;
      case "task-manager-joined":
        return this.#joined(event.id);
      case "task-manager-lost":
        return this.#lost(event.id, event.cause);
      case "task-manager-idle":
        return this.#closeUnheld(event.id, []);
      case "heartbeat":
        return this.#closeUnheld(event.id, event.held);
      case "launch-ended": {
        const life = this.#lives.get(event.id);
        if (life !== undefined) this.#end(life, "left");
        return tally(this.#launchEnds, `${event.reason} ${kindOf(event.message)}`, () => ({ count: 0, example: withoutSecrets(event.message), reason: event.reason }));
      }
      case "stop":
        this.#stopping = true;
        return;
      case "items-begun":
        return this.#settled(event.id, event.assignment, 0);
      case "items-ended":
        this.#lastItemMs = this.#nowMs;
        return this.#settled(event.id, event.assignment, countOf(event.results) + event.errors.length);
      case "items-returned": {
        const items = countOf(event.items);
        this.#returned.set(event.cause, (this.#returned.get(event.cause) ?? 0) + items);
        return this.#settled(event.id, event.assignment, items);
      }
      case "host-blocked":
        this.#hostBlocks += 1;
        return;
      default:
        return;
    }
  }

  #joined(id: TaskManagerId): void {
    const life = this.#lives.get(id) ?? this.#launched(id);
    life.joinedMs = this.#nowMs;
    const startMs = this.#nowMs - life.launchedMs;
    this.#startingMs += startMs;
    this.#slowestStartMs = Math.max(this.#slowestStartMs, startMs);
    this.#present += 1;
    this.#taskManagers += 1;
  }

  #lost(id: TaskManagerId, { message, turnedAway = false }: LossCause): void {
    const life = this.#lives.get(id);
    if (life === undefined) return;
    const wanted = life.leaving || turnedAway || this.#stopping;
    if (!wanted) tally(this.#losses, kindOf(message), () => ({ count: 0, example: withoutSecrets(message) }));
    this.#end(life, wanted ? "left" : "lost");
  }

  /** What was given just now may have crossed what its holder says of itself. */
  #closeUnheld(id: TaskManagerId, held: readonly { readonly assignment: AssignmentId }[]): void {
    const life = this.#lives.get(id);
    if (life === undefined) return;
    for (const [assignment, open] of [...life.open]) {
      if (open.givenMs < this.#nowMs - crossingMs && !held.some((each) => each.assignment === assignment)) this.#close(life, assignment, open, "ended");
    }
  }

  #settled(id: TaskManagerId, assignment: AssignmentId, items: number): void {
    const life = this.#lives.get(id);
    const open = life?.open.get(assignment);
    if (life === undefined || open === undefined) return;
    open.heardMs = this.#nowMs;
    open.left -= items;
    if (open.left <= 0) this.#close(life, assignment, open, "ended");
  }

  // ---- what was decided ----

  #carryOut(command: SchedulerCommand): void {
    switch (command.kind) {
      case "read":
        this.#reading = true;
        return;
      case "launch":
        for (const id of command.ids) this.#launched(id);
        return;
      case "assign":
        return this.#assigned(command);
      case "cancel": {
        const life = this.#lives.get(command.id);
        const open = life?.open.get(command.assignment);
        if (life !== undefined && open !== undefined) this.#close(life, command.assignment, open, "ended");
        return;
      }
      case "store": {
        const { results, errors } = command;
        this.#bins.add(series.results, this.#nowMs, countOf(results));
        if (errors.length > 0) this.#bins.add(series.errors, this.#nowMs, errors.length);
        return;
      }
      case "release":
        return this.#released(this.#lives.get(command.id), command.how);
      case "finish":
        this.#ended = true;
        return;
      case "note-quarantine":
        return;
    }
  }

  #released(life: Life | undefined, how: "keep" | "drain" | "kill"): void {
    if (life === undefined) return;
    const lost = how === "kill" && life.joinedMs !== null && !this.#stopping;
    if (lost) tally(this.#losses, "given up", () => ({ count: 0, example: "given up by the orchestrator, since it said nothing or got no further (logs/orchestrator.log names it)" }));
    life.leaving = true;
    // One that drains ends what it has begun first.
    if (how !== "drain" || life.open.size === 0) this.#end(life, lost ? "lost" : "left");
  }

  #launched(id: TaskManagerId): Life {
    const row = this.#freeRows.pop() ?? this.#rows++;
    const life: Life = { id, row, launchedMs: this.#nowMs, joinedMs: null, leaving: false, open: new Map(), drawnToMs: 0 };
    this.#lives.set(id, life);
    return life;
  }

  #assigned({ id, assignment, items, copy = false }: Extract<SchedulerCommand, { kind: "assign" }>): void {
    const life = this.#lives.get(id);
    if (life === undefined) return;
    const count = countOf(items);
    this.#firstAssignedMs ??= this.#nowMs;
    this.#assignments += 1;
    if (copy) this.#copies += 1;
    if (life.open.size === 0) this.#works(1);
    life.open.set(assignment, { givenMs: this.#nowMs, items: count, copy, left: count, heardMs: this.#nowMs });
  }

  // ---- ends ----

  #end(life: Life, how: How): void {
    this.#closeAll(life, how);
    this.#lives.delete(life.id);
    this.#freeRows.push(life.row);
    this.#freeRows.sort((a, b) => b - a);
    if (life.joinedMs === null) this.#startingMs += this.#nowMs - life.launchedMs;
    else this.#present -= 1;
    const readyS = (life.joinedMs ?? this.#nowMs) / 1000;
    this.#keeper.machine(life.row, { name: nameOf(life.id), fromS: life.launchedMs / 1000, readyS, endS: this.#nowMs / 1000, cold: false, lost: how === "lost", silent: false, factor: 1, pauses: [] });
  }

  #closeAll(life: Life | undefined, how: How): void {
    if (life !== undefined) for (const [assignment, open] of [...life.open]) this.#close(life, assignment, open, how);
  }

  #close(life: Life, assignment: AssignmentId, open: Open, how: How): void {
    life.open.delete(assignment);
    if (life.open.size === 0) this.#works(-1);
    // Where one is prefetched, it begins when the one before it ends.
    const fromMs = Math.max(open.givenMs, life.drawnToMs);
    const toMs = Math.max(fromMs, how === "ended" ? Math.max(open.heardMs, open.left <= 0 ? this.#nowMs : 0) : this.#nowMs);
    life.drawnToMs = toMs;
    if (open.copy) this.#copyMs += toMs - fromMs;
    const lost = how === "lost" && open.left > 0;
    if (lost) this.#lostWorkMs += toMs - fromMs;
    if (how === "ended" && toMs >= (this.#last?.toMs ?? 0)) this.#last = { name: nameOf(life.id), items: open.items, fromMs, toMs };
    this.#keeper.bar({ row: life.row, fromS: fromMs / 1000, toS: toMs / 1000, items: open.items, assignment, count: 1, copy: open.copy, lost, job: 0 });
  }

  #works(change: 1 | -1): void {
    this.#working += change;
    if (change === 1) {
      while (this.#reachedMs.length <= this.#working) this.#reachedMs.push(this.#nowMs);
      delete this.#fellMs[this.#working];
      return;
    }
    this.#fellMs[this.#working + 1] = this.#nowMs;
    this.#idleAtFall[this.#working + 1] = this.#idleMs;
  }
}

/** As events.jsonl numbers them. */
function nameOf(id: TaskManagerId): string {
  return `#${id}`;
}

/** Names and numbers apart, what is said is the same. */
function kindOf(message: string): string {
  return message.replace(/tm-[\w-]+/g, "tm").replace(/\d+(\.\d+)?/g, "0");
}

function tally<T extends { count: number }>(tallies: Map<string, T>, kind: string, first: () => T): void {
  const known = tallies.get(kind);
  if (known !== undefined) known.count += 1;
  else if (tallies.size < kindsMax) tallies.set(kind, { ...first(), count: 1 });
}

function byCount<T extends { readonly count: number }>(tallies: readonly T[]): readonly T[] {
  return [...tallies].sort((a, b) => b.count - a.count);
}
