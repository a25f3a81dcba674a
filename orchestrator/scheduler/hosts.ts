import { GroupQueue, partition, type Group } from "./groups.ts";
import { indexesOf } from "./ranges.ts";
import type { HostNumber } from "./types.ts";

/** Items of a paced host are let through together, this often. */
const paceEveryMs = 100;
/** What a paced host has not used is kept for this long. */
const paceKeptMs = 250;
/** As long as it may take until a Task Manager asks for more. */
const passesKeptMs = 10_000;
/** How long a host that gave no time itself is left alone: twice as long each time, up to a maximum. */
export const hostBackOffFirstMs = 1_000;
const hostBackOffMaxMs = 5_000;

export function hostBackOffMs(failuresBefore: number): number {
  return Math.min(hostBackOffMaxMs, hostBackOffFirstMs * 2 ** failuresBefore);
}

/** How many items may go: `tokens` not used yet, `passes` let through and not handed out yet. */
interface Pace {
  itemsPerSecond: number;
  tokens: number;
  passes: number;
  refilledMs: number;
}

/**
 * A host that asked to be left alone. `blocked` until its time has passed. Then, where it is known how much it bears,
 * `paced`, until told otherwise; else `probing`: one item is let through; when it ends all others follow, when it is
 * given back the host is blocked again.
 */
interface BusyHost {
  state: "blocked" | "probing" | "paced";
  pace: Pace | null;
  untilMs: number;
  /** Since when it has failed without one success; null: its last answer was one. */
  failingSinceMs: number | null;
  probe: number | null;
  failedProbes: number;
  idleSinceMs: number | null;
  /** Time of its one valid entry among the deadlines. */
  wakeMs: number;
  readonly waiting: GroupQueue;
}

export interface HostsOptions {
  readonly hostBlockedMs: number;
  /** Asks for `due(host)` at that time. */
  wake(timeMs: number, host: HostNumber): void;
  /** Its items may be handed out again. */
  release(group: Group): void;
}

/** Hosts that asked to be left alone, and the items that wait for them. */
export class Hosts {
  readonly #options: HostsOptions;
  readonly #busy = new Map<HostNumber, BusyHost>();
  #waiting = 0;

  constructor(options: HostsOptions) {
    this.#options = options;
  }

  /** False on the usual path, where nothing of this needs to be looked at. */
  get any(): boolean {
    return this.#busy.size > 0;
  }

  /** Items set aside. */
  get waiting(): number {
    return this.#waiting;
  }

  block(number: HostNumber, untilMs: number, nowMs: number): void {
    if (number === 0) return;
    const host = this.#busy.get(number) ?? this.#newlyBusy(number, nowMs);
    host.failingSinceMs ??= nowMs;
    host.untilMs = host.state === "blocked" ? Math.max(host.untilMs, untilMs) : untilMs;
    host.state = "blocked";
    host.probe = null;
    host.idleSinceMs = null;
    // What was let through and not handed out yet is set aside again when somebody asks for it.
    if (host.pace !== null) host.pace.passes = 0;
    this.#wakeFor(number, host, nowMs);
  }

  /** From now on, or once it is not blocked any more. */
  pace(number: HostNumber, itemsPerSecond: number | null, nowMs: number): void {
    const known = this.#busy.get(number);
    if (number === 0 || (known === undefined && itemsPerSecond === null)) return;
    const host = known ?? this.#newlyBusy(number, nowMs);
    if (itemsPerSecond === null) {
      host.pace = null;
      if (host.state === "paced") this.free(number);
      return;
    }
    refill(host.pace, nowMs);
    host.pace = { ...(host.pace ?? { tokens: 1, passes: 0, refilledMs: nowMs }), itemsPerSecond };
    if (known === undefined || host.state === "probing") host.state = "paced";
    host.probe = null;
    host.idleSinceMs = null;
    this.#wakeFor(number, host, nowMs);
  }

  free(number: HostNumber): void {
    const host = this.#busy.get(number);
    if (host === undefined) return;
    this.#busy.delete(number);
    for (const group of this.#takeAll(host)) this.#options.release(group);
  }

  /** The part of the group that may be handed out; the rest is set aside. */
  admit(group: Group, nowMs: number): Group | null {
    if (this.#busy.size === 0 || group.hosts === null) return group;
    const parts = partition(group, (index, host) => (this.#mayGo(index, host, nowMs) ? -1 : host));
    for (const [host, part] of parts) if (host !== -1) this.#setAside(host, part, nowMs);
    return parts.get(-1) ?? null;
  }

  /** Given back because their host is busy; what is of no busy host is returned. */
  returned(group: Group, nowMs: number): Group | null {
    const parts = partition(group, (_index, host) => (this.#busy.has(host) ? host : -1));
    for (const [number, part] of parts) {
      const host = this.#busy.get(number);
      if (host === undefined) continue;
      host.failingSinceMs ??= nowMs;
      if (host.state === "probing" && isProbe(host, part)) this.#blockAfterProbe(number, host, nowMs);
      this.#setAside(number, part, nowMs);
    }
    return parts.get(-1) ?? null;
  }

  /** An item of that host has ended. `answered`: the host did its part, whatever became of the item. */
  ended(number: HostNumber, index: number, answered: boolean, nowMs: number): void {
    const host = this.#busy.get(number);
    if (host === undefined) return;
    if (answered) {
      host.failingSinceMs = null;
      host.failedProbes = 0;
      if (host.state === "probing") this.free(number);
    } else if (host.probe === index) this.#blockAfterProbe(number, host, nowMs);
  }

  /** Ends a block, lets items through; returns the items that have waited for too long. */
  due(number: HostNumber, nowMs: number): readonly Group[] {
    const host = this.#busy.get(number);
    if (host === undefined || host.wakeMs > nowMs) return [];
    host.wakeMs = Infinity;
    if (host.state === "blocked" && host.untilMs <= nowMs) host.state = host.pace === null ? "probing" : "paced";
    const expired = this.#isExpired(host, nowMs) ? this.#takeAll(host) : [];
    if (host.state === "probing") this.#probe(number, host, nowMs);
    if (host.state === "paced") this.#letThrough(host, nowMs);
    if (this.#busy.has(number)) this.#wakeFor(number, host, nowMs);
    return expired;
  }

  #newlyBusy(number: HostNumber, nowMs: number): BusyHost {
    const host: BusyHost = {
      state: "blocked",
      pace: null,
      untilMs: nowMs,
      failingSinceMs: null,
      probe: null,
      failedProbes: 0,
      idleSinceMs: null,
      wakeMs: Infinity,
      waiting: new GroupQueue(),
    };
    this.#busy.set(number, host);
    return host;
  }

  #mayGo(index: number, number: HostNumber, nowMs: number): boolean {
    const host = this.#busy.get(number);
    if (host === undefined) return true;
    if (host.state === "blocked") return false;
    if (host.state === "paced") {
      const passes = mayPass(host.pace, nowMs);
      if (passes) this.#wakeFor(number, host, nowMs);
      return passes;
    }
    if (host.probe === null) {
      host.probe = index;
      // Waited for from now on, however long it takes.
      host.idleSinceMs = null;
    }
    return host.probe === index;
  }

  #setAside(number: HostNumber, group: Group, nowMs: number): void {
    const host = this.#busy.get(number);
    if (host === undefined) throw new Error(`${group.count} items wait for host ${number}, which is not busy`);
    host.waiting.push(group);
    host.idleSinceMs = null;
    this.#waiting += group.count;
    this.#wakeFor(number, host, nowMs);
  }

  #letThrough({ pace, waiting }: BusyHost, nowMs: number): void {
    if (pace === null) return;
    refill(pace, nowMs);
    for (;;) {
      const count = Math.floor(Math.min(pace.tokens, passesMaxOf(pace) - pace.passes));
      const group = count < 1 ? null : waiting.take(count, Infinity);
      if (group === null) return;
      pace.tokens -= group.count;
      pace.passes += group.count;
      this.#waiting -= group.count;
      this.#options.release(group);
    }
  }

  #probe(number: HostNumber, host: BusyHost, nowMs: number): void {
    if (host.probe !== null) return;
    const probe = host.waiting.take(1, Infinity);
    if (probe !== null) {
      this.#waiting -= 1;
      for (const index of indexesOf(probe.ranges)) host.probe = index;
      this.#options.release(probe);
      return;
    }
    host.idleSinceMs ??= nowMs;
    if (nowMs >= host.idleSinceMs + this.#options.hostBlockedMs) this.#busy.delete(number);
  }

  #blockAfterProbe(number: HostNumber, host: BusyHost, nowMs: number): void {
    const waitMs = hostBackOffMs(host.failedProbes);
    host.failedProbes += 1;
    this.block(number, nowMs + waitMs, nowMs);
  }

  #isExpired(host: BusyHost, nowMs: number): boolean {
    return host.failingSinceMs !== null && nowMs >= host.failingSinceMs + this.#options.hostBlockedMs;
  }

  #takeAll(host: BusyHost): readonly Group[] {
    const groups: Group[] = [];
    for (let group = host.waiting.take(Infinity, Infinity); group !== null; group = host.waiting.take(Infinity, Infinity)) groups.push(group);
    for (const { count } of groups) this.#waiting -= count;
    return groups;
  }

  #wakeFor(number: HostNumber, host: BusyHost, nowMs: number): void {
    const { hostBlockedMs } = this.#options;
    const nextMs = Math.max(
      nowMs,
      Math.min(
        host.state === "blocked" ? host.untilMs : Infinity,
        host.state === "paced" && host.waiting.count > 0 ? nowMs + nextPassMs(host.pace) : Infinity,
        host.waiting.count > 0 && host.failingSinceMs !== null ? host.failingSinceMs + hostBlockedMs : Infinity,
        host.idleSinceMs === null ? Infinity : host.idleSinceMs + hostBlockedMs,
      ),
    );
    if (nextMs >= host.wakeMs) return;
    host.wakeMs = nextMs;
    this.#options.wake(nextMs, number);
  }
}

function refill(pace: Pace | null, nowMs: number): void {
  if (pace === null) return;
  const kept = Math.max(1, (pace.itemsPerSecond * paceKeptMs) / 1000);
  pace.tokens = Math.min(kept, pace.tokens + (pace.itemsPerSecond * (nowMs - pace.refilledMs)) / 1000);
  pace.refilledMs = nowMs;
}

function mayPass(pace: Pace | null, nowMs: number): boolean {
  if (pace === null) return true;
  if (pace.passes > 0) {
    pace.passes -= 1;
    return true;
  }
  refill(pace, nowMs);
  if (pace.tokens < 1) return false;
  pace.tokens -= 1;
  return true;
}

/** Let through and not asked for yet, at most. */
function passesMaxOf({ itemsPerSecond }: Pace): number {
  return Math.max(1, (itemsPerSecond * passesKeptMs) / 1000);
}

function nextPassMs(pace: Pace | null): number {
  if (pace === null) return 0;
  // Whoever makes use of one asks again.
  if (passesMaxOf(pace) - pace.passes < 1) return Infinity;
  return Math.ceil(Math.max(paceEveryMs, ((1 - pace.tokens) / pace.itemsPerSecond) * 1000));
}

function isProbe(host: BusyHost, group: Group): boolean {
  for (const index of indexesOf(group.ranges)) if (index === host.probe) return true;
  return false;
}
