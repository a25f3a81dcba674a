import { EventStreamCodec } from "@smithy/core/event-streams";

export interface InvokeComplete {
  /** Of what went wrong; absent when nothing did. */
  readonly ErrorCode?: string;
  readonly ErrorDetails?: string;
  /** The last 4 KB of the log in base64, if it was asked for. */
  readonly LogResult?: string;
}

/** Events as `InvokeWithResponseStream` sends them (`application/vnd.amazon.eventstream`). */
const codec = new EventStreamCodec((bytes) => Buffer.from(bytes as Uint8Array).toString("utf8"), (text) => Buffer.from(text, "utf8"));

export function payloadChunk(payload: Uint8Array): Uint8Array {
  return event("PayloadChunk", "application/octet-stream", payload);
}

export function invokeComplete(complete: InvokeComplete): Uint8Array {
  return event("InvokeComplete", "application/json", Buffer.from(JSON.stringify(complete)));
}

function event(type: string, contentType: string, body: Uint8Array): Uint8Array {
  return codec.encode({
    headers: {
      ":event-type": { type: "string", value: type },
      ":content-type": { type: "string", value: contentType },
      ":message-type": { type: "string", value: "event" },
    },
    body,
  });
}
