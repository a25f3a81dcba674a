import type { WorkError } from "../tasks/types.ts";
import { ItemFailure } from "./failure.ts";

export function workErrorOf({ code, stage, message, retryable }: ItemFailure): WorkError {
  return { code, stage, message, retryable };
}

/** What preprocessing threw, as the item's error. */
export function preprocessFailed(error: unknown): WorkError {
  if (error instanceof ItemFailure) return workErrorOf(error);
  const message = error instanceof Error ? error.message : String(error);
  return { code: "PREPROCESS_FAILED", stage: "preprocess", message, retryable: false };
}
