import { duration } from "./progress.ts";

/** Items that take longer than this are no stall: nothing fails meanwhile. */
const stalledMs = 10_000;

/** Tells a run's user why it does not get on: what a Task Manager failed with last, while no item ends. */
export interface Stalls {
  /** A Task Manager could not be had, or was lost. */
  failed(message: string): void;
  /** Items have ended. */
  stored(): void;
  /** What there is to be told now; once a stall. Null: nothing. */
  look(): string | null;
}

/** @param now monotonic, ms */
export function createStalls(now: () => number): Stalls {
  let sinceMs = now();
  let last: string | null = null;
  let told = false;
  return {
    failed: (message) => void (last = message),
    stored() {
      sinceMs = now();
      last = null;
      told = false;
    },
    look() {
      const stalledForMs = now() - sinceMs;
      if (told || last === null || stalledForMs < stalledMs) return null;
      told = true;
      return `No item has ended for ${duration(stalledForMs)}: ${last}. It is tried again and again; Ctrl-C stops, and \`splitrun resume\` goes on.`;
    },
  };
}
