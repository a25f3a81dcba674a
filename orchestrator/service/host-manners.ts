import type { HostGrant, HostReport } from "../../task-manager/protocol.ts";
import { createHostBudgets, type HostLimits, type HostNews, type HostPace } from "./host-budgets.ts";

const hostsMax = 4_096;
const sharesMax = 100_000;

export interface HostMannersOptions<Member> {
  send(to: Member, grant: HostGrant): void;
  /** To every run. */
  pace(pace: HostPace): void;
}

/** The budgets of hosts, on the clock of this process: what is to be told is told at once. */
export interface HostManners<Member> {
  /** Before it is given any item. */
  joined(member: Member): void;
  gone(member: Member): void;
  report(member: Member, reports: readonly HostReport[]): void;
  /** The limits of all jobs that run. */
  limit(limits: readonly HostLimits[]): void;
  /** For a run that starts now. */
  paces(): readonly HostPace[];
  close(): void;
}

export function startHostManners<Member>({ send, pace }: HostMannersOptions<Member>): HostManners<Member> {
  const budgets = createHostBudgets<Member>({ hostsMax, sharesMax });
  let timer: NodeJS.Timeout | undefined;

  function tell(news: HostNews<Member>): void {
    for (const { to, grant } of news.grants) send(to, grant);
    for (const each of news.paces) pace(each);
    clearTimeout(timer);
    const { wakeAtMs } = budgets;
    if (wakeAtMs === null) return;
    timer = setTimeout(() => tell(budgets.due(performance.now())), Math.max(1, wakeAtMs - performance.now()));
    // Nobody waits for it.
    timer.unref();
  }

  return {
    joined: (member) => tell(budgets.joined(member, performance.now())),
    gone: (member) => tell(budgets.gone(member, performance.now())),
    report: (member, reports) => tell(budgets.report(member, reports, performance.now())),
    limit: (limits) => tell(budgets.limit(limits, performance.now())),
    paces: () => budgets.paces(),
    close: () => clearTimeout(timer),
  };
}
