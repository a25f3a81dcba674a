import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { quotasOf, sharesOf, type Claim } from "../../orchestrator/scheduler/shares.ts";

const claim = (wanted: number, share = 1, priority = 0): Claim => ({ wanted, share, priority });

describe("Task Managers are shared among jobs", () => {
  test("a job alone gets what it wants, up to the maximum", () => {
    expect(sharesOf([claim(3)], 8)).toEqual([3]);
    expect(sharesOf([claim(100)], 8)).toEqual([8]);
    expect(sharesOf([], 8)).toEqual([]);
  });

  test("by their shares, while all want more", () => {
    expect(sharesOf([claim(100, 1), claim(100, 2), claim(100, 3)], 12)).toEqual([2, 4, 6]);
  });

  test("a small job gets all that it wants, and a huge one what is left", () => {
    expect(sharesOf([claim(1000), claim(2)], 8)).toEqual([6, 2]);
  });

  test("what one leaves goes to the others by their shares", () => {
    expect(sharesOf([claim(1, 5), claim(100, 1), claim(100, 2)], 10)).toEqual([1, 3, 6]);
  });

  test("a higher priority gets all that it can use, the others what is left", () => {
    expect(sharesOf([claim(100), claim(3, 1, 1), claim(100)], 8)).toEqual([3, 3, 2]);
    expect(sharesOf([claim(100), claim(100, 1, 1)], 8)).toEqual([0, 8]);
  });

  test("more jobs than Task Managers: those with the highest credit have their turn", () => {
    expect(sharesOf([claim(1), claim(1), claim(1)], 2, [0, 5, 1])).toEqual([0, 1, 1]);
    expect(sharesOf([claim(1), claim(1), claim(1)], 2)).toEqual([1, 1, 0]);
  });

  test("a credit buys no more than the fraction that is due", () => {
    expect(sharesOf([claim(10), claim(10), claim(10)], 8, [100, 0, 50])).toEqual([3, 2, 3]);
  });

  const claims = fc.array(
    fc.record({ share: fc.double({ min: 0.01, max: 100, noNaN: true }), priority: fc.integer({ min: 0, max: 2 }), wanted: fc.integer({ min: 0, max: 50 }) }),
    { maxLength: 30 },
  );
  const seed = { ...(process.env["SPLITRUN_SEED"] === undefined ? {} : { seed: Number(process.env["SPLITRUN_SEED"]) }) };

  test("whatever is wanted: nobody gets more than that, nothing is left while anybody wants more, no share is a whole Task Manager off its quota", () => {
    fc.assert(
      fc.property(claims, fc.integer({ min: 1, max: 200 }), fc.array(fc.double({ min: -10, max: 10, noNaN: true }), { minLength: 30, maxLength: 30 }), (jobs, max, credits) => {
        const quotas = quotasOf(jobs, max);
        const shares = sharesOf(jobs, max, credits);
        const wanted = jobs.reduce((sum, job) => sum + job.wanted, 0);
        expect(shares.reduce((sum, share) => sum + share, 0)).toBe(Math.min(max, wanted));
        for (const [at, share] of shares.entries()) {
          expect(share).toBeLessThanOrEqual(jobs[at]?.wanted ?? 0);
          expect(Math.abs(share - (quotas[at] ?? 0))).toBeLessThan(1);
        }
      }),
      seed,
    );
  });

  test("whatever is wanted: of two jobs of one priority, only one that has all it wants has less for its share", () => {
    fc.assert(
      fc.property(claims, fc.integer({ min: 1, max: 200 }), (jobs, max) => {
        const quotas = quotasOf(jobs, max);
        for (const [a, left] of jobs.entries()) {
          for (const [b, right] of jobs.entries()) {
            if (left.priority !== right.priority || (quotas[a] ?? 0) >= left.wanted - 1e-6) continue;
            expect((quotas[a] ?? 0) / left.share).toBeGreaterThanOrEqual((quotas[b] ?? 0) / right.share - 1e-6);
          }
        }
      }),
      seed,
    );
  });
});
