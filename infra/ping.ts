import { setTimeout as sleep } from "node:timers/promises";
import { InvokeCommand } from "@aws-sdk/client-lambda";
import type { LambdaClient } from "@aws-sdk/client-lambda";
import * as z from "zod/mini";
import { classify, functionFailure, lambdaError } from "../orchestrator/backends/lambda/client.ts";
import { parseReport } from "../orchestrator/backends/lambda/report.ts";
import { SplitrunError } from "../orchestrator/errors.ts";
import { invocationBegan, protocolVersion } from "../task-manager/protocol.ts";

/** How a function answered. */
export interface Ping {
  readonly functionName: string;
  /** Alias or version that was asked. */
  readonly qualifier: string;
  /** Version that answered. */
  readonly version: string;
  /** Names the environment, as its log stream does. */
  readonly environment: string;
  readonly cold: boolean;
  /** From the request to the answer, as seen here. */
  readonly roundTripMs: number;
  /** Lambda's own figure of a cold start; null: it was none, or Lambda did not say. */
  readonly initMs: number | null;
  readonly billedMs: number | null;
  readonly memoryMb: number;
  readonly maxMemoryMb: number | null;
  /** Of splitrun and of Node. */
  readonly versions: Readonly<Record<string, string>>;
  /** It understands this splitrun; else `splitrun redeploy`. */
  readonly compatible: boolean;
}

/** The first line of every answer; of an older or newer function, too. */
const began = z.pick(invocationBegan, { kind: true, protocol: true, environment: true, cold: true, initMs: true, memoryMb: true, functionVersion: true, versions: true });

/** A function that has just been made or changed may need a moment. */
const readyMsMax = 60_000;
const pauseMs = 500;

/**
 * Asks a function whether it works. Costs some milliseconds of it.
 * @throws SplitrunError LAMBDA_… as invocations fail, RUNTIME_BROKEN when its code does not load
 */
export async function pingFunction(client: LambdaClient, functionName: string, qualifier: string): Promise<Ping> {
  const startedMs = performance.now();
  for (;;) {
    try {
      return await pingOnce(client, functionName, qualifier);
    } catch (error) {
      if (error instanceof SplitrunError) throw error;
      const { code, didNotRun } = classify(error);
      const worthwhile = code === "LAMBDA_NOT_READY" && didNotRun && performance.now() - startedMs < readyMsMax;
      if (!worthwhile) throw lambdaError(error, `ping ${functionName}:${qualifier}`);
      await sleep(pauseMs);
    }
  }
}

async function pingOnce(client: LambdaClient, functionName: string, qualifier: string): Promise<Ping> {
  const sentMs = performance.now();
  const answer = await client.send(new InvokeCommand({
    FunctionName: functionName, Qualifier: qualifier, LogType: "Tail", Payload: JSON.stringify({ protocol: protocolVersion, kind: "ping", holdMs: 0 }),
  }));
  const roundTripMs = performance.now() - sentMs;
  const text = Buffer.from(answer.Payload ?? []).toString("utf8");
  const log = Buffer.from(answer.LogResult ?? "", "base64").toString("utf8");
  if (answer.FunctionError !== undefined) throw broken(functionName, functionFailure(answer.FunctionError, text, log).message, log);
  const line = began.safeParse(firstLine(text));
  if (!line.success) throw broken(functionName, "it does not answer as splitrun's does", log);
  const report = parseReport(log);
  const { environment, cold, memoryMb, functionVersion, versions, protocol } = line.data;
  return {
    functionName, qualifier, version: answer.ExecutedVersion ?? functionVersion, environment, cold, roundTripMs, memoryMb, versions,
    initMs: report?.initMs ?? line.data.initMs, billedMs: report?.billedMs ?? null, maxMemoryMb: report?.maxMemoryMb ?? null,
    compatible: protocol === protocolVersion,
  };
}

/** A handler that cannot stream answers with all of its lines as one string. */
function firstLine(text: string): unknown {
  try {
    const value: unknown = JSON.parse(text.split("\n", 1)[0] ?? "");
    return typeof value === "string" ? firstLine(value) : value;
  } catch {
    return null;
  }
}

function broken(functionName: string, why: string, log: string): SplitrunError {
  const tail = log.trim().split("\n").filter((line) => !/^(START|END|REPORT|INIT_START) /.test(line)).slice(-5).join("\n");
  return new SplitrunError(
    `the function ${functionName} does not work: ${why}; run \`splitrun redeploy\`, or look into its log group${tail === "" ? "" : `\n${tail}`}`,
    { code: "RUNTIME_BROKEN", value: functionName },
  );
}
