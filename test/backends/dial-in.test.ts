import { X509Certificate } from "node:crypto";
import { describe, expect, onTestFinished, test } from "vitest";
import { WebSocket } from "ws";
import { makeCertificate } from "../../orchestrator/backends/certificate.ts";
import { listenForTaskManagers, type DialedChannel, type DialIn, type Invitation } from "../../orchestrator/backends/dial-in.ts";
import { taskManagerMessageOf } from "../../orchestrator/backends/messages.ts";
import { dialIn } from "../../task-manager/channel/websocket.ts";
import { dialedFrameBytesMax, sessionHeader, type Channel, type OrchestratorMessage, type TaskManagerMessage } from "../../task-manager/protocol.ts";
import { startTcpProxy, type TcpProxy } from "../support/tcp-proxy.ts";

type Ours = DialedChannel<TaskManagerMessage>;

/** Longer than any test. */
const longMs = 600_000;

async function listening(): Promise<DialIn<TaskManagerMessage>> {
  const dial = await listenForTaskManagers({ host: "127.0.0.1", port: 0, messageOf: taskManagerMessageOf });
  onTestFinished(() => dial.close());
  return dial;
}

/** Whoever is invited, and who comes. */
function invite(dial: DialIn<TaskManagerMessage>, comeBackWithinMs = longMs) {
  let arrive: (channel: Ours) => void = () => undefined;
  const arrived = new Promise<Ours>((resolve) => (arrive = resolve));
  const invitation = dial.invite({ comeBackWithinMs, onConnect: arrive });
  const target = { host: "127.0.0.1", port: dial.port, token: invitation.token, fingerprint: dial.fingerprint, comeBackWithinMs };
  return { invitation, target, arrived };
}

function next<In>(channel: Channel<never, In>): Promise<In> {
  return new Promise((resolve) => channel.onMessage(resolve));
}

/** A Task Manager of somebody else's making. */
function stranger(port: number, headers: Record<string, string> = {}): WebSocket {
  const socket = new WebSocket(`wss://127.0.0.1:${port}/`, { rejectUnauthorized: false, headers: { [sessionHeader]: "s".repeat(43), ...headers } });
  socket.on("error", () => undefined);
  onTestFinished(() => socket.terminate());
  return socket;
}

/** Why it ended. */
const closing = (channel: Ours) => new Promise<string | null>((resolve) => channel.onClose(() => resolve(channel.endedBecause)));

const closed = (socket: { once(event: "close", listener: () => void): unknown }) => new Promise<void>((resolve) => socket.once("close", () => resolve()));

test("the certificate is well-formed, signed with its own key, new each time, and known by its fingerprint", () => {
  const { certificate, fingerprint } = makeCertificate();
  const parsed = new X509Certificate(certificate);
  expect(parsed.verify(parsed.publicKey)).toBe(true);
  expect(parsed.fingerprint256.replaceAll(":", "").toLowerCase()).toBe(fingerprint);
  expect(Date.parse(parsed.validFrom)).toBeLessThan(Date.now());
  expect(Date.parse(parsed.validTo)).toBeGreaterThan(Date.now());
  expect(makeCertificate().fingerprint).not.toBe(fingerprint);
});

describe("a Task Manager that dials in", () => {
  test("is spoken with both ways, and each side hears when the other is gone", async () => {
    const { target, arrived } = invite(await listening());
    const theirs = await dialIn<TaskManagerMessage>(target);
    const ours = await arrived;
    const heard = next(ours as unknown as Channel<never, TaskManagerMessage>);
    await theirs.send({ kind: "bye", reason: "é".repeat(100_000) });
    expect(await heard).toEqual({ kind: "bye", reason: "é".repeat(100_000) });
    // Said before anybody listens.
    await ours.send({ kind: "stop", how: "now" });
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(await next(theirs as unknown as Channel<never, OrchestratorMessage>)).toEqual({ kind: "stop", how: "now" });
    const gone = closing(theirs as unknown as Ours);
    ours.close();
    expect(await gone).toBe("ended by the other side");
    await theirs.send({ kind: "bye", reason: "to nobody" });
  });

  test("shows its token to nobody but the holder of the certificate", async () => {
    const dial = await listening();
    const { target, arrived } = invite(dial);
    const other = await listening();
    await expect(dialIn({ ...target, port: other.port })).rejects.toThrow("has another certificate than the orchestrator's");
    await expect(dialIn({ ...target, fingerprint: other.fingerprint })).rejects.toThrow(/^127\.0\.0\.1:\d+ has another certificate/);
    // So it is still good.
    await dialIn(target);
    await arrived;
  });

  test("is refused without its token, with another's half, a second time, and once nobody expects it; errors do not quote it", async () => {
    const dial = await listening();
    const [one, two] = [invite(dial), invite(dial)];
    const [id] = one.target.token.split(".");
    const [, secret = ""] = two.target.token.split(".");
    for (const token of ["", "x", `${id}.${secret}`, `${one.target.token}x`]) {
      await expect(dialIn({ ...one.target, token })).rejects.toThrow(/does not know the token$/);
    }
    const first = await dialIn<TaskManagerMessage>(one.target);
    const ours = await one.arrived;
    // Nor does the one that is there suffer from it.
    await expect(dialIn(one.target)).rejects.toThrow(`127.0.0.1:${dial.port} does not know the token`);
    await first.send({ kind: "bye", reason: "still here" });
    expect(await next(ours as unknown as Channel<never, TaskManagerMessage>)).toEqual({ kind: "bye", reason: "still here" });
    two.invitation.withdraw();
    await expect(dialIn(two.target)).rejects.toThrow("does not know the token");
  });

  test("that says what is no message, or too long a one, is hung up on", async () => {
    const dial = await listening();
    const message = (value: unknown) => JSON.stringify({ kind: "message", number: 1, message: value });
    for (const text of ["no JSON", message({ kind: "unheard of" }), message({ kind: "bye" }), Buffer.of(0xff), "x".repeat(dialedFrameBytesMax + 1)]) {
      const { target, arrived } = invite(dial);
      const socket = stranger(dial.port, { authorization: `Bearer ${target.token}` });
      const said: unknown[] = [];
      const over = arrived.then((channel) => {
        channel.onMessage((message) => said.push(message));
        return closing(channel);
      });
      socket.once("open", () => {
        socket.send(JSON.stringify({ kind: "resume", received: 0 }));
        socket.send(text);
      });
      await closed(socket);
      // It is not waited for either.
      expect(await over).toMatch(/^the other side broke the (WebSocket )?protocol/);
      expect(said).toEqual([]);
    }
  });
});

interface Line {
  readonly dial: DialIn<TaskManagerMessage>;
  readonly invitation: Invitation;
  readonly proxy: TcpProxy;
  readonly ours: Ours;
  readonly theirs: Awaited<ReturnType<typeof dialIn<TaskManagerMessage>>>;
  /** What came to either side, as it was numbered by the test. */
  readonly heard: { readonly ours: number[]; readonly theirs: number[] };
}

/** A Task Manager that has dialed in over a bad line. */
async function connected({ comeBackWithinMs, theirMs } = { comeBackWithinMs: longMs, theirMs: longMs }, firstBytes = Infinity): Promise<Line> {
  const dial = await listening();
  const proxy = await startTcpProxy({ host: "127.0.0.1", toPort: dial.port });
  onTestFinished(() => proxy.close());
  proxy.lifeBytes = () => (proxy.count === 1 ? firstBytes : Infinity);
  const { invitation, target, arrived } = invite(dial, comeBackWithinMs);
  const theirs = await dialIn<TaskManagerMessage>({ ...target, port: proxy.port, comeBackWithinMs: theirMs });
  onTestFinished(() => theirs.close());
  const ours = await arrived;
  const heard: Line["heard"] = { ours: [], theirs: [] };
  ours.onMessage((message) => message.kind === "begun" && heard.ours.push(message.assignment));
  theirs.onMessage((message) => message.kind === "cancel" && heard.theirs.push(message.assignment));
  return { dial, invitation, proxy, ours, theirs, heard };
}

/** Both sides say as many things, one after the other. */
function talk({ ours, theirs }: Line, from: number, to: number, bytes = 0): void {
  for (let number = from; number < to; number++) {
    void theirs.send({ kind: "begun", assignment: number, items: [] });
    if (bytes > 0) void theirs.send({ kind: "log", level: "debug", message: "x".repeat(bytes) });
    void ours.send({ kind: "cancel", assignment: number });
  }
}

const upTo = (end: number) => Array.from({ length: end }, (_, at) => at);

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
}

async function expectHeard({ heard }: Line, end: number): Promise<void> {
  await until(() => heard.ours.length >= end && heard.theirs.length >= end);
  expect(heard).toEqual({ ours: upTo(end), theirs: upTo(end) });
}

describe("a connection that is lost", () => {
  test.each(["end", "reset"] as const)("is taken up again, and nothing is lost or heard twice (%s)", async (how) => {
    const line = await connected();
    talk(line, 0, 100);
    await until(() => line.heard.ours.length > 0);
    for (let round = 1; round <= 5; round++) {
      expect(line.proxy.cut(how)).toBe(1);
      // Part of it before either side knows.
      talk(line, round * 100, round * 100 + 50);
      await new Promise((resolve) => setImmediate(resolve));
      talk(line, round * 100 + 50, round * 100 + 100);
      await until(() => line.heard.ours.length > round * 100);
    }
    await expectHeard(line, 600);
    expect(line.proxy.count).toBe(6);
  });

  test("is taken up again wherever in a message it breaks", async () => {
    const line = await connected();
    // What a handshake takes, and a little more each time.
    let lives = 0;
    line.proxy.lifeBytes = () => (lives < 25 ? 4_000 + 1_777 * lives++ : Infinity);
    line.proxy.cut("reset");
    talk(line, 0, 300, 2_000);
    await expectHeard(line, 300);
    expect(lives).toBeGreaterThan(5);
  });

  test.each([300, 1_000, 1_600, 1_800, 2_000, 2_200, 2_400])("is taken up even where it was lost while it was opened, after %i bytes", async (bytes) => {
    const line = await connected(undefined, bytes);
    talk(line, 0, 5);
    await expectHeard(line, 5);
    expect(line.proxy.count).toBe(2);
  });

  test("gives way to a newer one, where it is dead without anybody's having said so", async () => {
    const line = await connected({ comeBackWithinMs: longMs, theirMs: 1_500 });
    talk(line, 0, 10);
    await expectHeard(line, 10);
    line.proxy.stall();
    talk(line, 10, 20);
    await expectHeard(line, 20);
    expect(line.proxy.count).toBeGreaterThan(1);
  });

  test("that cannot be had again says for how long it was tried, in a time that can be read", async () => {
    const { proxy, theirs } = await connected({ comeBackWithinMs: longMs, theirMs: 700 });
    const ended = new Promise<void>((resolve) => theirs.onClose(resolve));
    proxy.mode = "stall";
    proxy.cut("reset");
    await ended;
    expect(theirs.endedBecause).toMatch(/^it was lost, and could not be taken up again within 0\.7 s(: \S+ did not answer within 0\.\d s)?$/);
  });

  test("is not given up for being silent, while no other one can be had", async () => {
    const line = await connected({ comeBackWithinMs: longMs, theirMs: 400 });
    line.proxy.mode = "refuse";
    line.proxy.stall();
    talk(line, 0, 10);
    await until(() => line.proxy.count > 3);
    // As if the orchestrator had been stopped for a while.
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    expect([line.theirs.endedBecause, line.heard.ours]).toEqual([null, []]);
    line.proxy.goOn();
    await expectHeard(line, 10);
  });

  test("lets the Task Manager go on, until as much is kept as may be", async () => {
    const line = await connected();
    line.proxy.mode = "refuse";
    line.proxy.cut("end");
    await until(() => line.proxy.count > 1);
    let sent = 0;
    const message: TaskManagerMessage = { kind: "items", assignment: 0, results: [{ index: 0, output: "x".repeat(1_000_000) }], errors: [], stages: {} };
    const sends = upTo(20).map(() => line.theirs.send(message).then(() => (sent += 1)));
    await new Promise((resolve) => setImmediate(resolve));
    expect(sent).toBe(9);
    let results = 0;
    line.ours.onMessage(({ kind }) => kind === "items" && (results += 1));
    line.proxy.mode = "pass";
    await Promise.all(sends);
    await until(() => results === 20);
    await line.theirs.settled();
  });

  test("that does not come back in time is over, once; who comes late is refused, and ends", async () => {
    const line = await connected({ comeBackWithinMs: 100, theirMs: longMs });
    let closes = 0;
    line.ours.onClose(() => (closes += 1));
    const [over, theirEnd] = [closing(line.ours), closing(line.theirs as unknown as Ours)];
    line.proxy.mode = "refuse";
    line.proxy.cut("reset");
    expect(await over).toBe("it was lost, and not taken up again within 0.1 s (heartbeat.timeoutMs)");
    line.proxy.mode = "pass";
    talk(line, 0, 1);
    expect(await theirEnd).toBe(`it was lost, and 127.0.0.1:${line.proxy.port} does not wait for this Task Manager any more`);
    expect([closes, line.heard]).toEqual([1, { ours: [], theirs: [] }]);
  });

  test("that cannot be taken up again in time ends the Task Manager's side, too", async () => {
    const line = await connected({ comeBackWithinMs: longMs, theirMs: 1_000 });
    const over = closing(line.theirs as unknown as Ours);
    line.proxy.mode = "refuse";
    line.proxy.cut("end");
    expect(await over).toMatch(/^it was lost, and could not be taken up again within 1 s/);
  });

  test("is not waited for once one side has closed the channel, or the invitation was withdrawn", async () => {
    const left = await connected();
    left.theirs.close();
    expect(await closing(left.ours)).toBe("ended by the other side");
    const withdrawn = await connected();
    withdrawn.invitation.withdraw();
    withdrawn.proxy.cut("end");
    expect(await closing(withdrawn.ours)).toBe("it was lost");
    expect(await closing(withdrawn.theirs as unknown as Ours)).toMatch(/^it was lost, and 127\.0\.0\.1:\d+ does not know the token$/);
    const closed = await connected();
    const [ourEnd, theirEnd] = [closing(closed.ours), closing(closed.theirs as unknown as Ours)];
    closed.dial.close();
    expect([await ourEnd, await theirEnd]).toEqual(["nobody listens any more", "ended by the other side"]);
  });
});

test("who asks for anything else is told nothing", async () => {
  const dial = await listening();
  await closed(stranger(dial.port));
  const plain = await fetch(`http://127.0.0.1:${dial.port}/`).catch((error: unknown) => error);
  expect(plain).toBeInstanceOf(Error);
});
