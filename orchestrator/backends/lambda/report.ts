/** What Lambda says of an invocation once it has ended. */
export interface LambdaReport {
  readonly requestId: string;
  readonly durationMs: number;
  /** What is paid for: the duration, and the init where there was one, rounded up. */
  readonly billedMs: number;
  /** Null: not a cold start. */
  readonly initMs: number | null;
  readonly memoryMb: number;
  readonly maxMemoryMb: number | null;
  readonly status: "success" | "timeout" | "error";
  /** `Runtime.ExitError` and the like; null where nothing went wrong, or in older logs. */
  readonly errorType: string | null;
}

/** An init that failed, or took too long: it is run again inside of the invocation. */
export interface LambdaInitReport {
  readonly initMs: number;
  readonly status: "success" | "timeout" | "error";
  readonly errorType: string | null;
}

type JsonRecord = Readonly<Record<string, unknown>>;

/**
 * The last report in a piece of log: a tab-separated `REPORT` line, or a `platform.report` record where the function
 * logs JSON. Each field is looked for by itself, since Lambda has added and moved some over the years.
 * @param text a line, the log tail of an invocation, or the whole log
 */
export function parseReport(text: string): LambdaReport | null {
  for (const line of text.split("\n").reverse()) {
    const report = lineReport(line, text) ?? recordReport(line);
    if (report !== null) return report;
  }
  return null;
}

/** The same of an init: `INIT_REPORT`, or `platform.initReport`. */
export function parseInitReport(text: string): LambdaInitReport | null {
  for (const line of text.split("\n").reverse()) {
    const report = lineInitReport(line) ?? recordInitReport(line);
    if (report !== null) return report;
  }
  return null;
}

function lineReport(line: string, log: string): LambdaReport | null {
  const requestId = /(?<!INIT_)REPORT RequestId: (\S+)/.exec(line)?.[1];
  const billedMs = numberIn(line, /Billed Duration: ([\d.]+) ms/);
  const memoryMb = numberIn(line, /Memory Size: (\d+) MB/);
  if (requestId === undefined || billedMs === null || memoryMb === null) return null;
  return {
    requestId,
    durationMs: numberIn(line, /(?<!\w )Duration: ([\d.]+) ms/) ?? billedMs,
    billedMs,
    initMs: numberIn(line, /Init Duration: ([\d.]+) ms/),
    memoryMb,
    maxMemoryMb: numberIn(line, /Max Memory Used: (\d+) MB/),
    // Before there was a status, a time-out had a line of its own.
    status: statusOf(/Status: (\w+)/.exec(line)?.[1] ?? (hasTimeoutOf(requestId, log) ? "timeout" : undefined)),
    errorType: /Error Type: (\S+)/.exec(line)?.[1] ?? null,
  };
}

function hasTimeoutOf(requestId: string, log: string): boolean {
  return log.split("\n").some((line) => line.includes(requestId) && /Task timed out after [\d.]+ seconds/.test(line));
}

function recordReport(line: string): LambdaReport | null {
  const record = recordOf(line, "platform.report");
  const metrics = asRecord(record?.["metrics"]);
  const requestId = record?.["requestId"];
  const billedMs = asNumber(metrics?.["billedDurationMs"]);
  const memoryMb = asNumber(metrics?.["memorySizeMB"]);
  if (typeof requestId !== "string" || billedMs === null || memoryMb === null) return null;
  return {
    requestId,
    durationMs: asNumber(metrics?.["durationMs"]) ?? billedMs,
    billedMs,
    initMs: asNumber(metrics?.["initDurationMs"]),
    memoryMb,
    maxMemoryMb: asNumber(metrics?.["maxMemoryUsedMB"]),
    ...endOf(record),
  };
}

function lineInitReport(line: string): LambdaInitReport | null {
  const initMs = /INIT_REPORT /.test(line) ? numberIn(line, /Init Duration: ([\d.]+) ms/) : null;
  if (initMs === null) return null;
  return { initMs, status: statusOf(/Status: (\w+)/.exec(line)?.[1]), errorType: /Error Type: (\S+)/.exec(line)?.[1] ?? null };
}

function recordInitReport(line: string): LambdaInitReport | null {
  const record = recordOf(line, "platform.initReport");
  const initMs = asNumber(asRecord(record?.["metrics"])?.["durationMs"]);
  return initMs === null ? null : { initMs, ...endOf(record) };
}

function endOf(record: JsonRecord | null): Pick<LambdaReport, "status" | "errorType"> {
  const errorType = record?.["errorType"];
  return { status: statusOf(record?.["status"]), errorType: typeof errorType === "string" ? errorType : null };
}

/** Lambda's JSON says `failure` where its text says `error`. */
function statusOf(status: unknown): LambdaReport["status"] {
  if (status === undefined || status === "success") return "success";
  return status === "timeout" ? "timeout" : "error";
}

function recordOf(line: string, type: string): JsonRecord | null {
  if (!line.includes(type)) return null;
  try {
    const entry = asRecord(JSON.parse(line));
    return entry?.["type"] === type ? asRecord(entry["record"]) : null;
  } catch {
    return null;
  }
}

function numberIn(line: string, pattern: RegExp): number | null {
  const found = pattern.exec(line)?.[1];
  return found === undefined ? null : Number(found);
}

function asNumber(value: unknown): number | null {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}

function asRecord(value: unknown): JsonRecord | null {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as JsonRecord) : null;
}
