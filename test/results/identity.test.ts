import { randomInt } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { JsonValue } from "../../task-manager/protocol.ts";
import { JournalLine } from "../../orchestrator/results/journal-line.ts";
import { KeyTable } from "../../orchestrator/results/key-table.ts";
import type { Keyed } from "../../orchestrator/results/key.ts";
import { KeyDigest, keyHash, keyText, withoutSignature } from "../../orchestrator/results/key.ts";
import { outcomeLine } from "../../orchestrator/results/outcome-line.ts";
import { isPlain } from "../../orchestrator/results/plain-bytes.ts";
import type { Outcome } from "../../orchestrator/results/types.ts";

const seed = Number(process.env["SPLITRUN_SEED"] ?? randomInt(2 ** 31));
console.log(`SPLITRUN_SEED=${seed}`);

const json = fc.jsonValue({ maxDepth: 4 }).map((value) => JSON.parse(JSON.stringify(value)) as JsonValue);
const text = fc.string({ unit: "binary", maxLength: 30 });
const outcome: fc.Arbitrary<Outcome> = fc
  .record({ index: fc.nat(1e8), id: fc.option(text, { nil: undefined }), input: fc.oneof(json, text), version: fc.option(text, { nil: undefined }), output: fc.option(json, { nil: undefined }), attempts: fc.nat(9) })
  .map(({ index, id, input, version, output, attempts }) => ({
    index,
    ...(id !== undefined && { id }),
    input,
    ...(version !== undefined && { version }),
    ...(output === undefined ? { error: { code: "DOWNLOAD_STATUS" as const, stage: "download" as const, message: "404" } } : { output }),
    attempts,
  }));

function read(bytes: Buffer): JournalLine | null {
  const line = new JournalLine();
  return line.read(bytes, 0, bytes.length) ? line : null;
}

describe("a line of the journal", () => {
  test("is located without being parsed, and gives what was written", () => {
    fc.assert(
      fc.property(outcome, fc.nat(1e8), (written, index) => {
        const line = read(Buffer.from(outcomeLine(written).trimEnd()));
        expect(line?.outcome()).toEqual(written);
        expect(line?.index).toBe(written.index);
        expect(line?.failed).toBe(written.error !== undefined);
        expect(line?.key()).toEqual(keyHash(written));
        expect(Buffer.concat(line?.withIndex(index) ?? []).toString()).toBe(outcomeLine({ ...written, index }));
      }),
      { seed, numRuns: 500 },
    );
  });

  test("in another key order, with spaces, is one too", () => {
    const line = read(Buffer.from('{ "attempts": 2, "input": "a", "index": 7, "output": [1] }'));
    expect([line?.index, line?.failed, line?.key()]).toEqual([7, false, keyHash({ input: "a" })]);
    expect(Buffer.concat(line?.withIndex(8) ?? []).toString()).toBe('{"index":8,"input":"a","output":[1],"attempts":2}\n');
  });

  test("is never taken for one when it is cut or overwritten, unless it is valid JSON again", () => {
    fc.assert(
      fc.property(outcome, fc.nat(), fc.nat(255), fc.boolean(), (written, place, byte, cut) => {
        // A line's end in a line makes two lines of it.
        fc.pre(byte !== 0x0a);
        const whole = Buffer.from(outcomeLine(written).trimEnd());
        const at = place % whole.length;
        const damaged = cut ? whole.subarray(0, at) : Buffer.from(whole);
        if (!cut) damaged[at] = byte;
        const line = read(damaged);
        if (line === null) return;
        expect(cut).toBe(false);
        const parsed = JSON.parse(damaged.toString()) as Outcome;
        expect(parsed.index).toBe(line.index);
        expect((parsed.error === undefined) !== (parsed.output === undefined)).toBe(true);
      }),
      { seed, numRuns: 3000 },
    );
  });

  test.each(["", "{}", "null", '{"index":1}', '{"index":-1,"input":1,"output":1,"attempts":1}', '{"index":1e99,"input":1,"output":1,"attempts":1}', '{"index":999999999,"input":1,"output":1,"attempts":1}', '{"index":07,"input":1,"output":1,"attempts":1}', '{"index":1,"input":1,"attempts":1}', '{"index":1,"input":01,"output":1,"attempts":1}', '{"index":1,"input":"\\q","output":1,"attempts":1}', '{"index":1,"inp{"index":2,"input":1,"output":1,"attempts":1}'])("is not %s", (line) => {
    expect(read(Buffer.from(line))).toBe(null);
  });
});

describe("the key of an item", () => {
  const presigned = [
    ["https://b.s3.amazonaws.com/k.jpg?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=c&X-Amz-Date=20260101T000000Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature=abc", "https://b.s3.amazonaws.com/k.jpg"],
    ["https://b.s3.amazonaws.com/k?versionId=3&x-amz-signature=abc&x-amz-security-token=t#part", "https://b.s3.amazonaws.com/k?versionId=3#part"],
    ["https://b.s3.amazonaws.com/k?AWSAccessKeyId=A&Signature=s%3D&Expires=17", "https://b.s3.amazonaws.com/k"],
    ["https://d.cloudfront.net/k?size=2&Policy=p&Signature=s&Key-Pair-Id=K", "https://d.cloudfront.net/k?size=2"],
    ["https://storage.googleapis.com/b/k?X-Goog-Algorithm=a&X-Goog-Signature=s&X-Goog-Date=d", "https://storage.googleapis.com/b/k"],
    ["https://storage.googleapis.com/b/k?GoogleAccessId=a&Expires=1&Signature=s", "https://storage.googleapis.com/b/k"],
    ["https://a.blob.core.windows.net/c/k?sv=2024&st=1&se=2&sr=b&sp=r&sig=s", "https://a.blob.core.windows.net/c/k"],
  ] as const;

  test.each(presigned)("leaves the signature of %s out", (url, bare) => {
    expect(withoutSignature(url)).toBe(bare);
    expect(keyHash({ input: url })).toEqual(keyHash({ input: url.replace(/(Signature|signature|sig)=[^&#]*/, "$1=other") }));
  });

  test.each([
    "https://host/page?se=1&sp=2&sr=3",
    "https://host/page?signature=mine&page=2",
    "https://host/page?sig=1&page=2",
    "https://host/page?expires=1&policy=2",
    "/folder/a?X-Amz-Date=1.jpg",
    "plain",
  ])("keeps what is no signature: %s", (url) => {
    expect(withoutSignature(url)).toBe(url);
  });

  test("tells everything else apart", () => {
    const items: readonly Keyed[] = [
      { input: "a" }, { input: "b" }, { input: "a", version: "1" }, { input: "a", version: "11" }, { input: "1a", version: "1" },
      { id: "a", input: "x" }, { id: "a", input: "x", version: "1" }, { input: ["a"] }, { input: '["a"]' }, { input: { a: 1 } }, { input: [["a", 1]] },
      { input: { a: { b: 1 } } }, { input: null }, { input: "null" }, { input: 1 }, { input: "1" }, { input: "#a" }, { input: "=a" }, { input: "@1:1=a" },
    ];
    expect(new Set(items.map(keyText)).size).toBe(items.length);
    expect(new Set(items.map((item) => JSON.stringify(keyHash(item)))).size).toBe(items.length);
  });

  test("does not depend on the order of an object's fields, nor with an id on the input", () => {
    expect(keyText({ input: { a: 1, b: [{ c: 1, d: 2 }] } })).toBe(keyText({ input: { b: [{ d: 2, c: 1 }], a: 1 } }));
    expect(keyText({ id: "1", input: "a" })).toBe(keyText({ id: "1", input: "b" }));
  });

  test("adds up to a digest that knows no order, but how often", () => {
    const digest = (...inputs: readonly string[]): string => {
      const sum = new KeyDigest();
      for (const input of inputs) sum.add(keyHash({ input }));
      return sum.toString();
    };
    expect(digest("a", "b", "a")).toBe(digest("a", "a", "b"));
    expect(digest("a", "b")).not.toBe(digest("a", "b", "b"));
    expect(digest("a", "a", "b")).not.toBe(digest("a", "b", "b"));
    expect(digest()).toBe("0".repeat(32));
  });
});

describe("the table of keys", () => {
  test("gives the places of equal keys in the order in which they came, as a map of queues would", () => {
    const operation = fc.record({ key: fc.nat(40), take: fc.boolean() });
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 400 }), fc.boolean(), (operations, collide) => {
        const table = new KeyTable();
        const queues = new Map<number, number[]>();
        let place = 0;
        for (const { key, take } of operations) {
          const hash = { a: collide ? 1023 : key * 7919, b: key, c: 0, d: 0 };
          const queue = queues.get(key) ?? [];
          queues.set(key, queue);
          if (take) expect(table.take(hash)).toBe(queue.shift() ?? -1);
          else {
            queue.push(place);
            table.add(hash, place++);
          }
        }
      }),
      { seed, numRuns: 200 },
    );
  });

  test("takes a hundred thousand equal keys and as many different ones", () => {
    const table = new KeyTable();
    const count = 100_000;
    const same = keyHash({ input: "same" });
    for (let place = 0; place < count; place++) table.add(same, place);
    for (let place = 0; place < count; place++) table.add(keyHash({ input: `${place}` }), count + place);
    for (let place = 0; place < count; place++) {
      if (table.take(same) !== place || table.take(keyHash({ input: `${place}` })) !== count + place) throw new Error(`place ${place}`);
    }
    expect(table.take(same)).toBe(-1);
  });
});

describe("a plain text", () => {
  test("has no backslash and no control character but line ends, wherever they may be", () => {
    console.log(`SPLITRUN_SEED=${seed}`);
    const bytes = fc.uint8Array({ maxLength: 70 });
    const mostlyPlain = fc.array(fc.oneof({ weight: 40, arbitrary: fc.constantFrom(0x0a, 0x20, 0x22, 0x5b, 0x5d, 0x7f, 0x80, 0xff) }, { weight: 1, arbitrary: fc.nat(255) }), { maxLength: 70 });
    fc.assert(
      fc.property(fc.oneof(bytes, mostlyPlain), fc.nat(3), (values, offset) => {
        const text = Buffer.concat([Buffer.alloc(offset), Buffer.from(values)]).subarray(offset);
        expect(isPlain(text)).toBe([...values].every((byte) => byte !== 0x5c && (byte >= 0x20 || byte === 0x0a)));
      }),
      { seed, numRuns: 3000 },
    );
  });
});
