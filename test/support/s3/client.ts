import { createS3Client } from "../../../task-manager/s3-client.ts";
import type { S3Client, S3ClientOptions } from "../../../task-manager/s3-client.ts";

/** Patient with faults, but quick about it. */
export const clientOptions: S3ClientOptions = {
  region: "us-east-1",
  profile: null,
  endpoint: null,
  forcePathStyle: null,
  checksums: null,
  requesterPays: false,
  encryption: null,
  storageClass: null,
  retries: { attemptsMax: 5, pauseMs: 1, pauseMsMax: 10 },
  socketsMax: 16,
  connectTimeoutMs: 5000,
  idleTimeoutMs: 20_000,
};

export interface Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
}

/** Credentials go the way they go for users: through the environment. */
export function setCredentials({ accessKeyId, secretAccessKey, sessionToken }: Credentials): void {
  process.env["AWS_ACCESS_KEY_ID"] = accessKeyId;
  process.env["AWS_SECRET_ACCESS_KEY"] = secretAccessKey;
  if (sessionToken === undefined) delete process.env["AWS_SESSION_TOKEN"];
  else process.env["AWS_SESSION_TOKEN"] = sessionToken;
}

/** Nothing of the machine's own configuration is looked at. */
export function forgetConfiguration(): void {
  for (const name of Object.keys(process.env)) {
    if (name.startsWith("AWS_")) delete process.env[name];
  }
  process.env["AWS_CONFIG_FILE"] = "/nonexistent/config";
  process.env["AWS_SHARED_CREDENTIALS_FILE"] = "/nonexistent/credentials";
  process.env["AWS_EC2_METADATA_DISABLED"] = "true";
}

export function clientOf(endpoint: string, more: Partial<S3ClientOptions> = {}): S3Client {
  return createS3Client({ ...clientOptions, endpoint, ...more });
}
