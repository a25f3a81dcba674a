import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { CreateLogGroupCommand, DeleteLogGroupCommand, PutRetentionPolicyCommand, TagResourceCommand as TagLogGroupCommand } from "@aws-sdk/client-cloudwatch-logs";
import { CreateRoleCommand, DeleteRoleCommand, DeleteRolePolicyCommand, PutRolePolicyCommand, UpdateAssumeRolePolicyCommand } from "@aws-sdk/client-iam";
import {
  CreateAliasCommand, CreateFunctionCommand, DeleteFunctionCommand, DeleteFunctionConcurrencyCommand, PublishVersionCommand, PutFunctionConcurrencyCommand, TagResourceCommand,
  UntagResourceCommand, UpdateAliasCommand, UpdateFunctionCodeCommand, UpdateFunctionConfigurationCommand, waitUntilFunctionActiveV2, waitUntilFunctionUpdatedV2,
} from "@aws-sdk/client-lambda";
import type { FunctionCode } from "@aws-sdk/client-lambda";
import { stagingPlaces } from "../orchestrator/backends/lambda/staging.ts";
import { SplitrunError } from "../orchestrator/errors.ts";
import { S3Failure, parseS3Url } from "../task-manager/s3-client.ts";
import type { S3Place } from "../task-manager/s3-client.ts";
import { call, callIfThere, causeOf, unlessAbsent } from "./aws.ts";
import type { Aws } from "./aws.ts";
import { deployFailure } from "./failure.ts";
import { identityOf, policyDocument, policyName, trustDocument } from "./documents.ts";
import type { FoundRuntime } from "./inspect.ts";
import { aliasName } from "./options.ts";
import type { Architecture, RuntimeSettings } from "./options.ts";
import type { Step } from "./plan.ts";
import { coldStartVariable, createInput, functionInput, ownerTag } from "./wanted.ts";
import type { FunctionWish } from "./wanted.ts";
import { directZipBytesMax, megabytes } from "./zip-package.ts";
import type { ZipPackage } from "./zip-package.ts";

export interface ApplyContext {
  readonly aws: Aws;
  readonly found: FoundRuntime;
  readonly name: string;
  /** Told before each step. */
  readonly onStep: (step: Step) => void;
}

export interface DeployContext extends ApplyContext {
  readonly settings: RuntimeSettings;
  /** null: an image. */
  readonly zip: ZipPackage | null;
}

/** A new role, and one just changed, is known everywhere after up to half a minute. */
const propagationMsMax = 120_000;
const pauseMs = 250;
const pauseMsMax = 5_000;
/** Network interfaces of a VPC take minutes. */
const waiting = { maxWaitTime: 900, minDelay: 0.2, maxDelay: 5 } as const;
const conflictsMsMax = 120_000;

/** Does the steps of a deployment, in order. */
export async function applyDeployment(steps: readonly Step[], context: DeployContext): Promise<void> {
  const { found, aws, zip, settings } = context;
  const role = { arn: found.role?.arn ?? null };
  const needsCode = steps.some(({ kind }) => kind === "create-function" || kind === "update-code");
  const upload = needsCode ? await uploadedCode(aws, zip, settings) : null;
  try {
    for (const step of steps) {
      context.onStep(step);
      await applyStep(step, context, role, upload?.code ?? {});
    }
  } finally {
    await upload?.remove();
  }
}

/** Does the steps of a removal, in order. What is staged somewhere and cannot be deleted keeps nothing else from it. */
export async function applyRemoval(steps: readonly Step[], context: ApplyContext): Promise<void> {
  const left: { readonly staging: string; readonly error: unknown }[] = [];
  for (const step of steps) {
    context.onStep(step);
    const done = applyRemovalStep(step, context);
    await (step.kind === "delete-staged" ? done.catch((error: unknown) => void left.push({ staging: step.staging, error })) : done);
  }
  const [first] = left;
  if (first === undefined) return;
  const { code, message } = deployFailure(first.error, "s3:DeleteObject");
  const commands = left.map(({ staging }) => `\`splitrun undeploy --name ${context.name} --staging-bucket ${staging}\``).join(", ");
  throw new SplitrunError(`${message}; all else is removed. What is staged there goes by ${commands}`, { code, field: "runtime.stagingBucket", value: left.map(({ staging }) => staging).join(" "), cause: first.error });
}

async function applyStep(step: Step, context: DeployContext, role: { arn: string | null }, code: FunctionCode): Promise<void> {
  const { aws: { lambda, iam, logs }, settings } = context;
  const tags = { ...settings.tags, [ownerTag]: settings.name };
  switch (step.kind) {
    case "create-role": {
      const created = await call("iam:CreateRole", () => iam.send(new CreateRoleCommand({
        RoleName: step.name, AssumeRolePolicyDocument: trustDocument, Description: "What the Task Managers of splitrun may do", Tags: Object.entries(tags).map(([Key, Value]) => ({ Key, Value })),
      })));
      role.arn = created.Role?.Arn ?? null;
      return;
    }
    case "set-trust":
      await call("iam:UpdateAssumeRolePolicy", () => iam.send(new UpdateAssumeRolePolicyCommand({ RoleName: step.name, PolicyDocument: trustDocument })));
      return;
    case "put-policy": {
      const document = policyDocument(settings, identityOf(arnOf(role), context.aws.region));
      await call("iam:PutRolePolicy", () => iam.send(new PutRolePolicyCommand({ RoleName: step.name, PolicyName: policyName, PolicyDocument: document })));
      return;
    }
    case "create-log-group":
      await call("logs:CreateLogGroup", () => logs.send(new CreateLogGroupCommand({ logGroupName: step.name, tags })));
      return setRetention(context, step.name);
    case "set-log-group": {
      const group = [context.found.logGroup, context.found.stepUpLogGroup].find((each) => each?.name === step.name);
      await call("logs:TagResource", () => logs.send(new TagLogGroupCommand({ resourceArn: group?.arn ?? "", tags })));
      return setRetention(context, step.name);
    }
    case "create-function":
      return createFunction(step.wish, context, arnOf(role), code);
    case "update-code":
      return updateCode(step.wish, context, code);
    case "update-configuration":
      return updateConfiguration(step.wish, context, arnOf(role, context.found.function?.latest.roleArn));
    case "tag-function":
      if (Object.keys(step.tags).length > 0) await call("lambda:TagResource", () => lambda.send(new TagResourceCommand({ Resource: step.arn, Tags: { ...step.tags } })));
      if (step.remove.length > 0) await call("lambda:UntagResource", () => lambda.send(new UntagResourceCommand({ Resource: step.arn, TagKeys: [...step.remove] })));
      return;
    case "set-concurrency": {
      const { name: FunctionName, executions } = step;
      if (executions === null) await call("lambda:DeleteFunctionConcurrency", () => lambda.send(new DeleteFunctionConcurrencyCommand({ FunctionName })));
      else await call("lambda:PutFunctionConcurrency", () => lambda.send(new PutFunctionConcurrencyCommand({ FunctionName, ReservedConcurrentExecutions: executions })));
      return;
    }
    case "publish":
      return publish(step, context);
    case "delete-versions":
      for (const version of step.versions) {
        await callIfThere("lambda:DeleteFunction", () => lambda.send(new DeleteFunctionCommand({ FunctionName: step.name, Qualifier: version })));
      }
      return;
    default:
      return applyRemovalStep(step, context);
  }
}

async function applyRemovalStep(step: Step, { aws, name }: ApplyContext): Promise<void> {
  const { lambda, iam, logs } = aws;
  switch (step.kind) {
    case "leave-vpc":
      await patiently("lambda:UpdateFunctionConfiguration", () =>
        lambda.send(new UpdateFunctionConfigurationCommand({ FunctionName: step.name, VpcConfig: { SubnetIds: [], SecurityGroupIds: [] } })));
      return untilUpdated(aws, step.name);
    case "delete-function":
      await patiently("lambda:DeleteFunction", () => lambda.send(new DeleteFunctionCommand({ FunctionName: step.name })).catch(unlessAbsent));
      return;
    case "delete-role":
      for (const policy of step.policies) {
        await callIfThere("iam:DeleteRolePolicy", () => iam.send(new DeleteRolePolicyCommand({ RoleName: step.name, PolicyName: policy })));
      }
      await callIfThere("iam:DeleteRole", () => iam.send(new DeleteRoleCommand({ RoleName: step.name })));
      return;
    case "delete-log-group":
      await callIfThere("logs:DeleteLogGroup", () => logs.send(new DeleteLogGroupCommand({ logGroupName: step.name })));
      return;
    case "delete-staged": {
      const staging = parseS3Url(step.staging);
      return staging === null ? undefined : deleteStaged(aws, stagingPlaces(staging, name).folder);
    }
    default:
      throw new TypeError(`${step.kind} is no step of a removal`);
  }
}

function arnOf({ arn }: { readonly arn: string | null }, otherwise?: string): string {
  const found = arn ?? otherwise ?? null;
  if (found === null) throw new SplitrunError("IAM gave no ARN for the role; run the same command again", { code: "AWS_FAILED", field: "runtime.name" });
  return found;
}

async function setRetention({ aws: { logs }, settings }: DeployContext, logGroupName: string): Promise<void> {
  await call("logs:PutRetentionPolicy", () => logs.send(new PutRetentionPolicyCommand({ logGroupName, retentionInDays: settings.retentionDays })));
}

async function createFunction(wish: FunctionWish, { aws }: DeployContext, roleArn: string, code: FunctionCode): Promise<void> {
  await patiently("lambda:CreateFunction", () => aws.lambda.send(new CreateFunctionCommand({ ...createInput(wish, roleArn), Code: code })));
  await wait("lambda:GetFunction", wish.name, () => waitUntilFunctionActiveV2({ client: aws.lambda, ...waiting }, { FunctionName: wish.name }));
}

async function updateCode({ name, state }: FunctionWish, { aws }: DeployContext, code: FunctionCode): Promise<void> {
  await patiently("lambda:UpdateFunctionCode", () => aws.lambda.send(new UpdateFunctionCodeCommand({ FunctionName: name, ...code, Architectures: [state.architecture as Architecture] })));
  await untilUpdated(aws, name);
}

async function updateConfiguration(wish: FunctionWish, { aws }: DeployContext, roleArn: string): Promise<void> {
  await patiently("lambda:UpdateFunctionConfiguration", () => aws.lambda.send(new UpdateFunctionConfigurationCommand({ FunctionName: wish.name, ...functionInput(wish, roleArn) })));
  await untilUpdated(aws, wish.name);
}

/** Invocations that run go on with the version that they began with; new ones get this one from now on. */
async function publish({ name, aliasExists, description }: Extract<Step, { kind: "publish" }>, { aws: { lambda } }: DeployContext): Promise<void> {
  const { Version: version } = await patiently("lambda:PublishVersion", () => lambda.send(new PublishVersionCommand({ FunctionName: name, Description: description })));
  const alias = { FunctionName: name, Name: aliasName, FunctionVersion: version };
  if (aliasExists) await call("lambda:UpdateAlias", () => lambda.send(new UpdateAliasCommand({ ...alias, RoutingConfig: { AdditionalVersionWeights: {} } })));
  else await call("lambda:CreateAlias", () => lambda.send(new CreateAliasCommand(alias)));
}

export async function untilUpdated({ lambda }: Aws, name: string): Promise<void> {
  await wait("lambda:GetFunction", name, () => waitUntilFunctionUpdatedV2({ client: lambda, ...waiting }, { FunctionName: name }));
}

/** New environments for what is not published: nothing that runs by the alias is touched. */
export async function forgetEnvironments(aws: Aws, name: string, environment: Readonly<Record<string, string>>): Promise<void> {
  const Variables = { ...environment, [coldStartVariable]: new Date().toISOString() };
  await patiently("lambda:UpdateFunctionConfiguration", () => aws.lambda.send(new UpdateFunctionConfigurationCommand({ FunctionName: name, Environment: { Variables } })));
  await untilUpdated(aws, name);
}

async function wait(action: "lambda:GetFunction", name: string, until: () => Promise<unknown>): Promise<void> {
  await call(action, until).catch((error: unknown) => {
    const { reason, state } = waiterResult(causeOf(error));
    if (state === null) throw error;
    throw new SplitrunError(`the function ${name} did not become ready (${state}${reason === null ? "" : `: ${reason}`}); run the same command again`, { code: "RUNTIME_NOT_READY", value: name, cause: error });
  });
}

/** The SDK's waiters throw an error whose message is JSON, with the last answer in it. */
function waiterResult(error: Error | null): { readonly state: string | null; readonly reason: string | null } {
  try {
    const { state, reason } = JSON.parse(error?.message ?? "") as { readonly state?: unknown; readonly reason?: { readonly Configuration?: Readonly<Record<string, unknown>> } };
    const { StateReason, LastUpdateStatusReason } = reason?.Configuration ?? {};
    const why = [StateReason, LastUpdateStatusReason].find((text) => typeof text === "string");
    return { state: typeof state === "string" ? state : null, reason: typeof why === "string" ? why : null };
  } catch {
    return { state: null, reason: null };
  }
}

/** What a role that Lambda does not know yet is told as (chalice and Terraform wait on the same words). */
const notKnownYet = /cannot be assumed by Lambda|role does not have permissions to call|KMS key is invalid for CreateGrant/;

/** Tries again while IAM has not spread the role, or while another update of the function runs. */
async function patiently<T>(action: Parameters<typeof call>[0], send: () => Promise<T>): Promise<T> {
  const startedMs = performance.now();
  for (let pause = pauseMs; ; pause = Math.min(pauseMsMax, 2 * pause)) {
    try {
      return await call(action, send);
    } catch (error) {
      const cause = causeOf(error);
      const waitedMs = performance.now() - startedMs;
      const worthwhile = (cause?.name === "InvalidParameterValueException" && notKnownYet.test(cause.message) && waitedMs < propagationMsMax)
        || (cause?.name === "ResourceConflictException" && /in progress|Pending/.test(cause.message) && waitedMs < conflictsMsMax);
      if (!worthwhile) throw error;
      await sleep(pause);
    }
  }
}

interface UploadedCode {
  readonly code: FunctionCode;
  /** Lambda has a copy of its own by then. */
  remove(): Promise<void>;
}

async function uploadedCode(aws: Aws, zip: ZipPackage | null, { stagingBucket, name, image }: RuntimeSettings): Promise<UploadedCode> {
  if (zip === null) return { code: { ImageUri: image ?? "" }, remove: async () => undefined };
  if (zip.zippedBytes <= directZipBytesMax) return { code: { ZipFile: await readFile(zip.path) }, remove: async () => undefined };
  const place = codePlace(zip, stagingBucket, name);
  await call("s3:PutObject", async () => aws.s3.put(place, await readFile(zip.path), { condition: "none", contentType: "application/zip" }));
  return {
    code: { S3Bucket: place.bucket, S3Key: place.key },
    remove: () => call("s3:DeleteObject", () => aws.s3.delete(place.bucket, [place.key])),
  };
}

/** @throws SplitrunError PACKAGE_TOO_LARGE */
export function codePlace(zip: Pick<ZipPackage, "zippedBytes" | "contentSha256">, stagingBucket: S3Place | null, name: string): S3Place {
  if (stagingBucket === null) {
    throw new SplitrunError(
      `the package is ${megabytes(zip.zippedBytes)} zipped, and above ${megabytes(directZipBytesMax)} it has to go up through S3: give --staging-bucket, or leave the model out and let jobs stage it`,
      { code: "PACKAGE_TOO_LARGE", field: "runtime.stagingBucket", value: zip.zippedBytes },
    );
  }
  return stagingPlaces(stagingBucket, name).code(zip.contentSha256);
}

function deleteStaged({ s3 }: Aws, place: S3Place): Promise<void> {
  return call("s3:DeleteObject", async () => {
    try {
      for await (const page of s3.list(place, { startAfter: null })) await s3.delete(place.bucket, page.map(({ key }) => key));
    } catch (error) {
      if (!(error instanceof S3Failure && error.code === "S3_NO_SUCH_BUCKET")) throw error;
    }
  });
}
