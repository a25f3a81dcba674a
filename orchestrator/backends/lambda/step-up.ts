import type * as Sdk from "@aws-sdk/client-lambda";
import { SplitrunError } from "../../errors.ts";
import type { LambdaSpec } from "../../jobs/types.ts";
import { classify, type LambdaSdk } from "./client.ts";

/** The function with more memory beside that of this name. */
export function stepUpNameOf(functionName: string): string {
  return `${functionName}-step-up`;
}

/**
 * Asks whether the function to step up to is there, which costs nothing: the item that needs it may be the last.
 * Whatever may pass by then is no reason not to begin.
 * @throws SplitrunError of field backend.memoryStepUpMb
 */
export async function findStepUp(sdk: LambdaSdk, client: Sdk.LambdaClient, { functionName, qualifier, memoryStepUpMb }: LambdaSpec): Promise<void> {
  const name = stepUpNameOf(functionName);
  try {
    await client.send(new sdk.InvokeCommand({ FunctionName: name, Qualifier: qualifier, InvocationType: "DryRun" }));
  } catch (error) {
    const { code, retryable, message, wayOut } = classify(error);
    if (retryable) return;
    const deploy = `run \`splitrun deploy\` as before, with --memory-step-up-mb ${memoryStepUpMb}, or leave memoryStepUpMb out`;
    throw new SplitrunError(`backend.memoryStepUpMb: ${name}: ${message}; ${code === "LAMBDA_NOT_DEPLOYED" || wayOut === null ? deploy : wayOut}`, {
      code, field: "backend.memoryStepUpMb", value: memoryStepUpMb, cause: error,
    });
  }
}
