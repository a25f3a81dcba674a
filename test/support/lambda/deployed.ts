import { readFile } from "node:fs/promises";
import path from "node:path";
import { buffer } from "node:stream/consumers";
import { CreateAliasCommand, CreateFunctionCommand, LambdaClient, PublishVersionCommand, waitUntilFunctionActiveV2 } from "@aws-sdk/client-lambda";
import { ZipFile } from "yazl";
import { codeFiles } from "./code-files.ts";
import type { LambdaEmulator } from "./emulator.ts";

const root = path.resolve(import.meta.dirname, "../../..");
const waiting = { maxWaitTime: 30, minDelay: 0.02, maxDelay: 0.1 } as const;
const symbolicLink = 0o120777;
const mtime = new Date(Date.UTC(2000, 0, 1));

export interface DeployedOptions {
  /** @default "splitrun" */
  readonly name?: string;
  /** @default 1769 */
  readonly memoryMb?: number;
  /** @default 60 */
  readonly timeoutSeconds?: number;
  readonly variables?: Readonly<Record<string, string>>;
}

/** Splitrun's function in an emulator, with an alias `live`: our built files, and this machine's packages. */
export async function deployFunction(emulator: LambdaEmulator, options: DeployedOptions = {}): Promise<void> {
  const { name = "splitrun", memoryMb = 1769, timeoutSeconds = 60, variables = {} } = options;
  const client = new LambdaClient({ endpoint: emulator.endpoint, region: emulator.region, credentials: emulator.credentials });
  try {
    await client.send(new CreateFunctionCommand({
      FunctionName: name, Runtime: "nodejs22.x", Handler: "lambda.handler", MemorySize: memoryMb, Timeout: timeoutSeconds,
      Role: emulator.createRole(`${name}-role`), Code: { ZipFile: await builtZip() }, Environment: { Variables: { ...variables } },
    }));
    await waitUntilFunctionActiveV2({ client, ...waiting }, { FunctionName: name });
    const { Version = "" } = await client.send(new PublishVersionCommand({ FunctionName: name }));
    await client.send(new CreateAliasCommand({ FunctionName: name, Name: "live", FunctionVersion: Version }));
  } finally {
    client.destroy();
  }
}

let zip: Promise<Buffer> | undefined;

function builtZip(): Promise<Buffer> {
  return (zip ??= makeZip());
}

async function makeZip(): Promise<Buffer> {
  const file = new ZipFile();
  const mode = 0o100644;
  for (const { name, path: source } of await codeFiles()) file.addBuffer(await readFile(source), name, { mtime, mode });
  file.addBuffer(Buffer.from('{"type":"module"}'), "package.json", { mtime, mode });
  // What a deployment copies for Lambda's own platform is here for this one.
  file.addBuffer(Buffer.from(path.join(root, "node_modules")), "node_modules", { mtime, mode: symbolicLink });
  file.end();
  return buffer(file.outputStream);
}
