import { randomUUID } from "node:crypto";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { billedReports } from "../../../orchestrator/backends/lambda/billed.ts";
import { ServiceError } from "../../support/lambda/errors.ts";
import { Logs, logsError } from "../../support/lambda/logs.ts";
import type { ServiceRequest } from "../../support/lambda/request.ts";

const logGroup = "/aws/lambda/splitrun";
const asked = (requestIds: readonly string[], waitMs = 3000) => ({ requestIds, fromMs: Date.now() - 10_000, untilMs: Date.now() + waitMs });
const options = { region: "us-east-1", logGroups: [logGroup] };

let logs: Logs;
let requests: number;
let refusal: ServiceError | null;
const server = createServer(async (request, response) => {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  requests += 1;
  const { status, headers, body } = answerOf({ method: "POST", path: "/", query: new Map(), headers: request.headers, body: Buffer.concat(chunks) });
  response.writeHead(status, headers).end(body);
});

function answerOf(request: ServiceRequest) {
  try {
    if (refusal !== null) throw refusal;
    return logs.answer(request, Date.now());
  } catch (error) {
    if (error instanceof ServiceError) return logsError(error);
    throw error;
  }
}

const environment = { ...process.env };

beforeAll(async () => {
  // Loading it takes its time, which is no part of the wait for reports.
  await import("@aws-sdk/client-cloudwatch-logs");
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
});
afterAll(() => new Promise((resolve) => server.close(resolve)));

beforeEach(() => {
  logs = new Logs("us-east-1", "123456789012");
  requests = 0;
  refusal = null;
  Object.assign(process.env, {
    AWS_ENDPOINT_URL_CLOUDWATCH_LOGS: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, AWS_ACCESS_KEY_ID: "AKIAEXAMPLE", AWS_SECRET_ACCESS_KEY: "secret", AWS_MAX_ATTEMPTS: "1",
  });
});

afterEach(() => {
  for (const name of ["AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_MAX_ATTEMPTS"]) {
    if (environment[name] === undefined) delete process.env[name];
    else process.env[name] = environment[name];
  }
});

function write(messages: readonly string[]): void {
  logs.append(logGroup, randomUUID(), messages.map((message) => ({ timestampMs: Date.now(), message })), { createGroup: true });
}

const line = (id: string, billedMs: number) => `REPORT RequestId: ${id}\tDuration: ${billedMs}.00 ms\tBilled Duration: ${billedMs} ms\tMemory Size: 128 MB\tMax Memory Used: 31 MB\t`;

test("reports are found in the function's log, among all else that is there", async () => {
  write(["START RequestId: a", line("a", 5), "some text", line("another", 6)]);
  write([line("b", 7)]);
  const reports = await billedReports(options, asked(["a", "b"]));
  expect(reports.map(({ requestId, billedMs }) => [requestId, billedMs]).sort()).toEqual([["a", 5], ["b", 7]]);
  expect(requests).toBe(1);
});

test("a function that logs JSON has them, too", async () => {
  write([JSON.stringify({ type: "platform.report", record: { requestId: "a", status: "success", metrics: { durationMs: 4.2, billedDurationMs: 5, memorySizeMB: 128, maxMemoryUsedMB: 31 } } })]);
  expect(await billedReports(options, asked(["a"]))).toMatchObject([{ requestId: "a", billedMs: 5 }]);
});

test("those that come late are waited for", async () => {
  write([line("a", 5)]);
  setTimeout(() => write([line("b", 7)]), 100);
  expect(await billedReports(options, asked(["a", "b"], 20_000))).toHaveLength(2);
});

test("those that never come are not waited for beyond the time", async () => {
  write([line("a", 5)]);
  expect(await billedReports(options, asked(["a", "never"], 1500))).toMatchObject([{ requestId: "a" }]);
});

test("more than a page of them are all found", async () => {
  const ids = Array.from({ length: 10_500 }, (_, number) => `id-${number}`);
  for (let from = 0; from < ids.length; from += 3500) write(ids.slice(from, from + 3500).map((id) => line(id, 1)));
  expect(await billedReports(options, asked(ids))).toHaveLength(10_500);
  expect(requests).toBeGreaterThanOrEqual(2);
});

test("without the permission, the group or the service, there are none, and nothing fails", async () => {
  expect(await billedReports(options, asked(["a"]))).toEqual([]);
  refusal = new ServiceError(400, "AccessDeniedException", "User is not authorized to perform: logs:FilterLogEvents");
  expect(await billedReports(options, asked(["a"]))).toEqual([]);
  process.env["AWS_ENDPOINT_URL_CLOUDWATCH_LOGS"] = "http://127.0.0.1:9";
  expect(await billedReports(options, asked(["a"]))).toEqual([]);
});

test("nothing asked for is nothing asked", async () => {
  expect(await billedReports(options, asked([]))).toEqual([]);
  expect(requests).toBe(0);
});
