import type { FaultSpec } from "./protocol.ts";

/** Items remembered as struck, so that each is struck once; the oldest are forgotten beyond. */
const struckMax = 100_000;
/** How often one that plays dead looks whether anybody is left to be fooled. */
const parentCheckMs = 500;

export type Fault = { readonly kind: "exception" } | { readonly kind: "delay"; readonly delayMs: number };

/** Decides which items are struck: by seed, index and the Task Manager's id, the same whenever it is asked. */
export interface FaultMaker {
  /** Before the item is handed out; each item is struck once at most. */
  strike(index: number): Fault | null;
  /** Once it is begun. */
  fate(index: number): "kill" | "stall" | null;
}

export function createFaultMaker(spec: FaultSpec, taskManager: string): FaultMaker {
  const start = hashOfText(taskManager, spec.seed);
  const struck = new Set<number>();
  const chance = (kind: number, index: number) => share(start, kind, index);

  function strikeOnce(index: number): boolean {
    if (struck.has(index)) return false;
    struck.add(index);
    for (const oldest of struck) {
      if (struck.size <= struckMax) break;
      struck.delete(oldest);
    }
    return true;
  }

  return {
    strike(index) {
      if (hits(chance(0, index), spec.exceptionPercent)) return strikeOnce(index) ? { kind: "exception" } : null;
      if (hits(chance(1, index), spec.delayPercent)) return strikeOnce(index) ? { kind: "delay", delayMs: chance(2, index) * spec.delayMaxMs } : null;
      return null;
    },
    fate(index) {
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

function hashOfText(text: string, seed: number): number {
  let hash = seed | 0;
  for (const character of text) hash = mixed(hash ^ (character.codePointAt(0) ?? 0));
  return hash;
}

/** In [0, 1). */
function share(start: number, kind: number, index: number): number {
  return mixed(mixed(start ^ Math.imul(kind + 1, 0x9e3779b1)) ^ index) / 2 ** 32;
}

/** The finaliser of MurmurHash3: every bit of the number depends on every bit given. */
function mixed(value: number): number {
  let bits = value | 0;
  bits = Math.imul(bits ^ (bits >>> 16), 0x85ebca6b);
  bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35);
  return (bits ^ (bits >>> 16)) >>> 0;
}
