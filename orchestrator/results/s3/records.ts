import * as z from "zod";
import { sourceIdentity } from "../home-record.ts";
import { processIdentity } from "../process-identity.ts";

const schemaVersion = 1;
const count = z.number().int().nonnegative();
const sha256 = z.string().regex(/^[0-9a-f]{64}$/);

export const outputFormat = z.enum(["jsonl", "csv", "parquet"]);
export const outputOrder = z.enum(["completion", "input"]);

/** A list that was read to its end. `digest`: of the keys, in any order. */
const wholeList = z.object({
  count,
  digest: z.string().regex(/^[0-9a-f]{32}$/),
  /** First items of its pieces. */
  pieces: z.array(count),
});
export type WholeList = z.infer<typeof wholeList>;

/** `_splitrun/run.json`: what somebody needs who has nothing else. */
export const runRecord = z.object({
  schema: z.literal(schemaVersion),
  /** The home that the lines come from; each rebuilding makes a new one, and the older ones count no more. */
  home: z.object({ id: z.string(), host: z.string(), dir: z.string() }),
  runId: z.string(),
  /** Of the task. */
  fingerprint: z.string(),
  /** As the list was read first. */
  source: sourceIdentity,
  partItems: count,
  format: outputFormat,
  /** null: its copy is not complete. */
  list: wholeList.nullable(),
  /** As the run's directory has it: secrets as references. */
  job: z.unknown(),
  /** Files of the first machine that the job names: which field of it, and what has their content. */
  files: z.array(z.object({ field: z.string(), name: z.string() })),
});
export type RunRecord = z.infer<typeof runRecord>;

/** `_splitrun/lease.json`: who writes here. */
export const leaseRecord = processIdentity.extend({
  schema: z.literal(schemaVersion),
  nonce: z.string(),
  since: z.string(),
  /** By the owner's clock. */
  renewed: z.string(),
  released: z.boolean(),
});
export type LeaseRecord = z.infer<typeof leaseRecord>;

export const partRecord = z.object({
  /** Below the prefix. */
  name: z.string(),
  /** Indexes of its items, the last one excluded. */
  first: count,
  end: count,
  succeeded: count,
  failed: count,
  bytes: count,
  sha256,
  etag: z.string(),
});
export type PartRecord = z.infer<typeof partRecord>;

/** `manifest.json`: written when every item has its result or error, before `_SUCCESS`. */
export const manifest = z.object({
  schema: z.literal(schemaVersion),
  runId: z.string(),
  fingerprint: z.string(),
  items: count,
  succeeded: count,
  failed: count,
  /** Of the list's keys, in any order. */
  digest: z.string(),
  format: outputFormat,
  order: outputOrder,
  partItems: count,
  parts: z.array(partRecord),
  /** The same items as lines of the journal, where the parts have another format. */
  lines: z.array(partRecord).optional(),
});
export type Manifest = z.infer<typeof manifest>;

export const recordsSchema = schemaVersion;
