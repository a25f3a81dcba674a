import { describe, expect, test } from "vitest";
import { parseInitReport, parseReport } from "../../../orchestrator/backends/lambda/report.ts";

const id = "8f507cfc-example";

describe("a REPORT line of Lambda", () => {
  test("of a cold start that died has all its fields", () => {
    const line = `REPORT RequestId: ${id}\tDuration: 133.61 ms\tBilled Duration: 214 ms\tMemory Size: 128 MB\tMax Memory Used: 31 MB\tInit Duration: 80.00 ms\tStatus: error\tError Type: Runtime.ExitError`;
    expect(parseReport(line)).toEqual({
      requestId: id, durationMs: 133.61, billedMs: 214, initMs: 80, memoryMb: 128, maxMemoryMb: 31, status: "error", errorType: "Runtime.ExitError",
    });
  });

  test("of a warm start has no init, and nothing wrong", () => {
    const line = `REPORT RequestId: ${id}\tDuration: 3.00 ms\tBilled Duration: 3 ms\tMemory Size: 1769 MB\tMax Memory Used: 310 MB\t`;
    expect(parseReport(line)).toEqual({
      requestId: id, durationMs: 3, billedMs: 3, initMs: null, memoryMb: 1769, maxMemoryMb: 310, status: "success", errorType: null,
    });
  });

  test("may have its fields in another order and more of them", () => {
    const line = `REPORT RequestId: ${id}\tInit Duration: 7.50 ms\tBilled Duration: 20 ms\tRestore Duration: 99.00 ms\tMax Memory Used: 31 MB\tDuration: 12.00 ms\tMemory Size: 128 MB\tXRAY TraceId: 1-5e\tSampled: true`;
    expect(parseReport(line)).toMatchObject({ durationMs: 12, billedMs: 20, initMs: 7.5, memoryMb: 128, maxMemoryMb: 31 });
  });

  test("is found in a log tail, the last one where there are several", () => {
    const tail = (billed: number) => `START RequestId: ${id} Version: 3\nsome text: Duration: 1 ms\nEND RequestId: ${id}\nREPORT RequestId: ${id}\tDuration: 1.00 ms\tBilled Duration: ${billed} ms\tMemory Size: 128 MB\tMax Memory Used: 31 MB\t\n`;
    expect(parseReport(tail(1) + tail(2))?.billedMs).toBe(2);
  });

  test("of a time-out in the older form is told by the line beside it", () => {
    const tail = `2023-01-05T10:00:03.000Z ${id} Task timed out after 3.00 seconds\n\nREPORT RequestId: ${id}\tDuration: 3003.17 ms\tBilled Duration: 3000 ms\tMemory Size: 128 MB\tMax Memory Used: 31 MB\t`;
    expect(parseReport(tail)?.status).toBe("timeout");
    expect(parseReport(tail.replace(id, "another"))?.status).toBe("success");
  });

  test("has the same in JSON", () => {
    const metrics = { durationMs: 60.5, billedDurationMs: 198, memorySizeMB: 128, maxMemoryUsedMB: 72, initDurationMs: 137.1 };
    const entry = { time: "2026-11-21T10:00:00.000Z", type: "platform.report", record: { requestId: id, metrics, status: "failure", errorType: "Runtime.OutOfMemory" } };
    expect(parseReport(`{"type":"platform.start"}\n${JSON.stringify(entry)}\n`)).toEqual({
      requestId: id, durationMs: 60.5, billedMs: 198, initMs: 137.1, memoryMb: 128, maxMemoryMb: 72, status: "error", errorType: "Runtime.OutOfMemory",
    });
  });

  test("that is none is null, whatever it looks like", () => {
    for (const text of ["", "REPORT", `REPORT RequestId: ${id}`, "{\"type\":\"platform.report\"", "{\"type\":\"platform.report\",\"record\":null}", "INIT_REPORT Init Duration: 1.00 ms\tPhase: init"]) {
      expect(parseReport(text), text).toBeNull();
    }
  });
});

describe("an INIT_REPORT line", () => {
  test("says how long the init took and how it ended", () => {
    expect(parseInitReport("INIT_REPORT Init Duration: 1236.04 ms\tPhase: init\tStatus: timeout")).toEqual({ initMs: 1236.04, status: "timeout", errorType: null });
    expect(parseInitReport("INIT_REPORT Init Duration: 80.00 ms\tPhase: init\tStatus: error\tError Type: Runtime.ExitError")).toEqual({
      initMs: 80, status: "error", errorType: "Runtime.ExitError",
    });
  });

  test("has the same in JSON", () => {
    const record = { initializationType: "on-demand", phase: "init", status: "timeout", metrics: { durationMs: 9_999.5 } };
    expect(parseInitReport(JSON.stringify({ type: "platform.initReport", record }))).toEqual({ initMs: 9_999.5, status: "timeout", errorType: null });
  });

  test("is none of a REPORT line with an init", () => {
    expect(parseInitReport(`REPORT RequestId: ${id}\tDuration: 1.00 ms\tBilled Duration: 81 ms\tMemory Size: 128 MB\tInit Duration: 80.00 ms`)).toBeNull();
  });
});
