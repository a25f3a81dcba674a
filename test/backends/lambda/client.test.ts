import { once } from "node:events";
import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { InvokeCommand, type LambdaClient } from "@aws-sdk/client-lambda";
import { describe, expect, onTestFinished, test } from "vitest";
import { classify, functionFailure, lambdaClient, lambdaError } from "../../../orchestrator/backends/lambda/client.ts";
import { emulated } from "./support.ts";

const emulator = emulated({}, [{ name: "any" }]);

describe("what Lambda refuses is named, by the error that the SDK makes of it", () => {
  async function refusal(status: number, code: string): Promise<ReturnType<typeof classify>> {
    const fault = emulator.lambda.faults.push({ kind: "refuse", status, code });
    const client = await lambdaClient({ region: null, maxInFlight: 1 });
    try {
      await client.send(new InvokeCommand({ FunctionName: "any" }));
      throw new Error("it was not refused");
    } catch (error) {
      return classify(error);
    } finally {
      fault.remove();
      client.destroy();
    }
  }

  test.each<[number, string, ReturnType<typeof classify>["code"], boolean, boolean]>([
    [500, "ServiceException", "LAMBDA_SERVER", true, false],
    [503, "ServiceUnavailable", "LAMBDA_SERVER", true, false],
    [409, "ResourceConflictException", "LAMBDA_NOT_READY", true, true],
    [502, "ENINotReadyException", "LAMBDA_NOT_READY", true, true],
    [502, "EC2ThrottledException", "LAMBDA_THROTTLED", true, true],
    [502, "SubnetIPAddressLimitReachedException", "LAMBDA_NETWORK", false, true],
    [502, "KMSDisabledException", "LAMBDA_KEY", false, true],
    [403, "AccessDeniedException", "LAMBDA_ACCESS_DENIED", false, true],
    [403, "SomethingNewException", "LAMBDA_ACCESS_DENIED", false, true],
    [413, "RequestEntityTooLargeException", "LAMBDA_TOO_LARGE", false, true],
    [413, "RequestTooLargeException", "LAMBDA_TOO_LARGE", false, true],
    [400, "InvalidParameterValueException", "LAMBDA_REFUSED", false, true],
    [402, "ServiceQuotaExceededException", "LAMBDA_QUOTA", false, true],
    [408, "EFSMountTimeoutException", "LAMBDA_FILE_SYSTEM", true, true],
  ])("%i %s", async (status, name, code, retryable, didNotRun) => {
    expect(await refusal(status, name)).toMatchObject({ code, retryable, didNotRun, status, message: expect.stringContaining(name) as string });
  });

  test("429 by the limit that was reached", async () => {
    const fault = emulator.lambda.faults.push({ kind: "throttle", reason: "ReservedFunctionConcurrentInvocationLimitExceeded" });
    const client = await lambdaClient({ region: null, maxInFlight: 1 });
    const failure = await client.send(new InvokeCommand({ FunctionName: "any" })).then(() => null, classify);
    client.destroy();
    fault.remove();
    expect(failure).toMatchObject({ code: "LAMBDA_THROTTLED", throttle: "ReservedFunctionConcurrentInvocationLimitExceeded", retryAfterMs: 1000, wayOut: expect.stringContaining("reserved concurrency") as string });
  });

  test("no function, a wrong key, nobody there: each with its way out, and no secret", async () => {
    const options = { region: "us-east-1", maxInFlight: 1 };
    const asked = async (changes: Record<string, string>) => {
      const before = { ...process.env };
      Object.assign(process.env, changes);
      const client = await lambdaClient(options);
      const error: unknown = await client.send(new InvokeCommand({ FunctionName: "absent" })).then(() => null, (caught: unknown) => caught);
      client.destroy();
      process.env = before;
      return lambdaError(error, "absent");
    };
    expect(await asked({})).toMatchObject({ code: "LAMBDA_NOT_DEPLOYED", message: expect.stringContaining("splitrun deploy") as string });
    const refused = await asked({ AWS_SECRET_ACCESS_KEY: "hush" });
    expect(refused).toMatchObject({ code: "LAMBDA_CREDENTIALS" });
    expect(refused.message).not.toContain("hush");
    expect(await asked({ AWS_ENDPOINT_URL_LAMBDA: "http://127.0.0.1:9" })).toMatchObject({ code: "LAMBDA_UNREACHABLE" });
  });
});

describe("the SDK is set for invocations that are paid for", () => {
  /** A client of a server that is no Lambda. */
  async function clientOf(listener: RequestListener, maxInFlight: number): Promise<LambdaClient> {
    const server = createServer(listener).listen(0, "127.0.0.1");
    await once(server, "listening");
    const before = process.env["AWS_ENDPOINT_URL_LAMBDA"];
    process.env["AWS_ENDPOINT_URL_LAMBDA"] = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const client = await lambdaClient({ region: null, maxInFlight });
    onTestFinished(() => {
      process.env["AWS_ENDPOINT_URL_LAMBDA"] = before;
      client.destroy();
      server.close().closeAllConnections();
    });
    return client;
  }

  test("one whose connection broke is not sent again, which would run it twice", async () => {
    let requests = 0;
    const client = await clientOf((request) => {
      requests += 1;
      request.socket.destroy();
    }, 1);
    const error: unknown = await client.send(new InvokeCommand({ FunctionName: "any" })).then(() => null, (caught: unknown) => caught);
    expect(classify(error)).toMatchObject({ code: "LAMBDA_CUT", retryable: true, didNotRun: false });
    expect(requests).toBe(1);
  });

  test("all that may be in flight have a connection each, of which the SDK has fifty otherwise", async () => {
    const atOnce = 120;
    const answers: (() => void)[] = [];
    // Nobody is answered before all are there.
    const client = await clientOf((_request, response) => {
      answers.push(() => void response.end("{}"));
      if (answers.length === atOnce) for (const answer of answers) answer();
    }, atOnce);
    await Promise.all(Array.from({ length: atOnce }, () => client.send(new InvokeCommand({ FunctionName: "any" }))));
    expect(answers).toHaveLength(atOnce);
  });

  test("a time-out ends a request, and does not just warn; it is longer than an invocation can be", async () => {
    const client = await clientOf((_request, response) => void response.end("{}"), 1);
    // The handler reads its options as the first request is made.
    await client.send(new InvokeCommand({ FunctionName: "any" }));
    const handler = client.config.requestHandler as unknown as { httpHandlerConfigs(): Readonly<Record<string, unknown>> };
    expect(handler.httpHandlerConfigs()).toMatchObject({ requestTimeout: 930_000, throwOnRequestTimeout: true, socketTimeout: 930_000 });
  });
});

describe("why a function ended is read from what Lambda says of it", () => {
  const exit = (reason: string, log: string | null = null) => functionFailure("Unhandled", JSON.stringify({ errorType: "Runtime.ExitError", errorMessage: `RequestId: 1 Error: ${reason}` }), log);

  test("a time-out, by its name or by older words alone", () => {
    const newer = functionFailure("Unhandled", '{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: 1 Error: Task timed out after 3.00 seconds"}', null);
    expect(newer).toMatchObject({ kind: "timed-out", message: "the function's time-out of 3 s ended the invocation" });
    expect(functionFailure("Unhandled", '{"errorMessage":"2026-01-01T00:00:00Z 1 Task timed out after 900.10 seconds"}', null)).toMatchObject({ kind: "timed-out" });
  });

  test("memory is told from all else that kills", () => {
    expect(exit("Runtime exited with error: signal: killed")).toMatchObject({ kind: "out-of-memory", signal: "SIGKILL", exitCode: null });
    expect(functionFailure("Runtime.OutOfMemory", "", null)).toMatchObject({ kind: "out-of-memory" });
    const report = (used: number) => `REPORT RequestId: 1\tDuration: 5.00 ms\tBilled Duration: 5 ms\tMemory Size: 1769 MB\tMax Memory Used: ${used} MB\tStatus: error\tError Type: Runtime.ExitError\n`;
    expect(exit("Runtime exited with error: signal: killed", report(1769))).toMatchObject({ kind: "out-of-memory" });
    expect(exit("Runtime exited with error: signal: killed", report(249))).toMatchObject({
      kind: "exited", signal: "SIGKILL", message: expect.stringContaining("249 of 1769 MB") as string,
    });
    expect(exit("Runtime exited with error: signal: aborted")).toMatchObject({ kind: "exited", signal: "SIGABRT" });
    expect(exit("Runtime exited with error: signal: segmentation fault")).toMatchObject({ kind: "exited", signal: "SIGSEGV" });
    expect(exit("Runtime exited with error: exit status 7")).toMatchObject({ kind: "exited", exitCode: 7, signal: null });
    expect(exit("Runtime exited without providing a reason")).toMatchObject({ kind: "exited", exitCode: 0 });
  });

  test("code that does not load, an answer that is too large, an error of the code itself, and no JSON at all", () => {
    expect(functionFailure("Unhandled", '{"errorType":"Runtime.ImportModuleError","errorMessage":"x"}', null)).toMatchObject({ kind: "not-loaded" });
    expect(functionFailure("Unhandled", '{"errorType":"Function.ResponseSizeTooLarge","errorMessage":"x"}', null)).toMatchObject({ kind: "response-too-large" });
    expect(functionFailure("Unhandled", '{"errorType":"Error","errorMessage":"Cannot find module"}', null)).toMatchObject({ kind: "threw", message: "Error: Cannot find module" });
    expect(functionFailure("Unhandled", "not json", null)).toMatchObject({ kind: "threw", message: "Unhandled: not json" });
  });
});
