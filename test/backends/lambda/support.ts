import { afterAll, beforeAll } from "vitest";
import { lambdaBackend } from "../../../orchestrator/backends/lambda/lambda.ts";
import type { Backend } from "../../../orchestrator/backends/types.ts";
import type { LambdaSpec } from "../../../orchestrator/jobs/types.ts";
import { deployFunction, type DeployedOptions } from "../../support/lambda/deployed.ts";
import { startLambdaEmulator, type LambdaEmulator, type LambdaEmulatorOptions } from "../../support/lambda/emulator.ts";

export const lambdaDefaults: LambdaSpec = {
  kind: "lambda", functionName: "splitrun", qualifier: "live", region: null, stagingBucket: null, memoryStepUpMb: null, buffered: false,
  keepWarm: null, forceColdStart: false, splitSeconds: 60, sharedFilesystem: false, coresByMemory: false,
};

/** An emulator that the tests of a file share, and that the SDK of this process talks to. */
export function emulated(options: LambdaEmulatorOptions = {}, deployed: readonly DeployedOptions[] = [{}]): { readonly lambda: LambdaEmulator } {
  let emulator: LambdaEmulator | undefined;
  beforeAll(async () => {
    emulator = await startLambdaEmulator(options);
    Object.assign(process.env, environmentOf(emulator));
    for (const each of deployed) await deployFunction(emulator, each);
  }, 60_000);
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
