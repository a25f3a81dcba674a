import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import type { LambdaClient } from "@aws-sdk/client-lambda";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startLambdaEmulator } from "../support/lambda/emulator.ts";
import type { LambdaEmulator } from "../support/lambda/emulator.ts";
import { clientOf, deploy, invoke, invokeStreamed, until } from "./setup.ts";

let emulator: LambdaEmulator;
let client: LambdaClient;
let outside: string;

beforeAll(async () => {
  outside = await mkdtemp(path.join(tmpdir(), "splitrun-test-"));
  emulator = await startLambdaEmulator();
  client = clientOf(emulator);
  const role = emulator.createRole("functions");
  await Promise.all([deploy(client, "buffered", { Role: role }), deploy(client, "streamed", { Role: role, Handler: "handlers.streamed" })]);
});

afterAll(async () => {
  client.destroy();
  await emulator.stop();
  await rm(outside, { recursive: true, force: true });
});

const nothingRuns = (): boolean => emulator.environments.every(({ state }) => state !== "running");

test("kill: by time, the caller hears of a process that was killed", async () => {
  const fault = emulator.faults.push({ kind: "kill", afterMs: 30 });
  const { payload } = await invoke(client, "buffered", { sleepMs: 10_000 });
  expect(payload).toMatchObject({ errorType: "Runtime.ExitError", errorMessage: expect.stringContaining("signal: killed") as string });
  expect(fault.taken).toBe(1);
  expect((await invoke(client, "buffered", {})).payload["calls"]).toBe(1);
});

test("kill: by bytes of a streamed response, which are still delivered", async () => {
  emulator.faults.push({ kind: "kill", afterBytes: 50 });
  const { lines, complete } = await invokeStreamed(client, "streamed", { lines: 5, gate: path.join(outside, "never") });
  expect(lines.length).toBeGreaterThanOrEqual(2);
  expect(lines.length).toBeLessThan(5);
  expect(complete?.code).toBe("Runtime.ExitError");
});

test("stall: nothing comes for a while, then all the rest", async () => {
  emulator.faults.push({ kind: "stall", afterMs: 60, forMs: 400 });
  // It does not end before it has seen that it was stopped.
  const { lines, complete } = await invokeStreamed(client, "streamed", { lines: 10, everyMs: 15, stoppedMs: 350 });
  expect(lines).toHaveLength(10);
  expect(complete?.code).toBeUndefined();
  expect(emulator.invocations.at(-1)?.durationMs).toBeGreaterThan(350);
});

test("throttle: refused with the reason, nothing runs, as often as it was asked for", async () => {
  const ran = emulator.invocations.length;
  emulator.faults.push({ kind: "throttle", times: 2, functionName: "buffered" });
  emulator.faults.push({ kind: "throttle", reason: "ReservedFunctionConcurrentInvocationLimitExceeded", functionName: "buffered" });
  const refused = { name: "TooManyRequestsException", retryAfterSeconds: "1", $metadata: { httpStatusCode: 429 } };
  for (const Reason of ["ConcurrentInvocationLimitExceeded", "ConcurrentInvocationLimitExceeded", "ReservedFunctionConcurrentInvocationLimitExceeded"]) {
    await expect(invoke(client, "buffered", {})).rejects.toMatchObject({ ...refused, Reason });
  }
  expect(emulator.invocations.length).toBe(ran);
  expect((await invoke(client, "buffered", {})).functionError).toBeUndefined();
});

test("refuse: any other refusal", async () => {
  emulator.faults.push({ kind: "refuse", status: 500, code: "ServiceException" });
  await expect(invoke(client, "buffered", {})).rejects.toMatchObject({ name: "ServiceException", $metadata: { httpStatusCode: 500, attempts: 1 } });
});

test("cold start: a new environment, and a longer init", async () => {
  await invoke(client, "buffered", {});
  emulator.faults.push({ kind: "cold-start", delayMs: 300 });
  const { payload, log } = await invoke(client, "buffered", {});
  expect(payload["calls"]).toBe(1);
  expect(Number(/Init Duration: ([\d.]+)/.exec(log)?.[1])).toBeGreaterThan(300);
});

test("cut stream: the connection ends in the middle, the function does all its work", async () => {
  const marks = path.join(outside, "cut");
  emulator.faults.push({ kind: "cut-stream", afterBytes: 60 });
  const { chunks, complete, error } = await invokeStreamed(client, "streamed", { lines: 6, everyMs: 20, mark: marks });
  expect(chunks.join("")).toHaveLength(60);
  expect(complete).toBeNull();
  expect(error).not.toBeNull();
  await until(nothingRuns);
  expect(await readFile(marks, "utf8")).toBe("xxxxxx");
  expect(emulator.invocations.at(-1)).toMatchObject({ functionName: "streamed", error: null });
});

test("cut stream: by time", async () => {
  const gate = path.join(outside, "cut-by-time");
  emulator.faults.push({ kind: "cut-stream", afterMs: 200 });
  const { complete, error } = await invokeStreamed(client, "streamed", { lines: 3, gate });
  expect(complete).toBeNull();
  expect(error).not.toBeNull();
  await writeFile(gate, "");
  await until(nothingRuns);
});

test("lose response: the work is done and nobody hears of it", async () => {
  const marks = path.join(outside, "lost");
  emulator.faults.push({ kind: "lose-response", times: 2 });
  await expect(invoke(client, "buffered", { mark: marks })).rejects.toMatchObject({ $metadata: { attempts: 1 } });
  expect(await readFile(marks, "utf8")).toBe("x");
  const { lines, complete, error } = await invokeStreamed(client, "streamed", { lines: 2, mark: marks });
  expect(lines).toHaveLength(2);
  expect(complete).toBeNull();
  expect(error).not.toBeNull();
  expect(await readFile(marks, "utf8")).toBe("xxx");
});

test("deliver twice: the same payload runs in two environments, the caller hears of one", async () => {
  const marks = path.join(outside, "twice");
  emulator.faults.push({ kind: "deliver-twice", when: (payload) => payload.includes("twice") });
  const before = emulator.invocations.length;
  const { functionError } = await invoke(client, "buffered", { mark: marks });
  expect(functionError).toBeUndefined();
  await until(() => emulator.invocations.length === before + 2);
  expect(await readFile(marks, "utf8")).toBe("xx");
  const [one, other] = emulator.invocations.slice(-2);
  expect(one?.environmentId).not.toBe(other?.environmentId);
  expect(one?.requestId).not.toBe(other?.requestId);
});

test("a fault takes the payloads it was meant for, until it is removed", async () => {
  const fault = emulator.faults.push({ kind: "throttle", times: 100, when: (payload) => payload.includes('"odd":1') });
  expect((await invoke(client, "buffered", { odd: 0 })).functionError).toBeUndefined();
  await expect(invoke(client, "buffered", { odd: 1 })).rejects.toMatchObject({ name: "TooManyRequestsException" });
  fault.remove();
  expect((await invoke(client, "buffered", { odd: 1 })).functionError).toBeUndefined();
  expect(fault.taken).toBe(1);
});

test("stopping the emulator ends what runs and what is frozen, and leaves no files", async () => {
  const other = await startLambdaEmulator();
  const its = clientOf(other);
  await deploy(its, "f", { Role: other.createRole("r") });
  const { payload } = await invoke(its, "f", {});
  const running = invoke(its, "f", { sleepMs: 20_000 }).catch((error: unknown) => error);
  const second = invoke(its, "f", { sleepMs: 20_000 }).catch((error: unknown) => error);
  await until(() => other.environments.filter(({ state, pid }) => state === "running" && pid !== null).length === 2);
  const pids = other.environments.map(({ pid }) => pid);
  await other.stop();
  expect(await running).toBeInstanceOf(Error);
  expect(await second).toBeInstanceOf(Error);
  for (const pid of pids) expect(existsSync(`/proc/${pid}`)).toBe(false);
  expect(existsSync(path.dirname(path.dirname(String(payload["tmp"]))))).toBe(false);
  its.destroy();
});
