import { SplitrunError } from "../orchestrator/errors.ts";
import { S3Failure } from "../task-manager/s3-client.ts";

/** What was asked of AWS: `lambda:CreateFunction`, as policies name it. */
export type Action = `${"lambda" | "iam" | "logs" | "s3" | "ec2"}:${string}`;

interface AwsError extends Error {
  readonly $metadata?: { readonly httpStatusCode?: number };
  readonly code?: string;
  readonly address?: string;
  readonly port?: number;
}

/** What AWS refused, as what the user can do about it. */
export function deployFailure(cause: unknown, action: Action): SplitrunError {
  if (cause instanceof SplitrunError) return cause;
  // It says the place, the reason and the way out already.
  if (cause instanceof S3Failure) return failure(cause.code, cause.message, action, cause);
  if (!(cause instanceof Error)) return failure("AWS_FAILED", `${action} failed: ${String(cause)}`, action, cause);
  const error = cause as AwsError;
  const known = rules.find(({ fits }) => fits(error));
  if (known !== undefined) return failure(known.code, known.message(error, action), action, cause);
  return failure("AWS_FAILED", `${action} failed: ${error.name}: ${error.message}; what was done stays, and the same command goes on from there`, action, cause);
}

interface Rule {
  readonly code: string;
  fits(error: AwsError): boolean;
  message(error: AwsError, action: Action): string;
}

const refusedCredentials = /^(UnrecognizedClientException|InvalidClientTokenId|InvalidSignatureException|SignatureDoesNotMatch|IncompleteSignature|MissingAuthenticationToken(Exception)?|InvalidAccessKeyId|AuthFailure)$/;
const expired = /^(ExpiredToken(Exception)?|RequestExpired|TokenRefreshRequired)$/;
const unreachable = /^(ECONNREFUSED|ECONNRESET|ENOTFOUND|EAI_AGAIN|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|EPIPE)$/;
const login = "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or log in with `aws sso login`";

const rules: readonly Rule[] = [
  {
    code: "AWS_CREDENTIALS",
    fits: ({ name, message }) => name === "CredentialsProviderError" || message.startsWith("Could not load credentials"),
    message: ({ message }) => `no AWS credentials were found (${oneLine(message)}): ${login}`,
  },
  {
    code: "AWS_REGION",
    fits: ({ message }) => message === "Region is missing",
    message: () => "no AWS region is set: give --region, or set AWS_REGION (AWS_DEFAULT_REGION is not read), or region in the profile",
  },
  {
    code: "AWS_CREDENTIALS",
    fits: ({ name }) => expired.test(name),
    message: () => "the AWS credentials have expired: log in again",
  },
  {
    code: "AWS_CREDENTIALS",
    fits: ({ name }) => refusedCredentials.test(name),
    message: ({ name }) => `AWS does not know these credentials (${name}): ${login}`,
  },
  {
    code: "AWS_PERMISSION",
    fits: ({ name, $metadata }) => /^(AccessDenied(Exception)?|UnauthorizedOperation|NotAuthorized)$/.test(name) || $metadata?.httpStatusCode === 403,
    message: ({ message }, action) => {
      const { user, denied, resource } = /User: (?<user>\S+) is not authorized to perform: (?<denied>[\w:-]+)(?: on resource: (?<resource>\S+))?/.exec(message)?.groups ?? {};
      const who = user === undefined ? "these credentials" : user;
      return `${who} may not ${denied ?? action}${resource === undefined ? "" : ` on ${resource}`}: allow it (docs/backends/lambda.md has the whole policy), or deploy with another profile`;
    },
  },
  {
    code: "AWS_CODE_STORAGE",
    fits: ({ name }) => name === "CodeStorageExceededException",
    message: () => "the account's storage for Lambda code in this region is full: delete functions or old versions, or ask for a higher quota (Function and layer storage)",
  },
  {
    code: "AWS_QUOTA",
    fits: ({ name, message }) => /^(LimitExceeded(Exception)?|ServiceQuotaExceededException)$/.test(name) || /UnreservedConcurrentExecution|'MemorySize' value failed to satisfy constraint/.test(message),
    message: ({ message }, action) => {
      const wayOut = /UnreservedConcurrentExecution/.test(message)
        ? "reserve fewer (at least 100 have to stay unreserved), or ask for a higher quota (Concurrent executions)"
        : "delete what is not needed, or ask for a higher quota";
      return `${action} would exceed a quota of the account: ${oneLine(message)}; ${wayOut}`;
    },
  },
  {
    code: "PACKAGE_TOO_LARGE",
    fits: ({ name, message }) => name === "RequestEntityTooLargeException" || /Unzipped size must be smaller/.test(message),
    message: ({ message }) => `${oneLine(message)}: leave the model out and let jobs stage it (--staging-bucket), or use a container image (infra/Dockerfile)`,
  },
  {
    code: "AWS_BUSY",
    fits: ({ name }) => /^(TooManyRequestsException|Throttling(Exception)?|RequestLimitExceeded|ResourceConflictException|PreconditionFailedException|ConcurrentModification|OperationAbortedException)$/.test(name),
    message: ({ message }, action) => `${action}: ${oneLine(message)}; somebody else may be deploying: try again in a minute, it goes on from there`,
  },
  {
    code: "AWS_UNREACHABLE",
    fits: ({ name, code }) => unreachable.test(code ?? "") || unreachable.test(name) || name === "TimeoutError",
    message: ({ message }, action) => `${action}: AWS does not answer (${oneLine(message)}): check the network, the region and AWS_ENDPOINT_URL`,
  },
];

function oneLine(text: string): string {
  return text.replaceAll(/\s+/g, " ").trim();
}

function failure(code: string, message: string, action: Action, cause: unknown): SplitrunError {
  return new SplitrunError(message, { code, value: action, cause });
}
