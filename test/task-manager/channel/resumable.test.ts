import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ResumableChannel, type ResumableLimits, type Wire } from "../../../task-manager/channel/resumable.ts";
import { dialedFrameBytesMax } from "../../../task-manager/protocol.ts";

/** So small that it is full all the time. */
const limits: ResumableLimits = { keptBytesMax: 400, acknowledgeMessages: 3, acknowledgeLength: 150 };
const frameBytesMax = 160;

interface End {
  readonly channel: ResumableChannel<string, string>;
  readonly said: string[];
  readonly heard: string[];
  /** Sent, and not told yet that more may follow. */
  unsettled: number;
}

function createEnd(heldBytesMax = Infinity): End {
  const end: End = {
    channel: new ResumableChannel<string, string>({
      limits, heldBytesMax,
      messageOf: (value) => (typeof value === "string" ? value : null),
      isExpendable: (message) => message.startsWith("?"),
      onResumed: () => undefined,
    }),
    said: [],
    heard: [],
    unsettled: 0,
  };
  end.channel.onMessage((message) => end.heard.push(message));
  return end;
}

function say(end: End, message: string): void {
  end.said.push(message);
  end.unsettled += 1;
  void end.channel.send(message).then(() => (end.unsettled -= 1));
}

/** One of the two ends of a connection: what was written there and has not come to the other end. */
interface Socket {
  readonly end: End;
  readonly wire: Wire;
  readonly onItsWay: { readonly frame: string; readonly done: () => void }[];
  isAttached: boolean;
  isCut: boolean;
}

function createSocket(end: End): Socket {
  const socket: Socket = {
    end,
    onItsWay: [],
    isAttached: false,
    isCut: false,
    wire: {
      write: (frame, done) => void (socket.isCut ? done() : socket.onItsWay.push({ frame, done })),
      drop: () => cutOff(socket),
      end: () => cutOff(socket),
    },
  };
  return socket;
}

/** What is on its way may arrive all the same. */
function cutOff(socket: Socket): void {
  socket.isCut = true;
  for (const { done } of socket.onItsWay) done();
}

type Connection = readonly [Socket, Socket];

/** Two ends, and every connection that there ever was between them. */
class Network {
  readonly ends: readonly [End, End] = [createEnd(), createEnd()];
  readonly connections: Connection[] = [];

  open(): Connection {
    const connection: Connection = [createSocket(this.ends[0]), createSocket(this.ends[1])];
    this.connections.push(connection);
    return connection;
  }

  attach(socket: Socket): void {
    if (socket.isAttached || socket.isCut) return;
    socket.isAttached = true;
    socket.end.channel.attach(socket.wire);
  }

  /** The oldest frame that is on its way from one socket comes to the other, whether that is listened to or not. */
  deliver(from: Socket, to: Socket): void {
    if (!to.isAttached) return;
    const next = from.onItsWay.shift();
    if (next === undefined) return;
    next.done();
    const bytes = this.bytesFrom(to);
    to.end.channel.hear(to.wire, next.frame);
    // Whatever is sent again at once: no more than what is kept.
    expect(this.bytesFrom(to) - bytes).toBeLessThanOrEqual(limits.keptBytesMax + 2 * frameBytesMax);
  }

  bytesFrom(socket: Socket): number {
    return socket.onItsWay.reduce((sum, { frame }) => sum + frame.length, 0);
  }

  deliverAll([one, other]: Connection): void {
    while (one.onItsWay.length + other.onItsWay.length > 0) {
      this.deliver(one, other);
      this.deliver(other, one);
    }
  }
}

type Step =
  | { readonly kind: "say"; readonly side: 0 | 1; readonly length: number }
  /** Found by these sides, in that order. */
  | { readonly kind: "connect"; readonly by: readonly (0 | 1)[] }
  | { readonly kind: "attach" | "cut" | "lose"; readonly side: 0 | 1; readonly connection: number }
  | { readonly kind: "deliver"; readonly side: 0 | 1; readonly connection: number; readonly frames: number };

const side = fc.constantFrom(0 as const, 1 as const);
/** Counted from the newest. */
const connection = fc.oneof({ weight: 4, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.nat(3) });
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant("say" as const), side, length: fc.nat(100) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("connect" as const), by: fc.uniqueArray(side) }) },
  { weight: 10, arbitrary: fc.record({ kind: fc.constant("deliver" as const), side, connection, frames: fc.integer({ min: 1, max: 8 }) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom("attach" as const, "cut" as const, "lose" as const), side, connection }) },
);

function take(network: Network, step: Step): void {
  if (step.kind === "connect") {
    const connection = network.open();
    return step.by.forEach((side) => network.attach(connection[side]));
  }
  if (step.kind === "say") {
    const end = network.ends[step.side];
    return say(end, `${end.said.length} ${"x".repeat(step.length)}`);
  }
  const connection = network.connections.at(-1 - step.connection);
  if (connection === undefined) return;
  const [socket, other] = step.side === 0 ? connection : [connection[1], connection[0]];
  switch (step.kind) {
    case "attach":
      return network.attach(socket);
    case "deliver":
      for (let frames = 0; frames < step.frames; frames++) network.deliver(socket, other);
      return;
    // What is on its way is lost, and no end has been told.
    case "cut":
      cutOff(socket);
      socket.onItsWay.length = 0;
      return;
    case "lose":
      if (!socket.isAttached) return;
      cutOff(socket);
      socket.end.channel.lost(socket.wire);
  }
}

test("whatever becomes of the connections, every message is delivered once and in order, either way", async () => {
  await fc.assert(fc.asyncProperty(fc.array(step, { maxLength: 200, size: "max" }), async (steps) => {
    const network = new Network();
    for (const each of steps) take(network, each);
    let settled = 0;
    for (const { channel } of network.ends) void channel.settled().then(() => (settled += 1));
    const last = network.open();
    last.forEach((socket) => network.attach(socket));
    network.deliverAll(last);
    await new Promise((resolve) => setImmediate(resolve));
    const [one, other] = network.ends;
    expect(one.heard).toEqual(other.said);
    expect(other.heard).toEqual(one.said);
    expect([settled, one.unsettled, other.unsettled]).toEqual([2, 0, 0]);
  }), { numRuns: 150 });
});

/** An end, and what it says over a connection whose other end is played by the test. */
function alone(heldBytesMax = Infinity) {
  const end = createEnd(heldBytesMax);
  const written: unknown[] = [];
  const ends: string[] = [];
  const wire: Wire = {
    write(frame, done) {
      written.push(JSON.parse(frame));
      done();
    },
    drop: () => ends.push("dropped"),
    end: () => ends.push("ended"),
  };
  const hear = (frame: unknown) => end.channel.hear(wire, typeof frame === "string" ? frame : JSON.stringify(frame));
  return { end, channel: end.channel, wire, written, ends, hear };
}

describe("a channel", () => {
  test("drops a connection that is found after a newer one, and is over for neither", () => {
    const { end, channel, wire, ends, hear } = alone();
    channel.attach(wire);
    hear({ kind: "resume", received: 0 });
    say(end, "a");
    hear({ kind: "received", number: 1 });
    channel.attach(wire);
    expect(ends).toEqual(["dropped"]);
    // Said when that connection was opened.
    hear({ kind: "resume", received: 0 });
    hear({ kind: "received", number: 0 });
    expect(ends).toEqual(["dropped", "dropped"]);
    expect(channel.isOver).toBe(false);
    expect(channel.lost(wire)).toBe(true);
    channel.attach(wire);
    hear({ kind: "resume", received: 1 });
    expect(channel.isOver).toBe(false);
  });

  test("keeps what is said while there is no connection, says where it stands over the first, and goes on where the other side is", () => {
    const { end, channel, wire, written, hear } = alone();
    say(end, "a");
    say(end, "b");
    channel.attach(wire);
    expect(written).toEqual([{ kind: "resume", received: 0 }]);
    hear({ kind: "resume", received: 1 });
    expect(written.slice(1)).toEqual([{ kind: "message", number: 2, message: "b" }]);
    hear({ kind: "message", number: 1, message: "c" });
    hear({ kind: "message", number: 1, message: "c" });
    hear({ kind: "ask" });
    expect(end.heard).toEqual(["c"]);
    expect(written.slice(2)).toEqual([{ kind: "received", number: 1 }]);
  });

  test("takes the newest connection, closes the one before, and is deaf to what still comes over it", () => {
    const { end, channel, wire, ends, hear } = alone();
    channel.attach(wire);
    hear({ kind: "resume", received: 0 });
    const newer = alone();
    channel.attach(newer.wire);
    expect(ends).toEqual(["dropped"]);
    hear({ kind: "message", number: 1, message: "late" });
    expect([end.heard, channel.lost(wire), channel.lost(newer.wire)]).toEqual([[], false, true]);
  });

  test("when much is kept lets those who send wait, and leaves out what would be of no use later", async () => {
    const { end, channel, wire, written, hear } = alone();
    const text = "x".repeat(200);
    for (const each of ["a", "b", "c"]) say(end, each + text);
    await Promise.resolve();
    expect(end.unsettled).toBe(1);
    await channel.send("?expendable");
    channel.attach(wire);
    hear({ kind: "resume", received: 1 });
    await Promise.resolve();
    expect(end.unsettled).toBe(0);
    expect(written.slice(1)).toEqual([{ kind: "message", number: 2, message: `b${text}` }, { kind: "message", number: 3, message: `c${text}` }]);
  });

  test("ends when more waits than may be held, or a message is larger than any may be", async () => {
    const waits = alone(1_000);
    for (let at = 0; at < 20; at++) say(waits.end, "x".repeat(100));
    expect(waits.channel.endedBecause).toBe("too much is not acknowledged");
    await Promise.resolve();
    expect(waits.end.unsettled).toBe(0);
    const large = alone();
    large.channel.attach(large.wire);
    await large.channel.send("x".repeat(dialedFrameBytesMax));
    expect([large.channel.endedBecause, large.ends]).toEqual([expect.stringMatching(/^a message of \d+ bytes was to be sent$/), ["ended"]]);
  });

  test.each([
    ["is no frame", ["no JSON"]],
    ["is of no known kind", [{ kind: "resume", received: 0 }, { kind: "unheard of" }]],
    ["is no message", [{ kind: "resume", received: 0 }, { kind: "message", number: 1, message: 1 }]],
    ["comes before it is said where to go on", [{ kind: "message", number: 1, message: "a" }]],
    ["leaves one out", [{ kind: "resume", received: 0 }, { kind: "message", number: 2, message: "a" }]],
    ["acknowledges what was never sent", [{ kind: "resume", received: 0 }, { kind: "received", number: 2 }]],
    ["acknowledges less than before", [{ kind: "resume", received: 1 }, { kind: "received", number: 0 }]],
    ["says twice where to go on", [{ kind: "resume", received: 0 }, { kind: "resume", received: 0 }]],
  ])("ends for good when what comes %s", (_what, frames) => {
    const { end, channel, wire, ends, hear } = alone();
    say(end, "a");
    channel.attach(wire);
    let closes = 0;
    channel.onClose(() => (closes += 1));
    frames.forEach(hear);
    expect([closes, channel.endedBecause, ends, end.heard]).toEqual([1, "the other side broke the protocol", ["ended"], []]);
    channel.attach(wire);
    expect(ends).toEqual(["ended", "ended"]);
  });
});
