/** What a service refuses: its status, its name (`x-amzn-errortype`, `<Code>`), its words. */
export class ServiceError extends Error {
  readonly status: number;
  readonly code: string;
  /** Further fields of the body, such as `Reason`. */
  readonly fields: Readonly<Record<string, string>>;
  readonly headers: Readonly<Record<string, string>>;

  constructor(status: number, code: string, message: string, more: { readonly fields?: Readonly<Record<string, string>>; readonly headers?: Readonly<Record<string, string>> } = {}) {
    super(message);
    this.name = "ServiceError";
    this.status = status;
    this.code = code;
    this.fields = more.fields ?? {};
    this.headers = more.headers ?? {};
  }
}

/** As Lambda names them (`ThrottleReason` of its model). */
export type ThrottleReason =
  | "ConcurrentInvocationLimitExceeded"
  | "ReservedFunctionConcurrentInvocationLimitExceeded"
  | "FunctionInvocationRateLimitExceeded"
  | "ReservedFunctionInvocationRateLimitExceeded"
  | "CallerRateLimitExceeded";

export const errors = {
  notFound: (message: string) => new ServiceError(404, "ResourceNotFoundException", message),
  functionNotFound: (arn: string) => new ServiceError(404, "ResourceNotFoundException", `Function not found: ${arn}`),
  conflict: (message: string) => new ServiceError(409, "ResourceConflictException", message),
  invalid: (message: string) => new ServiceError(400, "InvalidParameterValueException", message),
  precondition: () =>
    new ServiceError(412, "PreconditionFailedException", "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the latest Revision Id"),
  throttled: (reason: ThrottleReason) =>
    new ServiceError(429, "TooManyRequestsException", "Rate Exceeded.", { fields: { Reason: reason }, headers: { "retry-after": "1" } }),
  tooLarge: (bytesMax: number, operation: string) =>
    new ServiceError(413, "RequestEntityTooLargeException", `Request must be smaller than ${bytesMax} bytes for the ${operation} operation`),
  denied: (accountId: string, action: string) =>
    new ServiceError(403, action.startsWith("iam:") ? "AccessDenied" : "AccessDeniedException",
      `User: arn:aws:iam::${accountId}:user/emulated is not authorized to perform: ${action} on resource: * because no identity-based policy allows the ${action} action`),
  notEmulated: (what: string) => new ServiceError(400, "NotEmulatedException", `This emulator does not have: ${what}`),
} as const;
