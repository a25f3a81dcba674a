import { count } from "./progress.ts";

/** What lack of memory has cost. */
export interface MemoryShort {
  /** Task Managers that ended for it. */
  readonly ended: number;
  /** The least that one did at once, of its usual batch size and items in flight: 0.25 is a quarter. */
  readonly leastWidth: number;
  readonly knob: string;
}

/** What of the job decides how much memory it takes. */
export interface MemorySettings {
  readonly backend: string;
  readonly task: "inference" | "function";
  readonly maxRamPerWorkerMb: number | null;
}

export interface MemoryGatherer {
  narrowed(width: number): void;
  ended(): void;
  /** null: there was enough. */
  short(settings: MemorySettings): MemoryShort | null;
}

export function createMemoryGatherer(): MemoryGatherer {
  let leastWidth = 1;
  let ended = 0;
  return {
    narrowed: (width) => void (leastWidth = Math.min(leastWidth, width)),
    ended: () => void (ended += 1),
    short: (settings) => (ended === 0 && leastWidth === 1 ? null : { ended, leastWidth, knob: knobOf(settings) }),
  };
}

function knobOf({ backend, task, maxRamPerWorkerMb }: MemorySettings): string {
  const less = task === "function" ? "a lower task.concurrency or task.threads" : "a lower task.infer.batch, task.infer.sessions or task.download.concurrency";
  if (maxRamPerWorkerMb !== null) return `raise resources.maxRamPerWorkerMb (${maxRamPerWorkerMb}); where there is no more, ${less}`;
  if (backend === "lambda") return `more memory for the function (splitrun deploy --memory-mb); where that costs too much, ${less}`;
  return `fewer taskManagers, or ${less}`;
}

export function memoryLines(short: MemoryShort | null): readonly string[] {
  if (short === null) return [];
  const { ended, leastWidth, knob } = short;
  const narrowed = leastWidth === 1 ? [] : [`batches and items in flight came down to ${Math.round(leastWidth * 100)}%`];
  const ends = ended === 0 ? [] : [`${ended === 1 ? "1 Task Manager" : `${count(ended)} Task Managers`} ended for it`];
  return [`  Memory was short: ${[...narrowed, ...ends].join(", and ")}. To go faster: ${knob}.`];
}
