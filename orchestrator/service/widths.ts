import type { ExitInfo } from "../backends/types.ts";

/** Of what one began with that ran out of memory and could not say what would have fitted. */
const lessBlindly = 1 / 2;
/** Less than that at once is not believed. */
const lessAtMost = 1 / 4;
const widthMin = 1 / 64;

/** What is known of one Task Manager. */
export interface MemberMemory {
  readonly beganWith: number;
  /** As it said last. */
  width: number;
  /** It said that it ends for lack of memory. */
  ends: boolean;
}

/**
 * How much of what they could do at once the Task Managers of a run begin with: less after one that ran out of memory,
 * lest each finds out for itself what was too much for the one before it; more again as they get on with it.
 */
export class Widths {
  #next = 1;

  get next(): number {
    return this.#next;
  }

  joined(beganWith: number): MemberMemory {
    return { beganWith, width: beganWith, ends: false };
  }

  heard(member: MemberMemory, { width, ends }: { readonly width: number; readonly ends: boolean }): void {
    member.width = width;
    member.ends ||= ends;
    // Those that began with more say nothing of what is too much to begin with.
    if (!ends && member.beganWith <= this.#next) this.#next = Math.max(this.#next, width);
  }

  /** Returns whether it ran out of memory. A kill that nobody explains tells so where it was short of it before. */
  gone(member: MemberMemory, { signal, outOfMemory = false }: ExitInfo): boolean {
    const ranOut = member.ends || outOfMemory || (signal === "SIGKILL" && member.width < 1);
    if (!ranOut) return false;
    const less = member.ends ? Math.max(member.width, member.beganWith * lessAtMost) : member.beganWith * lessBlindly;
    this.#next = Math.max(widthMin, Math.min(this.#next, less));
    return true;
  }
}
