import { GroupQueue, partition, type Group } from "./groups.ts";
import { indexesOf } from "./ranges.ts";
import type { HostNumber } from "./types.ts";

/** Before another probe where the host gave no time itself. */
const probeAgainFirstMs = 1_000;
const probeAgainMaxMs = 60_000;

/**
 * A host that asked to be left alone. `blocked` until its time has passed, then `probing`: one item is let
 * through; when it ends all others follow, when it is given back the host is blocked again.
 */
interface BusyHost {
  state: "blocked" | "probing";
  untilMs: number;
  /** Since when it has had no success. */
  failingSinceMs: number;
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
    host.untilMs = host.state === "blocked" ? Math.max(host.untilMs, untilMs) : untilMs;
    host.state = "blocked";
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
    const parts = partition(group, (index, host) => (this.#mayGo(index, host) ? -1 : host));
    for (const [host, part] of parts) if (host !== -1) this.#setAside(host, part, nowMs);
    return parts.get(-1) ?? null;
  }

  /** Given back because their host is busy; what is of no busy host is returned. */
  returned(group: Group, nowMs: number): Group | null {
    const parts = partition(group, (_index, host) => (this.#busy.has(host) ? host : -1));
    for (const [number, part] of parts) {
      const host = this.#busy.get(number);
      if (host === undefined) continue;
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
      host.failingSinceMs = nowMs;
      host.failedProbes = 0;
      if (host.state === "probing") this.free(number);
    } else if (host.probe === index) this.#blockAfterProbe(number, host, nowMs);
  }

  /** Ends a block, sends a probe; returns the items that have waited for too long. */
  due(number: HostNumber, nowMs: number): readonly Group[] {
    const host = this.#busy.get(number);
    if (host === undefined || host.wakeMs > nowMs) return [];
    host.wakeMs = Infinity;
    if (host.state === "blocked" && host.untilMs <= nowMs) host.state = "probing";
    const expired = this.#isExpired(host, nowMs) ? this.#takeAll(host) : [];
    if (host.state === "probing") this.#probe(number, host, nowMs);
    if (this.#busy.has(number)) this.#wakeFor(number, host, nowMs);
    return expired;
  }

  #newlyBusy(number: HostNumber, nowMs: number): BusyHost {
    const host: BusyHost = {
      state: "blocked",
      untilMs: nowMs,
      failingSinceMs: nowMs,
      probe: null,
      failedProbes: 0,
      idleSinceMs: null,
      wakeMs: Infinity,
      waiting: new GroupQueue(),
    };
    this.#busy.set(number, host);
    return host;
  }

  #mayGo(index: number, number: HostNumber): boolean {
    const host = this.#busy.get(number);
    if (host === undefined) return true;
    if (host.state === "blocked") return false;
    host.probe ??= index;
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
    const waitMs = Math.min(probeAgainMaxMs, probeAgainFirstMs * 2 ** Math.min(host.failedProbes, 10));
    host.failedProbes += 1;
    this.block(number, nowMs + waitMs, nowMs);
  }

  #isExpired(host: BusyHost, nowMs: number): boolean {
    return nowMs >= host.failingSinceMs + this.#options.hostBlockedMs;
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
        host.waiting.count > 0 ? host.failingSinceMs + hostBlockedMs : Infinity,
        host.idleSinceMs === null ? Infinity : host.idleSinceMs + hostBlockedMs,
      ),
    );
    if (nextMs >= host.wakeMs) return;
    host.wakeMs = nextMs;
    this.#options.wake(nextMs, number);
  }
}

function isProbe(host: BusyHost, group: Group): boolean {
  for (const index of indexesOf(group.ranges)) if (index === host.probe) return true;
  return false;
}
