/** The Task Manager as a Lambda function: `lambda.handler`. */
import { readFileSync } from "node:fs";
import { decodesHere, functionMachine } from "./lambda/machine.ts";
import { prepareThreads, type PreparedThreads } from "./prepared-threads.ts";

declare const __SPLITRUN_NATIVE_THREAD_FILE__: string;

/** What was deployed for functions alone never decodes or infers. */
function isForFunctions(): boolean {
  const { splitrun } = JSON.parse(readFileSync(new URL("package.json", import.meta.url), "utf8")) as { readonly splitrun?: { readonly task?: string } };
  return splitrun?.task === "function";
}

const infers = !isForFunctions();
const decodes = infers && decodesHere(functionMachine(process.env));
// Before all else: they load their libraries while this thread loads the rest.
const threads: PreparedThreads = infers ? prepareThreads(new URL(__SPLITRUN_NATIVE_THREAD_FILE__, import.meta.url), decodes ? ["infer"] : ["infer", "decode"]) : new Map();
const [{ createLambdaHandler }, { usePreparedThreads }] = await Promise.all([
  import("./lambda/handler.ts"),
  import("./threads.ts"),
  // While they load, what tells them what to do is loaded here.
  infers ? import("./tasks/inference.ts") : undefined,
]);
usePreparedThreads(threads);
// What fails now fails again when it is needed, where it is heard.
if (decodes) await import("./pipeline/decoder.ts").then(({ prepareDecoder }) => prepareDecoder()).catch(() => undefined);
export const handler = createLambdaHandler();
