import { setTimeout as delay } from "node:timers/promises";
import { isPassing } from "./objects.ts";

const pauseMsMin = 1000;
const pauseMsMax = 30_000;

/**
 * Tries again, with longer and longer pauses, what S3 does not do for a while: the journal has everything meanwhile.
 * Without an end; whoever waits for it sets one with `signal`.
 * @throws what S3 will not do later either; the last error once `signal` says so
 */
export async function patiently<T>(attempt: () => Promise<T>, signal: AbortSignal): Promise<T> {
  for (let pauseMs = pauseMsMin; ; pauseMs = Math.min(pauseMsMax, pauseMs * 2)) {
    try {
      return await attempt();
    } catch (error) {
      if (!isPassing(error) || signal.aborted) throw error;
      await delay(pauseMs * (0.5 + Math.random() / 2), undefined, { signal }).catch(() => undefined);
      if (signal.aborted) throw error;
    }
  }
}
