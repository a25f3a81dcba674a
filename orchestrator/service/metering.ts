import type { Backend, Meter, Usage, UsageInFlight } from "../backends/types.ts";

/** Task Managers whose payers are remembered; those before them have ended long ago. */
const payersMax = 100_000;

/** Who pays: a run. */
export interface Account {
  usage(usage: Usage): void;
}

/** Backends are shared by the runs of a service; what each Task Manager costs goes to the run that has it. */
export interface Metering {
  /** From now on, what this Task Manager costs is this account's. */
  charge(backend: Backend, taskManager: string, account: Account): void;
  /** Of the account's Task Managers. */
  inFlight(backend: Backend, account: Account): readonly UsageInFlight[];
}

export function createMetering(): Metering {
  const payers = new Map<Meter, Map<string, Account>>();

  /** Heard from the first one on that pays for anything of it. */
  function payersOf(meter: Meter): Map<string, Account> {
    const known = payers.get(meter);
    if (known !== undefined) return known;
    const accounts = new Map<string, Account>();
    payers.set(meter, accounts);
    meter.onUsage((usage) => {
      if (usage.taskManager !== null) accounts.get(usage.taskManager)?.usage(usage);
    });
    return accounts;
  }

  return {
    charge({ meter }, taskManager, account) {
      if (meter === null) return;
      const accounts = payersOf(meter);
      accounts.delete(taskManager);
      accounts.set(taskManager, account);
      const [oldest] = accounts.keys();
      if (accounts.size > payersMax && oldest !== undefined) accounts.delete(oldest);
    },
    inFlight({ meter }, account) {
      if (meter === null) return [];
      const accounts = payersOf(meter);
      return meter.inFlight().filter(({ taskManager }) => taskManager !== null && accounts.get(taskManager) === account);
    },
  };
}
