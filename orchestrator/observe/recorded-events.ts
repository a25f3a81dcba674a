import { createReadStream } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import path from "node:path";
import { createInterface } from "node:readline";
import { SplitrunError } from "../errors.ts";
import type { SchedulerPlan } from "../scheduler/types.ts";
import type { EventsHeader } from "./events-log.ts";

export interface RecordedEvents {
  readonly plan: SchedulerPlan;
  /** A step each. */
  readonly lines: AsyncIterable<string>;
}

/** @throws SplitrunError that says why there is nothing to step through, and names the run directories where a home was given */
export async function openRecordedEvents(runDir: string): Promise<RecordedEvents> {
  const lines = linesOf(await eventsOf(runDir));
  const { plan } = await headerOf(lines);
  return { plan, lines };
}

async function eventsOf(runDir: string): Promise<string> {
  const file = path.join(runDir, "events.jsonl");
  const { size } = await stat(file).catch(() => ({ size: null }));
  if (size !== null && size > 0) return file;
  const runs = await readdir(path.join(runDir, "runs")).catch(() => []);
  const wayOut = runs.length > 0 ? `; name a run of it: ${runs.map((run) => path.join(runDir, "runs", run)).join(", ")}` : "; name a directory of <home>/runs/";
  const trouble = size === 0 ? "was cut before anything of it was recorded" : "has no events.jsonl";
  throw new SplitrunError(`${runDir} ${trouble}${size === 0 ? "" : wayOut}`, { code: "REPLAY_UNREADABLE", value: runDir });
}

function linesOf(file: string): AsyncIterableIterator<string> {
  return createInterface({ input: createReadStream(file), crlfDelay: Infinity })[Symbol.asyncIterator]();
}

async function headerOf(lines: AsyncIterator<string>): Promise<EventsHeader> {
  try {
    const first = await lines.next();
    const header = JSON.parse(first.value as string) as Partial<EventsHeader>;
    if (header.splitrunEvents === 1 && header.plan !== undefined) return header as EventsHeader;
  } catch (cause) {
    throw new SplitrunError(`the run directory has no events.jsonl that can be replayed: ${cause instanceof Error ? cause.message : String(cause)}`, { code: "REPLAY_UNREADABLE", cause });
  }
  throw new SplitrunError("events.jsonl was written by another version of splitrun", { code: "REPLAY_UNREADABLE" });
}
