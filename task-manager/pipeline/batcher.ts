import type { InputData } from "./model.ts";

export interface BatcherOptions {
  /** Images of a full batch. */
  readonly rowsMax: number;
  /** Batches that exist at once: being filled, waiting, or in inference. */
  readonly slotsMax: number;
  /** A part-full batch leaves after this long, if inference has nothing else to do. */
  readonly waitMs: number;
  /** Batches away that keep inference busy. */
  readonly awayEnough: number;
  createInputData(): InputData;
}

/** A row of a slot, reserved for an item. */
export interface Place<T> {
  readonly slot: Slot<T>;
  readonly row: number;
  /** Where the item's pixels go. */
  readonly target: InputData;
}

export interface Slot<T> {
  readonly pixels: InputData;
  readonly items: (T | undefined)[];
  readonly freeRows: number[];
  /** Reserved and not yet filled. */
  pending: number;
  /** No more rows are given out: it leaves once those under way are filled. */
  leaving: boolean;
  firstFilledMs: number | null;
}

/** The filled rows come first, in the order of `items`. */
export interface Batch<T> {
  readonly pixels: InputData;
  readonly items: readonly T[];
}

/** Forms batches in a small pool of buffers: pixels are written once, straight to where inference reads them. */
export interface Batcher<T> {
  /** undefined: no room until a batch comes back. */
  reserve(item: T): Place<T> | undefined;
  filled(place: Place<T>, nowMs: number): void;
  /** The row is free for another item. */
  failed(place: Place<T>): void;
  /** Batches that leave now. `drained`: no further item is coming, so part-full ones leave too. */
  leaving(nowMs: number, drained: boolean): Batch<T>[];
  /** Batches that are begun from now on leave with so many rows filled, at most `rowsMax`. */
  narrow(rows: number): void;
  /** When a part-full batch will have waited long enough; null: none waits. */
  readonly dueMs: number | null;
  /** A batch has been through inference; its buffer is used again. */
  giveBack(pixels: InputData): void;
}

export function createBatcher<T>(options: BatcherOptions): Batcher<T> {
  const { rowsMax, slotsMax, waitMs, awayEnough } = options;
  const spare: InputData[] = [];
  let open: Slot<T>[] = [];
  let away = 0;
  let rowsNow = rowsMax;

  function openSlot(): Slot<T> | undefined {
    const usable = open.find((slot) => !slot.leaving && slot.freeRows.length > 0);
    if (usable !== undefined || open.length + away >= slotsMax) return usable;
    const slot: Slot<T> = {
      pixels: spare.pop() ?? options.createInputData(),
      items: Array.from({ length: rowsMax }, () => undefined),
      freeRows: Array.from({ length: rowsNow }, (_, row) => rowsNow - 1 - row),
      pending: 0,
      leaving: false,
      firstFilledMs: null,
    };
    open.push(slot);
    return slot;
  }

  function mayLeave(slot: Slot<T>, nowMs: number, drained: boolean): boolean {
    if (slot.firstFilledMs === null) return false;
    const overdue = nowMs >= slot.firstFilledMs + waitMs && away < awayEnough;
    // Rows under way are let in, but no further ones: else a steady trickle would hold the batch back.
    if (overdue) slot.leaving = true;
    return slot.pending === 0 && (slot.freeRows.length === 0 || slot.leaving || drained);
  }

  return {
    reserve(item) {
      const slot = openSlot();
      const row = slot?.freeRows.pop();
      if (slot === undefined || row === undefined) return undefined;
      slot.items[row] = item;
      slot.pending += 1;
      const length = slot.pixels.length / rowsMax;
      return { slot, row, target: slot.pixels.subarray(row * length, (row + 1) * length) };
    },
    filled({ slot }, nowMs) {
      slot.pending -= 1;
      slot.firstFilledMs ??= nowMs;
    },
    failed({ slot, row }) {
      slot.pending -= 1;
      slot.items[row] = undefined;
      slot.freeRows.push(row);
    },
    leaving(nowMs, drained) {
      const batches: Batch<T>[] = [];
      for (const slot of open) {
        if (!mayLeave(slot, nowMs, drained)) continue;
        away += 1;
        batches.push(closeRanks(slot, rowsMax));
      }
      if (batches.length > 0) open = open.filter((slot) => !batches.some(({ pixels }) => pixels === slot.pixels));
      return batches;
    },
    narrow(rows) {
      rowsNow = rows;
    },
    get dueMs() {
      if (away >= awayEnough) return null;
      const waiting = open.flatMap(({ firstFilledMs, leaving }) => (firstFilledMs === null || leaving ? [] : [firstFilledMs + waitMs]));
      return waiting.length === 0 ? null : Math.min(...waiting);
    },
    giveBack(pixels) {
      away -= 1;
      spare.push(pixels);
    },
  };
}

/** Moves the last filled rows into the gaps that failed items left. */
function closeRanks<T>({ pixels, items }: Slot<T>, rowsMax: number): Batch<T> {
  const length = pixels.length / rowsMax;
  const kept: T[] = [];
  items.forEach((item, row) => {
    if (item === undefined) return;
    if (kept.length !== row) pixels.copyWithin(kept.length * length, row * length, (row + 1) * length);
    kept.push(item);
  });
  return { pixels, items: kept };
}
