import type { OrchestratorMessage, TaskManagerMessage } from "../../task-manager/protocol.ts";
import type { ArtifactFiles, Backend, ExitInfo, LaunchedTaskManager } from "../backends/types.ts";
import type { HostManners } from "./host-manners.ts";
import { becomeReady, DiedError, type ReadyTaskManager, type TaskManagerSettings } from "./start-task-manager.ts";

/** One that was given back may still have to say that it is idle, or end what nobody wants any more: worth a wait, a short one. */
const settlingMs = 1_000;
const busyKeptMs = 10_000;
/** Heartbeats that one which is kept may miss. */
const heartbeatsMissedMax = 3;
/** After a request to end, before it is ended. */
const drainTimeoutMs = 30_000;
/** A native call under way must not be cut by a clean exit, so a short while is given before it is ended. */
const gentleTimeoutMs = 1_000;

/** What a Task Manager is wanted for. */
export interface Wanted {
  /** Equal for all that can use the same Task Manager. */
  readonly key: string;
  readonly backend: Backend;
  readonly settings: TaskManagerSettings;
  readonly artifacts: ArtifactFiles;
  /** How much of what it could do at once a new one begins with, since others ran out of memory; 1: all. */
  width(): number;
  /** Aborted: not wanted any more. */
  readonly signal: AbortSignal;
  /** One is being started for this, under that name. */
  starting(name: string): void;
  logPath(name: string): string | null;
  log(level: "debug" | "info" | "warn" | "error", message: string): void;
}

/** A Task Manager that has its task, from then to its end. */
export interface StockedTaskManager {
  readonly name: string;
  readonly ready: ReadyTaskManager;
  /** What it began with. */
  readonly width: number;
  /** Who has it; null: nobody. */
  user: StockUser | null;
  /** CPU time of its process, as it said last. */
  readonly cpuMs: number;
  /** Assignments with lower numbers are over, or were its earlier users'. */
  assignmentsEnd: number;
  send(message: OrchestratorMessage): void;
  /** From now on, what it prints goes there. */
  logTo(path: string): void;
}

export interface StockUser {
  message(message: TaskManagerMessage): void;
  gone(exit: ExitInfo): void;
}

export class NotWantedError extends Error {}

export interface Stock {
  /** Told to end, and there still. */
  readonly ending: number;
  /**
   * One that was kept, or a new one once there is a place for it.
   * @throws NotWantedError once it is not wanted any more; LaunchError, DiedError, SplitrunError (refused)
   */
  obtain(wanted: Wanted): Promise<StockedTaskManager>;
  /** Given back by its user: the next one that wants the same gets it. */
  keep(taskManager: StockedTaskManager): void;
  /** `drain`: what it has begun may end. `gently`: a native call under way may. */
  end(taskManager: StockedTaskManager, how: "drain" | "gently" | "now"): void;
  /** Ends them all; no more can be had. */
  close(): Promise<void>;
}

export interface StockOptions {
  readonly taskManagersMax: number;
  /** One that nobody needs is kept for this long. */
  readonly keptMs: number;
  /** It took this long to have one ready. */
  onReady(tookMs: number): void;
  /** One is kept, or gone. */
  onChange(): void;
  readonly manners: HostManners<StockedTaskManager>;
}

interface Member extends StockedTaskManager {
  readonly key: string;
  readonly backend: Backend;
  readonly launched: LaunchedTaskManager;
  readonly heartbeatMs: number;
  cpuMs: number;
  /** It holds nothing and works on nothing. */
  quiet: boolean;
  /** Given back a moment ago and not quiet yet. */
  settling: boolean;
  heardMs: number;
  timer: NodeJS.Timeout | undefined;
}

interface Waiting {
  readonly wanted: Wanted;
  /** null: there is a place for a new one. */
  readonly give: (member: Member | null) => void;
  readonly refuse: (error: Error) => void;
}

/** The Task Managers of a service, never more than its maximum: in use, kept for the next run with the same task, or ending. */
export function createStock({ taskManagersMax, keptMs, onReady, onChange, manners }: StockOptions): Stock {
  const members = new Map<StockedTaskManager, Member>();
  const kept = new Set<Member>();
  const draining = new Set<Member>();
  /** Told to end at once. */
  const stopping = new Set<Member>();
  /** Started and not gone, ready or not. */
  const running = new Map<LaunchedTaskManager, Backend>();
  let waiting: readonly Waiting[] = [];
  /** Running, or about to be. */
  let places = 0;
  let names = 0;
  let closing = false;

  async function obtain(wanted: Wanted): Promise<Member> {
    const given = await place(wanted);
    const sinceMs = performance.now();
    const member = given ?? (await start(wanted));
    onReady(performance.now() - sinceMs);
    if (!members.has(member)) throw new DiedError(`${member.name} ended as soon as it was ready`);
    if (!wanted.signal.aborted && !closing) return member;
    keep(member);
    throw new NotWantedError();
  }

  function place(wanted: Wanted): Promise<Member | null> {
    return new Promise((give, refuse) => {
      waiting = [...waiting, { wanted, give, refuse }];
      wanted.signal.addEventListener("abort", serve, { once: true });
      serve();
    });
  }

  /** First come, first served; where nothing is free, what is kept for others makes room. */
  function serve(): void {
    const still: Waiting[] = [];
    for (const each of waiting) {
      const wanted = !closing && !each.wanted.signal.aborted;
      const member = wanted ? takeKept(each.wanted.key) : undefined;
      if (!wanted) each.refuse(new NotWantedError());
      else if (member !== undefined) each.give(member);
      else if (places >= taskManagersMax) still.push(each);
      else {
        places += 1;
        each.give(null);
      }
    }
    waiting = still;
    for (let needed = still.length - stopping.size; needed > 0; needed--) {
      const oldest = [...kept].find(({ settling }) => !settling);
      if (oldest === undefined) return;
      end(oldest, "gently");
    }
  }

  function takeKept(key: string): Member | undefined {
    for (const member of [...kept].reverse()) {
      if (member.key !== key || !member.quiet) continue;
      leaveKept(member);
      if (performance.now() - member.heardMs <= heartbeatsMissedMax * member.heartbeatMs) return member;
      end(member, "now");
    }
    return undefined;
  }

  async function start(wanted: Wanted): Promise<Member> {
    const { backend, settings, artifacts } = wanted;
    const name = `tm-${++names}`;
    wanted.starting(name);
    const launched = await launch(wanted, name);
    running.set(launched, backend);
    void launched.exited.then(() => {
      running.delete(launched);
      freePlace();
    });
    if (closing) await backend.stop(launched);
    const width = wanted.width();
    const ready = await becomeReady({ name, backend, launched, settings, width, artifacts, log: (level, message) => wanted.log(level, message) });
    return enlist({ name, ready, width, launched, backend, key: wanted.key, heartbeatMs: settings.heartbeatMs });
  }

  async function launch({ backend, settings, artifacts, logPath }: Wanted, name: string): Promise<LaunchedTaskManager> {
    try {
      return await backend.launch({ name, env: settings.env, logPath: logPath(name), maxRamMb: settings.maxRamMb, artifacts, comeBackWithinMs: settings.heartbeatTimeoutMs });
    } catch (error) {
      freePlace();
      throw error;
    }
  }

  function freePlace(): void {
    places -= 1;
    serve();
    onChange();
  }

  function enlist(about: Pick<Member, "name" | "ready" | "width" | "launched" | "backend" | "key" | "heartbeatMs">): Member {
    const { channel, exited } = about.launched;
    const member: Member = {
      ...about,
      user: null,
      cpuMs: 0,
      assignmentsEnd: 0,
      quiet: true,
      settling: false,
      heardMs: performance.now(),
      timer: undefined,
      send(message) {
        if (message.kind === "assign") member.quiet = false;
        void channel.send(message);
      },
      logTo: (path) => about.launched.logTo(path),
    };
    members.set(member, member);
    manners.joined(member);
    channel.onMessage((message) => hear(member, message));
    void exited.then((exit) => gone(member, exit));
    return member;
  }

  function hear(member: Member, message: TaskManagerMessage): void {
    if (message.kind === "hosts") manners.report(member, message.hosts);
    if (message.kind === "idle" || message.kind === "heartbeat") {
      member.cpuMs = message.cpuMs;
      if (kept.has(member)) return heardOfKept(member, message);
      if (message.kind === "idle") member.quiet = isQuiet(message);
    }
    member.user?.message(message);
  }

  function heardOfKept(member: Member, state: StateMessage): void {
    member.heardMs = performance.now();
    // What its last user gave up on without a word.
    for (const { assignment } of state.held) member.send({ kind: "cancel", assignment });
    if (member.quiet || !isQuiet(state)) return;
    member.quiet = true;
    settle(member, keptMs);
  }

  function settle(member: Member, thenMs: number): void {
    member.settling = false;
    endLater(member, thenMs);
    serve();
    onChange();
  }

  function gone(member: Member, exit: ExitInfo): void {
    clearTimeout(member.timer);
    for (const set of [kept, draining, stopping]) set.delete(member);
    members.delete(member);
    manners.gone(member);
    const { user } = member;
    member.user = null;
    user?.gone(exit);
  }

  function keep(member: Member): void {
    member.user = null;
    if (closing) return end(member, "gently");
    if (draining.has(member) || stopping.has(member) || !members.has(member)) return;
    member.heardMs = performance.now();
    kept.add(member);
    if (member.quiet) return settle(member, keptMs);
    member.settling = true;
    clearTimeout(member.timer);
    member.timer = setTimeout(() => settle(member, busyKeptMs), settlingMs).unref();
    onChange();
  }

  function leaveKept(member: Member): void {
    kept.delete(member);
    clearTimeout(member.timer);
  }

  function endLater(member: Member, ms: number): void {
    clearTimeout(member.timer);
    member.timer = setTimeout(() => end(member, "gently"), ms).unref();
  }

  function end(member: Member, how: "drain" | "gently" | "now"): void {
    if (!members.has(member) || stopping.has(member)) return;
    leaveKept(member);
    if (how === "drain") {
      draining.add(member);
      member.send({ kind: "stop", how: "drain" });
      member.timer = setTimeout(() => end(member, "now"), drainTimeoutMs);
      return;
    }
    draining.delete(member);
    stopping.add(member);
    void endSoon(member.backend, member.launched, how);
  }

  const memberOf = (taskManager: StockedTaskManager): Member | undefined => members.get(taskManager);
  return {
    get ending() {
      return draining.size + stopping.size;
    },
    obtain,
    keep(taskManager) {
      const member = memberOf(taskManager);
      if (member !== undefined) keep(member);
    },
    end(taskManager, how) {
      const member = memberOf(taskManager);
      if (member !== undefined) end(member, how);
    },
    async close() {
      closing = true;
      serve();
      const ready = new Set([...members.values()].map(({ launched }) => launched));
      await Promise.all([...running].map(([launched, backend]) => endSoon(backend, launched, ready.has(launched) ? "gently" : "now")));
    },
  };
}

type StateMessage = Extract<TaskManagerMessage, { kind: "idle" | "heartbeat" }>;

function isQuiet({ held, queues }: StateMessage): boolean {
  return held.length === 0 && (queues["begun"] ?? 0) === 0;
}

async function endSoon(backend: Backend, launched: LaunchedTaskManager, how: "gently" | "now"): Promise<void> {
  if (how === "now") return backend.stop(launched);
  void launched.channel.send({ kind: "stop", how: "now" });
  const timer = setTimeout(() => void backend.stop(launched), gentleTimeoutMs);
  await launched.exited;
  clearTimeout(timer);
}
