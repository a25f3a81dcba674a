import type { WebSocket } from "ws";
import type { ResumableChannel, Wire } from "./resumable.ts";

/** RFC 6455, 7.4.1. */
const normalClosure = 1000;
/** Of a connection that ended without anybody's having closed it. */
const abnormalClosure = 1006;
/** For the other side to hear of an end; a connection that is dead need not be waited for. */
const endMs = 1_000;

/** The channel goes on over this connection, which is open. `onLost`: it ended, and the channel has no other one. */
export function carry<Out, In>(channel: ResumableChannel<Out, In>, webSocket: WebSocket, onLost: () => void): void {
  const wire: Wire = {
    write: (frame, done) => webSocket.send(frame, () => done()),
    drop: () => webSocket.terminate(),
    end: () => endForGood(webSocket),
  };
  webSocket.on("message", (raw, isBinary) => {
    if (isBinary) channel.left(wire, "the other side broke the protocol");
    else channel.hear(wire, String(raw));
  });
  // What would be said again in the same way cannot be mended by another connection.
  webSocket.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code?.startsWith("WS_ERR_") === true) channel.left(wire, `the other side broke the WebSocket protocol (${error.code})`);
  });
  webSocket.once("close", (code) => {
    if (code !== abnormalClosure) channel.left(wire, "ended by the other side");
    else if (channel.lost(wire)) onLost();
  });
  channel.attach(wire);
}

/** The other side hears that it is not to come back. */
export function endForGood(webSocket: WebSocket): void {
  webSocket.close(normalClosure);
  setTimeout(() => webSocket.terminate(), endMs).unref();
}
