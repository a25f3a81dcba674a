import { cpus } from "node:os";

/** What share of this machine's cores is at work, with all that runs on it. */
export interface MachineMeter {
  /** Since the meter was made, 0 to 1. */
  share(): number;
}

export function createMachineMeter(): MachineMeter {
  const startedMs = performance.now();
  const before = busyMs();
  return {
    share: () => Math.min(1, Math.max(0, busyMs() - before) / Math.max(1, (performance.now() - startedMs) * cpus().length)),
  };
}

/** Of all cores together. Waiting for a disk is no work. */
function busyMs(): number {
  return cpus().reduce((sum, { times: { user, nice, sys, irq } }) => sum + user + nice + sys + irq, 0);
}
