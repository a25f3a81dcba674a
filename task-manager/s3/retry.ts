import { setTimeout as delay } from "node:timers/promises";
import { S3Failure } from "./failure.ts";

export interface RetryPolicy {
  /** 1: nothing is tried twice. */
  readonly attemptsMax: number;
  /** Before the second try, at most; doubled for each further one. A server that asked for fewer requests gets ten times as long. */
  readonly pauseMs: number;
  readonly pauseMsMax: number;
}

/** @param attempt told how often it was tried before */
export async function withRetries<T>(attempt: (triesBefore: number) => Promise<T>, policy: RetryPolicy, signal: AbortSignal | undefined): Promise<T> {
  for (let tries = 0; ; tries += 1) {
    try {
      return await attempt(tries);
    } catch (error) {
      if (!(error instanceof S3Failure) || !error.retryable || tries + 1 >= policy.attemptsMax) throw error;
      await delay(pauseOf(error, tries, policy), undefined, { ...(signal !== undefined && { signal }) });
    }
  }
}

/** Anywhere up to the limit, so that many clients that were refused together do not come back together. */
function pauseOf(failure: S3Failure, tries: number, { pauseMs, pauseMsMax }: RetryPolicy): number {
  const base = failure.code === "S3_SLOW_DOWN" ? pauseMs * 10 : pauseMs;
  return Math.max(failure.retryAfterMs ?? 0, Math.random() * Math.min(pauseMsMax, base * 2 ** tries));
}
