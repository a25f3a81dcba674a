import type { IncomingHttpHeaders } from "node:http";
import type { Dispatcher } from "undici";
import { downloadFailure, hostAndPort, statusFailure } from "./failures.ts";

/** The rest of an answer that is not wanted is read up to here, so that its connection can be used again. */
const discardedBytesMax = 16_384;

/** How a sink holds up, or ends, what feeds it. */
export interface Flow {
  resume(): void;
  fail(error: Error): void;
}

/** Takes the body of the last answer. Throws what should end the download. */
export interface BodySink<Body> {
  /** `contentLength` null: not said. */
  begin(contentLength: number | null, encoding: string, flow: Flow): void;
  /** False: no more until `flow.resume`. The chunk is the sink's to keep. */
  write(chunk: Buffer): boolean;
  finish(): Promise<Body>;
  abandon(error: unknown): Promise<void>;
}

export type Answer =
  | { readonly kind: "body"; readonly headers: IncomingHttpHeaders }
  | { readonly kind: "redirect"; readonly location: string }
  /** To a request that asked for the body only if it has changed. */
  | { readonly kind: "not-modified" };

export interface ExchangeOptions {
  readonly url: URL;
  /** The item's own URL, where `url` was reached by redirects. */
  readonly first: URL;
  readonly sink: BodySink<unknown>;
  readonly idleTimeoutMs: number;
  /** Whether the body was asked for only if it has changed. */
  readonly conditional: boolean;
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: unknown) => void;
}

/** One request and its answer, as the handler that undici calls: no streams between the socket and the sink. */
export class Exchange implements Dispatcher.DispatchHandler {
  /** Of the body. */
  receivedBytes = 0;
  readonly #options: ExchangeOptions;
  readonly #idleTimer: NodeJS.Timeout;
  #controller: Dispatcher.DispatchController | undefined;
  #verdict: Answer | Error | undefined;
  #paused = false;
  /** Nothing came in time; what waits at the socket is read before it counts. */
  #suspect = false;
  #settled = false;

  constructor(options: ExchangeOptions) {
    this.#options = options;
    this.#idleTimer = setTimeout(() => this.#idle(), options.idleTimeoutMs);
  }

  /** Ends it at once, connection included. A bad status that is known already is the better reason. */
  fail(error: unknown): void {
    if (this.#settled) return;
    this.#settle(this.#verdict instanceof Error ? this.#verdict : error);
    this.#abort();
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    if (this.#settled) this.#abort();
    else this.#heard();
  }

  onResponseStart(controller: Dispatcher.DispatchController, status: number, headers: IncomingHttpHeaders): void {
    if (this.#settled) return;
    this.#heard();
    if (status < 200) return;
    this.#verdict = this.#judge(status, headers);
    const contentLength = headers["content-length"] === undefined ? null : Number(headers["content-length"]);
    if (!isBody(this.#verdict)) {
      if ((contentLength ?? 0) > discardedBytesMax) this.#discard();
      return;
    }
    try {
      this.#options.sink.begin(contentLength, String(headers["content-encoding"] ?? ""), {
        resume: () => this.#resume(controller),
        fail: (error) => this.fail(error),
      });
    } catch (error) {
      this.fail(error);
    }
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.#settled) return;
    this.#heard();
    this.receivedBytes += chunk.length;
    if (!isBody(this.#verdict)) {
      if (this.receivedBytes > discardedBytesMax) this.#discard();
      return;
    }
    try {
      if (!this.#options.sink.write(chunk)) this.#pause(controller);
    } catch (error) {
      this.fail(error);
    }
  }

  onResponseEnd(): void {
    if (!this.#settled && this.#verdict !== undefined) this.#settle(this.#verdict);
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    this.fail(error);
  }

  #judge(status: number, headers: IncomingHttpHeaders): Answer | Error {
    const { url, first, conditional } = this.#options;
    const location = headers.location;
    if (location !== undefined && [301, 302, 303, 307, 308].includes(status)) return { kind: "redirect", location };
    // 206 answers a question that was not asked: a part of the body.
    if (status < 300 && status !== 206) return { kind: "body", headers };
    if (status === 304 && conditional) return { kind: "not-modified" };
    return statusFailure(status, headers["retry-after"], { url, first, nowMs: Date.now() });
  }

  #discard(): void {
    this.#settle(this.#verdict);
    this.#abort();
  }

  #pause(controller: Dispatcher.DispatchController): void {
    this.#paused = true;
    controller.pause();
  }

  #resume(controller: Dispatcher.DispatchController): void {
    if (this.#settled) return;
    this.#paused = false;
    this.#heard();
    controller.resume();
  }

  #heard(): void {
    this.#suspect = false;
    this.#idleTimer.refresh();
  }

  /** A slow disk is no silent server, and neither is a thread of ours that was too busy to read what has come. */
  #idle(): void {
    if (this.#paused) return this.#heard();
    this.#suspect = true;
    setImmediate(() => {
      if (this.#suspect) this.fail(this.#idleFailure());
    });
  }

  #settle(verdict: unknown): void {
    this.#settled = true;
    clearTimeout(this.#idleTimer);
    if (isAnswer(verdict)) this.#options.resolve(verdict);
    else this.#options.reject(verdict);
  }

  #abort(): void {
    this.#controller?.abort(new Error("the download ended early"));
  }

  #idleFailure(): Error {
    const host = hostAndPort(this.#options.url);
    return downloadFailure(
      "DOWNLOAD_IDLE",
      `no byte from ${host} for ${this.#options.idleTimeoutMs} ms (${this.receivedBytes} bytes received)`,
      true,
    );
  }
}

function isAnswer(verdict: unknown): verdict is Answer {
  return typeof verdict === "object" && verdict !== null && "kind" in verdict && !(verdict instanceof Error);
}

function isBody(verdict: Answer | Error | undefined): boolean {
  return verdict !== undefined && !(verdict instanceof Error) && verdict.kind === "body";
}
