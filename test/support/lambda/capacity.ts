import { errors } from "./errors.ts";

export interface CapacityOptions {
  /** Of the account, all functions together. */
  readonly concurrency: number;
  /** Environments that a function may add at once, and how long it takes until it may add as many again. */
  readonly scaling: { readonly environments: number; readonly perMs: number };
  /** Of the account that no function reserved. */
  unreserved(): number;
  /** null: the function shares what is not reserved. */
  reserved(functionName: string): number | null;
}

interface Load {
  running: number;
  environmentsLeft: number;
  refilledAtMs: number;
  /** When the invocations of the last second began. */
  readonly begunAtMs: number[];
}

/** Lambda guide, "Understanding Lambda function scaling": each environment does 10 requests a second at most. */
const invocationsPerSecondEach = 10;

/** Who may run now: concurrency of account and function, rate of invocations, rate of new environments. */
export class Capacity {
  readonly #options: CapacityOptions;
  readonly #loads = new Map<string, Load>();

  constructor(options: CapacityOptions) {
    this.#options = options;
  }

  /** @throws ServiceError 429 with the reason */
  enter(functionName: string, nowMs: number): void {
    const reserved = this.#options.reserved(functionName);
    const load = this.#load(functionName, nowMs);
    if (reserved !== null && load.running >= reserved) throw errors.throttled("ReservedFunctionConcurrentInvocationLimitExceeded");
    if (reserved === null && this.#runningUnreserved() >= this.#options.unreserved()) throw errors.throttled("ConcurrentInvocationLimitExceeded");
    const last = load.begunAtMs.findIndex((ms) => ms > nowMs - 1000);
    load.begunAtMs.splice(0, last === -1 ? load.begunAtMs.length : last);
    if (load.begunAtMs.length >= invocationsPerSecondEach * (reserved ?? this.#options.unreserved())) {
      throw errors.throttled(reserved === null ? "FunctionInvocationRateLimitExceeded" : "ReservedFunctionInvocationRateLimitExceeded");
    }
    load.begunAtMs.push(nowMs);
    load.running += 1;
  }

  leave(functionName: string): void {
    const load = this.#loads.get(functionName);
    if (load !== undefined) load.running -= 1;
  }

  /** @throws ServiceError 429 when the function grows too fast */
  addEnvironment(functionName: string, nowMs: number): void {
    const { environments, perMs } = this.#options.scaling;
    const load = this.#load(functionName, nowMs);
    load.environmentsLeft = Math.min(environments, load.environmentsLeft + ((nowMs - load.refilledAtMs) / perMs) * environments);
    load.refilledAtMs = nowMs;
    if (load.environmentsLeft < 1) throw errors.throttled("ConcurrentInvocationLimitExceeded");
    load.environmentsLeft -= 1;
  }

  #load(functionName: string, nowMs: number): Load {
    const known = this.#loads.get(functionName);
    if (known !== undefined) return known;
    const load: Load = { running: 0, environmentsLeft: this.#options.scaling.environments, refilledAtMs: nowMs, begunAtMs: [] };
    this.#loads.set(functionName, load);
    return load;
  }

  #runningUnreserved(): number {
    return [...this.#loads].reduce((sum, [name, { running }]) => sum + (this.#options.reserved(name) === null ? running : 0), 0);
  }
}
