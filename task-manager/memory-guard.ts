/** What is done about memory after a look at it. */
export interface MemoryAdvice {
  /** Of the usual batch size and items in flight. */
  readonly width: number;
  /** Some of what is not begun should go elsewhere. */
  readonly giveBack: boolean;
  /** Where it ends: what a fresh process should begin with, so that the same does not happen to it. */
  readonly fits: number;
  /** `restart`: a fresh process will do better. `kill`: over the limit, at once. */
  readonly end: "restart" | "kill" | null;
}

export interface MemoryGuardOptions {
  /** In use before the first item: room above it is left whatever the limit says, so that something can be done at all. */
  readonly base: number;
  /** What is measured is this process alone, so that its end would help. */
  readonly own: boolean;
  /** To begin with: where it is below 1, that was found to be enough. */
  readonly width: number;
  /** In [0, 1), another in each process: several that share a machine do not act at once. */
  readonly jitter: number;
}

const widthMin = 1 / 64;
/** In a row, before the width grows again: up to a little below where it was too much, and from there on. */
const calmLooksMin = 8;
const calmLooksBeyond = 40;
const belowTrouble = 0.75;
/** Looks in a row at a high level after which narrowing has not helped: something goes back. */
const giveBackLooks: readonly number[] = [4, 8];
/** And after this many, a process that has grown is replaced. */
const restartLooks = 16;
const restartSoonLooks = 2;

/** Narrows at each look while much is in use, then gives back a little, then ends; grows again, slowly where it was too much. */
export function createMemoryGuard({ base, own, width: first, jitter }: MemoryGuardOptions): { look(used: number): MemoryAdvice } {
  const high = Math.max(0.82 - 0.06 * jitter, base + 0.1);
  const calm = high - 0.12;
  const nearlyFull = Math.max(0.93, base + 0.2);
  const full = Math.max(1, base + 0.3);
  let width = first;
  let knownWidth = first;
  /** When it became too much: how much was done at once, and the most that was in use since. */
  let troubledWidth = first;
  let troubledUsed = 0;
  let highLooks = 0;
  let fullLooks = 0;
  let calmLooks = 0;

  function end(used: number): MemoryAdvice["end"] {
    if (!own) return null;
    if (fullLooks >= 2) return "kill";
    const hasGrown = used - base > 0.25;
    return hasGrown && highLooks >= (used >= nearlyFull ? restartSoonLooks : restartLooks) ? "restart" : null;
  }

  /** What took so much is taken to grow with what is done at once, unless doing less has not helped. */
  function fits(): number {
    if (highLooks >= restartLooks) return troubledWidth;
    const part = (calm - base) / Math.max(troubledUsed - base, calm - base);
    return Math.max(widthMin, troubledWidth * part);
  }

  function grow(): void {
    if (calmLooks < (width < knownWidth ? calmLooksMin : calmLooksBeyond)) return;
    width = width < knownWidth ? Math.min(knownWidth, width * 1.5) : Math.min(1, width * 1.25);
    knownWidth = Math.max(knownWidth, width);
    calmLooks = 0;
  }

  return {
    look(used) {
      highLooks = used >= high ? highLooks + 1 : 0;
      fullLooks = used >= full ? fullLooks + 1 : 0;
      calmLooks = used < calm ? calmLooks + 1 : 0;
      if (highLooks === 1) {
        knownWidth = Math.max(widthMin, width * belowTrouble);
        troubledWidth = width;
        troubledUsed = 0;
      }
      troubledUsed = Math.max(troubledUsed, used);
      if (highLooks > 0) width = Math.max(widthMin, width / 2);
      else if (width < 1) grow();
      return { width, giveBack: giveBackLooks.includes(highLooks), end: end(used), fits: fits() };
    },
  };
}
