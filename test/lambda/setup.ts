import { readFile } from "node:fs/promises";
import path from "node:path";
import { CreateFunctionCommand, InvokeCommand, InvokeWithResponseStreamCommand, LambdaClient, waitUntilFunctionActiveV2 } from "@aws-sdk/client-lambda";
import type { CreateFunctionCommandInput, InvokeCommandInput } from "@aws-sdk/client-lambda";
import type { LambdaEmulator } from "../support/lambda/emulator.ts";
import { zipOf } from "../support/lambda/zip.ts";

export const waiting = { maxWaitTime: 30, minDelay: 0.02, maxDelay: 0.1 } as const;

/** As the invoking side has to set it: one attempt, no warnings about few sockets. */
export function clientOf(emulator: LambdaEmulator, credentials: { accessKeyId: string; secretAccessKey: string } = emulator.credentials): LambdaClient {
  return new LambdaClient({ endpoint: emulator.endpoint, region: emulator.region, credentials, maxAttempts: 1 });
}

export async function handlersZip(...names: readonly string[]): Promise<Buffer> {
  const files = await Promise.all(names.map(async (name) => [name, await readFile(path.join(import.meta.dirname, name), "utf8")] as const));
  return zipOf(Object.fromEntries(files));
}

export async function deploy(client: LambdaClient, name: string, input: Partial<CreateFunctionCommandInput> & Pick<CreateFunctionCommandInput, "Role">): Promise<void> {
  await client.send(new CreateFunctionCommand({
    FunctionName: name, Runtime: "nodejs22.x", Handler: "handlers.buffered", MemorySize: 512, Timeout: 20,
    Code: { ZipFile: await handlersZip("handlers.mjs") }, ...input,
  }));
  await waitUntilFunctionActiveV2({ client, ...waiting }, { FunctionName: name });
}

export interface Invoked {
  readonly payload: Record<string, unknown>;
  readonly functionError: string | undefined;
  readonly log: string;
  readonly version: string | undefined;
  readonly requestId: string | undefined;
}

export async function invoke(client: LambdaClient, name: string, event: unknown, input: Partial<InvokeCommandInput> = {}): Promise<Invoked> {
  const answer = await client.send(new InvokeCommand({ FunctionName: name, Payload: JSON.stringify(event), LogType: "Tail", ...input }));
  const text = Buffer.from(answer.Payload ?? []).toString("utf8");
  return {
    payload: (text === "" ? {} : JSON.parse(text)) as Record<string, unknown>, functionError: answer.FunctionError,
    log: Buffer.from(answer.LogResult ?? "", "base64").toString("utf8"), version: answer.ExecutedVersion, requestId: answer.$metadata.requestId,
  };
}

export interface Streamed {
  readonly chunks: readonly string[];
  readonly lines: readonly { readonly index: number }[];
  /** null: the stream ended without it. */
  readonly complete: { readonly code: string | undefined; readonly details: string | undefined; readonly log: string } | null;
  /** Of the connection. */
  readonly error: Error | null;
}

export async function invokeStreamed(client: LambdaClient, name: string, event: unknown, onChunk: () => void = () => undefined): Promise<Streamed> {
  const chunks: string[] = [];
  let complete: Streamed["complete"] = null;
  let error: Error | null = null;
  try {
    const answer = await client.send(new InvokeWithResponseStreamCommand({ FunctionName: name, Payload: JSON.stringify(event), LogType: "Tail" }));
    for await (const part of answer.EventStream ?? []) {
      if (part.PayloadChunk !== undefined) {
        chunks.push(Buffer.from(part.PayloadChunk.Payload ?? []).toString("utf8"));
        onChunk();
      }
      if (part.InvokeComplete !== undefined) {
        const { ErrorCode: code, ErrorDetails: details, LogResult: log = "" } = part.InvokeComplete;
        complete = { code, details, log: Buffer.from(log, "base64").toString("utf8") };
      }
    }
  } catch (caught) {
    error = caught as Error;
  }
  const lines = chunks.join("").split("\n").slice(0, -1).map((line) => JSON.parse(line) as { index: number });
  return { chunks, lines, complete, error };
}

export async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!await condition()) await new Promise((resolve) => setTimeout(resolve, 5));
}
