/** What the server refuses, as S3 says it: `<Error><Code>…</Code><Message>…</Message>…</Error>`. */
export class S3Error extends Error {
  readonly status: number;
  readonly code: string;
  /** Further elements of the answer, such as `Region`. */
  readonly details: Readonly<Record<string, string>>;
  readonly headers: Readonly<Record<string, string>>;

  constructor(status: number, code: string, message: string, more: { readonly details?: Readonly<Record<string, string>>; readonly headers?: Readonly<Record<string, string>> } = {}) {
    super(message);
    this.name = "S3Error";
    this.status = status;
    this.code = code;
    this.details = more.details ?? {};
    this.headers = more.headers ?? {};
  }
}

export const errors = {
  accessDenied: (message = "Access Denied") => new S3Error(403, "AccessDenied", message),
  noSuchBucket: (bucket: string) => new S3Error(404, "NoSuchBucket", "The specified bucket does not exist", { details: { BucketName: bucket } }),
  noSuchKey: (key: string) => new S3Error(404, "NoSuchKey", "The specified key does not exist.", { details: { Key: key } }),
  noSuchUpload: () => new S3Error(404, "NoSuchUpload", "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed."),
  preconditionFailed: (condition: string) =>
    new S3Error(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold", { details: { Condition: condition } }),
  conflict: (key: string) =>
    new S3Error(409, "ConditionalRequestConflict", "The conditional request cannot succeed due to a conflicting operation against this resource.", { details: { Key: key } }),
  slowDown: () => new S3Error(503, "SlowDown", "Please reduce your request rate."),
  notImplemented: (what: string) => new S3Error(501, "NotImplemented", `This test server does not have: ${what}`),
  invalidArgument: (message: string) => new S3Error(400, "InvalidArgument", message),
  malformedXml: () => new S3Error(400, "MalformedXML", "The XML you provided was not well-formed or did not validate against our published schema"),
} as const;
