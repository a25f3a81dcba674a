import { pathToFileURL } from "node:url";
import type { FunctionContext, JsonValue, UserFunction } from "../protocol.ts";
import type { WorkError } from "./types.ts";
import { TaskRefused } from "./types.ts";
import { asJson, resultBytesMax, whyNotJson } from "./json-value.ts";

export type FunctionOutcome =
  | { readonly output: JsonValue; readonly error?: never }
  | { readonly error: WorkError; readonly output?: never };

/** @throws TaskRefused when the module has no function as its default export, or throws while it loads. */
export async function loadFunction(modulePath: string): Promise<UserFunction> {
  let loaded: { readonly default?: unknown };
  try {
    loaded = (await import(pathToFileURL(modulePath).href)) as { readonly default?: unknown };
  } catch (cause) {
    throw new TaskRefused(`the module could not be loaded: ${messageOf(cause)}`, {
      code: "MODULE_INVALID",
      field: "task.module",
      cause,
    });
  }
  if (typeof loaded.default !== "function") {
    throw new TaskRefused("the module has no default export that is a function: write `export default async (item, context) => …`", {
      code: "MODULE_INVALID",
      field: "task.module",
    });
  }
  return loaded.default as UserFunction;
}

/** One call, in which whatever goes wrong is the item's error. A throw may end better another time; a wrong value will not. */
export async function callFunction(call: UserFunction, item: JsonValue, context: FunctionContext): Promise<FunctionOutcome> {
  let value: unknown;
  try {
    value = await call(item, context);
  } catch (thrown) {
    return failed("FUNCTION_THREW", messageOf(thrown), !(thrown instanceof Error && "retryable" in thrown && thrown.retryable === false));
  }
  const why = whyNotJson(value);
  if (why !== null) return failed("FUNCTION_RESULT", `${why}; return a JSON value`, false);
  if (typeof value === "object" || typeof value === "string") {
    const bytes = Buffer.byteLength(JSON.stringify(value));
    if (bytes > resultBytesMax) {
      return failed("RESULT_TOO_LARGE", `the result has ${bytes} bytes, more than ${resultBytesMax}; write it elsewhere and return its name`, false);
    }
  }
  return { output: asJson(value) };
}

function failed(code: WorkError["code"], message: string, retryable: boolean): FunctionOutcome {
  return { error: { code, stage: "function", message, retryable } };
}

function messageOf(thrown: unknown): string {
  const text = thrown instanceof Error ? `${thrown.name}: ${thrown.message}` : String(thrown);
  return text.length > 2000 ? `${text.slice(0, 2000)}…` : text;
}
