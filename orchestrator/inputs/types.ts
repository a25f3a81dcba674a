import type { ItemErrorCode, JsonValue } from "../../task-manager/protocol.ts";
import type { S3Requests } from "../../task-manager/s3-client.ts";

/** One input as its source gives it; its index is its place in the list. */
export interface SourceItem {
  readonly input: JsonValue;
  readonly id?: string;
  /** Relative cost: bytes for files, or what the user's column says. */
  readonly weight?: number;
  /** Where it costs nothing: local size and time, a listing's ETag. */
  readonly version?: string;
  /** The line cannot be an item; it still takes an index, and ends as this error. */
  readonly error?: { readonly code: ItemErrorCode; readonly message: string };
}

/** What tells, later, whether a source is still the same. */
export interface SourceIdentity {
  readonly kind: "text" | "csv" | "jsonl" | "parquet" | "glob" | "folder" | "stdin" | "list";
  /** Absolute path, pattern, or digest of a list. */
  readonly from: string;
  readonly size: number | null;
  readonly modifiedMs: number | null;
}

export interface ItemSource {
  readonly identity: SourceIdentity;
  /** A regular file or a list in the job: can be read again. Others are copied to the home's inputs.jsonl. */
  readonly rereadable: boolean;
  /** The next items, at most `count`; fewer than asked for is not the end, none is. Holds no more than it must. */
  read(count: number): Promise<readonly SourceItem[]>;
  /** Estimate of the items not read yet; null: unknown. */
  remaining(): number | null;
  /** Asked of S3 so far, retries too: what they cost is the run's. Absent: it is not there. */
  readonly storageRequests?: () => S3Requests;
  close(): Promise<void>;
}
