import { X509Certificate } from "node:crypto";
import { describe, expect, onTestFinished, test } from "vitest";
import { WebSocket } from "ws";
import { makeCertificate } from "../../orchestrator/backends/certificate.ts";
import { listenForTaskManagers, type DialIn } from "../../orchestrator/backends/dial-in.ts";
import { dialIn } from "../../task-manager/channel/websocket.ts";
import { dialedMessageBytesMax, taskManagerMessage, type Channel, type OrchestratorMessage, type TaskManagerMessage } from "../../task-manager/protocol.ts";

type Ours = Channel<OrchestratorMessage, TaskManagerMessage>;

async function listening(): Promise<DialIn<TaskManagerMessage>> {
  const dial = await listenForTaskManagers({ host: "127.0.0.1", port: 0, schema: taskManagerMessage });
  onTestFinished(() => dial.close());
  return dial;
}

/** Whoever is invited, and who comes. */
function invite(dial: DialIn<TaskManagerMessage>) {
  let arrive: (channel: Ours) => void = () => undefined;
  const arrived = new Promise<Ours>((resolve) => (arrive = resolve));
  const invitation = dial.invite(arrive);
  const target = { host: "127.0.0.1", port: dial.port, token: invitation.token, fingerprint: dial.fingerprint };
  return { invitation, target, arrived };
}

function next<In>(channel: Channel<never, In>): Promise<In> {
  return new Promise((resolve) => channel.onMessage(resolve));
}

/** A Task Manager of somebody else's making. */
function stranger(port: number, headers: Record<string, string> = {}): WebSocket {
  const socket = new WebSocket(`wss://127.0.0.1:${port}/`, { rejectUnauthorized: false, headers });
  socket.on("error", () => undefined);
  onTestFinished(() => socket.terminate());
  return socket;
}

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
    const gone = new Promise<void>((resolve) => theirs.onClose(resolve));
    ours.close();
    await gone;
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
    await dialIn(one.target);
    await one.arrived;
    await expect(dialIn(one.target)).rejects.toThrow(`127.0.0.1:${dial.port} does not know the token`);
    two.invitation.withdraw();
    await expect(dialIn(two.target)).rejects.toThrow("does not know the token");
  });

  test("that says what is no message, or too long a one, is hung up on", async () => {
    const dial = await listening();
    for (const text of ["no JSON", JSON.stringify({ kind: "unheard of" }), Buffer.of(0xff), "x".repeat(dialedMessageBytesMax + 1)]) {
      const { target, arrived } = invite(dial);
      const socket = stranger(dial.port, { authorization: `Bearer ${target.token}` });
      const said: unknown[] = [];
      void arrived.then((channel) => channel.onMessage((message) => said.push(message)));
      socket.once("open", () => socket.send(text));
      await closed(socket);
      expect(said).toEqual([]);
    }
  });
});

test("who asks for anything else is told nothing", async () => {
  const dial = await listening();
  await closed(stranger(dial.port));
  const plain = await fetch(`http://127.0.0.1:${dial.port}/`).catch((error: unknown) => error);
  expect(plain).toBeInstanceOf(Error);
});
