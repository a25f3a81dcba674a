import { describe, expect, test } from "vitest";
import { createStalls } from "../../orchestrator/observe/stalls.ts";

function started(): { readonly stalls: ReturnType<typeof createStalls>; pass(ms: number): void } {
  let nowMs = 5_000;
  return { stalls: createStalls(() => nowMs), pass: (ms) => void (nowMs += ms) };
}

describe("a run that does not get on", () => {
  test("says once what its Task Managers failed with last", () => {
    const { stalls, pass } = started();
    stalls.failed("another");
    stalls.failed("Lambda cannot be reached");
    pass(9_999);
    expect(stalls.look()).toBeNull();
    pass(1);
    expect(stalls.look()).toMatch(/^No item has ended for 10 s: Lambda cannot be reached\. /);
    pass(60_000);
    expect(stalls.look()).toBeNull();
  });

  test("says it again after it went on in between", () => {
    const { stalls, pass } = started();
    stalls.failed("one");
    pass(10_000);
    stalls.look();
    stalls.stored();
    pass(20_000);
    expect(stalls.look()).toBeNull();
    stalls.failed("two");
    expect(stalls.look()).toMatch(/^No item has ended for 20 s: two\./);
  });

  test("says nothing where nothing fails: its items take long", () => {
    const { stalls, pass } = started();
    pass(3_600_000);
    expect(stalls.look()).toBeNull();
  });
});
