import { backOffMs } from "./random.ts";
import type { TaskManagerId } from "./types.ts";

const backOffFirstMs = 200;
const backOffMaxMs = 30_000;
/** Launches in a row that ended without a Task Manager, after which none is tried any more. */
const diedInARowMax = 5;
/** At 30 s each this is three quarters of an hour. */
const throttledInARowMax = 100;
/** Task Managers in a row that were lost before they did anything, beside those that may just have had bad luck together. */
const barrenInARowMax = 5;

/** How many Task Managers may be started, and when; and when to give up. */
export class Launcher {
  readonly #random: () => number;
  /** When each was launched. */
  readonly #launching = new Map<TaskManagerId, number>();
  #nextId = 1;
  /** Launches at once: halved when throttled, doubled by those that join. */
  #atOnceMax = Infinity;
  #retryAtMs = 0;
  /** What was launched until then and fails has failed together: one more wait does not follow from it. */
  #failedMs = -Infinity;
  #throttledInARow = 0;
  #diedInARow = 0;
  #barrenInARow = 0;
  /** The same, those included that were lost before they were given anything. */
  #unprovenInARow = 0;
  #lastMessage = "";
  #refusal: string | null = null;
  #joined = 0;
  #launchSumMs = 0;
  allowance = 0;

  constructor(random: () => number) {
    this.#random = random;
  }

  /** Launched and not heard of. */
  get launching(): number {
    return this.#launching.size;
  }

  get ids(): IterableIterator<TaskManagerId> {
    return this.#launching.keys();
  }

  /** When the next launch may be tried; null: at once. */
  retryAtMs(nowMs: number): number | null {
    return this.#retryAtMs > nowMs ? this.#retryAtMs : null;
  }

  /** Mean time from a launch to its Task Manager; null: none has joined yet. */
  get launchMs(): number | null {
    return this.#joined === 0 ? null : this.#launchSumMs / this.#joined;
  }

  launch(count: number, nowMs: number): readonly TaskManagerId[] {
    const ids: TaskManagerId[] = [];
    const allowed = Math.min(count, this.#atOnceMax - this.#launching.size);
    if (this.#retryAtMs > nowMs) return ids;
    for (; ids.length < allowed; this.#nextId++) {
      this.#launching.set(this.#nextId, nowMs);
      ids.push(this.#nextId);
    }
    return ids;
  }

  isKnown(id: TaskManagerId): boolean {
    return id >= 1 && id < this.#nextId;
  }

  isLaunching(id: TaskManagerId): boolean {
    return this.#launching.has(id);
  }

  /** Gives up on the newest launch that is under way; null: there is none. */
  abandonOne(): TaskManagerId | null {
    let newest: TaskManagerId | null = null;
    for (const id of this.#launching.keys()) newest = id;
    if (newest !== null) this.#launching.delete(newest);
    return newest;
  }

  joined(id: TaskManagerId, nowMs: number): void {
    const sinceMs = this.#launching.get(id);
    if (sinceMs === undefined) throw new Error(`Task Manager ${id} joined and is not being launched`);
    this.#launching.delete(id);
    this.#joined += 1;
    this.#launchSumMs += nowMs - sinceMs;
    this.#diedInARow = 0;
    this.#throttledInARow = 0;
    this.#atOnceMax *= 2;
  }

  ended(id: TaskManagerId, reason: "throttled" | "refused" | "died", message: string, nowMs: number): void {
    const launchedMs = this.#launching.get(id);
    if (launchedMs === undefined) return;
    this.#launching.delete(id);
    this.#lastMessage = message;
    const isNews = launchedMs > this.#failedMs;
    if (isNews) this.#failedMs = nowMs;
    switch (reason) {
      case "throttled":
        this.#atOnceMax = Math.max(1, Math.floor(Math.min(this.#atOnceMax, this.#launching.size + 1) / 2));
        if (isNews) this.#waitAfter(++this.#throttledInARow, nowMs);
        return;
      case "died":
        this.#diedInARow += 1;
        if (isNews) this.#waitAfter(this.#diedInARow, nowMs);
        return;
      case "refused":
        this.#refusal = message;
    }
  }

  /** A Task Manager was lost that had ended nothing and left no suspect; `tried`: it had been given items. */
  barren(message: string, tried: boolean, nowMs: number): void {
    this.#lastMessage = message;
    if (tried) this.#barrenInARow += 1;
    // Those that are lost together are lost for one reason.
    if (nowMs >= this.#retryAtMs) this.#waitAfter(++this.#unprovenInARow, nowMs);
  }

  /** One that was there was one too many: the next ones come singly. */
  turnedAway(message: string, nowMs: number): void {
    this.#lastMessage = message;
    this.#atOnceMax = 1;
    if (nowMs >= this.#retryAtMs) this.#waitAfter(++this.#unprovenInARow, nowMs);
  }

  itemsEnded(): void {
    this.#barrenInARow = 0;
    this.#unprovenInARow = 0;
  }

  /** Why no more Task Managers can be had; null: they can. */
  get unavailable(): string | null {
    if (this.#refusal !== null) return this.#refusal;
    if (this.#diedInARow >= diedInARowMax) return `${this.#diedInARow} Task Managers in a row ended while they started: ${this.#lastMessage}`;
    if (this.#throttledInARow >= throttledInARowMax) return `no Task Manager could be started in ${this.#throttledInARow} tries: ${this.#lastMessage}`;
    return null;
  }

  /** Why it is no use to go on with `live` Task Managers of which none has done anything yet; null: it may be. */
  hopeless(live: number): string | null {
    if (this.#barrenInARow < barrenInARowMax + live) return null;
    return `${this.#barrenInARow} Task Managers in a row were lost before they did anything: ${this.#lastMessage}`;
  }

  #waitAfter(failures: number, nowMs: number): void {
    this.#retryAtMs = Math.max(this.#retryAtMs, nowMs + backOffMs(Math.max(0, failures - 1), backOffFirstMs, backOffMaxMs, this.#random));
  }
}
