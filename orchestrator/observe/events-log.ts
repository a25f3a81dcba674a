import { createWriteStream, type WriteStream } from "node:fs";
import type { SchedulerCommand, SchedulerEvent, SchedulerPlan } from "../scheduler/types.ts";
import { encodeStep } from "../scheduler/replay.ts";

/** Lines gathered into one write. */
const chunkBytes = 64 * 1024;
/** A run that is killed leaves a record up to about this long before. */
const flushEveryMs = 1000;
/** What the disk has not taken yet; above it, the record ends here rather than the memory. */
const pendingBytesMax = 64_000_000;

export interface EventsLog {
  stepped(event: SchedulerEvent, nowMs: number, commands: readonly SchedulerCommand[]): void;
  close(): Promise<void>;
}

/** First line of events.jsonl: what is needed to step a scheduler through the rest. */
export interface EventsHeader {
  readonly splitrunEvents: 1;
  readonly plan: SchedulerPlan;
}

/** Records every step of the scheduler: index ranges and times, never inputs. */
export function openEventsLog(path: string, plan: SchedulerPlan, onError: (message: string) => void): EventsLog {
  const stream = createWriteStream(path, { flags: "w", mode: 0o600, highWaterMark: chunkBytes });
  let lines: string[] = [];
  let bytes = 0;
  let broken = false;
  stream.on("error", (error) => {
    broken = true;
    onError(`events.jsonl ends here: ${error.message}`);
  });
  const header: EventsHeader = { splitrunEvents: 1, plan };
  add(JSON.stringify(header));
  const timer = setInterval(flush, flushEveryMs);

  function add(line: string): void {
    lines.push(line);
    bytes += line.length + 1;
    if (bytes >= chunkBytes) flush();
  }

  function flush(): void {
    if (lines.length === 0 || broken) return;
    if (stream.writableLength > pendingBytesMax) {
      broken = true;
      return onError("events.jsonl ends here: the disk does not keep up");
    }
    stream.write(`${lines.join("\n")}\n`);
    lines = [];
    bytes = 0;
  }

  return {
    stepped(event, nowMs, commands) {
      if (!broken) add(encodeStep(event, nowMs, commands));
    },
    async close() {
      clearInterval(timer);
      flush();
      await ended(stream);
    },
  };
}

function ended(stream: WriteStream): Promise<void> {
  return new Promise((resolve) => {
    // After an error, of a full disk say, it has closed by itself.
    if (stream.closed) return resolve();
    stream.once("close", resolve);
    stream.end();
  });
}
