import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { divided, dividedWhole, steady } from "../../orchestrator/service/host-shares.ts";

const wants = fc.array(fc.double({ min: 0, max: 1000, noNaN: true }), { minLength: 1, maxLength: 40 });
const sum = (values: readonly number[]) => values.reduce((all, value) => all + value, 0);
const check = (property: fc.IRawProperty<unknown>) => fc.assert(property as fc.IProperty<unknown>, process.env["SPLITRUN_SEED"] === undefined ? {} : { seed: Number(process.env["SPLITRUN_SEED"]) });

describe("what is divided", () => {
  test("goes out whole, and no one gets less than it wants while another gets more than an even share and its wish", () => {
    check(fc.property(fc.double({ min: 0.5, max: 1000, noNaN: true }), wants, (total, wanted) => {
      const shares = divided(total, wanted);
      expect(sum(shares)).toBeCloseTo(total, 6);
      const even = total / wanted.length;
      shares.forEach((share, at) => {
        expect(share).toBeGreaterThan(0);
        expect(share).toBeGreaterThanOrEqual(Math.min(wanted[at] ?? 0, even) * (1 - 1e-9));
      });
    }));
  });

  test("is even among equals", () => {
    expect(divided(12, [50, 50, 50])).toEqual([4, 4, 4]);
    expect(divided(12, [0, 0, 0])).toEqual([4, 4, 4]);
  });

  test("leaves a part to those that want nothing, so that they can start", () => {
    expect(divided(16, [0, 100, 100, 100])).toEqual([1, 5, 5, 5]);
  });

  test("in whole numbers, goes out whole too; where there is not one for each, those that hold one keep it", () => {
    check(fc.property(fc.integer({ min: 1, max: 500 }), wants, (total, wanted) => {
      const shares = dividedWhole(total, wanted, wanted.map(() => null));
      expect(sum(shares)).toBe(total);
      expect(shares.every((share) => Number.isInteger(share) && share >= 0)).toBe(true);
    }));
    expect(dividedWhole(2, [9, 9, 9, 9], [0, 1, 0, 1])).toEqual([0, 1, 0, 1]);
    expect(dividedWhole(2, [9, 0, 9, 0], [0, 1, 0, 1])).toEqual([1, 0, 1, 0]);
  });

  test("is left as it is where little has changed, never above the sum", () => {
    expect(steady([5, 5], [5.2, 4.8], 10)).toEqual([5, 5]);
    expect(steady([5, 5], [8, 2], 10)).toEqual([8, 2]);
    expect(steady([5, 5, null], [4.5, 4.5, 1], 10)).toEqual([4.5, 4.5, 1]);
  });
});
