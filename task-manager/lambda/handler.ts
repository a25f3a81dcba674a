import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import type { Writable } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import * as z from "zod/mini";
import type { LambdaRequest, TaskManagerMessage } from "../protocol.ts";
import { lambdaRequest, protocolVersion } from "../protocol.ts";
import { createFunctionArtifacts } from "./artifacts.ts";
import { functionMachine } from "./machine.ts";
import type { Bring, Voice } from "./pull.ts";
import { keyOf, killProcess, startResident, type Ear, type Ready, type Resident, type TaskRequest } from "./resident.ts";
import { bufferedResponse, streamedResponse, type LambdaResponse } from "./response.ts";
import { spill } from "./spill.ts";

export interface LambdaContext {
  getRemainingTimeInMillis(): number;
}

/** Either kind: with a stream to write to, or with an answer. */
export type LambdaHandler = (event: unknown, ...rest: readonly unknown[]) => Promise<unknown>;

interface StreamingRuntime {
  streamifyResponse(handler: (event: unknown, stream: Writable, context: LambdaContext) => Promise<void>): LambdaHandler;
}

declare global {
  /** Lambda's own, in its Node runtimes; elsewhere there is none. */
  var awslambda: StreamingRuntime | undefined;
}

/** Nothing is begun in the last tenth of the time that is left to an invocation. */
const marginShare = 0.1;
const marginMsMin = 500;
const marginMsMax = 30_000;
/** Frozen for less than this, connections are as good as they were. */
const frozenMsMin = 1_000;
/** A thread in a native call that hangs stays for as long as the environment. */
const closeMsMax = 1_000;
/** For what was written to reach Lambda before the process ends. */
const leaveAfterMs = 20;
const everything = 2 ** 31;
/** Lambda guide, quotas: a streamed response has 200 MB at most; what is begun by then still has room. */
const streamedBytesMax = 120 * 2 ** 20;

type Bounds = ReturnType<typeof boundsOf>;
type WorkRequest = Exclude<TaskRequest, { kind: "pull" }>;

/** Created when the process starts: what it costs is the cold start's. */
export function createLambdaHandler(): LambdaHandler {
  const machine = functionMachine(process.env);
  const artifacts = createFunctionArtifacts(path.join(tmpdir(), "splitrun-artifacts"), process.env["LAMBDA_TASK_ROOT"] ?? process.cwd());
  // The code's own folder is no place to work in.
  process.chdir(mkdtempSync(path.join(tmpdir(), "splitrun-")));
  const initMs = performance.now();
  let invocations = 0;
  let resident: Resident | undefined;
  /** By the clock on the wall, which goes on while the environment is frozen. */
  let endedAtMs = Date.now();

  async function invoke(event: unknown, context: LambdaContext, response: LambdaResponse): Promise<string> {
    const startedMs = performance.now();
    const cpuBefore = process.cpuUsage();
    const readsBefore = artifacts.storageReads;
    const cold = invocations++ === 0;
    if (Date.now() - endedAtMs > frozenMsMin) resident?.thawed();
    void response.write({
      kind: "invocation-began",
      protocol: protocolVersion,
      environment: machine.environment,
      cold,
      initMs: cold ? initMs : null,
      memoryMb: machine.memorySizeMb,
      ephemeralMb: machine.ephemeralMb,
      architecture: machine.architecture,
      region: machine.region,
      functionVersion: machine.functionVersion,
      remainingMs: Math.max(0, context.getRemainingTimeInMillis()),
      versions: { splitrun: __SPLITRUN_VERSION__, node: process.version },
    });
    const request = parsed(event);
    const leaving = request === null ? (await refuse(response, event), null) : await serve(request, context, response, cpuBefore);
    const { user, system } = process.cpuUsage(cpuBefore);
    endedAtMs = Date.now();
    const text = await response.end({
      kind: "invocation-ended",
      durationMs: performance.now() - startedMs,
      rssMb: (process.resourceUsage().maxRSS * 1024) / 1e6,
      cpuMs: (user + system) / 1000,
      ...(artifacts.storageReads > readsBefore ? { storageReads: artifacts.storageReads - readsBefore } : {}),
      leaves: leaving !== null,
    });
    if (leaving === null) return text;
    await delay(leaveAfterMs);
    // Frozen it would end in the middle of the next invocation.
    return process.exit(leaving);
  }

  /** Null: it stays; else the exit code that it leaves with. */
  async function serve(request: LambdaRequest, context: LambdaContext, response: LambdaResponse, cpuBefore: NodeJS.CpuUsage): Promise<number | null> {
    if (request.kind === "ping") {
      await delay(request.holdMs);
      return null;
    }
    if (request.kind === "pull") {
      const { beginWithinMs } = boundsOf({ beginWithinMs: Infinity }, context);
      // TLS and WebSockets, which few functions need.
      const { serveDialed } = await import("./pull.ts");
      return serveDialed({ request, response, artifacts, drainAtMs: performance.now() + beginWithinMs, prepare: (voice, bring) => prepare(request, voice, bring) });
    }
    const beats = setInterval(() => void response.write(heartbeatOf(process.cpuUsage(cpuBefore))), request.configure.heartbeatMs);
    let ready: Ready | null;
    try {
      ready = await prepare(request, response, null);
    } finally {
      clearInterval(beats);
    }
    if (ready === null) return null;
    await response.write(ready.configured);
    if (request.kind === "warm") return null;
    const leaving = await work(request, ready.resident, boundsOf(request, context), response, cpuBefore);
    if (leaving !== "anew") return leaving;
    await Promise.race([ready.resident.close(), delay(closeMsMax)]);
    resident = undefined;
    return null;
  }

  /** The Task Manager with this task; null: there is none, and the voice has said why. */
  async function prepare(request: TaskRequest, voice: Voice, bring: Bring | null): Promise<Ready | null> {
    if (resident !== undefined && (resident.isOver || resident.key !== keyOf(request))) {
      await resident.close();
      resident = undefined;
    }
    try {
      await artifacts.receive(request.artifacts);
    } catch (error) {
      await voice.write(notReceived(error, "backend.stagingBucket"));
      return null;
    }
    resident ??= startResident({ request, artifacts, machine });
    resident.listen({ hear: (message) => voice.write(message), idle: () => undefined, exit: (code) => process.exit(code), kill: killProcess });
    let answer = await resident.configure();
    if (answer.kind === "need" && bring !== null) {
      try {
        await Promise.all([bring(answer.artifacts), voice.write(answer)]);
      } catch (error) {
        await voice.write(notReceived(error, "backend.pull"));
        return null;
      }
      answer = await resident.configure();
    }
    if (answer.kind === "configured") return { resident, configured: answer };
    await voice.write(answer);
    resident.listen(null);
    if (answer.kind === "refused") {
      await resident.close();
      resident = undefined;
    }
    return null;
  }

  return handlerOf(invoke);
}

/** Lambda's Node runtimes stream where the handler says so; whoever asks for a buffered answer gets the same text. */
function handlerOf(invoke: (event: unknown, context: LambdaContext, response: LambdaResponse) => Promise<string>): LambdaHandler {
  const runtime = globalThis.awslambda;
  if (runtime === undefined) return async (event, context) => invoke(event, context as LambdaContext, bufferedResponse());
  return runtime.streamifyResponse(async (event, stream, context) => {
    const text = await invoke(event, context, isBuffered(event) ? bufferedResponse() : streamedResponse(stream));
    stream.end(text);
  });
}

function isBuffered(event: unknown): boolean {
  return z.object({ buffered: z.object({}) }).safeParse(event).success;
}

/**
 * Works until all that was assigned is reported or returned. Null: it stays; "anew": another takes its place in this
 * process, which would take the answer with it; else the exit code that it leaves with.
 */
async function work(request: WorkRequest, resident: Resident, bounds: Bounds, response: LambdaResponse, cpuBefore: NodeJS.CpuUsage): Promise<number | "anew" | null> {
  const { buffered, assigns } = request;
  const bytesMax = buffered === null ? streamedBytesMax : buffered.spill === null ? buffered.bytesMax : Infinity;
  let isFull = false;
  const leaving = await new Promise<number | "anew" | null>((resolve) => {
    const ear: Ear = {
      async hear(message) {
        await response.write(hereAndNow(message, cpuBefore, isFull));
        if (isFull || response.bytes < bytesMax) return;
        isFull = true;
        for (const { assignment } of assigns) resident.send({ kind: "reclaim", assignment, items: everything });
      },
      idle: () => resolve(null),
      exit: (code) => (code !== 0 ? process.exit(code) : resolve(buffered === null ? 0 : "anew")),
      kill: (signal) => (buffered !== null && signal === "SIGTERM" ? resolve("anew") : killProcess(signal)),
    };
    resident.listen(ear);
    for (const message of request.grants) resident.send(message);
    assigns.forEach((message, at) => {
      resident.send({ ...message, endWithinMs: Math.min(message.endWithinMs ?? Infinity, bounds.beginWithinMs), last: at === assigns.length - 1 });
    });
  });
  resident.listen(null);
  if (buffered !== null && buffered.spill !== null && response.bytes > buffered.bytesMax) await spill(response, buffered.spill);
  return leaving;
}

function boundsOf({ beginWithinMs }: { readonly beginWithinMs: number }, context: LambdaContext) {
  const remainingMs = context.getRemainingTimeInMillis();
  const marginMs = Math.min(marginMsMax, Math.max(marginMsMin, remainingMs * marginShare));
  return { beginWithinMs: Math.max(0, Math.min(beginWithinMs, remainingMs - marginMs)) };
}

/** CPU time is the invocation's own; what a full response makes it give back, it gives back for lack of time. */
function hereAndNow(message: TaskManagerMessage, cpuBefore: NodeJS.CpuUsage, isFull: boolean): TaskManagerMessage {
  if (message.kind === "heartbeat") {
    const { user, system } = process.cpuUsage(cpuBefore);
    return { ...message, cpuMs: (user + system) / 1000 };
  }
  return isFull && message.kind === "returned" && message.cause === "RECLAIMED" ? { ...message, cause: "DEADLINE" } : message;
}

function heartbeatOf({ user, system }: NodeJS.CpuUsage): TaskManagerMessage {
  return { kind: "heartbeat", held: [], rssMb: process.memoryUsage.rss() / 1e6, cpuMs: (user + system) / 1000, queues: {} };
}

function notReceived(error: unknown, field: string): TaskManagerMessage {
  return { kind: "refused", code: "ARTIFACT_FAILED", field, message: error instanceof Error ? error.message : String(error) };
}

function parsed(event: unknown): LambdaRequest | null {
  const request = lambdaRequest.safeParse(event);
  return request.success && request.data.protocol === protocolVersion ? request.data : null;
}

async function refuse(response: LambdaResponse, event: unknown): Promise<void> {
  const spoken = z.object({ protocol: z.number() }).safeParse(event);
  const message = spoken.success && spoken.data.protocol !== protocolVersion
    ? `the function speaks protocol ${protocolVersion}, the orchestrator ${spoken.data.protocol}; run \`splitrun redeploy\` with the version that runs the job`
    : "the function was invoked with something that is no request of an orchestrator";
  await response.write({ kind: "refused", code: "LAMBDA_PROTOCOL", field: "backend", message });
}
