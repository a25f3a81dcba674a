import fc from "fast-check";
import { expect, test } from "vitest";
import { createPayloads } from "../../orchestrator/run/payloads.ts";

const step = fc.record({ kind: fc.constantFrom("add", "add", "get", "remove"), index: fc.oneof(fc.nat(200), fc.nat(2 ** 45)) });

test("what was read and has not ended is found by its index, in any order", () => {
  fc.assert(fc.property(fc.array(step, { maxLength: 400 }), (steps) => {
    const payloads = createPayloads();
    const model = new Map<number, { readonly input: string }>();
    for (const { kind, index } of steps) {
      const known = model.get(index);
      if (kind === "add" && known === undefined) {
        const item = { input: `photos/${index}.jpg` };
        model.set(index, item);
        payloads.add(index, item);
      }
      if (kind === "get") expect(payloads.get(index)).toBe(known);
      if (kind === "remove") {
        expect(payloads.remove(index)).toBe(known);
        model.delete(index);
      }
      expect(payloads.bytes).toBe([...model.values()].reduce((sum, { input }) => sum + input.length + 2, 0));
    }
    for (const [index, item] of model) expect(payloads.remove(index)).toBe(item);
    expect(payloads.bytes).toBe(0);
  }));
});
