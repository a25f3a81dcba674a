import type {
  Channel, HostGrant, LambdaLine, LambdaMessage, LambdaRequest, OrchestratorMessage, TaskManagerMessage,
} from "../../../task-manager/protocol.ts";
import { protocolVersion } from "../../../task-manager/protocol.ts";
import { SplitrunError } from "../../errors.ts";
import { indexesOf, rangesFromSorted } from "../../scheduler/ranges.ts";
import type { DialedChannel } from "../dial-in.ts";
import { sendArtifacts } from "../send-artifacts.ts";
import type { ExitInfo, LaunchSpec } from "../types.ts";
import { artifactsOf } from "./artifacts.ts";
import { silentSocketMs } from "./client.ts";
import type { InvocationEnd, InvocationTarget } from "./invoke.ts";
import type { PullEnd } from "./pull.ts";
import { HeldAssignments, KeptGrants, SlotEnd } from "./slot-end.ts";
import {
  heartbeatsMissedMax, lost, lostBy, note, outOfPatience, patienceMs, refusalOfRunning, roundOfRefusal, silentMsMin, startMs,
  unexpected, type Round, type Slot, type SlotParts,
} from "./slot.ts";

/** With nothing to do for so long an invocation ends: whoever waits is paid for. A run waits longer for what it cost. */
const idleMs = 1_000;
/** After a connection was lost, for Lambda to say why. */
const causeMs = 3_000;
/** Lambda guide, quotas: no invocation lasts longer. */
const invocationMsMax = 900_000;

type Configure = Extract<OrchestratorMessage, { kind: "configure" }>;
type Sent = Extract<OrchestratorMessage, { kind: "assign" | "reclaim" | "cancel" | "stop" }>;
type PullRequest = Extract<LambdaRequest, { kind: "pull" }>;
type State = Omit<Extract<TaskManagerMessage, { kind: "heartbeat" }>, "kind">;

export interface PullSlotParts extends SlotParts {
  readonly pull: PullEnd;
  /** Told of what goes on after a slot's end: its invocation, for a moment. */
  trail(end: Promise<unknown>): void;
}

/**
 * A Task Manager of invocations that dial in, one after the other: while one is there, it is told everything and says
 * everything itself. With nothing to do there is none.
 */
export function startPullSlot(spec: LaunchSpec, parts: PullSlotParts): Slot {
  return new PullSlot(spec, parts);
}

/** One invocation, and the connection that it opens. */
interface Session {
  channel: Channel<OrchestratorMessage, LambdaLine> | null;
  /** It takes work. */
  isOpen: boolean;
  configured: boolean;
  saidBye: boolean;
  /** Why its connection has ended before it said bye; null: it has not. */
  hungUp: string | null;
  refused: Extract<TaskManagerMessage, { kind: "refused" }> | null;
  began: Extract<LambdaMessage, { kind: "invocation-began" }> | null;
  ended: Extract<LambdaMessage, { kind: "invocation-ended" }> | null;
}

class PullSlot implements Slot {
  readonly exited: Promise<ExitInfo>;
  readonly channel: Channel<OrchestratorMessage, TaskManagerMessage>;
  readonly #end: SlotEnd;
  readonly #spec: LaunchSpec;
  readonly #parts: PullSlotParts;
  readonly #abort = new AbortController();
  readonly #grants = new KeptGrants();
  readonly #held = new HeldAssignments();
  /** By assignment, what the invocation that is there was given and has not told the end of. */
  readonly #sent = new Map<number, Set<number>>();
  /** For the next invocation. */
  #queue: Sent[] = [];
  #session: Session | null = null;
  #configure: Configure | undefined;
  #configured = false;
  #serving = false;
  #waitingSinceMs = 0;
  #draining = false;
  #cpuMs = 0;
  #rssMb = 0;
  #beats: NodeJS.Timeout | undefined;
  #logPath: string | null;

  constructor(spec: LaunchSpec, parts: PullSlotParts) {
    this.#spec = spec;
    this.#parts = parts;
    this.#logPath = spec.logPath;
    this.#end = new SlotEnd({ name: spec.name, receive: (message) => this.#receive(message), close: () => this.abandon() });
    this.exited = this.#end.exited;
    this.channel = this.#end.channel;
  }

  logTo(path: string): void {
    this.#logPath = path;
  }

  abandon(): void {
    this.#leave({ exitCode: null, signal: "SIGKILL", message: "ended from this side" });
  }

  // ---- what the orchestrator says ----

  #receive(message: OrchestratorMessage): void {
    switch (message.kind) {
      case "configure":
        this.#configure = message;
        return this.#start();
      case "grant":
        return this.#grant(message);
      case "assign":
        this.#held.add(message);
        this.#pass(message);
        return this.#start();
      case "reclaim":
        if (this.#held.has(message.assignment)) return this.#pass(message);
        return this.#end.say({ kind: "returned", assignment: message.assignment, items: [], cause: "RECLAIMED" });
      case "cancel":
        return this.#cancel(message);
      case "stop":
        return this.#stop(message);
      // Each environment is sent what it lacks.
      case "artifact":
        return undefined;
    }
  }

  /** To the invocation that is there, else to the next. */
  #pass(message: Sent): void {
    if (this.#session?.isOpen !== true) return void this.#queue.push(message);
    if (message.kind === "assign") {
      const sent = this.#sent.get(message.assignment) ?? new Set();
      for (const index of indexesOf(message.items)) sent.add(index);
      this.#sent.set(message.assignment, sent);
    }
    void this.#session.channel?.send(message);
  }

  #cancel(message: Extract<OrchestratorMessage, { kind: "cancel" }>): void {
    const { assignment } = message;
    this.#held.delete(assignment);
    this.#queue = this.#queue.filter((each) => each.kind === "stop" || each.assignment !== assignment);
    if (!this.#sent.delete(assignment)) return this.#sayIfIdle();
    void this.#session?.channel?.send(message);
  }

  #grant(grant: HostGrant): void {
    this.#grants.keep(grant);
    if (this.#session?.isOpen === true) void this.#session.channel?.send(grant);
  }

  #stop(message: Extract<OrchestratorMessage, { kind: "stop" }>): void {
    this.#draining = true;
    for (const each of this.#queue.splice(0)) if (each.kind === "assign") this.#hear({ kind: "returned", assignment: each.assignment, items: each.items, cause: "DRAIN" });
    if (this.#session?.channel) return void this.#session.channel.send(message);
    // One that has not dialed in yet finds nobody there.
    if (this.#session === null || this.#configured) this.#bye();
  }

  #bye(): void {
    this.#end.say({ kind: "bye", reason: "asked to stop" });
    this.#leave({ exitCode: 0, signal: null });
  }

  // ---- invocations ----

  #start(): void {
    if (this.#serving || this.#configure === undefined) return;
    this.#serving = true;
    void this.#serve(this.#configure);
  }

  async #serve(configure: Configure): Promise<void> {
    do {
      const round = await this.#oneAfterRefusals(configure);
      if (round.kind === "lost") return this.#leave(round.exit);
    } while (!this.#end.isGone && !this.#draining && this.#queue.length > 0);
    this.#serving = false;
    if (this.#draining && !this.#end.isGone) this.#bye();
  }

  /** One invocation that runs, and before it those that were refused. */
  async #oneAfterRefusals(configure: Configure): Promise<Exclude<Round, { kind: "not-now" }>> {
    const sinceMs = performance.now();
    const kind = this.#configured ? "work" : "warm";
    for (;;) {
      const round = await this.#invoke(configure).catch(unexpected);
      if (round.kind !== "not-now") return round;
      if (performance.now() - sinceMs < patienceMs(kind, round.failure)) continue;
      return outOfPatience(round.failure);
    }
  }

  async #invoke(configure: Configure): Promise<Round> {
    const { gate, invoker, meter, pull } = this.#parts;
    this.#waitingSinceMs = performance.now();
    const buffered = this.#parts.settings.buffered || !this.#parts.streams;
    const crowd = this.#parts.crowdedBy();
    if (crowd !== null && gate.isFull) throw crowd.error;
    const leave = await gate.enter(this.#abort.signal);
    const target = this.#target;
    const metered = meter.start({ taskManager: this.#spec.name, functionName: target.functionName, beginWithinMs: null });
    const session: Session = { channel: null, isOpen: false, configured: false, saidBye: false, hungUp: null, refused: null, began: null, ended: null };
    this.#session = session;
    this.#waitingSinceMs = performance.now();
    const cut = new AbortController();
    const invitation = pull.dialIn.invite({ comeBackWithinMs: this.#spec.comeBackWithinMs, onConnect: (channel) => this.#join(session, channel, cut) });
    const stopCutting = this.#cutLater(cut);
    const ending = invoker.invoke({
      target,
      payload: JSON.stringify(this.#request(configure, invitation.token, buffered)),
      buffered,
      firstMs: silentSocketMs + (buffered ? invocationMsMax : 0),
      silentMs: Math.max(silentMsMin, heartbeatsMissedMax * configure.heartbeatMs),
      signal: cut.signal,
      onLine: (line) => {
        if (line.kind === "invocation-began") metered.began((session.began = line));
        if (line.kind === "invocation-ended") metered.ended((session.ended = line));
        if (line.kind === "refused") session.refused = line;
        if (!session.configured) this.#waitingSinceMs = performance.now();
      },
    });
    this.#parts.trail(ending);
    const end = await ending;
    stopCutting();
    leave(refusalOfRunning(end, buffered));
    invitation.withdraw();
    session.isOpen = false;
    // Before it is closed: how the invocation ended tells more than that.
    this.#session = null;
    session.channel?.close();
    this.#cpuMs += session.ended?.cpuMs ?? 0;
    metered.over({ requestId: end.requestId, log: end.log, ran: end.kind !== "refused", abandoned: this.#end.isGone && this.#held.size > 0 });
    this.#note(target, end, session);
    return this.#roundOf(end, session, buffered);
  }

  /** Who was abandoned is given a moment to say what it took. */
  #cutLater(cut: AbortController): () => void {
    let timer: NodeJS.Timeout | undefined;
    const later = () => void (timer = setTimeout(() => cut.abort(), causeMs));
    this.#abort.signal.addEventListener("abort", later, { once: true });
    if (this.#abort.signal.aborted) later();
    return () => {
      clearTimeout(timer);
      this.#abort.signal.removeEventListener("abort", later);
    };
  }

  get #target(): InvocationTarget {
    const { functionName, qualifier } = this.#parts.settings;
    return { functionName, qualifier };
  }

  #request(configure: Configure, token: string, buffered: boolean): PullRequest {
    const { settings, pull } = this.#parts;
    return {
      protocol: protocolVersion,
      kind: "pull",
      taskManager: this.#spec.name,
      configure,
      coresByMemory: settings.coresByMemory,
      env: { ...this.#spec.env },
      artifacts: artifactsOf(configure.task).map((artifact) => ({ ...artifact, inline: null, s3: null })),
      dial: { host: pull.host, port: pull.dialIn.port, token, fingerprint: pull.dialIn.fingerprint, comeBackWithinMs: this.#spec.comeBackWithinMs },
      idleMs,
      buffered: buffered ? {} : null,
    };
  }

  #roundOf(end: InvocationEnd, session: Session, buffered: boolean): Round {
    if (end.kind === "refused") return roundOfRefusal(end.failure, this.#parts, buffered);
    this.#parts.gate.accepted();
    if (session.refused !== null) return lost({ message: session.refused.message, refusal: this.#refusalOf(session.refused) });
    if (session.saidBye && session.ended !== null && (end.kind !== "failed" || session.ended.leaves)) {
      this.#takeBackSent();
      return { kind: "done" };
    }
    if (end.kind === "answered" && session.ended === null) return lost({ message: "the function's answer was no answer of a Task Manager; run `splitrun redeploy`" });
    if (end.kind === "failed" && session.ended === null) return lostBy(end, !this.#configured);
    if (session.channel === null && end.kind === "answered") return lost({ message: "never dialed in", refusal: this.#neverDialed("it ended without a word") });
    if (session.hungUp !== null) return lost({ message: `the connection that the function had opened to ${this.#place} is no more: ${session.hungUp}` });
    return end.kind === "answered" ? lost({ message: "the function ended without a word on what it had" }) : lostBy(end, !this.#configured);
  }

  #refusalOf({ code, field, message }: Extract<TaskManagerMessage, { kind: "refused" }>): SplitrunError {
    return code === "LAMBDA_PULL" ? this.#neverDialed(message) : new SplitrunError(`${field}: ${message}`, { code, field });
  }

  #neverDialed(why: string): SplitrunError {
    const { settings, pull } = this.#parts;
    return new SplitrunError(
      `backend.pull: the function ${settings.functionName} did not dial in: ${why}; it has to be in this machine's VPC (\`splitrun deploy --ec2-host-machine\`), and this machine's security group has to let TCP port ${pull.dialIn.port} in from the function's; or leave pull out: streaming needs no way back`,
      { code: "LAMBDA_PULL", field: "backend.pull", value: this.#place },
    );
  }

  get #place(): string {
    const { host, dialIn } = this.#parts.pull;
    return `${host}:${dialIn.port}`;
  }

  /** What was on its way to an invocation that had ended is nobody's. */
  #takeBackSent(): void {
    for (const [assignment, sent] of [...this.#sent]) {
      const items = rangesFromSorted([...sent].sort((a, b) => a - b));
      if (items.length > 0 && !this.#draining) this.#hear({ kind: "returned", assignment, items, cause: "DEADLINE" });
    }
    this.#sent.clear();
    this.#sayIfIdle();
  }

  // ---- what the function says ----

  #join(session: Session, channel: DialedChannel<LambdaLine>, cut: AbortController): void {
    if (this.#end.isGone) return channel.close();
    session.channel = channel;
    channel.onMessage((line) => this.#hearIn(session, channel, line));
    channel.onClose(() => {
      session.isOpen = false;
      if (session.saidBye || this.#session !== session) return;
      session.hungUp = channel.endedBecause;
      const timer = setTimeout(() => cut.abort(), causeMs);
      cut.signal.addEventListener("abort", () => clearTimeout(timer), { once: true });
    });
    if (this.#draining) void channel.send({ kind: "stop", how: "drain" });
  }

  #hearIn(session: Session, channel: Channel<OrchestratorMessage, LambdaLine>, line: LambdaLine): void {
    if (this.#end.isGone) return;
    switch (line.kind) {
      case "need":
        return void sendArtifacts(channel, this.#spec.artifacts, line.artifacts).catch(() => channel.close());
      case "configured":
        return this.#open(session, channel, line);
      case "refused":
        session.refused = line;
        return;
      case "drains":
        session.isOpen = false;
        return;
      case "bye":
        session.isOpen = false;
        session.saidBye = true;
        return;
      case "begun":
      case "items":
      case "returned":
        return this.#hear(line);
      case "sized":
      case "hosts":
      case "memory":
      case "log":
        return this.#end.say(line);
      case "heartbeat":
      case "idle":
        this.#rssMb = line.rssMb;
        // What waits for the next invocation is held, too.
        return this.#end.say({ ...line, kind: this.#held.size === 0 ? line.kind : "heartbeat", held: this.#held.now(), cpuMs: this.#cpuMs + line.cpuMs });
      case "hello":
      case "invocation-began":
      case "invocation-ended":
      case "spilled":
        return;
    }
  }

  #open(session: Session, channel: Channel<OrchestratorMessage, LambdaLine>, line: Extract<TaskManagerMessage, { kind: "configured" }>): void {
    session.configured = true;
    session.isOpen = true;
    for (const grant of this.#grants.all()) void channel.send(grant);
    for (const message of this.#queue.splice(0)) this.#pass(message);
    if (this.#configured) return;
    this.#configured = true;
    this.#beats = setInterval(() => this.#beat(), this.#configure?.heartbeatMs);
    this.#end.say(line);
  }

  /** About items: only of what it was given. */
  #hear(message: Extract<TaskManagerMessage, { kind: "begun" | "items" | "returned" }>): void {
    const { assignment } = message;
    if (!this.#held.hear(message)) return;
    if (message.kind === "items") this.#ended(assignment, [...message.results, ...message.errors].map(({ index }) => index));
    if (message.kind === "returned") this.#ended(assignment, indexesOf(message.items));
    if (!this.#held.has(assignment)) this.#sent.delete(assignment);
    this.#end.say(message);
  }

  #ended(assignment: number, indexes: Iterable<number>): void {
    const sent = this.#sent.get(assignment);
    for (const index of indexes) sent?.delete(index);
  }

  /** While no invocation can speak for itself: there is none, it starts, or waits for its turn. */
  #beat(): void {
    if (this.#session?.configured === true && this.#session.channel !== null && !this.#session.saidBye) return;
    const isStarting = performance.now() - this.#waitingSinceMs < startMs;
    if (!this.#serving || isStarting || this.#parts.gate.isCrowded) this.#end.say({ kind: "heartbeat", ...this.#state() });
  }

  #sayIfIdle(): void {
    if (this.#held.size === 0 && this.#configured) this.#end.say({ kind: "idle", ...this.#state() });
  }

  #state(): State {
    return { held: this.#held.now(), rssMb: this.#rssMb, cpuMs: this.#cpuMs, queues: {} };
  }

  #leave(info: ExitInfo): void {
    this.#end.leave(info, () => {
      clearInterval(this.#beats);
      // It ends by itself once nobody listens.
      this.#session?.channel?.close();
      this.#abort.abort();
    });
  }

  #note(target: InvocationTarget, end: InvocationEnd, { began }: Session): void {
    if (this.#logPath === null || end.kind === "refused") return;
    note(this.#logPath, target, end, began);
  }
}
