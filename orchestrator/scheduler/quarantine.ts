import { Fifo } from "./fifo.ts";
import { chopped, partition, type Group } from "./groups.ts";
import { indexesOf, rangesFromSorted } from "./ranges.ts";
import type { SchedulerCommand } from "./types.ts";

/** Losses while alone after which an item is to blame. */
export const lossesAloneMax = 2;
/** Items tried together at first: as many as one report of begun items can name. */
const groupItemsMax = 64;
/** Items that were given back for lack of memory, tried together; alone if they come back again. */
const memoryGroupItemsMax = 8;

/**
 * Items that must be tried on a Task Manager that has nothing else: suspects of having ended one, and those that
 * were given back for lack of memory. Groups of suspects are halved with every loss until one is alone.
 */
export class Quarantine {
  readonly #suspects = new Map<number, number>();
  /** Those that were lost again while another had them. */
  readonly #lostAgain = new Set<number>();
  readonly #waiting = new Fifo<Group>();
  /** Given back for lack of memory: never tried by many at once, since they may share it. */
  readonly #large = new Fifo<Group>();
  #restored: Map<number, number> | null = null;
  #waitingItems = 0;
  #notedItems = 0;
  #changed = false;

  /** False on the usual path. */
  get any(): boolean {
    return this.#suspects.size > 0;
  }

  get waitingGroups(): number {
    return this.#waiting.length + this.#large.length;
  }

  /** Those of them that are to be tried whoever is free. */
  get waitingSuspects(): number {
    return this.#waiting.length;
  }

  get waitingItems(): number {
    return this.#waitingItems;
  }

  has(index: number): boolean {
    return this.#suspects.has(index);
  }

  /** What an earlier orchestrator knew. */
  restore(items: Iterable<number>, losses: readonly number[]): void {
    this.#restored = new Map();
    let at = 0;
    for (const index of items) this.#restored.set(index, losses[at++] ?? 0);
  }

  /** Takes the items that an earlier orchestrator suspected out of those just read; the others are returned. */
  sift(group: Group): Group | null {
    const restored = this.#restored;
    if (restored === null || restored.size === 0) return group;
    const parts = partition(group, (index) => restored.has(index));
    const suspects = parts.get(true);
    if (suspects === undefined) return group;
    for (const index of indexesOf(suspects.ranges)) {
      this.#suspects.set(index, restored.get(index) ?? 0);
      restored.delete(index);
    }
    this.#changed = true;
    this.#waitApart(suspects);
    return parts.get(false) ?? null;
  }

  /** They were begun where a Task Manager was lost. `together`: how many may be tried at once, at most. */
  suspect(group: Group, together: number): void {
    this.#add(group);
    for (const piece of chopped(group, Math.max(1, Math.min(together, groupItemsMax)))) this.#wait(piece);
  }

  /** The same, where another Task Manager has them still: should they come back from there, they are tried apart. */
  mark(group: Group): void {
    for (const index of indexesOf(group.ranges)) if (this.#suspects.has(index)) this.#lostAgain.add(index);
    this.#add(group);
  }

  /** May another try it apart while its holder goes on? One more loss for that, and no more. */
  mayBeCopied(index: number): boolean {
    return !this.#lostAgain.has(index);
  }

  /** One more loss while it was alone; returns how many that makes. */
  lostAlone(index: number): number {
    const losses = (this.#suspects.get(index) ?? 0) + 1;
    this.#suspects.set(index, losses);
    this.#changed = true;
    return losses;
  }

  /** Keeps what must be alone; the others are returned. */
  keep(group: Group): Group | null {
    if (group.history.memoryReturns > 0) {
      for (const piece of chopped(group, group.history.memoryReturns === 1 ? memoryGroupItemsMax : 1)) this.#wait(piece);
      return null;
    }
    if (this.#suspects.size === 0) return group;
    const parts = partition(group, (index) => this.#suspects.has(index));
    const suspects = parts.get(true);
    if (suspects !== undefined) this.#waitApart(suspects);
    return parts.get(false) ?? null;
  }

  /** It has ended, or a try of it has: it does not end Task Managers. */
  clear(index: number): void {
    this.#suspects.delete(index);
    this.#lostAgain.delete(index);
  }

  /** `large`: also those given back for lack of memory. */
  take(large: boolean): Group | null {
    const group = this.#waiting.shift() ?? (large ? this.#large.shift() : undefined);
    if (group === undefined) return null;
    this.#waitingItems -= group.count;
    return group;
  }

  /** What must be on disk before anything is handed out; null: what is there will do. */
  note(): Extract<SchedulerCommand, { kind: "note-quarantine" }> | null {
    // Names too many do no harm, so the note need not follow each item that is cleared.
    const shrunk = this.#notedItems > 0 && this.#suspects.size * 2 <= this.#notedItems;
    if (!this.#changed && !shrunk) return null;
    this.#changed = false;
    this.#notedItems = this.#suspects.size;
    const indexes = [...this.#suspects.keys()].sort((a, b) => a - b);
    return { kind: "note-quarantine", items: rangesFromSorted(indexes), losses: indexes.map((index) => this.#suspects.get(index) ?? 0) };
  }

  #add(group: Group): void {
    this.#changed = true;
    for (const index of indexesOf(group.ranges)) if (!this.#suspects.has(index)) this.#suspects.set(index, 0);
  }

  /** Whoever was lost alone once is never again tried with others. */
  #waitApart(suspects: Group): void {
    const parts = partition(suspects, (index) => (this.#suspects.get(index) ?? 0) > 0);
    for (const [alone, part] of parts) for (const piece of chopped(part, alone ? 1 : groupItemsMax)) this.#wait(piece);
  }

  #wait(group: Group): void {
    if (group.history.memoryReturns > 0) this.#large.push(group);
    else this.#waiting.push(group);
    this.#waitingItems += group.count;
  }
}
