import { AdaptiveLimit } from "../../scheduler/adaptive-limit.ts";
import type { LambdaFailure } from "./client.ts";

/** After a refusal, nothing is tried for this long; twice as long after the next, up to the maximum. */
const pauseMs = 200;
const pauseMsMax = 5_000;
const lookMs = 500;

export interface GateOptions {
  /** Invocations at once, where Lambda allows that many. */
  readonly max: number;
  /** Before each that enters: whoever is to send it may be busy. Undefined: at once. */
  turn(): Promise<void> | undefined;
  now(): number;
  random(): number;
}

/** @param refusal Lambda asked for fewer, or is not ready: nothing ran; null: it ran, or that tells nothing of how many may */
export type Leave = (refusal: LambdaFailure | null) => void;

interface Visit {
  readonly number: number;
  /** Invocations that were in flight when it entered, those excepted that turned out to be refused. */
  besides: number;
}

interface Waiting {
  readonly enter: (visit: Visit) => void;
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
  /** In the order in which they entered. */
  readonly #inside = new Set<Visit>();
  #entered = 0;
  /** The first of the waiting has been promised a turn. */
  #isTurning = false;
  #refusedInARow = 0;
  #pausedUntilMs = -Infinity;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: GateOptions) {
    this.#options = options;
    this.#limit = new AdaptiveLimit({ initial: options.max, min: 1, max: options.max, risePerSecondMin: 10 });
  }

  get inFlight(): number {
    return this.#inside.size;
  }

  /** As things are. */
  get max(): number {
    return Math.max(1, Math.floor(this.#limit.value));
  }

  get isFull(): boolean {
    return this.inFlight >= this.max;
  }

  /** Somebody waits. */
  get isCrowded(): boolean {
    return this.#waiting.size > 0;
  }

  /** Those of the waiting who came last wait no longer. */
  turnAway(count: number, reason: Error): void {
    for (const waiting of [...this.#waiting].reverse().slice(0, count)) waiting.turnAway(reason);
  }

  /** Resolves with what is to be called when the invocation is over. @throws when the signal is aborted, or turned away */
  async enter(signal: AbortSignal): Promise<Leave> {
    signal.throwIfAborted();
    this.#rise();
    const visit = await new Promise<Visit>((resolve, reject) => {
      const waiting: Waiting = {
        enter: (entered) => {
          signal.removeEventListener("abort", leave);
          resolve(entered);
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
    return (refusal) => {
      if (!this.#inside.has(visit)) return;
      this.#rise();
      this.#inside.delete(visit);
      // Nobody enters before it is known.
      if (refusal !== null) this.#refused(visit, refusal);
      this.#serve();
    };
  }

  #refused(visit: Visit, { code, throttle, retryAfterMs }: LambdaFailure): void {
    const nowMs = this.#options.now();
    for (const other of this.#inside) if (other.number > visit.number) other.besides -= 1;
    // Some that ran when it was refused may have ended since; of those that run now some may yet be refused.
    const ran = Math.max(this.inFlight, visit.besides);
    if (concurrencyReasons.includes(throttle)) this.#limit.found(ran, nowMs);
    else if (code === "LAMBDA_THROTTLED") this.#limit.cut(ran, nowMs, -Infinity);
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
    this.#limit.rise((this.#waiting.size > 0 && !this.#isTurning) || this.isFull, this.#options.now());
  }

  #look(): void {
    this.#rise();
    this.#serve();
  }

  /** Each has its turn first and is let in then, so that nobody enters any more once the first refusal is known. */
  #serve(): void {
    if (this.#isTurning) return;
    while (this.#isOpen) {
      const turn = this.#options.turn();
      if (turn !== undefined) {
        this.#isTurning = true;
        return void turn.then(() => this.#takeTurn());
      }
      this.#letIn();
    }
    clearTimeout(this.#timer);
    // The limit rises with time, whether or not anything ends.
    const pauseMs = this.#pausedUntilMs - this.#options.now();
    if (this.#waiting.size > 0) this.#timer = setTimeout(() => this.#look(), Math.max(1, pauseMs > 0 ? Math.min(lookMs, pauseMs) : lookMs));
  }

  #takeTurn(): void {
    this.#isTurning = false;
    if (this.#isOpen) this.#letIn();
    this.#serve();
  }

  get #isOpen(): boolean {
    return this.#waiting.size > 0 && this.#options.now() >= this.#pausedUntilMs && !this.isFull;
  }

  #letIn(): void {
    const [first] = this.#waiting;
    if (first === undefined) return;
    this.#waiting.delete(first);
    const visit = { number: this.#entered++, besides: this.inFlight };
    this.#inside.add(visit);
    first.enter(visit);
  }
}
