import { CloudWatchLogsClient } from "@aws-sdk/client-cloudwatch-logs";
import { IAMClient } from "@aws-sdk/client-iam";
import { LambdaClient } from "@aws-sdk/client-lambda";
import { SplitrunError } from "../orchestrator/errors.ts";
import { createS3Client } from "../task-manager/s3-client.ts";
import type { S3Client } from "../task-manager/s3-client.ts";
import { deployFailure } from "./failure.ts";
import type { Action } from "./failure.ts";

/** The services that a runtime is made of, in one region. */
export interface Aws {
  readonly region: string;
  readonly lambda: LambdaClient;
  readonly iam: IAMClient;
  readonly logs: CloudWatchLogsClient;
  readonly s3: S3Client;
  close(): void;
}

/** An upload of 50 MB may take minutes; a socket without a byte for so long is dead. */
const idleTimeoutMs = 120_000;
const connectTimeoutMs = 10_000;
/** All of these calls can be sent twice. */
const attemptsMax = 5;

/** @throws SplitrunError AWS_REGION, AWS_CREDENTIALS */
export async function connectAws(region: string | null): Promise<Aws> {
  // As in `orchestrator/backends/lambda/client.ts`: not for the SDK to say in every run.
  process.env["AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED"] ??= "true";
  const common = {
    ...(region === null ? {} : { region }),
    maxAttempts: attemptsMax,
    requestHandler: { connectionTimeout: connectTimeoutMs, socketTimeout: idleTimeoutMs },
  };
  const lambda = new LambdaClient(common);
  const iam = new IAMClient(common);
  const logs = new CloudWatchLogsClient(common);
  const s3 = createS3Client({
    region, profile: null, endpoint: null, forcePathStyle: null, checksums: null, requesterPays: false, encryption: null, storageClass: null,
    retries: { attemptsMax, pauseMs: 200, pauseMsMax: 10_000 }, socketsMax: 8, connectTimeoutMs, idleTimeoutMs,
  });
  const close = (): void => {
    for (const client of [lambda, iam, logs]) client.destroy();
    s3.close();
  };
  try {
    const found = await call("lambda:GetFunction", () => lambda.config.region());
    await call("lambda:GetFunction", () => lambda.config.credentials());
    return { region: found, lambda, iam, logs, s3, close };
  } catch (error) {
    close();
    throw error;
  }
}

/** @throws SplitrunError with the way out */
export async function call<T>(action: Action, send: () => Promise<T>): Promise<T> {
  try {
    return await send();
  } catch (error) {
    throw deployFailure(error, action);
  }
}

/** null: it is not there. */
export function callIfThere<T>(action: Action, send: () => Promise<T>): Promise<T | null> {
  return call(action, () => send().catch(unlessAbsent));
}

/** For `catch`: what is not there is null, other errors go on. */
export function unlessAbsent(error: unknown): null {
  const { name } = error as Error;
  if (name === "ResourceNotFoundException" || name === "NoSuchEntityException" || name === "NoSuchEntity") return null;
  throw error;
}

export function causeOf(error: unknown): Error | null {
  return error instanceof SplitrunError && error.cause instanceof Error ? error.cause : null;
}
