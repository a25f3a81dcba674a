import { quantileOf } from "../statistics.ts";
import type { Attempt, Holder, SplitRule, Task, View } from "./split-scheduler.ts";

/** Of the slots: copies at once. */
const speculativeCap = 0.1;
/** Percentile of progress below which a task, or a machine, is slow. */
const slowThreshold = 0.25;
const intervalMs = 100;
/** Before, nobody can say how fast a task is: two reports. Hadoop waits for a minute, with tasks of minutes. */
const judgedAfterMs = 500;

/** LATE: of the slow tasks the one with the longest approximate time to end, on a machine that is not slow (Zaharia et al., OSDI 2008). */
export const late: SplitRule = {
  intervalMs,
  copy(view, holder) {
    const running = [...view.running];
    if (running.reduce((copies, { attempts }) => copies + Math.max(0, attempts.length - 1), 0) >= speculativeCap * view.workers) return null;
    if (isSlowMachine(view, holder)) return null;
    const rates = running.flatMap(({ attempts: [attempt] }) => (attempt === undefined ? [] : [rateOf(attempt, view.nowMs)]));
    const slowRate = quantileOf(rates, slowThreshold);
    return longestToEnd(running, view.nowMs, slowRate);
  },
};

function longestToEnd(running: readonly Task[], nowMs: number, slowRate: number): Task | null {
  let found: Task | null = null;
  let longestMs = 0;
  for (const task of running) {
    const [attempt] = task.attempts;
    if (attempt === undefined || task.attempts.length > 1 || task.copies > 0 || nowMs - attempt.startedMs < judgedAfterMs) continue;
    const rate = rateOf(attempt, nowMs);
    if (rate > slowRate) continue;
    const leftMs = rate === 0 ? Infinity : (1 - attempt.ended / attempt.items) / rate;
    if (leftMs <= longestMs) continue;
    longestMs = leftMs;
    found = task;
  }
  return found;
}

/** Progress score over time. */
function rateOf({ ended, items, startedMs }: Attempt, nowMs: number): number {
  return ended / items / Math.max(1, nowMs - startedMs);
}

function isSlowMachine({ holders }: View, { progress }: Holder): boolean {
  return progress < quantileOf([...holders].map((holder) => holder.progress), slowThreshold);
}
