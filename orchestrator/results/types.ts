import type { JsonValue, ItemErrorCode, Ranges, Stage } from "../../task-manager/protocol.ts";
import type { ItemSource, SourceIdentity, SourceItem } from "../inputs/types.ts";

export interface OutcomeError {
  readonly code: ItemErrorCode;
  readonly stage: Stage;
  readonly message: string;
}

/** One line of the journal, keys in this order. Exactly one of `output` and `error`. */
export interface Outcome {
  readonly index: number;
  readonly id?: string;
  readonly input: JsonValue;
  readonly version?: string;
  readonly output?: JsonValue;
  readonly error?: OutcomeError;
  readonly attempts: number;
}

export interface HomeOptions {
  readonly dir: string;
  readonly mode: "run" | "resume";
  /** Of the task: whatever changes results. Another one reuses nothing. */
  readonly fingerprint: string;
  readonly source: SourceIdentity;
  /** Set what is there aside and start anew. */
  readonly fresh: boolean;
  /** Errors of earlier runs are tried again. `run` always does; `resume` only when asked. */
  readonly retryFailed: boolean;
  readonly takeOver: boolean;
  /** A `resume` whose list was not read to its end before may list a folder, a pattern or a prefix again; else it is refused. */
  readonly listAgain: boolean;
}

/** What of a batch of items is in the journal already. */
export interface Matched {
  readonly done: Ranges;
  readonly failedDone: number;
}

/** The directory in which a job's results live, locked by this process. */
export interface Home {
  readonly dir: string;
  /** What the opener should tell the user: journal cut, older task set aside. */
  readonly notes: readonly string[];
  /** The list is the run's before, item by item: its indexes are. */
  readonly isResumed: boolean;
  /**
   * The list as this run has to read it: the source itself where it can be read again; else a source that copies what
   * it reads to inputs.jsonl, or on `resume` that copy. The caller closes it, and the source given.
   */
  list(source: ItemSource): Promise<ItemSource>;
  /**
   * Registers the next items of the list (in order, none left out) and says which are done. Lines of an older
   * list are given to equal items in list order and written again under their new index when the run ends.
   */
  match(first: number, items: readonly SourceItem[]): Matched;
  /**
   * The list is complete: its count and digest go to home.json.
   * @throws SplitrunError SOURCE_CHANGED when a run that is resumed had read more of it
   */
  inputEnded(): void;
  /** What was appended and is not on disk yet: the caller pauses while it is much. */
  readonly pendingBytes: number;
  /** Appends and syncs in groups; `onStored` is called with each batch number, in order, once it is on disk. */
  append(batch: number, outcomes: readonly Outcome[]): void;
  onStored(listener: (batch: number) => void): void;
  /** Once: the disk is full or gone. Nothing of `batch` and later counts as stored. */
  onStoreFailed(listener: (batch: number, error: Error) => void): void;
  /** Directory of this run, created 0700, with the job as it is recorded in it. @throws SplitrunError HOME_NOT_WRITABLE */
  createRunDir(runId: string, job: unknown): Promise<string>;
  /** Ends the run: waits for the writes, compacts where lines were reused and the list is complete, rewrites failed.jsonl. */
  finish(options: { readonly complete: boolean }): Promise<void>;
  /** Gives the lock back. */
  close(): Promise<void>;
}
