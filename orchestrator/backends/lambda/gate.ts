import { AdaptiveLimit } from "../../scheduler/adaptive-limit.ts";
import type { LambdaFailure } from "./client.ts";

/** After a refusal, nothing is tried for this long; twice as long after the next, up to the maximum. */
const pauseMs = 200;
const pauseMsMax = 5_000;
const lookMs = 500;

export interface GateOptions {
  /** Invocations at once, where Lambda allows that many. */
  readonly max: number;
  now(): number;
  random(): number;
}

interface Waiting {
  readonly enter: () => void;
  readonly turnAway: (reason: Error) => void;
}

/** Of a refusal for how many run at once; the others are for how many begin in a second. */
const concurrencyReasons: readonly (string | null)[] = ["ConcurrentInvocationLimitExceeded", "ReservedFunctionConcurrentInvocationLimitExceeded"];

/**
 * How many invocations may be in flight: as many as ran when Lambda refused one, halved when they came too fast, and
 * back soon. First come, first served.
 */
export class Gate {
  readonly #options: GateOptions;
  readonly #limit: AdaptiveLimit;
  readonly #waiting = new Set<Waiting>();
  #inFlight = 0;
  #refusedInARow = 0;
  #pausedUntilMs = -Infinity;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: GateOptions) {
    this.#options = options;
    this.#limit = new AdaptiveLimit({ initial: options.max, min: 1, max: options.max, risePerSecondMin: 10 });
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  /** As things are. */
  get max(): number {
    return Math.max(1, Math.floor(this.#limit.value));
  }

  get isFull(): boolean {
    return this.#inFlight >= this.max;
  }

  /** Somebody waits. */
  get isCrowded(): boolean {
    return this.#waiting.size > 0;
  }

  /** Those of the waiting who came last wait no longer. */
  turnAway(count: number, reason: Error): void {
    for (const waiting of [...this.#waiting].reverse().slice(0, count)) waiting.turnAway(reason);
  }

  /** Resolves with what is to be called when the invocation has ended. @throws when the signal is aborted, or turned away */
  async enter(signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted();
    this.#rise();
    await new Promise<void>((resolve, reject) => {
      const waiting: Waiting = {
        enter: () => {
          signal.removeEventListener("abort", leave);
          resolve();
        },
        turnAway: (reason) => {
          signal.removeEventListener("abort", leave);
          if (this.#waiting.delete(waiting)) reject(reason);
        },
      };
      const leave = () => waiting.turnAway(signal.reason as Error);
      signal.addEventListener("abort", leave, { once: true });
      this.#waiting.add(waiting);
      this.#serve();
    });
    let left = false;
    return () => {
      if (left) return;
      left = true;
      this.#rise();
      this.#inFlight -= 1;
      this.#serve();
    };
  }

  /** Lambda asked for fewer, or is not ready: nothing ran. */
  refused({ code, throttle, retryAfterMs }: LambdaFailure): void {
    const nowMs = this.#options.now();
    if (concurrencyReasons.includes(throttle)) this.#limit.found(this.#inFlight, nowMs);
    else if (code === "LAMBDA_THROTTLED") this.#limit.cut(this.#inFlight, nowMs, -Infinity);
    if (nowMs < this.#pausedUntilMs) return;
    const longest = Math.min(pauseMsMax, pauseMs * 2 ** this.#refusedInARow++);
    const asked = Math.min(retryAfterMs ?? 0, pauseMsMax);
    this.#pausedUntilMs = nowMs + Math.max(asked, longest * (0.5 + this.#options.random() / 2));
  }

  accepted(): void {
    this.#refusedInARow = 0;
  }

  /** Before anything changes: what counts is how it was until now. */
  #rise(): void {
    this.#limit.rise(this.#waiting.size > 0 || this.isFull, this.#options.now());
  }

  #look(): void {
    this.#rise();
    this.#serve();
  }

  #serve(): void {
    const nowMs = this.#options.now();
    for (const waiting of this.#waiting) {
      if (nowMs < this.#pausedUntilMs || this.#inFlight >= this.max) break;
      this.#waiting.delete(waiting);
      this.#inFlight += 1;
      waiting.enter();
    }
    clearTimeout(this.#timer);
    // The limit rises with time, whether or not anything ends.
    if (this.#waiting.size > 0) this.#timer = setTimeout(() => this.#look(), Math.max(1, Math.min(lookMs, this.#pausedUntilMs - nowMs > 0 ? this.#pausedUntilMs - nowMs : lookMs)));
  }
}
