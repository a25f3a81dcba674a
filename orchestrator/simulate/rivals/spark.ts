import { medianOf } from "../statistics.ts";
import type { SplitRule, Task, View } from "./split-scheduler.ts";

export interface SlowerThanMedian {
  /** Of the tasks, done before anything is copied. */
  readonly quantile: number;
  readonly multiplier: number;
  readonly intervalMs: number;
  readonly copiesMax: number;
}

/** spark.speculation as of Spark 2 and 3.0 (TaskSetManager.checkSpeculatableTasks), its defaults of that time. */
export const sparkDefaults: SlowerThanMedian = { quantile: 0.75, multiplier: 1.5, intervalMs: 100, copiesMax: 1 };

const thresholdMsMin = 100;

/** Copies what has lasted longer than a multiple of the median, once a part of all tasks is done. */
export function slowerThanMedian({ quantile, multiplier, intervalMs, copiesMax }: SlowerThanMedian): SplitRule {
  let medianMs = 0;
  let ofTasks = 0;
  return {
    intervalMs,
    copy(view) {
      if (view.tasksDone < Math.max(1, Math.floor(quantile * view.tasks))) return null;
      if (view.durationsMs.length > ofTasks * 1.01) {
        medianMs = medianOf(view.durationsMs);
        ofTasks = view.durationsMs.length;
      }
      return oldest(view, Math.max(thresholdMsMin, multiplier * medianMs), copiesMax);
    },
  };
}

function oldest({ running, nowMs }: View, thresholdMs: number, copiesMax: number): Task | null {
  let found: Task | null = null;
  let longestMs = thresholdMs;
  for (const task of running) {
    const [attempt] = task.attempts;
    if (attempt === undefined || task.attempts.length > 1 || task.copies >= copiesMax) continue;
    const lastsMs = nowMs - attempt.startedMs;
    if (lastsMs <= longestMs) continue;
    longestMs = lastsMs;
    found = task;
  }
  return found;
}
