/** What the user can put right: the thing, the value, the way out. */

export interface SplitrunErrorOptions {
  readonly code: string;
  /** Path of the field in the job, or the flag: `task.infer.batch`. */
  readonly field?: string;
  readonly value?: unknown;
  readonly cause?: unknown;
}

/** Thrown before a run starts (the command line exits with 2), with a `code` that scripts can test. */
export class SplitrunError extends Error {
  readonly code: string;
  readonly field: string | undefined;
  readonly value: unknown;

  constructor(message: string, options: SplitrunErrorOptions) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "SplitrunError";
    this.code = options.code;
    this.field = options.field;
    this.value = options.value;
  }
}
