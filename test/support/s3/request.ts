import type { IncomingHttpHeaders, IncomingMessage } from "node:http";
import { errors } from "./error.ts";

/** A request as S3 reads it: bucket and key from the path, parameters from the query, named by its operation. */
export interface S3Request {
  readonly operation: Operation;
  readonly method: string;
  /** As sent, without the query. */
  readonly path: string;
  readonly bucket: string;
  readonly key: string;
  readonly query: ReadonlyMap<string, string>;
  readonly headers: IncomingHttpHeaders;
}

export type Operation =
  | "CreateBucket" | "HeadBucket" | "DeleteBucket" | "GetBucketLocation" | "ListObjectsV2" | "ListMultipartUploads" | "DeleteObjects"
  | "PutObject" | "CopyObject" | "GetObject" | "HeadObject" | "DeleteObject"
  | "CreateMultipartUpload" | "UploadPart" | "CompleteMultipartUpload" | "AbortMultipartUpload" | "ListParts"
  | "Unknown";

export function parseRequest(message: IncomingMessage): S3Request {
  const [path = "/", search = ""] = splitOnce(message.url ?? "/", "?");
  // Not by the URL class, which would tidy away `..` and `//`: both may stand in a key.
  const [bucket = "", key = ""] = splitOnce(path.slice(1), "/");
  const query = parseQuery(search);
  const method = message.method ?? "GET";
  const named = { method, bucket: decoded(bucket), key: decoded(key), query, headers: message.headers };
  return { ...named, path, operation: operationOf(named) };
}

export function header(request: S3Request, name: string): string | null {
  const value = request.headers[name];
  return value === undefined ? null : Array.isArray(value) ? value.join(", ") : value;
}

function parseQuery(search: string): ReadonlyMap<string, string> {
  if (search === "") return new Map();
  return new Map(search.split("&").map((pair) => {
    const [name = "", value = ""] = splitOnce(pair, "=");
    return [decoded(name), decoded(value)];
  }));
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw errors.invalidArgument("not percent-encoded UTF-8");
  }
}

function splitOnce(text: string, separator: string): readonly string[] {
  const at = text.indexOf(separator);
  return at === -1 ? [text] : [text.slice(0, at), text.slice(at + 1)];
}

function operationOf({ method, bucket, key, query, headers }: Omit<S3Request, "operation" | "path">): Operation {
  if (bucket === "") return "Unknown";
  if (key === "") {
    switch (method) {
      case "PUT": return query.size === 0 || query.has("x-id") ? "CreateBucket" : "Unknown";
      case "HEAD": return "HeadBucket";
      case "DELETE": return "DeleteBucket";
      case "POST": return query.has("delete") ? "DeleteObjects" : "Unknown";
      case "GET":
        if (query.has("location")) return "GetBucketLocation";
        if (query.has("uploads")) return "ListMultipartUploads";
        return query.get("list-type") === "2" ? "ListObjectsV2" : "Unknown";
      default: return "Unknown";
    }
  }
  const ofUpload = query.has("uploadId");
  switch (method) {
    case "PUT":
      if (ofUpload) return headers["x-amz-copy-source"] === undefined ? "UploadPart" : "Unknown";
      return headers["x-amz-copy-source"] === undefined ? "PutObject" : "CopyObject";
    case "GET": return ofUpload ? "ListParts" : "GetObject";
    case "HEAD": return "HeadObject";
    case "DELETE": return ofUpload ? "AbortMultipartUpload" : "DeleteObject";
    case "POST": return ofUpload ? "CompleteMultipartUpload" : query.has("uploads") ? "CreateMultipartUpload" : "Unknown";
    default: return "Unknown";
  }
}
