import { appendFile } from "node:fs/promises";
import type {
  Channel, HostGrant, LambdaLine, LambdaMessage, LambdaRequest, OrchestratorMessage, TaskManagerMessage,
} from "../../../task-manager/protocol.ts";
import { begunItemsMax, hostOf, protocolVersion } from "../../../task-manager/protocol.ts";
import { SplitrunError } from "../../errors.ts";
import type { LambdaSpec } from "../../jobs/types.ts";
import { indexesOf } from "../../scheduler/ranges.ts";
import { LaunchError, type ExitInfo, type LaunchedTaskManager, type LaunchSpec } from "../types.ts";
import type { ArtifactSource } from "./artifacts.ts";
import type { LambdaFailure } from "./client.ts";
import type { Gate } from "./gate.ts";
import type { InvocationEnd, InvocationTarget, Invoker } from "./invoke.ts";
import { silentSocketMs } from "./client.ts";
import { HeldAssignments, KeptGrants, SlotEnd } from "./slot-end.ts";
import { stepUpNameOf } from "./step-up.ts";
import type { UsageMeter } from "./usage-meter.ts";

/** Lambda takes 6 MB; beside the inputs there are the task, artifacts and grants. */
const inputBytesMax = 1_200_000;
/** Of a buffered answer, which has 6 MB at most: what is begun by then still has room. */
const bufferedBytesMax = 4_000_000;
/** A cold start may take so long, init and model, before the function says a word. */
export const startMs = 60_000;
/** Heartbeats that a stream may miss; its TCP connection may have stalled for a moment. */
export const heartbeatsMissedMax = 10;
export const silentMsMin = 20_000;
/** Refusals of what did not run are sat out for so long: in all, until a launch is one of too many; until work goes elsewhere. */
const launchPatienceMs = 45_000;
const networkPatienceMs = 10_000;
const workPatienceMs = 300_000;
const needsMax = 2;

type Configure = Extract<OrchestratorMessage, { kind: "configure" }>;
type Assign = Extract<OrchestratorMessage, { kind: "assign" }>;
type Began = Extract<LambdaMessage, { kind: "invocation-began" }>;
type Heartbeat = Extract<TaskManagerMessage, { kind: "heartbeat" }>;
type TaskRequest = Extract<LambdaRequest, { kind: "warm" | "work" }>;

/** What all slots of a backend share. */
export interface SlotParts {
  readonly settings: LambdaSpec;
  readonly invoker: Invoker;
  readonly gate: Gate;
  readonly meter: UsageMeter;
  readonly artifacts: ArtifactSource;
  /** How many more slots there are than may have an invocation now; null: none. */
  crowdedBy(): { readonly count: number; readonly error: LaunchError } | null;
  /** Where a response that is too large is put; null: nowhere. */
  spillPlace(): { readonly bucket: string; readonly key: string } | null;
  /** False once Lambda said that it cannot stream. */
  streams: boolean;
}

export interface Slot extends LaunchedTaskManager {
  /** Nothing of it is wanted any more; what runs is paid for all the same. */
  abandon(): void;
}

/** How an exchange with the function ended. */
export type Exchange =
  | { readonly kind: "done" }
  | { readonly kind: "lost"; readonly exit: ExitInfo; readonly outOfMemory: boolean; readonly byFunction: boolean };

/**
 * A Task Manager that is no process: a place for one invocation at a time. What it is assigned goes out in a request,
 * and what the function says of it comes back as if it had been here all the time.
 */
export function startSlot(spec: LaunchSpec, parts: SlotParts): Slot {
  return new InvocationSlot(spec, parts);
}

class InvocationSlot implements Slot {
  readonly exited: Promise<ExitInfo>;
  readonly channel: Channel<OrchestratorMessage, TaskManagerMessage>;
  readonly #end: SlotEnd;
  readonly #spec: LaunchSpec;
  readonly #parts: SlotParts;
  readonly #abort = new AbortController();
  /** Aborted: what has not been sent off is not to be. */
  readonly #noMore = new AbortController();
  readonly #grants = new KeptGrants();
  readonly #held = new HeldAssignments();
  readonly #needed = new Set<string>();
  #queue: Assign[] = [];
  #configure: Configure | undefined;
  #working = false;
  /** The function has begun to answer in a stream, so that it speaks for itself. */
  #isHeard = false;
  #waitingSinceMs = 0;
  #draining = false;
  #cpuMs = 0;
  #rssMb = 0;
  #beats: NodeJS.Timeout | undefined;
  #logPath: string | null;
  /** The log names a log stream already: a file is not opened for each invocation that goes well. */
  #isNoted = false;

  constructor(spec: LaunchSpec, parts: SlotParts) {
    this.#spec = spec;
    this.#parts = parts;
    this.#logPath = spec.logPath;
    this.#end = new SlotEnd({ name: spec.name, receive: (message) => this.#receive(message), close: () => this.abandon() });
    this.exited = this.#end.exited;
    this.channel = this.#end.channel;
  }

  logTo(path: string): void {
    this.#logPath = path;
    this.#isNoted = false;
  }

  abandon(): void {
    this.#leave({ exitCode: null, signal: "SIGKILL", message: "ended from this side" });
  }

  // ---- what the orchestrator says ----

  #receive(message: OrchestratorMessage): void {
    switch (message.kind) {
      case "configure":
        this.#configure = message;
        return void this.#warm(message);
      case "assign":
        return this.#assign(message);
      case "grant":
        return this.#grants.keep(message);
      case "cancel":
        this.#queue = this.#queue.filter(({ assignment }) => assignment !== message.assignment);
        return;
      case "stop":
        return this.#stop(message.how);
      // What was sent off cannot be had back; artifacts go another way.
      case "reclaim":
      case "artifact":
        return;
    }
  }

  #assign(message: Assign): void {
    this.#held.add(message);
    this.#queue.push(message);
    if (this.#working) return;
    this.#working = true;
    // A large assignment comes as several messages, one right after the other.
    setImmediate(() => void this.#work());
  }

  #stop(how: "drain" | "now"): void {
    this.#draining = true;
    this.#giveBack(this.#queue.splice(0));
    this.#noMore.abort();
    // What runs ends by itself, soon.
    if (!this.#working) this.#bye(how === "now" ? "ended" : "asked to stop");
  }

  #giveBack(assigns: readonly Assign[]): void {
    for (const { assignment, items } of assigns) this.#pass({ kind: "returned", assignment, items: [...items], cause: "DRAIN" });
  }

  #bye(reason: string): void {
    this.#end.say({ kind: "bye", reason });
    this.#leave({ exitCode: 0, signal: null });
  }

  // ---- invocations ----

  async #warm(configure: Configure): Promise<void> {
    const exchange = await this.#exchange(configure, "warm", [], this.#function);
    if (exchange.kind === "lost") return this.#leave(exchange.exit);
    if (this.#end.isGone) return;
    this.#beats = setInterval(() => this.#beat(), configure.heartbeatMs);
    // Whoever drains it does not wait for it to have been ready.
    if (this.#draining) this.#bye("asked to stop");
  }

  async #work(): Promise<void> {
    const configure = this.#configure;
    if (configure === undefined) return;
    while (this.#queue.length > 0 && !this.#end.isGone) {
      const exchange = await this.#workOff(configure, this.#takeBatch());
      if (exchange.kind === "lost") return this.#leave(exchange.exit);
    }
    this.#working = false;
    if (this.#end.isGone) return;
    if (this.#draining) return this.#bye("asked to stop");
    this.#end.say({ kind: "idle", ...this.#state() });
  }

  /** Of one assignment, as much as fits into a request. */
  #takeBatch(): readonly Assign[] {
    const batch: Assign[] = [];
    let bytes = 0;
    for (let next = this.#queue[0]; next !== undefined; next = this.#queue[0]) {
      // Each is below 1 MB; a single one need not be measured.
      const nextBytes = batch.length === 0 && this.#queue.length === 1 ? 0 : Buffer.byteLength(JSON.stringify(next.inputs));
      if (batch.length > 0 && (bytes + nextBytes > inputBytesMax || batch[0]?.assignment !== next.assignment)) break;
      bytes += nextBytes;
      batch.push(next);
      this.#queue.shift();
    }
    return batch;
  }

  /** What runs out of memory although it is alone gets more of it, where there is a function that has more. */
  async #workOff(configure: Configure, batch: readonly Assign[]): Promise<Exchange> {
    const stepUp = this.#parts.settings.memoryStepUpMb !== null && batch.every(({ apart }) => apart === true);
    if (!stepUp) return this.#exchange(configure, "work", batch, this.#function);
    const left = new LeftOver(batch);
    const exchange = await this.#exchange(configure, "work", batch, this.#function, left);
    const lacksMemory = exchange.kind === "lost" ? exchange.outOfMemory : left.lackedMemory;
    if (!lacksMemory || this.#end.isGone) return exchange;
    this.#log("info", `out of memory: ${left.size} items go on in ${this.#stepUpFunction.functionName}`);
    return this.#exchange(configure, "work", left.assigns(), this.#stepUpFunction);
  }

  get #function(): InvocationTarget {
    const { functionName, qualifier } = this.#parts.settings;
    return { functionName, qualifier };
  }

  get #stepUpFunction(): InvocationTarget {
    const { functionName, qualifier } = this.#function;
    return { functionName: stepUpNameOf(functionName), qualifier };
  }

  /** One invocation that runs, and before it those that were refused or lacked an artifact. */
  async #exchange(configure: Configure, kind: TaskRequest["kind"], assigns: readonly Assign[], target: InvocationTarget, left?: LeftOver): Promise<Exchange> {
    const sinceMs = performance.now();
    for (let needs = 0; ; ) {
      const round = await this.#invoke(configure, kind, assigns, target, left).catch(unexpected);
      if (round.kind === "needs" && needs++ < needsMax) continue;
      if (round.kind === "needs") return lost({ refusal: new LaunchError("the function asked for artifacts again and again", { reason: "refused" }) });
      if (round.kind !== "not-now") {
        // What one environment lacks the next may have; it is not sent along each time.
        this.#needed.clear();
        return round;
      }
      if (performance.now() - sinceMs < patienceMs(kind, round.failure)) continue;
      return outOfPatience(round.failure);
    }
  }

  async #invoke(configure: Configure, kind: TaskRequest["kind"], assigns: readonly Assign[], target: InvocationTarget, left: LeftOver | undefined): Promise<Round> {
    const { gate, invoker, meter } = this.#parts;
    this.#isHeard = false;
    this.#waitingSinceMs = performance.now();
    const buffered = this.#parts.settings.buffered || !this.#parts.streams;
    const request = await this.#request(configure, kind, assigns, buffered);
    const crowd = this.#parts.crowdedBy();
    if (crowd !== null && gate.isFull) throw crowd.error;
    const leave = await gate.enter(this.#noMore.signal).catch((error: unknown) => {
      if (!this.#noMore.signal.aborted) throw error;
      return null;
    });
    if (leave === null) {
      this.#giveBack(assigns);
      return { kind: "done" };
    }
    const metered = meter.start({ taskManager: this.#spec.name, functionName: target.functionName, beginWithinMs: beginWithinMsOf(request) });
    const heard = new Heard();
    this.#waitingSinceMs = performance.now();
    const end = await invoker.invoke({
      target,
      payload: JSON.stringify(request),
      buffered,
      firstMs: buffered ? silentSocketMs + beginWithinMsOf(request) + configure.itemTimeoutMs : silentSocketMs,
      silentMs: Math.max(silentMsMin, heartbeatsMissedMax * configure.heartbeatMs),
      signal: this.#abort.signal,
      onLine: (line) => {
        if (this.#end.isGone) return;
        this.#isHeard = !buffered;
        heard.line(line);
        if (line.kind === "invocation-began") metered.began(line);
        if (line.kind === "invocation-ended") metered.ended(line);
        this.#hear(line, kind, left);
      },
    });
    leave(refusalOfRunning(end, buffered));
    this.#isHeard = false;
    this.#waitingSinceMs = performance.now();
    metered.over({ requestId: end.requestId, log: end.log, ran: end.kind !== "refused", abandoned: this.#end.isGone });
    this.#note(target, end, heard);
    return this.#roundOf(end, heard, { buffered, warm: kind === "warm", assigns });
  }

  #roundOf(end: InvocationEnd, heard: Heard, { buffered, warm, assigns }: { readonly buffered: boolean; readonly warm: boolean; readonly assigns: readonly Assign[] }): Round {
    if (end.kind === "refused") {
      const round = roundOfRefusal(end.failure, this.#parts, buffered);
      if (round.kind === "not-now" && isWithoutStreaming(end.failure, buffered)) this.#log("warn", `${end.failure.message}: answers are read at their end from now on`);
      return round;
    }
    this.#parts.gate.accepted();
    if (heard.refused !== null) {
      const { code, field, message } = heard.refused;
      return lost({ message, refusal: new SplitrunError(`${field}: ${message}`, { code, field }) });
    }
    if (heard.needed.length > 0) {
      for (const sha256 of heard.needed) this.#needed.add(sha256);
      return { kind: "needs" };
    }
    // What it has said of its end is the end, whatever became of the connection, and of a process that wanted to leave.
    if (heard.ended !== null && (end.kind !== "failed" || heard.ended.leaves)) {
      const missing = warm ? !heard.configured : assigns.some(({ assignment }) => this.#isMissing(assignment));
      return missing ? lost({ message: "the function ended without a word on what it had" }) : { kind: "done" };
    }
    if (end.kind === "answered") return lost({ message: "the function's answer was no answer of a Task Manager; run `splitrun redeploy`" });
    // Nothing tells which were begun: any may be to blame.
    if (end.kind === "failed" && buffered) this.#sayAllBegun(assigns);
    return lostBy(end, warm);
  }

  #isMissing(assignment: number): boolean {
    const queued = this.#queue.reduce((sum, each) => sum + (each.assignment === assignment ? each.inputs.length : 0), 0);
    return this.#held.missing(assignment) > queued;
  }

  async #request(configure: Configure, kind: TaskRequest["kind"], assigns: readonly Assign[], buffered: boolean): Promise<TaskRequest> {
    const { settings, artifacts, spillPlace } = this.#parts;
    return {
      protocol: protocolVersion,
      kind,
      taskManager: this.#spec.name,
      configure,
      coresByMemory: settings.coresByMemory,
      env: { ...this.#spec.env },
      artifacts: [...(await artifacts.of(configure.task, this.#spec.artifacts, this.#needed))],
      grants: this.#grantsFor(assigns),
      assigns: [...assigns],
      beginWithinMs: settings.splitSeconds * 1000,
      buffered: buffered ? { bytesMax: bufferedBytesMax, spill: spillPlace() } : null,
    };
  }

  /** Those of the hosts that it is about to ask. */
  #grantsFor(assigns: readonly Assign[]): HostGrant[] {
    if (this.#grants.size === 0 || assigns.length === 0) return [];
    const hosts = new Set<string | null>([null]);
    for (const { inputs } of assigns) for (const input of inputs) hosts.add(hostOf(input));
    return this.#grants.of(hosts);
  }

  // ---- what the function says ----

  #hear(line: LambdaLine, kind: TaskRequest["kind"], left: LeftOver | undefined): void {
    switch (line.kind) {
      case "configured":
        if (kind === "warm") this.#end.say({ ...line, room: 1 });
        return;
      case "begun":
        return this.#pass(line);
      case "items":
        left?.ended(line.assignment, [...line.results, ...line.errors]);
        return this.#pass(line);
      case "returned":
        if (left?.keeps(line) === true) return;
        left?.returned(line.assignment, line.items);
        return this.#pass(line);
      case "sized":
      case "hosts":
      case "memory":
      case "log":
        return this.#end.say(line);
      case "heartbeat":
        this.#rssMb = line.rssMb;
        if (kind === "work") this.#end.say({ ...line, held: this.#held.now(), cpuMs: this.#cpuMs + line.cpuMs });
        return;
      case "invocation-ended":
        this.#cpuMs += line.cpuMs;
        this.#rssMb = line.rssMb;
        return;
      case "hello":
      case "need":
      case "refused":
      case "idle":
      case "bye":
      case "invocation-began":
      case "drains":
      case "spilled":
        return;
    }
  }

  /** About items: only of what it was given. */
  #pass(message: Extract<TaskManagerMessage, { kind: "begun" | "items" | "returned" }>): void {
    if (this.#held.hear(message)) this.#end.say(message);
  }

  #sayAllBegun(assigns: readonly Assign[]): void {
    for (const { assignment, items } of assigns) {
      const indexes = [...indexesOf(items)];
      for (let at = 0; at < indexes.length; at += begunItemsMax) this.#pass({ kind: "begun", assignment, items: indexes.slice(at, at + begunItemsMax) });
    }
  }

  /** While the function cannot speak for itself: it starts, waits for its turn, or answers at its end. */
  #beat(): void {
    const isStarting = performance.now() - this.#waitingSinceMs < startMs;
    const isBuffered = this.#parts.settings.buffered || !this.#parts.streams;
    const isInGate = this.#working && this.#parts.gate.isCrowded;
    if (!this.#working || (!this.#isHeard && (isStarting || isBuffered || isInGate))) this.#end.say({ kind: "heartbeat", ...this.#state() });
  }

  #state(): Omit<Heartbeat, "kind"> {
    return { held: this.#held.now(), rssMb: this.#rssMb, cpuMs: this.#cpuMs, queues: {} };
  }

  #log(level: "info" | "warn", message: string): void {
    this.#end.say({ kind: "log", level, message });
  }

  #leave(info: ExitInfo): void {
    this.#end.leave(info, () => {
      clearInterval(this.#beats);
      this.#noMore.abort();
      this.#abort.abort();
    });
  }

  /** Where in Lambda's log to look, and the end of it where something went wrong. */
  #note(target: InvocationTarget, end: InvocationEnd, { began }: Heard): void {
    if (this.#logPath === null || end.kind === "refused") return;
    // Warm ones take turns: a line for each change among them would be one an invocation.
    if (end.kind === "answered" && this.#isNoted && began?.cold !== true) return;
    this.#isNoted = true;
    note(this.#logPath, target, end, began);
  }
}

/** Where in Lambda's log to look, as a line, and the end of that log where something went wrong. */
export function note(logPath: string, target: InvocationTarget, end: Exclude<InvocationEnd, { kind: "refused" }>, began: Began | null): void {
  const where = `${new Date().toISOString()} ${target.functionName} request ${end.requestId ?? "unknown"}${began === null ? "" : ` in ${began.environment}${began.cold ? " (cold start)" : ""}`}`;
  const what = end.kind === "answered" ? "answered" : end.failure.message;
  const tail = end.kind === "failed" && end.log !== null ? `\n${end.log.trimEnd()}` : "";
  // A full disk is the journal's to report.
  void appendFile(logPath, `${where}: ${what}${tail}\n`, { mode: 0o600 }).catch(() => undefined);
}

export type Round = Exchange | { readonly kind: "needs" } | { readonly kind: "not-now"; readonly failure: LambdaFailure };

/** What an invocation said of itself. */
class Heard {
  began: Began | null = null;
  ended: Extract<LambdaMessage, { kind: "invocation-ended" }> | null = null;
  refused: Extract<TaskManagerMessage, { kind: "refused" }> | null = null;
  needed: readonly string[] = [];
  configured = false;

  line(line: LambdaLine): void {
    if (line.kind === "invocation-began") this.began = line;
    if (line.kind === "invocation-ended") this.ended = line;
    if (line.kind === "refused") this.refused = line;
    if (line.kind === "need") this.needed = line.artifacts;
    if (line.kind === "configured") this.configured = true;
  }
}

/** What is left of items that are alone, for a function with more memory. */
class LeftOver {
  readonly #assigns: readonly Assign[];
  readonly #left: Set<number>;
  lackedMemory = false;

  constructor(assigns: readonly Assign[]) {
    this.#assigns = assigns;
    this.#left = new Set(assigns.flatMap(({ items }) => [...indexesOf(items)]));
  }

  get size(): number {
    return this.#left.size;
  }

  ended(_assignment: number, items: readonly { readonly index: number }[]): void {
    for (const { index } of items) this.#left.delete(index);
  }

  returned(_assignment: number, items: readonly number[]): void {
    for (const index of indexesOf(items)) this.#left.delete(index);
  }

  /** Given back for lack of memory: it is not told to anybody, since it goes on elsewhere. */
  keeps({ cause }: Extract<TaskManagerMessage, { kind: "returned" }>): boolean {
    if (cause === "MEMORY") this.lackedMemory = true;
    return cause === "MEMORY";
  }

  assigns(): readonly Assign[] {
    return this.#assigns.flatMap((assign) => {
      const kept = [...indexesOf(assign.items)].map((index, at) => ({ index, input: assign.inputs[at] ?? null })).filter(({ index }) => this.#left.has(index));
      return kept.length === 0 ? [] : [{ ...assign, items: kept.flatMap(({ index }) => [index, index + 1]), inputs: kept.map(({ input }) => input) }];
    });
  }
}

export function lost(exit: Partial<ExitInfo>, more: { readonly outOfMemory: boolean; readonly byFunction: boolean } = { outOfMemory: false, byFunction: false }): Exchange {
  return { kind: "lost", exit: { exitCode: null, signal: null, ...exit }, ...more };
}

export function lostBy(end: Extract<InvocationEnd, { failure: unknown }>, warm: boolean): Exchange {
  if (end.kind !== "failed") {
    // It may run: whoever starts it anew is refused if that cannot work.
    const { failure } = end;
    return lost({ message: withWayOut(failure), ...(warm && !failure.retryable ? { refusal: refusalOf(failure) } : {}) });
  }
  const { kind, exitCode, signal, message } = end.failure;
  const more = { outOfMemory: kind === "out-of-memory", byFunction: true };
  const cannotStart = warm && (kind === "not-loaded" || kind === "threw");
  const refusal = cannotStart ? { refusal: new SplitrunError(`the function does not start: ${message}; run \`splitrun redeploy\``, { code: "LAMBDA_CODE", field: "backend" }) } : {};
  return lost({ exitCode, signal, message, outOfMemory: more.outOfMemory, ...refusal }, more);
}

export function unexpected(error: unknown): Round {
  if (error instanceof LaunchError) return lost({ message: error.message, refusal: error });
  if (error instanceof SplitrunError) return lost({ message: error.message, refusal: error });
  return lost({ message: error instanceof Error ? error.message : String(error) });
}

/** What becomes of an invocation that Lambda did not begin. */
export function roundOfRefusal(failure: LambdaFailure, parts: SlotParts, buffered: boolean): Round {
  if (isWithoutStreaming(failure, buffered)) {
    parts.streams = false;
    return { kind: "not-now", failure };
  }
  if (!failure.retryable) return lost({ message: withWayOut(failure), refusal: refusalOf(failure) });
  const crowd = parts.crowdedBy();
  if (crowd === null) return { kind: "not-now", failure };
  // Work that waited for others to end would be theirs sooner.
  parts.gate.turnAway(crowd.count - 1, crowd.error);
  return lost({ message: crowd.error.message, refusal: crowd.error });
}

/** For the gate: where Lambda may run it another time. */
export function refusalOfRunning(end: InvocationEnd, buffered: boolean): LambdaFailure | null {
  return end.kind === "refused" && end.failure.retryable && !isWithoutStreaming(end.failure, buffered) ? end.failure : null;
}

function isWithoutStreaming({ code }: LambdaFailure, buffered: boolean): boolean {
  return code === "LAMBDA_NO_STREAMING" && !buffered;
}

function refusalOf(failure: LambdaFailure): SplitrunError {
  return new SplitrunError(`backend lambda: ${withWayOut(failure)}`, { code: failure.code, field: "backend" });
}

export function withWayOut({ message, wayOut }: LambdaFailure): string {
  return wayOut === null ? message : `${message}; ${wayOut}`;
}

export function patienceMs(kind: LambdaRequest["kind"], { code }: LambdaFailure): number {
  if (kind === "work") return workPatienceMs;
  return code === "LAMBDA_UNREACHABLE" ? networkPatienceMs : launchPatienceMs;
}

export function outOfPatience(failure: LambdaFailure): Exchange {
  return lost({ message: failure.message, refusal: new LaunchError(withWayOut(failure), { reason: "throttled" }) });
}

function beginWithinMsOf({ beginWithinMs, assigns, kind }: TaskRequest): number {
  if (kind === "warm") return 0;
  return assigns.reduce((longest, { endWithinMs }) => Math.max(longest, Math.min(endWithinMs ?? Infinity, beginWithinMs)), 0);
}
