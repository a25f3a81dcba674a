import { stagingPlaces } from "../orchestrator/backends/lambda/staging.ts";
import { stepUpNameOf } from "../orchestrator/backends/lambda/step-up.ts";
import type { S3Place } from "../task-manager/s3-client.ts";
import type { RuntimeSettings } from "./options.ts";

/** Who takes the role on, and where: all that a policy's resources need. */
export interface Identity {
  /** `aws`, `aws-cn`, `aws-us-gov`. */
  readonly partition: string;
  readonly accountId: string;
  readonly region: string;
}

export const policyName = "task-manager";

export const trustDocument = JSON.stringify({
  Version: "2012-10-17",
  Statement: [{ Effect: "Allow", Principal: { Service: "lambda.amazonaws.com" }, Action: "sts:AssumeRole" }],
});

/** `arn:aws:iam::123456789012:role/NAME` */
export function identityOf(roleArn: string, region: string): Identity {
  const [, partition = "aws", , , accountId = ""] = roleArn.split(":");
  return { partition, accountId, region };
}

interface Statement {
  readonly Effect: "Allow" | "Deny";
  readonly Action: readonly string[];
  readonly Resource: readonly string[] | string;
  readonly Condition?: Readonly<Record<string, unknown>>;
}

/** What the functions may do: write their own logs, and in S3 what the settings name. */
export function policyDocument(settings: RuntimeSettings, identity: Identity): string {
  const { partition, accountId, region } = identity;
  const groups = functionNames(settings).map((name) => `arn:${partition}:logs:${region}:${accountId}:log-group:${logGroupOf(name)}:*`);
  const statements: readonly Statement[] = [
    { Effect: "Allow", Action: ["logs:CreateLogStream", "logs:PutLogEvents"], Resource: groups },
    ...storageStatements(settings, partition),
    ...(settings.vpc === null ? [] : networkStatements(settings, identity)),
  ];
  return JSON.stringify({ Version: "2012-10-17", Statement: statements });
}

function storageStatements(settings: RuntimeSettings, partition: string): readonly Statement[] {
  const objects = ({ bucket, key }: S3Place): string => `arn:${partition}:s3:::${bucket}/${key}*`;
  const staging = settings.stagingBucket === null ? null : stagingPlaces(settings.stagingBucket, settings.name);
  const readable = [...settings.read, ...(staging === null ? [] : [staging.folder])];
  const writable = [...settings.write, ...(staging === null ? [] : [staging.responses])];
  return [
    ...(readable.length === 0 ? [] : [{ Effect: "Allow" as const, Action: ["s3:GetObject"], Resource: readable.map(objects) }]),
    ...(writable.length === 0 ? [] : [{ Effect: "Allow" as const, Action: ["s3:PutObject", "s3:AbortMultipartUpload"], Resource: writable.map(objects) }]),
    // Else S3 says 403 of a key that is missing.
    ...[...readable, ...settings.write].map(({ bucket, key }): Statement => ({
      Effect: "Allow",
      Action: ["s3:ListBucket"],
      Resource: `arn:${partition}:s3:::${bucket}`,
      ...(key === "" ? {} : { Condition: { StringLike: { "s3:prefix": `${key}*` } } }),
    })),
  ];
}

/** Lambda guide, "Giving Lambda functions access to resources in an Amazon VPC": Lambda needs them, the function's code does not. */
function networkStatements(settings: RuntimeSettings, { partition, accountId, region }: Identity): readonly Statement[] {
  const actions = [
    "ec2:CreateNetworkInterface", "ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets", "ec2:DeleteNetworkInterface",
    "ec2:AssignPrivateIpAddresses", "ec2:UnassignPrivateIpAddresses",
  ];
  const functions = functionNames(settings).map((name) => `arn:${partition}:lambda:${region}:${accountId}:function:${name}`);
  return [
    { Effect: "Allow", Action: actions, Resource: "*" },
    { Effect: "Deny", Action: actions, Resource: "*", Condition: { ArnEquals: { "lambda:SourceFunctionArn": functions } } },
  ];
}

export function functionNames({ name, memoryStepUpMb }: Pick<RuntimeSettings, "name" | "memoryStepUpMb">): readonly string[] {
  return memoryStepUpMb === null ? [name] : [name, stepUpNameOf(name)];
}

export function roleNameOf(name: string): string {
  return `${name}-role`;
}

export function logGroupOf(functionName: string): string {
  return `/aws/lambda/${functionName}`;
}
