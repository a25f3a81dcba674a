import type { Ranges } from "../../task-manager/protocol.ts";

/** Appends [first, end); joined with the last range where they touch. */
export function pushRange(ranges: number[], first: number, end: number): void {
  const last = ranges.length - 1;
  if (last > 0 && ranges[last] === first) ranges[last] = end;
  else ranges.push(first, end);
}

/** Ranges of ascending indexes, none twice. */
export function rangesFromSorted(indexes: Iterable<number>): number[] {
  const ranges: number[] = [];
  for (const index of indexes) pushRange(ranges, index, index + 1);
  return ranges;
}

/** How many indexes the ranges hold. */
export function countOf(ranges: Ranges): number {
  let count = 0;
  for (let pair = 0; pair + 1 < ranges.length; pair += 2) count += (ranges[pair + 1] ?? 0) - (ranges[pair] ?? 0);
  return count;
}

export function eachRange(ranges: Ranges, visit: (first: number, end: number) => void): void {
  for (let pair = 0; pair + 1 < ranges.length; pair += 2) visit(ranges[pair] ?? 0, ranges[pair + 1] ?? 0);
}

export function* indexesOf(ranges: Ranges): Generator<number, void, undefined> {
  for (let pair = 0; pair + 1 < ranges.length; pair += 2) {
    const end = ranges[pair + 1] ?? 0;
    for (let index = ranges[pair] ?? 0; index < end; index++) yield index;
  }
}

/** The ranges in ascending order, touching ones joined. No index may be in two of them. */
export function ascending(ranges: Ranges): number[] {
  const pairs: [first: number, end: number][] = [];
  for (let pair = 0; pair + 1 < ranges.length; pair += 2) pairs.push([ranges[pair] ?? 0, ranges[pair + 1] ?? 0]);
  pairs.sort((a, b) => a[0] - b[0]);
  const sorted: number[] = [];
  for (const [first, end] of pairs) pushRange(sorted, first, end);
  return sorted;
}

export function isAscending(ranges: Ranges): boolean {
  for (let at = 1; at < ranges.length; at++) if ((ranges[at - 1] ?? 0) >= (ranges[at] ?? 0)) return false;
  return true;
}

/** What of [first, end) is not in `taken`, which is ascending. */
export function without(first: number, end: number, taken: Ranges): number[] {
  const left: number[] = [];
  let at = first;
  for (let pair = 0; pair + 1 < taken.length; pair += 2) {
    const from = taken[pair] ?? 0;
    if (from > at) pushRange(left, at, Math.min(from, end));
    at = Math.max(at, taken[pair + 1] ?? 0);
    if (at >= end) return left;
  }
  if (at < end) left.push(at, end);
  return left;
}

/** What is in both; both ascending. */
export function intersection(one: Ranges, other: Ranges): number[] {
  const both: number[] = [];
  let at = 0;
  eachRange(one, (first, end) => {
    while (at + 1 < other.length && (other[at + 1] ?? 0) <= first) at += 2;
    for (let pair = at; pair + 1 < other.length && (other[pair] ?? 0) < end; pair += 2) {
      pushRange(both, Math.max(first, other[pair] ?? 0), Math.min(end, other[pair + 1] ?? 0));
    }
  });
  return both;
}
