import type * as Sdk from "@aws-sdk/client-lambda";
import type { LambdaLine } from "../../../task-manager/protocol.ts";
import { lambdaLineOf } from "../messages.ts";
import { classify, functionFailure, type FunctionFailure, type LambdaFailure, type LambdaSdk } from "./client.ts";
import { EventStreamReader, type StreamEvent } from "./event-stream.ts";
import type { LoopTurns } from "./loop-turns.ts";
import { readInTurns } from "./read-in-turns.ts";
import { inputOf, ResponseStreams } from "./response-streams.ts";

/** A line longer than this is no message: an item's result has 8 MB at most. */
const lineBytesMax = 32 * 2 ** 20;
const newline = 0x0a;

export interface InvocationTarget {
  readonly functionName: string;
  readonly qualifier: string;
}

export interface Invocation {
  readonly target: InvocationTarget;
  /** JSON. */
  readonly payload: string;
  /** The answer is read at its end. */
  readonly buffered: boolean;
  /** Without a byte before the first line, and between two. */
  readonly firstMs: number;
  readonly silentMs: number;
  readonly signal: AbortSignal;
  onLine(line: LambdaLine): void;
}

/** `log`: the end of what the function wrote to its log, where Lambda sent it along; null: it did not. */
export type InvocationEnd =
  | { readonly kind: "answered"; readonly requestId: string | null; readonly log: string | null }
  | { readonly kind: "failed"; readonly requestId: string | null; readonly log: string | null; readonly failure: FunctionFailure }
  /** Lambda did not run it, or nobody knows whether it did (`failure.didNotRun`), or what of it came was cut off. */
  | { readonly kind: "refused" | "cut"; readonly requestId: string | null; readonly log: null; readonly failure: LambdaFailure };

/** The last event of a stream. */
type InvokeComplete = Pick<Sdk.InvokeWithResponseStreamCompleteEvent, "ErrorCode" | "ErrorDetails" | "LogResult">;

export interface Invoker {
  /** Never rejects. */
  invoke(invocation: Invocation): Promise<InvocationEnd>;
}

/** Reads the text of a response that was too large for an answer. */
export type ReadSpilled = (place: { readonly bucket: string; readonly key: string; readonly bytes: number }) => Promise<Buffer>;

/** @param turns in which answers are read */
export function createInvoker(sdk: LambdaSdk, client: Sdk.LambdaClient, turns: LoopTurns, readSpilled: ReadSpilled): Invoker {
  const streams = new ResponseStreams(sdk, client);

  async function streamed(invocation: Invocation, watch: Watch): Promise<InvocationEnd> {
    const { target, payload } = invocation;
    const { requestId, body } = await streams.open({ ...target, payload: Buffer.from(payload), signal: watch.signal });
    const answer = new Answer(invocation.onLine);
    try {
      await readInTurns(body, turns, (piece) => {
        watch.heard();
        answer.add(piece);
      });
      answer.end();
    } catch (error) {
      // Whatever breaks after the last event breaks nothing.
      if (answer.complete === null) return { kind: "cut", requestId, log: null, failure: watch.failureOf(error) };
    }
    return endOf(answer.complete, requestId);
  }

  async function atItsEnd(invocation: Invocation, watch: Watch): Promise<InvocationEnd> {
    const { target, payload: text } = invocation;
    const answer = await client.send(new sdk.InvokeCommand(inputOf({ ...target, payload: Buffer.from(text) })), { abortSignal: watch.signal });
    const requestId = answer.$metadata.requestId ?? null;
    const log = decoded(answer.LogResult);
    const payload = Buffer.from(answer.Payload ?? []);
    if (answer.FunctionError !== undefined) return { kind: "failed", requestId, log, failure: functionFailure(answer.FunctionError, payload.toString(), log) };
    const spilled: Promise<Buffer>[] = [];
    const kept: LambdaLine[] = [];
    new Lines((line) => {
      if (line.kind === "spilled") spilled.push(readSpilled(line));
      else kept.push(line);
    }).add(textOf(payload));
    // What was put aside came before what was not.
    const large = new Lines(invocation.onLine);
    for (const bytes of await Promise.all(spilled)) large.add(bytes);
    kept.forEach(invocation.onLine);
    return { kind: "answered", requestId, log };
  }

  return {
    async invoke(invocation) {
      const watch = new Watch(invocation);
      try {
        return await (invocation.buffered ? atItsEnd : streamed)(invocation, watch);
      } catch (error) {
        const failure = watch.failureOf(error);
        return { kind: failure.didNotRun ? "refused" : "cut", requestId: null, log: null, failure };
      } finally {
        watch.close();
      }
    },
  };
}

function endOf(complete: InvokeComplete | null, requestId: string | null): InvocationEnd {
  if (complete === null) return { kind: "cut", requestId, log: null, failure: classify(new Error("premature close: the stream has no end")) };
  const log = decoded(complete.LogResult);
  if (complete.ErrorCode === undefined) return { kind: "answered", requestId, log };
  return { kind: "failed", requestId, log, failure: functionFailure(complete.ErrorCode, complete.ErrorDetails ?? "", log) };
}

function decoded(log: string | undefined): string | null {
  return log === undefined ? null : Buffer.from(log, "base64").toString();
}

/** A handler that cannot stream answers with its lines as a JSON text. */
function textOf(payload: Buffer): Buffer {
  return payload[0] === 0x22 ? Buffer.from(JSON.parse(payload.toString()) as string) : payload;
}

/** Ends a request that says nothing for too long: a dead connection may look like a busy function for ever. */
class Watch {
  readonly #controller = new AbortController();
  readonly #invocation: Invocation;
  #timer: NodeJS.Timeout;
  #silentForMs: number | null = null;
  #isHeard = false;

  constructor(invocation: Invocation) {
    this.#invocation = invocation;
    this.#timer = this.#after(invocation.firstMs);
    if (invocation.signal.aborted) this.#controller.abort();
    invocation.signal.addEventListener("abort", this.#abort, { once: true });
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  heard(): void {
    if (this.#isHeard) return void this.#timer.refresh();
    this.#isHeard = true;
    clearTimeout(this.#timer);
    this.#timer = this.#after(this.#invocation.silentMs);
  }

  failureOf(error: unknown): LambdaFailure {
    const failure = classify(error);
    if (this.#silentForMs === null) return failure;
    return { ...failure, code: "LAMBDA_TIMEOUT", retryable: true, didNotRun: false, message: `the function was not heard of for ${Math.round(this.#silentForMs / 1000)} s` };
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#invocation.signal.removeEventListener("abort", this.#abort);
  }

  readonly #abort = () => this.#controller.abort();

  #after(ms: number): NodeJS.Timeout {
    return setTimeout(() => {
      this.#silentForMs = ms;
      this.#controller.abort();
    }, ms);
  }
}

/** A streamed answer, as it comes. */
class Answer {
  complete: InvokeComplete | null = null;
  readonly #lines: Lines;
  readonly #events = new EventStreamReader((event) => this.#take(event));

  constructor(onLine: (line: LambdaLine) => void) {
    this.#lines = new Lines(onLine);
  }

  add(piece: Buffer): void {
    this.#events.add(piece);
  }

  end(): void {
    this.#events.end();
  }

  #take({ type, payload }: StreamEvent): void {
    if (type === "PayloadChunk") this.#lines.add(payload);
    if (type === "InvokeComplete") this.complete = JSON.parse(payload.toString()) as InvokeComplete;
  }
}

/** Cuts bytes into lines, and lines into messages. */
class Lines {
  readonly #onLine: (line: LambdaLine) => void;
  #rest: Buffer[] = [];
  #restBytes = 0;

  constructor(onLine: (line: LambdaLine) => void) {
    this.#onLine = onLine;
  }

  /** @throws Error when it is no message */
  add(bytes: Buffer): void {
    let start = 0;
    for (let end = bytes.indexOf(newline); end !== -1; end = bytes.indexOf(newline, start)) {
      this.#take(bytes.subarray(start, end));
      start = end + 1;
    }
    if (start === bytes.length) return;
    this.#rest.push(bytes.subarray(start));
    this.#restBytes += bytes.length - start;
    if (this.#restBytes > lineBytesMax) throw new Error(`a line of more than ${lineBytesMax} bytes came from the function`);
  }

  #take(bytes: Buffer): void {
    const whole = this.#rest.length === 0 ? bytes : Buffer.concat([...this.#rest, bytes]);
    this.#rest = [];
    this.#restBytes = 0;
    if (whole.length === 0) return;
    const line = lambdaLineOf(JSON.parse(whole.toString()));
    if (line === null) throw new Error("the function answered with something that is no message of a Task Manager");
    this.#onLine(line);
  }
}
