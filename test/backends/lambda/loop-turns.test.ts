import { setImmediate as nextTurn } from "node:timers/promises";
import { expect, test } from "vitest";
import { LoopTurns } from "../../../orchestrator/backends/lambda/loop-turns.ts";

/** How many are done after each turn of the event loop. */
async function doneByTurn(turns: LoopTurns, weights: readonly number[]): Promise<readonly number[]> {
  const done: number[] = [];
  const all = weights.map(async (weight, number) => {
    await turns.takeToEnd(weight);
    done.push(number);
  });
  const counts: number[] = [];
  while (done.length < weights.length) {
    await Promise.resolve();
    counts.push(done.length);
    await nextTurn();
  }
  await Promise.all(all);
  counts.push(done.length);
  expect(done).toEqual([...done].sort((a, b) => a - b));
  return counts;
}

test("so much work is done in one turn of the event loop, the rest in the next ones, in order", async () => {
  const counts = await doneByTurn(new LoopTurns(4), new Array<number>(20).fill(1));
  expect(counts[0]).toBe(4);
  for (const [turn, count] of counts.entries()) expect(count - (counts[turn - 1] ?? 0)).toBeLessThanOrEqual(4);
  expect(counts.length).toBeGreaterThanOrEqual(5);
});

test("heavy work is let in alone rather than never", async () => {
  const counts = await doneByTurn(new LoopTurns(4), [100, 100, 100]);
  expect(counts[0]).toBe(1);
  expect(counts.length).toBeGreaterThanOrEqual(3);
});

test("work that comes singly waits for nothing", async () => {
  const turns = new LoopTurns(4);
  for (let number = 0; number < 10; number++) {
    expect(turns.takeToEnd(1)).toBeUndefined();
    await nextTurn();
    await nextTurn();
  }
});

test("a long queue is worked off without keeping what is done", async () => {
  const counts = await doneByTurn(new LoopTurns(500), new Array<number>(5000).fill(1));
  expect(counts.at(-1)).toBeLessThanOrEqual(5000);
});

test("what ends work goes before what begins some, however long that has waited, and then all of it begins", async () => {
  const turns = new LoopTurns(1);
  const order: string[] = [];
  const all: (Promise<void> | undefined)[] = [turns.takeToEnd(1)];
  for (let number = 0; number < 3; number++) all.push(turns.takeToBegin(1)?.then(() => void order.push(`begin ${number}`)));
  for (let number = 0; number < 5; number++) {
    all.push(turns.takeToEnd(1)?.then(() => void order.push(`end ${number}`)));
    await nextTurn();
  }
  await Promise.all(all);
  expect(order).toEqual([..."01234"].map((number) => `end ${number}`).concat([..."012"].map((number) => `begin ${number}`)));
});
