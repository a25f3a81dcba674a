import type * as Sdk from "@aws-sdk/client-lambda";
import type { LambdaSdk } from "./client.ts";
import type { InvocationTarget } from "./invoke.ts";

const updateSecondsMax = 120;
/** Its value says nothing; that it changes makes Lambda start new environments. */
const variable = "SPLITRUN_COLD_START";

/** From now on every environment of the function is a new one. Needs the rights to update it. */
export async function forceColdStart(sdk: LambdaSdk, client: Sdk.LambdaClient, { functionName, qualifier }: InvocationTarget): Promise<void> {
  const updated = () => sdk.waitUntilFunctionUpdatedV2({ client, maxWaitTime: updateSecondsMax, minDelay: 0.2, maxDelay: 2 }, { FunctionName: functionName });
  await updated();
  const { Environment } = await client.send(new sdk.GetFunctionConfigurationCommand({ FunctionName: functionName }));
  const Variables = { ...Environment?.Variables, [variable]: String(Date.now()) };
  await client.send(new sdk.UpdateFunctionConfigurationCommand({ FunctionName: functionName, Environment: { Variables } }));
  await updated();
  if (qualifier === "$LATEST") return;
  const { Version } = await client.send(new sdk.PublishVersionCommand({ FunctionName: functionName }));
  if (Version !== undefined) await client.send(new sdk.UpdateAliasCommand({ FunctionName: functionName, Name: qualifier, FunctionVersion: Version }));
}
