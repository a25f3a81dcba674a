/** The Task Manager as a Lambda function: `lambda.handler`. */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { prepareThreads, type PreparedThreads } from "./prepared-threads.ts";

declare const __SPLITRUN_NATIVE_THREAD__: string;

/** What was deployed for functions alone never decodes or infers. */
function isForFunctions(): boolean {
  const { splitrun } = JSON.parse(readFileSync(new URL("package.json", import.meta.url), "utf8")) as { readonly splitrun?: { readonly task?: string } };
  return splitrun?.task === "function";
}

// Before all else: they load their libraries while this thread loads the rest.
const threads: PreparedThreads = isForFunctions() ? new Map() : prepareThreads(__SPLITRUN_NATIVE_THREAD__, fileURLToPath(import.meta.url));
const { lambdaHandler } = await import("./main.ts");
export const handler = await lambdaHandler(threads);
