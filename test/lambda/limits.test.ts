import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { InvokeCommand, PutFunctionConcurrencyCommand } from "@aws-sdk/client-lambda";
import type { LambdaClient } from "@aws-sdk/client-lambda";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Capacity } from "../support/lambda/capacity.ts";
import { startLambdaEmulator } from "../support/lambda/emulator.ts";
import type { LambdaEmulator } from "../support/lambda/emulator.ts";
import { clientOf, deploy, invoke, invokeStreamed, until } from "./setup.ts";

let emulator: LambdaEmulator;
let client: LambdaClient;
let outside: string;

beforeAll(async () => {
  outside = await mkdtemp(path.join(tmpdir(), "splitrun-test-"));
  emulator = await startLambdaEmulator({ concurrency: 3, idleMsMax: 1200 });
  client = clientOf(emulator);
  const role = emulator.createRole("functions");
  await Promise.all(["one", "other", "idle"].map((name) => deploy(client, name, { Role: role })));
});

afterAll(async () => {
  client.destroy();
  await emulator.stop();
  await rm(outside, { recursive: true, force: true });
});

async function refusal(call: Promise<unknown>): Promise<Record<string, unknown>> {
  return call.then(() => ({ name: "none" }), (error: unknown) => error as Record<string, unknown>);
}

function running(): number {
  return emulator.environments.filter(({ state }) => state === "running").length;
}

test("above the account's concurrency invocations of every function are refused, until one has ended", async () => {
  const gate = path.join(outside, "gate");
  const calls = [1, 2, 3].map(() => invoke(client, "one", { gate }));
  await until(() => running() === 3);
  expect(await refusal(invoke(client, "other", {}))).toMatchObject({ name: "TooManyRequestsException", Reason: "ConcurrentInvocationLimitExceeded", Type: "User", message: "Rate Exceeded." });
  await writeFile(gate, "");
  expect((await Promise.all(calls)).every(({ functionError }) => functionError === undefined)).toBe(true);
  expect((await invoke(client, "one", {})).functionError).toBeUndefined();
});

test("above its reservation a function is refused for that reason", async () => {
  // Nothing of so small an account can be reserved; none at all is how a function is switched off.
  await client.send(new PutFunctionConcurrencyCommand({ FunctionName: "other", ReservedConcurrentExecutions: 0 }));
  expect(await refusal(invoke(client, "other", {}))).toMatchObject({ name: "TooManyRequestsException", Reason: "ReservedFunctionConcurrentInvocationLimitExceeded" });
});

test("a function that grows too fast is refused, though its warm environments go on", async () => {
  const slow = await startLambdaEmulator({ scaling: { environments: 2, perMs: 3_600_000 } });
  const its = clientOf(slow);
  await deploy(its, "growing", { Role: slow.createRole("r") });
  slow.faults.push({ kind: "cold-start", delayMs: 0, times: 3 });
  for (const _ of [1, 2]) await invoke(its, "growing", {});
  expect(await refusal(invoke(its, "growing", {}))).toMatchObject({ name: "TooManyRequestsException", Reason: "ConcurrentInvocationLimitExceeded" });
  expect((await invoke(its, "growing", {})).payload["calls"]).toBe(2);
  its.destroy();
  await slow.stop();
});

test("so many environments may be added at once, and as many again over the time after that", () => {
  const capacity = new Capacity({ concurrency: 1000, scaling: { environments: 100, perMs: 10_000 }, unreserved: () => 1000, reserved: () => null });
  const addAll = (nowMs: number): number => {
    for (let added = 0; ; added += 1) {
      try {
        capacity.addEnvironment("f", nowMs);
      } catch {
        return added;
      }
    }
  };
  expect([0, 0, 1000, 1000, 6000, 1_000_000].map(addAll)).toEqual([100, 0, 10, 0, 50, 100]);
});

test("an environment does ten invocations a second at most", () => {
  for (const [reserved, Reason] of [[1, "ReservedFunctionInvocationRateLimitExceeded"], [null, "FunctionInvocationRateLimitExceeded"]] as const) {
    const capacity = new Capacity({ concurrency: 1, scaling: { environments: 1, perMs: 1 }, unreserved: () => 1, reserved: () => reserved });
    const invoked = (nowMs: number): void => {
      capacity.enter("f", nowMs);
      capacity.leave("f");
    };
    for (let ms = 0; ms < 500; ms += 50) invoked(ms);
    expect(() => invoked(999)).toThrow(expect.objectContaining({ fields: expect.objectContaining({ Reason }) as object }) as Error);
    // The first has left the second.
    invoked(1000);
    expect(() => invoked(1001)).toThrow();
  }
});

test("a payload above 6 MB is refused before anything runs, one of 6 MB is not", async () => {
  const ran = emulator.invocations.length;
  const event = (bytes: number): string => JSON.stringify("x".repeat(bytes - 2));
  const tooLarge = { name: "RequestEntityTooLargeException", message: "Request must be smaller than 6291456 bytes for the InvokeFunction operation", $metadata: { httpStatusCode: 413 } };
  expect(await refusal(client.send(new InvokeCommand({ FunctionName: "one", Payload: event(6_291_457) })))).toMatchObject(tooLarge);
  expect((await invokeStreamed(client, "one", "x".repeat(6_291_456))).error).toMatchObject(tooLarge);
  expect(emulator.invocations.length).toBe(ran);
  const answer = await client.send(new InvokeCommand({ FunctionName: "one", Payload: event(6_291_456) }));
  // The answer would hold it again.
  expect(answer.FunctionError).toBe("Unhandled");
  expect(Buffer.from(answer.Payload ?? []).toString("utf8")).toContain("Function.ResponseSizeTooLarge");
});

test("a payload that is no JSON, a long client context and headers above 1 MB are refused", async () => {
  expect(await refusal(client.send(new InvokeCommand({ FunctionName: "one", Payload: "{" })))).toMatchObject({ name: "InvalidRequestContentException", $metadata: { httpStatusCode: 400 } });
  expect(await refusal(client.send(new InvokeCommand({ FunctionName: "one", ClientContext: "x".repeat(3584) })))).toMatchObject({ name: "InvalidRequestContentException" });
  expect(await refusal(client.send(new InvokeCommand({ FunctionName: "one", ClientContext: "x".repeat(2 ** 20) })))).toMatchObject({ $metadata: { httpStatusCode: 431 } });
});

test("a dry run checks the name and runs nothing; asynchronous invocations are not emulated", async () => {
  const ran = emulator.invocations.length;
  const answer = await client.send(new InvokeCommand({ FunctionName: "one", InvocationType: "DryRun" }));
  expect(answer.StatusCode).toBe(204);
  expect(await refusal(client.send(new InvokeCommand({ FunctionName: "none", InvocationType: "DryRun" })))).toMatchObject({ name: "ResourceNotFoundException" });
  expect(await refusal(client.send(new InvokeCommand({ FunctionName: "one", InvocationType: "Event" })))).toMatchObject({ name: "NotEmulatedException" });
  expect(emulator.invocations.length).toBe(ran);
});

test("an environment that nobody calls is ended after a while", async () => {
  const { payload } = await invoke(client, "idle", {});
  await until(() => emulator.environments.every(({ deployment }) => deployment.functionName !== "idle"));
  const again = await invoke(client, "idle", {});
  expect(again.payload["calls"]).toBe(1);
  expect(again.payload["stream"]).not.toBe(payload["stream"]);
});
