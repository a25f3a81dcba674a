import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Bits } from "../../orchestrator/scheduler/bits.ts";
import { GroupQueue, freshHistory } from "../../orchestrator/scheduler/groups.ts";
import { ascending, countOf, indexesOf, intersection, isAscending, rangesFromSorted, without } from "../../orchestrator/scheduler/ranges.ts";

const indexes = fc.uniqueArray(fc.nat(300), { maxLength: 100 }).map((list) => list.sort((a, b) => a - b));

describe("ranges", () => {
  test("hold the indexes that they were made of", () => {
    fc.assert(
      fc.property(indexes, (list) => {
        const ranges = rangesFromSorted(list);
        expect([...indexesOf(ranges)]).toEqual(list);
        expect(countOf(ranges)).toBe(list.length);
        expect(isAscending(ranges)).toBe(true);
      }),
    );
  });

  test("without others are what is left", () => {
    fc.assert(
      fc.property(indexes, fc.nat(100), fc.nat(200), (taken, first, count) => {
        const expected = Array.from({ length: count }, (_, at) => first + at).filter((index) => !taken.includes(index));
        expect([...indexesOf(without(first, first + count, rangesFromSorted(taken)))]).toEqual(expected);
      }),
    );
  });

  test("that meet others have in common what is in both", () => {
    fc.assert(
      fc.property(indexes, indexes, (one, other) => {
        expect(intersection(rangesFromSorted(one), rangesFromSorted(other))).toEqual(rangesFromSorted(one.filter((index) => other.includes(index))));
      }),
    );
  });

  test("come into order whatever order they were in", () => {
    fc.assert(
      fc.property(indexes, fc.nat(), (list, turn) => {
        const pairs = list.map((index) => [index, index + 1]);
        const turned = [...pairs.slice(turn % (pairs.length + 1)), ...pairs.slice(0, turn % (pairs.length + 1))];
        expect(ascending(turned.flat())).toEqual(rangesFromSorted(list));
      }),
    );
  });
});

test("bits are a set, also over the borders of words", () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.boolean(), fc.nat(200), fc.nat(100)), { maxLength: 20 }), fc.nat(300), (changes, from) => {
      const bits = new Bits(400);
      const expected = new Set<number>();
      for (const [add, first, count] of changes) {
        if (add) bits.add(first, first + count);
        else bits.remove(first, first + count);
        for (let at = first; at < first + count; at++) {
          if (add) expected.add(at);
          else expected.delete(at);
        }
      }
      for (let at = 0; at < 400; at++) expect(bits.has(at)).toBe(expected.has(at));
      const members = [...expected].filter((at) => at >= from).sort((a, b) => a - b);
      expect(bits.nextMember(from, 400)).toBe(members[0] ?? 400);
      let gap = from;
      while (expected.has(gap)) gap += 1;
      expect(bits.nextGap(from, 400)).toBe(gap);
    }),
  );
});

test("bits grow when asked to hold more", () => {
  const bits = new Bits(1);
  bits.add(100_000, 100_003);
  expect([bits.has(99_999), bits.has(100_000), bits.nextMember(0, 200_000), bits.nextGap(100_000, 200_000)]).toEqual([false, true, 100_000, 100_003]);
});

test("a queue of groups gives all of them in order, with their hosts and weights", () => {
  fc.assert(
    fc.property(fc.array(indexes, { maxLength: 5 }), fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1 }), (lists, sizes) => {
      const queue = new GroupQueue();
      for (const list of lists) {
        queue.push({ ranges: rangesFromSorted(list), count: list.length, hosts: Uint32Array.from(list), weights: Float64Array.from(list, (index) => index + 1), history: freshHistory });
      }
      const taken: number[] = [];
      for (let turn = 0; queue.count > 0; turn++) {
        const group = queue.take(sizes[turn % sizes.length] ?? 1, Infinity);
        const part = [...indexesOf(group?.ranges ?? [])];
        expect([...(group?.hosts ?? [])]).toEqual(part);
        expect([...(group?.weights ?? [])]).toEqual(part.map((index) => index + 1));
        taken.push(...part);
      }
      expect(taken).toEqual(lists.flat());
      expect(queue.weight).toBe(0);
    }),
  );
});
