import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { HostGrant, HostReport } from "../../task-manager/protocol.ts";
import { createHostBudgets, type HostBudgets, type HostNews } from "../../orchestrator/service/host-budgets.ts";
import { createRandom } from "../support/random.ts";

const noLimits = { concurrency: null, requestsPerSecond: null };

function report(host: string, changes: Partial<HostReport> = {}): HostReport {
  return { host, started: 0, ok: 0, busy: 0, timeouts: 0, waiting: 0, inFlight: 0, ...changes };
}

/** What each Task Manager was granted last, as it would know it. */
function createLedger(hostsMax = 4096) {
  const budgets = createHostBudgets<string>({ hostsMax, sharesMax: 100_000 });
  const granted = new Map<string, Map<string, HostGrant>>();
  const paces = new Map<string, number>();
  let messages = 0;
  const sums = (host: string) => {
    let concurrency = 0;
    let requestsPerSecond = 0;
    for (const grants of granted.values()) {
      concurrency += grants.get(host)?.concurrency ?? 0;
      requestsPerSecond += grants.get(host)?.requestsPerSecond ?? 0;
    }
    return { concurrency, requestsPerSecond };
  };
  function heed(news: HostNews<string>, onEach: (grant: HostGrant) => void = () => undefined): void {
    for (const { to, grant } of news.grants) {
      messages += 1;
      const mine = granted.get(to) ?? new Map<string, HostGrant>();
      granted.set(to, mine);
      if (grant.host === null) continue;
      if (grant.concurrency === null) mine.delete(grant.host);
      else mine.set(grant.host, grant);
      onEach(grant);
    }
    for (const { host, itemsPerSecond } of news.paces) {
      if (itemsPerSecond === null) paces.delete(host);
      else paces.set(host, itemsPerSecond);
    }
  }
  return {
    budgets, granted, paces, sums, heed,
    get messages() {
      return messages;
    },
    grant: (member: string, host: string) => granted.get(member)?.get(host),
  };
}

interface Loop {
  answers: { readonly atMs: number; readonly refused: boolean }[];
  readonly budgets: HostBudgets<string>;
}

/**
 * Task Managers that always have more to ask than they may, against a host that refuses what is above `limitAt` requests
 * in any second and asks for a second's peace. Time is simulated; messages take 2 ms, answers 30 ms.
 */
function runAgainstHost(members: number, endMs: number, limitAt: (nowMs: number) => number, seed = 1): Loop {
  const random = createRandom(seed);
  const ledger = createLedger();
  const { budgets } = ledger;
  const answers: Loop["answers"] = [];
  const recent: number[] = [];
  const events: { readonly atMs: number; readonly run: () => void }[] = [];
  const after = (nowMs: number, ms: number, run: () => void) => events.push({ atMs: nowMs + ms, run });
  const all = Array.from({ length: members }, (_, n) => ({
    name: `tm-${n}`, concurrency: 8, rate: null as number | null, tokens: 1, pausedUntilMs: 0, inFlight: 0, said: report("h"), reportAtMs: random.next() * 250,
  }));
  const told = (news: HostNews<string>, nowMs: number) => {
    ledger.heed(news);
    for (const { to, grant } of news.grants) {
      const member = all.find(({ name }) => name === to);
      if (member === undefined || grant.host === null) continue;
      after(nowMs, 2, () => {
        member.concurrency = grant.concurrency ?? 8;
        member.rate = grant.requestsPerSecond;
        member.pausedUntilMs = Math.max(member.pausedUntilMs, nowMs + 2 + grant.pausedForMs);
      });
    }
  };
  for (const { name } of all) told(budgets.joined(name, 0), 0);

  for (let nowMs = 0; nowMs < endMs; nowMs += 1) {
    for (const event of events.splice(0)) {
      if (event.atMs <= nowMs) event.run();
      else events.push(event);
    }
    if (budgets.wakeAtMs !== null && budgets.wakeAtMs <= nowMs) told(budgets.due(nowMs), nowMs);
    for (const member of all) {
      member.tokens = Math.min(Math.max(1, (member.rate ?? 0) / 10), member.tokens + (member.rate ?? Infinity) / 1000);
      while (nowMs >= member.pausedUntilMs && member.inFlight < member.concurrency && member.tokens >= 1) {
        member.tokens -= 1;
        member.inFlight += 1;
        member.said.started += 1;
        while ((recent[0] ?? Infinity) <= nowMs - 1000) recent.shift();
        recent.push(nowMs);
        const refused = recent.length > limitAt(nowMs);
        answers.push({ atMs: nowMs, refused });
        after(nowMs, 30, () => {
          member.inFlight -= 1;
          if (!refused) {
            member.said.ok += 1;
            return;
          }
          member.said.busy += 1;
          member.pausedUntilMs = nowMs + 1030;
          member.reportAtMs = Math.min(member.reportAtMs, nowMs + 35);
        });
      }
      if (nowMs < member.reportAtMs) continue;
      member.reportAtMs = nowMs + 250;
      const { said } = member;
      const retryAfterMs = member.pausedUntilMs - nowMs;
      const now: HostReport = { ...said, waiting: 50, inFlight: member.inFlight, ...(said.busy > 0 && retryAfterMs > 0 ? { retryAfterMs } : {}) };
      member.said = report("h");
      after(nowMs, 2, () => told(budgets.report(member.name, [now], nowMs + 2), nowMs + 2));
    }
  }
  return { answers, budgets };
}

function between({ answers }: Loop, fromMs: number, toMs: number) {
  const some = answers.filter(({ atMs }) => atMs >= fromMs && atMs < toMs);
  const refused = some.filter((answer) => answer.refused).length;
  return { refusedPart: refused / some.length, perSecond: ((some.length - refused) * 1000) / (toMs - fromMs) };
}

describe("a host that bears 50 requests a second", () => {
  test.each([1, 4, 20])("is asked for about that many by %i Task Managers, and refuses few once it is known", (members) => {
    const loop = runAgainstHost(members, 120_000, () => 50);
    const { refusedPart, perSecond } = between(loop, 10_000, 120_000);
    expect(refusedPart).toBeLessThan(0.05);
    expect(perSecond).toBeGreaterThan(30);
  });

  test("is asked for more when it bears more later", () => {
    const loop = runAgainstHost(4, 150_000, (nowMs) => (nowMs < 50_000 ? 50 : 400));
    expect(between(loop, 130_000, 150_000).perSecond).toBeGreaterThan(200);
  });

  test.each([1, 4])("and is out of order for a while is hardly asked meanwhile, and soon for as much as before, by %i Task Managers", (members) => {
    const loop = runAgainstHost(members, 60_000, (nowMs) => (nowMs >= 20_000 && nowMs < 28_000 ? 0 : 50));
    const meanwhile = loop.answers.filter(({ atMs }) => atMs >= 20_000 && atMs < 28_000);
    expect(meanwhile.length).toBeLessThan(8 * 10);
    expect(between(loop, 34_000, 60_000).perSecond).toBeGreaterThan(25);
  });

  test("is asked for less when it bears less later", () => {
    const loop = runAgainstHost(4, 120_000, (nowMs) => (nowMs < 50_000 ? 400 : 20));
    const { refusedPart, perSecond } = between(loop, 70_000, 120_000);
    expect(refusedPart).toBeLessThan(0.05);
    expect(perSecond).toBeGreaterThan(10);
  });
});

describe("a budget", () => {
  test("that the user sets is never granted twice over, whatever comes and goes", () => {
    const member = fc.integer({ min: 0, max: 5 }).map((n) => `tm-${n}`);
    const count = fc.integer({ min: 0, max: 30 });
    const action = fc.oneof(
      fc.record({ kind: fc.constant("joined" as const), member }),
      fc.record({ kind: fc.constant("gone" as const), member }),
      fc.record({
        kind: fc.constant("report" as const), member, host: fc.constantFrom("a", "b"), started: count, ok: count, waiting: count, inFlight: count,
        busy: fc.constantFrom(0, 0, 0, 1), timeouts: fc.constantFrom(0, 0, 0, 1), retryAfterMs: fc.constantFrom(0, 1000),
      }),
      fc.record({ kind: fc.constant("due" as const) }),
    );
    const seed = process.env["SPLITRUN_SEED"];
    fc.assert(fc.property(fc.array(fc.tuple(fc.integer({ min: 0, max: 3000 }), action), { maxLength: 120 }), (steps) => {
      const ledger = createLedger();
      const limits = { concurrency: 10, requestsPerSecond: 7 };
      ledger.heed(ledger.budgets.limit([limits], 0));
      let nowMs = 0;
      const within = ({ host }: HostGrant) => {
        const { concurrency, requestsPerSecond } = ledger.sums(host ?? "");
        expect(concurrency).toBeLessThanOrEqual(limits.concurrency);
        expect(requestsPerSecond).toBeLessThanOrEqual(limits.requestsPerSecond * (1 + 1e-9));
      };
      for (const [passedMs, step] of steps) {
        nowMs += passedMs;
        if (step.kind === "joined") ledger.heed(ledger.budgets.joined(step.member, nowMs), within);
        else if (step.kind === "due") ledger.heed(ledger.budgets.due(nowMs), within);
        else if (step.kind === "gone") {
          ledger.granted.delete(step.member);
          ledger.heed(ledger.budgets.gone(step.member, nowMs), within);
        } else {
          const { kind: _kind, member: from, ...said } = step;
          ledger.heed(ledger.budgets.report(from, [said], nowMs), within);
        }
      }
    }), seed === undefined ? { numRuns: 200 } : { numRuns: 200, seed: Number(seed) });
  });

  test("of the user's has every Task Manager wait for its share before it asks", () => {
    const { budgets } = createLedger();
    expect(budgets.joined("tm-1", 0).grants[0]?.grant).toMatchObject({ host: null, concurrency: 8 });
    expect(budgets.limit([noLimits, { concurrency: 2, requestsPerSecond: null }], 0).grants[0]?.grant).toMatchObject({ host: null, concurrency: 0 });
    const { grants } = budgets.report("tm-1", [report("a", { waiting: 1 })], 1);
    expect(grants).toMatchObject([{ to: "tm-1", grant: { host: "a", concurrency: 2 } }]);
  });

  test("is the strictest of all jobs that run, and is forgotten with its job", () => {
    const ledger = createLedger();
    ledger.heed(ledger.budgets.joined("tm-1", 0));
    ledger.heed(ledger.budgets.limit([{ concurrency: 5, requestsPerSecond: 10 }, { concurrency: 9, requestsPerSecond: 3 }], 0));
    ledger.heed(ledger.budgets.report("tm-1", [report("a", { waiting: 9 })], 1));
    expect(ledger.grant("tm-1", "a")).toMatchObject({ concurrency: 5, requestsPerSecond: 3 });
    ledger.heed(ledger.budgets.limit([noLimits], 2));
    expect(ledger.grant("tm-1", "a")).toMatchObject({ requestsPerSecond: null });
    expect(ledger.grant("tm-1", "a")?.concurrency).toBeGreaterThanOrEqual(64);
  });

  test("of a host in order rises while it is made use of, and is not spoken of while nothing changes", () => {
    const ledger = createLedger();
    const { budgets } = ledger;
    for (const name of ["tm-1", "tm-2", "tm-3", "tm-4"]) ledger.heed(budgets.joined(name, 0));
    const concurrency: number[] = [];
    for (let nowMs = 0; nowMs <= 20_000; nowMs += 250) {
      for (const name of ["tm-1", "tm-2", "tm-3", "tm-4"]) {
        const inFlight = ledger.grant(name, "a")?.concurrency ?? 8;
        ledger.heed(budgets.report(name, [report("a", { started: 50, ok: 50, waiting: 1000, inFlight })], nowMs));
      }
      concurrency.push(ledger.sums("a").concurrency);
    }
    expect(concurrency[4]).toBeLessThanOrEqual(256);
    expect(concurrency.at(-1)).toBeGreaterThan(1000);
    let before = 0;
    for (let nowMs = 20_250; nowMs <= 25_000; nowMs += 250) {
      if (nowMs === 21_000) before = ledger.messages;
      for (const name of ["tm-1", "tm-2", "tm-3", "tm-4"]) ledger.heed(budgets.report(name, [report("a", { started: 50, ok: 50, inFlight: 32 })], nowMs));
    }
    expect(ledger.messages).toBe(before);
  });

  test("is halved by time-outs, but not by the few that any host has", () => {
    const ledger = createLedger();
    ledger.heed(ledger.budgets.joined("tm-1", 0));
    const total = (nowMs: number, changes: Partial<HostReport>) => {
      ledger.heed(ledger.budgets.report("tm-1", [report("a", { inFlight: 128, waiting: 100, ...changes })], nowMs));
      ledger.heed(ledger.budgets.due(nowMs + 240));
      return ledger.sums("a").concurrency;
    };
    const before = total(0, { ok: 1000 });
    expect(total(250, { ok: 1000, timeouts: 1 })).toBeGreaterThanOrEqual(before);
    expect(total(500, { timeouts: 100 })).toBeLessThanOrEqual(120);
    const cut = ledger.sums("a").concurrency;
    // Those come from the same trouble.
    expect(total(750, { timeouts: 100 })).toBeGreaterThanOrEqual(cut);
    expect(total(2000, { timeouts: 100 })).toBeLessThanOrEqual(cut * 0.7);
  });

  test("of a host in trouble is shared at once with a Task Manager that joins later, which would go by what holds for any host", () => {
    const ledger = createLedger();
    ledger.heed(ledger.budgets.joined("tm-1", 0));
    ledger.heed(ledger.budgets.report("tm-1", [report("a", { inFlight: 8, waiting: 9 }), report("b", { inFlight: 8 })], 0));
    ledger.heed(ledger.budgets.report("tm-1", [report("a", { started: 30, ok: 20, busy: 10, retryAfterMs: 1000 })], 300));
    ledger.heed(ledger.budgets.joined("tm-2", 400));
    expect(ledger.grant("tm-2", "a")).toMatchObject({ pausedForMs: 900 });
    expect(ledger.grant("tm-2", "a")?.requestsPerSecond).toBeLessThan(20);
    expect(ledger.grant("tm-2", "b")).toBeUndefined();
  });

  test("of one host is not touched by another host's trouble", () => {
    const ledger = createLedger();
    for (const name of ["tm-1", "tm-2"]) ledger.heed(ledger.budgets.joined(name, 0));
    for (const name of ["tm-1", "tm-2"]) ledger.heed(ledger.budgets.report(name, [report("a", { inFlight: 8, waiting: 9 }), report("b", { inFlight: 8, waiting: 9 })], 0));
    const before = ledger.sums("b");
    ledger.heed(ledger.budgets.report("tm-1", [report("a", { started: 30, ok: 20, busy: 10, retryAfterMs: 1000 })], 300), ({ host }) => expect(host).toBe("a"));
    expect(ledger.sums("b")).toEqual(before);
    expect([...ledger.paces.keys()]).toEqual(["a"]);
  });

  test("in trouble is made known at once to all Task Managers, those too that never asked that host", () => {
    const ledger = createLedger();
    for (const name of ["tm-1", "tm-2", "tm-3"]) ledger.heed(ledger.budgets.joined(name, 0));
    ledger.heed(ledger.budgets.report("tm-1", [report("a", { started: 60, ok: 50, busy: 10, retryAfterMs: 1000 })], 10));
    for (const name of ["tm-1", "tm-2", "tm-3"]) {
      expect(ledger.grant(name, "a")?.pausedForMs).toBe(1000);
      expect(ledger.grant(name, "a")?.requestsPerSecond).toBeGreaterThan(0);
    }
    expect(ledger.sums("a").requestsPerSecond).toBeLessThanOrEqual(25 + 1e-9);
    expect(ledger.budgets.paces()).toEqual([{ host: "a", itemsPerSecond: ledger.paces.get("a") }]);
  });

  test("goes to the others when a Task Manager is gone", () => {
    const ledger = createLedger();
    for (const name of ["tm-1", "tm-2"]) {
      ledger.heed(ledger.budgets.joined(name, 0));
      ledger.heed(ledger.budgets.report(name, [report("a", { inFlight: 64, waiting: 100 })], 0));
    }
    expect(ledger.grant("tm-1", "a")?.concurrency).toBe(64);
    ledger.granted.delete("tm-2");
    ledger.heed(ledger.budgets.gone("tm-2", 10));
    expect(ledger.grant("tm-1", "a")?.concurrency).toBe(128);
  });
});

describe("memory", () => {
  test("does not grow with the number of hosts: the one longest unheard of is forgotten, and its grant taken back", () => {
    const ledger = createLedger(100);
    for (const name of ["tm-1", "tm-2"]) ledger.heed(ledger.budgets.joined(name, 0));
    for (let n = 0; n < 5000; n++) {
      ledger.heed(ledger.budgets.report("tm-1", [report(`h${n}`, { started: 9, ok: 9, busy: n % 3 === 0 ? 1 : 0, retryAfterMs: 500, inFlight: 8 })], n));
    }
    expect(ledger.budgets.size).toBe(100);
    expect(ledger.granted.get("tm-1")?.size).toBe(100);
    expect(ledger.paces.size).toBeLessThanOrEqual(100);
    expect(ledger.grant("tm-1", "h4999")).toBeDefined();
  });

  test("is free again when nobody has asked a host for a while", () => {
    const ledger = createLedger();
    ledger.heed(ledger.budgets.joined("tm-1", 0));
    ledger.heed(ledger.budgets.report("tm-1", [report("a", { inFlight: 8, waiting: 3 }), report("b", { busy: 1, retryAfterMs: 100 })], 0));
    ledger.heed(ledger.budgets.report("tm-1", [report("a", { started: 3, ok: 11 })], 100));
    for (let wakes = 0; wakes < 10_000 && ledger.budgets.wakeAtMs !== null; wakes++) ledger.heed(ledger.budgets.due(ledger.budgets.wakeAtMs));
    expect(ledger.budgets.size).toBe(0);
    expect(ledger.granted.get("tm-1")?.size).toBe(0);
    expect(ledger.paces.size).toBe(0);
    expect(ledger.budgets.wakeAtMs).toBeNull();
  });
});
