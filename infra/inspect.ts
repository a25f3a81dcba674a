import { DescribeLogGroupsCommand, ListTagsForResourceCommand } from "@aws-sdk/client-cloudwatch-logs";
import { GetRoleCommand, GetRolePolicyCommand, ListRolePoliciesCommand } from "@aws-sdk/client-iam";
import { GetAccountSettingsCommand, GetFunctionCommand, GetFunctionConfigurationCommand, ListAliasesCommand, ListVersionsByFunctionCommand } from "@aws-sdk/client-lambda";
import type { FunctionConfiguration } from "@aws-sdk/client-lambda";
import { stepUpNameOf } from "../orchestrator/backends/lambda/step-up.ts";
import { call, callIfThere } from "./aws.ts";
import type { Aws } from "./aws.ts";
import { logGroupOf, roleNameOf } from "./documents.ts";
import { aliasName } from "./options.ts";
import type { Vpc } from "./options.ts";

/** What can be set of a function, as it is set: of its latest state or of a version. */
export interface FunctionState {
  readonly codeSha256: string;
  readonly description: string;
  readonly runtime: string;
  readonly handler: string;
  readonly roleArn: string;
  readonly memoryMb: number;
  readonly timeoutSeconds: number;
  readonly ephemeralMb: number;
  readonly architecture: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly logGroup: string;
  readonly vpc: Vpc | null;
}

export type PackageKind = "zip" | "image";

export interface FoundFunction {
  readonly name: string;
  readonly arn: string;
  /** Cannot be changed. */
  readonly packageKind: PackageKind;
  readonly latest: FunctionState;
  /** What the alias points to; null: there is none. */
  readonly live: (FunctionState & { readonly version: string }) | null;
  /** Versions that any alias points to. */
  readonly aliased: ReadonlySet<string>;
  readonly tags: Readonly<Record<string, string>>;
  readonly reservedConcurrency: number | null;
  /** Numbers of published versions, oldest first. */
  readonly versions: readonly string[];
}

export interface FoundRole {
  readonly name: string;
  readonly arn: string;
  readonly trust: string;
  readonly tags: Readonly<Record<string, string>>;
  readonly policies: ReadonlyMap<string, string>;
}

export interface FoundLogGroup {
  readonly name: string;
  readonly arn: string;
  readonly retentionDays: number | null;
  readonly tags: Readonly<Record<string, string>>;
}

/** Everything of a runtime that there is in the account. */
export interface FoundRuntime {
  readonly region: string;
  readonly function: FoundFunction | null;
  readonly stepUp: FoundFunction | null;
  readonly role: FoundRole | null;
  readonly logGroup: FoundLogGroup | null;
  readonly stepUpLogGroup: FoundLogGroup | null;
}

export async function inspectRuntime(aws: Aws, name: string): Promise<FoundRuntime> {
  const [own, stepUp, role, logGroup, stepUpLogGroup] = await Promise.all([
    findFunction(aws, name),
    findFunction(aws, stepUpNameOf(name)),
    findRole(aws, roleNameOf(name)),
    findLogGroup(aws, logGroupOf(name)),
    findLogGroup(aws, logGroupOf(stepUpNameOf(name))),
  ]);
  return { region: aws.region, function: own, stepUp, role, logGroup, stepUpLogGroup };
}

export async function findFunction({ lambda }: Aws, name: string): Promise<FoundFunction | null> {
  const found = await callIfThere("lambda:GetFunction", () => lambda.send(new GetFunctionCommand({ FunctionName: name })));
  if (found?.Configuration === undefined) return null;
  const configuration = found.Configuration;
  // Without them a function of ours would pass for somebody else's.
  if (found.TagsError !== undefined) await call("lambda:ListTags", () => Promise.reject(Object.assign(new Error(found.TagsError?.Message), { name: "AccessDeniedException" })));
  const { Aliases: aliases = [] } = await call("lambda:ListAliases", () => lambda.send(new ListAliasesCommand({ FunctionName: name })));
  const alias = aliases.find(({ Name }) => Name === aliasName);
  const live = alias === undefined
    ? null
    : await callIfThere("lambda:GetFunctionConfiguration", () => lambda.send(new GetFunctionConfigurationCommand({ FunctionName: name, Qualifier: aliasName })));
  return {
    name,
    arn: configuration.FunctionArn ?? "",
    packageKind: configuration.PackageType === "Image" ? "image" : "zip",
    latest: stateOf(configuration),
    live: live === null ? null : { ...stateOf(live), version: alias?.FunctionVersion ?? live.Version ?? "" },
    aliased: new Set(aliases.flatMap(({ FunctionVersion = "", RoutingConfig }) => [FunctionVersion, ...Object.keys(RoutingConfig?.AdditionalVersionWeights ?? {})])),
    tags: found.Tags ?? {},
    reservedConcurrency: found.Concurrency?.ReservedConcurrentExecutions ?? null,
    versions: await versionsOf(lambda, name),
  };
}

/** Invocations at once that the account may have here, and what of it no function has reserved; null: not for us to know. */
export async function findConcurrency({ lambda }: Aws): Promise<{ readonly account: number; readonly unreserved: number } | null> {
  const { AccountLimit } = await lambda.send(new GetAccountSettingsCommand({})).catch(() => ({ AccountLimit: undefined }));
  const { ConcurrentExecutions: account, UnreservedConcurrentExecutions: unreserved } = AccountLimit ?? {};
  return account === undefined ? null : { account, unreserved: unreserved ?? account };
}

/** Whether the alias that jobs use leads to something. */
export async function isLive({ lambda }: Aws, name: string): Promise<boolean> {
  return (await callIfThere("lambda:GetFunctionConfiguration", () => lambda.send(new GetFunctionConfigurationCommand({ FunctionName: name, Qualifier: aliasName })))) !== null;
}

async function versionsOf(lambda: Aws["lambda"], name: string): Promise<readonly string[]> {
  const versions: string[] = [];
  let marker: string | undefined;
  do {
    const page = await call("lambda:ListVersionsByFunction", () =>
      lambda.send(new ListVersionsByFunctionCommand({ FunctionName: name, ...(marker === undefined ? {} : { Marker: marker }) })));
    versions.push(...(page.Versions ?? []).map(({ Version = "" }) => Version));
    marker = page.NextMarker;
  } while (marker !== undefined);
  return versions.filter((version) => version !== "$LATEST").sort((left, right) => Number(left) - Number(right));
}

export function stateOf(configuration: FunctionConfiguration): FunctionState {
  const { SubnetIds: subnetIds = [], SecurityGroupIds: securityGroupIds = [] } = configuration.VpcConfig ?? {};
  return {
    codeSha256: configuration.CodeSha256 ?? "",
    description: configuration.Description ?? "",
    runtime: configuration.Runtime ?? "",
    handler: configuration.Handler ?? "",
    roleArn: configuration.Role ?? "",
    memoryMb: configuration.MemorySize ?? 0,
    timeoutSeconds: configuration.Timeout ?? 0,
    ephemeralMb: configuration.EphemeralStorage?.Size ?? 512,
    architecture: configuration.Architectures?.[0] ?? "x86_64",
    environment: configuration.Environment?.Variables ?? {},
    logGroup: configuration.LoggingConfig?.LogGroup ?? "",
    vpc: subnetIds.length === 0 ? null : { subnetIds: [...subnetIds].sort(), securityGroupIds: [...securityGroupIds].sort() },
  };
}

async function findRole({ iam }: Aws, name: string): Promise<FoundRole | null> {
  const found = await callIfThere("iam:GetRole", () => iam.send(new GetRoleCommand({ RoleName: name })));
  if (found?.Role === undefined) return null;
  const { Arn: arn = "", AssumeRolePolicyDocument: trust = "", Tags: tags = [] } = found.Role;
  const { PolicyNames: names = [] } = await call("iam:ListRolePolicies", () => iam.send(new ListRolePoliciesCommand({ RoleName: name })));
  const policies = await Promise.all(names.map(async (policy) => {
    const { PolicyDocument: document = "" } = await call("iam:GetRolePolicy", () => iam.send(new GetRolePolicyCommand({ RoleName: name, PolicyName: policy })));
    return [policy, decodeURIComponent(document)] as const;
  }));
  return {
    name, arn, trust: decodeURIComponent(trust), policies: new Map(policies),
    tags: Object.fromEntries(tags.map(({ Key: key = "", Value: value = "" }) => [key, value])),
  };
}

async function findLogGroup({ logs }: Aws, name: string): Promise<FoundLogGroup | null> {
  const { logGroups = [] } = await call("logs:DescribeLogGroups", () => logs.send(new DescribeLogGroupsCommand({ logGroupNamePrefix: name })));
  const found = logGroups.find(({ logGroupName }) => logGroupName === name);
  if (found === undefined) return null;
  const arn = (found.logGroupArn ?? found.arn ?? "").replace(/:\*$/, "");
  const { tags = {} } = await call("logs:ListTagsForResource", () => logs.send(new ListTagsForResourceCommand({ resourceArn: arn })));
  return { name, arn, retentionDays: found.retentionInDays ?? null, tags };
}
