import type { ItemErrorCode, Stage } from "../protocol.ts";

export interface ItemFailureOptions {
  readonly code: ItemErrorCode;
  readonly stage: Stage;
  /** May another try end better? */
  readonly retryable: boolean;
  /** Of the HTTP answer, where that is the failure. */
  readonly status?: number;
  readonly cause?: unknown;
}

/** One item cannot be done. Leaves its stage as a value: the neighbours go on. The message names no secret. */
export class ItemFailure extends Error {
  readonly code: ItemErrorCode;
  readonly stage: Stage;
  readonly retryable: boolean;
  readonly status: number | null;

  constructor(message: string, options: ItemFailureOptions) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "ItemFailure";
    this.code = options.code;
    this.stage = options.stage;
    this.retryable = options.retryable;
    this.status = options.status ?? null;
  }
}

/** The host asked to be left alone (429, or 503 with Retry-After): the item was not tried. */
export class HostBusy extends Error {
  /** As `hostOf` names it. */
  readonly host: string;
  /** null: it did not say. */
  readonly retryAfterMs: number | null;

  constructor(host: string, retryAfterMs: number | null) {
    super(`${host} asked for fewer requests`);
    this.name = "HostBusy";
    this.host = host;
    this.retryAfterMs = retryAfterMs;
  }
}
