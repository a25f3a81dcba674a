import { EventStreamCodec, Int64 } from "@smithy/core/event-streams";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { EventStreamReader } from "../../../orchestrator/backends/lambda/event-stream.ts";

type Message = ReturnType<EventStreamCodec["decode"]>;
type Headers = Message["headers"];

const fromUtf8 = (text: string) => Buffer.from(text, "utf8");
const toUtf8 = (bytes: Uint8Array | string) => Buffer.from(bytes as Uint8Array).toString("utf8");
const codec = new EventStreamCodec(toUtf8, fromUtf8);

const text = (value: string) => ({ type: "string", value }) as const;
const event = (type: string, body: string | Uint8Array, more: Headers = {}) =>
  Buffer.from(codec.encode({ headers: { ...more, ":event-type": text(type), ":message-type": text("event") }, body: Buffer.from(body) }));

function readerOf(): { readonly reader: EventStreamReader; readonly events: { type: string; payload: string }[] } {
  const events: { type: string; payload: string }[] = [];
  return { events, reader: new EventStreamReader(({ type, payload }) => events.push({ type, payload: payload.toString("hex") })) };
}

/** What the reader makes of bytes that come in pieces which begin at `cuts`. */
function read(bytes: Buffer, cuts: readonly number[] = []) {
  const { reader, events } = readerOf();
  const places = [0, ...cuts.map((cut) => cut % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
  for (const [nth, from] of places.slice(0, -1).entries()) reader.add(Buffer.from(bytes.subarray(from, places[nth + 1])));
  reader.end();
  return events;
}

const header = fc.oneof(
  fc.boolean().map((value) => ({ type: "boolean", value }) as const),
  fc.integer({ min: -128, max: 127 }).map((value) => ({ type: "byte", value }) as const),
  fc.integer({ min: -32_768, max: 32_767 }).map((value) => ({ type: "short", value }) as const),
  fc.integer().map((value) => ({ type: "integer", value }) as const),
  fc.maxSafeInteger().map((value) => ({ type: "long", value: Int64.fromNumber(value) }) as const),
  fc.uint8Array({ maxLength: 50 }).map((value) => ({ type: "binary", value }) as const),
  fc.string({ unit: "grapheme", maxLength: 20 }).map((value) => ({ type: "string", value }) as const),
  fc.date({ noInvalidDate: true, min: new Date(0), max: new Date("2100-01-01") }).map((value) => ({ type: "timestamp", value }) as const),
  fc.uuid().map((value) => ({ type: "uuid", value }) as const),
);
const headers = fc.dictionary(fc.stringMatching(/^[a-z-]{1,20}$/), header, { maxKeys: 4, noNullPrototype: true });
const messages = fc.array(fc.record({ type: fc.constantFrom("PayloadChunk", "InvokeComplete", "NewInTheWorld"), body: fc.uint8Array({ maxLength: 300 }), headers }), { maxLength: 8 });

describe("event streams are read as the SDK reads them", () => {
  test("whatever their headers, and wherever they are cut into pieces", () => {
    fc.assert(fc.property(messages, fc.array(fc.nat(), { maxLength: 12 }), (sent, cuts) => {
      const stream = Buffer.concat(sent.map(({ type, body, headers: more }) => event(type, body, more)));
      expect(read(stream, cuts)).toEqual(sent.map(({ type, body }) => ({ type, payload: Buffer.from(body).toString("hex") })));
    }));
  });

  test("byte by byte", () => {
    const stream = Buffer.concat([event("PayloadChunk", "one\n"), event("PayloadChunk", ""), event("InvokeComplete", "{}")]);
    expect(read(stream, [...stream.keys()])).toHaveLength(3);
  });

  test("one that ends within an event is truncated, and what was whole has been read", () => {
    const whole = event("PayloadChunk", "one\n");
    for (const length of [1, 11, 12, 40, whole.length - 1]) {
      const { reader, events } = readerOf();
      reader.add(Buffer.concat([whole, whole.subarray(0, length)]));
      expect(() => reader.end()).toThrow("truncated");
      expect(events).toHaveLength(1);
    }
  });

  test("any bit that is wrong is found, and nothing of its event is told", () => {
    const whole = event("PayloadChunk", "a line of what a function says\n");
    fc.assert(fc.property(fc.nat(whole.length * 8 - 1), (bit) => {
      const damaged = Buffer.from(whole);
      damaged.writeUInt8(damaged.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
      const { reader, events } = readerOf();
      expect(() => { reader.add(damaged); reader.end(); }).toThrow(/checksum/);
      expect(events).toEqual([]);
    }));
  });

  test("what is no event stream is refused at once, whatever length its first bytes would be", () => {
    expect(() => readerOf().reader.add(Buffer.from("<html><body>502 Bad Gateway</body></html>"))).toThrow("checksum");
  });

  test("errors and exceptions have their names and messages", () => {
    const error = codec.encode({ headers: { ":message-type": text("error"), ":error-code": text("InternalFailure"), ":error-message": text("it broke") }, body: new Uint8Array() });
    expect(() => readerOf().reader.add(Buffer.from(error))).toThrow(expect.objectContaining({ name: "InternalFailure", message: "it broke" }) as Error);
    const exception = codec.encode({ headers: { ":message-type": text("exception"), ":exception-type": text("ThrottlingException") }, body: fromUtf8("slow down") });
    expect(() => readerOf().reader.add(Buffer.from(exception))).toThrow(expect.objectContaining({ name: "ThrottlingException", message: "slow down" }) as Error);
  });

  test("headers that change from event to event are read anew", () => {
    expect(read(Buffer.concat([event("PayloadChunk", "1"), event("InvokeCompl.", "2"), event("PayloadChunk", "3")])).map(({ type }) => type)).toEqual(["PayloadChunk", "InvokeCompl.", "PayloadChunk"]);
  });
});
