import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import { once } from "node:events";
import { STATUS_CODES, type IncomingMessage } from "node:http";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import type { Duplex } from "node:stream";
import { WebSocketServer } from "ws";
import { dialedLimits, ResumableChannel } from "../../task-manager/channel/resumable.ts";
import { carry, endForGood } from "../../task-manager/channel/web-socket-wire.ts";
import type { Channel, OrchestratorMessage } from "../../task-manager/protocol.ts";
import { dialedFrameBytesMax, sessionHeader } from "../../task-manager/protocol.ts";
import { makeCertificate } from "./certificate.ts";

/** A connection that has not shown its token by then is closed. */
const introductionMs = 10_000;
/** Beside those that are expected: whoever knocks without a token must not use up this process's files. */
const strangersMax = 64;
/** Of what a Task Manager has not acknowledged: one that is away for so much is not waited for. */
const heldBytesMax = 64 * 2 ** 20;
const tokenPattern = /^Bearer ([A-Za-z0-9_-]{1,64})\.([A-Za-z0-9_-]{1,64})$/;
const sessionPattern = /^[A-Za-z0-9_-]{32,64}$/;

export interface DialInOptions<In> {
  /** Interface to listen on. */
  readonly host: string;
  /** 0: a free one. */
  readonly port: number;
  /** What was said by one who dialed in; null: what may not be. */
  messageOf(value: unknown): In | null;
}

export interface Guest<In> {
  /** When its connection is lost, another one within that time goes on where it ended. */
  readonly comeBackWithinMs: number;
  /** It has dialed in. The channel closes once it has left, or was away for too long. */
  onConnect(channel: DialedChannel<In>): void;
}

export interface DialedChannel<In> extends Channel<OrchestratorMessage, In> {
  /** Why the connection is no more, in words; null: it is, or may come back. */
  readonly endedBecause: string | null;
}

/** A place where one Task Manager may dial in. */
export interface Invitation {
  /** Belongs into a header, and nowhere else. */
  readonly token: string;
  /** From now on it is worth nothing; a connection that is there stays. */
  withdraw(): void;
}

/** Where Task Managers dial in: WebSockets over TLS, with a token each. */
export interface DialIn<In> {
  readonly port: number;
  /** SHA-256 of the certificate, hex. */
  readonly fingerprint: string;
  invite(guest: Guest<In>): Invitation;
  close(): void;
}

type OurChannel<In> = ResumableChannel<OrchestratorMessage, In>;

/** Who may dial in, and from then on who has. */
interface Place<In> {
  readonly guest: Guest<In>;
  readonly tokenHash: Buffer;
  isWithdrawn: boolean;
  /** Of the Task Manager that came first: no other can pass for it by the token alone. */
  session: { readonly hash: Buffer; readonly channel: OurChannel<In> } | null;
  /** Runs while it is away. */
  awayTimer: NodeJS.Timeout | undefined;
}

interface Visitor<In> {
  readonly place: Place<In>;
  readonly session: string;
}

/** The key never leaves this process, and every listener has another one. @throws Error EADDRINUSE, EADDRNOTAVAIL … */
export async function listenForTaskManagers<In>({ host, port, messageOf }: DialInOptions<In>): Promise<DialIn<In>> {
  const { key, certificate, fingerprint } = makeCertificate();
  const places = new Map<string, Place<In>>();
  const webSockets = new WebSocketServer({ noServer: true, maxPayload: dialedFrameBytesMax, perMessageDeflate: false, clientTracking: true });
  const server = createServer({ key, cert: certificate, minVersion: "TLSv1.3", handshakeTimeout: introductionMs, headersTimeout: introductionMs, requestTimeout: introductionMs });
  let numbers = 0;

  function makeRoom(): void {
    server.maxConnections = webSockets.clients.size + places.size + strangersMax;
  }

  /** Who it is, or the status to turn it away with. */
  function admit(request: IncomingMessage): Visitor<In> | number {
    const credentials = credentialsOf(request);
    const place = places.get(credentials?.id ?? "");
    if (credentials === null || place === undefined || !isHashOf(place.tokenHash, credentials.token)) return 401;
    if (place.session !== null && !isHashOf(place.session.hash, credentials.session)) return 401;
    return place.session?.channel.isOver === true ? 410 : { place, session: credentials.session };
  }

  /** Its channel, which is a new one when it comes for the first time. */
  function channelOf({ place, session }: Visitor<In>): OurChannel<In> {
    if (place.session !== null) return place.session.channel;
    const channel = new ResumableChannel<OrchestratorMessage, In>({
      limits: dialedLimits,
      messageOf,
      isExpendable: () => false,
      heldBytesMax,
      onResumed: () => stopWaiting(place),
    });
    channel.onClose(() => stopWaiting(place));
    place.session = { hash: hashOf(session), channel };
    place.guest.onConnect(channel);
    return channel;
  }

  function wait(place: Place<In>, channel: OurChannel<In>): void {
    if (place.isWithdrawn) return channel.end("it was lost");
    // It may have been away before, with connections in between that came to nothing.
    const { comeBackWithinMs } = place.guest;
    place.awayTimer ??= setTimeout(() => channel.end(`it was lost, and not taken up again within ${comeBackWithinMs / 1000} s (heartbeat.timeoutMs)`), comeBackWithinMs);
  }

  function stopWaiting(place: Place<In>): void {
    clearTimeout(place.awayTimer);
    place.awayTimer = undefined;
  }

  server.on("upgrade", (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    socket.on("error", () => undefined);
    const visitor = admit(request);
    if (typeof visitor === "number") return turnAway(socket, visitor);
    webSockets.handleUpgrade(request, socket, head, (webSocket) => {
      makeRoom();
      webSocket.once("close", makeRoom);
      const channel = channelOf(visitor);
      carry(channel, webSocket, () => wait(visitor.place, channel));
    });
  });
  server.on("request", (_request, response) => response.writeHead(426, { Connection: "close" }).end());
  server.on("tlsClientError", (_error, socket) => socket.destroy());
  makeRoom();
  server.listen(port, host);
  await once(server, "listening");

  return {
    port: (server.address() as AddressInfo).port,
    fingerprint,
    invite(guest) {
      const id = String(++numbers);
      const secret = randomBytes(32).toString("base64url");
      const place: Place<In> = { guest, tokenHash: hashOf(secret), isWithdrawn: false, session: null, awayTimer: undefined };
      places.set(id, place);
      makeRoom();
      return {
        token: `${id}.${secret}`,
        withdraw() {
          place.isWithdrawn = true;
          if (place.awayTimer !== undefined) place.session?.channel.end("it was lost");
          places.delete(id);
          makeRoom();
        },
      };
    },
    close() {
      for (const { session } of places.values()) session?.channel.end("nobody listens any more");
      places.clear();
      for (const client of webSockets.clients) endForGood(client);
      server.close();
      server.closeAllConnections();
    },
  };
}

function credentialsOf({ headers }: IncomingMessage): { readonly id: string; readonly token: string; readonly session: string } | null {
  const [, id = "", token = ""] = tokenPattern.exec(headers.authorization ?? "") ?? [];
  const session = headers[sessionHeader];
  return id === "" || typeof session !== "string" || !sessionPattern.test(session) ? null : { id, token, session };
}

function turnAway(socket: Duplex, status: number): void {
  socket.end(`HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`, () => socket.destroy());
}

function isHashOf(hash: Buffer, secret: string): boolean {
  return timingSafeEqual(hash, hashOf(secret));
}

function hashOf(secret: string): Buffer {
  return createHash("sha256").update(secret).digest();
}
