import { existsSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import path from "node:path";

/** What runs a function's code on this machine, in place of Lambda's own. */
export interface RuntimeProgram {
  readonly node: string;
  /** Before the handler's name. */
  readonly args: readonly string[];
  readonly client: RuntimeClient;
  /** For people: which Node and which client, and what to do to have the right ones. */
  readonly description: string;
}

/** `aws-lambda-ric` is Amazon's own client of the Runtime API; `own` is our loop against the same interface. */
export type RuntimeClient = "aws-lambda-ric" | "own";

/** Filled by `scripts/lambda-ric.mjs`. */
const runtimesDirectory = process.env["SPLITRUN_LAMBDA_RUNTIMES"]
  ?? path.join(process.env["XDG_CACHE_HOME"] ?? path.join(homedir(), ".cache"), "splitrun-lambda");
const clientDirectory = path.join(runtimesDirectory, "ric", "node_modules", "aws-lambda-ric");

// Its native part is compiled when it is installed: without it the package is there and does not load.
export const ricInstalled = existsSync(path.join(clientDirectory, "rapid-client.node"));

/**
 * @param runtime such as `nodejs22.x`
 * @param loop the file of our own loop
 */
export function runtimeProgram(runtime: string, choice: RuntimeClient | "auto", loop: string): RuntimeProgram {
  const major = /^nodejs(\d+)\.x$/.exec(runtime)?.[1] ?? "";
  const cached = path.join(runtimesDirectory, `node-${major}`, "node_modules", "node", "bin", "node");
  const node = existsSync(cached) ? cached : process.execPath;
  const client = choice === "auto" ? (ricInstalled ? "aws-lambda-ric" : "own") : choice;
  const advice = node !== cached || client !== "aws-lambda-ric" ? " (`node scripts/lambda-ric.mjs` brings the real ones)" : "";
  return {
    node,
    args: [client === "own" ? loop : path.join(clientDirectory, "index.mjs")],
    client,
    description: `${runtime} as ${node === cached ? `Node ${major}` : `Node ${process.versions.node}, the one that runs this,`} under ${clientName(client)}${advice}`,
  };
}

function clientName(client: RuntimeClient): string {
  if (client === "own") return "our own loop against the Runtime API";
  const { version } = JSON.parse(readFileSync(path.join(clientDirectory, "package.json"), "utf8")) as { version: string };
  return `aws-lambda-ric ${version}`;
}
