import { hostOf, hostReportsMax, type HostGrant, type HostReport } from "../protocol.ts";
import type { WorkItem } from "../tasks/types.ts";

/** Of a host without a grant: enough for a start, and asked for more at once where it is not. */
const concurrencyUngranted = 8;
/**
 * Once there is hardly anything else to do, items that would have to wait longer for their host are given back, so that
 * they hold no assignment open. A single one may wait longer: a host with a low rate would never get any.
 */
const keptMs = 250;
const firstKeptMs = 1_000;
/** The orchestrator's answer is waited for that long. */
const shutMs = 1_000;
const hardlyAnything = 64;
/** A host that asked for fewer requests without saying for how long. */
const busyMs = 1_000;
/** Requests saved up by a host with a rate, so that its requests stay apart. */
const savedUpMs = 100;
const reportMs = 250;
/** Of a host that is in order and not reported. */
const countedMs = 1_000;
/** News that others should have soon waits this long for more of its kind. */
const urgentMs = 5;
/** Hosts with nothing to do that are remembered, with what is granted and how they went; the oldest is forgotten first. */
const idleHostsMax = 4_096;

export type DownloadEnd =
  /** An answer of any kind that came in time. */
  | { readonly kind: "ok" }
  /** 429 and 503; null: it did not say for how long. */
  | { readonly kind: "busy"; readonly retryAfterMs: number | null }
  /** A 503 as any other error: says something about the host, and nothing of when to come back. */
  | { readonly kind: "overloaded" }
  | { readonly kind: "timeout" }
  /** No connection, or one that broke. */
  | { readonly kind: "broken" };

export interface HostLimiterOptions {
  /** The next item that was handed out; undefined: none right now. */
  take(): WorkItem | undefined;
  /** Items that `take` still has. */
  left(): number;
  /** Not tried. `busy`: its host asked to be left alone for that long; null: others were before it. */
  giveBack(item: WorkItem, busy: { readonly name: string; readonly retryAfterMs: number } | null): void;
  report(reports: readonly HostReport[]): void;
  /** An item that had to wait may start. */
  onFree(): void;
}

/** An item that may be downloaded now; `ended` follows. */
export interface Turn {
  readonly item: WorkItem;
  /** null: not from a host. */
  readonly host: string | null;
}

/**
 * Between the items handed out and the downloads: how many of a host run at once, and how many start in a second, are
 * the orchestrator's to grant. Items that wait for their host wait here, and others go past them.
 */
export interface HostLimiter {
  /** Items taken that wait for their host. */
  readonly waiting: number;
  waitingItems(): readonly WorkItem[];
  next(): Turn | undefined;
  ended(host: string, end: DownloadEnd): void;
  /** Forgets the selected items that wait and returns them. */
  forget(select: (item: WorkItem) => boolean): WorkItem[];
  grant(grant: HostGrant): void;
  close(): void;
}

interface Share {
  readonly concurrency: number;
  readonly requestsPerSecond: number | null;
}

interface HostState {
  readonly name: string;
  /** null: the share of hosts without a grant. */
  share: Share | null;
  pausedUntilMs: number;
  tokens: number;
  refilledMs: number;
  inFlight: number;
  waiting: WorkItem[];
  /** Since when its items wait while none may run; null: they do not. */
  shutSinceMs: number | null;
  ready: boolean;
  /** The orchestrator hears how it goes on. */
  tracked: boolean;
  started: number;
  ok: number;
  busy: number;
  timeouts: number;
  changed: boolean;
  /** While it is not tracked, `ok` is of this second, `okBefore` of the one before. */
  countedSinceMs: number;
  okBefore: number;
}

export function createHostLimiter({ take, left, giveBack, report, onFree }: HostLimiterOptions): HostLimiter {
  const hosts = new Map<string, HostState>();
  const waitingHosts = new Set<HostState>();
  const changedHosts = new Set<HostState>();
  /** Hosts with an item that may go, each in turn. */
  const ready: HostState[] = [];
  let ungranted: Share = { concurrency: concurrencyUngranted, requestsPerSecond: null };
  let waiting = 0;
  let wakeTimer: NodeJS.Timeout | undefined;
  let wakeAtMs = Infinity;
  let reportTimer: NodeJS.Timeout | undefined;
  let reportAtMs = Infinity;
  let runningDry = true;
  let closed = false;

  // ---- who may go ----

  function next(): Turn | undefined {
    const turn = nextReady() ?? nextTaken();
    const ranDry = left() <= hardlyAnything;
    if (ranDry && !runningDry) for (const host of [...waitingHosts]) giveBackLate(host, ranDry);
    runningDry = ranDry;
    return turn;
  }

  function nextReady(): Turn | undefined {
    for (let host = ready.shift(); host !== undefined; host = ready.shift()) {
      host.ready = false;
      const item = mayGo(host) ? host.waiting.shift() : undefined;
      if (item === undefined) {
        wakeFor(host);
        continue;
      }
      waiting -= 1;
      if (host.waiting.length === 0) waitingHosts.delete(host);
      const turn = start(host, item);
      freed(host);
      return turn;
    }
    return undefined;
  }

  function nextTaken(): Turn | undefined {
    for (let item = take(); item !== undefined; item = take()) {
      const name = hostOf(item.input);
      if (name === null) return { item, host: null };
      const host = hosts.get(name) ?? newHost(name);
      if (host.waiting.length === 0 && mayGo(host)) return start(host, item);
      setAside(host, item);
    }
    return undefined;
  }

  function start(host: HostState, item: WorkItem): Turn {
    host.inFlight += 1;
    host.started += 1;
    if (shareOf(host).requestsPerSecond !== null) host.tokens -= 1;
    if (host.tracked) noteChange(host, reportMs);
    return { item, host: host.name };
  }

  function setAside(host: HostState, item: WorkItem): void {
    host.waiting.push(item);
    waiting += 1;
    waitingHosts.add(host);
    noteChange(host, host.tracked ? reportMs : urgentMs);
    track(host);
    giveBackLate(host, runningDry);
    wakeFor(host);
  }

  function shareOf(host: HostState): Share {
    return host.share ?? ungranted;
  }

  function mayGo(host: HostState): boolean {
    const { concurrency, requestsPerSecond } = shareOf(host);
    if (host.inFlight >= concurrency) return false;
    // The usual case, in which nobody asks for the time.
    if (host.pausedUntilMs === 0 && requestsPerSecond === null) return true;
    const nowMs = performance.now();
    if (nowMs < host.pausedUntilMs) return false;
    host.pausedUntilMs = 0;
    if (requestsPerSecond === null) return true;
    refill(host, requestsPerSecond, nowMs);
    return host.tokens >= 1;
  }

  function freed(host: HostState): void {
    if (host.ready || host.waiting.length === 0) return;
    if (!mayGo(host)) return wakeFor(host);
    host.ready = true;
    ready.push(host);
  }

  function newHost(name: string): HostState {
    const host: HostState = {
      name, share: null, pausedUntilMs: 0, tokens: 1, refilledMs: 0, inFlight: 0, waiting: [], shutSinceMs: null, ready: false,
      tracked: false, started: 0, ok: 0, busy: 0, timeouts: 0, changed: false, countedSinceMs: 0, okBefore: 0,
    };
    hosts.set(name, host);
    forgetOldHosts();
    return host;
  }

  // ---- waiting ----

  /** When its next item may go, or has waited for too long; Infinity: once one of its downloads ends. */
  function nextTimeMs(host: HostState): number {
    const { concurrency, requestsPerSecond } = shareOf(host);
    if (concurrency === 0) return (host.shutSinceMs ?? performance.now()) + shutMs;
    if (host.inFlight >= concurrency) return Infinity;
    const tokenMs = requestsPerSecond === null ? 0 : host.refilledMs + ((1 - host.tokens) / requestsPerSecond) * 1000;
    return Math.max(host.pausedUntilMs, tokenMs);
  }

  function wakeFor(host: HostState): void {
    if (host.waiting.length === 0 || closed) return;
    const timeMs = nextTimeMs(host);
    if (timeMs >= wakeAtMs) return;
    wakeAtMs = timeMs;
    clearTimeout(wakeTimer);
    wakeTimer = setTimeout(wake, Math.max(1, Math.ceil(timeMs - performance.now())));
  }

  function wake(): void {
    clearTimeout(wakeTimer);
    wakeAtMs = Infinity;
    for (const host of [...waitingHosts]) {
      giveBackLate(host, runningDry);
      freed(host);
    }
    if (ready.length > 0) onFree();
  }

  /** What would wait for too long is better off with the orchestrator, which knows when to hand it out again. */
  function giveBackLate(host: HostState, dry: boolean): void {
    if (!dry) return;
    const nowMs = performance.now();
    const { concurrency, requestsPerSecond } = shareOf(host);
    const pauseMs = Math.max(0, host.pausedUntilMs - nowMs);
    host.shutSinceMs = concurrency > 0 || host.waiting.length === 0 ? null : (host.shutSinceMs ?? nowMs);
    const shut = host.shutSinceMs !== null && nowMs >= host.shutSinceMs + shutMs;
    const kept = shut ? 0 : requestsPerSecond === null ? (pauseMs > firstKeptMs ? 0 : Infinity) : keptOf(host, requestsPerSecond, pauseMs);
    if (host.waiting.length <= kept) return;
    const late = host.waiting.splice(kept);
    waiting -= late.length;
    if (host.waiting.length === 0) {
      waitingHosts.delete(host);
      host.shutSinceMs = null;
    }
    const busy = pauseMs > 0 ? { name: host.name, retryAfterMs: pauseMs } : null;
    for (const item of late) giveBack(item, busy);
  }

  // ---- what the orchestrator hears ----

  function count(host: HostState, end: DownloadEnd): void {
    switch (end.kind) {
      case "ok":
        if (!host.tracked) countAfresh(host);
        host.ok += 1;
        break;
      case "busy":
        host.busy += 1;
        host.pausedUntilMs = Math.max(host.pausedUntilMs, performance.now() + (end.retryAfterMs ?? busyMs));
        giveBackLate(host, runningDry);
        return noteTrouble(host);
      case "overloaded":
        host.busy += 1;
        return noteTrouble(host);
      case "timeout":
        host.timeouts += 1;
        return noteTrouble(host);
      case "broken":
        break;
    }
    if (host.tracked) noteChange(host, reportMs);
  }

  function countAfresh(host: HostState): void {
    const nowMs = performance.now();
    if (nowMs < host.countedSinceMs + countedMs) return;
    host.okBefore = nowMs < host.countedSinceMs + 2 * countedMs ? host.ok : 0;
    host.countedSinceMs = nowMs;
    host.ok = 0;
  }

  /** What is told first is what went before in about the last second, not since the beginning. */
  function track(host: HostState): void {
    if (host.tracked) return;
    countAfresh(host);
    host.tracked = true;
    host.ok += Math.round(host.okBefore * Math.max(0, 1 - (performance.now() - host.countedSinceMs) / countedMs));
    host.started = host.ok + host.inFlight;
  }

  function noteTrouble(host: HostState): void {
    track(host);
    noteChange(host, urgentMs);
  }

  function noteChange(host: HostState, inMs: number): void {
    if (!host.changed) {
      host.changed = true;
      changedHosts.add(host);
    }
    if (reportAtMs < Infinity && inMs >= reportMs) return;
    const atMs = performance.now() + inMs;
    if (atMs >= reportAtMs || closed) return;
    reportAtMs = atMs;
    clearTimeout(reportTimer);
    reportTimer = setTimeout(sendReports, inMs);
  }

  function sendReports(): void {
    reportAtMs = Infinity;
    const nowMs = performance.now();
    let reports: HostReport[] = [];
    for (const host of changedHosts) {
      reports.push(reportOf(host, nowMs));
      host.changed = false;
      host.started = host.ok = host.busy = host.timeouts = 0;
      if (reports.length < hostReportsMax) continue;
      report(reports);
      reports = [];
    }
    changedHosts.clear();
    if (reports.length > 0) report(reports);
  }

  function forgetOldHosts(): void {
    if (hosts.size - waitingHosts.size <= 2 * idleHostsMax) return;
    for (const host of hosts.values()) {
      if (host.inFlight > 0 || host.waiting.length > 0 || host.changed) continue;
      hosts.delete(host.name);
      if (hosts.size - waitingHosts.size <= idleHostsMax) return;
    }
  }

  return {
    get waiting() {
      return waiting;
    },
    waitingItems: () => [...waitingHosts].flatMap((host) => host.waiting),
    next,
    ended(name, end) {
      const host = hosts.get(name);
      if (host === undefined) return;
      host.inFlight -= 1;
      count(host, end);
      freed(host);
    },
    forget(select) {
      const forgotten: WorkItem[] = [];
      for (const host of [...waitingHosts]) {
        const mine = host.waiting.filter(select);
        if (mine.length === 0) continue;
        forgotten.push(...mine);
        host.waiting = host.waiting.filter((item) => !select(item));
        if (host.waiting.length === 0) waitingHosts.delete(host);
        noteChange(host, reportMs);
      }
      waiting -= forgotten.length;
      return forgotten;
    },
    grant({ host: name, concurrency, requestsPerSecond, pausedForMs }) {
      if (name === null) {
        if (concurrency !== null) ungranted = { concurrency, requestsPerSecond };
      } else {
        const host = hosts.get(name) ?? newHost(name);
        const nowMs = performance.now();
        refill(host, host.share?.requestsPerSecond ?? 0, nowMs);
        host.share = concurrency === null ? null : { concurrency, requestsPerSecond };
        if (host.share === null) host.tracked = false;
        else track(host);
        if (pausedForMs > 0) host.pausedUntilMs = Math.max(host.pausedUntilMs, nowMs + pausedForMs);
      }
      wake();
    },
    close() {
      closed = true;
      clearTimeout(wakeTimer);
      clearTimeout(reportTimer);
    },
  };
}

/** How many of its items may go soon enough. */
function keptOf({ tokens }: HostState, requestsPerSecond: number, pauseMs: number): number {
  const firstMs = pauseMs + (Math.max(0, 1 - tokens) / requestsPerSecond) * 1000;
  const soon = Math.floor(Math.max(0, tokens) + (requestsPerSecond * (keptMs - pauseMs)) / 1000);
  return Math.max(firstMs <= firstKeptMs ? 1 : 0, soon);
}

function reportOf(host: HostState, nowMs: number): HostReport {
  const { name, started, ok, busy, timeouts, waiting, inFlight } = host;
  const pausedMs = host.pausedUntilMs - nowMs;
  return {
    host: name, started, ok, busy, timeouts, waiting: waiting.length, inFlight,
    ...(busy > 0 && pausedMs > 0 ? { retryAfterMs: Math.ceil(pausedMs) } : {}),
  };
}

function refill(host: HostState, requestsPerSecond: number, nowMs: number): void {
  const saved = Math.max(1, (requestsPerSecond * savedUpMs) / 1000);
  host.tokens = Math.min(saved, Math.max(0, host.tokens) + (requestsPerSecond * (nowMs - host.refilledMs)) / 1000);
  host.refilledMs = nowMs;
}
