import { availableParallelism, totalmem } from "node:os";
import type { TaskSpec } from "../protocol.ts";

/** Lambda guide, quotas: at this much memory a function has one vCPU. More processors than that are visible. */
const mbPerCore = 1769;
/** As in the orchestrator: one thread keeps libvips' own busy on so many cores. */
const coresPerDecodingThread = 4;
/** Of the function's memory, what this process may have; the rest is the runtime's and the kernel's. */
const memoryShare = 0.97;
/** Lambda's MB are of 2^20 bytes, ours of 10^6. */
const megabyte = 2 ** 20 / 1e6;

/** What Lambda says of itself in the environment. */
export interface FunctionMachine {
  readonly environment: string;
  /** As configured, in MB of 2^20 bytes. */
  readonly memorySizeMb: number;
  readonly ephemeralMb: number;
  readonly cores: number;
  /** Where this process has to stay below, in MB of 10^6 bytes. */
  readonly memoryLimitMb: number;
  readonly architecture: "x86_64" | "arm64";
  readonly region: string;
  readonly functionVersion: string;
}

export function functionMachine(environment: NodeJS.ProcessEnv): FunctionMachine {
  const memorySizeMb = Number(environment["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] ?? Math.floor(totalmem() / 2 ** 20));
  return {
    environment: environment["AWS_LAMBDA_LOG_STREAM_NAME"] ?? `process ${process.pid}`,
    memorySizeMb,
    // Lambda tells nobody; the deployment does.
    ephemeralMb: Number(environment["SPLITRUN_EPHEMERAL_MB"] ?? 512),
    cores: Math.max(1, Math.min(availableParallelism(), Math.floor(memorySizeMb / mbPerCore))),
    memoryLimitMb: memorySizeMb * megabyte * memoryShare,
    architecture: process.arch === "arm64" ? "arm64" : "x86_64",
    region: environment["AWS_REGION"] ?? "",
    functionVersion: environment["AWS_LAMBDA_FUNCTION_VERSION"] ?? "",
  };
}

/** With one core, another thread to decode on costs a cold start more than it brings. */
export function decodesHere({ cores }: FunctionMachine): boolean {
  return cores === 1;
}

/** The task with as many sessions and threads as the function's memory pays for. */
export function fittedTo(task: TaskSpec, cores: number): TaskSpec {
  switch (task.kind) {
    case "inference":
      return {
        ...task,
        preprocess: { ...task.preprocess, concurrency: Math.ceil(cores / coresPerDecodingThread) },
        infer: { ...task.infer, sessions: cores },
      };
    case "function":
      return { ...task, threads: cores };
  }
}
