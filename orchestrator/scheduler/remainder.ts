import { assignmentItemsMax } from "../../task-manager/protocol.ts";
import { breakPromises } from "./assigner.ts";
import type { Assignment, Choice, Share } from "./assignment.ts";
import type { TaskManager } from "./fleet.ts";
import type { Group } from "./groups.ts";
import { levelMs, type Giver, type Taker } from "./level.ts";
import type { Speculation, SpeculationParts } from "./speculation.ts";
import type { SchedulerCommand } from "./types.ts";

/** Between two looks, more in a large fleet; and without news. */
const lookMs = 10;
const lookMsPerTaskManager = 0.02;
const lookAgainMs = 1_000;
/** Before the end a look is worth it this often, as a part of a report's interval, and once the end is so near. */
const watchShare = 0.5;
const farMs = 15_000;
/** An item is stuck after so many item times and report intervals without an end. */
const stuckItems = 4;
const stuckReports = 1.5;
/** For a report that is on its way. */
const onTheWayMs = 125;
/** An item that is not done by then is tried elsewhere at the same time. */
const overdueMs = 1_000;
/** Its holder has answered since, so that it is the item that is slow: elsewhere it would hardly be faster. */
const overdueAliveMs = 10_000;
/** Such copies may take this part of the work, at so much each: of one lane. */
const aliveCopyShare = 0.0165;
const aliveCopyMs = 20_000;
/** What has lasted so large a part of the longest that any item did will end soon: a copy would hardly matter. */
const nearEndShare = 0.8;
/** Without a way back one is surer before copying a last item. */
const overdueBlindMs = 4_000;
/** Of work, in one copy. */
const copyMsMax = 200;
/** Copied at once where it would be done so many times as fast. */
const muchFaster = 2;
/** What lasts so many times as long as usual is itself what is slow: no machine is. */
const slowestMachine = 10;
/** Not worth moving for less. */
const gainMinMs = 20;
const gainBlindMinMs = 100;
/** What passes until items are given back, and until those that were handed out are begun, while nothing was measured. */
const askMsGuess = 30;
const startMsGuess = 40;
/** A copy from the end takes this much more than would make both meet: estimates err. */
const blindShare = 1.2;
/** Of the Task Managers; if more are late at once, it is not they who are slow. */
const slowAlikeShare = 0.5;

export interface RemainderOptions {
  readonly maxExtraPercent: number;
  readonly reportMs: number;
  readonly reclaim: boolean;
  /** Longer than between two heartbeats. */
  readonly silentMs: number;
}

/** How one that holds items stands. */
interface Plight extends Giver {
  readonly member: TaskManager;
  /** Nothing has ended there for too long. */
  readonly stuck: boolean;
  /** It did not answer. */
  readonly suspect: boolean;
}

/**
 * When nothing is left to hand out, those that idle take over part of what others would end last. What is not begun is
 * asked back and moves; what cannot move is copied. Where nothing can be asked back, copies go from the end backwards.
 */
export class RemainderRule implements Speculation {
  readonly #options: RemainderOptions;
  readonly #parts: SpeculationParts;
  #looked = { atMs: -Infinity, running: 0, idle: 0 };
  /** Copies of slow items whose holders get on otherwise. */
  #copiedAlive = 0;
  /** When to look again should nothing be heard. */
  #dueMs = -Infinity;
  readonly wanted = 0;

  constructor(options: RemainderOptions, parts: SpeculationParts) {
    this.#options = options;
    this.#parts = parts;
  }

  completed(): void {}

  nextMs(nowMs: number): number | null {
    return this.#isAtEnd() ? Math.max(nowMs, this.#nextLookMs()) : null;
  }

  act(nowMs: number, awakeSinceMs: number): readonly SchedulerCommand[] {
    if (!this.#isAtEnd()) return this.#freeThoseBehind(nowMs, awakeSinceMs);
    if (nowMs < this.#nextLookMs()) return [];
    const { assigner, fleet } = this.#parts;
    const commands: SchedulerCommand[] = [];
    this.#dueMs = nowMs + lookAgainMs;
    const { givers, takers } = this.#survey(nowMs, awakeSinceMs);
    this.#shareOut(givers, takers, commands, nowMs);
    if (this.#options.reclaim) for (const { member, stuck } of givers) if (stuck) this.#askAll(member, commands, nowMs);
    this.#copyWhatCannotMove(givers, takers, commands, nowMs);
    this.#looked = { atMs: nowMs, running: assigner.running, idle: fleet.idle };
    return commands;
  }

  #isAtEnd(): boolean {
    const { waiting, intake, fleet } = this.#parts;
    return fleet.idle > 0 && fleet.holding > 0 && waiting.ready === 0 && intake.ended;
  }

  /** Not too often; and without news not before time alone makes a difference. */
  #nextLookMs(): number {
    const { assigner, fleet } = this.#parts;
    const { atMs, running, idle } = this.#looked;
    const soonestMs = atMs + Math.max(lookMs, fleet.size * lookMsPerTaskManager);
    const anyNews = fleet.heardMs >= atMs || assigner.running !== running || fleet.idle !== idle;
    return anyNews ? soonestMs : Math.max(soonestMs, this.#dueMs);
  }

  #lookBy(timeMs: number, nowMs: number): void {
    if (timeMs > nowMs) this.#dueMs = Math.min(this.#dueMs, timeMs);
  }

  /** Before the end: what is behind a stuck item and would be done after all else goes to those that get on. */
  #freeThoseBehind(nowMs: number, awakeSinceMs: number): readonly SchedulerCommand[] {
    const { assigner, fleet, intake, waiting } = this.#parts;
    if (!this.#options.reclaim || waiting.ready === 0 || nowMs < this.#looked.atMs + this.#options.reportMs * watchShare) return [];
    const fleetMeanMs = fleet.meanMs(nowMs);
    if (fleetMeanMs === null) return [];
    const endMs = ((assigner.restWeight + assigner.running * intake.meanWeight) * fleetMeanMs) / Math.max(1, fleet.live);
    if (endMs > farMs) return [];
    this.#looked = { atMs: nowMs, running: -1, idle: -1 };
    const commands: SchedulerCommand[] = [];
    for (const giver of this.#survey(nowMs, awakeSinceMs).givers) {
      if (giver.leftMs <= endMs) break;
      if (giver.stuck && giver.movableWeight > 0) this.#askAll(giver.member, commands, nowMs);
    }
    return commands;
  }

  /** What is not begun comes back; and where all is begun, the answer tells that its holder is alive. */
  #askAll(member: TaskManager, commands: SchedulerCommand[], nowMs: number): void {
    for (const assignment of member.assignments) {
      if (member.state === "draining" || assignment.reclaim !== null || assignment.exhausted || assignment.missing === assignment.shared) continue;
      const begun = member.assignments.reduce((sum, { missing, unbegun }) => sum + missing - unbegun, 0);
      const items = assignment.missing - (begun > 0 ? skippedOf(member, assignment) : lanesKept(member, begun));
      if (items > 0) commands.push(this.#parts.assigner.reclaim(assignment, { items, whole: true, shares: [] }, nowMs));
    }
  }

  // ---- who stands how ----

  #survey(nowMs: number, awakeSinceMs: number): { readonly givers: readonly Plight[]; readonly takers: Taker[] } {
    const { fleet, intake } = this.#parts;
    const givers: Plight[] = [];
    const takers: Taker[] = [];
    const fleetMeanMs = fleet.meanMs(nowMs);
    if (fleetMeanMs === null) return { givers, takers };
    for (const member of fleet.all()) {
      if (member.assignments.length > 0) {
        const unitMs = fleet.paceMs(member, fleet.meanMsBeside(member, nowMs) ?? fleetMeanMs, intake.meanWeight);
        givers.push(this.#plightOf(member, unitMs, nowMs, awakeSinceMs));
      } else if (fleet.isFree(member)) {
        takers.push({ member, unitMs: fleet.paceMs(member, fleetMeanMs, intake.meanWeight), startMs: this.#startMs(member) });
      }
    }
    const unpromised = takers.filter(({ member }) => member.promised === null);
    givers.sort((a, b) => b.leftMs - a.leftMs || a.member.id - b.member.id);
    unpromised.sort((a, b) => a.unitMs - b.unitMs || a.member.id - b.member.id);
    return { givers, takers: unpromised };
  }

  #startMs(member: TaskManager): number {
    const { fleet } = this.#parts;
    const startMs = fleet.startMs ?? startMsGuess;
    return this.#options.reclaim ? startMs + (fleet.roundTripMs(member) ?? askMsGuess) : startMs;
  }

  #plightOf(member: TaskManager, unitMs: number, nowMs: number, awakeSinceMs: number): Plight {
    const { meanWeight } = this.#parts.intake;
    let missing = 0;
    let weight = 0;
    let unbegun = 0;
    let askable = 0;
    let begun = 0;
    let suspect = false;
    let newsMs = Math.max(member.progressMs, awakeSinceMs);
    for (const assignment of member.assignments) {
      const own = assignment.missing - assignment.shared;
      const mine = Math.min(assignment.unbegun, own);
      missing += own;
      unbegun += mine;
      begun += assignment.missing - assignment.unbegun;
      weight += own === 0 ? 0 : (assignment.missingWeight * own) / assignment.missing;
      if (assignment.reclaim === null && !assignment.exhausted) askable += Math.min(mine, assignment.unbegun - skippedOf(member, assignment));
      newsMs = Math.max(newsMs, assignment.lastBegunMs);
      suspect ||= this.#isSuspect(member, assignment, nowMs);
    }
    const itemWeight = missing === 0 ? meanWeight : weight / missing;
    const itemMs = unitMs * itemWeight;
    const ageMs = nowMs - newsMs;
    // Of the items begun some have ended and are not reported yet: all but one where each in its turn has the machine.
    const endedSince = member.lanes === 1 ? begun - 1 : Math.min(begun - 1, (nowMs - member.progressMs) / Math.max(1, itemMs));
    const unended = Math.max(0, Math.min(missing, unbegun + Math.max(1, begun - Math.max(0, endedSince))));
    const stuckMs = Math.max(stuckItems * itemMs, stuckReports * this.#options.reportMs);
    const stuck = ageMs > stuckMs;
    this.#lookBy(newsMs + stuckMs + 1, nowMs);
    suspect ||= begun > member.lanes && this.#owesReport(member, newsMs, nowMs);
    suspect ||= this.#owesHeartbeat(member, awakeSinceMs, nowMs);
    const kept = stuck || suspect ? lanesKept(member, begun) : 1;
    const movable = Math.max(0, Math.min(askable, kept === 0 ? askable : unended - kept));
    // One that has lasted long will last as long again; where a mistake cannot be taken back, only once that is sure.
    const elapsedMs = this.#options.reclaim || stuck ? ageMs : itemMs / 2;
    const leftMs = unended === 0 ? 0 : Math.max(itemMs - ageMs, elapsedMs) + (unended - 1) * itemMs;
    return { member, unitMs, leftMs, movableWeight: movable * itemWeight, itemWeight, stuck, suspect };
  }

  /** Asked and not answered in time, while others were heard of. */
  #isSuspect(member: TaskManager, { reclaim }: Assignment, nowMs: number): boolean {
    if (reclaim !== null) this.#lookBy(reclaim.deadlineMs + 1, nowMs);
    // Nobody waits any longer for what it may give back.
    if (reclaim !== null && nowMs > reclaim.deadlineMs) breakPromises(reclaim);
    return reclaim !== null && nowMs > reclaim.deadlineMs && member.heardMs <= reclaim.deadlineMs && this.#parts.fleet.heardMs > reclaim.askedMs;
  }

  /** It has begun more than it has lanes, so that some must have ended, and does not report them. */
  #owesReport(member: TaskManager, newsMs: number, nowMs: number): boolean {
    const owedMs = newsMs + stuckReports * this.#options.reportMs + onTheWayMs;
    this.#lookBy(owedMs + 1, nowMs);
    return nowMs > owedMs && this.#parts.fleet.heardMs > member.heardMs;
  }

  #owesHeartbeat(member: TaskManager, awakeSinceMs: number, nowMs: number): boolean {
    const owedMs = Math.max(member.heardMs, awakeSinceMs) + this.#options.silentMs;
    this.#lookBy(owedMs + 1, nowMs);
    return nowMs > owedMs && this.#parts.fleet.heardMs > member.heardMs;
  }

  // ---- what can move ----

  #shareOut(givers: readonly Plight[], takers: Taker[], commands: SchedulerCommand[], nowMs: number): void {
    if (takers.length === 0) return;
    const able = givers.filter(({ movableWeight }) => movableWeight > 0);
    if (able.length === 0) return;
    const level = levelMs(able, takers);
    for (const giver of able) {
      if (takers.length === 0) return;
      const shares = this.#sharesOf(giver, takers, level);
      if (shares.length === 0) continue;
      if (this.#options.reclaim) this.#ask(giver, shares, commands, nowMs);
      else this.#copyFromEnd(giver, shares, commands, nowMs);
    }
  }

  /** How much of one's work each of those that are free should have, so that all end together. */
  #sharesOf(giver: Plight, takers: Taker[], level: number): readonly Share[] {
    const { movableWeight, itemWeight, unitMs, leftMs } = giver;
    const gainMs = this.#options.reclaim ? gainMinMs : gainBlindMinMs;
    const shares: Share[] = [];
    let excess = Math.min(movableWeight, Math.max(itemWeight, (leftMs - level) / unitMs));
    while (excess > itemWeight / 2) {
      const [taker] = takers;
      if (taker === undefined) break;
      const weight = Math.min(excess, Math.max(itemWeight, (level - taker.startMs) / taker.unitMs));
      if (leftMs - (taker.startMs + weight * taker.unitMs) < gainMs) break;
      takers.shift();
      shares.push({ member: taker.member, weight });
      excess -= weight;
    }
    return shares;
  }

  /** The last assignment first: what was prefetched is the first to go. */
  #ask({ member, itemWeight, movableWeight, stuck }: Plight, shares: readonly Share[], commands: SchedulerCommand[], nowMs: number): void {
    const left = [...shares];
    // Behind a stuck item nothing is left: those it is meant for share it as it comes.
    const scale = stuck ? movableWeight / shares.reduce((sum, { weight }) => sum + weight, 0) : 1;
    for (const assignment of [...member.assignments].reverse()) {
      if (left.length === 0) return;
      if (assignment.reclaim !== null || assignment.exhausted || assignment.unbegun === 0) continue;
      const wanted = Math.max(1, Math.round((scale * left.reduce((sum, { weight }) => sum + weight, 0)) / itemWeight));
      const items = Math.min(wanted, assignment.unbegun - skippedOf(member, assignment));
      if (items === 0) continue;
      const given = takeShares(left, items === wanted ? Infinity : (items * itemWeight) / scale);
      commands.push(this.#parts.assigner.reclaim(assignment, { items, whole: items >= assignment.unbegun, shares: given }, nowMs));
    }
  }

  #copyFromEnd({ member, itemWeight }: Plight, shares: readonly Share[], commands: SchedulerCommand[], nowMs: number): void {
    const [assignment] = member.assignments;
    if (assignment === undefined) return;
    for (const share of shares) {
      const itemsMax = Math.min(assignmentItemsMax, this.#budget(), Math.max(1, Math.round((blindShare * share.weight) / itemWeight)));
      if (itemsMax < 1) return;
      const { groups, apart } = this.#choose(assignment, { begunBeforeMs: "not begun", itemsMax, fromEnd: true });
      if (groups.length > 0) commands.push(this.#parts.assigner.copy(share.member, assignment, { groups, apart, reversed: true }, nowMs));
    }
  }

  // ---- what cannot move ----

  #copyWhatCannotMove(givers: readonly Plight[], takers: Taker[], commands: SchedulerCommand[], nowMs: number): void {
    if (takers.length === 0 || this.#isSlowAlike(givers, nowMs)) return;
    for (const giver of givers) {
      for (const assignment of giver.member.assignments) {
        const [taker] = takers;
        if (taker === undefined) return;
        const begunBeforeMs = this.#begunBeforeMs(giver, assignment, taker, nowMs);
        if (begunBeforeMs === "none") continue;
        this.#copyTo(takers, giver, assignment, begunBeforeMs, commands, nowMs);
      }
    }
  }

  /** Which of an assignment's items are to be tried elsewhere, too: those begun before a time, or all (null). */
  #begunBeforeMs(giver: Plight, assignment: Assignment, taker: Taker, nowMs: number): number | null | "none" {
    const isShared = assignment.missing === assignment.shared;
    if (isShared && !this.#mayBeLeftTo(assignment)) return "none";
    if (giver.suspect && !isShared) return null;
    const sinceMs = assignment.oldestBegunMs();
    if (sinceMs === null) return "none";
    const usualMs = this.#usualMs(giver, taker, nowMs);
    const heldMs = this.#overdueMs(assignment, usualMs * giver.itemWeight * giver.member.lanes, nowMs - sinceMs, nowMs);
    const lateMs = Math.min(heldMs, this.#slowMs(giver, usualMs, nowMs - sinceMs, nowMs));
    this.#lookBy(sinceMs + lateMs, nowMs);
    if (nowMs - sinceMs >= lateMs) return nowMs - lateMs;
    if (isShared) return "none";
    const leftMs = Math.max(giver.unitMs * giver.itemWeight * 0.5, 0);
    if (giver.unitMs > muchFaster * taker.unitMs && leftMs > taker.startMs + taker.unitMs * giver.itemWeight) return nowMs;
    return "none";
  }

  /** What was copied from behind a stuck item depends on its copy: nothing can be asked back of the stuck one. */
  #mayBeLeftTo({ isCopy }: Assignment): boolean {
    return isCopy && !this.#options.reclaim;
  }

  /** Of a unit at the taker, as far as others than the giver tell. */
  #usualMs({ member, unitMs }: Plight, taker: Taker, nowMs: number): number {
    const { fleet, intake } = this.#parts;
    const othersMs = fleet.meanMsBeside(member, nowMs);
    return othersMs === null ? unitMs : fleet.paceMs(taker.member, othersMs, intake.meanWeight);
  }

  /** After so long an item is tried elsewhere, whoever holds it. */
  #overdueMs({ exhausted }: Assignment, itemMs: number, ageMs: number, nowMs: number): number {
    const leastMs = this.#options.reclaim ? (exhausted ? this.#overdueAliveMs(ageMs, nowMs) : overdueMs) : overdueBlindMs;
    return Math.max(leastMs, stuckItems * itemMs);
  }

  /** After so long it is the holder that must be slow, by all that it has ended and the item in hand. */
  #slowMs({ member, itemWeight }: Plight, usualMs: number, ageMs: number, nowMs: number): number {
    const slowBusyMs = muchFaster * (member.weightEnded + itemWeight) * usualMs;
    const leastMs = this.#options.reclaim ? overdueMs : overdueBlindMs;
    const slowMs = Math.max(leastMs, ageMs + slowBusyMs - this.#parts.fleet.busyMsOf(member, nowMs));
    return slowMs <= slowestMachine * itemWeight * usualMs ? slowMs : Infinity;
  }

  /** So slow an item may last long twice: not many are tried so, by the work that the job has been. */
  #overdueAliveMs(ageMs: number, nowMs: number): number {
    const { fleet } = this.#parts;
    if (ageMs > nearEndShare * fleet.longestMs && ageMs < fleet.longestMs) return Infinity;
    const copiesMax = Math.max(1, Math.floor((fleet.busyMs(nowMs) * fleet.lanes * aliveCopyShare) / aliveCopyMs));
    return this.#copiedAlive < copiesMax ? overdueAliveMs : Infinity;
  }

  #copyTo(takers: Taker[], { itemWeight }: Plight, assignment: Assignment, begunBeforeMs: number | null, commands: SchedulerCommand[], nowMs: number): void {
    const isShared = assignment.missing === assignment.shared;
    for (let left = isShared ? assignment.missing : assignment.missing - assignment.shared; left > 0; ) {
      const [taker] = takers;
      if (taker === undefined) return;
      // Small pieces: a copy cannot be divided any more, and others will idle soon.
      const mostItems = Math.ceil(copyMsMax / (taker.unitMs * itemWeight));
      const size = begunBeforeMs === null ? Math.min(Math.ceil(left / takers.length), mostItems) : 1;
      left -= size;
      const itemsMax = Math.min(Math.max(size, taker.member.lanes), assignmentItemsMax, this.#budget());
      if (itemsMax < 1) return;
      const { groups, apart } = this.#choose(assignment, { begunBeforeMs, itemsMax, fromEnd: false });
      if (groups.length === 0) return;
      takers.shift();
      if (assignment.exhausted) this.#copiedAlive += 1;
      commands.push(this.#parts.assigner.copy(taker.member, assignment, { groups, apart, reversed: false }, nowMs));
    }
  }

  /** Those that are under no suspicion, or else one that is, by itself. */
  #choose(assignment: Assignment, choice: Omit<Choice, "isWanted">): { readonly groups: readonly Group[]; readonly apart: boolean } {
    const { holders, quarantine } = this.#parts;
    const depends = this.#mayBeLeftTo(assignment) && typeof choice.begunBeforeMs === "number";
    const isFree = (index: number) => !holders.has(index) || (depends && holders.isLeftTo(assignment, index));
    const isPlain = (index: number) => isFree(index) && (assignment.exclusive || !quarantine.has(index));
    const groups = assignment.chosen({ ...choice, isWanted: isPlain });
    if (groups.length > 0 || assignment.exclusive || !quarantine.any) return { groups, apart: false };
    const isSuspect = (index: number) => isFree(index) && quarantine.has(index) && quarantine.mayBeCopied(index);
    return { groups: assignment.chosen({ ...choice, itemsMax: 1, isWanted: isSuspect }), apart: true };
  }

  /** Items that may be tried twice still. */
  #budget(): number {
    const { intake, assigner } = this.#parts;
    return Math.ceil((this.#options.maxExtraPercent * intake.read) / 100) - assigner.copied;
  }

  #isSlowAlike(givers: readonly Plight[], nowMs: number): boolean {
    const { fleet } = this.#parts;
    const late = givers.filter(({ member, stuck, suspect }) => suspect || (stuck && nowMs - member.progressMs >= overdueMs)).length;
    return fleet.live > 2 && late > slowAlikeShare * fleet.live;
  }
}

/**
 * Where nothing ends and nothing is begun, what is in several lanes is not waiting for the machine, but being
 * downloaded: it would have to start again elsewhere, and be no faster there.
 */
function lanesKept({ lanes }: TaskManager, begun: number): number {
  return lanes > 1 && begun === 0 ? lanes : 0;
}

/** The same of those that others have overtaken in their lanes. */
function skippedOf({ lanes }: TaskManager, assignment: Assignment): number {
  return lanes > 1 ? assignment.skipped : 0;
}

/** Takes shares from the front until they make that weight; the last one may be cut. */
function takeShares(shares: Share[], weightMax: number): readonly Share[] {
  const taken: Share[] = [];
  for (let left = weightMax; left > 0; ) {
    const [share] = shares;
    if (share === undefined) break;
    shares.shift();
    taken.push({ member: share.member, weight: Math.min(left, share.weight) });
    // Whoever was cut short gets from one place only: it is given more when it idles again.
    left -= share.weight;
  }
  return taken;
}
