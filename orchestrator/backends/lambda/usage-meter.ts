import type { LambdaMessage } from "../../../task-manager/protocol.ts";
import type { Meter, Usage, UsageInFlight } from "../types.ts";
import { parseReport } from "./report.ts";

type Began = Extract<LambdaMessage, { kind: "invocation-began" }>;
type Ended = Extract<LambdaMessage, { kind: "invocation-ended" }>;
type Facts = Pick<Usage, "memoryMb" | "ephemeralMb" | "architecture" | "region">;

/** Until a function has said what it is. */
const factsUnknown: Omit<Facts, "region"> = { memoryMb: 1769, ephemeralMb: 512, architecture: "x86_64" };
/** From the last item begun to the end. */
const endMs = 10_000;

/** One invocation that was sent off. */
export interface MeteredInvocation {
  began(line: Began): void;
  ended(line: Ended): void;
  /** `abandoned`: it goes on, and nobody reads what it says. Nothing is to be paid where it did not run. */
  over(how: { readonly requestId: string | null; readonly log: string | null; readonly ran: boolean; readonly abandoned: boolean }): void;
}

export interface UsageMeter extends Meter {
  /** Requests to S3 by which functions fetched artifacts, so far. */
  readonly storageReads: number;
  /** `beginWithinMs`: nothing is begun after that; null: it ends when it is told to. */
  start(about: { readonly taskManager: string | null; readonly functionName: string; readonly beginWithinMs: number | null }): MeteredInvocation;
}

/** What invocations cost in time: as Lambda reports it where the report came along, else by what was seen of them. */
export function createUsageMeter({ region, splitMs, now }: { readonly region: string; readonly splitMs: number; readonly now: () => number }): UsageMeter {
  const listeners: ((usage: Usage) => void)[] = [];
  const running = new Set<() => UsageInFlight>();
  const factsByFunction = new Map<string, Facts>();
  let storageReads = 0;

  return {
    longestMs: splitMs + endMs,
    onUsage: (listener) => void listeners.push(listener),
    get storageReads() {
      return storageReads;
    },
    inFlight: () => [...running].map((inFlight) => inFlight()),
    start({ taskManager, functionName, beginWithinMs }) {
      const startedMs = now();
      const inFlightOf = (remainingMs: number) => (): UsageInFlight => ({
        taskManager, startedMs, notAfterMs: Math.min(startedMs + remainingMs, (beginWithinMs === null ? now() : startedMs + beginWithinMs) + endMs), ...(factsByFunction.get(functionName) ?? { ...factsUnknown, region }),
      });
      let inFlight = inFlightOf(Infinity);
      let began: Began | null = null;
      let ended: Ended | null = null;
      running.add(inFlight);
      return {
        began(line) {
          began = line;
          const { memoryMb, ephemeralMb, architecture } = line;
          factsByFunction.set(functionName, { memoryMb, ephemeralMb, architecture, region: line.region === "" ? region : line.region });
          running.delete(inFlight);
          inFlight = inFlightOf(now() - startedMs + line.remainingMs);
          running.add(inFlight);
        },
        ended(line) {
          ended = line;
          storageReads += line.storageReads ?? 0;
        },
        over({ requestId, log, ran, abandoned }) {
          running.delete(inFlight);
          if (!ran) return;
          const report = log === null ? null : parseReport(log);
          const initMs = report?.initMs ?? began?.initMs ?? null;
          const untilMs = abandoned ? inFlight().notAfterMs : now();
          const seenMs = ended === null ? untilMs - startedMs : ended.durationMs + (initMs ?? 0);
          const { memoryMb, ephemeralMb, architecture, region: where } = inFlight();
          const ownMs = began?.cold === false && !abandoned ? (ended?.durationMs ?? null) : null;
          const usage: Usage = {
            taskManager, requestId, invocations: 1, billedMs: report?.billedMs ?? Math.ceil(seenMs), memoryMb: report?.memoryMb ?? memoryMb, ephemeralMb,
            architecture, region: where, initMs, maxMemoryMb: report?.maxMemoryMb ?? (ended === null ? null : Math.ceil((ended.rssMb * 1e6) / 2 ** 20)),
            source: report === null ? "computed" : "report", wasted: abandoned,
            seen: ownMs === null ? null : { ms: untilMs - startedMs, overheadMs: Math.max(0, untilMs - startedMs - ownMs) },
          };
          for (const listener of listeners) listener(usage);
        },
      };
    },
  };
}
