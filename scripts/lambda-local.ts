// Lambda and S3, as much of them as splitrun needs, on this machine: to try `backend: lambda` without an account.
// Usage: npm run lambda:local -- [--port N] [--photos N] [--folder DIRECTORY] [--s3 ENDPOINT]
// --photos: so many photographs of digits are in the bucket, 2000 at most. --folder: its files are there, too.
// --s3: that server instead; its keys from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY
import { once } from "node:events";
import { readFile, readdir } from "node:fs/promises";
import { availableParallelism } from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { startLambdaEmulator } from "../test/support/lambda/emulator.ts";
import { startS3Server } from "../test/support/s3/server.ts";
import type { S3Server } from "../test/support/s3/server.ts";
import { demoPhotos } from "./demo-photos.mjs";

const bucket = "local";

const { values } = parseArgs({
  options: { port: { type: "string", default: "9901" }, photos: { type: "string", default: "300" }, folder: { type: "string" }, s3: { type: "string" } },
});
const port = Number(values.port);
const photosCount = Math.min(2000, Number(values.photos));
// One key for all, as with an account's owner.
const credentials = {
  accessKeyId: process.env["AWS_ACCESS_KEY_ID"] ?? "AKIALOCALLOCALLOCAL0",
  secretAccessKey: process.env["AWS_SECRET_ACCESS_KEY"] ?? "local",
};
const s3 = values.s3 === undefined ? await startFilledS3() : null;
const s3Endpoint = values.s3 ?? s3?.endpoint ?? "";
const emulator = await startLambdaEmulator({
  port,
  s3: { endpoint: s3Endpoint, credentials },
  variables: { AWS_ENDPOINT_URL_S3: s3Endpoint },
  roleCredentials: credentials,
  // Every invocation is a process that computes here.
  concurrency: 2 * availableParallelism(),
  loop: path.resolve("test/support/lambda/runtime-loop.mjs"),
});
emulator.keys.set(credentials.accessKeyId, credentials);

const secret = process.env["AWS_SECRET_ACCESS_KEY"] === undefined ? credentials.secretAccessKey : "(the one that it was started with)";
console.log(`Lambda, IAM and CloudWatch Logs at ${emulator.endpoint} (${emulator.describeRuntime("nodejs22.x")}), S3 at ${s3Endpoint}.
At most ${2 * availableParallelism()} invocations at once; no money, no account, nobody's permissions are checked. In another shell:

  export AWS_ENDPOINT_URL_LAMBDA=${emulator.endpoint} AWS_ENDPOINT_URL_IAM=${emulator.endpoint} AWS_ENDPOINT_URL_CLOUDWATCH_LOGS=${emulator.endpoint}
  export AWS_ENDPOINT_URL_S3=${s3Endpoint}
  export AWS_REGION=${emulator.region} AWS_ACCESS_KEY_ID=${credentials.accessKeyId} AWS_SECRET_ACCESS_KEY=${secret}
${s3 === null ? "" : firstSteps()}
Ctrl-C ends it, and all that was deployed to it${s3 === null ? "" : " and is in S3"}.`);
const stopping = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => stopping.abort());
if (!stopping.signal.aborted) await once(stopping.signal, "abort");
await Promise.all([emulator.stop(), s3?.stop()]);

/** With photographs of digits and what the folder holds. */
async function startFilledS3(): Promise<S3Server> {
  const server = await startS3Server({ port: port === 0 ? 0 : port + 1, bytesMax: 2 ** 31 });
  server.keys.set(credentials.accessKeyId, credentials);
  server.createBucket(bucket);
  for (const { name, bytes } of await demoPhotos(photosCount)) server.put(bucket, `photos/${name}`, bytes);
  if (values.folder !== undefined) await putFolder(server, values.folder);
  return server;
}

async function putFolder(server: S3Server, folder: string): Promise<void> {
  const prefix = path.basename(path.resolve(folder));
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const file = path.join(entry.parentPath, entry.name);
    server.put(bucket, path.posix.join(prefix, path.relative(folder, file)), await readFile(file));
  }
}

function firstSteps(): string {
  const folder = values.folder === undefined ? "" : `, and ${values.folder} in s3://${bucket}/${path.basename(path.resolve(values.folder))}/`;
  return `
${photosCount} photographs of handwritten digits are in s3://${bucket}/photos/${folder}. What splitrun can do with them:

  splitrun deploy --read s3://${bucket}/photos/ --staging-bucket s3://${bucket}/staging/
  splitrun run examples/demo/job.yaml --backend lambda --input s3://${bucket}/photos/ --output s3://${bucket}/results/
  splitrun verify s3://${bucket}/results/
  splitrun export s3://${bucket}/results/ --to results.csv
  splitrun undeploy --staging-bucket s3://${bucket}/staging/
`;
}
