import type { HostGrant, HostReport } from "../../task-manager/protocol.ts";
import { AdaptiveLimit } from "../scheduler/adaptive-limit.ts";
import { divided, dividedWhole, steady } from "./host-shares.ts";

/** Downloads at once of one host, over all Task Managers, before anything is known of it. */
const concurrencyInitial = 128;
/** Of these, what a Task Manager takes before it is granted anything; its own default. */
const ungrantedMax = 8;
const concurrencyRisePerSecond = 16;
const requestsPerSecondMin = 0.5;
/** From this part of a limit on, it is what holds things back. */
const inUsePart = 0.6;
/** Time-outs among the answers that a host in order has, too. */
const timeoutsUsual = 0.02;
/** Shares are made anew this often, unless there is news that cannot wait. */
const divideMs = 250;
/** Of a host that many Task Managers come to at once. */
const divideSoonMs = 50;
const sharesDividedAtOnce = 16;
/** Items handed out of a host with a limited rate, as a multiple of it: the Task Managers give back what is too much. */
const paceHeadroom = 1.1;
const longMs = 5_000;
/** A host or a Task Manager's use of it is forgotten after this long without a word. */
const idleMs = 10_000;
const troubledIdleMs = 300_000;

export interface HostBudgetsOptions {
  /** Hosts that are known; the one longest unheard of is forgotten first. */
  readonly hostsMax: number;
  /** Shares of all hosts together. */
  readonly sharesMax: number;
}

/** What one job wants of every host; null: as much as the host bears. */
export interface HostLimits {
  readonly concurrency: number | null;
  readonly requestsPerSecond: number | null;
}

/** What is to be told. */
export interface HostNews<Member> {
  readonly grants: readonly { readonly to: Member; readonly grant: HostGrant }[];
  /** How many items of a host are to be handed out in a second; null: any number. */
  readonly paces: readonly HostPace[];
}
export interface HostPace {
  readonly host: string;
  readonly itemsPerSecond: number | null;
}

/**
 * What may be asked of each host, over all jobs and Task Managers: downloads at once, and requests a second once the
 * host was asked too much. Found by itself (`AdaptiveLimit`), and divided among the Task Managers by what they have
 * to ask. Decides only: the caller tells the time and sends what comes back. `Member` stands for a Task Manager.
 */
export interface HostBudgets<Member> {
  joined(member: Member, nowMs: number): HostNews<Member>;
  gone(member: Member, nowMs: number): HostNews<Member>;
  report(member: Member, reports: readonly HostReport[], nowMs: number): HostNews<Member>;
  /** The limits of all jobs that run. */
  limit(limits: readonly HostLimits[], nowMs: number): HostNews<Member>;
  /** When to call `due`; null: not before the next report. */
  readonly wakeAtMs: number | null;
  due(nowMs: number): HostNews<Member>;
  /** For a job that starts later. */
  paces(): readonly HostPace[];
  /** Hosts known. */
  readonly size: number;
}

/** One Task Manager's use of a host. */
interface Share {
  waiting: number;
  inFlight: number;
  started: Meter;
  seenMs: number;
  /** As sent; null: it goes by what holds for any host. */
  granted: Granted | null;
}

interface Granted {
  readonly concurrency: number;
  readonly requestsPerSecond: number | null;
}

interface Change<Member> {
  readonly member: Member;
  readonly share: Share;
  /** null: nothing to say. */
  readonly granted: Granted | null;
}

interface Budget {
  readonly host: string;
  readonly rate: AdaptiveLimit;
  readonly concurrency: AdaptiveLimit;
  readonly shares: Map<unknown, Share>;
  readonly started: Meter;
  /** The same over a longer time: of one request a second, hardly one falls into the last second. */
  readonly startedLong: Meter;
  readonly ok: Meter;
  readonly answers: Meter;
  readonly timeouts: Meter;
  /** It has answered well since its rate was cut last. */
  borne: boolean;
  pausedUntilMs: number;
  /** The pause has still to be told. */
  pauseUntold: boolean;
  pace: number | null;
  seenMs: number;
  divideAtMs: number;
}

/** Events of about the last `lastMs`, the older the less. */
class Meter {
  readonly #lastMs: number;
  #count = 0;
  #atMs = 0;

  constructor(lastMs: number) {
    this.#lastMs = lastMs;
  }

  add(events: number, nowMs: number): void {
    this.#count = this.count(nowMs) + events;
    this.#atMs = nowMs;
  }

  count(nowMs: number): number {
    return this.#count === 0 ? 0 : this.#count * Math.exp((this.#atMs - nowMs) / this.#lastMs);
  }
}

export function createHostBudgets<Member>({ hostsMax, sharesMax }: HostBudgetsOptions): HostBudgets<Member> {
  const members = new Set<Member>();
  /** The one longest unheard of first. */
  const budgets = new Map<string, Budget>();
  let limits: HostLimits = { concurrency: null, requestsPerSecond: null };
  let shareCount = 0;
  let sweepAtMs = Infinity;
  /** No host's shares are to be made anew before. */
  let dueAtMs = Infinity;
  let grants: { to: Member; grant: HostGrant }[] = [];
  let paces: HostPace[] = [];

  function news(): HostNews<Member> {
    const said = { grants, paces };
    grants = [];
    paces = [];
    return said;
  }

  function send(to: Member, grant: Omit<HostGrant, "kind">): void {
    grants.push({ to, grant: { kind: "grant", ...grant } });
  }

  // ---- what holds before a grant ----

  /** Where the user set limits, nothing is asked of a host before it is granted. */
  function ungranted(): number {
    if (limits.concurrency !== null || limits.requestsPerSecond !== null) return 0;
    return Math.max(1, Math.min(ungrantedMax, Math.floor(concurrencyInitial / Math.max(1, members.size))));
  }

  function sendUngranted(to: Member): void {
    send(to, { host: null, concurrency: ungranted(), requestsPerSecond: null, pausedForMs: 0 });
  }

  // ---- hosts ----

  function budgetOf(host: string, nowMs: number): Budget {
    const known = budgets.get(host);
    if (known !== undefined) {
      budgets.delete(host);
      budgets.set(host, known);
      return known;
    }
    const budget: Budget = {
      host,
      rate: new AdaptiveLimit({ ...rateBounds(), min: requestsPerSecondMin, risePerSecondMin: 0 }),
      concurrency: new AdaptiveLimit({ ...concurrencyBounds(), min: 1, risePerSecondMin: concurrencyRisePerSecond }),
      shares: new Map(),
      started: new Meter(1000),
      startedLong: new Meter(longMs),
      ok: new Meter(1000),
      answers: new Meter(5000),
      timeouts: new Meter(5000),
      borne: true,
      pausedUntilMs: 0,
      pauseUntold: false,
      pace: null,
      seenMs: nowMs,
      divideAtMs: Infinity,
    };
    budgets.set(host, budget);
    forgetBeyond(hostsMax);
    sweepAtMs = Math.min(sweepAtMs, nowMs + idleMs);
    return budget;
  }

  function rateBounds() {
    return { initial: Infinity, max: limits.requestsPerSecond ?? Infinity };
  }

  function concurrencyBounds() {
    return { initial: limits.concurrency ?? concurrencyInitial, max: limits.concurrency ?? Infinity };
  }

  function shareOf(budget: Budget, member: Member, nowMs: number): Share {
    let share = budget.shares.get(member);
    if (share === undefined) {
      share = { waiting: 0, inFlight: 0, started: new Meter(1000), seenMs: nowMs, granted: null };
      budget.shares.set(member, share);
      shareCount += 1;
      // The one just asked for is the last in the list.
      while (shareCount > sharesMax && budgets.size > 1) forgetBeyond(budgets.size - 1);
    }
    return share;
  }

  function forgetBeyond(hosts: number): void {
    for (const budget of budgets.values()) {
      if (budgets.size <= hosts) return;
      forget(budget);
    }
  }

  function forget(budget: Budget): void {
    budgets.delete(budget.host);
    for (const [member, share] of budget.shares) takeBack(budget, member as Member, share);
    if (budget.pace !== null) paces.push({ host: budget.host, itemsPerSecond: null });
  }

  function takeBack(budget: Budget, member: Member, share: Share): void {
    budget.shares.delete(member);
    shareCount -= 1;
    if (share.granted === null || !members.has(member)) return;
    send(member, { host: budget.host, concurrency: null, requestsPerSecond: null, pausedForMs: 0 });
  }

  function isLimited({ rate, concurrency }: Budget): boolean {
    return rate.isCut || concurrency.isCut;
  }

  function sweep(nowMs: number): void {
    sweepAtMs = Infinity;
    for (const budget of budgets.values()) {
      const keptMs = isLimited(budget) ? troubledIdleMs : idleMs;
      if (budget.seenMs + keptMs <= nowMs) forget(budget);
      else sweepShares(budget, nowMs);
    }
    if (budgets.size > 0) sweepAtMs = nowMs + idleMs;
  }

  /** A host in trouble stays known to those that asked something of it, lest they start from the beginning. */
  function sweepShares(budget: Budget, nowMs: number): void {
    if (isLimited(budget)) return;
    for (const [member, share] of budget.shares) {
      if (share.waiting + share.inFlight === 0 && share.seenMs + idleMs <= nowMs) takeBack(budget, member as Member, share);
    }
  }

  // ---- what is heard ----

  function hear(member: Member, said: HostReport, nowMs: number): void {
    const budget = budgetOf(said.host, nowMs);
    const isNew = !budget.shares.has(member);
    const share = shareOf(budget, member, nowMs);
    share.waiting = said.waiting;
    share.inFlight = said.inFlight;
    share.started.add(said.started, nowMs);
    share.seenMs = nowMs;
    budget.seenMs = nowMs;
    budget.started.add(said.started, nowMs);
    budget.startedLong.add(said.started, nowMs);
    budget.ok.add(said.ok, nowMs);
    budget.answers.add(said.ok + said.busy + said.timeouts, nowMs);
    budget.timeouts.add(said.timeouts, nowMs);
    const wasCut = budget.rate.isCut;
    const troubled = noteTrouble(budget, said, nowMs);
    if (!wasCut && budget.rate.isCut) shareAmongAll(budget, nowMs);
    const few = budget.shares.size <= sharesDividedAtOnce;
    divideBy(budget, troubled || (isNew && few) ? nowMs : nowMs + (isNew ? divideSoonMs : divideMs));
  }

  /** Those that get on well with it so far should hear of it, and not have to find out by themselves. */
  function shareAmongAll(budget: Budget, nowMs: number): void {
    if (shareCount + members.size <= sharesMax) for (const member of members) shareOf(budget, member, nowMs);
  }

  /** Without a share it would ask more than is left, and nobody would hear how that goes. */
  function tellOfLimits(member: Member, nowMs: number): void {
    for (const budget of budgets.values()) {
      if (!budget.rate.isCut || shareCount >= sharesMax) continue;
      shareOf(budget, member, nowMs);
      divideBy(budget, budget.shares.size <= sharesDividedAtOnce ? nowMs : nowMs + divideSoonMs);
    }
  }

  function noteTrouble(budget: Budget, said: HostReport, nowMs: number): boolean {
    const okPerSecond = budget.ok.count(nowMs);
    budget.rate.revise(okPerSecond, nowMs);
    if (said.ok > 0 && nowMs >= budget.pausedUntilMs) budget.borne = true;
    if (said.busy > 0) {
      // Answers during a pause are to requests from before it.
      if (budget.borne) budget.rate.cut(okPerSecond, nowMs, budget.pausedUntilMs);
      else budget.rate.hold(nowMs, budget.pausedUntilMs);
      budget.borne = false;
      const untilMs = nowMs + (said.retryAfterMs ?? 0);
      if (untilMs > budget.pausedUntilMs) {
        budget.pausedUntilMs = untilMs;
        budget.pauseUntold = true;
      }
    }
    const tooMany = said.timeouts > 0 && budget.timeouts.count(nowMs) > timeoutsUsual * budget.answers.count(nowMs);
    if (tooMany) budget.concurrency.cut(said.timeouts + inFlightOf(budget), nowMs, 0);
    return said.busy > 0 || tooMany;
  }

  function inFlightOf({ shares }: Budget): number {
    let inFlight = 0;
    for (const share of shares.values()) inFlight += share.inFlight;
    return inFlight;
  }

  function divideBy(budget: Budget, atMs: number): void {
    budget.divideAtMs = Math.min(budget.divideAtMs, atMs);
    dueAtMs = Math.min(dueAtMs, atMs);
  }

  // ---- what is granted ----

  function divideDue(nowMs: number): void {
    if (nowMs < dueAtMs) return;
    for (const budget of budgets.values()) if (budget.divideAtMs <= nowMs) divide(budget, nowMs);
    dueAtMs = Infinity;
    for (const { divideAtMs } of budgets.values()) dueAtMs = Math.min(dueAtMs, divideAtMs);
  }

  function divide(budget: Budget, nowMs: number): void {
    budget.divideAtMs = Infinity;
    rise(budget, nowMs);
    const shares = [...budget.shares];
    const concurrencies = sharesOfConcurrency(budget, shares);
    const rates = sharesOfRate(budget, shares, nowMs);
    const pauseMs = Math.max(0, Math.ceil(budget.pausedUntilMs - nowMs));
    const pausedFor = (share: Share) => (budget.pauseUntold || share.granted === null ? pauseMs : 0);
    const changes = shares.map(([member, share], at) => ({
      member: member as Member,
      share,
      granted: { concurrency: concurrencies[at] ?? 0, requestsPerSecond: rates?.[at] ?? null },
    }));
    // Less first, so that what is out there is never more than there is.
    for (const change of changes) grantTo(budget, { ...change, granted: lesser(change.granted, change.share.granted) }, 0);
    for (const change of changes) grantTo(budget, change, pausedFor(change.share));
    budget.pauseUntold = false;
    setPace(budget);
    // What it may be asked for changes with time as long as anything is asked of it.
    if (shares.some(([, share]) => share.waiting + share.inFlight > 0)) divideBy(budget, nowMs + 4 * divideMs);
  }

  function grantTo(budget: Budget, { member, share, granted }: Change<Member>, pausedForMs: number): void {
    if (granted === null) return;
    const same = share.granted?.concurrency === granted.concurrency && share.granted.requestsPerSecond === granted.requestsPerSecond;
    if (same && pausedForMs === 0) return;
    share.granted = granted;
    send(member, { host: budget.host, ...granted, pausedForMs });
  }

  function rise(budget: Budget, nowMs: number): void {
    const paused = nowMs < budget.pausedUntilMs;
    const perSecond = Math.max(budget.started.count(nowMs), (budget.startedLong.count(nowMs) * 1000) / longMs);
    budget.rate.rise(!paused && perSecond >= inUsePart * budget.rate.value, nowMs);
    budget.concurrency.rise(!paused && inFlightOf(budget) >= inUsePart * budget.concurrency.value, nowMs);
  }

  function sharesOfConcurrency(budget: Budget, shares: readonly (readonly [unknown, Share])[]): readonly number[] {
    const total = Math.max(1, Math.floor(budget.concurrency.value));
    const wanted = shares.map(([, { inFlight, waiting }]) => (inFlight + waiting === 0 ? 0 : inFlight + Math.max(waiting, 1 + inFlight / 2)));
    const held = shares.map(([, { granted }]) => granted?.concurrency ?? null);
    return steady(held, dividedWhole(total, wanted, held), total);
  }

  function sharesOfRate(budget: Budget, shares: readonly (readonly [unknown, Share])[], nowMs: number): readonly number[] | null {
    const total = budget.rate.value;
    if (total === Infinity) return null;
    const wanted = shares.map(([, { started, waiting }]) => started.count(nowMs) + waiting);
    return steady(shares.map(([, { granted }]) => granted?.requestsPerSecond ?? null), divided(total, wanted), total);
  }

  function setPace(budget: Budget): void {
    const rate = budget.rate.value;
    if (rate === Infinity) return;
    const waiting = [...budget.shares.values()].reduce((sum, share) => sum + share.waiting, 0);
    if (budget.pace === null && !budget.rate.isCut && waiting <= Math.max(1, rate / 2)) return;
    const pace = rate * paceHeadroom;
    if (budget.pace !== null && Math.abs(pace - budget.pace) < 0.05 * budget.pace) return;
    budget.pace = pace;
    paces.push({ host: budget.host, itemsPerSecond: pace });
  }

  return {
    joined(member, nowMs) {
      const before = ungranted();
      members.add(member);
      const after = ungranted();
      if (after === before) sendUngranted(member);
      else for (const each of members) sendUngranted(each);
      tellOfLimits(member, nowMs);
      divideDue(nowMs);
      return news();
    },
    gone(member, nowMs) {
      members.delete(member);
      for (const budget of budgets.values()) {
        if (!budget.shares.delete(member)) continue;
        shareCount -= 1;
        divideBy(budget, nowMs);
      }
      divideDue(nowMs);
      return news();
    },
    report(member, reports, nowMs) {
      if (!members.has(member)) return news();
      for (const said of reports) hear(member, said, nowMs);
      divideDue(nowMs);
      return news();
    },
    limit(all, nowMs) {
      const least = (values: readonly (number | null)[]) => values.reduce((min, value) => (value === null || (min !== null && min <= value) ? min : value), null);
      const next = { concurrency: least(all.map(({ concurrency }) => concurrency)), requestsPerSecond: least(all.map(({ requestsPerSecond }) => requestsPerSecond)) };
      if (next.concurrency === limits.concurrency && next.requestsPerSecond === limits.requestsPerSecond) return news();
      limits = next;
      for (const budget of budgets.values()) {
        budget.rate.setBounds(rateBounds());
        budget.concurrency.setBounds(concurrencyBounds());
        divideBy(budget, nowMs);
      }
      for (const member of members) sendUngranted(member);
      divideDue(nowMs);
      return news();
    },
    get wakeAtMs() {
      const atMs = Math.min(sweepAtMs, dueAtMs);
      return atMs === Infinity ? null : atMs;
    },
    due(nowMs) {
      if (sweepAtMs <= nowMs) sweep(nowMs);
      divideDue(nowMs);
      return news();
    },
    paces: () => [...budgets.values()].flatMap(({ host, pace }) => (pace === null ? [] : [{ host, itemsPerSecond: pace }])),
    get size() {
      return budgets.size;
    },
  };
}

function lesser(granted: Granted, before: Granted | null): Granted | null {
  if (before === null) return null;
  const rate = Math.min(granted.requestsPerSecond ?? Infinity, before.requestsPerSecond ?? Infinity);
  return { concurrency: Math.min(granted.concurrency, before.concurrency), requestsPerSecond: rate === Infinity ? null : rate };
}
