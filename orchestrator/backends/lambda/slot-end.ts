import type { Channel, HostGrant, OrchestratorMessage, TaskManagerMessage } from "../../../task-manager/protocol.ts";
import { protocolVersion } from "../../../task-manager/protocol.ts";
import { countOf } from "../../scheduler/ranges.ts";
import type { ExitInfo } from "../types.ts";

const grantsMax = 4_096;

export interface SlotEndOptions {
  /** Of the Task Manager that the slot passes for. */
  readonly name: string;
  receive(message: OrchestratorMessage): void;
  close(): void;
}

/** What the pool sees of a slot: the channel of a Task Manager that is no process, and its end. */
export class SlotEnd {
  readonly channel: Channel<OrchestratorMessage, TaskManagerMessage>;
  readonly exited: Promise<ExitInfo>;
  readonly #listeners: ((message: TaskManagerMessage) => void)[] = [];
  readonly #closeListeners: (() => void)[] = [];
  /** Said before anybody listened. */
  readonly #early: TaskManagerMessage[] = [];
  #isGone = false;
  #exit: (info: ExitInfo) => void = () => undefined;

  constructor({ name, receive, close }: SlotEndOptions) {
    this.exited = new Promise((resolve) => {
      this.#exit = resolve;
    });
    this.channel = {
      send: async (message) => {
        if (!this.#isGone) receive(message);
      },
      onMessage: (listener) => {
        this.#listeners.push(listener);
        for (const message of this.#early.splice(0)) listener(message);
      },
      onClose: (listener) => void this.#closeListeners.push(listener),
      close,
    };
    // Whether the function is of this version, the first invocation shows.
    this.say({ kind: "hello", protocol: protocolVersion, id: name, pid: 0, cores: 1, memoryMb: 0, versions: {} });
  }

  get isGone(): boolean {
    return this.#isGone;
  }

  say(message: TaskManagerMessage): void {
    if (this.#isGone) return;
    if (this.#listeners.length === 0) this.#early.push(message);
    for (const listener of this.#listeners) listener(message);
  }

  /** Once. `cleanUp`: what is to be over before anybody hears of the end. */
  leave(info: ExitInfo, cleanUp: () => void): void {
    if (this.#isGone) return;
    this.#isGone = true;
    cleanUp();
    for (const listener of this.#closeListeners) listener();
    this.#exit(info);
  }
}

/** What hosts bear, kept for the invocations that come; the oldest is forgotten beyond some thousands. */
export class KeptGrants {
  readonly #grants = new Map<string | null, { readonly grant: HostGrant; readonly atMs: number }>();

  keep(grant: HostGrant): void {
    this.#grants.delete(grant.host);
    this.#grants.set(grant.host, { grant, atMs: performance.now() });
    const [oldest] = this.#grants.keys();
    if (this.#grants.size > grantsMax && oldest !== undefined) this.#grants.delete(oldest);
  }

  get size(): number {
    return this.#grants.size;
  }

  /** As they hold from now on, of these hosts where there is one. */
  of(hosts: Iterable<string | null>): HostGrant[] {
    const nowMs = performance.now();
    return [...hosts].flatMap((host) => {
      const known = this.#grants.get(host);
      return known === undefined ? [] : [{ ...known.grant, pausedForMs: Math.max(0, known.grant.pausedForMs - (nowMs - known.atMs)) }];
    });
  }

  all(): HostGrant[] {
    return this.of(this.#grants.keys());
  }
}

type Heartbeat = Extract<TaskManagerMessage, { kind: "heartbeat" }>;

/** What a slot was assigned and has not told the end of, over all its invocations. */
export class HeldAssignments {
  readonly #held = new Map<number, { total: number; ended: number }>();

  get size(): number {
    return this.#held.size;
  }

  has(assignment: number): boolean {
    return this.#held.has(assignment);
  }

  /** An assignment may come in pieces. */
  add({ assignment, inputs }: Extract<OrchestratorMessage, { kind: "assign" }>): void {
    const held = this.#held.get(assignment);
    if (held === undefined) this.#held.set(assignment, { total: inputs.length, ended: 0 });
    else held.total += inputs.length;
  }

  delete(assignment: number): void {
    this.#held.delete(assignment);
  }

  /** Is it about what is held? An assignment that has ended is not any more. */
  hear(message: Extract<TaskManagerMessage, { kind: "begun" | "items" | "returned" }>): boolean {
    const held = this.#held.get(message.assignment);
    if (held === undefined) return false;
    if (message.kind === "items") held.ended += message.results.length + message.errors.length;
    if (message.kind === "returned") held.ended += countOf(message.items);
    if (held.ended >= held.total) this.#held.delete(message.assignment);
    return true;
  }

  /** Items that have not ended; 0 where it is not held. */
  missing(assignment: number): number {
    const held = this.#held.get(assignment);
    return held === undefined ? 0 : held.total - held.ended;
  }

  /** As heartbeats tell it. */
  now(): Heartbeat["held"] {
    return [...this.#held].map(([assignment, { ended }]) => ({ assignment, ended }));
  }
}
