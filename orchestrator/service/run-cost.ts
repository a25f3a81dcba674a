import { setTimeout as sleep } from "node:timers/promises";
import type { Backend, StorageRequests, UsageInFlight } from "../backends/types.ts";
import { isS3 } from "../inputs/is-s3.ts";
import type { ResolvedJob } from "../jobs/types.ts";
import { usdText, type Cost } from "../observe/cost.ts";
import type { Run } from "../run/run.ts";
import { taskManagersWithin } from "./budget.ts";
import { createCostLedger, type CostOptions } from "./cost-ledger.ts";
import type { Account, Metering } from "./metering.ts";
import type { RunPool } from "./pool.ts";

/** Work is begun without a word to those who watch the money. */
const checkEveryMs = 200;
/** Lambda's reports come some seconds late; without them the cost is computed. */
const reportsWaitMs = 8_000;
const answersWaitMs = 2_000;
const answersLookMs = 20;

/** The money of one run. */
export interface RunCost {
  readonly account: Account;
  /** What is spent so far; null: the backend costs nothing. */
  readonly usd: number | null;
  /** Before the first Task Manager is started. */
  open(pool: RunPool): void;
  /** Holds the run within its budget. */
  watch(run: Run, pool: RunPool): void;
  /** An item's outcome was stored after so many tries. */
  stored(input: unknown, tries: number): void;
  /** The run has ended: what it cost; null: the backend costs nothing. */
  end(done: Pick<CostOptions, "items" | "duplicates">): Promise<Cost | null>;
}

export interface RunCostOptions {
  readonly job: Pick<ResolvedJob, "prices" | "budget">;
  readonly backend: Backend;
  readonly metering: Metering;
  /** To S3, of the orchestrator's own, so far. */
  readonly storageRequests: () => StorageRequests;
}

export function createRunCost({ job: { prices, budget }, backend, metering, storageRequests }: RunCostOptions): RunCost {
  const { meter } = backend;
  const ledger = createCostLedger(prices);
  const startedMs = Date.now();
  let costliestUsd = 0;
  let booked: StorageRequests = { reads: 0, writes: 0 };
  let check: () => void = () => undefined;
  let timer: NodeJS.Timeout | undefined;

  const account: Account = {
    usage(usage) {
      ledger.add(usage);
      learn({ ...usage, startedMs: 0, notAfterMs: usage.billedMs });
      check();
    },
  };

  /** What comes next may take longer than what was seen, which may only have got ready. */
  function learn(work: UsageInFlight): void {
    const notAfterMs = Math.max(work.notAfterMs, work.startedMs + (meter?.longestMs ?? 0));
    costliestUsd = Math.max(costliestUsd, ledger.atMostUsd({ ...work, notAfterMs }));
  }

  /** What the orchestrator and the backend have asked of S3 since this was called last. */
  function bookStorage(): void {
    const { reads, writes } = storageRequests();
    ledger.addStorageRequests({ reads: reads - booked.reads, writes: writes - booked.writes });
    booked = { reads, writes };
    const backends = meter?.takeStorageRequests?.();
    if (backends !== undefined) ledger.addStorageRequests(backends);
  }

  const inFlight = (): readonly UsageInFlight[] => metering.inFlight(backend, account);

  function holdTo(maxUsd: number, run: Run, pool: RunPool): void {
    bookStorage();
    const running = inFlight();
    const inFlightUsd = running.reduce((sum, work) => sum + ledger.atMostUsd(work), 0);
    running.forEach(learn);
    const { taskManagers, spent } = taskManagersWithin({ maxUsd, spentUsd: ledger.spentUsd, inFlightUsd, costliestUsd });
    pool.limit(taskManagers);
    if (spent) run.stop("budget", "drain", budgetMessage({ maxUsd, spentUsd: ledger.spentUsd, inFlightUsd, costliestUsd }));
  }

  /** The last item of an answer comes before its end; what goes on for longer is told of as such. */
  async function answersEnded(): Promise<void> {
    for (let waitedMs = 0; waitedMs < answersWaitMs && inFlight().length > 0; waitedMs += answersLookMs) await sleep(answersLookMs);
  }

  async function takeReports(): Promise<void> {
    const requestIds = ledger.awaitingReports();
    if (meter?.reports === undefined || requestIds.length === 0) return;
    ledger.correct(await meter.reports({ requestIds, fromMs: startedMs, untilMs: Date.now() + reportsWaitMs }));
  }

  return {
    account,
    get usd() {
      if (meter === null) return null;
      bookStorage();
      return ledger.spentUsd;
    },
    open(pool) {
      // Where starting one costs money, too, one shows how much.
      if (meter !== null && budget.maxCostUsd !== null) pool.limit(1);
    },
    watch(run, pool) {
      const { maxCostUsd } = budget;
      if (meter === null || maxCostUsd === null) return;
      check = () => holdTo(maxCostUsd, run, pool);
      timer = setInterval(check, checkEveryMs);
      check();
    },
    stored(input, tries) {
      if (meter !== null && typeof input === "string" && isS3(input)) ledger.addStorageRequests({ reads: tries, writes: 0 });
    },
    async end(done) {
      clearInterval(timer);
      check = () => undefined;
      if (meter === null) return null;
      await answersEnded();
      await takeReports();
      bookStorage();
      return ledger.cost({ ...done, inFlight: inFlight() });
    },
  };
}

function budgetMessage({ maxUsd, spentUsd, inFlightUsd, costliestUsd }: { readonly maxUsd: number; readonly spentUsd: number; readonly inFlightUsd: number; readonly costliestUsd: number }): string {
  const running = inFlightUsd === 0 ? "" : `, what runs may cost ${usdText(inFlightUsd)} more`;
  return `budget.maxCostUsd (${usdText(maxUsd)}) has no room for more work: ${usdText(spentUsd)} spent${running}, and another invocation ${usdText(costliestUsd)} at most. A resumed run has the budget anew; raise it with \`--set budget.maxCostUsd=…\`.`;
}
