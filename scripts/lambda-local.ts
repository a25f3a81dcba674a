// Lambda, as much of it as splitrun needs, on this machine: to try `backend: lambda` without an account.
// Usage: npm run lambda:local -- [--port N] [--s3 ENDPOINT]   (keys for S3 from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)
import { availableParallelism } from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { startLambdaEmulator } from "../test/support/lambda/emulator.ts";
import type { LambdaEmulatorOptions } from "../test/support/lambda/emulator.ts";

const { values } = parseArgs({ options: { port: { type: "string", default: "9901" }, s3: { type: "string" } } });
// One key for both services, as with an account.
const credentials = {
  accessKeyId: process.env["AWS_ACCESS_KEY_ID"] ?? "AKIALOCALLOCALLOCAL0",
  secretAccessKey: process.env["AWS_SECRET_ACCESS_KEY"] ?? "local",
};
const storage: LambdaEmulatorOptions = values.s3 === undefined ? {} : { s3: { endpoint: values.s3, credentials }, variables: { AWS_ENDPOINT_URL_S3: values.s3 } };
const emulator = await startLambdaEmulator({
  ...storage,
  port: Number(values.port),
  // Every invocation is a process that computes here.
  concurrency: 2 * availableParallelism(),
  loop: path.resolve("test/support/lambda/runtime-loop.mjs"),
});
emulator.keys.set(credentials.accessKeyId, credentials);

console.log(`Lambda, IAM and CloudWatch Logs at ${emulator.endpoint} (${emulator.describeRuntime("nodejs22.x")}).
At most ${2 * availableParallelism()} invocations at once; no money, no account. In another shell:

  export AWS_ENDPOINT_URL_LAMBDA=${emulator.endpoint} AWS_ENDPOINT_URL_IAM=${emulator.endpoint} AWS_ENDPOINT_URL_CLOUDWATCH_LOGS=${emulator.endpoint}
  export AWS_REGION=${emulator.region} AWS_ACCESS_KEY_ID=${credentials.accessKeyId} AWS_SECRET_ACCESS_KEY=${process.env["AWS_SECRET_ACCESS_KEY"] === undefined ? credentials.secretAccessKey : "(the one that it was started with)"}

Ctrl-C ends it, and all that was deployed to it.`);
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => void emulator.stop());
