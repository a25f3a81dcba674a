import { describe, expect, test } from "vitest";
import { Turns, type Contender } from "../../orchestrator/service/turns.ts";

type Name = string;

const contender = (more: Partial<Contender> = {}): Contender => ({ share: 1, priority: 0, wanted: 8, taskManagersMax: 8, held: 0, allowance: 0, ...more });

/** Divides every 100 ms as if what is allowed were taken at once, and counts the time that each had. */
function timeOf(turns: Turns<Name>, runs: Readonly<Record<Name, Partial<Contender>>>, totalMs: number): Readonly<Record<Name, number>> {
  const names = Object.keys(runs);
  const had = Object.fromEntries(names.map((name) => [name, 0]));
  let shares: readonly number[] = names.map(() => 0);
  for (let nowMs = 0; nowMs < totalMs; nowMs += 100) {
    const contenders = new Map(names.map((name, at) => [name, contender({ ...runs[name], held: shares[at] ?? 0, allowance: shares[at] ?? 0 })]));
    shares = turns.divide(contenders, nowMs).shares;
    for (const [at, name] of names.entries()) had[name] = (had[name] ?? 0) + (shares[at] ?? 0) * 100;
  }
  return had;
}

describe("runs take turns", () => {
  test("one alone may have all that it can ever use, and nothing changes by itself", () => {
    expect(new Turns<Name>(4).divide(new Map([["a", contender({ wanted: 1 })]]), 0)).toEqual({ shares: [4], againInMs: null });
  });

  test("what nobody can use stays with whoever has it", () => {
    const contenders = new Map([
      ["nearly done", contender({ wanted: 1, held: 3, allowance: 3 })],
      ["nearly done too", contender({ wanted: 1, held: 1, allowance: 1 })],
    ]);
    expect(new Turns<Name>(4).divide(contenders, 0).shares).toEqual([3, 1]);
  });

  test("a new run gets its part at once, and the next turn where there is only one Task Manager", () => {
    const turns = new Turns<Name>(1);
    const huge = contender({ held: 1, allowance: 1 });
    expect(turns.divide(new Map([["huge", huge]]), 0).shares).toEqual([1]);
    expect(turns.divide(new Map([["huge", huge], ["small", contender({ wanted: 1 })]]), 1).shares).toEqual([0, 1]);
  });

  test("a run keeps its turn for a while, whoever comes", () => {
    const turns = new Turns<Name>(1);
    const contenders = new Map([["a", contender()], ["b", contender()]]);
    const [first] = turns.divide(contenders, 0).shares;
    expect(first).toBe(1);
    const having = new Map([["a", contender({ held: 1, allowance: 1 })], ["b", contender()], ["c", contender()]]);
    expect(turns.divide(having, 100).shares).toEqual([1, 0, 0]);
    expect(turns.divide(having, 10_000).shares[0]).toBe(0);
  });

  test("twenty runs on three Task Managers each have their share of the time within a tenth", () => {
    const runs = Object.fromEntries(Array.from({ length: 20 }, (_, at) => [`run-${at}`, { share: at < 10 ? 1 : 3 }]));
    const totalMs = 600_000;
    const had = timeOf(new Turns<Name>(3), runs, totalMs);
    for (const [name, { share }] of Object.entries(runs)) {
      const due = (totalMs * 3 * share) / 40;
      expect(Math.abs((had[name] ?? 0) - due) / due, name).toBeLessThan(0.1);
    }
  });

  test("where starting takes long, turns are long", () => {
    const turns = new Turns<Name>(1);
    for (let starts = 0; starts < 50; starts++) turns.started(2_000);
    const { againInMs } = turns.divide(new Map([["a", contender()], ["b", contender()]]), 0);
    expect(againInMs).toBeGreaterThan(15_000);
    const contenders = new Map([["a", contender()], ["b", contender()], ["c", contender({ wanted: 1 })]]);
    const oneOfMany = new Turns<Name>(8);
    for (let starts = 0; starts < 50; starts++) oneOfMany.started(2_000);
    expect(oneOfMany.divide(contenders, 0).againInMs).toBeLessThan(7_000);
  });

  test("a lower priority has no turn while a higher one can use everything", () => {
    const had = timeOf(new Turns<Name>(2), { urgent: { priority: 1 }, other: {} }, 100_000);
    expect(had).toEqual({ urgent: 200_000, other: 0 });
  });
});
