import { expect, test } from "vitest";
import { Widths } from "../../orchestrator/service/widths.ts";

const killed = { exitCode: null, signal: "SIGKILL" };
const leftAsItSaid = { exitCode: 0, signal: null };

test("after one that ran out of memory the next one begins with what would have fitted, but with a quarter at least", () => {
  const widths = new Widths();
  for (const [said, next] of [[0.4, 0.4], [0.01, 0.1]] as const) {
    const member = widths.joined(widths.next);
    widths.heard(member, { width: said, ends: true });
    expect(widths.gone(member, leftAsItSaid)).toBe(true);
    expect(widths.next).toBeCloseTo(next);
  }
});

test("half of it where only its backend knows, or where it was short of memory and was killed", () => {
  const widths = new Widths();
  expect(widths.gone(widths.joined(1), { exitCode: null, signal: null, outOfMemory: true })).toBe(true);
  expect(widths.next).toBe(0.5);
  const member = widths.joined(widths.next);
  widths.heard(member, { width: 0.25, ends: false });
  expect(widths.gone(member, killed)).toBe(true);
  expect(widths.next).toBe(0.25);
});

test("any other end changes nothing", () => {
  const widths = new Widths();
  for (const end of [killed, leftAsItSaid, { exitCode: 1, signal: null }]) expect(widths.gone(widths.joined(1), end)).toBe(false);
  expect(widths.next).toBe(1);
});

test("it is more again as those that began with it get on, and not by those that began with more", () => {
  const widths = new Widths();
  const before = widths.joined(1);
  widths.gone(widths.joined(1), { exitCode: null, signal: null, outOfMemory: true });
  widths.heard(before, { width: 0.9, ends: false });
  expect(widths.next).toBe(0.5);
  widths.heard(widths.joined(0.5), { width: 0.625, ends: false });
  expect(widths.next).toBe(0.625);
});
