import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import { once } from "node:events";
import type { IncomingMessage } from "node:http";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import type { Duplex } from "node:stream";
import { WebSocketServer, type RawData, type WebSocket } from "ws";
import type * as z from "zod/mini";
import type { Channel, OrchestratorMessage } from "../../task-manager/protocol.ts";
import { dialedMessageBytesMax } from "../../task-manager/protocol.ts";
import { makeCertificate } from "./certificate.ts";

/** A connection that has not shown its token by then is closed. */
const introductionMs = 10_000;
/** Beside those that are expected: whoever knocks without a token must not use up this process's files. */
const strangersMax = 64;
const tokenPattern = /^Bearer ([A-Za-z0-9_-]{1,64})\.([A-Za-z0-9_-]{1,64})$/;

export interface DialInOptions<In> {
  /** Interface to listen on. */
  readonly host: string;
  /** 0: a free one. */
  readonly port: number;
  /** What may be said by those who dial in. */
  readonly schema: z.ZodMiniType<In>;
}

/** A place where one Task Manager may dial in once. */
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
  invite(onConnect: (channel: Channel<OrchestratorMessage, In>) => void): Invitation;
  close(): void;
}

interface Guest<In> {
  readonly secretHash: Buffer;
  readonly onConnect: (channel: Channel<OrchestratorMessage, In>) => void;
}

/** The key never leaves this process, and every listener has another one. @throws Error EADDRINUSE, EADDRNOTAVAIL … */
export async function listenForTaskManagers<In>({ host, port, schema }: DialInOptions<In>): Promise<DialIn<In>> {
  const { key, certificate, fingerprint } = makeCertificate();
  const guests = new Map<string, Guest<In>>();
  const webSockets = new WebSocketServer({ noServer: true, maxPayload: dialedMessageBytesMax, perMessageDeflate: false, clientTracking: true });
  const server = createServer({ key, cert: certificate, minVersion: "TLSv1.3", handshakeTimeout: introductionMs, headersTimeout: introductionMs, requestTimeout: introductionMs });
  let numbers = 0;

  function makeRoom(): void {
    server.maxConnections = webSockets.clients.size + guests.size + strangersMax;
  }

  /** Each token is good for one connection. */
  function admit(request: IncomingMessage): Guest<In> | null {
    const [, id = "", secret = ""] = tokenPattern.exec(request.headers.authorization ?? "") ?? [];
    const guest = guests.get(id);
    if (guest === undefined || !timingSafeEqual(guest.secretHash, hashOf(secret))) return null;
    guests.delete(id);
    return guest;
  }

  server.on("upgrade", (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    socket.on("error", () => undefined);
    const guest = admit(request);
    if (guest === null) return void socket.end("HTTP/1.1 401 Unauthorized\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", () => socket.destroy());
    webSockets.handleUpgrade(request, socket, head, (webSocket) => {
      webSocket.once("close", makeRoom);
      guest.onConnect(channelOver(webSocket, schema));
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
    invite(onConnect) {
      const id = String(++numbers);
      const secret = randomBytes(32).toString("base64url");
      guests.set(id, { secretHash: hashOf(secret), onConnect });
      makeRoom();
      return {
        token: `${id}.${secret}`,
        withdraw() {
          guests.delete(id);
          makeRoom();
        },
      };
    },
    close() {
      guests.clear();
      for (const client of webSockets.clients) client.terminate();
      server.close();
      server.closeAllConnections();
    },
  };
}

function hashOf(secret: string): Buffer {
  return createHash("sha256").update(secret).digest();
}

/** A message that breaks the protocol ends the connection. */
function channelOver<In>(webSocket: WebSocket, schema: z.ZodMiniType<In>): Channel<OrchestratorMessage, In> {
  const listeners: ((message: In) => void)[] = [];
  webSocket.on("message", (raw) => {
    const message = schema.safeParse(parsed(raw));
    if (!message.success) return webSocket.terminate();
    for (const listener of listeners) listener(message.data);
  });
  // What went wrong does not matter: it closes.
  webSocket.on("error", () => undefined);
  return {
    send: (message) =>
      new Promise((resolve) => {
        if (webSocket.readyState !== webSocket.OPEN) return resolve();
        webSocket.send(JSON.stringify(message), () => resolve());
      }),
    onMessage: (listener) => void listeners.push(listener),
    onClose: (listener) => void webSocket.once("close", listener),
    close: () => webSocket.terminate(),
  };
}

function parsed(raw: RawData): unknown {
  try {
    return JSON.parse(String(raw));
  } catch {
    return undefined;
  }
}
