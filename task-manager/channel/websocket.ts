import { createHash } from "node:crypto";
import { isIP } from "node:net";
import { connect, type TLSSocket } from "node:tls";
import type { RawData, WebSocket } from "ws";
import type { Channel, DialTarget, OrchestratorMessage } from "../protocol.ts";
import { dialedMessageBytesMax, orchestratorMessage } from "../protocol.ts";

/** To connect, and again to be let in. */
const dialMs = 10_000;

/**
 * The Task Manager's end of a WebSocket that it opens: TLS, where the certificate is known by its fingerprint, before the
 * token is shown. A message that breaks the protocol closes it.
 * @throws Error that names address and reason, and not the token
 */
export async function dialIn<Out>(target: DialTarget): Promise<Channel<Out, OrchestratorMessage>> {
  const place = `${target.host}:${target.port}`;
  const socket = await pinned(target, place);
  const { WebSocket: Client } = await import("ws");
  const webSocket = new Client("wss://orchestrator/", {
    createConnection: () => socket, headers: { authorization: `Bearer ${target.token}` }, maxPayload: dialedMessageBytesMax, perMessageDeflate: false, handshakeTimeout: dialMs,
  });
  const channel = channelOver<Out>(webSocket);
  await opened(webSocket, place);
  return channel;
}

/** Names and authorities mean nothing here; that the other side has the certificate's key is TLS's own to check. */
function pinned({ host, port, fingerprint }: DialTarget, place: string): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port, rejectUnauthorized: false, minVersion: "TLSv1.3", ...(isIP(host) === 0 ? { servername: host } : {}) });
    const fail = (why: string) => {
      clearTimeout(timer);
      socket.destroy();
      reject(new Error(`${place} ${why}`));
    };
    const timer = setTimeout(() => fail(`did not answer within ${dialMs / 1000} s`), dialMs);
    socket.once("error", (error: NodeJS.ErrnoException) => fail(`could not be connected to (${error.code ?? error.message})`));
    socket.once("secureConnect", () => {
      const seen = createHash("sha256").update(socket.getPeerCertificate().raw ?? "").digest("hex");
      if (seen !== fingerprint) return fail("has another certificate than the orchestrator's");
      clearTimeout(timer);
      socket.removeAllListeners("error");
      socket.on("error", () => undefined);
      resolve(socket);
    });
  });
}

function opened(webSocket: WebSocket, place: string): Promise<void> {
  return new Promise((resolve, reject) => {
    webSocket.on("error", () => reject(new Error(`${place} did not go on with the connection`)));
    webSocket.once("unexpected-response", (_request, { statusCode }) => {
      reject(new Error(statusCode === 401 ? `${place} does not know the token` : `${place} answered ${statusCode}`));
      webSocket.terminate();
    });
    webSocket.once("open", () => resolve());
  });
}

function channelOver<Out>(webSocket: WebSocket): Channel<Out, OrchestratorMessage> {
  const listeners: ((message: OrchestratorMessage) => void)[] = [];
  /** Said before anybody listened. */
  const early: OrchestratorMessage[] = [];
  webSocket.on("message", (raw) => {
    const message = orchestratorMessage.safeParse(parsed(raw));
    if (!message.success) return webSocket.terminate();
    if (listeners.length === 0) early.push(message.data);
    for (const listener of listeners) listener(message.data);
  });
  return {
    send: (message) =>
      new Promise((resolve) => {
        if (webSocket.readyState !== webSocket.OPEN) return resolve();
        webSocket.send(JSON.stringify(message), () => resolve());
      }),
    onMessage(listener) {
      listeners.push(listener);
      for (const message of early.splice(0)) listener(message);
    },
    onClose(listener) {
      if (webSocket.readyState === webSocket.CLOSED) queueMicrotask(listener);
      else webSocket.once("close", listener);
    },
    close: () => webSocket.close(),
  };
}

function parsed(raw: RawData): unknown {
  try {
    return JSON.parse(String(raw));
  } catch {
    return undefined;
  }
}
