import { createHash } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import type { DeployHow } from "../../infra/deploy.ts";
import { packageFiles } from "../../infra/package-files.ts";
import type { PackageFile, PackageOptions, RuntimeArtifact } from "../../infra/package-files.ts";
import { startLambdaEmulator } from "../support/lambda/emulator.ts";
import type { LambdaEmulator, LambdaEmulatorOptions } from "../support/lambda/emulator.ts";
import { startS3Server } from "../support/s3/server.ts";
import type { S3Server } from "../support/s3/server.ts";

/** An account with a bucket named `staging`, which the environment of this process leads to. */
export interface Account {
  readonly emulator: LambdaEmulator;
  readonly s3: S3Server;
  readonly cacheDir: string;
  /** What a command line needs to find the account. */
  readonly variables: Readonly<Record<string, string>>;
  /** How to deploy: steps are collected. */
  how(more?: Partial<DeployHow>): DeployHow;
  close(): Promise<void>;
}

export async function openAccount(options: LambdaEmulatorOptions = {}): Promise<Account> {
  const cacheDir = await mkdtemp(path.join(tmpdir(), "splitrun-infra-"));
  const s3 = await startS3Server();
  s3.createBucket("staging");
  const emulator = await startLambdaEmulator({ rolePropagationMs: 100, creatingMs: 1, updatingMs: 1, ...options, s3: { endpoint: s3.endpoint, credentials: s3.credentials }, variables: { AWS_ENDPOINT_URL_S3: s3.endpoint } });
  emulator.keys.set(s3.credentials.accessKeyId, s3.credentials);
  s3.keys.set(emulator.roleCredentials.accessKeyId, emulator.roleCredentials);
  const variables = {
    AWS_ENDPOINT_URL: emulator.endpoint, AWS_ENDPOINT_URL_S3: s3.endpoint, AWS_REGION: emulator.region,
    AWS_ACCESS_KEY_ID: s3.credentials.accessKeyId, AWS_SECRET_ACCESS_KEY: s3.credentials.secretAccessKey,
    AWS_EC2_METADATA_DISABLED: "true", AWS_CONFIG_FILE: path.join(cacheDir, "none"), AWS_SHARED_CREDENTIALS_FILE: path.join(cacheDir, "none"),
  };
  Object.assign(process.env, variables);
  return {
    emulator, s3, cacheDir, variables,
    how: (more = {}) => ({ artifacts: [], dropArtifacts: false, cacheDir, dryRun: false, onStep: () => undefined, filesOf: withoutNatives, ...more }),
    async close() {
      await emulator.stop();
      await s3.stop();
      await rm(cacheDir, { recursive: true, force: true });
    },
  };
}

let ownFiles: Promise<readonly PackageFile[]> | undefined;

/** A package in which everything is real but for the native libraries, which are large: a ping needs none. */
async function withoutNatives(options: PackageOptions): Promise<readonly PackageFile[]> {
  ownFiles ??= packageFiles({ ...options, artifacts: [] }).then((files) => files.filter(({ name }) => !name.startsWith("node_modules/")));
  const artifacts = options.artifacts.map(({ sha256, bytes, path: file }): PackageFile => ({ name: `artifacts/${sha256}`, part: "artifacts", bytes, sha256, source: { path: file } }));
  return [...artifacts, ...(await ownFiles)];
}

/** A file as a model that goes into the package. */
export async function artifactOf(account: Account, name: string, content: Buffer): Promise<RuntimeArtifact> {
  const file = path.join(account.cacheDir, name);
  await writeFile(file, content);
  return { name, path: file, bytes: content.length, sha256: createHash("sha256").update(content).digest("hex") };
}

export function resourcesOf(emulator: LambdaEmulator): readonly string[] {
  return [...emulator.functionNames, ...emulator.roleNames, ...emulator.logGroupNames];
}
