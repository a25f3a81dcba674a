import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline";
import { CreateRoleCommand, IAMClient } from "@aws-sdk/client-iam";
import { CreateFunctionCommand, LambdaClient, waitUntilFunctionActiveV2 } from "@aws-sdk/client-lambda";
import { expect, test } from "vitest";
import { handlersZip, invoke, until, waiting } from "./setup.ts";

const root = path.resolve(import.meta.dirname, "../..");
const credentials = { accessKeyId: "AKIATEST", secretAccessKey: "secret" };

interface Local {
  readonly child: ChildProcess;
  readonly endpoint: string;
}

/** As `npm run lambda:local` does. */
async function startLocal(): Promise<Local> {
  const child = spawn(process.execPath, ["scripts/run-ts.mjs", "scripts/lambda-local.ts", "--port", "0"], {
    cwd: root, stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, AWS_ACCESS_KEY_ID: credentials.accessKeyId, AWS_SECRET_ACCESS_KEY: credentials.secretAccessKey },
  });
  for await (const line of createInterface({ input: child.stdout })) {
    const endpoint = /AWS_ENDPOINT_URL_LAMBDA=(\S+)/.exec(line)?.[1];
    expect(line).not.toContain(credentials.secretAccessKey);
    if (endpoint !== undefined) return { child, endpoint };
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
  const { child, endpoint } = await startLocal();
  const { pid, directory } = await invokedOnce(endpoint);
  expect(existsSync(directory)).toBe(true);
  const ended = once(child, "exit");
  process.kill(parentOf(pid), signal);
  await ended;
  await until(() => !existsSync(`/proc/${pid}`) && !existsSync(directory));
});
