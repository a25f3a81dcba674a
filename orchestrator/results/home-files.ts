/** Names in a home. */
export const homeFiles = {
  journal: "results.jsonl",
  /** Compacted journal, until it takes the journal's place. */
  nextJournal: "results.jsonl.compacted",
  failed: "failed.jsonl",
  stale: "stale.jsonl",
  damaged: "damaged.txt",
  record: "home.json",
  inputs: "inputs.jsonl",
  /** Which lines of older lists belong to which item of the current one; made anew from the list by each run. */
  reused: "reused",
  /** Of a home whose results go to S3 too: where, what was put there, and what is made on the way there. */
  output: "s3.json",
  outputParts: "s3-parts.jsonl",
  places: "s3-places",
  nextPart: "s3-part.next",
  lock: "lock",
  runs: "runs",
} as const;

/** The journal of another task, until that task returns. */
export function journalOfTask(fingerprint: string): string {
  return `results.${fingerprint.slice(0, 8)}.jsonl`;
}
