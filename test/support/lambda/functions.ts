/** Functions, versions and aliases as Lambda keeps them, with their states over time. */
import { randomUUID } from "node:crypto";
import { z } from "zod";
import type { Deployment } from "./environment.ts";
import { ServiceError, errors } from "./errors.ts";
import type { Package } from "./package.ts";

const runtimesAllowed = ["nodejs22.x", "nodejs24.x"];
/** Lambda guide, "Lambda runtimes": no new function, and no update, on these. */
const runtimesPast = ["nodejs14.x", "nodejs16.x", "nodejs18.x", "nodejs20.x"];
/** What every image here is built from, and its CMD. */
const imageRuntime = "nodejs22.x";
const imageHandler = "lambda.handler";
const variableBytesMax = 4096;
const reservedVariables = new Set([
  "_HANDLER", "_X_AMZN_TRACE_ID", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_EXECUTION_ENV", "AWS_LAMBDA_FUNCTION_NAME",
  "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_LAMBDA_FUNCTION_VERSION", "AWS_LAMBDA_INITIALIZATION_TYPE", "AWS_LAMBDA_LOG_GROUP_NAME",
  "AWS_LAMBDA_LOG_STREAM_NAME", "AWS_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
  "AWS_LAMBDA_RUNTIME_API", "LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR",
]);

const code = z.strictObject({
  ZipFile: z.string().optional(),
  S3Bucket: z.string().optional(),
  S3Key: z.string().optional(),
  S3ObjectVersion: z.string().optional(),
  ImageUri: z.string().optional(),
});
const settings = {
  Role: z.string().regex(/^arn:aws:iam::\d{12}:role\/.+$/),
  Handler: z.string().max(128).regex(/^\S+$/),
  Runtime: z.string(),
  Description: z.string().max(256),
  Timeout: z.int().min(1).max(900),
  MemorySize: z.int().min(128).max(10_240),
  Environment: z.strictObject({ Variables: z.record(z.string().regex(/^[a-zA-Z]\w+$/), z.string()).optional() }),
  EphemeralStorage: z.strictObject({ Size: z.int().min(512).max(10_240) }),
  LoggingConfig: z.strictObject({ LogFormat: z.literal("Text").optional(), LogGroup: z.string().optional() }),
  VpcConfig: z.strictObject({ SubnetIds: z.array(z.string()).optional(), SecurityGroupIds: z.array(z.string()).optional() }),
  TracingConfig: z.strictObject({ Mode: z.literal("PassThrough") }),
};
const tags = z.record(z.string().max(128), z.string().max(256));
const architectures = z.array(z.enum(["x86_64", "arm64"])).length(1);

export const createInput = z.strictObject({
  ...partial(settings),
  FunctionName: z.string(),
  Role: settings.Role,
  Code: code,
  PackageType: z.enum(["Zip", "Image"]).optional(),
  Architectures: architectures.optional(),
  Publish: z.boolean().optional(),
  Tags: tags.optional(),
});
export const updateCodeInput = code.extend({
  Architectures: architectures.optional(),
  Publish: z.boolean().optional(),
  DryRun: z.boolean().optional(),
  RevisionId: z.string().optional(),
});
export const updateConfigurationInput = z.strictObject({ ...partial(settings), RevisionId: z.string().optional() });
export const publishInput = z.strictObject({ CodeSha256: z.string().optional(), Description: z.string().optional(), RevisionId: z.string().optional() });
const routing = z.strictObject({ AdditionalVersionWeights: z.record(z.string(), z.number().min(0).max(1)).optional() });
export const aliasInput = z.strictObject({
  Name: z.string().regex(/^(?!\d+$)[\w-]{1,128}$/).optional(),
  FunctionVersion: z.string().optional(),
  Description: z.string().optional(),
  RoutingConfig: routing.optional(),
  RevisionId: z.string().optional(),
});
export const concurrencyInput = z.strictObject({ ReservedConcurrentExecutions: z.int().min(0) });
export const tagsInput = z.strictObject({ Tags: tags });

export type Code = z.infer<typeof code>;
export type CreateInput = z.infer<typeof createInput>;
export type UpdateCodeInput = z.infer<typeof updateCodeInput>;
export type UpdateConfigurationInput = z.infer<typeof updateConfigurationInput>;
export type PublishInput = z.infer<typeof publishInput>;
export type AliasInput = z.infer<typeof aliasInput>;

interface Configuration {
  readonly packageType: "Zip" | "Image";
  readonly runtime: string;
  readonly role: string;
  readonly handler: string;
  readonly description: string;
  readonly timeoutSeconds: number;
  readonly memoryMb: number;
  readonly variables: Readonly<Record<string, string>> | null;
  readonly storageMb: number;
  readonly logGroup: string;
  readonly vpc: { readonly SubnetIds: readonly string[]; readonly SecurityGroupIds: readonly string[] };
  readonly architecture: "x86_64" | "arm64";
}

interface Version {
  readonly version: string;
  package: Package;
  configuration: Configuration;
  revisionId: string;
  modifiedAtMs: number;
  readonly activeAtMs: number;
  updatedAtMs: number;
  deployment: Deployment;
  /** Serves from `updatedAtMs` on. */
  next: Deployment | null;
}

interface Alias {
  readonly name: string;
  version: string;
  description: string;
  weights: Readonly<Record<string, number>>;
  revisionId: string;
}

interface LambdaFunction {
  readonly name: string;
  readonly arn: string;
  readonly latest: Version;
  readonly versions: Map<string, Version>;
  readonly aliases: Map<string, Alias>;
  readonly tags: Map<string, string>;
  reservedConcurrency: number | null;
  versionsMade: number;
}

/** What an invocation runs. */
export interface Target {
  readonly deployment: Deployment;
  /** With the alias or version that was asked for. */
  readonly arn: string;
  readonly architecture: "x86_64" | "arm64";
}

export interface FunctionsOptions {
  readonly region: string;
  readonly accountId: string;
  readonly concurrency: number;
  readonly creatingMs: number;
  readonly updatingMs: number;
  /** No version of the function is run by this any more. */
  retire(deploymentId: string): void;
}

export class Functions {
  readonly #options: FunctionsOptions;
  readonly #byName = new Map<string, LambdaFunction>();

  constructor(options: FunctionsOptions) {
    this.#options = options;
  }

  get names(): readonly string[] {
    return [...this.#byName.keys()];
  }

  arnOf(name: string): string {
    return `arn:aws:lambda:${this.#options.region}:${this.#options.accountId}:function:${name}`;
  }

  refuseExisting(name: string): void {
    if (!/^[\w-]{1,64}$/.test(name)) throw errors.invalid(`1 validation error detected: Value '${name}' at 'functionName' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9-_]+ and have length less than or equal to 64`);
    if (this.#byName.has(name)) throw errors.conflict(`Function already exist: ${name}`);
  }

  create(input: CreateInput, content: Package, nowMs: number): unknown {
    const { FunctionName: name } = input;
    this.refuseExisting(name);
    const packageType = input.PackageType ?? "Zip";
    const said = input.Runtime !== undefined && input.Handler !== undefined;
    if (packageType === "Zip" && !said) throw errors.invalid("Runtime and Handler are mandatory parameters for functions created with deployment packages.");
    if (packageType === "Image" && said) throw errors.invalid("Please don't provide Handler or Runtime or Layer when the intent is to create a function with Image PackageType");
    const configuration = configured(input, {
      packageType, runtime: imageRuntime, role: "", handler: imageHandler, description: "", timeoutSeconds: 3, memoryMb: 128, variables: null, storageMb: 512,
      logGroup: `/aws/lambda/${name}`, vpc: { SubnetIds: [], SecurityGroupIds: [] }, architecture: input.Architectures?.[0] ?? "x86_64",
    });
    const created: LambdaFunction = {
      name, arn: this.arnOf(name), versions: new Map(), aliases: new Map(), tags: new Map(Object.entries(input.Tags ?? {})), reservedConcurrency: null, versionsMade: 0,
      latest: newVersion({ name, version: "$LATEST", content, configuration, nowMs, activeAtMs: nowMs + this.#options.creatingMs }),
    };
    this.#byName.set(name, created);
    return input.Publish === true ? this.#published(created, {}, nowMs) : this.#shown(created, created.latest, nowMs);
  }

  get(name: string, qualifier: string | null, nowMs: number): unknown {
    const found = this.#find(name);
    const { version, qualified } = this.#resolve(found, qualifier, nowMs);
    return {
      Configuration: this.#shown(found, version, nowMs, qualified),
      Code: { RepositoryType: version.configuration.packageType === "Zip" ? "S3" : "ECR" },
      ...(found.tags.size === 0 ? {} : { Tags: Object.fromEntries(found.tags) }),
      ...(found.reservedConcurrency === null ? {} : { Concurrency: { ReservedConcurrentExecutions: found.reservedConcurrency } }),
    };
  }

  configuration(name: string, qualifier: string | null, nowMs: number): unknown {
    const found = this.#find(name);
    const { version, qualified } = this.#resolve(found, qualifier, nowMs);
    return this.#shown(found, version, nowMs, qualified);
  }

  all(nowMs: number): unknown {
    return { Functions: [...this.#byName.values()].map((found) => this.#shown(found, found.latest, nowMs)) };
  }

  updateCode(name: string, input: UpdateCodeInput, content: Package, nowMs: number): unknown {
    const found = this.#updatable(name, input.RevisionId, nowMs);
    const architecture = input.Architectures?.[0] ?? found.latest.configuration.architecture;
    if (input.DryRun === true) return { ...(this.#shown(found, found.latest, nowMs) as object), CodeSha256: content.sha256, CodeSize: content.zipBytes };
    found.latest.package = content;
    found.latest.configuration = { ...found.latest.configuration, architecture };
    this.#begin(found, nowMs);
    return input.Publish === true ? this.#published(found, {}, nowMs) : this.#shown(found, found.latest, nowMs);
  }

  updateConfiguration(name: string, input: UpdateConfigurationInput, nowMs: number): unknown {
    const found = this.#updatable(name, input.RevisionId, nowMs);
    found.latest.configuration = configured(input, found.latest.configuration);
    this.#begin(found, nowMs);
    return this.#shown(found, found.latest, nowMs);
  }

  publish(name: string, input: PublishInput, nowMs: number): unknown {
    const found = this.#updatable(name, input.RevisionId, nowMs);
    if (input.CodeSha256 !== undefined && input.CodeSha256 !== found.latest.package.sha256) {
      throw errors.invalid(`CodeSHA256 (${input.CodeSha256}) is different from current CodeSHA256 in $LATEST (${found.latest.package.sha256}). Please try again with the CodeSHA256 in $LATEST.`);
    }
    return this.#published(found, input, nowMs);
  }

  versions(name: string, nowMs: number): unknown {
    const found = this.#find(name);
    return { Versions: [found.latest, ...found.versions.values()].map((version) => this.#shown(found, version, nowMs, version.version)) };
  }

  delete(name: string, qualifier: string | null): void {
    const found = this.#find(name);
    if (qualifier === null) {
      this.#byName.delete(found.name);
      for (const version of [found.latest, ...found.versions.values()]) this.#retire(version);
      return;
    }
    if (qualifier === "$LATEST") throw errors.invalid("$LATEST version cannot be deleted without deleting the function.");
    const version = found.versions.get(qualifier);
    if (version === undefined) return;
    const users = [...found.aliases.values()].filter((alias) => alias.version === qualifier || alias.weights[qualifier] !== undefined);
    if (users.length > 0) throw errors.conflict(`Unable to delete version because the following aliases reference it: [${users.map((alias) => alias.name).join(", ")}]`);
    found.versions.delete(qualifier);
    this.#retire(version);
  }

  createAlias(name: string, input: AliasInput): unknown {
    const found = this.#find(name);
    const { Name: alias, FunctionVersion: version } = input;
    if (alias === undefined || version === undefined) throw errors.invalid("Name and FunctionVersion are needed");
    if (found.aliases.has(alias)) throw errors.conflict(`Alias already exists: ${found.arn}:${alias}`);
    this.#refuseMissingVersion(found, version);
    const made: Alias = { name: alias, version, description: input.Description ?? "", weights: input.RoutingConfig?.AdditionalVersionWeights ?? {}, revisionId: randomUUID() };
    found.aliases.set(alias, made);
    return shownAlias(found, made);
  }

  updateAlias(name: string, aliasName: string, input: AliasInput): unknown {
    const found = this.#find(name);
    const alias = aliasOf(found, aliasName);
    if (input.RevisionId !== undefined && input.RevisionId !== alias.revisionId) throw errors.precondition();
    if (input.FunctionVersion !== undefined) this.#refuseMissingVersion(found, input.FunctionVersion);
    alias.version = input.FunctionVersion ?? alias.version;
    alias.description = input.Description ?? alias.description;
    alias.weights = input.RoutingConfig?.AdditionalVersionWeights ?? alias.weights;
    alias.revisionId = randomUUID();
    return shownAlias(found, alias);
  }

  alias(name: string, aliasName: string): unknown {
    const found = this.#find(name);
    return shownAlias(found, aliasOf(found, aliasName));
  }

  aliases(name: string): unknown {
    const found = this.#find(name);
    return { Aliases: [...found.aliases.values()].map((alias) => shownAlias(found, alias)) };
  }

  deleteAlias(name: string, alias: string): void {
    this.#find(name).aliases.delete(alias);
  }

  /** Capacity of the account that no function has reserved. */
  get unreserved(): number {
    return [...this.#byName.values()].reduce((left, { reservedConcurrency }) => left - (reservedConcurrency ?? 0), this.#options.concurrency);
  }

  reserved(name: string): number | null {
    return this.#byName.get(name)?.reservedConcurrency ?? null;
  }

  reservation(name: string): unknown {
    const { reservedConcurrency } = this.#find(name);
    return reservedConcurrency === null ? {} : { ReservedConcurrentExecutions: reservedConcurrency };
  }

  reserve(name: string, executions: number): unknown {
    const found = this.#find(name);
    const unreservedMin = Math.min(100, this.#options.concurrency);
    if (this.unreserved + (found.reservedConcurrency ?? 0) - executions < unreservedMin && executions > 0) {
      throw errors.invalid(`Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [${unreservedMin}].`);
    }
    found.reservedConcurrency = executions;
    return { ReservedConcurrentExecutions: executions };
  }

  unreserve(name: string): void {
    this.#find(name).reservedConcurrency = null;
  }

  tagsOf(arn: string): Map<string, string> {
    return this.#find(arn).tags;
  }

  accountSettings(): unknown {
    const codeBytes = [...this.#byName.values()].reduce((sum, { latest }) => sum + latest.package.zipBytes, 0);
    return {
      AccountLimit: {
        TotalCodeSize: 322_122_547_200, CodeSizeUnzipped: 262_144_000, CodeSizeZipped: 52_428_800,
        ConcurrentExecutions: this.#options.concurrency, UnreservedConcurrentExecutions: this.unreserved,
      },
      AccountUsage: { TotalCodeSize: codeBytes, FunctionCount: this.#byName.size },
    };
  }

  /** @throws ServiceError when there is no such function, or it cannot run now */
  target(name: string, qualifier: string | null, nowMs: number): Target {
    const found = this.#find(name);
    const { version, qualified } = this.#resolve(found, qualifier ?? qualifierOf(name), nowMs, Math.random());
    if (nowMs < version.activeAtMs) throw errors.conflict("The operation cannot be performed at this time. The function is currently in the following state: Pending");
    const arn = qualified === null ? found.arn : `${found.arn}:${qualified}`;
    return { deployment: this.#serving(version, nowMs), arn, architecture: version.configuration.architecture };
  }

  #find(nameOrArn: string): LambdaFunction {
    const name = nameOf(nameOrArn);
    const found = this.#byName.get(name);
    if (found === undefined) throw errors.functionNotFound(this.arnOf(name));
    return found;
  }

  #resolve(found: LambdaFunction, qualifier: string | null, nowMs: number, chance = 1): { readonly version: Version; readonly qualified: string | null } {
    if (qualifier === null || qualifier === "$LATEST") return { version: found.latest, qualified: qualifier };
    const alias = found.aliases.get(qualifier);
    const version = found.versions.get(alias === undefined ? qualifier : chosenVersion(alias, chance));
    if (version === undefined) throw errors.functionNotFound(`${found.arn}:${qualifier}`);
    this.#serving(version, nowMs);
    return { version, qualified: qualifier };
  }

  #updatable(name: string, revisionId: string | undefined, nowMs: number): LambdaFunction {
    const found = this.#find(name);
    if (nowMs < found.latest.activeAtMs) throw errors.conflict(`The operation cannot be performed at this time. The function is currently in the following state: Pending`);
    if (nowMs < found.latest.updatedAtMs) throw errors.conflict(`The operation cannot be performed at this time. An update is in progress for resource: ${found.arn}`);
    this.#serving(found.latest, nowMs);
    if (revisionId !== undefined && revisionId !== found.latest.revisionId) throw errors.precondition();
    return found;
  }

  /** The old code serves until the update is through. */
  #begin(found: LambdaFunction, nowMs: number): void {
    const { latest } = found;
    Object.assign(latest, { revisionId: randomUUID(), modifiedAtMs: nowMs, updatedAtMs: nowMs + this.#options.updatingMs, next: deploymentOf(found.name, "$LATEST", latest.package, latest.configuration) });
  }

  #serving(version: Version, nowMs: number): Deployment {
    if (version.next !== null && nowMs >= version.updatedAtMs) {
      this.#options.retire(version.deployment.id);
      version.deployment = version.next;
      version.next = null;
    }
    return version.deployment;
  }

  /** Nothing changed since the last one: that one again, as Lambda does. */
  #published(found: LambdaFunction, input: PublishInput, nowMs: number): unknown {
    const last = found.versions.get(String(found.versionsMade));
    const { latest } = found;
    const description = input.Description ?? latest.configuration.description;
    if (last !== undefined && last.package === latest.package && same({ ...last.configuration, description: "" }, { ...latest.configuration, description: "" })) {
      return this.#shown(found, last, nowMs, last.version);
    }
    found.versionsMade += 1;
    const version = newVersion({
      name: found.name, version: String(found.versionsMade), content: latest.package, configuration: { ...latest.configuration, description },
      nowMs, activeAtMs: Math.max(nowMs, latest.activeAtMs, latest.updatedAtMs),
    });
    found.versions.set(version.version, version);
    return this.#shown(found, version, nowMs, version.version);
  }

  #refuseMissingVersion(found: LambdaFunction, version: string): void {
    if (version !== "$LATEST" && !found.versions.has(version)) throw errors.functionNotFound(`${found.arn}:${version}`);
  }

  #retire(version: Version): void {
    this.#options.retire(version.deployment.id);
    if (version.next !== null) this.#options.retire(version.next.id);
  }

  #shown(found: LambdaFunction, version: Version, nowMs: number, qualified: string | null = null): unknown {
    const { configuration, package: content } = version;
    const pending = nowMs < version.activeAtMs;
    return {
      FunctionName: found.name,
      FunctionArn: qualified === null ? found.arn : `${found.arn}:${qualified}`,
      ...(configuration.packageType === "Zip" ? { Runtime: configuration.runtime, Handler: configuration.handler } : {}), Role: configuration.role, CodeSize: content.zipBytes,
      Description: configuration.description, Timeout: configuration.timeoutSeconds, MemorySize: configuration.memoryMb,
      LastModified: new Date(version.modifiedAtMs).toISOString().replace("Z", "+0000"),
      CodeSha256: content.sha256, Version: version.version,
      VpcConfig: { ...configuration.vpc, VpcId: configuration.vpc.SubnetIds.length === 0 ? "" : "vpc-emulated" },
      ...(configuration.variables === null ? {} : { Environment: { Variables: configuration.variables } }),
      TracingConfig: { Mode: "PassThrough" }, RevisionId: version.revisionId,
      ...(pending ? { State: "Pending", StateReason: "The function is being created.", StateReasonCode: "Creating" } : { State: "Active" }),
      LastUpdateStatus: nowMs < version.updatedAtMs ? "InProgress" : "Successful",
      PackageType: configuration.packageType, Architectures: [configuration.architecture], EphemeralStorage: { Size: configuration.storageMb },
      LoggingConfig: { LogFormat: "Text", LogGroup: configuration.logGroup },
    };
  }
}

/** `name`, `name:qualifier`, `account:function:name` or an ARN with or without a qualifier. */
function nameOf(nameOrArn: string): string {
  return parts(nameOrArn)[0] ?? "";
}

export function qualifierOf(nameOrArn: string): string | null {
  return parts(nameOrArn)[1] ?? null;
}

function parts(nameOrArn: string): readonly string[] {
  return nameOrArn.replace(/^(?:.*:)?function:/, "").split(":");
}

export function parsed<T extends z.ZodType>(schema: T, input: unknown): z.infer<T> {
  const result = schema.safeParse(input);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  if (issue?.code === "unrecognized_keys") throw errors.notEmulated(issue.keys.join(", "));
  const where = issue?.path.map((part) => String(part).replace(/^./, (first) => first.toLowerCase())).join(".") ?? "";
  throw new ServiceError(400, "ValidationException", `1 validation error detected: Value at '${where}' failed to satisfy constraint: ${issue?.message ?? ""}`);
}

function partial<T extends Readonly<Record<string, z.ZodType>>>(shape: T): { [K in keyof T]: z.ZodOptional<T[K]> } {
  return z.object(shape).partial().shape as { [K in keyof T]: z.ZodOptional<T[K]> };
}

function configured(input: UpdateConfigurationInput, before: Configuration): Configuration {
  refuseRuntime(input.Runtime);
  const variables = input.Environment === undefined ? before.variables : input.Environment.Variables ?? {};
  refuseVariables(variables ?? {});
  return {
    runtime: input.Runtime ?? before.runtime,
    role: input.Role ?? before.role,
    handler: input.Handler ?? before.handler,
    description: input.Description ?? before.description,
    timeoutSeconds: input.Timeout ?? before.timeoutSeconds,
    memoryMb: input.MemorySize ?? before.memoryMb,
    variables,
    storageMb: input.EphemeralStorage?.Size ?? before.storageMb,
    logGroup: input.LoggingConfig?.LogGroup ?? before.logGroup,
    vpc: input.VpcConfig === undefined ? before.vpc : { SubnetIds: input.VpcConfig.SubnetIds ?? [], SecurityGroupIds: input.VpcConfig.SecurityGroupIds ?? [] },
    architecture: before.architecture,
    packageType: before.packageType,
  };
}

function refuseRuntime(runtime: string | undefined): void {
  if (runtime === undefined || runtimesAllowed.includes(runtime)) return;
  if (runtimesPast.includes(runtime)) {
    throw errors.invalid(`The runtime parameter of ${runtime} is no longer supported for creating or updating AWS Lambda functions. We recommend you use a supported runtime while creating or updating functions.`);
  }
  throw errors.invalid(`Value ${runtime} at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: [${runtimesAllowed.join(", ")}] or be a valid ARN`);
}

function refuseVariables(variables: Readonly<Record<string, string>>): void {
  const reserved = Object.keys(variables).filter((name) => reservedVariables.has(name));
  if (reserved.length > 0) {
    throw errors.invalid(`Lambda was unable to configure your environment variables because the environment variables you have provided contains reserved keys that are currently not supported for modification. Reserved keys used in this request: ${reserved.join(", ")}`);
  }
  const text = JSON.stringify(variables);
  if (Buffer.byteLength(text) > variableBytesMax) {
    throw errors.invalid(`Lambda was unable to configure your environment variables because the environment variables you have provided exceeded the 4KB limit. String measured: ${text}`);
  }
}

function newVersion(made: { readonly name: string; readonly version: string; readonly content: Package; readonly configuration: Configuration; readonly nowMs: number; readonly activeAtMs: number }): Version {
  const { name, version, content, configuration, nowMs, activeAtMs } = made;
  return {
    version, package: content, configuration, revisionId: randomUUID(), modifiedAtMs: nowMs, activeAtMs, updatedAtMs: nowMs,
    deployment: deploymentOf(name, version, content, configuration), next: null,
  };
}

function deploymentOf(functionName: string, version: string, content: Package, configuration: Configuration): Deployment {
  const { runtime, handler, memoryMb, timeoutSeconds, variables, logGroup, role } = configuration;
  return { id: randomUUID(), functionName, version, runtime, handler, memoryMb, timeoutSeconds, variables: variables ?? {}, root: content.root, unreadable: content.unreadable, logGroup, roleArn: role };
}

function chosenVersion({ version, weights }: Alias, chance: number): string {
  let left = chance;
  for (const [other, weight] of Object.entries(weights)) {
    if (left < weight) return other;
    left -= weight;
  }
  return version;
}

function aliasOf(found: LambdaFunction, name: string): Alias {
  const alias = found.aliases.get(name);
  if (alias === undefined) throw errors.notFound(`Cannot find alias arn: ${found.arn}:${name}`);
  return alias;
}

function shownAlias(found: LambdaFunction, { name, version, description, weights, revisionId }: Alias): unknown {
  const routingConfig = Object.keys(weights).length === 0 ? {} : { RoutingConfig: { AdditionalVersionWeights: weights } };
  return { AliasArn: `${found.arn}:${name}`, Name: name, FunctionVersion: version, Description: description, RevisionId: revisionId, ...routingConfig };
}

function same(a: Configuration, b: Configuration): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
