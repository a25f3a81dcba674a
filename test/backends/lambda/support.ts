import { writeFile } from "node:fs/promises";
import path from "node:path";
import { afterAll, beforeAll, expect } from "vitest";
import { lambdaBackend } from "../../../orchestrator/backends/lambda/lambda.ts";
import type { Backend } from "../../../orchestrator/backends/types.ts";
import type { LambdaSpec } from "../../../orchestrator/jobs/types.ts";
import type { Job } from "../../../orchestrator/jobs/schema.ts";
import type { RunResult } from "../../../orchestrator/service/execute-job.ts";
import { runJob } from "../../../orchestrator/service/run-job.ts";
import type { JsonValue } from "../../../task-manager/protocol.ts";
import { jsonLines } from "../../support/cli.ts";
import { deployFunction, type DeployedOptions } from "../../support/lambda/deployed.ts";
import { ricInstalled, startLambdaEmulator, type LambdaEmulator, type LambdaEmulatorOptions } from "../../support/lambda/emulator.ts";

export const lambdaDefaults: LambdaSpec = {
  kind: "lambda", functionName: "splitrun", qualifier: "live", region: null, stagingBucket: null, memoryStepUpMb: null, buffered: false,
  keepWarm: null, forceColdStart: false, splitSeconds: 60, sharedFilesystem: false, pull: null, coresByMemory: false,
};

/** An emulator that the tests of a file share, and that the SDK of this process talks to. */
export function emulated(options: LambdaEmulatorOptions = {}, deployed: readonly DeployedOptions[] = [{}]): { readonly lambda: LambdaEmulator } {
  let emulator: LambdaEmulator | undefined;
  beforeAll(async () => {
    emulator = await startLambdaEmulator(options);
    if (!ricInstalled) console.log(`functions run as ${emulator.describeRuntime("nodejs22.x")}`);
    Object.assign(process.env, environmentOf(emulator));
    for (const each of deployed) await deployFunction(emulator, each);
  });
  afterAll(async () => {
    await emulator?.stop();
  });
  return {
    get lambda() {
      if (emulator === undefined) throw new Error("the emulator has not started");
      return emulator;
    },
  };
}

/** In which the SDK finds the emulator. */
export function environmentOf({ endpoint, region, credentials }: LambdaEmulator): Record<string, string> {
  return {
    AWS_ENDPOINT_URL_LAMBDA: endpoint,
    AWS_REGION: region,
    AWS_ACCESS_KEY_ID: credentials.accessKeyId,
    AWS_SECRET_ACCESS_KEY: credentials.secretAccessKey,
    AWS_EC2_METADATA_DISABLED: "true",
  };
}

export function backendWith(changes: Partial<LambdaSpec> = {}, taskManagersMax = 4): Promise<Backend> {
  return lambdaBackend({ settings: { ...lambdaDefaults, ...changes }, taskManagersMax });
}

export interface LambdaRun {
  readonly result: RunResult;
  /** Of all items, by index. */
  readonly lines: readonly ResultLine[];
}

export interface ResultLine {
  readonly index: number;
  readonly output?: unknown;
  readonly error?: { readonly code: string; readonly message: string };
  readonly attempts: number;
}

/** A job whose function is `source`, from a folder of its own; every item has to have exactly one line. */
export async function runFunction(folder: string, source: string, input: readonly JsonValue[], changes: Partial<Job> = {}): Promise<LambdaRun> {
  await writeFile(path.join(folder, "function.mjs"), source);
  process.env["SPLITRUN_CACHE_DIR"] = path.join(folder, "cache");
  const result = await runJob({
    baseDir: folder, input, task: { kind: "function", module: "function.mjs" }, backend: { kind: "lambda" }, taskManagers: 3,
    heartbeat: { reportMs: 20, everyMs: 200, timeoutMs: 6000 }, output: path.join(folder, "out"), ...changes,
  });
  const lines = (await jsonLines<ResultLine>(path.join(result.home, "results.jsonl"))).sort((a, b) => a.index - b.index);
  expect(lines.map(({ index }) => index), `${result.state}: ${result.summary.message}`).toEqual(input.map((_, index) => index));
  return { result, lines };
}
