/** What a failed function answers with, as Lambda words it. */
export interface FunctionError {
  readonly type: string;
  /** JSON `{errorType, errorMessage, …}`. */
  readonly body: Buffer;
}

export function functionError(type: string, message: string): FunctionError {
  return { type, body: Buffer.from(JSON.stringify({ errorType: type, errorMessage: message })) };
}

export function timedOut(requestId: string, timeoutSeconds: number): FunctionError {
  return functionError("Sandbox.Timedout", `RequestId: ${requestId} Error: Task timed out after ${timeoutSeconds.toFixed(2)} seconds`);
}

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

const signalNames: Readonly<Partial<Record<NodeJS.Signals, string>>> = {
  SIGKILL: "killed", SIGABRT: "aborted", SIGSEGV: "segmentation fault", SIGTERM: "terminated", SIGINT: "interrupt", SIGBUS: "bus error", SIGILL: "illegal instruction",
};

export function exitReason({ code, signal }: Exit): string {
  if (signal !== null) return `Runtime exited with error: signal: ${signalNames[signal] ?? signal.toLowerCase()}`;
  return code === 0 ? "Runtime exited without providing a reason" : `Runtime exited with error: exit status ${String(code)}`;
}

/** Reads `errorType` out of a body that a runtime sent. */
export function reportedError(body: Buffer, type: string | null): FunctionError {
  if (type !== null && type !== "") return { type, body };
  try {
    const { errorType } = JSON.parse(body.toString("utf8")) as { errorType?: unknown };
    return { type: typeof errorType === "string" ? errorType : "Runtime.Unknown", body };
  } catch {
    return { type: "Runtime.Unknown", body };
  }
}

export interface Report {
  readonly requestId: string;
  readonly durationMs: number;
  readonly billedMs: number;
  readonly memoryMb: number;
  readonly maxMemoryMb: number;
  /** null: not a cold start. */
  readonly initMs: number | null;
  /** null: nothing went wrong that Lambda, not the handler, saw. */
  readonly failure: { readonly status: "timeout" | "error"; readonly type: string } | null;
}

/** Lambda guide, "Monitoring function metrics"; `Status` and `Error Type` are of the newer form and only there on failures. */
export function reportLine({ requestId, durationMs, billedMs, memoryMb, maxMemoryMb, initMs, failure }: Report): string {
  return [
    `REPORT RequestId: ${requestId}`, `Duration: ${durationMs.toFixed(2)} ms`, `Billed Duration: ${billedMs} ms`,
    `Memory Size: ${memoryMb} MB`, `Max Memory Used: ${maxMemoryMb} MB`,
    ...(initMs === null ? [] : [`Init Duration: ${initMs.toFixed(2)} ms`]),
    ...(failure === null ? [] : [`Status: ${failure.status}`, ...(failure.status === "timeout" ? [] : [`Error Type: ${failure.type}`])]),
  ].join("\t");
}

export function initReportLine(initMs: number, status: "timeout" | "error", type: string): string {
  return [`INIT_REPORT Init Duration: ${initMs.toFixed(2)} ms`, "Phase: init", `Status: ${status}`, ...(status === "timeout" ? [] : [`Error Type: ${type}`])].join("\t");
}
