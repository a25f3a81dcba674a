import { PassThrough, Readable } from "node:stream";
import { setImmediate as nextTurn } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { LoopTurns } from "../../../orchestrator/backends/lambda/loop-turns.ts";
import { readInTurns } from "../../../orchestrator/backends/lambda/read-in-turns.ts";

const pieces = (count: number) => Array.from({ length: count }, (_, nth) => Buffer.from(`${nth}`));

describe("a stream is read in turns of the event loop", () => {
  test("all of it, in order, however few turns there are", async () => {
    const taken: string[] = [];
    await readInTurns(Readable.from(pieces(50)), new LoopTurns(1), (piece) => taken.push(piece.toString()));
    expect(taken).toEqual(pieces(50).map(String));
  });

  test("many at once: no more in one turn than there is room for, and none is left out", async () => {
    const turns = new LoopTurns(4);
    let inTurn = 0;
    let most = 0;
    let reading = true;
    const counting = (async () => {
      for (; reading; inTurn = 0) {
        await nextTurn();
        most = Math.max(most, inTurn);
      }
    })();
    const counts = await Promise.all(Array.from({ length: 20 }, async () => {
      let count = 0;
      await readInTurns(Readable.from(pieces(20)), turns, () => {
        count += 1;
        inTurn += 1;
      });
      return count;
    }));
    reading = false;
    await counting;
    expect(counts).toEqual(new Array<number>(20).fill(20));
    // The turns and the counting have each a place of their own in a turn of the loop: two may fall together.
    expect(most).toBeLessThanOrEqual(8);
  });

  test("what came before the stream broke is taken, also where it waited for a turn", async () => {
    const turns = new LoopTurns(1);
    await turns.takeToEnd(1);
    const body = new PassThrough();
    const taken: string[] = [];
    const reading = readInTurns(body, turns, (piece) => taken.push(piece.toString()));
    body.once("pause", () => body.destroy(new Error("cut")));
    body.write("last words");
    await expect(reading).rejects.toThrow("cut");
    expect(taken).toEqual(["last words"]);
  });

  test("a stream that is closed without an end is cut", async () => {
    const body = new PassThrough();
    const reading = readInTurns(body, new LoopTurns(4), () => undefined);
    body.destroy();
    await expect(reading).rejects.toThrow("premature close");
  });

  test("one that broke before it was read is broken", async () => {
    const broken = new PassThrough().on("error", () => undefined);
    broken.destroy(new Error("reset"));
    const closed = new PassThrough();
    closed.destroy();
    await nextTurn();
    await expect(readInTurns(broken, new LoopTurns(4), () => undefined)).rejects.toThrow("reset");
    await expect(readInTurns(closed, new LoopTurns(4), () => undefined)).rejects.toThrow("premature close");
  });

  test("what cannot be taken ends the reading, and the stream", async () => {
    const body = new PassThrough();
    body.write("one");
    body.write("two");
    let count = 0;
    await expect(readInTurns(body, new LoopTurns(4), () => {
      count += 1;
      throw new Error("no message");
    })).rejects.toThrow("no message");
    expect(body.destroyed).toBe(true);
    expect(count).toBe(1);
  });
});
