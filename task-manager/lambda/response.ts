import type { Writable } from "node:stream";
import type { LambdaLine } from "../protocol.ts";

/** Where an invocation's lines go. */
export interface LambdaResponse {
  /** Resolves once the line is on its way; never rejects. */
  write(line: LambdaLine): Promise<void>;
  /** The last line. Gives the whole response where it is not streamed. */
  end(line: LambdaLine): Promise<string>;
  /** Bytes so far. */
  readonly bytes: number;
  /** What was not sent yet, which is no part of the response from then on. */
  take(): string;
}

/** Line by line. Whoever called may be gone: the work goes on all the same. */
export function streamedResponse(stream: Writable): LambdaResponse {
  let bytes = 0;
  stream.on("error", () => undefined);
  const write = (line: LambdaLine) =>
    new Promise<void>((resolve) => {
      const text = textOf(line);
      bytes += text.length;
      if (stream.destroyed) return resolve();
      stream.write(text, () => resolve());
    });
  return {
    get bytes() {
      return bytes;
    },
    write,
    async end(line) {
      await write(line);
      return "";
    },
    take: () => "",
  };
}

/** All at the end; without heartbeats, which nobody would hear in time. */
export function bufferedResponse(): LambdaResponse {
  let lines: string[] = [];
  let bytes = 0;
  const keep = (line: LambdaLine) => {
    if (line.kind === "heartbeat") return;
    const text = textOf(line);
    bytes += Buffer.byteLength(text);
    lines.push(text);
  };
  const take = () => {
    const text = lines.join("");
    lines = [];
    return text;
  };
  return {
    get bytes() {
      return bytes;
    },
    async write(line) {
      keep(line);
    },
    async end(line) {
      keep(line);
      return take();
    },
    take,
  };
}

function textOf(line: LambdaLine): string {
  return `${JSON.stringify(line)}\n`;
}
