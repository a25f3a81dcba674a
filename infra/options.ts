import { z } from "zod";
import { SplitrunError } from "../orchestrator/errors.ts";
import { parseS3Url } from "../task-manager/s3-client.ts";
import type { S3Place } from "../task-manager/s3-client.ts";

/** Where to find the model that jobs on this runtime will ask for, and what the function may do. All but nothing need be said. */
export interface RuntimeOptions {
  /** Of the function; its role is `<name>-role`, its log group `/aws/lambda/<name>`. @default "splitrun" */
  readonly name?: string;
  /** @default as the AWS SDK finds it: AWS_REGION, then the profile */
  readonly region?: string;
  /** 128 to 10240; a core is 1769. @default 1769 */
  readonly memoryMb?: number;
  /** Of one invocation, 1 to 900. @default 900 */
  readonly timeoutSeconds?: number;
  /** Of /tmp, 512 to 10240. @default 512 */
  readonly ephemeralMb?: number;
  /** @default "x86_64" */
  readonly architecture?: Architecture;
  /** Lambda's own name of a Node.js. @default "nodejs22.x" */
  readonly nodeRuntime?: NodeRuntime;
  /** Environment of the Task Managers; at most 4 KB, and none that Lambda sets itself. Who may see the function's configuration may read it. */
  readonly environment?: Readonly<Record<string, string>>;
  /** At most 40, of names that begin with neither `aws:` nor `splitrun:`. */
  readonly tags?: Readonly<Record<string, string>>;
  /** Invocations that are kept for this function and are also its most; null: as many as the account has. @default null */
  readonly reservedConcurrency?: number | null;
  /** A second function `<name>-step-up` with more memory, for items that ran out of it; null: none. @default null */
  readonly memoryStepUpMb?: number | null;
  /** As CloudWatch Logs allows: 1, 3, 5, 7, 14, 30 … @default 14 */
  readonly retentionDays?: number;
  /** `bucket` or `s3://bucket/prefix/`: where jobs stage models, and where a package above 50 MB goes up. @default none */
  readonly stagingBucket?: string | null;
  /** Prefixes that the function may read: `s3://bucket/prefix/`. @default none */
  readonly read?: readonly string[];
  /** Prefixes that it may write. @default none */
  readonly write?: readonly string[];
  /** null: not in a VPC. @default null */
  readonly vpc?: Vpc | null;
  /** A container image in ECR instead of a zip: `ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME:TAG`; null: a zip. @default null */
  readonly image?: string | null;
}

export interface Vpc {
  readonly subnetIds: readonly string[];
  readonly securityGroupIds: readonly string[];
}

export const architectures = ["x86_64", "arm64"] as const;
export type Architecture = (typeof architectures)[number];
export const nodeRuntimes = ["nodejs22.x", "nodejs24.x"] as const;
export type NodeRuntime = (typeof nodeRuntimes)[number];

/** Every option decided. */
export interface RuntimeSettings {
  readonly name: string;
  readonly region: string | null;
  readonly memoryMb: number;
  readonly timeoutSeconds: number;
  readonly ephemeralMb: number;
  readonly architecture: Architecture;
  readonly nodeRuntime: NodeRuntime;
  readonly environment: Readonly<Record<string, string>>;
  readonly tags: Readonly<Record<string, string>>;
  readonly reservedConcurrency: number | null;
  readonly memoryStepUpMb: number | null;
  readonly retentionDays: number;
  readonly stagingBucket: S3Place | null;
  readonly read: readonly S3Place[];
  readonly write: readonly S3Place[];
  readonly vpc: Vpc | null;
  readonly image: string | null;
}

export const nameDefault = "splitrun";
export const aliasName = "live";

/** CloudWatch Logs, PutRetentionPolicy. */
const retentionDaysAllowed = [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653] as const;
const environmentBytesMax = 4096;

/** `-step-up` and `-role` have to fit behind it: 64 characters each. */
const name = z.string().regex(/^[\w-]{1,56}$/, "1 to 56 letters, digits, - and _");
const whole = (min: number, max: number) => {
  const allowed = `a whole number from ${min} to ${max}`;
  return z.int(allowed).min(min, allowed).max(max, allowed);
};
const memoryMb = whole(128, 10_240);
const place = z.string().transform((text, context) => {
  const found = placeOf(text);
  if (found === null) context.addIssue({ code: "custom", message: "bucket or s3://bucket/prefix/" });
  return found ?? z.NEVER;
});
/** Lambda guide, "Defined runtime environment variables": those that it lets nobody set. */
const reservedVariable = /^(AWS_(REGION|DEFAULT_REGION|EXECUTION_ENV|ACCESS_KEY|ACCESS_KEY_ID|SECRET_ACCESS_KEY|SESSION_TOKEN|LAMBDA_(FUNCTION_(NAME|MEMORY_SIZE|VERSION)|INITIALIZATION_TYPE|LOG_(GROUP|STREAM)_NAME|RUNTIME_API))|LAMBDA_(TASK_ROOT|RUNTIME_DIR))$/;
const variable = z.string()
  .regex(/^[a-zA-Z]\w+$/, "a letter, then at least one more letter, digit or _")
  .refine((text) => !reservedVariable.test(text), "Lambda sets this one itself; give it another name");
const environment = z.record(variable, z.string())
  .refine((variables) => Buffer.byteLength(JSON.stringify(variables)) <= environmentBytesMax, `at most ${environmentBytesMax} bytes in all`);

/** A resource has 50; splitrun has some of its own. */
const tagsMax = 40;
const tagName = z.string().regex(/^(?!aws:|splitrun:).{1,128}$/i, "1 to 128 characters that begin with neither aws: nor splitrun:");
const tags = z.record(tagName, z.string().max(256, "values of at most 256 characters")).refine((given) => Object.keys(given).length <= tagsMax, `at most ${tagsMax}`);

const ids = (valid: RegExp, allowed: string) => z.array(z.string(allowed).regex(valid, allowed), allowed).min(1, allowed);

const schema = z.strictObject({
  name: name.default(nameDefault),
  region: z.string().regex(/^[a-z]{2}(-[a-z]+)+-\d+$/, "such as eu-central-1").nullable().default(null),
  memoryMb: memoryMb.default(1769),
  timeoutSeconds: whole(1, 900).default(900),
  ephemeralMb: whole(512, 10_240).default(512),
  architecture: z.enum(architectures, architectures.join(", ")).default("x86_64"),
  nodeRuntime: z.enum(nodeRuntimes, nodeRuntimes.join(", ")).default("nodejs22.x"),
  environment: environment.default({}),
  tags: tags.default({}),
  reservedConcurrency: whole(1, 1_000_000).nullable().default(null),
  memoryStepUpMb: memoryMb.nullable().default(null),
  retentionDays: z.literal(retentionDaysAllowed, retentionDaysAllowed.join(", ")).default(14),
  stagingBucket: place.nullable().default(null),
  read: z.array(place).default([]),
  write: z.array(place).default([]),
  vpc: z.strictObject({
    subnetIds: ids(/^subnet-\w+$/, "one or more, such as subnet-0123abcd, together with securityGroupIds"),
    securityGroupIds: ids(/^sg-\w+$/, "one or more, such as sg-0123abcd, together with subnetIds"),
  }).nullable().default(null),
  image: z.string().max(200).regex(/^[\w.-]+\.dkr\.ecr\.[\w.-]+\/[\w./-]+(:[\w.-]+|@sha256:[0-9a-f]{64})$/, "ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME:TAG, or NAME@sha256:…").nullable().default(null),
});

/** @throws SplitrunError RUNTIME_INVALID with the first option that is wrong */
export function completeSettings(options: RuntimeOptions): RuntimeSettings {
  const parsed = schema.safeParse(options);
  if (!parsed.success) throw invalid(options, parsed.error.issues);
  const settings = parsed.data;
  if (settings.memoryStepUpMb !== null && settings.memoryStepUpMb <= settings.memoryMb) {
    throw wrong("memoryStepUpMb", settings.memoryStepUpMb, `${settings.memoryStepUpMb} is not more than the ${settings.memoryMb} MB that items run out of`);
  }
  return settings;
}

function invalid(options: RuntimeOptions, issues: readonly z.core.$ZodIssue[]): SplitrunError {
  const [issue] = issues;
  if (issue?.code === "unrecognized_keys") {
    return wrong(issue.keys.join(", "), undefined, `is no option of a runtime; there are ${Object.keys(schema.shape).join(", ")}`);
  }
  const field = issue?.path.map(String).join(".") ?? "";
  const value = issue?.path.reduce<unknown>((inner, key) => (inner as Readonly<Record<PropertyKey, unknown>> | undefined)?.[key], options);
  // Of the environment only the name is said.
  const shown = field.startsWith("environment") ? "" : `${JSON.stringify(value)} is not allowed; allowed: `;
  const why = issue?.code === "invalid_key" ? issue.issues[0]?.message : issue?.message;
  return wrong(field, field.startsWith("environment") ? undefined : value, `${shown}${why ?? "it is wrong"}`);
}

function wrong(field: string, value: unknown, message: string): SplitrunError {
  return new SplitrunError(`runtime.${field}: ${message}`, { code: "RUNTIME_INVALID", field: `runtime.${field}`, value });
}

/** null: neither a bucket nor an s3 URL. A prefix ends with `/`. */
function placeOf(text: string): S3Place | null {
  const found = parseS3Url(text.startsWith("s3:") ? text : `s3://${text}`);
  if (found === null || !/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/.test(found.bucket)) return null;
  return { bucket: found.bucket, key: found.key === "" || found.key.endsWith("/") ? found.key : `${found.key}/` };
}
