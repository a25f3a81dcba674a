import type { ItemErrorCode, Stage } from "../../task-manager/protocol.ts";
import type { Assignment } from "./assignment.ts";
import { indexesOf } from "./ranges.ts";
import { partition, type Group } from "./groups.ts";

/** Whoever had the item first, then its copies: two, or three. */
type Together = readonly [original: Assignment, copy: Assignment, ...more: Assignment[]];

/** How one of several holders failed an item that another went on with. */
export interface FailedTry {
  readonly code: ItemErrorCode;
  readonly stage: Stage;
}

/**
 * Items that two assignments hold: a try that is made twice at once, and counts once. Three, where the first has not
 * come to the item: no more than two are at it when it is given to another.
 */
export class Holders {
  readonly #together = new Map<number, Together>();
  readonly #failed = new Map<number, FailedTry>();

  /** False on the usual path, where nothing of this needs to be looked at. */
  get any(): boolean {
    return this.#together.size > 0 || this.#failed.size > 0;
  }

  has(index: number): boolean {
    return this.#together.has(index);
  }

  /** Does it depend on this copy, since whoever it was copied from has not come to it? */
  isLeftTo(copy: Assignment, index: number): boolean {
    const together = this.#together.get(index);
    return together?.length === 2 && together[1] === copy && !together[0].hasBegun(index);
  }

  /** The copy has the same items, or some of them. */
  share(original: Assignment, copy: Assignment): void {
    for (const index of indexesOf(copy.items)) {
      const together = this.#together.get(index);
      if (together === undefined) original.shared += 1;
      else if (!this.isLeftTo(original, index)) throw new Error(`item ${index} would have too many holders`);
      this.#together.set(index, together === undefined ? [original, copy] : [together[0], original, copy]);
    }
    copy.shared += copy.count;
  }

  /** The item has left one of its holders; returns the others. */
  leave(index: number, assignment: Assignment): readonly Assignment[] {
    const others = this.#together.get(index)?.filter((each) => each !== assignment) ?? [];
    const [first, second] = others;
    if (first === undefined) return others;
    assignment.shared -= 1;
    if (second !== undefined) this.#together.set(index, [first, second]);
    else {
      this.#together.delete(index);
      first.shared -= 1;
    }
    return others;
  }

  /** One of its holders has failed it; the others decide. */
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
    if (this.#together.size === 0) return { held: null, free: group };
    const parts = partition(group, (index) => this.leave(index, assignment).length > 0);
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
