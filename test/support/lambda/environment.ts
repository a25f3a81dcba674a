/**
 * One execution environment: a real process that runs the function's code against its own Runtime API, with its own
 * HOME and temporary directory. It runs one invocation at a time and is stopped (SIGSTOP) in between. A crash or a
 * time-out ends its processes; the temporary directory stays, and the next invocation begins with init.
 */
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { closeSync, fstatSync, ftruncateSync, openSync, readSync } from "node:fs";
import { mkdir, rm } from "node:fs/promises";
import { createServer } from "node:http";
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import path from "node:path";
import { buffer } from "node:stream/consumers";
import { StringDecoder } from "node:string_decoder";
import { setTimeout as delay } from "node:timers/promises";
import type { Fault } from "./faults.ts";
import type { LogEvent } from "./logs.ts";
import { Mailbox } from "./mailbox.ts";
import { memoryOf, signalGroup, spawnGroup } from "./processes.ts";
import type { Watchdog } from "./processes.ts";
import { exitReason, functionError, initReportLine, reportLine, reportedError, timedOut } from "./report.ts";
import type { Exit, FunctionError, Report } from "./report.ts";
import type { RuntimeProgram } from "./runtimes.ts";

/** A function's code and configuration, as an environment runs it; never changed, only replaced. */
export interface Deployment {
  readonly id: string;
  readonly functionName: string;
  /** `$LATEST` or a number. */
  readonly version: string;
  readonly runtime: string;
  readonly handler: string;
  readonly memoryMb: number;
  readonly timeoutSeconds: number;
  readonly variables: Readonly<Record<string, string>>;
  readonly root: string;
  readonly unreadable: readonly string[];
  readonly logGroup: string;
  readonly roleArn: string;
}

export interface EnvironmentOptions {
  readonly id: string;
  readonly deployment: Deployment;
  readonly directory: string;
  readonly program: RuntimeProgram;
  /** What Lambda sets beside the function's own variables: region, credentials. */
  readonly variables: Readonly<Record<string, string>>;
  /** How long a second of the function's time-out lasts. */
  readonly secondMs: number;
  readonly lateMs: number;
  readonly initTimeoutMs: number;
  readonly memoryPollMs: number;
  readonly watchdog: Watchdog;
  log(stream: string, events: readonly LogEvent[]): void;
}

/** Takes the function's response as it comes. */
export interface ResponseSink {
  readonly bytesMax: number;
  begin(contentType: string): void;
  /** Resolves when more can be taken. */
  write(chunk: Buffer): Promise<void>;
}

export interface Order {
  readonly requestId: string;
  readonly payload: Buffer;
  readonly invokedArn: string;
  readonly sink: ResponseSink;
  readonly fault: Fault | null;
}

export interface Outcome extends Report {
  /** null: the function answered. */
  readonly error: FunctionError | null;
  /** Of this invocation, up to its last 4 KB. */
  readonly logTail: string;
}

type RuntimeEvent =
  | { readonly kind: "next" }
  | { readonly kind: "init-error"; readonly error: FunctionError }
  | { readonly kind: "answered"; readonly error: FunctionError | null }
  | { readonly kind: "exit"; readonly exit: Exit };

type Killer = "timeout" | "memory" | "init-timeout" | "order";

const logTailBytes = 4096;
const logFileBytesMax = 32 * 2 ** 20;
const base = "/2018-06-01/runtime";

export class Environment {
  readonly id: string;
  readonly deployment: Deployment;
  readonly startedAtMs = Date.now();
  readonly logStream: string;
  readonly #options: EnvironmentOptions;
  readonly #api: Server;
  readonly #output: number;
  #mailbox = new Mailbox<RuntimeEvent>();
  #process: ChildProcess | null = null;
  /** The runtime waits here for its next invocation. */
  #waiting: ServerResponse | null = null;
  #receiving: Promise<void> = Promise.resolve();
  #order: Order | null = null;
  #killedBy: Killer | null = null;
  #initialised = false;
  #running: Promise<unknown> | null = null;
  #ended = false;
  #peakKib = 0;
  #logRead = 0;
  readonly #text = new StringDecoder("utf8");
  #line = "";
  #tail = "";

  private constructor(options: EnvironmentOptions, api: Server, output: number) {
    this.#options = options;
    this.id = options.id;
    this.deployment = options.deployment;
    this.#api = api;
    this.#output = output;
    this.logStream = `${new Date().toISOString().slice(0, 10).replaceAll("-", "/")}/[${options.deployment.version}]${options.id}`;
    api.on("request", (message: IncomingMessage, response: ServerResponse) => void this.#answer(message, response));
  }

  static async create(options: EnvironmentOptions): Promise<Environment> {
    for (const folder of ["tmp", "home"]) await mkdir(path.join(options.directory, folder), { recursive: true });
    // A runtime may wait for its next invocation as long as it likes.
    const api = createServer({ keepAliveTimeout: 0, requestTimeout: 0, headersTimeout: 0 });
    api.listen(0, "127.0.0.1");
    await once(api, "listening");
    return new Environment(options, api, openSync(path.join(options.directory, "output"), "a+"));
  }

  /** null: no process now. */
  get pid(): number | null {
    return this.#process?.pid ?? null;
  }

  get state(): "running" | "frozen" | "reset" | "ended" {
    if (this.#ended) return "ended";
    if (this.#order !== null) return "running";
    return this.#process === null ? "reset" : "frozen";
  }

  /** Only one at a time. */
  run(order: Order): Promise<Outcome> {
    const outcome = this.#run(order);
    this.#running = outcome;
    return outcome;
  }

  async #run(order: Order): Promise<Outcome> {
    this.#order = order;
    this.#tail = "";
    const polling = setInterval(() => this.#poll(), this.#options.memoryPollMs);
    try {
      const init = this.#initialised ? null : await this.#initPhase(order);
      this.#initialised = true;
      return await this.#invokePhase(order, init);
    } finally {
      clearInterval(polling);
      this.#freeze();
      this.#order = null;
    }
  }

  async end(): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    const child = this.#process;
    if (child !== null) {
      const gone = once(child, "exit");
      this.#kill("order");
      await gone;
    }
    await this.#running?.catch(() => {});
    this.#api.close();
    this.#api.closeAllConnections();
    closeSync(this.#output);
    await rm(this.#options.directory, { recursive: true, force: true });
  }

  /** The code before the handler, with a time limit of its own; if it fails, it is run again inside the invocation. */
  async #initPhase({ fault }: Order): Promise<{ readonly ms: number; readonly succeeded: boolean }> {
    const { program, initTimeoutMs } = this.#options;
    this.#write(`INIT_START Runtime Version: ${program.description}`);
    const begunMs = performance.now();
    const limit = setTimeout(() => this.#kill("init-timeout"), initTimeoutMs);
    if (fault?.kind === "cold-start") await delay(fault.delayMs);
    const failure = this.#killedBy === null ? await this.#boot("init") : functionError("Sandbox.Timedout", "init");
    clearTimeout(limit);
    const ms = performance.now() - begunMs;
    if (failure !== null) this.#write(initReportLine(ms, this.#killedBy === "init-timeout" ? "timeout" : "error", failure.type));
    return { ms, succeeded: failure === null };
  }

  async #invokePhase(order: Order, init: { readonly ms: number; readonly succeeded: boolean } | null): Promise<Outcome> {
    const { requestId } = order;
    const { timeoutSeconds, memoryMb, version } = this.deployment;
    const begunMs = performance.now();
    const timeoutMs = timeoutSeconds * this.#options.secondMs;
    const deadlineMs = Date.now() + timeoutMs;
    this.#killedBy = null;
    const limit = setTimeout(() => this.#kill("timeout"), timeoutMs + this.#options.lateMs);
    this.#write(`START RequestId: ${requestId} Version: ${version}`);
    let error = this.#process === null ? await this.#boot(requestId) : null;
    if (error === null) error = await this.#handle(order, deadlineMs);
    clearTimeout(limit);
    const durationMs = performance.now() - begunMs;

    const killedBy = this.#lastKiller();
    if (killedBy === "timeout") this.#write(`${new Date().toISOString()} ${requestId} Task timed out after ${timeoutSeconds.toFixed(2)} seconds`);
    this.#write(`END RequestId: ${requestId}`);
    const report: Report = {
      requestId, durationMs, billedMs: Math.ceil(durationMs + (init?.ms ?? 0)), memoryMb,
      maxMemoryMb: killedBy === "memory" ? memoryMb : Math.min(memoryMb, Math.ceil(this.#peakKib / 1024)),
      initMs: init?.succeeded === true ? init.ms : null,
      failure: killedBy === "timeout" ? { status: "timeout", type: "Sandbox.Timedout" }
        : error !== null && this.#process === null ? { status: "error", type: error.type } : null,
    };
    this.#write(reportLine(report));
    return { ...report, error, logTail: Buffer.from(this.#tail).subarray(-logTailBytes).toString("utf8") };
  }

  /** Starts the runtime and waits until it asks for work. Otherwise says why it does not. */
  async #boot(phase: string): Promise<FunctionError | null> {
    if (this.#ended) return functionError("Sandbox.Failure", "The environment was ended");
    for (const file of this.deployment.unreadable) this.#write(`EACCES: permission denied, open '/var/task/${file}'`);
    const mailbox = new Mailbox<RuntimeEvent>();
    this.#mailbox = mailbox;
    this.#start(mailbox);
    let reported: FunctionError | null = null;
    for (;;) {
      const event = await mailbox.take();
      if (event.kind === "next") return null;
      if (event.kind === "exit") return reported ?? this.#endedAs(phase, event.exit);
      if (event.kind === "init-error") {
        reported = event.error;
        if (this.#process?.pid !== undefined) signalGroup(this.#process.pid, "SIGKILL");
      }
    }
  }

  /** Hands the invocation to the waiting runtime, and waits until it asks for the next or is gone. */
  async #handle(order: Order, deadlineMs: number): Promise<FunctionError | null> {
    this.#deliver(order, deadlineMs);
    const callOff = this.#schedule(order.fault);
    let answer: { readonly error: FunctionError | null } | null = null;
    for (;;) {
      const event = await this.#mailbox.take();
      if (event.kind === "answered") answer ??= event;
      if (event.kind === "next" && answer !== null) {
        callOff();
        return answer.error;
      }
      if (event.kind === "exit") {
        callOff();
        // What it had sent before is still read.
        await this.#receiving;
        return answer === null ? this.#endedAs(order.requestId, event.exit) : answer.error;
      }
    }
  }

  #endedAs(requestId: string, exit: Exit): FunctionError {
    if (this.#killedBy === "timeout") return timedOut(requestId, this.deployment.timeoutSeconds);
    const reason = exitReason(exit);
    this.#write(`RequestId: ${requestId} Error: ${reason}\nRuntime.ExitError`);
    return functionError("Runtime.ExitError", `RequestId: ${requestId} Error: ${reason}`);
  }

  #start(mailbox: Mailbox<RuntimeEvent>): void {
    const { program, watchdog, deployment: { handler, root } } = this.#options;
    const child = spawnGroup({ program: program.node, args: [...program.args, handler], directory: root, environment: this.#variables(), output: this.#output });
    this.#process = child;
    const { pid } = child;
    if (pid !== undefined) watchdog.add(pid);
    const gone = (exit: Exit): void => {
      // What it started may live on in its group.
      if (pid !== undefined) {
        signalGroup(pid, "SIGKILL");
        watchdog.remove(pid);
      }
      this.#process = null;
      this.#waiting = null;
      mailbox.push({ kind: "exit", exit });
    };
    child.once("exit", (code, signal) => gone({ code, signal }));
    child.once("error", (error) => {
      this.#write(`${program.node} could not be started: ${error.message}`);
      gone({ code: 1, signal: null });
    });
  }

  #variables(): Record<string, string> {
    const { deployment, directory, variables } = this.#options;
    const { port } = this.#api.address() as AddressInfo;
    return {
      PATH: "/usr/local/bin:/usr/bin:/bin:/opt/bin",
      LANG: "en_US.UTF-8",
      TZ: ":UTC",
      HOME: path.join(directory, "home"),
      TMPDIR: path.join(directory, "tmp"),
      ...variables,
      ...deployment.variables,
      AWS_LAMBDA_RUNTIME_API: `127.0.0.1:${port}`,
      AWS_EXECUTION_ENV: `AWS_Lambda_${deployment.runtime}`,
      AWS_LAMBDA_FUNCTION_NAME: deployment.functionName,
      AWS_LAMBDA_FUNCTION_VERSION: deployment.version,
      AWS_LAMBDA_FUNCTION_MEMORY_SIZE: String(deployment.memoryMb),
      AWS_LAMBDA_INITIALIZATION_TYPE: "on-demand",
      AWS_LAMBDA_LOG_GROUP_NAME: deployment.logGroup,
      AWS_LAMBDA_LOG_STREAM_NAME: this.logStream,
      LAMBDA_TASK_ROOT: deployment.root,
      _HANDLER: deployment.handler,
    };
  }

  #deliver(order: Order, deadlineMs: number): void {
    const response = this.#waiting;
    const pid = this.#process?.pid;
    // It ended while it was frozen: its exit is in the mailbox.
    if (response === null || pid === undefined) return;
    this.#waiting = null;
    signalGroup(pid, "SIGCONT");
    response.writeHead(200, {
      "content-type": "application/json",
      "lambda-runtime-aws-request-id": order.requestId,
      "lambda-runtime-deadline-ms": String(Math.round(deadlineMs)),
      "lambda-runtime-invoked-function-arn": order.invokedArn,
      "lambda-runtime-trace-id": `Root=1-${Math.floor(Date.now() / 1000).toString(16)}-${order.requestId.replaceAll("-", "").slice(0, 24)};Sampled=0`,
    }).end(order.payload);
  }

  /** Returns what calls the fault off. */
  #schedule(fault: Fault | null): () => void {
    const signal = (name: NodeJS.Signals): void => {
      if (this.#process?.pid !== undefined) signalGroup(this.#process.pid, name);
    };
    const timers: NodeJS.Timeout[] = [];
    if (fault?.kind === "kill" && fault.afterBytes === undefined) timers.push(setTimeout(() => this.#kill("order"), fault.afterMs ?? 0));
    if (fault?.kind === "stall" && "afterMs" in fault) {
      timers.push(setTimeout(() => {
        signal("SIGSTOP");
        timers.push(setTimeout(() => signal("SIGCONT"), fault.forMs));
      }, fault.afterMs));
    }
    return () => timers.forEach((timer) => clearTimeout(timer));
  }

  #freeze(): void {
    if (this.#process?.pid !== undefined) signalGroup(this.#process.pid, "SIGSTOP");
    this.#collectLog();
    ftruncateSync(this.#output, 0);
    this.#logRead = 0;
  }

  #kill(by: Killer): void {
    this.#killedBy ??= by;
    if (this.#process?.pid !== undefined) signalGroup(this.#process.pid, "SIGKILL");
  }

  #lastKiller(): Killer | null {
    return this.#killedBy;
  }

  #poll(): void {
    this.#collectLog();
    const pid = this.#process?.pid;
    if (pid === undefined) return;
    const { nowKib, peakKib } = memoryOf(pid);
    this.#peakKib = Math.max(this.#peakKib, peakKib);
    if (nowKib > this.deployment.memoryMb * 1024) this.#kill("memory");
  }

  /** The Runtime API. */
  async #answer(message: IncomingMessage, response: ServerResponse): Promise<void> {
    const mailbox = this.#mailbox;
    const order = this.#order;
    const url = message.url ?? "";
    // The process may be killed while it sends.
    message.on("error", () => {});
    if (url === `${base}/invocation/next`) {
      this.#waiting = response;
      if (this.#process?.pid !== undefined) this.#peakKib = Math.max(this.#peakKib, memoryOf(this.#process.pid).peakKib);
      mailbox.push({ kind: "next" });
    } else if (url === `${base}/init/error`) {
      const error = await errorOf(message, response);
      if (error !== null) mailbox.push({ kind: "init-error", error });
    } else if (order !== null && url === `${base}/invocation/${order.requestId}/error`) {
      const error = await errorOf(message, response);
      if (error !== null) mailbox.push({ kind: "answered", error });
    } else if (order !== null && url === `${base}/invocation/${order.requestId}/response`) {
      this.#receiving = this.#receive(order, mailbox, message, response).catch(() => {});
    } else {
      message.resume();
      response.writeHead(400, { "content-type": "application/json" }).end('{"errorType":"InvalidRequestID","errorMessage":"Invalid request ID"}');
    }
  }

  async #receive({ sink, fault }: Order, mailbox: Mailbox<RuntimeEvent>, message: IncomingMessage, response: ServerResponse): Promise<void> {
    let bytes = 0;
    sink.begin(message.headers["content-type"] ?? "application/json");
    for await (const chunk of message as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (bytes <= sink.bytesMax) await sink.write(chunk);
      if (fault?.kind === "kill" && fault.afterBytes !== undefined && bytes >= fault.afterBytes) this.#kill("order");
      if (fault?.kind === "stall" && "afterBytes" in fault && bytes >= fault.afterBytes && this.#process?.pid !== undefined) signalGroup(this.#process.pid, "SIGSTOP");
    }
    if (bytes > sink.bytesMax) {
      response.writeHead(413, { "content-type": "application/json" }).end('{"errorType":"RequestEntityTooLarge","errorMessage":"Response payload is too large"}');
      const text = `Response payload size exceeded maximum allowed payload size (${sink.bytesMax} bytes).`;
      mailbox.push({ kind: "answered", error: functionError("Function.ResponseSizeTooLarge", text) });
      return;
    }
    accept(response);
    const { "lambda-runtime-function-error-type": type, "lambda-runtime-function-error-body": body } = message.trailers;
    mailbox.push({ kind: "answered", error: type === undefined ? null : { type, body: Buffer.from(body ?? "", "base64") } });
  }

  #collectLog(): void {
    const { size } = fstatSync(this.#output);
    if (size > this.#logRead) {
      const bytes = Buffer.alloc(size - this.#logRead);
      this.#logRead += readSync(this.#output, bytes, 0, bytes.length, this.#logRead);
      this.#line += this.#text.write(bytes);
    }
    const lines = this.#line.split("\n");
    this.#line = lines.pop() ?? "";
    this.#append(lines);
    if (this.#logRead < logFileBytesMax) return;
    // A flood: what was written since the reading goes with it.
    ftruncateSync(this.#output, 0);
    this.#logRead = 0;
  }

  /** Lines of Lambda's own, after all that the function wrote before them. */
  #write(text: string): void {
    this.#collectLog();
    const unfinished = this.#line === "" ? [] : [this.#line];
    this.#line = "";
    this.#append([...unfinished, ...text.split("\n")]);
  }

  #append(lines: readonly string[]): void {
    if (lines.length === 0) return;
    const timestampMs = Date.now();
    this.#tail = `${this.#tail}${lines.join("\n")}\n`.slice(-2 * logTailBytes);
    this.#options.log(this.logStream, lines.map((message) => ({ timestampMs, message: `${message}\n` })));
  }
}

/** null: the process died before it had said all. */
async function errorOf(message: IncomingMessage, response: ServerResponse): Promise<FunctionError | null> {
  const type = message.headers["lambda-runtime-function-error-type"];
  const body = await buffer(message).catch(() => null);
  if (body === null) return null;
  accept(response);
  return reportedError(body, typeof type === "string" ? type : null);
}

function accept(response: ServerResponse): void {
  response.writeHead(202, { "content-type": "application/json" }).end('{"status":"OK"}');
}
