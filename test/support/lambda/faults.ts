import { FaultOrders, type ActiveFault } from "../fault-orders.ts";
import type { ThrottleReason } from "./errors.ts";

/** What goes wrong with an invocation, on order. */
export type FaultKind =
  /** Kills the environment's processes, as if for memory: by time since the handler was called, or by bytes of its response. */
  | { readonly kind: "kill"; readonly afterMs?: number; readonly afterBytes?: number }
  /** Stops the processes (SIGSTOP) for a while in the middle, or, by bytes of the response, for good; the invocation's time goes on. */
  | { readonly kind: "stall"; readonly afterMs: number; readonly forMs: number }
  | { readonly kind: "stall"; readonly afterBytes: number }
  /** 429 before anything ran. */
  | { readonly kind: "throttle"; readonly reason?: ThrottleReason }
  /** Any other refusal before anything ran. */
  | { readonly kind: "refuse"; readonly status: number; readonly code: string; readonly message?: string }
  /** A new environment, though one may be idle, whose init takes so much longer. */
  | { readonly kind: "cold-start"; readonly delayMs: number }
  /** Cuts the caller's connection in the middle of the response; the function goes on. */
  | { readonly kind: "cut-stream"; readonly afterBytes?: number; readonly afterMs?: number }
  /** Cuts the caller's connection when the work is done, before the caller hears so: nothing of a buffered response, of a streamed one all but its end. */
  | { readonly kind: "lose-response" }
  /** Hands the same payload to a second environment, too; the caller hears of the first. */
  | { readonly kind: "deliver-twice" };

export type Fault = FaultKind & {
  /** @default every function */
  readonly functionName?: string;
  /** Invocations that it takes; the rest pass. @default 1 */
  readonly times?: number;
  /** @default all payloads */
  readonly when?: (payload: Buffer) => boolean;
};

/** The first fault that fits an invocation takes it. */
export class Faults {
  readonly #orders = new FaultOrders<Fault, { readonly functionName: string; readonly payload: Buffer }>();

  push(fault: Fault): ActiveFault {
    return this.#orders.add({
      fault,
      times: fault.times ?? 1,
      when: ({ functionName, payload }) => (fault.functionName ?? functionName) === functionName && (fault.when?.(payload) ?? true),
    });
  }

  take(functionName: string, payload: Buffer): Fault | null {
    return this.#orders.take({ functionName, payload });
  }
}
