import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline";
import { CreateRoleCommand, IAMClient } from "@aws-sdk/client-iam";
import { GetObjectCommand, ListObjectsV2Command, S3Client } from "@aws-sdk/client-s3";
import { CreateFunctionCommand, LambdaClient, waitUntilFunctionActiveV2 } from "@aws-sdk/client-lambda";
import { expect, test } from "vitest";
import { handlersZip, invoke, until, waiting } from "./setup.ts";

const root = path.resolve(import.meta.dirname, "../..");
const credentials = { accessKeyId: "AKIATEST", secretAccessKey: "secret" };

interface Local {
  readonly child: ChildProcess;
  readonly endpoint: string;
  readonly s3Endpoint: string;
}

/** As `npm run lambda:local` does. */
async function startLocal(...args: readonly string[]): Promise<Local> {
  const child = spawn(process.execPath, ["scripts/run-ts.mjs", "scripts/lambda-local.ts", "--port", "0", ...args], {
    cwd: root, stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, AWS_ACCESS_KEY_ID: credentials.accessKeyId, AWS_SECRET_ACCESS_KEY: credentials.secretAccessKey },
  });
  let endpoint: string | undefined;
  for await (const line of createInterface({ input: child.stdout })) {
    expect(line).not.toContain(credentials.secretAccessKey);
    endpoint ??= /AWS_ENDPOINT_URL_LAMBDA=(\S+)/.exec(line)?.[1];
    const s3Endpoint = /AWS_ENDPOINT_URL_S3=(\S+)/.exec(line)?.[1];
    if (endpoint !== undefined && s3Endpoint !== undefined) return { child, endpoint, s3Endpoint };
  }
  throw new Error("it ended without a word");
}

/** Deploys with the SDK alone and leaves a frozen environment behind. */
async function invokedOnce(endpoint: string): Promise<{ readonly pid: number; readonly directory: string }> {
  const options = { endpoint, region: "us-east-1", credentials };
  const [client, iam] = [new LambdaClient(options), new IAMClient(options)];
  const trust = JSON.stringify({ Version: "2012-10-17", Statement: [{ Effect: "Allow", Principal: { Service: "lambda.amazonaws.com" }, Action: "sts:AssumeRole" }] });
  const { Role } = await iam.send(new CreateRoleCommand({ RoleName: "r", AssumeRolePolicyDocument: trust }));
  await new Promise((resolve) => setTimeout(resolve, 250));
  await client.send(new CreateFunctionCommand({
    FunctionName: "f", Role: Role?.Arn, Runtime: "nodejs22.x", Handler: "handlers.buffered", Timeout: 20, Code: { ZipFile: await handlersZip("handlers.mjs") },
  }));
  await waitUntilFunctionActiveV2({ client, ...waiting }, { FunctionName: "f" });
  const { payload } = await invoke(client, "f", {});
  for (const each of [client, iam]) each.destroy();
  return { pid: Number(payload["pid"]), directory: path.resolve(String(payload["tmp"]), "../..") };
}

function parentOf(pid: number): number {
  return Number(/\) \S (\d+)/.exec(readFileSync(`/proc/${pid}/stat`, "utf8"))?.[1]);
}

test.each(["SIGTERM", "SIGKILL"] as const)("a local Lambda that is ended by %s leaves no process, stopped or not, and no file", async (signal) => {
  const { child, endpoint } = await startLocal("--photos", "0");
  const { pid, directory } = await invokedOnce(endpoint);
  expect(existsSync(directory)).toBe(true);
  const ended = once(child, "exit");
  process.kill(parentOf(pid), signal);
  await ended;
  await until(() => !existsSync(`/proc/${pid}`) && !existsSync(directory));
});

test("beside it there is S3, with photographs and what a folder holds", async () => {
  const { child, s3Endpoint } = await startLocal("--photos", "3", "--folder", "examples/demo");
  const s3 = new S3Client({ endpoint: s3Endpoint, region: "us-east-1", credentials, forcePathStyle: true });
  const { Contents: photos = [] } = await s3.send(new ListObjectsV2Command({ Bucket: "local", Prefix: "photos/" }));
  expect(photos).toHaveLength(3);
  expect(photos[0]?.Key).toMatch(/^photos\/0001-\d\.jpg$/);
  const { Body } = await s3.send(new GetObjectCommand({ Bucket: "local", Key: "demo/digits.onnx" }));
  const bytes = await Body?.transformToByteArray();
  expect(Buffer.from(bytes ?? []).equals(readFileSync(path.join(root, "examples/demo/digits.onnx")))).toBe(true);
  s3.destroy();
  const ended = once(child, "exit");
  child.kill("SIGTERM");
  await ended;
});
