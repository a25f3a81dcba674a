/**
 * The messages between orchestrator and Task Manager: newline-delimited JSON, tagged by `kind`. The same
 * over every carrier. Beside it, both sides share the two files that carry them over WebSockets.
 */
import * as z from "zod/mini";

/** Raised whenever a message changes its meaning; a Task Manager of another version is refused. */
export const protocolVersion = 3;

/** Limits of one `assign`: a larger split goes out as several. One item above `assignmentBytesMax` is an error. */
export const assignmentItemsMax = 4096;
export const assignmentBytesMax = 1_000_000;
/** Most items in one `begun`: what a crash can make suspect at once. */
export const begunItemsMax = 64;
/** Most hosts in one `hosts`. */
export const hostReportsMax = 256;

export type JsonValue = string | number | boolean | null | JsonValue[] | { [key: string]: JsonValue };

/** Flat half-open pairs, ascending: `[0, 3, 7, 8]` is 0, 1, 2 and 7. */
export type Ranges = readonly number[];

/**
 * By which both sides name a host: `host:port` of an http(s) input, `s3:bucket` of one in S3; null of anything else. By
 * hand, since it runs once an item.
 */
export function hostOf(input: unknown): string | null {
  if (typeof input !== "string") return null;
  const start = input.startsWith("http://") ? 7 : input.startsWith("https://") ? 8 : -1;
  if (start < 0) return input.startsWith("s3://") ? `s3:${input.slice(5, endOfHost(input, 5))}` : null;
  const end = endOfHost(input, start);
  const authority = input.slice(start, end);
  const host = authority.slice(authority.lastIndexOf("@") + 1).toLowerCase();
  return host.includes(":", host.lastIndexOf("]") + 1) ? host : `${host}:${start === 7 ? 80 : 443}`;
}

function endOfHost(input: string, start: number): number {
  let end = start;
  while (end < input.length && !isEndOfHost(input.charCodeAt(end))) end += 1;
  return end;
}

function isEndOfHost(code: number): boolean {
  return code === 47 /* / */ || code === 63 /* ? */ || code === 35 /* # */;
}

const index = z.int().check(z.nonnegative());
const count = z.int().check(z.positive());
const nonnegative = z.number().check(z.nonnegative());
const positive = z.number().check(z.positive());
const ranges = z.array(index);
const json = z.unknown() as z.ZodMiniType<JsonValue>;

/** Where an item failed. `run`: outside the pipeline (its Task Manager was lost, its host blocked). */
export const stages = ["download", "preprocess", "infer", "postprocess", "function", "run"] as const;
export type Stage = (typeof stages)[number];

/** What can go wrong with one item; docs/errors.md says what to do about each. */
export const itemErrorCodes = [
  "INPUT_INVALID", "INPUT_SCHEME", "INPUT_NOT_FOUND", "INPUT_UNREADABLE", "INPUT_TOO_LARGE",
  "DOWNLOAD_DNS", "DOWNLOAD_CONNECT", "DOWNLOAD_TLS", "DOWNLOAD_PROXY", "DOWNLOAD_RESET", "DOWNLOAD_STATUS",
  "DOWNLOAD_TIMEOUT", "DOWNLOAD_IDLE", "DOWNLOAD_TOO_LARGE", "DOWNLOAD_REDIRECTS", "DOWNLOAD_EMPTY",
  "DOWNLOAD_FORBIDDEN_ADDRESS", "DOWNLOAD_ENCODING", "DOWNLOAD_CREDENTIALS",
  "DECODE_FORMAT", "DECODE_TRUNCATED", "DECODE_FAILED", "DECODE_TOO_MANY_PIXELS", "PREPROCESS_FAILED",
  "INFERENCE_FAILED", "POSTPROCESS_FAILED",
  "FUNCTION_THREW", "FUNCTION_RESULT", "RESULT_TOO_LARGE",
  "ITEM_TIMEOUT", "TASK_MANAGER_LOST", "HOST_BLOCKED", "INJECTED_FAULT",
] as const;
export type ItemErrorCode = (typeof itemErrorCodes)[number];

// ---- the task, complete: defaults and presets were resolved by the orchestrator ----

const artifact = z.object({ sha256: z.string().check(z.regex(/^[0-9a-f]{64}$/)), bytes: index, name: z.string() });
/** A file that travels, named by its content. */
export type Artifact = z.infer<typeof artifact>;

const downloadSpec = z.object({
  /** Downloads at once in one Task Manager. */
  concurrency: count,
  /** The whole download, redirects included. */
  timeoutMs: positive,
  /** Longest time without a byte. */
  idleTimeoutMs: positive,
  maxBytes: count,
  redirectsMax: index,
  /** Request headers, values complete. Never logged. */
  headers: z.record(z.string(), z.string()),
  proxy: z.object({ http: z.string(), https: z.string(), noProxy: z.string() }),
  /** Extra certificate authorities, PEM. */
  certificateAuthorities: z.array(z.string()),
  /** What of S3 cannot be said by the environment, in which the AWS SDK finds region, credentials and endpoint. */
  s3: z.object({
    requesterPays: z.boolean(),
    /** null: wherever the environment overrides the endpoint. */
    forcePathStyle: z.nullable(z.boolean()),
  }),
});
export type DownloadSpec = z.infer<typeof downloadSpec>;
export type S3Settings = DownloadSpec["s3"];

const preprocessSpec = z.object({
  /** Decoding threads in one Task Manager. */
  concurrency: count,
  maxPixels: count,
  /**
   * Size the image is brought to before the crop. `shorter-side`: the shorter side gets `width`, the longer one
   * follows, truncated as torchvision does; `cover`/`contain` (pads with zeros)/`fill` as CSS's object-fit.
   */
  resize: z.object({
    width: count,
    height: count,
    fit: z.enum(["shorter-side", "cover", "contain", "fill"]),
    /**
     * `pillow-bilinear`: Pillow's antialiased triangle filter in its 8-bit fixed point. `align-corners`: exact
     * float bilinear on the align-corners grid, no antialias. The others are libvips' own.
     */
    kernel: z.enum(["pillow-bilinear", "align-corners", "nearest", "linear", "cubic", "mitchell", "lanczos2", "lanczos3"]),
  }),
  /** Centre crop after the resize, offset rounded half to even as torchvision does; null: none. */
  crop: z.nullable(z.object({ width: count, height: count })),
  colorOrder: z.enum(["rgb", "bgr", "gray"]),
  layout: z.enum(["nchw", "nhwc"]),
  dtype: z.enum(["float32", "uint8", "float16"]),
  /** value = (pixel * scale - mean) / std, a channel each (one for gray); not applied to uint8. */
  scale: z.number(),
  mean: z.array(z.number()),
  std: z.array(z.number()),
});
export type PreprocessSpec = z.infer<typeof preprocessSpec>;

const inferSpec = z.object({
  batch: count,
  /** Inference sessions in one Task Manager, each on a thread of its own. */
  sessions: count,
  intraOpThreads: count,
  interOpThreads: count,
  /** A part-full batch leaves after this long even when more is upstream. */
  batchWaitMs: nonnegative,
  executionProviders: z.array(z.string()).check(z.minLength(1)),
});
export type InferSpec = z.infer<typeof inferSpec>;

const postprocessSpec = z.object({
  /** `off-sample`: softmax, `{prob, label}` of the original; `none`: `{values}` in the output's shape. */
  activation: z.enum(["softmax", "sigmoid", "none", "off-sample"]),
  /** One name a class, or null: the class index is the label. */
  labels: z.nullable(z.array(z.string())),
  topK: count,
});
export type PostprocessSpec = z.infer<typeof postprocessSpec>;

const inferenceTask = z.object({
  kind: z.literal("inference"),
  model: artifact,
  download: downloadSpec,
  preprocess: preprocessSpec,
  infer: inferSpec,
  postprocess: postprocessSpec,
});
export type InferenceTask = z.infer<typeof inferenceTask>;

const functionTask = z.object({
  kind: z.literal("function"),
  /** An ES module, bundled; its default export is `async (item, context) => value`. */
  module: artifact,
  /** Calls of the function at once on one thread. */
  concurrency: count,
  /** Threads in one Task Manager. */
  threads: count,
});
export type FunctionTask = z.infer<typeof functionTask>;

/** What a user's function is given beside the item. */
export interface FunctionContext {
  /** Place of the item in the job's input. */
  readonly index: number;
  /** A line in the Task Manager's log. */
  log(message: string): void;
}

/** Default export of a function task's module: a JSON value, or a promise of one. A throw is that item's error. */
export type UserFunction = (item: JsonValue, context: FunctionContext) => unknown;

export const taskSpec = z.discriminatedUnion("kind", [inferenceTask, functionTask]);
export type TaskSpec = z.infer<typeof taskSpec>;

const percent = z.number().check(z.minimum(0), z.maximum(100));
const faultSpec = z.object({
  /** Of the items: ended as a retryable error without being worked on. */
  exceptionPercent: percent,
  /** Of the items: held up for a time up to `delayMaxMs` before they are begun. */
  delayPercent: percent,
  delayMaxMs: nonnegative,
  /** Of the items: their Task Manager ends at once, as if killed, when it begins them. */
  killPercent: percent,
  /** Of the items: their Task Manager neither works nor says anything from there on. */
  stallPercent: percent,
  seed: index,
});
/**
 * Faults made on purpose. Which items are struck follows from the seed and the item's index alone: the same in every
 * run of the same job, wherever its Task Managers are and whatever becomes of them. An item is struck at its first try
 * only, so that it can end well at the next.
 */
export type FaultSpec = z.infer<typeof faultSpec>;

// ---- Task Manager → orchestrator ----

const itemError = z.object({
  index,
  code: z.enum(itemErrorCodes),
  stage: z.enum(stages),
  /** One sentence for a person; no secrets, no signature of a presigned URL. */
  message: z.string(),
  /** May another try end better? The orchestrator decides whether there is one. */
  retryable: z.boolean(),
});
export type ItemError = z.infer<typeof itemError>;

const itemResult = z.object({ index, output: json });
export type ItemResult = z.infer<typeof itemResult>;

/** Time spent in a stage by the items of one report. `busyMs` is summed over items, so it can exceed the clock. */
const stageTimes = z.object({ items: index, busyMs: z.number(), waitMs: z.number() });
export type StageTimes = z.infer<typeof stageTimes>;

const held = z.array(z.object({
  assignment: index,
  /** Items of it that were reported as ended or returned so far. */
  ended: index,
}));

const state = {
  /** Every assignment still held. */
  held,
  rssMb: z.number(),
  /** CPU time of the process since its task was ready. */
  cpuMs: z.number(),
  /** Items waiting in front of each stage. */
  queues: z.record(z.string(), z.number()),
};

export const returnCauses = ["MEMORY", "HOST_BUSY", "DRAIN", "DEADLINE", "RECLAIMED", "RESTART"] as const;
export type ReturnCause = (typeof returnCauses)[number];

/** Counts since the report before; `waiting` and `inFlight` are of now. */
const hostReport = z.object({
  /** As `hostOf` names it. */
  host: z.string(),
  started: index,
  /** Answered, well or badly, in time and without asking for fewer requests. */
  ok: index,
  /** 429 and 503. */
  busy: index,
  timeouts: index,
  waiting: index,
  inFlight: index,
  /** The longest time that it asked to be left alone from now on; absent: none. */
  retryAfterMs: z.optional(nonnegative),
});
export type HostReport = z.infer<typeof hostReport>;

const width = z.number().check(z.positive(), z.maximum(1));

const tensorShape = z.object({ name: z.string(), type: z.string(), shape: z.array(z.union([z.number(), z.string()])) });
export type TensorShape = z.infer<typeof tensorShape>;

export const taskManagerMessage = z.discriminatedUnion("kind", [
  z.object({
    kind: z.literal("hello"),
    protocol: z.number(),
    id: z.string(),
    pid: z.number(),
    cores: z.number(),
    memoryMb: z.number(),
    versions: z.record(z.string(), z.string()),
  }),
  /** Artifacts of the task that it lacks. */
  z.object({ kind: z.literal("need"), artifacts: z.array(z.string()) }),
  z.object({
    kind: z.literal("configured"),
    /** Assignments that it holds at once: one running, the others prefetched. */
    room: count,
    /** Items in flight at once: fewer than that do not keep it busy. */
    lanes: count,
    /** Items that each stage works on at once. */
    stageLanes: z.record(z.string(), z.number()),
    inputs: z.array(tensorShape),
    outputs: z.array(tensorShape),
  }),
  /** The task cannot run here: `field` of the job, and the way out in `message`. */
  z.object({ kind: z.literal("refused"), code: z.string(), field: z.string(), message: z.string() }),
  /** About to be preprocessed or given to the user's function; sent before any native or user code sees them. */
  z.object({ kind: z.literal("begun"), assignment: index, items: z.array(index).check(z.maxLength(begunItemsMax)) }),
  z.object({
    kind: z.literal("items"),
    assignment: index,
    results: z.array(itemResult),
    errors: z.array(itemError),
    stages: z.record(z.string(), stageTimes),
  }),
  /** Given back, not tried: counts as no attempt. */
  z.object({
    kind: z.literal("returned"),
    assignment: index,
    items: ranges,
    cause: z.enum(returnCauses),
    /** The host of HOST_BUSY, as `hostOf` names it, and how long it asked to be left alone. */
    host: z.optional(z.string()),
    retryAfterMs: z.optional(nonnegative),
  }),
  /** Items on their way that are much larger than others (Content-Length), as [index, bytes]; told once an item. */
  z.object({
    kind: z.literal("sized"),
    assignment: index,
    bytes: z.array(z.tuple([index, nonnegative])),
    /** Of all sizes that this Task Manager has seen. */
    meanBytes: positive,
  }),
  /** Hosts that more is wanted of than they are granted, that have a grant, or that are in trouble. */
  z.object({ kind: z.literal("hosts"), hosts: z.array(hostReport).check(z.maxLength(hostReportsMax)) }),
  z.object({ kind: z.literal("heartbeat"), ...state }),
  /** Nothing left to do. */
  z.object({ kind: z.literal("idle"), ...state }),
  /** It has changed, for lack of memory, or since there is room again, by how much it does at once. */
  z.object({
    kind: z.literal("memory"),
    /** Of its usual batch size and items in flight: what it does now; where it ends, what the next one should begin with. */
    width,
    /** It ends for it. */
    ends: z.boolean(),
  }),
  z.object({ kind: z.literal("log"), level: z.enum(["debug", "info", "warn", "error"]), message: z.string() }),
  /** The last message: everything held was reported or returned. */
  z.object({ kind: z.literal("bye"), reason: z.string() }),
]);
export type TaskManagerMessage = z.infer<typeof taskManagerMessage>;

// ---- orchestrator → Task Manager ----

const configure = z.object({
  kind: z.literal("configure"),
  task: taskSpec,
  reportMs: positive,
  heartbeatMs: positive,
  /** From begun to ended; past it the item is an error and the process is replaced. */
  itemTimeoutMs: positive,
  profile: z.enum(["off", "cpu", "memory"]),
  /** null: none are made. */
  faults: z.nullable(faultSpec),
  /** Resident memory that it should stay below; null: what its machine or control group leaves it. */
  memoryLimitMb: z.nullable(positive),
  /** What it begins with, where one before it ran out of memory; absent: all. */
  width: z.optional(width),
});

const assign = z.object({
  kind: z.literal("assign"),
  assignment: index,
  items: ranges,
  /** One for each index of `items`, in order. */
  inputs: z.array(json),
  /** What is not begun by then, counted from the receipt, is given back with cause DEADLINE; null: no such time. */
  endWithinMs: z.nullable(nonnegative),
  /** Worked on from the last item to the first. */
  reversed: z.boolean(),
  /** One item at a time, each announced alone: what ends or hangs the process names itself. Absent: no. */
  apart: z.optional(z.boolean()),
  /** Nothing follows it for now, so batches wait for no company. Absent: something may. */
  last: z.optional(z.boolean()),
  /** Those of `items` that were tried before, or were begun where a Task Manager was lost. Absent: none. */
  triedBefore: z.optional(ranges),
});

const grant = z.object({
  kind: z.literal("grant"),
  /** null: of any host that has no grant of its own. */
  host: z.nullable(z.string()),
  /** Downloads at once; null: the host's grant is taken back. */
  concurrency: z.nullable(index),
  requestsPerSecond: z.nullable(positive),
  /** Nothing is asked of it for that long. */
  pausedForMs: nonnegative,
});

export const orchestratorMessage = z.discriminatedUnion("kind", [
  configure,
  z.object({ kind: z.literal("artifact"), sha256: z.string(), offset: index, data: z.base64(), last: z.boolean() }),
  assign,
  /** Give back what is not begun, the last `items` of it; answered by `returned` with cause RECLAIMED, maybe empty. */
  z.object({ kind: z.literal("reclaim"), assignment: index, items: index }),
  /** Stop working on it; nothing more about it is wanted. */
  z.object({ kind: z.literal("cancel"), assignment: index }),
  /** This Task Manager's share of what may be asked of a host; holds until the next one. */
  grant,
  /** `drain`: end what is begun, give back the rest, say bye. `now`: exit. */
  z.object({ kind: z.literal("stop"), how: z.enum(["drain", "now"]) }),
]);
export type OrchestratorMessage = z.infer<typeof orchestratorMessage>;
export type HostGrant = Extract<OrchestratorMessage, { kind: "grant" }>;

// ---- WebSockets: the Task Manager dials in ----

/** Of one frame, either way: an item's result has 8 MB at most. */
export const dialedFrameBytesMax = 32 * 2 ** 20;
/** The header with the secret that a Task Manager makes up when it dials in first, and is known by when it comes back. */
export const sessionHeader = "splitrun-session";

const dialTarget = z.object({
  host: z.string(),
  port: z.int().check(z.minimum(1), z.maximum(65_535)),
  /** Good for one Task Manager. Never logged. */
  token: z.string(),
  /** SHA-256 of the orchestrator's certificate, hex. */
  fingerprint: z.string().check(z.regex(/^[0-9a-f]{64}$/)),
  /** When a connection is lost, another one within that time goes on where it ended. */
  comeBackWithinMs: nonnegative,
});
/** Where and how a Task Manager dials in. */
export type DialTarget = z.infer<typeof dialTarget>;

/** What goes over a WebSocket, the same either way. */
export const dialedFrame = z.discriminatedUnion("kind", [
  /** The first of every connection: the last message that was received. What came after it is sent again. */
  z.object({ kind: z.literal("resume"), received: index }),
  z.object({ kind: z.literal("message"), number: count, message: z.unknown() }),
  /** Up to that one the other side need not keep them any longer. */
  z.object({ kind: z.literal("received"), number: index }),
  /** Answered by `received` at once. */
  z.object({ kind: z.literal("ask") }),
]);
export type DialedFrame = z.infer<typeof dialedFrame>;

// ---- Lambda's carrier: a request, and a response of messages, each a line ----

const lambdaArtifact = z.extend(artifact, {
  /** Its content, where it is small. */
  inline: z.nullable(z.base64()),
  /** Where it was staged. */
  s3: z.nullable(z.object({ bucket: z.string(), key: z.string() })),
});
export type LambdaArtifact = z.infer<typeof lambdaArtifact>;

const taskRequest = {
  protocol: z.number(),
  taskManager: z.string(),
  configure,
  /** Threads and sessions by the function's memory, not as `configure` says. */
  coresByMemory: z.boolean(),
  /** Beside the function's own. */
  env: z.record(z.string(), z.string()),
  artifacts: z.array(lambdaArtifact),
};

export const lambdaRequest = z.discriminatedUnion("kind", [
  /** Answered at once, but for `holdMs`: so long does it keep its environment, so that others answer the next one. */
  z.object({ protocol: z.number(), kind: z.literal("ping"), holdMs: nonnegative }),
  z.object({
    ...taskRequest,
    /** `warm`: the task is loaded, and that is all. */
    kind: z.enum(["warm", "work"]),
    grants: z.array(grant),
    /** Of one assignment. */
    assigns: z.array(assign),
    /** After this long nothing is begun any more. */
    beginWithinMs: nonnegative,
    /** The response is read at its end: no heartbeats, and no more than fits into it. null: it is streamed. */
    buffered: z.nullable(z.object({
      bytesMax: index,
      /** Where a larger response is put; null: what is not begun goes back before it gets there. */
      spill: z.nullable(z.object({ bucket: z.string(), key: z.string() })),
    })),
  }),
  /** Serves over a connection that it opens, until there has been nothing to do for a while, or its time is over. */
  z.object({
    ...taskRequest,
    kind: z.literal("pull"),
    dial: dialTarget,
    /** With nothing to do for so long it ends. */
    idleMs: positive,
    /** Not null: the response is read at its end. */
    buffered: z.nullable(z.object({})),
  }),
]);
export type LambdaRequest = z.infer<typeof lambdaRequest>;

/** The first line of a response. */
export const invocationBegan = z.object({
  kind: z.literal("invocation-began"),
  protocol: z.number(),
  /** Names the environment, as its log stream does. */
  environment: z.string(),
  cold: z.boolean(),
  /** From the start of the process to its handler; null: not a cold start. */
  initMs: z.nullable(z.number()),
  memoryMb: z.number(),
  ephemeralMb: z.number(),
  architecture: z.enum(["x86_64", "arm64"]),
  region: z.string(),
  functionVersion: z.string(),
  /** Until the function's time-out. */
  remainingMs: z.number(),
  versions: z.record(z.string(), z.string()),
});

/** What Lambda's response has beside a Task Manager's messages. */
const lambdaMessage = z.discriminatedUnion("kind", [
  invocationBegan,
  /** To whom it has dialed: what is assigned from now on is given back, since the invocation ends soon. */
  z.object({ kind: z.literal("drains") }),
  /** The rest of the response is there. */
  z.object({ kind: z.literal("spilled"), bucket: z.string(), key: z.string(), bytes: index }),
  /** The last line: everything held was reported or returned. */
  z.object({
    kind: z.literal("invocation-ended"),
    durationMs: z.number(),
    /** Highest so far. */
    rssMb: z.number(),
    /** CPU time that the invocation took. */
    cpuMs: z.number(),
    /** Requests by which it fetched artifacts from S3. Absent: none. */
    storageReads: z.optional(index),
    /** The process ends now, by its own wish: whatever Lambda says of that is no news. */
    leaves: z.boolean(),
  }),
]);
export const lambdaLine = z.union([taskManagerMessage, lambdaMessage]);
export type LambdaMessage = z.infer<typeof lambdaMessage>;
export type LambdaLine = TaskManagerMessage | LambdaMessage;

/** One end of a carrier. Messages arrive in order, whole, and already checked against the schema. */
export interface Channel<Out, In> {
  /**
   * Hands the message to the carrier; resolves once the operating system has it, or, while a lost connection may come
   * back, once it is kept for then. Never throws once closed.
   */
  send(message: Out): Promise<void>;
  onMessage(listener: (message: In) => void): void;
  /** Once, when the other side is gone or `close` was called. */
  onClose(listener: () => void): void;
  close(): void;
}
