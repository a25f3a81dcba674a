import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { InvokeCommand } from "@aws-sdk/client-lambda";
import type { LambdaClient } from "@aws-sdk/client-lambda";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startLambdaEmulator } from "../support/lambda/emulator.ts";
import type { LambdaEmulator } from "../support/lambda/emulator.ts";
import type { RuntimeClient } from "../support/lambda/runtimes.ts";
import { zipOf } from "../support/lambda/zip.ts";
import { clientOf, deploy, handlersZip, invoke, invokeStreamed, until } from "./setup.ts";

const report = /REPORT RequestId: \S+\tDuration: (?<duration>[\d.]+) ms\tBilled Duration: (?<billed>\d+) ms\tMemory Size: (?<size>\d+) MB\tMax Memory Used: (?<used>\d+) MB(?:\tInit Duration: (?<init>[\d.]+) ms)?/;

function reportOf(log: string): { readonly duration: number; readonly billed: number; readonly used: number; readonly init: number | null } {
  const { duration, billed, used, init } = report.exec(log)?.groups ?? {};
  return { duration: Number(duration), billed: Number(billed), used: Number(used), init: init === undefined ? null : Number(init) };
}

function isGone(pid: unknown): boolean {
  return !existsSync(`/proc/${String(pid)}`);
}

/** A signal takes effect when the process next runs. */
async function untilStopped(pid: unknown): Promise<void> {
  await until(() => /\) T /.test(readFileSync(`/proc/${String(pid)}/stat`, "utf8")));
}

/** What holds whichever client of the Runtime API runs the functions. */
export function functionsBehaveAsInLambda(kind: RuntimeClient): void {
  let emulator: LambdaEmulator;
  let client: LambdaClient;
  let role: string;
  let outside: string;

  beforeAll(async () => {
    outside = await mkdtemp(path.join(tmpdir(), "splitrun-test-"));
    emulator = await startLambdaEmulator({ client: kind, secondMs: 500 });
    console.info(emulator.describeRuntime("nodejs22.x"));
    client = clientOf(emulator);
    role = emulator.createRole("functions");
    await Promise.all([
      deploy(client, "buffered", { Role: role, Environment: { Variables: { COLOR: "green" } } }),
      deploy(client, "streamed", { Role: role, Handler: "handlers.streamed" }),
    ]);
  });

  afterAll(async () => {
    client.destroy();
    await emulator.stop();
    expect(emulator.environments).toEqual([]);
    await rm(outside, { recursive: true, force: true });
  });

  test("the handler sees its event, its context and the environment that Lambda makes", async () => {
    const { payload, version, requestId, functionError } = await invoke(client, "buffered", { a: [1, "ü"] });
    expect(functionError).toBeUndefined();
    expect(payload).toMatchObject({
      event: { a: [1, "ü"] }, color: "green", region: "us-east-1", version: "$LATEST", requestId,
      arn: "arn:aws:lambda:us-east-1:123456789012:function:buffered",
    });
    expect(version).toBe("$LATEST");
    expect(Number(payload["remainingMs"])).toBeGreaterThan(0);
    expect(Number(payload["remainingMs"])).toBeLessThanOrEqual(10_000);
    expect(payload["tmp"]).not.toBe(payload["home"]);
  });

  test("no payload is an empty event", async () => {
    const answer = await client.send(new InvokeCommand({ FunctionName: "buffered" }));
    expect(JSON.parse(Buffer.from(answer.Payload ?? []).toString("utf8"))).toMatchObject({ event: {} });
    expect(answer.LogResult).toBeUndefined();
  });

  test("an environment is used again, frozen in between, and only the first invocation pays for init", async () => {
    await deploy(client, "frozen", { Role: role });
    const first = await invoke(client, "frozen", {});
    const ranMs: number[] = [];
    const timed = async <Value>(work: () => Promise<Value>): Promise<Value> => {
      const begunMs = performance.now();
      try {
        return await work();
      } finally {
        ranMs.push(performance.now() - begunMs);
      }
    };
    const second = await timed(async () => {
      const invoked = await invoke(client, "frozen", {});
      await untilStopped(invoked.payload["pid"]);
      return invoked;
    });
    await new Promise((resolve) => setTimeout(resolve, 500));
    const third = await timed(() => invoke(client, "frozen", {}));
    expect(third.payload).toMatchObject({ pid: first.payload["pid"], calls: 3, stream: first.payload["stream"] });
    // A timer of 5 ms would have ticked 100 times while nothing ran, and may have at other times.
    const ticks = Number(third.payload["ticks"]) - Number(second.payload["ticks"]);
    expect(ticks).toBeLessThan(50 + ranMs.reduce((sum, ms) => sum + ms, 0) / 5);

    const [cold, warm] = [reportOf(first.log), reportOf(second.log)];
    expect(cold.init).toBeGreaterThan(0);
    expect(cold.billed).toBe(Math.ceil(cold.duration + (cold.init ?? 0)));
    expect(warm.init).toBeNull();
    expect(warm.billed).toBe(Math.ceil(warm.duration));
    expect(warm.used).toBeGreaterThan(10);
  });

  test("invocations at once run in as many environments, one each", async () => {
    await deploy(client, "parallel", { Role: role });
    const answers = await Promise.all([1, 2, 3].map((index) => invoke(client, "parallel", { index, sleepMs: 300 })));
    expect(new Set(answers.map(({ payload }) => payload["pid"])).size).toBe(3);
    expect(new Set(answers.map(({ payload }) => payload["tmp"])).size).toBe(3);
    expect(answers.every(({ payload }) => payload["calls"] === 1)).toBe(true);
  });

  test("what the handler prints is in the log's tail and in the log group, between START and REPORT", async () => {
    const { log, payload, requestId } = await invoke(client, "buffered", {});
    const lines = log.trimEnd().split("\n").slice(-4);
    expect(lines[0]).toBe(`START RequestId: ${requestId} Version: $LATEST`);
    expect(lines[1]).toMatch(new RegExp(`\t${requestId}\tINFO\tcall \\d+ \rof this process$`));
    expect(lines[2]).toBe(`END RequestId: ${requestId}`);
    expect(lines[3]).toMatch(report);
    expect(emulator.logMessages("/aws/lambda/buffered").join("")).toContain(lines.join("\n"));
    expect(payload["stream"]).toMatch(/^\d{4}\/\d\d\/\d\d\/\[\$LATEST\][0-9a-f]{32}$/);
  });

  test("the log's tail is at most 4 KB", async () => {
    const { log } = await invoke(client, "buffered", { throw: "x".repeat(9000) });
    expect(Buffer.byteLength(log)).toBeLessThanOrEqual(4096);
    expect(log).toMatch(report);
  });

  test("an error of the handler's comes back with its name, and the environment goes on", async () => {
    const failed = await invoke(client, "buffered", { throw: "bad input" });
    expect(failed.functionError).toBe("Unhandled");
    expect(failed.payload).toMatchObject({ errorType: "ItemError", errorMessage: "bad input" });
    expect(failed.payload["trace"]).toBeInstanceOf(Array);
    expect((await invoke(client, "buffered", {})).payload["calls"]).toBeGreaterThan(1);
  });

  test.each([
    ["exits with a code", { exit: 3 }, "Runtime exited with error: exit status 3"],
    ["exits without an error", { exit: 0 }, "Runtime exited without providing a reason"],
    ["aborts", { abort: true }, "Runtime exited with error: signal: aborted"],
  ])("a process that %s is named, and the next invocation begins anew inside its own time", async (_what, event, reason) => {
    const failed = await invoke(client, "buffered", event);
    expect(failed.functionError).toBe("Unhandled");
    expect(failed.payload).toEqual({ errorType: "Runtime.ExitError", errorMessage: `RequestId: ${failed.requestId} Error: ${reason}` });
    expect(failed.log).toMatch(/\tStatus: error\tError Type: Runtime\.ExitError$/m);

    const next = await invoke(client, "buffered", {});
    expect(next.payload["calls"]).toBe(1);
    expect(next.log).toContain("the module is loaded");
    expect(reportOf(next.log).init).toBeNull();
  });

  test("after a crash the files in /tmp are still there; in a new environment they are not", async () => {
    await deploy(client, "files", { Role: role });
    const wrote = await invoke(client, "files", { mark: path.join(outside, "files") });
    const crashed = await invoke(client, "files", { exit: 1 });
    expect(crashed.functionError).toBe("Unhandled");
    const after = await invoke(client, "files", {});
    expect(after.payload).toMatchObject({ kept: "from before", tmp: wrote.payload["tmp"], stream: wrote.payload["stream"], calls: 1 });
    emulator.reclaim();
    const anew = await invoke(client, "files", {});
    expect(anew.payload["kept"]).toBeNull();
    expect(anew.payload["tmp"]).not.toBe(wrote.payload["tmp"]);
    await until(() => !existsSync(String(wrote.payload["tmp"])));
  });

  test("a function that takes too long is killed; the next invocation begins anew", async () => {
    await deploy(client, "slow", { Role: role, Timeout: 1 });
    // Its time is short: a busy machine may need several tries for a call that does nothing.
    let pid: unknown;
    await until(async () => (pid = (await invoke(client, "slow", {})).payload["pid"]) !== undefined);
    const slow = await invoke(client, "slow", { sleepMs: 60_000 });
    expect(slow.functionError).toBe("Unhandled");
    expect(slow.payload).toEqual({ errorType: "Sandbox.Timedout", errorMessage: `RequestId: ${slow.requestId} Error: Task timed out after 1.00 seconds` });
    expect(slow.log).toMatch(/Task timed out after 1\.00 seconds\nEND/);
    expect(slow.log).toMatch(/\tStatus: timeout$/m);
    expect(isGone(pid)).toBe(true);
    // Its init counts, too, and a busy machine may need longer for it.
    await until(async () => (await invoke(client, "slow", {})).payload["calls"] === 1);
  });

  test("a function that needs more memory than it has is killed, and its REPORT says so", async () => {
    await deploy(client, "hoarder", { Role: role, MemorySize: 160 });
    const hoarding = await invoke(client, "hoarder", { hoardMb: 400 });
    expect(hoarding.payload).toMatchObject({ errorType: "Runtime.ExitError", errorMessage: expect.stringContaining("signal: killed") as string });
    expect(hoarding.log).toMatch(/\tMemory Size: 160 MB\tMax Memory Used: 160 MB\t/);
    expect((await invoke(client, "hoarder", { hoardMb: 10 })).functionError).toBeUndefined();
  });

  test("what a handler has started is frozen and killed with it", async () => {
    await deploy(client, "parent", { Role: role });
    const { payload: { child } } = await invoke(client, "parent", { child: true });
    await untilStopped(child);
    emulator.reclaim();
    await until(() => isGone(child));
  });

  test("an import that fails is tried twice, and comes back as what it is", async () => {
    await deploy(client, "broken", { Role: role, Handler: "broken.handler", Code: { ZipFile: await handlersZip("broken.mjs") } });
    const { payload, log, functionError } = await invoke(client, "broken", {});
    expect(functionError).toBe("Unhandled");
    // `Runtime.ImportModuleError` is for what `require` does not find.
    expect(payload).toMatchObject({ errorType: "Error", errorMessage: expect.stringContaining("not-there.mjs") as string });
    expect(log).toMatch(/^INIT_REPORT Init Duration: [\d.]+ ms\tPhase: init\tStatus: error\tError Type: Error$/m);
    expect(log.match(/not-there\.mjs/g)?.length).toBeGreaterThan(1);
  });

  test("a module that `require` does not find, and code that does not parse, have names of their own", async () => {
    const code = { ZipFile: await zipOf({ "absent.cjs": "require('./gone.cjs');", "unparsable.mjs": "export const handler = ;" }) };
    await deploy(client, "absent", { Role: role, Handler: "absent.handler", Code: code });
    await deploy(client, "unparsable", { Role: role, Handler: "unparsable.handler", Code: code });
    expect((await invoke(client, "absent", {})).payload["errorType"]).toBe("Runtime.ImportModuleError");
    expect((await invoke(client, "unparsable", {})).payload["errorType"]).toBe("Runtime.UserCodeSyntaxError");
  });

  test("a handler that is not there is named", async () => {
    await deploy(client, "nameless", { Role: role, Handler: "handlers.nothing" });
    expect((await invoke(client, "nameless", {})).payload["errorType"]).toBe("Runtime.HandlerNotFound");
  });

  test("an init that takes too long runs again inside the invocation", async () => {
    const hurried = await startLambdaEmulator({ client: kind, initTimeoutMs: 2000 });
    const its = clientOf(hurried);
    await deploy(its, "late", { Role: hurried.createRole("functions"), Handler: "slow-init.handler", Code: { ZipFile: await handlersZip("slow-init.mjs") } });
    const { functionError, log } = await invoke(its, "late", {});
    expect(functionError).toBeUndefined();
    expect(log).toMatch(/^INIT_REPORT Init Duration: [\d.]+ ms\tPhase: init\tStatus: timeout$/m);
    expect(reportOf(log)).toMatchObject({ init: null });
    expect(reportOf(log).billed).toBeGreaterThan(2000);
    its.destroy();
    await hurried.stop();
  });

  test("files that not everyone may read are not there for a function", async () => {
    const zip = await zipOf({ "index.mjs": { content: "export const handler = async () => 1;", mode: 0o600 } });
    await deploy(client, "private", { Role: role, Handler: "index.handler", Code: { ZipFile: zip } });
    const { payload, log } = await invoke(client, "private", {});
    expect(payload["errorType"]).toBe("Runtime.ImportModuleError");
    expect(log).toContain("EACCES: permission denied, open '/var/task/index.mjs'");
  });

  test("a streamed response comes piece by piece while the function still runs, and ends with its log", async () => {
    const gate = path.join(outside, "first-piece-has-come");
    const { lines, chunks, complete, error } = await invokeStreamed(client, "streamed", { lines: 4, gate }, () => writeFileSync(gate, ""));
    expect(error).toBeNull();
    expect(lines.map(({ index }) => index)).toEqual([0, 1, 2, 3]);
    expect(chunks.length).toBeGreaterThan(1);
    expect(complete).toMatchObject({ code: undefined, details: undefined });
    expect(complete?.log).toMatch(report);
  });

  test("large streamed responses arrive whole", async () => {
    const { lines, complete } = await invokeStreamed(client, "streamed", { lines: 40, everyMs: 0, padding: 60_000 });
    expect(lines.map(({ index }) => index)).toEqual(Array.from({ length: 40 }, (_, index) => index));
    expect(complete?.code).toBeUndefined();
  });

  test.each([
    ["before its first byte", { lines: 2, throwFirst: "at once" }, 0, "ItemError", "at once"],
    ["in the middle", { lines: 4, throwAfter: 1 }, 2, "ItemError", "in the middle"],
    ["by the end of the process", { lines: 4, exitAfter: 1 }, 2, "Runtime.ExitError", "exit status 3"],
  ])("a streamed response that fails %s keeps what was sent and tells of it at its end", async (_when, event, count, code, message) => {
    const { lines, complete, error } = await invokeStreamed(client, "streamed", event);
    expect(error).toBeNull();
    expect(lines).toHaveLength(count);
    expect(complete?.code).toBe(code);
    expect(JSON.parse(complete?.details ?? "{}")).toMatchObject({ errorType: code, errorMessage: expect.stringContaining(message) as string });
  });

  test("a streamed response that runs into the time-out keeps what was sent", async () => {
    await deploy(client, "endless", { Role: role, Handler: "handlers.streamed", Timeout: 3 });
    const { lines, complete } = await invokeStreamed(client, "endless", { lines: 10_000, everyMs: 50 });
    expect(lines.length).toBeGreaterThan(0);
    expect(complete?.code).toBe("Sandbox.Timedout");
  });

  test("either kind of handler answers either kind of call", async () => {
    expect((await invoke(client, "streamed", { lines: 1 })).payload).toEqual({ index: 0, padding: "" });
    const { chunks, complete } = await invokeStreamed(client, "buffered", { some: "event" });
    expect(JSON.parse(chunks.join(""))).toMatchObject({ event: { some: "event" } });
    expect(complete?.code).toBeUndefined();
  });

  test("a buffered response above 6 MB is an error, a streamed one is not", async () => {
    expect((await invoke(client, "buffered", { answerBytes: 6_291_556 })).functionError).toBeUndefined();
    const large = await invoke(client, "buffered", { answerBytes: 6_291_557 });
    expect(large.payload).toEqual({ errorType: "Function.ResponseSizeTooLarge", errorMessage: "Response payload size exceeded maximum allowed payload size (6291556 bytes)." });
    const { chunks, complete } = await invokeStreamed(client, "buffered", { answerBytes: 6_400_000 });
    expect(chunks.join("")).toHaveLength(6_400_000);
    expect(complete?.code).toBeUndefined();
  });

  test("the function goes on when its caller leaves", async () => {
    const [marks, gate] = [path.join(outside, "left"), path.join(outside, "has-left")];
    const controller = new AbortController();
    const call = client.send(new InvokeCommand({ FunctionName: "streamed", Payload: JSON.stringify({ lines: 8, mark: marks, gate }) }), { abortSignal: controller.signal });
    await until(() => existsSync(marks));
    controller.abort();
    await expect(call).rejects.toMatchObject({ name: "AbortError" });
    const ended = emulator.invocations.length;
    await writeFile(gate, "");
    await until(() => emulator.invocations.length > ended);
    expect(await readFile(marks, "utf8")).toBe("xxxxxxxx");
    expect(emulator.invocations.at(-1)?.error).toBeNull();
  });
}
