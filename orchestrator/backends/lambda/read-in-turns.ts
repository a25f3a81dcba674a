import type { Readable } from "node:stream";
import type { LoopTurns } from "./loop-turns.ts";

/** What is read in one go, one unit of weight; a larger piece is heavier. */
const bytesAWeight = 16_384;

/**
 * Gives a stream's pieces to `take`, each when the event loop has a turn for it. Resolves once the stream has ended and all
 * of it was taken. By events: an async iterator of the stream costs twice as much a piece.
 * @throws what the stream or `take` throws; the piece that waited when the stream broke has been taken by then
 */
export function readInTurns(body: Readable, turns: LoopTurns, take: (piece: Buffer) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    let waiting: Buffer | null = null;
    let isOver = false;

    const over = (error: unknown): void => {
      if (isOver) return;
      isOver = true;
      if (error === null) return resolve();
      body.destroy();
      reject(error as Error);
    };
    const takeOne = (piece: Buffer): void => {
      if (isOver) return;
      try {
        take(piece);
      } catch (error) {
        over(error);
      }
    };
    const takeWaiting = (): void => {
      const piece = waiting;
      waiting = null;
      if (piece !== null) takeOne(piece);
    };

    body.on("data", (piece: Buffer) => {
      const turn = turns.takeToEnd(1 + Math.floor(piece.length / bytesAWeight));
      if (turn === undefined) return takeOne(piece);
      // Paused, it gives no other before this one is taken.
      body.pause();
      waiting = piece;
      void turn.then(() => {
        takeWaiting();
        body.resume();
      });
    });
    const end = (error: unknown) => {
      takeWaiting();
      over(error);
    };
    // It may have broken before anybody listened.
    if (body.destroyed) return end(body.errored ?? new Error("premature close"));
    body.once("end", () => end(null));
    body.once("error", end);
    body.once("close", () => {
      if (!isOver) end(new Error("premature close"));
    });
  });
}
