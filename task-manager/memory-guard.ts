/** What is done about memory after a look at it. */
export interface MemoryAdvice {
  /** Of the usual batch size and items in flight. */
  readonly width: number;
  /** Some of what is not begun should go elsewhere. */
  readonly giveBack: boolean;
  /** `restart`: a fresh process will do better. `kill`: over the limit, at once. */
  readonly end: "restart" | "kill" | null;
}

export interface MemoryGuardOptions {
  /** In use before the first item: room above it is left whatever the limit says, so that something can be done at all. */
  readonly base: number;
  /** What is measured is this process alone, so that its end would help. */
  readonly own: boolean;
  /** In [0, 1), another in each process: several that share a machine do not act at once. */
  readonly jitter: number;
}

const widthMin = 1 / 64;
/** In a row, before the width grows again. */
const calmLooksMin = 8;
/** Looks in a row at a high level after which narrowing has not helped: something goes back. */
const giveBackLooks: readonly number[] = [4, 8];
/** And after this many, a process that has grown is replaced. */
const restartLooks = 16;
const restartSoonLooks = 2;

/** Narrows at each look while much is in use, then gives back a little, then ends; grows again slowly. */
export function createMemoryGuard({ base, own, jitter }: MemoryGuardOptions): { look(used: number): MemoryAdvice } {
  const high = Math.max(0.82 - 0.06 * jitter, base + 0.1);
  const calm = high - 0.12;
  const nearlyFull = Math.max(0.93, base + 0.2);
  const full = Math.max(1, base + 0.3);
  let width = 1;
  let highLooks = 0;
  let fullLooks = 0;
  let calmLooks = 0;

  function end(used: number): MemoryAdvice["end"] {
    if (!own) return null;
    if (fullLooks >= 2) return "kill";
    const hasGrown = used - base > 0.25;
    return hasGrown && highLooks >= (used >= nearlyFull ? restartSoonLooks : restartLooks) ? "restart" : null;
  }

  return {
    look(used) {
      highLooks = used >= high ? highLooks + 1 : 0;
      fullLooks = used >= full ? fullLooks + 1 : 0;
      calmLooks = used < calm ? calmLooks + 1 : 0;
      if (highLooks > 0) width = Math.max(widthMin, width / 2);
      else if (calmLooks >= calmLooksMin && width < 1) {
        width = Math.min(1, width * 1.5);
        calmLooks = 0;
      }
      return { width, giveBack: giveBackLooks.includes(highLooks), end: end(used) };
    },
  };
}
