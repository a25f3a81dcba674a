import type { SchedulerCounts } from "../scheduler/types.ts";
import { usdText } from "./cost.ts";

/** How far a run is; only what is stored counts. */
export interface Progress {
  readonly items: number | null;
  readonly succeeded: number;
  readonly failed: number;
  readonly reused: number;
  readonly running: number;
  /** Items that wait for their host, which asked for fewer requests, or for another try. */
  readonly waitingAside: number;
  readonly taskManagers: number;
  readonly elapsedMs: number;
  /** Over the last seconds. */
  readonly itemsPerSecond: number;
  /** Estimate; null while there is none. */
  readonly leftMs: number | null;
  /** Of work that has ended; null: nothing costs money. */
  readonly costUsd: number | null;
}

/** Of a job that has not begun. */
export const nothingYet: Progress = {
  items: null,
  succeeded: 0,
  failed: 0,
  reused: 0,
  running: 0,
  waitingAside: 0,
  taskManagers: 0,
  elapsedMs: 0,
  itemsPerSecond: 0,
  leftMs: null,
  costUsd: null,
};

export interface ProgressSource {
  readonly counts: SchedulerCounts;
  elapsedMs(): number;
  itemsTotal(): number | null;
}

const windowMs = 10_000;

/** Measures the rate over a sliding window, so that a slow start does not spoil the estimate. */
export function createProgressMeter(): (run: ProgressSource, sofar: { readonly stored: number; readonly costUsd: number | null }) => Progress {
  const samples: { readonly atMs: number; readonly stored: number }[] = [{ atMs: 0, stored: 0 }];
  return (run, { stored, costUsd }) => {
    const elapsedMs = run.elapsedMs();
    samples.push({ atMs: elapsedMs, stored });
    while (samples.length > 2 && elapsedMs - (samples[0]?.atMs ?? 0) > windowMs) samples.shift();
    const oldest = samples[0] ?? { atMs: 0, stored: 0 };
    const itemsPerSecond = ((stored - oldest.stored) * 1000) / Math.max(1, elapsedMs - oldest.atMs);
    const { counts } = run;
    const items = run.itemsTotal();
    const left = items === null ? null : Math.max(0, items - counts.succeeded - counts.failed);
    return {
      items,
      succeeded: counts.succeeded,
      failed: counts.failed,
      reused: counts.reused,
      running: counts.running,
      waitingAside: counts.setAside,
      taskManagers: counts.taskManagers,
      elapsedMs,
      itemsPerSecond,
      // How long the others' hosts keep them waiting, nobody knows.
      leftMs: left === null || itemsPerSecond === 0 || counts.setAside > 0 ? null : (left * 1000) / itemsPerSecond,
      costUsd,
    };
  };
}

/** The line, the most important first; what does not fit into `columns` is left out whole. */
export function progressText(progress: Progress, columns = Infinity): string {
  const ended = progress.succeeded + progress.failed;
  const share = progress.items ? `${Math.floor((100 * ended) / Math.max(1, progress.items))}%  ` : "";
  const of = progress.items === null ? "" : ` of ${count(progress.items)}`;
  const parts = [
    `${rate(progress.itemsPerSecond)} items/s`,
    errorsText(progress.failed),
    ...(progress.leftMs === null ? [] : [`${duration(progress.leftMs)} left`]),
    ...(progress.waitingAside === 0 ? [] : [`${count(progress.waitingAside)} wait for a host or another try`]),
    ...(progress.costUsd === null || progress.costUsd === 0 ? [] : [usdText(progress.costUsd)]),
    `${progress.taskManagers} ${progress.taskManagers === 1 ? "task manager" : "task managers"}`,
  ];
  let text = `${share}${count(ended)}${of} items`;
  for (const part of parts) {
    const longer = `${text} · ${part}`;
    if (longer.length > columns) break;
    text = longer;
  }
  return text;
}

export interface ProgressLine {
  show(progress: Progress): void;
  /** A line above it that stays. */
  say(text: string): void;
  end(): void;
}

const plainEveryMs = 10_000;
/** Enough for all that the line says of most runs. */
const textColumns = 80;

/** One line that is written over on a terminal; a plain line now and then where it is not one. */
export function createProgressLine(out: NodeJS.WriteStream): ProgressLine {
  let shown = false;
  let plainAtMs = 0;
  const clear = () => {
    if (shown) out.write("\r\x1b[K");
    shown = false;
  };
  return {
    show(progress) {
      if (out.isTTY) {
        clear();
        out.write(lineOf(progress, out.columns || 80));
        shown = true;
      } else if (progress.elapsedMs - plainAtMs >= plainEveryMs) {
        plainAtMs = progress.elapsedMs;
        out.write(`${progressText(progress)}\n`);
      }
    },
    say(text) {
      clear();
      out.write(`${text}\n`);
    },
    end: clear,
  };
}

/** As wide as the terminal leaves room for, whatever the text: a bar whose end moves says nothing. */
function lineOf(progress: Progress, columns: number): string {
  const width = progress.items === null || progress.items === 0 ? 0 : Math.min(30, columns - textColumns);
  if (width < 8) return progressText(progress, columns - 1);
  const full = Math.min(width, Math.floor((width * (progress.succeeded + progress.failed)) / (progress.items ?? 1)));
  return `▕${"█".repeat(full)}${"░".repeat(width - full)}▏ ${progressText(progress, columns - width - 4)}`;
}

export function count(value: number): string {
  return value.toLocaleString("en-US");
}

export function errorsText(errors: number): string {
  return `${count(errors)} ${errors === 1 ? "error" : "errors"}`;
}

export function rate(value: number): string {
  return value >= 100 ? count(Math.round(value)) : value.toFixed(value >= 10 ? 1 : 2);
}

export function duration(ms: number): string {
  const seconds = ms / 1000;
  if (seconds < 1) return `${Math.round(ms)} ms`;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes} min ${whole % 60} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
