import type { FaultMaker } from "./faults.ts";
import type { JsonValue, Ranges } from "./protocol.ts";
import type { WorkError, WorkItem } from "./tasks/types.ts";

/** One `assign` message. */
export interface AssignedItems {
  readonly assignment: number;
  readonly items: Ranges;
  readonly inputs: readonly JsonValue[];
  /** From the last item to the first. */
  readonly reversed: boolean;
  /** One in flight at a time. */
  readonly apart: boolean;
  /** Those of `items` that no fault strikes any more. */
  readonly triedBefore: Ranges;
}

export interface SupplyOptions {
  /** null: none are made. */
  readonly faults: FaultMaker | null;
  /** Items held up on purpose at once; while there are as many, no other is handed out. */
  readonly heldUpMax: number;
  /** An item ends as an error before anybody sees it. */
  fail(item: WorkItem, error: WorkError): void;
  /** There is something to take again. */
  wake(): void;
}

/** What nobody has taken yet: assignments in the order of their receipt, items in the working order of theirs. */
export interface Supply {
  readonly waiting: number;
  add(assigned: AssignedItems): void;
  take(): WorkItem | undefined;
  /** It ended or came back; where it had to be alone, the next may follow. */
  ended(item: WorkItem): void;
  /** The last `count` of an assignment, in working order. */
  takeBack(assignment: number, count: number): WorkItem[];
  close(): void;
}

interface Line {
  readonly reversed: boolean;
  readonly apart: boolean;
  /** Ascending; those of [head, tail) are here still. */
  readonly items: WorkItem[];
  head: number;
  tail: number;
}

export function createSupply({ faults, heldUpMax, fail, wake }: SupplyOptions): Supply {
  const lines = new Map<number, Line>();
  const heldUp = new Map<WorkItem, NodeJS.Timeout>();
  let heldUpLongEnough: WorkItem[] = [];
  let waiting = 0;
  let alone: WorkItem | undefined;

  function next(): WorkItem | undefined {
    for (const [id, line] of lines) {
      const item = line.reversed ? line.items[--line.tail] : line.items[line.head++];
      if (line.head >= line.tail) lines.delete(id);
      if (item === undefined) continue;
      waiting -= 1;
      if (line.apart) alone = item;
      return item;
    }
    return undefined;
  }

  /** True: it is not to be handed out now. */
  function strike(item: WorkItem, maker: FaultMaker): boolean {
    const fault = maker.strike(item);
    if (fault === null) return false;
    if (fault.kind === "exception") fail(item, { code: "INJECTED_FAULT", stage: "run", message: "an exception made on purpose (faults.exceptionPercent)", retryable: true });
    else heldUp.set(item, setTimeout(() => release(item), fault.delayMs));
    return true;
  }

  function release(item: WorkItem): void {
    heldUp.delete(item);
    heldUpLongEnough.push(item);
    wake();
  }

  function takeHeldUp(assignment: number, count: number): WorkItem[] {
    const mine = [...heldUp.keys(), ...heldUpLongEnough].filter((item) => item.assignment === assignment);
    const back = mine.slice(Math.max(0, mine.length - count));
    for (const item of back) {
      clearTimeout(heldUp.get(item));
      heldUp.delete(item);
    }
    heldUpLongEnough = heldUpLongEnough.filter((item) => !back.includes(item));
    return back;
  }

  return {
    get waiting() {
      return waiting + heldUpLongEnough.length;
    },
    add({ assignment, items, inputs, reversed, apart, triedBefore }) {
      const tried = new Set(indexesOf(triedBefore));
      const line = lines.get(assignment) ?? { reversed, apart, items: [], head: 0, tail: 0 };
      line.items.length = line.tail;
      let at = 0;
      for (let pair = 0; pair < items.length; pair += 2) {
        for (let index = items[pair] ?? 0; index < (items[pair + 1] ?? 0); index++) {
          const item = { assignment, index, input: inputs[at++] ?? null };
          line.items.push(tried.has(index) ? { ...item, triedBefore: true } : item);
        }
      }
      waiting += line.items.length - line.tail;
      line.tail = line.items.length;
      if (line.head < line.tail) lines.set(assignment, line);
    },
    take() {
      const ready = heldUpLongEnough.shift();
      if (ready !== undefined) return ready;
      while (alone === undefined && heldUp.size < heldUpMax) {
        const item = next();
        if (item === undefined || faults === null || !strike(item, faults)) return item;
      }
      return undefined;
    },
    ended(item) {
      if (item !== alone) return;
      alone = undefined;
      setImmediate(wake);
    },
    takeBack(assignment, count) {
      const line = lines.get(assignment);
      if (line === undefined) return takeHeldUp(assignment, count);
      const number = Math.min(count, line.tail - line.head);
      const back = line.reversed ? line.items.slice(line.head, line.head + number) : line.items.slice(line.tail - number, line.tail);
      if (line.reversed) line.head += number;
      else line.tail -= number;
      if (line.head >= line.tail) lines.delete(assignment);
      waiting -= number;
      return number < count ? [...back, ...takeHeldUp(assignment, count - number)] : back;
    },
    close() {
      for (const timer of heldUp.values()) clearTimeout(timer);
    },
  };
}

function* indexesOf(ranges: Ranges): Generator<number, void, undefined> {
  for (let pair = 0; pair < ranges.length; pair += 2) for (let index = ranges[pair] ?? 0; index < (ranges[pair + 1] ?? 0); index++) yield index;
}
