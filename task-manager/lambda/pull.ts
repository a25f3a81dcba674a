import { dialIn } from "../channel/websocket.ts";
import type { ResumableChannel } from "../channel/resumable.ts";
import type { LambdaLine, LambdaRequest, OrchestratorMessage, TaskManagerMessage } from "../protocol.ts";
import type { FunctionArtifacts } from "./artifacts.ts";
import { killProcess, type Ready } from "./resident.ts";
import type { LambdaResponse } from "./response.ts";

type PullRequest = Extract<LambdaRequest, { kind: "pull" }>;
type Dialed = ResumableChannel<LambdaLine, OrchestratorMessage>;
type ArtifactChunk = Extract<OrchestratorMessage, { kind: "artifact" }>;

/** So long before things come back the orchestrator is told, so that it does not hand them out here again. */
const noticeMs = 50;

/** Says things to whom it may concern: the response, or whoever was dialed. */
export interface Voice {
  write(message: TaskManagerMessage): Promise<void>;
}

/** Brings artifacts that are lacking. */
export type Bring = (sha256: readonly string[]) => Promise<void>;

export interface PullOptions {
  readonly request: PullRequest;
  readonly response: LambdaResponse;
  readonly artifacts: FunctionArtifacts;
  /** By `performance.now()`: nothing is begun from then on. */
  readonly drainAtMs: number;
  /** The Task Manager with its task; null: there is none, and the voice has said why. */
  prepare(voice: Voice, bring: Bring): Promise<Ready | null>;
}

/**
 * Dials in, and serves there as any Task Manager does, until there is nothing to do or no time left. Null: the process
 * stays; else the exit code that it leaves with.
 */
export async function serveDialed(options: PullOptions): Promise<number | null> {
  const { request, response } = options;
  const channel = await dialIn<LambdaLine>(request.dial).catch(async (error: unknown) => {
    await response.write({ kind: "refused", code: "LAMBDA_PULL", field: "backend.pull", message: `from the function, ${messageOf(error)}` });
    return null;
  });
  return channel === null ? null : new DialedService(channel, options).run();
}

class DialedService {
  readonly #channel: Dialed;
  readonly #options: PullOptions;
  readonly #timers: NodeJS.Timeout[] = [];
  readonly #over: Promise<number | null>;
  #end: (leaving: number | null) => void = () => undefined;
  #ended = false;
  #resident: Ready["resident"] | null = null;
  /** It holds nothing and works on nothing. */
  #isQuiet = true;
  #idleTimer: NodeJS.Timeout | undefined;
  #draining = false;
  #onChunk: ((chunk: ArtifactChunk | null) => void) | null = null;
  readonly #cpuBefore = process.cpuUsage();

  constructor(channel: Dialed, options: PullOptions) {
    this.#channel = channel;
    this.#options = options;
    this.#over = new Promise((resolve) => {
      this.#end = (leaving) => {
        this.#ended = true;
        resolve(leaving);
      };
    });
  }

  async run(): Promise<number | null> {
    const { request, response, prepare } = this.#options;
    // The caller's connection must not look dead, whoever else is spoken to.
    this.#timers.push(setInterval(() => void response.write(this.#heartbeat()), request.configure.heartbeatMs));
    this.#channel.onClose(() => this.#hungUp());
    this.#channel.onMessage((message) => this.#receive(message));
    try {
      const ready = await prepare({ write: (message) => this.#channel.send(message) }, (needed) => this.#bring(needed));
      if (ready === null || this.#ended) return null;
      this.#serve(ready);
      return await this.#over;
    } finally {
      this.#ended = true;
      clearTimeout(this.#idleTimer);
      this.#resident?.listen(null);
      // Nothing is sent again by an environment that is frozen.
      await this.#channel.settled();
      this.#timers.forEach((timer) => clearInterval(timer));
      this.#channel.close();
    }
  }

  #serve({ resident, configured }: Ready): void {
    this.#resident = resident;
    resident.listen({
      hear: (message) => this.#say(message),
      idle: (message) => void this.#say(message),
      exit: (code) => (code === 0 ? this.#end(0) : process.exit(code)),
      kill: killProcess,
    });
    void this.#channel.send(configured);
    this.#timers.push(setTimeout(() => this.#drain(), Math.max(0, this.#options.drainAtMs - noticeMs - performance.now())));
    this.#waitForWork();
  }

  // ---- what the orchestrator says ----

  #receive(message: OrchestratorMessage): void {
    if (this.#ended) return;
    switch (message.kind) {
      case "artifact":
        return this.#onChunk?.(message);
      case "assign":
        return this.#assign(message);
      case "stop":
        return this.#stop(message);
      case "reclaim":
      case "cancel":
      case "grant":
        return this.#resident?.send(message);
      // It came with the request.
      case "configure":
        return undefined;
    }
  }

  #assign(message: Extract<OrchestratorMessage, { kind: "assign" }>): void {
    this.#isQuiet = false;
    clearTimeout(this.#idleTimer);
    this.#idleTimer = undefined;
    const beginWithinMs = Math.max(0, this.#options.drainAtMs - performance.now());
    this.#resident?.send({ ...message, endWithinMs: Math.min(message.endWithinMs ?? Infinity, beginWithinMs) });
  }

  #stop(message: Extract<OrchestratorMessage, { kind: "stop" }>): void {
    if (this.#isQuiet) return void this.#bye("asked to stop", null);
    // What is begun cannot be left behind: it would go on in the next invocation.
    if (message.how === "now") return void this.#bye("ended", 0);
    this.#resident?.send(message);
  }

  #hungUp(): void {
    if (!this.#ended) console.warn(`splitrun: the connection to the orchestrator is no more: ${this.#channel.endedBecause}`);
    this.#onChunk?.(null);
    this.#end(this.#isQuiet ? null : 1);
  }

  // ---- what the Task Manager says ----

  async #say(message: TaskManagerMessage): Promise<void> {
    if (message.kind === "heartbeat" || message.kind === "idle") {
      this.#isQuiet = message.held.length === 0 && (message.queues["begun"] ?? 0) === 0;
      await this.#channel.send({ ...message, cpuMs: this.#cpuMs() });
      if (this.#isQuiet) this.#waitForWork();
      return;
    }
    await this.#channel.send(message);
  }

  #waitForWork(): void {
    if (this.#ended || !this.#isQuiet) return;
    if (this.#draining) return void this.#bye("its time is over", null);
    this.#idleTimer ??= setTimeout(() => void this.#bye("nothing to do", null), this.#options.request.idleMs);
  }

  /** What is not begun comes back by itself, by the end of its time. */
  #drain(): void {
    if (this.#ended) return;
    this.#draining = true;
    void this.#channel.send({ kind: "drains" });
    this.#waitForWork();
  }

  async #bye(reason: string, leaving: number | null): Promise<void> {
    if (this.#ended) return;
    // Nothing that comes from here on is worked on.
    this.#resident?.listen(null);
    this.#ended = true;
    await this.#channel.send({ kind: "bye", reason });
    this.#end(leaving);
  }

  // ---- artifacts ----

  /** @throws Error when the connection ends before they are there */
  #bring(needed: readonly string[]): Promise<void> {
    const lacking = new Map(this.#options.request.artifacts.filter(({ sha256 }) => needed.includes(sha256)).map((artifact) => [artifact.sha256, artifact]));
    return new Promise((resolve, reject) => {
      let writes = Promise.resolve();
      const take = async ({ sha256, offset, data, last }: ArtifactChunk) => {
        const artifact = lacking.get(sha256);
        if (artifact === undefined || !(await this.#options.artifacts.write(artifact, offset, Buffer.from(data, "base64"), last))) return;
        lacking.delete(sha256);
        if (lacking.size > 0) return;
        this.#onChunk = null;
        resolve();
      };
      this.#onChunk = (chunk) => {
        if (chunk === null) return reject(new Error("the connection ended while artifacts were on their way"));
        writes = writes.then(() => take(chunk)).catch(reject);
      };
    });
  }

  // ---- states ----

  #cpuMs(): number {
    const { user, system } = process.cpuUsage(this.#cpuBefore);
    return (user + system) / 1000;
  }

  #heartbeat(): TaskManagerMessage {
    return { kind: "heartbeat", held: [], rssMb: process.memoryUsage.rss() / 1e6, cpuMs: this.#cpuMs(), queues: {} };
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
