import { InvokeWithResponseStreamCommand, LambdaClient } from "@aws-sdk/client-lambda";
import { describe, expect, test } from "vitest";
import { classify, lambdaClient, lambdaSdk } from "../../../orchestrator/backends/lambda/client.ts";
import { amzDate, RequestTemplate, type HttpRequest } from "../../../orchestrator/backends/lambda/request-template.ts";
import { ResponseStreams, type ResponseStream } from "../../../orchestrator/backends/lambda/response-streams.ts";
import { protocolVersion } from "../../../task-manager/protocol.ts";
import type { Fault } from "../../support/lambda/emulator.ts";
import { emulated } from "./support.ts";

const names = ["splitrun", "arn:aws:lambda:us-east-1:123456789012:function:split-run_2", "other"] as const;
const credentials = { accessKeyId: "AKIAEXAMPLE", secretAccessKey: "example/+=" };

/** What the SDK would send. */
async function signedBySdk(functionName: string, payload: string, changes: object = {}): Promise<HttpRequest> {
  let sent: HttpRequest | undefined;
  const client = new LambdaClient({
    region: "us-east-1", credentials, maxAttempts: 1, ...changes,
    requestHandler: {
      handle: (request: HttpRequest) => {
        sent = request;
        return Promise.reject(new Error("not sent"));
      },
    },
  });
  const command = new InvokeWithResponseStreamCommand({ FunctionName: functionName, Qualifier: "$LATEST", LogType: "Tail", Payload: Buffer.from(payload) });
  await client.send(command).catch(() => undefined);
  if (sent === undefined) throw new Error("the SDK sent nothing");
  return sent;
}

describe("a request that follows the SDK's pattern has the signature that the SDK gives it", () => {
  test.each(names)("%s", async (name) => {
    const [first, second] = [await signedBySdk(name, "{}"), await signedBySdk(name, '{"more":"ü"}')];
    const template = RequestTemplate.of(first, credentials);
    const filled = template?.fill({ body: second.body as Uint8Array, date: second.headers["x-amz-date"] ?? "", id: second.headers["amz-sdk-invocation-id"] ?? "" });
    expect(filled?.headers).toEqual(second.headers);
    expect(filled?.path).toBe(`${second.path}?Qualifier=%24LATEST`);
  });

  test("also with a session's token, and on another day", async () => {
    const session = { ...credentials, sessionToken: "IQoJb3JpZ2luX2VjE==" };
    const first = await signedBySdk("splitrun", "{}", { credentials: session });
    const second = await signedBySdk("splitrun", "[]", { credentials: session, systemClockOffset: 3 * 86_400_000 });
    const filled = RequestTemplate.of(first, session)?.fill({ body: second.body as Uint8Array, date: second.headers["x-amz-date"] ?? "", id: second.headers["amz-sdk-invocation-id"] ?? "" });
    expect(filled?.headers["x-amz-date"]).not.toBe(first.headers["x-amz-date"]);
    expect(filled?.headers).toEqual(second.headers);
  });

  test("what is signed by other credentials, or not as expected, is no pattern", async () => {
    const request = await signedBySdk("splitrun", "{}");
    expect(RequestTemplate.of(request, credentials)).not.toBeNull();
    expect(RequestTemplate.of(request, { ...credentials, secretAccessKey: "another" })).toBeNull();
    expect(RequestTemplate.of({ ...request, query: {} }, credentials)).toBeNull();
    expect(RequestTemplate.of({ ...request, headers: { ...request.headers, authorization: "Bearer token" } }, credentials)).toBeNull();
    expect(RequestTemplate.of({ ...request, body: undefined }, credentials)).toBeNull();
  });

  test("dates are written as signatures have them", () => {
    expect(amzDate(Date.UTC(2026, 10, 21, 21, 1, 9, 987))).toBe("20261121T210109Z");
  });
});

describe("functions are invoked by the SDK first, then after its pattern", () => {
  const emulator = emulated({}, [{ name: "splitrun" }]);
  const payload = Buffer.from(JSON.stringify({ protocol: protocolVersion, kind: "ping", holdMs: 0 }));

  async function opened(): Promise<{ readonly open: () => Promise<ResponseStream>; readonly bySdk: () => number; readonly close: () => void }> {
    const client = await lambdaClient({ region: null, maxInFlight: 2 });
    let throughSdk = 0;
    client.middlewareStack.add((next) => (args) => {
      throughSdk += 1;
      return next(args);
    }, { step: "initialize" });
    const streams = new ResponseStreams(await lambdaSdk(), client);
    return {
      open: () => streams.open({ functionName: "splitrun", qualifier: "live", payload, signal: new AbortController().signal }),
      bySdk: () => throughSdk,
      close: () => client.destroy(),
    };
  }

  const bytesOf = async ({ body }: ResponseStream) => Buffer.concat(await body.toArray() as Buffer[]).toString("latin1");

  test("and their answers are the same", async () => {
    const { open, bySdk, close } = await opened();
    for (let times = 0; times < 3; times++) {
      const stream = await open();
      expect(stream.requestId).toMatch(/^[0-9a-f-]{36}$/);
      expect(await bytesOf(stream)).toMatch(/invocation-ended.*InvokeComplete/s);
    }
    expect(bySdk()).toBe(1);
    close();
  });

  test.each<[string, Fault, object, number]>([
    ["the next goes through the SDK", { kind: "refuse", status: 500, code: "ServiceException" }, { code: "LAMBDA_SERVER", status: 500 }, 3],
    ["where it says that there were too many, the next follows the pattern", { kind: "throttle", reason: "ConcurrentInvocationLimitExceeded" }, { code: "LAMBDA_THROTTLED", throttle: "ConcurrentInvocationLimitExceeded", status: 429, retryAfterMs: 1000 }, 2],
  ])("a refusal is the SDK's error, without a second request, and %s", async (_next, refusal, error, bySdkAfterwards) => {
    const { open, bySdk, close } = await opened();
    await bytesOf(await open());
    const fault = emulator.lambda.faults.push({ ...refusal, times: 1 });
    expect(classify(await open().catch((caught: unknown) => caught))).toMatchObject(error);
    fault.remove();
    expect(bySdk()).toBe(2);
    for (let times = 0; times < 2; times++) {
      await bytesOf(await open());
      expect(bySdk()).toBe(bySdkAfterwards);
    }
    close();
  });
});
