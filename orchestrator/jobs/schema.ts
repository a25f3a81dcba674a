import * as z from "zod";
import type { JsonValue } from "../../task-manager/protocol.ts";
import { crossChecks } from "./cross-checks.ts";
import { JobInvalidError, type Problem } from "./job-error.ts";
import { backendNames, policyNames, type BackendName, type PolicyName } from "./names.ts";
import { notBuilt } from "./not-built.ts";
import type { Policy } from "./policies.ts";
import { isPlainObject, isUnder, problemsOf } from "./problems.ts";
import type { PriceTable } from "./types.ts";

/** What a user asks for. Only `input` and `task` must be given; `splitrun plan` shows what the rest becomes. */
export interface Job {
  /** Names the run. @default the job file's name without its ending, else `job` */
  readonly name?: string;
  /**
   * Where the items come from: a path, a glob or a folder, each here or in S3 (`s3://bucket/prefix/`,
   * `s3://bucket/list.csv`), `-` (stdin), the items themselves, or an object.
   */
  readonly input: string | readonly JsonValue[] | JobInput;
  /** What is no URL in a list of images is a key of this S3 bucket. @default none: it is a path */
  readonly bucket?: string | null;
  /** What of S3 cannot be said by the environment, in which the AWS SDK finds region, credentials and endpoint. */
  readonly s3?: {
    /** Pays for requests to buckets whose owners want that. @default false */
    readonly requesterPays?: boolean;
    /** The bucket in the path instead of the host name. @default wherever AWS_ENDPOINT_URL(_S3) is set */
    readonly forcePathStyle?: boolean;
    /** Of what is written: `s3`: keys that S3 keeps (SSE-S3); `kms`: a key in KMS (SSE-KMS). @default as the bucket has it */
    readonly encryption?: (typeof encryptions)[number];
    /** ID or ARN of the key, with `encryption: kms`. @default the account's own key for S3 */
    readonly kmsKeyId?: string;
    /** Of the parts that are written, by S3's name: STANDARD_IA, say. @default as S3 has it: STANDARD */
    readonly storageClass?: string;
  };
  /** What is done with every item. */
  readonly task: InferenceJobTask | FunctionJobTask;
  /**
   * Where Task Managers run. `sequential`: in this process, for debugging. `local`: processes on this machine. `auto`:
   * as many of them as free memory and cores allow. `lambda`: invocations of a function on AWS Lambda. @default "local"
   */
  readonly backend?: BackendName | { readonly kind: Exclude<BackendName, "lambda"> } | LambdaBackend;
  /** What decides split size and number of Task Managers; a function, or `module.mjs#function`, is your own. @default "guided" */
  readonly policy?: PolicyName | `${string}#${string}` | Policy;
  /** Items a split, from which the policy starts; `none` takes it as it is, `guided` sizes splits itself. @default 32 */
  readonly splitSize?: number;
  /** Task Managers, from which the policy starts. @default what pays off on the machine; local: 1 */
  readonly taskManagers?: number;
  /** Split sizes to use in turn, over and over, whatever the policy. @default [] */
  readonly heterogeneousSplits?: readonly number[];
  readonly resources?: JobResources;
  /** Environment of the Task Managers, beside their own. @default {} */
  readonly env?: Readonly<Record<string, Reference>>;
  /** Heartbeats; without them a silent Task Manager is noticed only when its process ends. @default true */
  readonly keepAlive?: boolean;
  readonly heartbeat?: {
    /** How often ended items are reported, ms; at most `everyMs`. @default 250, or `everyMs` where that is less */
    readonly reportMs?: number;
    /** Time between heartbeats, ms. @default 2000 */
    readonly everyMs?: number;
    /** A Task Manager silent for this long is lost, ms; at least twice `everyMs`. @default 6000 */
    readonly timeoutMs?: number;
  };
  /** What is done about Task Managers that run late; false: nothing. @default { kind: "remainder", maxExtraPercent: 10 } */
  readonly speculation?: boolean | RemainderSpeculation | QuartileSpeculation;
  /** Tries of an item in one run. @default 3 */
  readonly attemptsMax?: number;
  readonly tolerate?: {
    /** Past this share of errors, once 200 items have ended, the run stops. @default 50 */
    readonly failedItemsPercent?: number;
  };
  readonly timeouts?: {
    /** One item, from begun to ended, ms. @default 300000 */
    readonly itemMs?: number;
    /** A Task Manager that holds items and ends none, ms; null: never. @default 600000 */
    readonly taskManagerMs?: number | null;
    /** One assignment, ms. @default null */
    readonly splitMs?: number | null;
    /** The whole job, ms. @default null */
    readonly jobMs?: number | null;
  };
  readonly budget?: {
    /**
     * Nothing more is handed out before the run could cost more than this, USD; it stops, and can be resumed. For each
     * run anew. Backends that cost nothing never reach it; null: no limit. @default null
     */
    readonly maxCostUsd?: number | null;
  };
  /** Your own prices instead of the built-in ones, all or part: a JSON file, or `{ date, regions: { NAME: { x86GbSecond, … } } }`. */
  readonly prices?: string | PriceTable;
  /** Faults made on purpose, to see how a job lives with them. @default none */
  readonly faults?: JobFaults;
  /** Weight among the jobs that run together in one orchestrator: one of 2 gets twice the Task Managers of one of 1. @default 1 */
  readonly share?: number;
  /** Jobs of a higher priority are served before the shares of lower ones are looked at. @default 0 */
  readonly priority?: number;
  /** `print`, a directory, `s3://bucket/prefix/`, or an object. @default "print" */
  readonly output?: string | JobOutput;
  /** Directory that relative paths of the job are relative to. @default the job file's, else the working directory */
  readonly baseDir?: string;
}

/** Functions of AWS Lambda, which `splitrun deploy` makes. */
export interface LambdaBackend {
  readonly kind: "lambda";
  /** @default "splitrun" */
  readonly functionName?: string;
  /** Alias or version of it. @default "live" */
  readonly qualifier?: string;
  /** @default as the AWS SDK finds it: AWS_REGION, the profile */
  readonly region?: string | null;
  /** `bucket` or `s3://bucket/prefix/`, for models too large for a request, and answers too large for one. @default none */
  readonly stagingBucket?: string | null;
  /** Memory of `<functionName>-step-up`, where items go on that ran out of memory alone; null: there is no such function. @default null */
  readonly memoryStepUpMb?: number | null;
  /** Answers at the end of each invocation, where they cannot be streamed. @default false */
  readonly buffered?: boolean;
  /** Keeps environments ready between jobs, by calling them; null: does not. @default null */
  readonly keepWarm?: { readonly taskManagers: number; readonly everyMs?: number } | null;
  /** Every environment is new when the first job begins, for measurements. @default false */
  readonly forceColdStart?: boolean;
  /** What an invocation has not begun after so long is handed out anew; so much is paid for at most after Ctrl-C. @default 60 */
  readonly splitSeconds?: number;
  /** The function has a file system on which the items' paths are the same as here. @default false */
  readonly sharedFilesystem?: boolean;
  /**
   * Invocations open a connection to this machine and work as Task Managers everywhere do, for as long as there is work:
   * for an orchestrator in the function's VPC. @default false
   */
  readonly pull?: boolean | PullOptions | null;
}

/** Where functions dial in: TLS, with a token for each. */
export interface PullOptions {
  /** IP address or name under which functions reach this machine. @default its private address, on EC2 */
  readonly address?: string | null;
  /** Interface to listen on. @default the address */
  readonly host?: string | null;
  /** 0: a free one. @default 0 */
  readonly port?: number;
}

/** Idle Task Managers take over what others have not begun, and copy what cannot be moved. */
export interface RemainderSpeculation {
  /** @default "remainder" */
  readonly kind?: "remainder";
  /** Items that are done twice at most, in percent of the job's. @default 10 */
  readonly maxExtraPercent?: number;
}

/** Once enough splits have ended, a copy of each that lasts much longer than they did. */
export interface QuartileSpeculation {
  readonly kind: "quartile";
  /** Share of the splits that must have ended, above 0 and below 1. @default 0.75 */
  readonly quartile?: number;
  /** A split is late when it lasts longer than this many times the median. @default 2 */
  readonly multiplier?: number;
  /** How often is looked, ms. @default 500 */
  readonly intervalMs?: number;
  /** Copies of one split. @default 1 */
  readonly maxRetries?: number;
  /** Copies may have Task Managers launched for them, not only idle ones. @default true */
  readonly extraTaskManagers?: boolean;
}

/** Items are struck at their first try only. Which ones follows from `seed` and their place in the input, on every backend alike, so that a run can be repeated. */
export interface JobFaults {
  /** Of the items: end as an error that another try may mend. @default 0 */
  readonly exceptionPercent?: number;
  /** Of the items: held up before they are begun. @default 0 */
  readonly delayPercent?: number;
  /** For up to this long, ms. @default 1000 */
  readonly delayMaxMs?: number;
  /** Of the items: their Task Manager dies as it begins them. @default 0 */
  readonly killPercent?: number;
  /** Of the items: their Task Manager falls silent as it begins them. @default 0 */
  readonly stallPercent?: number;
  /** @default 0 */
  readonly seed?: number;
}

/** A value, or the name of an environment variable of this process that holds it. Text is taken literally: `$NAME` is not expanded. */
export type Reference = string | { readonly env: string };

export const inputFormats = ["text", "csv", "jsonl", "parquet", "glob", "folder", "stdin", "list"] as const;

export interface JobInput {
  /** A path, a glob or a folder, each here or in S3, `-`, or the items. */
  readonly from: string | readonly JsonValue[];
  /** @default by the ending: .csv .tsv .jsonl .ndjson .parquet, else text */
  readonly format?: (typeof inputFormats)[number];
  /** CSV or Parquet column, or JSONL field, that holds the item. @default the only column; the line's value */
  readonly column?: string;
  /** Column or field with a name of the item, carried to its result. */
  readonly id?: string;
  /** Column or field with the item's relative cost. */
  readonly weight?: string;
  /** Only the first so many items. */
  readonly limit?: number;
}

export interface InferenceJobTask {
  /** @default "inference" */
  readonly kind?: "inference";
  /** ONNX file: a path, or an http(s) or s3 URL. */
  readonly model: string;
  readonly download?: {
    readonly kind?: "async";
    /** Downloads at once in one Task Manager. @default 32 */
    readonly concurrency?: number;
    /** One download, redirects included, ms. @default 30000 */
    readonly timeoutMs?: number;
    /** Longest time without a byte, ms. @default 5000 */
    readonly idleTimeoutMs?: number;
    /** @default 52428800 */
    readonly maxBytes?: number;
    /** @default 10 */
    readonly redirectsMax?: number;
    /** What all Task Managers together may ask of one host. @default found while it runs, by what the host bears */
    readonly perHost?: {
      /** Downloads at once. */
      readonly concurrency?: number;
      readonly requestsPerSecond?: number;
    };
    /** A host that answers 429, or 503 with Retry-After, for this long without one success ends its items, ms. @default 300000 */
    readonly hostBlockedMs?: number;
    /** Request headers. @default {} */
    readonly headers?: Readonly<Record<string, Reference>>;
    /** PEM files of authorities trusted beside the system's. @default [] */
    readonly certificateAuthorities?: readonly string[];
  };
  /** A preset; every other field given here replaces that one of the preset. */
  readonly preprocess?: {
    /** @default "torchvision-imagenet" */
    readonly preset?: string;
    readonly kind?: "thread";
    /** Decoding threads in one Task Manager. @default one for every four cores of its share */
    readonly concurrency?: number;
    /** Larger images are errors. @default 268402689 */
    readonly maxPixels?: number;
    readonly resize?: {
      readonly width?: number;
      readonly height?: number;
      /** `shorter-side`: the shorter side becomes `width`; the others as CSS's object-fit. */
      readonly fit?: (typeof fits)[number];
      /** The first two agree with Pillow and PyTorch; the others are libvips' own. */
      readonly kernel?: (typeof kernels)[number];
    };
    /** Centre crop after the resize; null: none. */
    readonly crop?: { readonly width: number; readonly height: number } | null;
    readonly colorOrder?: (typeof colorOrders)[number];
    readonly layout?: (typeof layouts)[number];
    readonly dtype?: (typeof dtypes)[number];
    /** value = (pixel * scale - mean) / std, a channel each. */
    readonly scale?: number;
    readonly mean?: readonly number[];
    readonly std?: readonly number[];
  };
  readonly infer?: {
    /** Images an inference. @default 8 */
    readonly batch?: number;
    /** Inference sessions in one Task Manager. @default its share of the machine's cores */
    readonly sessions?: number;
    /** @default 1 */
    readonly intraOpThreads?: number;
    /** @default 1 */
    readonly interOpThreads?: number;
    /** A part-full batch leaves after this long, ms. @default 50 */
    readonly batchWaitMs?: number;
    /** @default ["cpu"] */
    readonly executionProviders?: readonly string[];
  };
  readonly postprocess?: {
    /** `off-sample`: softmax of two classes as `{ prob, label: off | on }`. */
    readonly preset?: "off-sample";
    /** @default "softmax" */
    readonly activation?: (typeof activations)[number];
    /** A file with one label a line, here or in S3, or the labels. @default the class's index */
    readonly labels?: string | readonly string[];
    /** @default 1 */
    readonly topK?: number;
  };
}

export interface FunctionJobTask {
  readonly kind: "function";
  /** ES module (JS or TS) with `export default async (item, context) => value`; one in S3 has all that it imports inside. */
  readonly module: string;
  /** Calls at once on one thread; more than 1 helps a function that waits. @default 1 */
  readonly concurrency?: number;
  /** Threads in one Task Manager. @default its share of the machine's cores */
  readonly threads?: number;
}

export interface JobResources {
  /** Memory that one Task Manager may take, MB. `auto` starts as many as fit. @default none; `auto`: 2000 */
  readonly maxRamPerWorkerMb?: number;
  /** Cores that one Task Manager uses. @default its share of the machine's */
  readonly coresPerWorker?: number;
  /** Task Managers on one machine. @default what pays off */
  readonly workersPerNode?: number;
  /** A Task Manager is replaced after this many assignments. @default never */
  readonly maxTasksPerWorker?: number;
  /** Fewer than this, and no more to be had: the run stops. @default 1 */
  readonly minTaskManagers?: number;
}

export const outputFormats = ["jsonl", "csv", "parquet"] as const;

export interface JobOutput {
  /** `print`, a directory or `s3://bucket/prefix/`. */
  readonly to: string;
  /** What is written beside the journal when the run ends; in S3 that of the parts. @default "jsonl" */
  readonly format?: (typeof outputFormats)[number];
  /** In S3 within a part, whose items are neighbours in the input in any case. @default "completion"; in S3 "input" */
  readonly order?: "completion" | "input";
  /** Items a part in S3. @default 10000 */
  readonly partItems?: number;
  /** How often S3 gets what has ended and is in no part yet, ms: what is lost at most with this machine. @default 60000 */
  readonly checkpointMs?: number;
}

const encryptions = ["s3", "kms"] as const;
const fits = ["shorter-side", "cover", "contain", "fill"] as const;
const kernels = ["pillow-bilinear", "align-corners", "nearest", "linear", "cubic", "mitchell", "lanczos2", "lanczos3"] as const;
const colorOrders = ["rgb", "bgr", "gray"] as const;
const layouts = ["nchw", "nhwc"] as const;
const dtypes = ["float32", "uint8", "float16"] as const;
const activations = ["softmax", "sigmoid", "none"] as const;

/** Node's timers take no more (2^31 - 1 ms, 24 days). */
const timerMsMax = 2_147_483_647;

// Each leaf's message is the list of what is allowed: the field, the value and the nearest name are put before it.
const whole = (min: number, max: number, allowed: string) => z.number(allowed).int(allowed).min(min, allowed).max(max, allowed);
const wholeNumber = (min: number, max: number) => whole(min, max, `a whole number from ${min} to ${max}`);
const wholeNumberOrNone = (min: number, max: number) => whole(min, max, `a whole number from ${min} to ${max}, or null for none`).nullable();
const number = (min: number, max: number) => {
  const allowed = `a number from ${min} to ${max}`;
  return z.number(allowed).min(min, allowed).max(max, allowed);
};
const above = (least: number, max: number, allowed: string) => z.number(allowed).gt(least, allowed).max(max, allowed);
const numberAbove = (least: number, max: number) => above(least, max, `a number above ${least}, up to ${max}`);
const numberAboveOrNone = (least: number, max: number) => above(least, max, `a number above ${least}, up to ${max}, or null for none`).nullable();
const anyNumber = z.number("a number");
const text = (allowed: string) => z.string(allowed).min(1, allowed);
const durationMs = wholeNumber(1, timerMsMax);
const durationOrNoneMs = wholeNumberOrNone(1, timerMsMax);
const percent = number(0, 100);
const oneOf = <const Values extends readonly string[]>(values: Values) => z.enum(values, values.join(", "));
const optional = z.exactOptional;

const reference = (valid: RegExp, allowed: string) =>
  z.union([
    z.string(allowed).regex(valid, allowed),
    z.strictObject({ env: z.string("the name of an environment variable").regex(/^[A-Za-z_][A-Za-z0-9_]*$/, "the name of an environment variable") }, allowed),
  ], allowed);

// RFC 9110: a field name is a token; a line break in a value would start another header.
const headers = z.record(
  z.string().regex(/^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/, "header names of letters, digits and !#$%&'*+.^_`|~-"),
  reference(/^[^\r\n\0]*$/, "text without line breaks, or { env: NAME } for an environment variable"),
  "an object of header names and values",
);
const environment = z.record(
  z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/, "names of letters, digits and _"),
  reference(/^[^\0]*$/, "text, or { env: NAME } for an environment variable of this process"),
  "an object of names and values",
);

const json = z.custom<JsonValue>(isJson, "a JSON value");
const from = [
  text("a path, a glob, a folder, an s3:// URL, - for stdin, or a list of items"),
  z.array(json, "a list of JSON values"),
] as const;
const inputAllowed = "a path, a glob, a folder, an s3:// URL, - for stdin, a list of items, or { from, format, column, id, weight, limit }";
const input = z.union([
  ...from,
  z.strictObject({
    from: z.union(from, "a path, a glob, a folder, an s3:// URL, - for stdin, or a list of items"),
    format: optional(oneOf(inputFormats)),
    column: optional(text("the name of a column or field")),
    id: optional(text("the name of a column or field")),
    weight: optional(text("the name of a column or field")),
    limit: optional(wholeNumber(1, Number.MAX_SAFE_INTEGER)),
  }, inputAllowed),
], inputAllowed);

const pixels = wholeNumber(1, 16_384);
const channels = z.array(anyNumber, "a list of numbers, one a channel").min(1, "a list of numbers, one a channel");

const inferenceTask = z.strictObject({
  kind: z.literal("inference", "inference, function"),
  model: text("the path, http(s) or s3:// URL of an ONNX file"),
  download: optional(z.strictObject({
    kind: optional(oneOf(["async"])),
    concurrency: optional(wholeNumber(1, 1024)),
    timeoutMs: optional(durationMs),
    idleTimeoutMs: optional(durationMs),
    maxBytes: optional(wholeNumber(1, 2_147_483_647)),
    redirectsMax: optional(wholeNumber(0, 100)),
    perHost: optional(z.strictObject({
      concurrency: optional(wholeNumber(1, 100_000)),
      requestsPerSecond: optional(numberAbove(0, 1_000_000)),
    }, "an object { concurrency, requestsPerSecond }")),
    hostBlockedMs: optional(durationMs),
    headers: optional(headers),
    certificateAuthorities: optional(z.array(text("the path of a PEM file"), "a list of paths of PEM files")),
  }, "an object")),
  preprocess: optional(z.strictObject({
    preset: optional(text("the name of a preset")),
    kind: optional(oneOf(["thread"])),
    concurrency: optional(wholeNumber(1, 1024)),
    maxPixels: optional(wholeNumber(1, Number.MAX_SAFE_INTEGER)),
    resize: optional(z.strictObject({
      width: optional(pixels),
      height: optional(pixels),
      fit: optional(oneOf(fits)),
      kernel: optional(oneOf(kernels)),
    }, "an object { width, height, fit, kernel }")),
    crop: optional(z.strictObject({ width: pixels, height: pixels }, "an object { width, height }, or null for none").nullable()),
    colorOrder: optional(oneOf(colorOrders)),
    layout: optional(oneOf(layouts)),
    dtype: optional(oneOf(dtypes)),
    scale: optional(anyNumber),
    mean: optional(channels),
    std: optional(channels),
  }, "an object")),
  infer: optional(z.strictObject({
    batch: optional(wholeNumber(1, 4096)),
    sessions: optional(wholeNumber(1, 256)),
    intraOpThreads: optional(wholeNumber(1, 256)),
    interOpThreads: optional(wholeNumber(1, 256)),
    batchWaitMs: optional(wholeNumber(0, 60_000)),
    executionProviders: optional(z.array(text("the name of an execution provider: cpu"), "a list such as [cpu]").min(1, "a list such as [cpu]")),
  }, "an object")),
  postprocess: optional(z.strictObject({
    preset: optional(oneOf(["off-sample"])),
    activation: optional(oneOf(activations)),
    labels: optional(z.union([text("the path or s3:// URL of a file with one label a line, or a list"), z.array(z.string("text"), "a list of labels").min(1, "a list of labels")],
      "the path or s3:// URL of a file with one label a line, or a list")),
    topK: optional(wholeNumber(1, 10_000)),
  }, "an object")),
}, "an object");

const functionTask = z.strictObject({
  kind: z.literal("function", "inference, function"),
  module: text("the path or s3:// URL of an ES module"),
  concurrency: optional(wholeNumber(1, 1024)),
  threads: optional(wholeNumber(1, 256)),
}, "an object");

const speculationAllowed = "true, false, { kind: remainder, … } or { kind: quartile, … }";
const shareAllowed = "a number above 0, below 1";
const speculation = z.union([
  z.boolean(speculationAllowed),
  z.discriminatedUnion("kind", [
    z.strictObject({
      kind: z.literal("remainder", "remainder, quartile"),
      maxExtraPercent: optional(percent),
    }, speculationAllowed),
    z.strictObject({
      kind: z.literal("quartile", "remainder, quartile"),
      quartile: optional(z.number(shareAllowed).gt(0, shareAllowed).lt(1, shareAllowed)),
      multiplier: optional(number(1, 1000)),
      intervalMs: optional(durationMs),
      maxRetries: optional(wholeNumber(1, 100)),
      extraTaskManagers: optional(z.boolean("true, false")),
    }, speculationAllowed),
  ], { error: ({ path }) => (path?.at(-1) === "kind" ? "remainder, quartile" : speculationAllowed) }),
], speculationAllowed);

const faults = z.strictObject({
  exceptionPercent: optional(percent),
  delayPercent: optional(percent),
  delayMaxMs: optional(durationMs),
  killPercent: optional(percent),
  stallPercent: optional(percent),
  seed: optional(wholeNumber(0, 2 ** 32 - 1)),
}, "an object { exceptionPercent, delayPercent, delayMaxMs, killPercent, stallPercent, seed }");

const pullAllowed = "true, false, or { address, host, port }";
const hostAllowed = "an IP address or a host name";
const hostName = z.string(hostAllowed).regex(/^[A-Za-z0-9.:_-]{1,253}$/, hostAllowed);
const regionAllowed = "a region such as eu-central-1, or null for what the AWS SDK finds";
const stagingAllowed = "a bucket, s3://bucket/prefix/, or null for none";
const backendObject = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.enum(["sequential", "local", "auto"], backendNames.join(", ")) }, backendNames.join(", ")),
  z.strictObject({
    kind: z.literal("lambda"),
    functionName: optional(z.string("the name or ARN of a function").regex(/^[A-Za-z0-9:_-]{1,140}$/, "the name or ARN of a function, without a version")),
    qualifier: optional(z.string("an alias or a version").regex(/^([A-Za-z0-9_-]{1,128}|\$LATEST)$/, "an alias, a version or $LATEST")),
    region: optional(z.string(regionAllowed).regex(/^[a-z0-9-]{1,40}$/, regionAllowed).nullable()),
    stagingBucket: optional(z.string(stagingAllowed).regex(/^(s3:\/\/)?[^/?#\s:]{1,255}(\/[^?#\s]*)?$/, stagingAllowed).nullable()),
    memoryStepUpMb: optional(wholeNumberOrNone(128, 10_240)),
    buffered: optional(z.boolean("true, false")),
    keepWarm: optional(z.strictObject({
      taskManagers: wholeNumber(1, 10_000),
      everyMs: optional(wholeNumber(1000, timerMsMax)),
    }, "an object { taskManagers, everyMs }, or null for none").nullable()),
    forceColdStart: optional(z.boolean("true, false")),
    splitSeconds: optional(wholeNumber(1, 890)),
    sharedFilesystem: optional(z.boolean("true, false")),
    pull: optional(z.union([
      z.boolean(pullAllowed),
      z.strictObject({ address: optional(hostName.nullable()), host: optional(hostName.nullable()), port: optional(wholeNumber(0, 65_535)) }, pullAllowed),
    ], pullAllowed).nullable()),
  }),
], { error: ({ path }) => (path?.at(-1) === "kind" ? backendNames.join(", ") : undefined) });

const storageClassAllowed = "a storage class of S3, such as STANDARD_IA or INTELLIGENT_TIERING";
const bucketAllowed = "the name of a bucket in S3, without s3://, or null for none";
const outputPlaces = "print, the path of a directory, or s3://bucket/prefix/";
const outputAllowed = "print, the path of a directory, s3://bucket/prefix/, or { to, format, order, partItems, checkpointMs }";
const policyAllowed = `${policyNames.join(", ")}, or your own as module.mjs#function`;

const usd = number(0, 1_000_000);
const pricesAllowed = "the path of a JSON file, or { date, regions }";
const dateAllowed = "a date such as 2026-11-21";

/** What a file of prices holds. */
export const priceTableSchema = z.strictObject({
  date: z.string(dateAllowed).regex(/^\d{4}-\d\d-\d\d$/, dateAllowed),
  regions: z.record(z.string(), z.strictObject({
    x86GbSecond: optional(usd),
    armGbSecond: optional(usd),
    request: optional(usd),
    ephemeralGbSecond: optional(usd),
    s3Put: optional(usd),
    s3Get: optional(usd),
  }, "prices by name, in USD each"), "prices by region"),
}, pricesAllowed) satisfies z.ZodType<PriceTable>;

/** The shape; `parseJob` adds what a shape cannot say. */
export const jobSchema = z.strictObject({
  name: optional(z.string("text of 1 to 200 characters, without line breaks").regex(/^[^\p{Cc}]{1,200}$/u, "text of 1 to 200 characters, without line breaks")),
  input,
  bucket: optional(z.string(bucketAllowed).regex(/^[^/?#\s:]{1,255}$/, bucketAllowed).nullable()),
  s3: optional(z.strictObject({
    requesterPays: optional(z.boolean("true, false")),
    forcePathStyle: optional(z.boolean("true, false")),
    encryption: optional(oneOf(encryptions)),
    kmsKeyId: optional(text("the ID or ARN of a key in KMS")),
    storageClass: optional(z.string(storageClassAllowed).regex(/^[A-Z0-9_]{1,64}$/, storageClassAllowed)),
  }, "an object { requesterPays, forcePathStyle, encryption, kmsKeyId, storageClass }")),
  task: z.discriminatedUnion("kind", [inferenceTask, functionTask], {
    error: ({ path }) => (path?.at(-1) === "kind" ? "inference, function" : "an object { model, … } for inference, or { kind: function, module }"),
  }),
  backend: optional(z.union([oneOf(backendNames), backendObject], backendNames.join(", "))),
  policy: optional(z.union([
    oneOf(policyNames),
    z.templateLiteral([z.string().min(1), "#", z.string().min(1)], policyAllowed),
    z.custom<Policy>((value) => typeof value === "function", policyAllowed),
  ], policyAllowed)),
  splitSize: optional(wholeNumber(1, 1_000_000_000)),
  taskManagers: optional(wholeNumber(1, 10_000)),
  heterogeneousSplits: optional(z.array(wholeNumber(1, 1_000_000_000), "a list of split sizes")),
  resources: optional(z.strictObject({
    maxRamPerWorkerMb: optional(wholeNumber(1, 100_000_000)),
    coresPerWorker: optional(wholeNumber(1, 1024)),
    workersPerNode: optional(wholeNumber(1, 10_000)),
    maxTasksPerWorker: optional(wholeNumber(1, 1_000_000_000)),
    minTaskManagers: optional(wholeNumber(1, 10_000)),
  }, "an object")),
  env: optional(environment),
  keepAlive: optional(z.boolean("true, false")),
  heartbeat: optional(z.strictObject({
    reportMs: optional(durationMs),
    everyMs: optional(durationMs),
    timeoutMs: optional(durationMs),
  }, "an object")),
  speculation: optional(speculation),
  attemptsMax: optional(wholeNumber(1, 100)),
  tolerate: optional(z.strictObject({ failedItemsPercent: optional(percent) }, "an object")),
  timeouts: optional(z.strictObject({
    itemMs: optional(durationMs),
    taskManagerMs: optional(durationOrNoneMs),
    splitMs: optional(durationOrNoneMs),
    jobMs: optional(durationOrNoneMs),
  }, "an object")),
  budget: optional(z.strictObject({ maxCostUsd: optional(numberAboveOrNone(0, 1_000_000_000)) }, "an object { maxCostUsd }")),
  prices: optional(z.union([text(pricesAllowed), priceTableSchema], pricesAllowed)),
  faults: optional(faults),
  share: optional(numberAbove(0, 1_000_000)),
  priority: optional(wholeNumber(-1_000_000, 1_000_000)),
  output: optional(z.union([
    text(outputPlaces),
    z.strictObject({
      to: text(outputPlaces),
      format: optional(oneOf(outputFormats)),
      order: optional(oneOf(["completion", "input"])),
      partItems: optional(wholeNumber(1, 100_000)),
      checkpointMs: optional(durationMs),
    }, outputAllowed),
  ], outputAllowed)),
  baseDir: optional(text("the path of a directory")),
}, "an object with at least input and task") satisfies z.ZodType<Job>;

/**
 * Checks a job, whatever it was written in. Every problem is in the one error that is thrown, a line each.
 * @throws JobInvalidError
 */
export function parseJob(raw: unknown): Job {
  const given = withKinds(withoutUndefined(raw));
  const { refused, rest } = notBuilt(given);
  const parsed = jobSchema.safeParse(rest);
  const shape = parsed.success ? [] : problemsOf(parsed.error.issues, jobSchema, rest);
  const problems: Problem[] = [
    ...refused.map(({ problem }) => problem),
    ...[...shape, ...crossChecks(rest)].filter(({ field }) => !refused.some(({ covers }) => isUnder(field, covers))),
  ];
  if (problems.length > 0 || !parsed.success) throw new JobInvalidError(problems);
  return parsed.data;
}

/** What is wrong with a policy that is said elsewhere than in a job. */
export function problemsOfPolicy(policy: unknown): readonly Problem[] {
  const schema = z.strictObject({ policy: jobSchema.shape.policy });
  const parsed = schema.safeParse({ policy });
  return parsed.success ? [] : problemsOf(parsed.error.issues, schema, { policy });
}

/** Cheaper than z.json() by far for a list of many texts. */
function isJson(value: unknown): boolean {
  switch (typeof value) {
    case "string":
    case "boolean":
      return true;
    case "number":
      return Number.isFinite(value);
    case "object":
      return value === null || (Array.isArray(value) ? value.every(isJson) : isPlainObject(value) && Object.values(value).every(isJson));
    default:
      return false;
  }
}

/** What a JS caller leaves undefined is absent. */
function withoutUndefined(value: unknown): unknown {
  if (!isPlainObject(value)) return value;
  return Object.fromEntries(
    Object.entries(value).filter(([, part]) => part !== undefined).map(([key, part]) => [key, withoutUndefined(part)]),
  );
}

/** What an object without a `kind` is. */
const kindDefaults: Readonly<Record<string, string>> = { task: "inference", speculation: "remainder" };

function withKinds(job: unknown): unknown {
  if (!isPlainObject(job)) return job;
  return Object.fromEntries(Object.entries(job).map(([field, value]) => {
    const kind = Object.hasOwn(kindDefaults, field) ? kindDefaults[field] : undefined;
    return [field, kind === undefined || !isPlainObject(value) || "kind" in value ? value : { kind, ...value }];
  }));
}
