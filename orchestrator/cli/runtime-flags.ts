import { InvalidArgumentError, Option, type Command } from "commander";
import type { RuntimeRequest, StepReport } from "../service/runtime.ts";
import { collect } from "./job-flags.ts";

export interface RuntimeNameFlags {
  readonly name?: string;
  readonly region?: string;
  readonly json?: true;
}

export interface ArtifactFlags {
  readonly model?: string;
  readonly module?: string;
  readonly dropArtifacts?: true;
}

export interface RuntimeFlags extends RuntimeNameFlags, ArtifactFlags {
  readonly memoryMb?: number;
  readonly timeoutSeconds?: number;
  readonly ephemeralMb?: number;
  readonly arch?: RuntimeRequest["architecture"];
  readonly nodeRuntime?: RuntimeRequest["nodeRuntime"];
  readonly env?: Readonly<Record<string, string>>;
  readonly tag?: Readonly<Record<string, string>>;
  readonly reservedConcurrency?: number;
  readonly memoryStepUpMb?: number;
  readonly retentionDays?: number;
  readonly stagingBucket?: string;
  readonly read?: readonly string[];
  readonly write?: readonly string[];
  readonly subnet?: readonly string[];
  readonly securityGroup?: readonly string[];
  readonly ec2HostMachine?: true;
  readonly image?: string;
}

export function addNameFlags(command: Command): Command {
  return command
    .option("--name <name>", "name of the function (default: splitrun)")
    .option("--region <region>", "AWS region (default: AWS_REGION, or the profile's)");
}

export function addArtifactFlags(command: Command): Command {
  return command
    .option("-m, --model <file>", "put this ONNX model into the package, so that jobs need not send it")
    .option("--module <file>", "put a function's module into the package")
    .option("--image <uri>", "a container image in ECR instead of a zip (docs/backends/lambda.md says how it is built)")
    .option("--drop-artifacts", "models and modules that are deployed now and not given again may go");
}

export function addSettingFlags(command: Command): Command {
  return command
    .option("--memory-mb <number>", "memory; 1769 is one core (default: 1769)", wholeNumber)
    .option("--memory-step-up-mb <number>", "a second function with so much memory, for items that ran out of it", wholeNumber)
    .option("--timeout-seconds <number>", "longest invocation (default: 900)", wholeNumber)
    .option("--ephemeral-mb <number>", "size of /tmp (default: 512)", wholeNumber)
    .addOption(new Option("--arch <architecture>", "processor (default: x86_64)").choices(["x86_64", "arm64"]))
    .addOption(new Option("--node-runtime <name>", "Lambda's Node.js (default: nodejs22.x)").choices(["nodejs22.x", "nodejs24.x"]))
    .option("--reserved-concurrency <number>", "invocations at once: kept for this function, and its most", wholeNumber)
    .option("--staging-bucket <bucket>", "bucket or s3://bucket/prefix/ for models of jobs, and for packages above 50 MB")
    .option("--read <prefix>", "s3://bucket/prefix/ that the function may read; can be repeated", collect, [])
    .option("--write <prefix>", "s3://bucket/prefix/ that it may write; can be repeated", collect, [])
    .option("--env <name=value>", "environment of the Task Managers; can be repeated", pairs, {})
    .option("--tag <name=value>", "tag of all that is made; can be repeated", pairs, {})
    .option("--retention-days <number>", "how long logs are kept (default: 14)", wholeNumber)
    .option("--subnet <id>", "into a VPC: its subnet; can be repeated", collect, [])
    .option("--security-group <id>", "into a VPC: its security group; can be repeated", collect, [])
    .option("--ec2-host-machine", "into the VPC, subnets and security groups of the EC2 machine that this runs on");
}

/** What was not said stays out: the runtime's own defaults hold. */
export function requestOf(flags: RuntimeFlags, job: string | undefined): RuntimeRequest {
  const { subnet = [], securityGroup = [] } = flags;
  return defined({
    name: flags.name,
    region: flags.region,
    memoryMb: flags.memoryMb,
    memoryStepUpMb: flags.memoryStepUpMb,
    timeoutSeconds: flags.timeoutSeconds,
    ephemeralMb: flags.ephemeralMb,
    architecture: flags.arch,
    nodeRuntime: flags.nodeRuntime,
    reservedConcurrency: flags.reservedConcurrency,
    stagingBucket: flags.stagingBucket,
    read: flags.read,
    write: flags.write,
    environment: flags.env,
    tags: flags.tag,
    retentionDays: flags.retentionDays,
    vpc: subnet.length + securityGroup.length === 0 ? undefined : { subnetIds: subnet, securityGroupIds: securityGroup },
    job,
    model: flags.model,
    module: flags.module,
    dropArtifacts: flags.dropArtifacts,
    ec2HostMachine: flags.ec2HostMachine,
    image: flags.image,
  });
}

/** One line of what is done. */
export function stepText({ resource, action, detail }: StepReport): string {
  return `  ${action.padEnd(6)}  ${resource}: ${detail}`;
}

type Defined<T> = { [Name in keyof T]?: Exclude<T[Name], undefined> };

function defined<T extends object>(fields: T): Defined<T> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as Defined<T>;
}

function wholeNumber(text: string): number {
  const value = Number(text);
  if (text.trim() === "" || !Number.isInteger(value)) throw new InvalidArgumentError(`${text} is no whole number.`);
  return value;
}

function pairs(text: string, earlier: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  const at = text.indexOf("=");
  // The value may be a secret.
  if (at < 1) throw new InvalidArgumentError("It has to be name=value.");
  return { ...earlier, [text.slice(0, at)]: text.slice(at + 1) };
}
