import type { FaultSpec } from "./protocol.ts";
import type { WorkItem } from "./tasks/types.ts";

/** Items remembered as held up, so that each is held up once; the oldest are forgotten beyond. */
const heldUpMax = 100_000;
/** How often one that plays dead looks whether anybody is left to be fooled. */
const parentCheckMs = 500;

export type Fault = { readonly kind: "exception" } | { readonly kind: "delay"; readonly delayMs: number };

/** What is asked about. */
type Struck = Pick<WorkItem, "index" | "triedBefore">;

/** Decides which items are struck, at their first try: by seed and index, the same whenever and wherever it is asked. */
export interface FaultMaker {
  /** Before the item is handed out. One that comes back here unbegun is not held up a second time. */
  strike(item: Struck): Fault | null;
  /** Once it is begun. */
  fate(item: Struck): "kill" | "stall" | null;
}

export function createFaultMaker(spec: FaultSpec): FaultMaker {
  const heldUp = new Set<number>();
  const chance = (kind: number, index: number) => share(spec.seed, kind, index);

  function holdUpOnce(index: number): Fault | null {
    if (heldUp.has(index)) return null;
    heldUp.add(index);
    for (const oldest of heldUp) {
      if (heldUp.size <= heldUpMax) break;
      heldUp.delete(oldest);
    }
    return { kind: "delay", delayMs: chance(2, index) * spec.delayMaxMs };
  }

  return {
    strike({ index, triedBefore = false }) {
      if (triedBefore) return null;
      if (hits(chance(0, index), spec.exceptionPercent)) return { kind: "exception" };
      return hits(chance(1, index), spec.delayPercent) ? holdUpOnce(index) : null;
    },
    fate({ index, triedBefore = false }) {
      if (triedBefore) return null;
      if (hits(chance(3, index), spec.killPercent)) return "kill";
      return hits(chance(4, index), spec.stallPercent) ? "stall" : null;
    },
  };
}

/**
 * This thread, the one that speaks, does nothing more; whoever waits for it has to end it. Alone the parent's end is
 * noticed, since nobody could end it then.
 */
export function stall(): never {
  const parent = process.ppid;
  const nothing = new Int32Array(new SharedArrayBuffer(4));
  while (process.ppid === parent) Atomics.wait(nothing, 0, 0, parentCheckMs);
  process.kill(process.pid, "SIGKILL");
  throw new Error("not reached");
}

function hits(share: number, percent: number): boolean {
  return share * 100 < percent;
}

/** In [0, 1). */
function share(seed: number, kind: number, index: number): number {
  return mixed(mixed(mixed(seed) ^ Math.imul(kind + 1, 0x9e3779b1)) ^ index) / 2 ** 32;
}

/** The finaliser of MurmurHash3: every bit of the number depends on every bit given. */
function mixed(value: number): number {
  let bits = value | 0;
  bits = Math.imul(bits ^ (bits >>> 16), 0x85ebca6b);
  bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35);
  return (bits ^ (bits >>> 16)) >>> 0;
}
