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
}

/** How many invocations may be in flight: halved when Lambda asks for fewer, and back soon. First come, first served. */
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

  /** Somebody waits, so that one more would wait, too. */
  get isCrowded(): boolean {
    return this.#waiting.size > 0;
  }

  /** Resolves with what is to be called when the invocation has ended. @throws when the signal is aborted */
  async enter(signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted();
    await new Promise<void>((resolve, reject) => {
      const waiting: Waiting = {
        enter: () => {
          signal.removeEventListener("abort", leave);
          resolve();
        },
      };
      const leave = () => {
        if (this.#waiting.delete(waiting)) reject(signal.reason as Error);
      };
      signal.addEventListener("abort", leave, { once: true });
      this.#waiting.add(waiting);
      this.#serve();
    });
    let left = false;
    return () => {
      if (left) return;
      left = true;
      this.#inFlight -= 1;
      this.#serve();
    };
  }

  /** Lambda asked for fewer, or is not ready: nothing ran. */
  refused({ code, retryAfterMs }: LambdaFailure): void {
    const nowMs = this.#options.now();
    if (code === "LAMBDA_THROTTLED") this.#limit.cut(this.#inFlight, nowMs, -Infinity);
    if (nowMs < this.#pausedUntilMs) return;
    const longest = Math.min(pauseMsMax, pauseMs * 2 ** this.#refusedInARow++);
    const asked = Math.min(retryAfterMs ?? 0, pauseMsMax);
    this.#pausedUntilMs = nowMs + Math.max(asked, longest * (0.5 + this.#options.random() / 2));
  }

  accepted(): void {
    this.#refusedInARow = 0;
  }

  #serve(): void {
    const nowMs = this.#options.now();
    this.#limit.rise(this.#waiting.size > 0 || this.#inFlight >= this.max, nowMs);
    for (const waiting of this.#waiting) {
      if (nowMs < this.#pausedUntilMs || this.#inFlight >= this.max) break;
      this.#waiting.delete(waiting);
      this.#inFlight += 1;
      waiting.enter();
    }
    clearTimeout(this.#timer);
    // The limit rises with time, whether or not anything ends.
    if (this.#waiting.size > 0) this.#timer = setTimeout(() => this.#serve(), Math.max(1, Math.min(lookMs, this.#pausedUntilMs - nowMs > 0 ? this.#pausedUntilMs - nowMs : lookMs)));
  }
}
