import type { DownloadSpec, FaultSpec, InferSpec, JsonValue, PostprocessSpec, PreprocessSpec, S3Settings } from "../../task-manager/protocol.ts";
import type { S3ClientOptions } from "../../task-manager/s3-client.ts";

/** What `input` says, complete. */
export interface InputSpec {
  /** A path, glob, folder, the same as an s3 URL, `-` for stdin, or the items themselves. Paths are absolute. */
  readonly from: string | readonly JsonValue[];
  readonly format: "text" | "csv" | "jsonl" | "parquet" | "glob" | "folder" | "stdin" | "list";
  /** CSV or Parquet column, or JSONL field, that holds the item; null: the only one, or the line's value. */
  readonly column: string | null;
  readonly id: string | null;
  readonly weight: string | null;
  readonly limit: number | null;
}

/** A value, or the name of the environment variable that holds it: looked up as late as possible, kept out of files. */
export type ResolvedReference = string | { readonly env: string };

/** Complete, but for what is read from this machine when the artifacts are prepared. */
export interface ResolvedDownload extends Omit<DownloadSpec, "headers" | "proxy" | "certificateAuthorities" | "s3"> {
  readonly headers: Readonly<Record<string, ResolvedReference>>;
  /** Absolute paths of PEM files. */
  readonly certificateAuthorities: readonly string[];
  /** Of all Task Managers together, for the pool: no part of the task. null: found while it runs. */
  readonly perHost: { readonly concurrency: number | null; readonly requestsPerSecond: number | null };
}

export interface ResolvedInferenceTask {
  readonly kind: "inference";
  /** Absolute path, or http(s) or s3 URL. */
  readonly model: string;
  readonly download: ResolvedDownload;
  readonly preprocess: PreprocessSpec;
  readonly infer: InferSpec;
  /** Labels are read when the artifacts are prepared. */
  readonly postprocess: Omit<PostprocessSpec, "labels">;
  /** Absolute path or s3 URL of a file with one label a line, or the labels; null: none. */
  readonly labels: string | readonly string[] | null;
}

export interface ResolvedFunctionTask {
  readonly kind: "function";
  /** Absolute path or s3 URL of an ES module (JS or TS). */
  readonly module: string;
  readonly concurrency: number;
  readonly threads: number;
}

export type ResolvedTask = ResolvedInferenceTask | ResolvedFunctionTask;

/** The scheduler's plan takes it as it is. */
export type Speculation =
  | false
  | { readonly kind: "remainder"; readonly maxExtraPercent: number }
  | {
      readonly kind: "quartile";
      readonly quartile: number;
      readonly multiplier: number;
      readonly intervalMs: number;
      readonly maxRetries: number;
      readonly extraTaskManagers: boolean;
    };

/** Where functions in the same VPC dial in. */
export type PullSpec = {
  /** IP address or name under which they reach this machine; null: its private address on EC2. */
  readonly address: string | null;
  /** Interface to listen on; null: the address. */
  readonly host: string | null;
  /** 0: a free one. */
  readonly port: number;
};

/** Functions of AWS Lambda. */
export interface LambdaSpec {
  readonly kind: "lambda";
  readonly functionName: string;
  /** Alias or version. */
  readonly qualifier: string;
  /** null: as the AWS SDK finds it. */
  readonly region: string | null;
  /** `s3://bucket/prefix/` for models that do not fit into a request, and for answers that do not fit into one; null: none. */
  readonly stagingBucket: string | null;
  /** Memory of the function `<functionName>-step-up`, for items that run out of it alone; null: there is none. */
  readonly memoryStepUpMb: number | null;
  /** Answers are read at their end instead of as they come. */
  readonly buffered: boolean;
  /** Environments that are kept ready, and how often they are called for that. */
  readonly keepWarm: { readonly taskManagers: number; readonly everyMs: number } | null;
  /** Every environment is new when the first job begins. */
  readonly forceColdStart: boolean;
  /** What an invocation has not begun after so long is handed out anew. */
  readonly splitSeconds: number;
  /** Paths of the items are the same on Lambda. */
  readonly sharedFilesystem: boolean;
  /** Invocations dial in to this machine; null: they do not, all is in requests and responses. */
  readonly pull: PullSpec | null;
  /** Sessions and threads are found by the function, from its memory. */
  readonly coresByMemory: boolean;
}

export type BackendSpec = { readonly kind: "sequential" | "local" | "auto" } | LambdaSpec;
export type BackendKind = BackendSpec["kind"];

/** How objects are kept that are put in S3; null: as the bucket has it. */
export type S3Keeping = Pick<S3ClientOptions, "encryption" | "storageClass">;

export interface S3OutputSpec {
  readonly kind: "s3";
  /** `s3://bucket/prefix/`, with its slash at the end. */
  readonly url: string;
  /** Of the parts; within one they are in this order. */
  readonly format: "jsonl" | "csv" | "parquet";
  readonly order: "completion" | "input";
  /** Items a part. */
  readonly partItems: number;
  /** What has ended and is in no part yet is put at least this often. */
  readonly checkpointMs: number;
}

export type OutputSpec =
  | { readonly kind: "print" }
  | S3OutputSpec
  /** `exportTo`: also written as csv or parquet (or ordered jsonl) when the run ends. */
  | { readonly kind: "directory"; readonly dir: string; readonly format: "jsonl" | "csv" | "parquet"; readonly order: "completion" | "input" };

export const priceNames = ["x86GbSecond", "armGbSecond", "request", "ephemeralGbSecond", "s3Put", "s3Get"] as const;
export type PriceNames = (typeof priceNames)[number];

/** What things cost in USD, by region; what a region does not say is as in us-east-1. */
export interface PriceTable {
  /** When the prices were looked up: `2026-11-21`. */
  readonly date: string;
  readonly regions: Readonly<Record<string, Readonly<Partial<Record<PriceNames, number>>>>>;
}

/** A job in which nothing is left to be decided but what depends on the files themselves. */
export interface ResolvedJob {
  readonly name: string;
  /** Directory that relative paths of the job are relative to: the job file's, or the working directory. */
  readonly baseDir: string;
  readonly input: InputSpec;
  /** Of plain keys in the input; null: they are paths. */
  readonly bucket: string | null;
  readonly s3: S3Settings;
  readonly s3Keeping: S3Keeping;
  readonly task: ResolvedTask;
  readonly backend: BackendSpec;
  readonly policy: string;
  /** Fixed: `sizes` in turn, over and over. */
  readonly sizing: { readonly kind: "guided" } | { readonly kind: "fixed"; readonly sizes: readonly number[] };
  readonly taskManagers: number;
  readonly resources: {
    readonly maxRamPerWorkerMb: number | null;
    readonly coresPerWorker: number | null;
    readonly maxTasksPerWorker: number | null;
    readonly minTaskManagers: number;
  };
  /** `taskManagerEnvironment` gives the values. */
  readonly env: Readonly<Record<string, ResolvedReference>>;
  readonly keepAlive: boolean;
  readonly heartbeat: { readonly reportMs: number; readonly everyMs: number; readonly timeoutMs: number };
  readonly speculation: Speculation;
  readonly attemptsMax: number;
  readonly tolerate: { readonly failedItemsPercent: number };
  readonly timeouts: {
    readonly itemMs: number;
    readonly taskManagerMs: number | null;
    readonly splitMs: number | null;
    readonly jobMs: number | null;
  };
  readonly hostBlockedMs: number;
  /** null: no limit. */
  readonly budget: { readonly maxCostUsd: number | null };
  /** The user's own prices; null: the built-in ones. */
  readonly prices: PriceTable | null;
  /** null: none are made. */
  readonly faults: FaultSpec | null;
  readonly share: number;
  readonly priority: number;
  readonly output: OutputSpec;
}

/** `splitrun plan`: where each value came from. */
export interface Provenance {
  /** Path of the field: `taskManagers`. */
  readonly field: string;
  readonly value: JsonValue;
  /** "the job", "flag --set", "default", "policy policy-1", "maximum of this machine: 2 cores". */
  readonly rule: string;
}
