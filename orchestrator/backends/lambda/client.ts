import type * as Sdk from "@aws-sdk/client-lambda";
import { SplitrunError } from "../../errors.ts";
import { parseReport } from "./report.ts";

export type LambdaSdk = typeof Sdk;

export interface LambdaClientOptions {
  /** null: wherever the SDK finds one (AWS_REGION, the profile). */
  readonly region: string | null;
  /** Requests at once: each has a connection of its own. */
  readonly maxInFlight: number;
  /** 1 for whatever must not happen twice; the SDK sends a request again when its connection broke. @default 1 */
  readonly maxAttempts?: number;
}

/** Beside those in flight: pings, questions about the function. */
const socketsToSpare = 16;
const connectionTimeoutMs = 5_000;
/** The longest that an invocation may take, and half a minute. */
const requestTimeoutMs = 930_000;
/** No data at all: before its first byte an invocation may load the function's code and the model. */
export const silentSocketMs = 120_000;

/** The SDK, loaded by the first use of it. */
export async function lambdaSdk(): Promise<LambdaSdk> {
  // Which versions of Node are good enough is for this package to say, not for one that it uses to warn of in every run.
  process.env["AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED"] ??= "true";
  return import("@aws-sdk/client-lambda");
}

/** A client set for invocations that are paid for: what fails is for the scheduler to try again, never for the SDK. */
export async function lambdaClient({ region, maxInFlight, maxAttempts = 1 }: LambdaClientOptions): Promise<Sdk.LambdaClient> {
  const { LambdaClient } = await lambdaSdk();
  // Options, not instances: with an instance the SDK sets no TCP keep-alive.
  const socketsMax = maxInFlight + socketsToSpare;
  // Node keeps 256 idle ones otherwise: what answers together would have to connect anew.
  const agent = { maxSockets: socketsMax, maxFreeSockets: socketsMax, keepAlive: true };
  return new LambdaClient({
    ...(region === null ? {} : { region }),
    maxAttempts,
    requestHandler: {
      httpAgent: agent,
      httpsAgent: agent,
      connectionTimeout: connectionTimeoutMs,
      requestTimeout: requestTimeoutMs,
      throwOnRequestTimeout: true,
      socketTimeout: requestTimeoutMs,
    },
  });
}

export type LambdaFailureCode =
  /** Too many at once, or too fast; nothing ran. */
  | "LAMBDA_THROTTLED"
  /** Being created, updated, or its network made ready; nothing ran. */
  | "LAMBDA_NOT_READY"
  | "LAMBDA_SERVER" | "LAMBDA_TIMEOUT" | "LAMBDA_UNREACHABLE" | "LAMBDA_CUT"
  | "LAMBDA_NOT_DEPLOYED" | "LAMBDA_ACCESS_DENIED" | "LAMBDA_NO_CREDENTIALS" | "LAMBDA_CREDENTIALS" | "LAMBDA_NO_REGION" | "LAMBDA_CLOCK"
  | "LAMBDA_TOO_LARGE" | "LAMBDA_NETWORK" | "LAMBDA_CODE" | "LAMBDA_KEY" | "LAMBDA_FILE_SYSTEM" | "LAMBDA_QUOTA" | "LAMBDA_NO_STREAMING" | "LAMBDA_REFUSED";

export type ThrottleReason = Sdk.ThrottleReason;

/** What an error of the SDK says, whichever of its many forms it has. */
export interface LambdaFailure {
  readonly code: LambdaFailureCode;
  /** May another try end better? */
  readonly retryable: boolean;
  /** False: it may have run, or be running still. */
  readonly didNotRun: boolean;
  /** Which limit it was; null: it was no limit, or Lambda did not say. */
  readonly throttle: ThrottleReason | null;
  readonly retryAfterMs: number | null;
  readonly status: number | null;
  /** One sentence. */
  readonly message: string;
  /** What to do about it; null: nothing but to try again. */
  readonly wayOut: string | null;
}

interface Meaning {
  readonly code: LambdaFailureCode;
  readonly retryable: boolean;
  readonly didNotRun: boolean;
  readonly says: string;
  readonly wayOut: string | null;
}

const refused = (code: LambdaFailureCode, says: string, wayOut: string): Meaning => ({ code, retryable: false, didNotRun: true, says, wayOut });
const notNow = (code: LambdaFailureCode, says: string, wayOut: string | null = null): Meaning => ({ code, retryable: true, didNotRun: true, says, wayOut });
const unknown = (code: LambdaFailureCode, says: string, wayOut: string | null = null): Meaning => ({ code, retryable: true, didNotRun: false, says, wayOut });

const throttled = notNow("LAMBDA_THROTTLED", "Lambda asked for fewer invocations");
const notReady = notNow("LAMBDA_NOT_READY", "the function is being created or updated");
const networkNotReady = notNow("LAMBDA_NOT_READY", "the function's network interfaces are being made, which takes minutes after a while without use");
const network = (wayOut: string) => refused("LAMBDA_NETWORK", "the function's VPC configuration does not work", wayOut);
const key = refused("LAMBDA_KEY", "the KMS key of the function's environment cannot be used", "enable the key, and allow the function's role kms:Decrypt on it");
const fileSystem = refused("LAMBDA_FILE_SYSTEM", "the function's file system cannot be mounted", "look at its mount target, security group and access point");
const credentialsRefused = refused("LAMBDA_CREDENTIALS", "the AWS credentials in use are refused or have expired", "renew them (aws sso login, or new keys); AWS_PROFILE says which are used");
const noCredentials = refused("LAMBDA_NO_CREDENTIALS", "no AWS credentials were found", "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or log in (aws sso login)");
const tooLarge = refused("LAMBDA_TOO_LARGE", "the request is above the 6 MB that Lambda takes", "make splits smaller (splitSize), or stage the model in S3 (backend.stagingBucket)");
const noStreaming = refused("LAMBDA_NO_STREAMING", "responses cannot be streamed here", "set backend.buffered: true");
const server = unknown("LAMBDA_SERVER", "Lambda failed");
const timeout = unknown("LAMBDA_TIMEOUT", "nothing came in time");
const unreachable = notNow("LAMBDA_UNREACHABLE", "Lambda cannot be reached", "look at the network, and at AWS_REGION and AWS_ENDPOINT_URL_LAMBDA");
const cut = unknown("LAMBDA_CUT", "the connection to Lambda was cut");

/** https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html, and the SDK's own. */
const meanings: Readonly<Record<string, Meaning>> = {
  TooManyRequestsException: throttled,
  ThrottlingException: throttled,
  EC2ThrottledException: notNow("LAMBDA_THROTTLED", "EC2 throttled Lambda as it made network interfaces"),
  ServiceException: server,
  ResourceConflictException: notReady,
  CodeArtifactUserPendingException: notReady,
  SnapStartNotReadyException: notReady,
  ResourceNotReadyException: networkNotReady,
  ENINotReadyException: networkNotReady,
  EC2UnexpectedException: networkNotReady,
  ResourceNotFoundException: refused("LAMBDA_NOT_DEPLOYED", "there is no such function, or it has no such version or alias", "run `splitrun deploy`; backend.functionName, backend.qualifier and AWS_REGION say which is meant"),
  AccessDeniedException: refused("LAMBDA_ACCESS_DENIED", "access denied", "the credentials in use need lambda:InvokeFunction on the function"),
  EC2AccessDeniedException: network("give the function's role ec2:CreateNetworkInterface, ec2:DescribeNetworkInterfaces and ec2:DeleteNetworkInterface"),
  ENILimitReachedException: network("the VPC has no network interface left: ask for a higher quota, or use another VPC"),
  SubnetIPAddressLimitReachedException: network("its subnets have no address left: add larger ones"),
  InvalidSubnetIDException: network("a subnet of it does not exist: deploy again with others"),
  InvalidSecurityGroupIDException: network("a security group of it does not exist: deploy again with others"),
  InvalidRuntimeException: refused("LAMBDA_CODE", "the function's runtime cannot be used", "run `splitrun redeploy`"),
  InvalidZipFileException: refused("LAMBDA_CODE", "the function's code cannot be unpacked", "run `splitrun redeploy`"),
  KMSAccessDeniedException: key,
  KMSDisabledException: key,
  KMSInvalidStateException: key,
  KMSNotFoundException: key,
  EFSIOException: fileSystem,
  EFSMountFailureException: fileSystem,
  EFSMountConnectivityException: notNow("LAMBDA_FILE_SYSTEM", "the function's file system could not be mounted"),
  EFSMountTimeoutException: notNow("LAMBDA_FILE_SYSTEM", "the function's file system could not be mounted in time"),
  ServiceQuotaExceededException: refused("LAMBDA_QUOTA", "a quota of the account is used up", "look at Service Quotas for Lambda"),
  CodeStorageExceededException: refused("LAMBDA_QUOTA", "the account's code storage is full", "delete old versions of functions"),
  RequestTooLargeException: tooLarge,
  SerializedRequestEntityTooLargeException: tooLarge,
  ModeNotSupportedException: noStreaming,
  UnknownOperationException: noStreaming,
  RecursiveInvocationException: refused("LAMBDA_REFUSED", "Lambda takes this for a loop of functions that call each other", "run the orchestrator outside of Lambda"),
  ExpiredToken: credentialsRefused,
  ExpiredTokenException: credentialsRefused,
  InvalidSignatureException: credentialsRefused,
  UnrecognizedClientException: credentialsRefused,
  InvalidClientTokenId: credentialsRefused,
  MissingAuthenticationTokenException: noCredentials,
  CredentialsProviderError: noCredentials,
  TokenProviderError: noCredentials,
  RequestTimeTooSkewed: refused("LAMBDA_CLOCK", "this machine's clock is more than five minutes off", "set it"),
  TimeoutError: timeout,
  RequestTimeout: timeout,
  AbortError: unknown("LAMBDA_CUT", "the request was ended from this side"),
};

const unreachableCodes = new Set(["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "EHOSTUNREACH", "ENETUNREACH", "EHOSTDOWN", "ENETDOWN"]);
const cutCodes = new Set(["ECONNRESET", "EPIPE", "ECONNABORTED", "ERR_STREAM_PREMATURE_CLOSE"]);

const throttleTexts: Readonly<Record<string, { readonly says: string; readonly wayOut: string }>> = {
  ConcurrentInvocationLimitExceeded: {
    says: "the account has no more concurrency free, or grows as fast as it may",
    wayOut: "fewer taskManagers, or a higher quota of concurrent executions (Service Quotas, Lambda)",
  },
  ReservedFunctionConcurrentInvocationLimitExceeded: {
    says: "the function's reserved concurrency is used up",
    wayOut: "fewer taskManagers, or more reserved concurrency",
  },
  FunctionInvocationRateLimitExceeded: { says: "the function is invoked more than ten times its concurrency a second", wayOut: "larger splits" },
  ReservedFunctionInvocationRateLimitExceeded: { says: "the function is invoked more than ten times its reserved concurrency a second", wayOut: "larger splits" },
  CallerRateLimitExceeded: { says: "the account's rate of API calls is used up", wayOut: "wait for what else uses the API" },
};

/** Names what went wrong with a request. Secrets are in none of its texts. */
export function classify(error: unknown): LambdaFailure {
  const told = tell(error);
  const { code, retryable, didNotRun, says, wayOut } = meaningOf(told);
  const throttle = throttleTexts[told.reason ?? ""];
  return {
    code,
    retryable,
    didNotRun,
    throttle: throttle === undefined ? null : (told.reason as ThrottleReason),
    retryAfterMs: told.retryAfterMs,
    status: told.status,
    message: `${throttle === undefined ? says : `${says}: ${throttle.says}`} (${told.status === null ? "" : `${told.status} `}${told.name}${detailOf(told)})`,
    wayOut: throttle?.wayOut ?? wayOut,
  };
}

/** The same as an error for people. */
export function lambdaError(error: unknown, doing: string): SplitrunError {
  const { code, message, wayOut } = classify(error);
  return new SplitrunError(`${doing}: ${message}${wayOut === null ? "" : `; ${wayOut}`}`, { code, field: "backend", cause: error });
}

interface Told {
  readonly name: string;
  readonly message: string;
  readonly status: number | null;
  readonly systemCode: string;
  readonly reason: string | null;
  readonly retryAfterMs: number | null;
}

function tell(error: unknown): Told {
  const given = (typeof error === "object" && error !== null ? error : {}) as {
    readonly name?: string; readonly message?: string; readonly code?: string; readonly Reason?: string; readonly retryAfterSeconds?: string;
    readonly $metadata?: { readonly httpStatusCode?: number };
  };
  const seconds = Number(given.retryAfterSeconds);
  return {
    name: given.name ?? "Error",
    message: given.message ?? String(error),
    status: given.$metadata?.httpStatusCode ?? null,
    systemCode: given.code ?? "",
    reason: given.Reason ?? null,
    retryAfterMs: given.retryAfterSeconds !== undefined && seconds >= 0 ? seconds * 1000 : null,
  };
}

function meaningOf({ name, message, status, systemCode }: Told): Meaning {
  // Its name differs from one service's front to the next.
  if (status === 413) return tooLarge;
  // The SDK calls a connection that was reset a time-out.
  if (status === null && cutCodes.has(systemCode)) return cut;
  const known = Object.hasOwn(meanings, name) ? meanings[name] : undefined;
  if (known !== undefined) return known;
  if (unreachableCodes.has(systemCode)) return unreachable;
  if (systemCode === "ETIMEDOUT") return timeout;
  if (/^(aborted|socket hang up|premature close)$/i.test(message)) return cut;
  if (/region is missing/i.test(message)) return refused("LAMBDA_NO_REGION", "no AWS region was found", "set AWS_REGION, or backend.region");
  if (status === 429) return throttled;
  if (status === 401 || status === 403) return meanings["AccessDeniedException"] ?? credentialsRefused;
  if (status !== null && status >= 500) return server;
  if (/premature|truncated|incomplete|checksum|message length/i.test(message)) return cut;
  return refused("LAMBDA_REFUSED", "Lambda refused the request", "see the name in brackets in Lambda's documentation");
}

const detailMax = 300;

/** Lambda's own words, where they name what we do not. */
function detailOf({ message }: Told): string {
  const line = message.split("\n")[0]?.trim() ?? "";
  return line === "" ? "" : `: ${line.length > detailMax ? `${line.slice(0, detailMax)}…` : line}`;
}

/** Why a function's invocation ended without an answer of its own. */
export type FunctionFailureKind =
  | "timed-out" | "out-of-memory" | "exited" | "not-loaded" | "response-too-large" | "threw";

export interface FunctionFailure {
  readonly kind: FunctionFailureKind;
  readonly exitCode: number | null;
  readonly signal: string | null;
  /** One sentence. */
  readonly message: string;
}

const signals: Readonly<Record<string, string>> = {
  killed: "SIGKILL", aborted: "SIGABRT", terminated: "SIGTERM", "segmentation fault": "SIGSEGV", interrupt: "SIGINT", "bus error": "SIGBUS", "illegal instruction": "SIGILL",
};
const loadErrors = new Set(["Runtime.ImportModuleError", "Runtime.UserCodeSyntaxError", "Runtime.HandlerNotFound"]);

/**
 * Reads what Lambda says of a function that failed: `FunctionError` and the payload of a buffered answer, `ErrorCode`
 * and `ErrorDetails` at the end of a stream. The details come first, since the code is often just `Unhandled`.
 * @param log the end of its log, where Lambda sent it along
 */
export function functionFailure(code: string, details: string, log: string | null): FunctionFailure {
  const { errorType, errorMessage } = parsedDetails(code, details);
  const failure = (kind: FunctionFailureKind, message: string, exit: Partial<FunctionFailure> = {}): FunctionFailure =>
    ({ kind, message, exitCode: null, signal: null, ...exit });
  const seconds = /Task timed out after ([\d.]+) seconds/.exec(errorMessage)?.[1];
  if (seconds !== undefined || errorType === "Sandbox.Timedout") {
    return failure("timed-out", `the function's time-out${seconds === undefined ? "" : ` of ${Number(seconds)} s`} ended the invocation`);
  }
  if (errorType === "Function.ResponseSizeTooLarge") return failure("response-too-large", errorMessage);
  if (loadErrors.has(errorType)) return failure("not-loaded", `the function's code does not load (${errorType}: ${errorMessage})`);
  if (errorType === "Runtime.OutOfMemory") return failure("out-of-memory", "the function ran out of memory", { signal: "SIGKILL" });
  if (errorType !== "Runtime.ExitError") return failure("threw", `${errorType}: ${errorMessage}`);
  const signalText = /signal: ([a-z ]+)/.exec(errorMessage)?.[1]?.trim();
  const spared = signalText === "killed" ? memorySpared(log) : null;
  if (spared !== null) return failure("exited", `the function's process was killed (signal: killed) with ${spared} MB in use, by itself or what it has started`, { signal: "SIGKILL" });
  // What Lambda kills, it kills for memory: a time-out has a name of its own.
  if (signalText === "killed") return failure("out-of-memory", "the function ran out of memory (signal: killed)", { signal: "SIGKILL" });
  if (signalText !== undefined) return failure("exited", `the function's process ended (signal: ${signalText})`, { signal: signals[signalText] ?? signalText });
  const status = /exit status (\d+)/.exec(errorMessage)?.[1];
  return failure("exited", `the function's process ended (${status === undefined ? "without a reason" : `exit status ${status}`})`, { exitCode: Number(status ?? 0) });
}

/** Lambda's report of what ran out of memory has nearly all of it as used. */
const outOfMemoryShareMin = 0.75;

/** What of a function's memory was used, where that was too little to be killed for: "249 of 1769". */
function memorySpared(log: string | null): string | null {
  const report = log === null ? null : parseReport(log);
  if (report === null || report.maxMemoryMb === null || report.maxMemoryMb >= outOfMemoryShareMin * report.memoryMb) return null;
  return `${report.maxMemoryMb} of ${report.memoryMb}`;
}

function parsedDetails(code: string, details: string): { readonly errorType: string; readonly errorMessage: string } {
  try {
    const { errorType, errorMessage } = JSON.parse(details) as { readonly errorType?: unknown; readonly errorMessage?: unknown };
    return { errorType: typeof errorType === "string" ? errorType : code, errorMessage: typeof errorMessage === "string" ? errorMessage : details };
  } catch {
    return { errorType: code, errorMessage: details };
  }
}
