import fc from "fast-check";
import { expect, test } from "vitest";
import { lambdaLineOf, taskManagerMessageOf } from "../../orchestrator/backends/messages.ts";
import { lambdaLine, taskManagerMessage } from "../../task-manager/protocol.ts";

const index = fc.oneof({ weight: 8, arbitrary: fc.nat() }, fc.constantFrom(-1, 0.5, 2 ** 53, NaN, -0, "1", null));
const few = fc.array(index, { maxLength: 5 });
const times = fc.record({ items: index, busyMs: fc.oneof({ weight: 4, arbitrary: fc.double({ noNaN: true, noDefaultInfinity: true }) }, fc.constantFrom<unknown>(NaN, Infinity, "1")), waitMs: fc.double({ noNaN: true, noDefaultInfinity: true }), more: fc.nat() }, { requiredKeys: ["items", "busyMs", "waitMs"] });
const begun = fc.record({ kind: fc.constant("begun"), assignment: index, items: fc.oneof(few, fc.array(fc.nat(), { minLength: 60, maxLength: 70 }), fc.constantFrom<unknown>({}, "1", null)) });
const result = fc.record({ index, output: fc.jsonValue(), more: fc.jsonValue() }, { requiredKeys: ["index"] });
const items = fc.record({
  kind: fc.constant("items"),
  assignment: index,
  results: fc.array(fc.oneof({ weight: 5, arbitrary: fc.record({ index: fc.nat(), output: fc.jsonValue() }) }, result), { maxLength: 5 }),
  errors: fc.oneof(fc.constant([]), fc.array(fc.record({ index, code: fc.constantFrom("INPUT_INVALID", "NONE"), stage: fc.constant("run"), message: fc.string(), retryable: fc.boolean() }), { maxLength: 2 })),
  stages: fc.oneof(fc.dictionary(fc.oneof(fc.string(), fc.constant("__proto__")), times, { maxKeys: 3, noNullPrototype: true }), fc.constantFrom<unknown>([], null)),
});
const heartbeat = fc.record({ kind: fc.constantFrom("heartbeat", "idle"), held: fc.array(fc.record({ assignment: index, ended: index })), rssMb: fc.nat(), cpuMs: fc.nat(), queues: fc.constant({}) });

/** As it is, with a field too many, or without one. */
const disturbed = <T extends object>(message: fc.Arbitrary<T>) =>
  fc.oneof(
    { weight: 3, arbitrary: message },
    { weight: 1, arbitrary: message.map((fields) => ({ ...fields, more: 1 })) },
    { weight: 1, arbitrary: fc.tuple(message, fc.nat(4)).map(([fields, nth]) => Object.fromEntries(Object.entries(fields).filter((_, at) => at !== nth))) },
  );
const anything = fc.oneof(disturbed(begun), disturbed(items), disturbed(heartbeat), fc.jsonValue());

test("messages are what the schema makes of them, whether or not it was asked", () => {
  fc.assert(fc.property(anything, (value) => {
    expect(lambdaLineOf(value)).toEqual(lambdaLine.safeParse(value).data ?? null);
    expect(taskManagerMessageOf(value)).toEqual(taskManagerMessage.safeParse(value).data ?? null);
  }), { numRuns: 3000 });
});

test("what comes with each item is taken as it is", () => {
  const ended = { kind: "items", assignment: 3, results: [{ index: 7, output: { label: "tabby" } }, { index: 8, output: null }], errors: [], stages: { function: { items: 2, busyMs: 1.5, waitMs: 0 } } };
  expect(lambdaLineOf(ended)).toBe(ended);
  const said = { kind: "begun", assignment: 3, items: [7, 8] };
  expect(taskManagerMessageOf(said)).toBe(said);
});

test("what the schema does not know is taken away, or refused", () => {
  const ended = { kind: "items", assignment: 3, results: [{ index: 7, output: 1, secret: "x" }], errors: [], stages: {} };
  expect(lambdaLineOf(ended)).toEqual({ ...ended, results: [{ index: 7, output: 1 }] });
  expect(lambdaLineOf({ kind: "nonsense" })).toBeNull();
  expect(taskManagerMessageOf({ kind: "drains" })).toBeNull();
});
