import { protocolVersion } from "../../../task-manager/protocol.ts";
import type { InvocationTarget, Invoker } from "./invoke.ts";
import type { UsageMeter } from "./usage-meter.ts";

/** So long does a ping hold its environment: the next one is answered by another. */
const holdMs = 500;
const pingTimeoutMs = 60_000;

export interface WarmKeeperOptions {
  readonly target: InvocationTarget;
  readonly invoker: Invoker;
  readonly meter: UsageMeter;
  readonly taskManagers: number;
  readonly everyMs: number;
  /** Environments that are warm because they work. */
  busy(): number;
}

/** Calls as many environments as are to be kept, all at once, again and again. Returns what ends it. */
export function keepWarm({ target, invoker, meter, taskManagers, everyMs, busy }: WarmKeeperOptions): () => void {
  const ended = new AbortController();
  const payload = JSON.stringify({ protocol: protocolVersion, kind: "ping", holdMs });

  async function ping(): Promise<void> {
    const metered = meter.start({ taskManager: null, functionName: target.functionName, beginWithinMs: holdMs });
    const { requestId, log, kind } = await invoker.invoke({
      target, payload, buffered: false, firstMs: pingTimeoutMs, silentMs: pingTimeoutMs, signal: ended.signal,
      onLine(line) {
        if (line.kind === "invocation-began") metered.began(line);
        if (line.kind === "invocation-ended") metered.ended(line);
      },
    });
    metered.over({ requestId, log, ran: kind !== "refused", abandoned: ended.signal.aborted });
  }

  const round = () => {
    for (let count = busy(); count < taskManagers; count++) void ping();
  };
  round();
  const timer = setInterval(round, everyMs);
  timer.unref();
  return () => {
    clearInterval(timer);
    ended.abort();
  };
}
