import type { RunState } from "../observe/summary.ts";

export const exitCodes = { succeeded: 0, withErrors: 1, wrong: 2, stopped: 3, interrupted: 130 } as const;

export function exitCodeOf(state: RunState): number {
  switch (state) {
    case "succeeded":
      return exitCodes.succeeded;
    case "finished-with-errors":
      return exitCodes.withErrors;
    case "failed":
      return exitCodes.stopped;
    case "cancelled":
      return exitCodes.interrupted;
  }
}
