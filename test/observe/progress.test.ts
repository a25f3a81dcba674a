import type { WriteStream } from "node:tty";
import { describe, expect, test } from "vitest";
import { createProgressLine, duration, nothingYet, type Progress } from "../../orchestrator/observe/progress.ts";

const half: Progress = { ...nothingYet, items: 2000, succeeded: 990, failed: 10, itemsPerSecond: 123.4, leftMs: 8100, taskManagers: 2, elapsedMs: 20_000 };

function outOf(terminal: { readonly columns: number } | null): { readonly out: WriteStream; readonly said: string[] } {
  const said: string[] = [];
  const write = (text: string) => said.push(text) > 0;
  return { out: { write, isTTY: terminal !== null, ...terminal } as unknown as WriteStream, said };
}

const clear = "\r\x1b[K";

describe("on a terminal", () => {
  test("there is one line, written over, that is gone in the end; what is said stays above it", () => {
    const { out, said } = outOf({ columns: 120 });
    const line = createProgressLine(out);
    line.show(half);
    line.say("a note");
    line.show({ ...half, succeeded: 1490 });
    line.end();
    expect(said).toEqual([
      expect.stringContaining("50%  1,000 of 2,000 items · 123 items/s · 10 errors · 8.1 s left · 2 task managers"),
      clear, "a note\n", expect.stringMatching(/^▕█+░+▏ 75% {2}1,500 of 2,000 items/), clear,
    ]);
    expect(said.filter((text) => text.includes("\n"))).toEqual(["a note\n"]);
  });

  test.each([20, 40, 79, 80, 90, 100, 200])("of %i columns it is never too long, and its bar ends in one place", (columns) => {
    const lines = [half, { ...half, failed: 900_000, succeeded: 5_000_000, items: 12_000_000 }, { ...half, succeeded: 0, failed: 0, leftMs: null }].map((progress) => {
      const { out, said } = outOf({ columns });
      createProgressLine(out).show(progress);
      return said.join("");
    });
    for (const line of lines) expect(line.length).toBeLessThan(Math.max(columns, 40));
    expect(new Set(lines.map((line) => line.indexOf("▏"))).size).toBe(1);
  });
});

test("a terminal that does not say how wide it is has 80 columns", () => {
  const { out, said } = outOf({ columns: 0 });
  createProgressLine(out).show(half);
  expect(said.join("")).toContain("8.1 s left");
});

test("where there is no terminal, a plain line comes every ten seconds", () => {
  const { out, said } = outOf(null);
  const line = createProgressLine(out);
  for (let elapsedMs = 0; elapsedMs <= 25_000; elapsedMs += 200) line.show({ ...half, elapsedMs });
  line.end();
  expect(said).toEqual(Array(2).fill("50%  1,000 of 2,000 items · 123 items/s · 10 errors · 8.1 s left · 2 task managers\n"));
});

test.each([[0, "0 ms"], [999, "999 ms"], [9949, "9.9 s"], [9950, "10 s"], [59_499, "59 s"], [59_500, "1 min 0 s"], [119_700, "2 min 0 s"], [3_599_600, "1 h 0 min"], [90_061_000, "25 h 1 min"]])(
  "%i ms are %s",
  (ms, text) => expect(duration(ms)).toBe(text),
);
