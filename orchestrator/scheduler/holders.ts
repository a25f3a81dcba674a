import type { ItemErrorCode, Stage } from "../../task-manager/protocol.ts";
import type { Assignment } from "./assignment.ts";
import { indexesOf } from "./ranges.ts";
import { partition, type Group } from "./groups.ts";

interface Pair {
  readonly original: Assignment;
  readonly copy: Assignment;
}

/** How one of two holders failed an item that the other went on with. */
export interface FailedTry {
  readonly code: ItemErrorCode;
  readonly stage: Stage;
}

/** Items that two assignments hold, never more: a try that is made twice at once, and counts once. */
export class Holders {
  readonly #pairs = new Map<number, Pair>();
  readonly #failed = new Map<number, FailedTry>();

  /** False on the usual path, where nothing of this needs to be looked at. */
  get any(): boolean {
    return this.#pairs.size > 0 || this.#failed.size > 0;
  }

  has(index: number): boolean {
    return this.#pairs.has(index);
  }

  /** The copy has the same items, or some of them. */
  share(original: Assignment, copy: Assignment): void {
    for (const index of indexesOf(copy.items)) {
      if (this.#pairs.has(index)) throw new Error(`item ${index} would have three holders`);
      this.#pairs.set(index, { original, copy });
    }
    original.shared += copy.count;
    copy.shared += copy.count;
  }

  /** The item has left one of its holders; returns the other one. */
  leave(index: number, assignment: Assignment): Assignment | null {
    const pair = this.#pairs.get(index);
    if (pair === undefined) return null;
    this.#pairs.delete(index);
    pair.original.shared -= 1;
    pair.copy.shared -= 1;
    return pair.original === assignment ? pair.copy : pair.original;
  }

  /** One of its holders has failed it; the other decides. */
  fail(index: number, failed: FailedTry): void {
    this.#failed.set(index, failed);
  }

  /** How a holder failed it before, if one did; forgotten now. */
  takeFailed(index: number): FailedTry | null {
    const failed = this.#failed.get(index) ?? null;
    if (failed !== null) this.#failed.delete(index);
    return failed;
  }

  /** What of a group that has left an assignment is at another one still, and what is not. */
  sift(group: Group, assignment: Assignment): { readonly held: Group | null; readonly free: Group | null } {
    if (this.#pairs.size === 0) return { held: null, free: group };
    const parts = partition(group, (index) => this.leave(index, assignment) !== null);
    return { held: parts.get(true) ?? null, free: parts.get(false) ?? null };
  }

  /** What of a group nobody has failed; the others, each with how. */
  siftFailed(group: Group): { readonly failed: readonly { readonly group: Group; readonly how: FailedTry }[]; readonly clean: Group | null } {
    if (this.#failed.size === 0) return { failed: [], clean: group };
    const parts = partition(group, (index) => this.takeFailed(index));
    const clean = parts.get(null) ?? null;
    const failed = [...parts].flatMap(([how, part]) => (how === null ? [] : [{ group: part, how }]));
    return { failed, clean };
  }
}
