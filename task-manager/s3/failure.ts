import { s3Url } from "./place.ts";
import type { S3Place } from "./place.ts";

export type S3FailureCode =
  | "S3_NO_SUCH_BUCKET" | "S3_NO_SUCH_KEY" | "S3_ARCHIVED"
  | "S3_ACCESS_DENIED" | "S3_NO_CREDENTIALS" | "S3_CREDENTIALS_EXPIRED" | "S3_CREDENTIALS_REFUSED" | "S3_CLOCK" | "S3_ENCRYPTION"
  | "S3_NO_REGION" | "S3_WRONG_REGION"
  /** A condition of the request does not hold: something is there, or is another one by now. */
  | "S3_PRECONDITION"
  | "S3_CONFLICT" | "S3_SLOW_DOWN" | "S3_SERVER" | "S3_TIMEOUT" | "S3_UNREACHABLE" | "S3_CUT" | "S3_DAMAGED"
  | "S3_TOO_LARGE" | "S3_RANGE" | "S3_UNSUPPORTED" | "S3_REFUSED" | "S3_ABORTED";

export type S3Operation = "get" | "head" | "list" | "put" | "delete";

export interface S3FailureContext {
  readonly operation: S3Operation;
  readonly place: S3Place;
  /** That the credentials come from; null: the SDK's own choice. */
  readonly profile: string | null;
}

interface S3FailureOptions {
  readonly code: S3FailureCode;
  readonly retryable: boolean;
  readonly status: number | null;
  readonly retryAfterMs?: number | null;
  /** Where the answer says that the bucket is. */
  readonly bucketRegion?: string | null;
  readonly cause: unknown;
}

/** A request that S3 did not do. The message has the place, the reason and the way out, and no secret. */
export class S3Failure extends Error {
  readonly code: S3FailureCode;
  /** May another try end better? */
  readonly retryable: boolean;
  /** null: there was no answer. */
  readonly status: number | null;
  readonly retryAfterMs: number | null;
  readonly bucketRegion: string | null;

  constructor(message: string, options: S3FailureOptions) {
    super(message, { cause: options.cause });
    this.name = "S3Failure";
    this.code = options.code;
    this.retryable = options.retryable;
    this.status = options.status;
    this.retryAfterMs = options.retryAfterMs ?? null;
    this.bucketRegion = options.bucketRegion ?? null;
  }
}

/** The caller's signal ended it. */
export function abortedFailure(place: S3Place, cause: unknown): S3Failure {
  return new S3Failure(`${s3Url(place)}: the request was ended from this side`, { code: "S3_ABORTED", retryable: false, status: null, cause });
}

interface Meaning {
  readonly code: S3FailureCode;
  readonly retryable: boolean;
  readonly message: (context: S3FailureContext, told: Told) => string;
}

/** What an error of the SDK says, whichever of its many forms it has. */
interface Told {
  readonly name: string;
  readonly message: string;
  readonly status: number | null;
  readonly systemCode: string;
  readonly bucketRegion: string | null;
}

const permission: Readonly<Record<S3Operation, string>> = {
  get: "s3:GetObject", head: "s3:GetObject", list: "s3:ListBucket", put: "s3:PutObject", delete: "s3:DeleteObject",
};

const meaning = (code: S3FailureCode, message: Meaning["message"], retryable = false): Meaning => ({ code, retryable, message });

const noSuchKey = meaning("S3_NO_SUCH_KEY", () => "there is no such object");
const accessDenied = meaning("S3_ACCESS_DENIED", ({ operation, place }) => {
  const resource = operation === "list" ? place.bucket : `${place.bucket}/${place.key}`;
  const hidden = operation === "get" || operation === "head" ? "; without s3:ListBucket on the bucket, an object that does not exist looks the same" : "";
  return `access denied; the credentials in use need ${permission[operation]} on arn:aws:s3:::${resource}${hidden}`;
});
const expired = meaning("S3_CREDENTIALS_EXPIRED", () => "the credentials in use have expired; renew them (aws sso login, or new temporary ones) and resume");
const refused = meaning("S3_CREDENTIALS_REFUSED", (_context, { name }) => `the credentials in use are refused (${name}); check access key, secret and session token, and the profile they come from`);
const noCredentials = meaning("S3_NO_CREDENTIALS", ({ profile }, { message }) =>
  `no credentials${profile === null ? "" : ` from the profile ${profile}`} (${message}); set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or log in (aws sso login)`);
const wrongRegion = meaning("S3_WRONG_REGION", ({ place }, { bucketRegion }) =>
  `the bucket is in another region${bucketRegion === null ? "" : `, ${bucketRegion}`}; set AWS_REGION to that of ${place.bucket}`);
const precondition = meaning("S3_PRECONDITION", ({ operation }) => (operation === "put" ? "an object is there already, or another one by now" : "the object is another one by now"));
const conflict = meaning("S3_CONFLICT", () => "another request for the same object was under way", true);
const slowDown = meaning("S3_SLOW_DOWN", () => "S3 asked for fewer requests", true);
const server = meaning("S3_SERVER", (_context, { name, status }) => `S3 failed (${status ?? 200} ${name})`, true);
const timeout = meaning("S3_TIMEOUT", () => "nothing came in time", true);
const damaged = meaning("S3_DAMAGED", () => "the bytes were damaged on the way: their checksum does not fit", true);
const unsupported = meaning("S3_UNSUPPORTED", (_context, { name }) =>
  `this store does not take the request (${name}); if it is S3-compatible and knows no checksums, set them to when-required (or AWS_REQUEST_CHECKSUM_CALCULATION=WHEN_REQUIRED)`);
const encryption = meaning("S3_ENCRYPTION", (_context, { name }) => `the object's KMS key cannot be used (${name}); the credentials in use need kms:Decrypt and kms:GenerateDataKey on it`);

const meanings: Readonly<Record<string, Meaning>> = {
  NoSuchBucket: meaning("S3_NO_SUCH_BUCKET", ({ place }) => `there is no bucket ${place.bucket}; check its name, and the account and endpoint in use`),
  NoSuchKey: noSuchKey,
  InvalidObjectState: meaning("S3_ARCHIVED", () => "the object is in an archive; restore it first"),
  AccessDenied: accessDenied,
  Forbidden: accessDenied,
  AllAccessDisabled: accessDenied,
  AccountProblem: accessDenied,
  ExpiredToken: expired,
  ExpiredTokenException: expired,
  InvalidAccessKeyId: refused,
  SignatureDoesNotMatch: refused,
  InvalidToken: refused,
  InvalidClientTokenId: refused,
  UnrecognizedClientException: refused,
  CredentialsProviderError: noCredentials,
  TokenProviderError: noCredentials,
  RequestTimeTooSkewed: meaning("S3_CLOCK", () => "this machine's clock is more than 15 minutes off; set it"),
  PermanentRedirect: wrongRegion,
  TemporaryRedirect: wrongRegion,
  AuthorizationHeaderMalformed: wrongRegion,
  IllegalLocationConstraintException: wrongRegion,
  PreconditionFailed: precondition,
  ConditionalRequestConflict: conflict,
  OperationAborted: conflict,
  SlowDown: slowDown,
  ServiceUnavailable: slowDown,
  Throttling: slowDown,
  ThrottlingException: slowDown,
  TooManyRequests: slowDown,
  RequestLimitExceeded: slowDown,
  InternalError: server,
  RequestTimeout: timeout,
  TimeoutError: timeout,
  BadDigest: damaged,
  XAmzContentSHA256Mismatch: damaged,
  InvalidRange: meaning("S3_RANGE", () => "it ends before the part that was asked for"),
  MissingContentLength: unsupported,
  NotImplemented: unsupported,
  "KMS.DisabledException": encryption,
  "KMS.NotFoundException": encryption,
  "KMS.KMSInvalidStateException": encryption,
  "KMS.AccessDeniedException": encryption,
};

const byStatus: Readonly<Record<number, Meaning>> = {
  301: wrongRegion, 307: wrongRegion, 403: accessDenied, 404: noSuchKey, 408: timeout, 409: conflict, 412: precondition, 429: slowDown, 503: slowDown,
};

const byMessage: readonly (readonly [RegExp, Meaning])[] = [
  [/^Region is missing/, meaning("S3_NO_REGION", () => "no region was found; set AWS_REGION, or region in the profile (AWS_DEFAULT_REGION is not read)")],
  [/Could not load credentials|credential is not valid|Resolved credential object/i, noCredentials],
  [/^Checksum mismatch/, damaged],
];

/** What an error of the SDK means. What is an `S3Failure` already passes through. */
export function s3FailureOf(error: unknown, context: S3FailureContext): S3Failure {
  if (error instanceof S3Failure) return error;
  const told = toldBy(error);
  const { code, retryable, message } = meaningOf(told);
  return new S3Failure(`${s3Url(context.place)}: ${message(context, told)}`, {
    code, retryable, status: told.status, retryAfterMs: retryAfterOf(error), bucketRegion: told.bucketRegion, cause: error,
  });
}

function meaningOf(told: Told): Meaning {
  // The SDK calls these time-outs.
  if (told.systemCode === "ECONNRESET" || told.systemCode === "EPIPE") return connectionMeaning(told);
  const named = meanings[told.name];
  if (named !== undefined) return named;
  if (told.status === null) return connectionMeaning(told);
  if (told.bucketRegion !== null && (told.status === 301 || told.status === 307 || told.status === 400)) return wrongRegion;
  const status = byStatus[told.status];
  if (status !== undefined) return status;
  if (told.status >= 500) return server;
  return meaning("S3_REFUSED", (_context, { name, message, status: answered }) => `refused with ${answered ?? "no status"} ${name}${message === "" ? "" : `: ${message}`}`);
}

/** No answer: the SDK could not ask, or the connection did not hold. */
function connectionMeaning({ systemCode, message }: Told): Meaning {
  const found = byMessage.find(([pattern]) => pattern.test(message));
  if (found !== undefined) return found[1];
  if (systemCode === "ENOTFOUND") {
    return meaning("S3_UNREACHABLE", () => "the endpoint's host name does not resolve; check region, bucket name and endpoint");
  }
  if (/^(CERT_|DEPTH_ZERO_|SELF_SIGNED_|UNABLE_TO_|ERR_TLS_|HOSTNAME_MISMATCH)/.test(systemCode)) {
    return meaning("S3_UNREACHABLE", () => `no trusted TLS connection (${systemCode}); for own authorities, set NODE_EXTRA_CA_CERTS`);
  }
  if (systemCode !== "") return meaning("S3_UNREACHABLE", () => `the connection failed (${systemCode})`, true);
  return meaning("S3_REFUSED", () => `the request could not be made: ${message}`);
}

function toldBy(error: unknown): Told {
  const { name, code, $metadata, $response, Region } = fieldsOf(error);
  const status = numberOf(fieldsOf($metadata)["httpStatusCode"]);
  const header = fieldsOf(fieldsOf($response)["headers"])["x-amz-bucket-region"];
  return {
    name: typeof name === "string" ? name : "",
    message: textOf(error),
    status: status !== null && status >= 300 ? status : null,
    systemCode: typeof code === "string" && /^[A-Z_]{4,}$/.test(code) ? code : "",
    bucketRegion: typeof header === "string" ? header : typeof Region === "string" ? Region : null,
  };
}

function retryAfterOf(error: unknown): number | null {
  const header = fieldsOf(fieldsOf(fieldsOf(error)["$response"])["headers"])["retry-after"];
  return typeof header === "string" && /^\d{1,6}$/.test(header) ? Number(header) * 1000 : null;
}

/** S3's own sentence, which says more than the code where the code says little. */
function textOf(error: unknown): string {
  const message = error instanceof Error ? error.message : "";
  return message === "UnknownError" ? "" : message.slice(0, 300);
}

function fieldsOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null ? (value as Readonly<Record<string, unknown>>) : {};
}

function numberOf(value: unknown): number | null {
  return typeof value === "number" ? value : null;
}
