import type { Ranges } from "../../task-manager/protocol.ts";
import { Bits } from "./bits.ts";
import type { TaskManager } from "./fleet.ts";
import { GroupBuilder, type Group, type History } from "./groups.ts";
import { ascending, isAscending } from "./ranges.ts";
import type { AssignmentId, HostNumber, TaskManagerId } from "./types.ts";

/** Reports of begun items after which those that have ended are forgotten. */
const begunLogLength = 64;

/** Neighbouring items with one past; `ordinal` is the place of the first in the assignment. */
interface Piece {
  readonly first: number;
  readonly end: number;
  readonly ordinal: number;
  readonly history: History;
}

/** A request to give back, on its way: one an assignment. */
export interface Reclaim {
  readonly askedMs: number;
  /** After that its holder is suspect. */
  readonly deadlineMs: number;
  /** All that was not begun was asked for. */
  readonly whole: boolean;
  /** Who is to have how much of what comes back. */
  readonly shares: readonly Share[];
}

export interface Share {
  readonly member: TaskManager;
  readonly weight: number;
}

/** Items that were reported as begun together. */
interface Begun {
  readonly atMs: number;
  readonly first: number;
  readonly end: number;
}

/** Which missing items are meant, besides those that another holds too. */
export interface Choice {
  /** Begun before that time, or not begun at all; null: all. */
  readonly begunBeforeMs: number | "not begun" | null;
  readonly itemsMax: number;
  readonly fromEnd: boolean;
  isWanted(index: number): boolean;
}

/** Called with [first, end), the ordinal of the first and their common past. */
export type RunVisitor = (first: number, end: number, ordinal: number, history: History) => void;

export interface AssignmentOptions {
  readonly id: AssignmentId;
  readonly holder: TaskManagerId;
  readonly groups: readonly Group[];
  readonly exclusive: boolean;
  /** Its items are at another Task Manager, too. */
  readonly isCopy: boolean;
  /** Worked on from the last item to the first. */
  readonly reversed: boolean;
  /** Items that the holder has ended so far. */
  readonly holderEnded: number;
  readonly nowMs: number;
}

/** One time that items are given to a Task Manager: which of them it has begun, and which are missing still. */
export class Assignment {
  readonly id: AssignmentId;
  readonly holder: TaskManagerId;
  readonly count: number;
  readonly items: Ranges;
  /** The holder has nothing else: what happens to it was done by these. */
  readonly exclusive: boolean;
  readonly isCopy: boolean;
  readonly givenMs: number;
  readonly holderEnded: number;
  reclaim: Reclaim | null = null;
  /** It has given back all that it had not begun. */
  exhausted = false;
  /** When its holder last said that it begins an item of it. */
  lastBegunMs = -Infinity;
  /** Missing items that another has, too. */
  shared = 0;
  /** Copies made of it. */
  copies = 0;
  /** Items that its holder has reported as ended or given back, wanted or not. */
  reported = 0;
  readonly reversed: boolean;
  /** When it became the oldest at its Task Manager, which is when it began to run. */
  runningSinceMs: number | null = null;
  /** Heartbeats in a row that did not name it, although they should. */
  heartbeatsWithout = 0;
  readonly hosts: Uint32Array | null;
  readonly weights: Float64Array | null;
  #pieces: readonly Piece[];
  #missing: Bits;
  #missingCount: number;
  #begun: Bits | null = null;
  #begunMissing = 0;
  /** The last in order that its holder has begun. */
  #lastBegun = -1;
  #missingWeight: number;
  #begunLog: Begun[] = [];
  /** What is known of items beyond the usual weight, by ordinal; and the sum over those missing. */
  #extraWeights: Map<number, number> | null = null;
  #extraWeight = 0;

  constructor({ id, holder, groups, exclusive, isCopy, reversed, holderEnded, nowMs }: AssignmentOptions) {
    this.id = id;
    this.holder = holder;
    this.exclusive = exclusive;
    this.isCopy = isCopy;
    this.reversed = reversed;
    this.holderEnded = holderEnded;
    this.givenMs = nowMs;
    this.count = groups.reduce((count, group) => count + group.count, 0);
    this.hosts = joined(groups, this.count);
    this.weights = joinedWeights(groups, this.count);
    this.#pieces = piecesOf(groups);
    const [only] = groups;
    this.items = groups.length === 1 && only !== undefined ? only.ranges : ascending(groups.flatMap(({ ranges }) => ranges));
    this.#missing = new Bits(this.count);
    this.#missing.add(0, this.count);
    this.#missingCount = this.count;
    this.#missingWeight = this.weights === null ? 0 : this.weightOf(0, this.count);
  }

  get missing(): number {
    return this.#missingCount;
  }

  /** Missing items that its holder has not begun, as far as is known. */
  get unbegun(): number {
    return this.#missingCount - this.#begunMissing;
  }

  /** Those of them whose turn is over, so that they are being prepared: to others they would be new. */
  get skipped(): number {
    if (this.#begunMissing === this.#missingCount) return 0;
    let missing = 0;
    for (const { first, end, ordinal } of this.#pieces) {
      if (first > this.#lastBegun) break;
      missing += this.#missing.count(ordinal, ordinal + Math.min(end, this.#lastBegun + 1) - first);
    }
    return missing - this.#begunMissing;
  }

  /** About what the missing items weigh. */
  get missingWeight(): number {
    return this.weights === null ? Math.max(0, this.#missingCount + this.#extraWeight) : this.#missingWeight;
  }

  /** Has the holder begun the item? */
  hasBegun(index: number): boolean {
    const piece = this.#pieces[this.#pieceAt(index)];
    if (piece === undefined || index < piece.first) return false;
    return this.#begun?.has(piece.ordinal + index - piece.first) ?? false;
  }

  /** Takes those of [first, end) that are missing; returns how many that were. */
  take(first: number, end: number, visit: RunVisitor): number {
    const before = this.#missingCount;
    for (let at = this.#pieceAt(first); at < this.#pieces.length; at++) {
      const piece = this.#pieces[at];
      if (piece === undefined || piece.first >= end) break;
      const from = piece.ordinal + Math.max(0, first - piece.first);
      const to = piece.ordinal + Math.min(end, piece.end) - piece.first;
      this.#takeOrdinals(piece, from, to, visit);
    }
    return before - this.#missingCount;
  }

  /** Marks those of [first, end) that are missing as begun; returns how many of them belong here. */
  begin(first: number, end: number, nowMs: number): number {
    this.#begun ??= new Bits(this.count);
    this.#note({ atMs: nowMs, first, end });
    this.lastBegunMs = nowMs;
    this.#lastBegun = Math.max(this.#lastBegun, end - 1);
    let count = 0;
    for (let at = this.#pieceAt(first); at < this.#pieces.length; at++) {
      const piece = this.#pieces[at];
      if (piece === undefined || piece.first >= end) break;
      const from = piece.ordinal + Math.max(0, first - piece.first);
      const to = piece.ordinal + Math.min(end, piece.end) - piece.first;
      if (to <= from) continue;
      this.#beginMissing(from, to);
      this.#begun.add(from, to);
      count += to - from;
    }
    return count;
  }

  /** Takes all that is missing, in two parts: begun, and not. */
  takeAll(): { readonly begun: readonly Group[]; readonly unbegun: readonly Group[] } {
    const begun = new Remainder(this);
    const unbegun = new Remainder(this);
    for (const piece of [...this.#pieces].sort((a, b) => a.first - b.first)) {
      this.#takeOrdinals(piece, piece.ordinal, piece.ordinal + piece.end - piece.first, (first, end, ordinal, history) => {
        for (let at = ordinal; at < ordinal + end - first; ) {
          const isBegun = this.#begun?.has(at) ?? false;
          const stop = this.#sameUntil(isBegun, at, ordinal + end - first);
          (isBegun ? begun : unbegun).add(first + at - ordinal, first + stop - ordinal, at, history);
          at = stop;
        }
      });
    }
    return { begun: begun.groups(), unbegun: unbegun.groups() };
  }

  /** An item turned out to be `weight` times as heavy as most. */
  sized(index: number, weight: number): void {
    const piece = this.#pieces[this.#pieceAt(index)];
    if (piece === undefined || index < piece.first) return;
    const ordinal = piece.ordinal + index - piece.first;
    if (!this.#missing.has(ordinal) || this.#extraWeights?.has(ordinal) === true) return;
    this.#extraWeights ??= new Map();
    this.#extraWeights.set(ordinal, weight - 1);
    this.#extraWeight += weight - 1;
  }

  /** Since when the missing item that was begun first is worked on; null: none is known to be. */
  oldestBegunMs(): number | null {
    for (let log = this.#begunLog; log.length > 0; log.shift()) {
      const [oldest] = log;
      if (oldest !== undefined && this.#anyMissing(oldest.first, oldest.end)) return oldest.atMs;
    }
    return null;
  }

  /** Missing items, which stay missing. */
  chosen({ begunBeforeMs, itemsMax, fromEnd, isWanted }: Choice): readonly Group[] {
    const late = typeof begunBeforeMs !== "number" ? null : this.#begunLog.filter(({ atMs }) => atMs <= begunBeforeMs);
    if (late?.length === 0) return [];
    const found: { index: number; ordinal: number; history: History }[] = [];
    for (const piece of [...this.#pieces].sort((a, b) => a.first - b.first)) {
      const end = piece.ordinal + piece.end - piece.first;
      for (let at = this.#missing.nextMember(piece.ordinal, end); at < end; at = this.#missing.nextMember(at + 1, end)) {
        const index = piece.first + at - piece.ordinal;
        if (begunBeforeMs === "not begun" && this.#begun?.has(at) === true) continue;
        if (!isWanted(index) || late?.some((begun) => index >= begun.first && index < begun.end) === false) continue;
        found.push({ index, ordinal: at, history: piece.history });
      }
    }
    const chosen = new Remainder(this);
    const from = fromEnd ? Math.max(0, found.length - itemsMax) : 0;
    for (const { index, ordinal, history } of found.slice(from, from + itemsMax)) chosen.add(index, index + 1, ordinal, history);
    return chosen.groups();
  }

  hostAt(ordinal: number): HostNumber {
    return this.hosts?.[ordinal] ?? 0;
  }

  weightOf(ordinal: number, count: number): number {
    if (this.weights === null) return count;
    let weight = 0;
    for (let at = ordinal; at < ordinal + count; at++) weight += this.weights[at] ?? 1;
    return weight;
  }

  #sameUntil(isBegun: boolean, from: number, end: number): number {
    if (this.#begun === null) return end;
    return isBegun ? this.#begun.nextGap(from, end) : this.#begun.nextMember(from, end);
  }

  #takeOrdinals(piece: Piece, from: number, to: number, visit: RunVisitor): void {
    for (let at = this.#missing.nextMember(from, to); at < to; at = this.#missing.nextMember(at, to)) {
      const stop = this.#missing.nextGap(at, to);
      if (this.#begun !== null) this.#begunMissing -= this.#begun.count(at, stop);
      this.#missing.remove(at, stop);
      if (this.weights !== null) this.#missingWeight -= this.weightOf(at, stop - at);
      if (this.#extraWeights !== null) this.#forgetExtra(this.#extraWeights, at, stop);
      this.#missingCount -= stop - at;
      visit(piece.first + at - piece.ordinal, piece.first + stop - piece.ordinal, at, piece.history);
      at = stop;
    }
  }

  #beginMissing(from: number, to: number): void {
    const begun = this.#begun;
    for (let at = this.#missing.nextMember(from, to); at < to; at = this.#missing.nextMember(at, to)) {
      const stop = this.#missing.nextGap(at, to);
      this.#begunMissing += stop - at - (begun?.count(at, stop) ?? 0);
      at = stop;
    }
  }

  #note(begun: Begun): void {
    this.#begunLog.push(begun);
    if (this.#begunLog.length % begunLogLength === 0) this.#begunLog = this.#begunLog.filter(({ first, end }) => this.#anyMissing(first, end));
  }

  #anyMissing(first: number, end: number): boolean {
    for (let at = this.#pieceAt(first); at < this.#pieces.length; at++) {
      const piece = this.#pieces[at];
      if (piece === undefined || piece.first >= end) return false;
      const from = piece.ordinal + Math.max(0, first - piece.first);
      const to = piece.ordinal + Math.min(end, piece.end) - piece.first;
      if (this.#missing.nextMember(from, to) < to) return true;
    }
    return false;
  }

  #forgetExtra(extra: Map<number, number>, from: number, to: number): void {
    for (let at = from; at < to; at++) {
      this.#extraWeight -= extra.get(at) ?? 0;
      extra.delete(at);
    }
    if (extra.size === 0) this.#extraWeight = 0;
  }

  /** The first piece that ends behind `index`. */
  #pieceAt(index: number): number {
    let low = 0;
    let high = this.#pieces.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#pieces[middle]?.end ?? Infinity) > index) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}

/** Items taken out of an assignment, as groups by their past. */
export class Remainder {
  #assignment: Assignment;
  #builders = new Map<History, GroupBuilder>();

  constructor(assignment: Assignment) {
    this.#assignment = assignment;
  }

  add(first: number, end: number, ordinal: number, history: History): void {
    let builder = this.#builders.get(history);
    if (builder === undefined) this.#builders.set(history, (builder = new GroupBuilder()));
    builder.add(first, end, this.#assignment.hosts, this.#assignment.weights, ordinal);
  }

  groups(): readonly Group[] {
    return [...this.#builders].map(([history, builder]) => builder.build(history));
  }
}

function piecesOf(groups: readonly Group[]): readonly Piece[] {
  const pieces: Piece[] = [];
  let ordinal = 0;
  for (const { ranges, history } of groups) {
    for (let pair = 0; pair < ranges.length; pair += 2) {
      const first = ranges[pair] ?? 0;
      const end = ranges[pair + 1] ?? 0;
      pieces.push({ first, end, ordinal, history });
      ordinal += end - first;
    }
    if (!isAscending(ranges)) throw new Error(`a group's ranges must ascend: ${JSON.stringify(ranges.slice(0, 20))}`);
  }
  return groups.length === 1 ? pieces : pieces.sort((a, b) => a.first - b.first);
}

function joined(groups: readonly Group[], count: number): Uint32Array | null {
  const [only] = groups;
  if (groups.length === 1 && only !== undefined) return only.hosts;
  if (groups.every(({ hosts }) => hosts === null)) return null;
  const all = new Uint32Array(count);
  let at = 0;
  for (const group of groups) {
    if (group.hosts !== null) all.set(group.hosts, at);
    at += group.count;
  }
  return all;
}

function joinedWeights(groups: readonly Group[], count: number): Float64Array | null {
  const [only] = groups;
  if (groups.length === 1 && only !== undefined) return only.weights;
  if (groups.every(({ weights }) => weights === null)) return null;
  const all = new Float64Array(count).fill(1);
  let at = 0;
  for (const group of groups) {
    if (group.weights !== null) all.set(group.weights, at);
    at += group.count;
  }
  return all;
}
