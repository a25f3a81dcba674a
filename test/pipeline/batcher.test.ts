import { describe, expect, test } from "vitest";
import { createBatcher, type Batcher, type BatcherOptions, type Place } from "../../task-manager/pipeline/batcher.ts";

const length = 2;

function batcher(changes: Partial<BatcherOptions> = {}): Batcher<string> {
  const rowsMax = changes.rowsMax ?? 3;
  return createBatcher<string>({
    rowsMax, slotsMax: 2, waitMs: 50, awayEnough: 1, createInputData: () => new Float32Array(rowsMax * length), ...changes,
  });
}

function reserve(into: Batcher<string>, name: string): Place<string> {
  const place = into.reserve(name);
  if (place === undefined) throw new Error(`no room for ${name}`);
  return place;
}

/** Reserves and fills; the pixels are the code of the name's first letter. */
function fill(into: Batcher<string>, name: string, nowMs: number): void {
  const place = reserve(into, name);
  place.target.fill(name.charCodeAt(0));
  into.filled(place, nowMs);
}

const letters = (data: ArrayLike<number>, rows: number) => Array.from({ length: rows }, (_, row) => String.fromCharCode(data[row * length] ?? 0));

describe("a batch", () => {
  test("leaves once it is full, and not while an image of it is under way", () => {
    const into = batcher();
    fill(into, "a", 0);
    const slow = reserve(into, "b");
    fill(into, "c", 0);
    expect(into.leaving(0, false)).toEqual([]);
    into.filled(slow, 1);
    expect(into.leaving(1, false).map(({ items }) => items)).toEqual([["a", "b", "c"]]);
  });

  test("has its images in the rows of its items", () => {
    const into = batcher();
    for (const name of ["a", "b", "c"]) fill(into, name, 0);
    const [batch] = into.leaving(0, false);
    expect(letters(batch?.pixels ?? [], 3)).toEqual(["a", "b", "c"]);
  });

  test("closes ranks where an image failed and nothing took its row", () => {
    const into = batcher();
    const bad = reserve(into, "x");
    fill(into, "b", 0);
    fill(into, "c", 0);
    into.failed(bad);
    const [batch] = into.leaving(0, true);
    expect(batch?.items).toEqual(["b", "c"]);
    expect(letters(batch?.pixels ?? [], 2)).toEqual(["b", "c"]);
  });

  test("gives the row of a failed image to the next one", () => {
    const into = batcher();
    const bad = reserve(into, "x");
    fill(into, "b", 0);
    fill(into, "c", 0);
    into.failed(bad);
    fill(into, "d", 0);
    expect(into.leaving(0, false)[0]?.items).toEqual(["d", "b", "c"]);
  });
});

describe("a part-full batch", () => {
  test("leaves when no further image is coming", () => {
    const into = batcher();
    fill(into, "a", 0);
    expect(into.leaving(0, false)).toEqual([]);
    expect(into.leaving(0, true)[0]?.items).toEqual(["a"]);
  });

  test("leaves after the waiting time, if inference has nothing to do", () => {
    const into = batcher();
    fill(into, "a", 10);
    expect(into.dueMs).toBe(60);
    expect(into.leaving(59, false)).toEqual([]);
    expect(into.leaving(60, false)[0]?.items).toEqual(["a"]);
  });

  test("goes on growing while inference is busy", () => {
    const into = batcher();
    for (const name of ["a", "b", "c"]) fill(into, name, 0);
    const [away] = into.leaving(0, false);
    fill(into, "d", 0);
    expect(into.dueMs).toBeNull();
    expect(into.leaving(1000, false)).toEqual([]);
    into.giveBack(away?.pixels ?? new Float32Array());
    expect(into.leaving(1000, false)[0]?.items).toEqual(["d"]);
  });

  test("once overdue takes no further image, and leaves when those under way are in it", () => {
    const into = batcher();
    fill(into, "a", 0);
    const slow = reserve(into, "b");
    expect(into.leaving(50, false)).toEqual([]);
    expect(reserve(into, "c").slot).not.toBe(slow.slot);
    into.filled(slow, 51);
    expect(into.leaving(51, false)[0]?.items).toEqual(["a", "b"]);
  });
});

test("there are never more buffers than allowed, and those that come back are used again", () => {
  let made = 0;
  const into = batcher({ rowsMax: 1, slotsMax: 2, createInputData() { made += 1; return new Float32Array(length); } });
  for (let round = 0; round < 10; round++) {
    fill(into, "a", 0);
    fill(into, "b", 0);
    expect(into.reserve("c")).toBeUndefined();
    const batches = into.leaving(0, false);
    expect(batches).toHaveLength(2);
    expect(into.reserve("c")).toBeUndefined();
    for (const { pixels } of batches) into.giveBack(pixels);
  }
  expect(made).toBe(2);
});
