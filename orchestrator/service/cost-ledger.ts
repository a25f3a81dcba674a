import { pricesIn, type Prices } from "../backends/lambda/prices.ts";
import type { LambdaReport } from "../backends/lambda/report.ts";
import type { StorageRequests, Usage, UsageInFlight } from "../backends/types.ts";
import type { PriceTable } from "../jobs/types.ts";
import type { Cost } from "../observe/cost.ts";

/** Computed usages that are remembered until Lambda's own reports replace them; further ones stay as they are. */
const computedMax = 100_000;
/** Free, and in every function. */
const ephemeralFreeMb = 512;

/** What one run costs. Usages go in, money comes out. */
export interface CostLedger {
  add(usage: Usage): void;
  addStorageRequests(requests: StorageRequests): void;
  /** Lambda's own reports of invocations whose time was computed so far. */
  correct(reports: Iterable<LambdaReport>): void;
  /** Of what has ended. */
  readonly spentUsd: number;
  /** Has anything been paid for? */
  readonly isUsed: boolean;
  /** What work in flight will have cost at the most. */
  atMostUsd(work: UsageInFlight): number;
  /** Request ids of computed usages. */
  awaitingReports(): readonly string[];
  cost(options: CostOptions): Cost;
}

export interface CostOptions {
  /** That ended in this run. */
  readonly items: number;
  /** Items that were reported when somebody else had ended them already. */
  readonly duplicates: number;
  readonly inFlight: readonly UsageInFlight[];
}

/** @param overrides a user's own prices */
export function createCostLedger(overrides: PriceTable | null): CostLedger {
  const prices = new Map<string, Prices>();
  const computed = new Map<string, Usage>();
  const sums = { requestsUsd: 0, computeUsd: 0, initUsd: 0, ephemeralUsd: 0, wastedUsd: 0, invocations: 0, reported: 0, coldStarts: 0, billedMs: 0, gbSeconds: 0 };
  const warm = { invocations: 0, ms: 0, overheadMs: 0 };
  let maxMemoryMb: number | null = null;
  const storage = { reads: 0, writes: 0 };

  function pricesOf(region: string): Prices {
    const found = prices.get(region) ?? pricesIn(region, overrides);
    prices.set(region, found);
    return found;
  }

  function book(usage: Usage, sign: 1 | -1): void {
    const { requestUsd, computeUsd, initUsd, ephemeralUsd, gbSeconds } = priced(usage, pricesOf(usage.region));
    sums.requestsUsd += sign * requestUsd;
    sums.computeUsd += sign * computeUsd;
    sums.initUsd += sign * initUsd;
    sums.ephemeralUsd += sign * ephemeralUsd;
    if (usage.wasted) sums.wastedUsd += sign * (requestUsd + computeUsd + initUsd + ephemeralUsd);
    sums.invocations += sign * usage.invocations;
    if (usage.source === "report") sums.reported += sign * usage.invocations;
    if (usage.initMs !== null) sums.coldStarts += sign;
    sums.billedMs += sign * usage.billedMs;
    sums.gbSeconds += sign * gbSeconds;
  }

  function storageRequestsUsd(): number {
    const [first] = prices.values();
    return first === undefined ? 0 : storage.reads * first.s3Get + storage.writes * first.s3Put;
  }

  const spentUsd = () => sums.requestsUsd + sums.computeUsd + sums.initUsd + sums.ephemeralUsd + storageRequestsUsd();

  function atMostUsd({ startedMs, notAfterMs, memoryMb, ephemeralMb, architecture, region }: UsageInFlight): number {
    const billedMs = Math.max(0, Math.ceil(notAfterMs - startedMs));
    const { requestUsd, computeUsd, ephemeralUsd } = priced({ invocations: 1, billedMs, initMs: null, memoryMb, ephemeralMb, architecture }, pricesOf(region));
    return requestUsd + computeUsd + ephemeralUsd;
  }

  return {
    add(usage) {
      book(usage, 1);
      maxMemoryMb = larger(maxMemoryMb, usage.maxMemoryMb);
      if (usage.seen !== null) {
        warm.invocations += usage.invocations;
        warm.ms += usage.seen.ms;
        warm.overheadMs += usage.seen.overheadMs;
      }
      const { requestId, source } = usage;
      if (source === "computed" && requestId !== null && computed.size < computedMax) computed.set(requestId, usage);
    },
    addStorageRequests({ reads, writes }) {
      storage.reads += reads;
      storage.writes += writes;
    },
    correct(reports) {
      for (const { requestId, billedMs, initMs, memoryMb, maxMemoryMb: usedMb } of reports) {
        const usage = computed.get(requestId);
        if (usage === undefined) continue;
        computed.delete(requestId);
        book(usage, -1);
        book({ ...usage, billedMs, initMs, memoryMb, source: "report" }, 1);
        maxMemoryMb = larger(maxMemoryMb, usedMb);
      }
    },
    get spentUsd() {
      return spentUsd();
    },
    get isUsed() {
      return sums.invocations > 0;
    },
    atMostUsd,
    awaitingReports: () => [...computed.keys()],
    cost({ items, duplicates, inFlight }) {
      const stillRunningUsd = inFlight.reduce((sum, work) => sum + atMostUsd(work), 0);
      const usd = spentUsd();
      const used = [...prices.values()];
      // What is known to have come to nothing as a whole brought no items.
      const doneTwiceUsd = duplicates === 0 ? 0 : ((usd - sums.wastedUsd) * duplicates) / (items + duplicates);
      return {
        usd,
        per1000ItemsUsd: items === 0 ? null : (usd * 1000) / items,
        // What was taken back and booked anew leaves a rest of rounding.
        requestsUsd: Math.max(0, sums.requestsUsd),
        computeUsd: Math.max(0, sums.computeUsd),
        initUsd: Math.max(0, sums.initUsd),
        ephemeralUsd: Math.max(0, sums.ephemeralUsd),
        storageRequestsUsd: storageRequestsUsd(),
        wastedUsd: Math.max(0, sums.wastedUsd + doneTwiceUsd),
        stillRunningUsd,
        invocations: sums.invocations,
        coldStarts: sums.coldStarts,
        billedSeconds: sums.billedMs / 1000,
        gbSeconds: Math.max(0, sums.gbSeconds),
        maxMemoryMb,
        overhead: warm.ms === 0 ? null : { share: warm.overheadMs / warm.ms, eachMs: warm.overheadMs / warm.invocations },
        billed: sums.reported === 0 ? "computed" : sums.reported === sums.invocations ? "reported" : "partly reported",
        pricesDate: used.map(({ date }) => date).sort()[0] ?? pricesIn("us-east-1", overrides).date,
        pricesRegions: [...new Set(used.map(({ region }) => region))].sort(),
      };
    },
  };
}

type Priceable = Pick<Usage, "invocations" | "billedMs" | "initMs" | "memoryMb" | "ephemeralMb" | "architecture">;

interface Priced {
  readonly requestUsd: number;
  readonly computeUsd: number;
  readonly initUsd: number;
  readonly ephemeralUsd: number;
  readonly gbSeconds: number;
}

function priced({ invocations, billedMs, initMs, memoryMb, ephemeralMb, architecture }: Priceable, prices: Prices): Priced {
  const gbSeconds = (memoryMb / 1024) * (billedMs / 1000);
  const initShare = billedMs === 0 ? 0 : Math.min(1, (initMs ?? 0) / billedMs);
  const gbSecondUsd = architecture === "arm64" ? prices.armGbSecond : prices.x86GbSecond;
  return {
    requestUsd: invocations * prices.request,
    computeUsd: gbSeconds * (1 - initShare) * gbSecondUsd,
    initUsd: gbSeconds * initShare * gbSecondUsd,
    ephemeralUsd: (Math.max(0, ephemeralMb - ephemeralFreeMb) / 1024) * (billedMs / 1000) * prices.ephemeralGbSecond,
    gbSeconds,
  };
}

function larger(one: number | null, other: number | null): number | null {
  return one === null ? other : other === null ? one : Math.max(one, other);
}
