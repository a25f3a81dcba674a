import { once } from "node:events";
import type { ServerResponse } from "node:http";
import { setTimeout as delay } from "node:timers/promises";
import type { Outcome, ResponseSink } from "./environment.ts";
import { invokeComplete, payloadChunk } from "./event-stream.ts";
import type { Fault } from "./faults.ts";

/** Lambda guide, quotas: 6 MB of a buffered response (its errors name this number), 200 MB of a streamed one. */
export const bufferedBytesMax = 6_291_556;
export const streamedBytesMax = 200 * 2 ** 20;
/** A stream runs as fast as it can for so many bytes, then at the rate below. */
const streamBurstBytes = 6 * 2 ** 20;
const streamBytesPerSecond = 2 * 2 ** 20;

/** Where an invocation's response goes. */
export interface Responder extends ResponseSink {
  /** The function is done; `log` is the tail in base64, if it was asked for. */
  finish(outcome: Outcome, log: string | null): void;
}

export interface Head {
  readonly requestId: string;
  readonly version: string;
}

/** To nobody. */
export const unheard: Responder = {
  bytesMax: streamedBytesMax,
  begin: () => {},
  write: async () => {},
  finish: () => {},
};

/** One answer when all is done: the function's error in a header, the log in another. */
export function bufferedResponse(response: ServerResponse, head: Head, fault: Fault | null): Responder {
  const chunks: Buffer[] = [];
  const timer = cutTimer(response, fault);
  return {
    bytesMax: bufferedBytesMax,
    begin: () => {},
    write: async (chunk) => void chunks.push(chunk),
    finish({ error }, log) {
      clearTimeout(timer);
      if (fault?.kind === "lose-response" || fault?.kind === "cut-stream") return void response.destroy();
      const payload = error === null ? Buffer.concat(chunks) : error.body;
      response.writeHead(200, {
        "content-type": "application/json", "content-length": payload.length,
        "x-amzn-requestid": head.requestId, "x-amz-executed-version": head.version,
        ...(error === null ? {} : { "x-amz-function-error": "Unhandled" }),
        ...(log === null ? {} : { "x-amz-log-result": log }),
      }).end(payload);
    },
  };
}

/** An event stream that begins with the function's first byte, and ends with what went wrong or nothing. */
export function streamedResponse(response: ServerResponse, head: Head, fault: Fault | null): Responder {
  let sentBytes = 0;
  let cut = false;
  const timer = cutTimer(response, fault);
  const begin = (contentType: string): void => {
    if (response.headersSent || response.destroyed) return;
    response.writeHead(200, {
      "content-type": "application/vnd.amazon.eventstream", "x-amzn-remapped-content-type": contentType,
      "x-amzn-requestid": head.requestId, "x-amz-executed-version": head.version,
    });
    response.flushHeaders();
  };
  return {
    bytesMax: streamedBytesMax,
    begin,
    async write(chunk) {
      const room = fault?.kind === "cut-stream" ? (fault.afterBytes ?? Infinity) - sentBytes : Infinity;
      sentBytes += chunk.length;
      if (!cut && room > 0) await sendOrForget(response, payloadChunk(chunk.subarray(0, room)));
      if (!cut && room <= chunk.length) {
        cut = true;
        // What was written before is still sent.
        response.socket?.end();
      }
      if (sentBytes > streamBurstBytes) await delay((chunk.length / streamBytesPerSecond) * 1000);
    },
    finish({ error }, log) {
      clearTimeout(timer);
      if (cut || fault?.kind === "lose-response") return void response.destroy();
      begin("application/octet-stream");
      response.end(invokeComplete({
        ...(error === null ? {} : { ErrorCode: error.type, ErrorDetails: error.body.toString("utf8") }),
        ...(log === null ? {} : { LogResult: log }),
      }));
    },
  };
}

function cutTimer(response: ServerResponse, fault: Fault | null): NodeJS.Timeout | undefined {
  if (fault?.kind !== "cut-stream" || fault.afterMs === undefined) return undefined;
  return setTimeout(() => response.destroy(), fault.afterMs);
}

/** A caller who is slow holds the function up; one who is gone does not. */
async function sendOrForget(response: ServerResponse, bytes: Uint8Array): Promise<void> {
  if (response.destroyed || response.write(bytes)) return;
  const gone = new AbortController();
  await Promise.race([
    once(response, "drain", { signal: gone.signal }), once(response, "close", { signal: gone.signal }),
  ]).finally(() => gone.abort()).catch(() => {});
}
