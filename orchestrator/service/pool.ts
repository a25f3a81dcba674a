import { createHash } from "node:crypto";
import path from "node:path";
import type { TaskManagerMessage } from "../../task-manager/protocol.ts";
import type { ArtifactFiles, Backend, ExitInfo } from "../backends/types.ts";
import { LaunchError } from "../backends/types.ts";
import { SplitrunError } from "../errors.ts";
import type { ItemMessage, Pool, PoolListener } from "../run/pool.ts";
import type { LossCause, TaskManagerId } from "../scheduler/types.ts";
import type { Account, Metering } from "./metering.ts";
import type { HostLimits } from "./host-budgets.ts";
import { startHostManners } from "./host-manners.ts";
import { DiedError, exitText, type ReadyTaskManager, type TaskManagerSettings } from "./start-task-manager.ts";
import { createStock, NotWantedError, type StockedTaskManager } from "./stock.ts";
import { Turns, type Contender } from "./turns.ts";
import { Widths, type MemberMemory } from "./widths.ts";

const warmTriesMax = 3;
/** Lines that are kept of Task Managers that start before somebody listens. */
const earlyLinesMax = 100;
/** A warning that old has nothing to do with the end of a Task Manager. */
const lastWordsMs = 5_000;
const tasksThatWorkMax = 1_000;

export interface PoolOptions {
  /** At once, over all runs; those that start and those that end count. */
  readonly taskManagersMax: number;
  /** One that no run needs is kept for this long, for the next one with the same task. */
  readonly keptMs: number;
  readonly metering: Metering;
}

/** What one run needs. */
export interface RunNeeds {
  readonly backend: Backend;
  readonly settings: TaskManagerSettings;
  readonly artifacts: ArtifactFiles;
  readonly taskManagersMax: number;
  readonly share: number;
  readonly priority: number;
  readonly hostLimits: HostLimits;
  /** Pays for its Task Managers. */
  readonly account: Account;
}

/** A run's part of the pool. */
export interface RunPool extends Pool {
  /**
   * Has one Task Manager ready ahead of the run, so that a task that cannot work is refused before anything is made.
   * Waits for its turn; where the task is known to work there is nothing to wait for.
   * @throws SplitrunError with the refusal's code and field, or LAUNCH_FAILED
   */
  warm(): Promise<ReadyTaskManager>;
  /** Directory for the Task Managers' logs, once there is one. */
  logTo(directory: string): void;
  /** No more Task Managers than that, however many it wants. */
  limit(taskManagers: number): void;
  /** The run is over: what it has goes back. */
  close(): void;
}

/** All Task Managers of a service, and who may have how many of them. */
export interface ServicePool {
  open(needs: RunNeeds): RunPool;
  close(): Promise<void>;
}

/** A Task Manager at a run. */
interface Member {
  readonly taskManager: StockedTaskManager;
  readonly id: TaskManagerId;
  /** Every run numbers its assignments from 0; a late result of an earlier run's item must not be taken for this one's, nor by the Task Manager. */
  readonly assignmentsFrom: number;
  /** What it did for runs before this one. */
  readonly cpuBeforeMs: number;
  draining: boolean;
  readonly memory: MemberMemory;
  /** The last thing that it complained of. */
  warning: { readonly text: string; readonly atMs: number } | null;
}

interface RunState {
  readonly needs: RunNeeds;
  readonly key: string;
  readonly members: Map<TaskManagerId, Member>;
  readonly launching: Map<TaskManagerId, AbortController>;
  readonly closed: AbortController;
  readonly widths: Widths;
  warm: StockedTaskManager | "starting" | null;
  wanted: number;
  limit: number;
  allowance: number;
  listener: PoolListener | undefined;
  logDirectory: string | null;
  earlyLines: string[];
}

/** Starts Task Managers, gives them their task, hands them to runs, and divides them among the runs. */
export function createPool({ taskManagersMax, keptMs, metering }: PoolOptions): ServicePool {
  const runs = new Set<RunState>();
  const tasksThatWork = new Map<string, ReadyTaskManager>();
  const turns = new Turns<RunState>(taskManagersMax);
  const manners = startHostManners<StockedTaskManager>({
    send: (to, grant) => to.send(grant),
    pace({ host, itemsPerSecond }) {
      for (const { listener } of runs) listener?.paced(host, itemsPerSecond);
    },
  });
  const stock = createStock({ taskManagersMax, keptMs, onReady: (tookMs) => turns.started(tookMs), onChange: divideSoon, manners });
  const onDivided = new Set<() => void>();
  let dividing = false;
  let turnTimer: NodeJS.Timeout | undefined;

  // ---- who may have how many ----

  function divideSoon(): void {
    if (dividing) return;
    dividing = true;
    setImmediate(() => {
      dividing = false;
      divide();
    });
  }

  /** Only what has been given back is given away. */
  function divide(): void {
    const contenders = new Map([...runs].map((run) => [run, contenderOf(run)]));
    const { shares, againInMs } = turns.divide(contenders, performance.now());
    clearTimeout(turnTimer);
    if (againInMs !== null) turnTimer = setTimeout(divideSoon, Math.max(1, againInMs));
    const all = [...runs].map((run, at) => ({ run, share: shares[at] ?? 0 }));
    for (const { run, share } of all) if (share < run.allowance) allow(run, share);
    let free = taskManagersMax - stock.ending - all.reduce((sum, { run }) => sum + Math.max(run.allowance, heldBy(run)), 0);
    for (const { run, share } of all) {
      const taken = Math.max(run.allowance, heldBy(run));
      const allowed = Math.min(share, taken + Math.max(0, free));
      if (allowed <= run.allowance) continue;
      free -= Math.max(0, allowed - taken);
      allow(run, allowed);
    }
    for (const listener of onDivided) listener();
  }

  function allow(run: RunState, taskManagers: number): void {
    run.allowance = taskManagers;
    if (taskManagers === 0) putBackWarm(run);
    run.listener?.allowance(taskManagers);
  }

  function putBackWarm(run: RunState): void {
    if (run.warm === null || run.warm === "starting") return;
    const taskManager = run.warm;
    run.warm = null;
    stock.keep(taskManager);
  }

  /** @throws NotWantedError once the run is over */
  function turnOf(run: RunState): Promise<void> {
    return new Promise((resolve, reject) => {
      const look = () => {
        const over = run.closed.signal.aborted;
        if (!over && run.allowance === 0) return;
        onDivided.delete(look);
        if (over) reject(new NotWantedError());
        else resolve();
      };
      onDivided.add(look);
      look();
    });
  }

  // ---- Task Managers of a run ----

  async function warm(run: RunState): Promise<ReadyTaskManager> {
    const known = tasksThatWork.get(run.key);
    if (known !== undefined) return known;
    await turnOf(run);
    run.warm = "starting";
    try {
      const taskManager = await obtainDespiteDeaths(run);
      taskManager.user = { message: () => undefined, gone: () => void (run.warm = null) };
      run.warm = taskManager;
      if (run.allowance === 0) putBackWarm(run);
      return taskManager.ready;
    } catch (error) {
      run.warm = null;
      throw error;
    } finally {
      divideSoon();
    }
  }

  /** Nobody but chance ends a Task Manager several times before it has even begun. */
  async function obtainDespiteDeaths(run: RunState): Promise<StockedTaskManager> {
    for (let tries = 1; ; tries++) {
      try {
        return await obtain(run, run.closed.signal);
      } catch (error) {
        if (!(error instanceof DiedError) || tries >= warmTriesMax) throw error;
      }
    }
  }

  async function obtain(run: RunState, signal: AbortSignal): Promise<StockedTaskManager> {
    const { backend, settings, artifacts, account } = run.needs;
    const taskManager = await stock.obtain({
      key: run.key,
      backend,
      settings,
      artifacts,
      width: () => run.widths.next,
      signal,
      starting: (name) => metering.charge(backend, name, account),
      logPath: (name) => (run.logDirectory === null ? null : path.join(run.logDirectory, `${name}.log`)),
      log: (level, message) => log(run, level, message),
    });
    metering.charge(backend, taskManager.name, account);
    rememberThatItWorks(run.key, taskManager.ready);
    return taskManager;
  }

  function rememberThatItWorks(key: string, ready: ReadyTaskManager): void {
    tasksThatWork.set(key, ready);
    const [oldest] = tasksThatWork.keys();
    if (tasksThatWork.size > tasksThatWorkMax && oldest !== undefined) tasksThatWork.delete(oldest);
  }

  function launch(run: RunState, id: TaskManagerId): void {
    if (run.warm !== null && run.warm !== "starting") {
      const taskManager = run.warm;
      run.warm = null;
      return bind(run, id, taskManager);
    }
    const notWanted = new AbortController();
    run.launching.set(id, notWanted);
    obtain(run, notWanted.signal).then(
      (taskManager) => {
        run.launching.delete(id);
        bind(run, id, taskManager);
      },
      (error: unknown) => {
        run.launching.delete(id);
        divideSoon();
        if (!(error instanceof NotWantedError)) run.listener?.launchEnded(id, launchFailure(error), messageOf(error), error instanceof LaunchError && error.crowded);
      },
    );
  }

  function bind(run: RunState, id: TaskManagerId, taskManager: StockedTaskManager): void {
    const { assignmentsEnd: assignmentsFrom, cpuMs: cpuBeforeMs } = taskManager;
    const member: Member = { taskManager, id, assignmentsFrom, cpuBeforeMs, draining: false, memory: run.widths.joined(taskManager.width), warning: null };
    run.members.set(id, member);
    taskManager.user = { message: (message) => hear(run, member, message), gone: (exit) => gone(run, member, exit) };
    if (run.logDirectory !== null) taskManager.logTo(path.join(run.logDirectory, `${taskManager.name}.log`));
    run.listener?.joined(id, { ...taskManager.ready, name: taskManager.name });
  }

  function hear(run: RunState, member: Member, message: TaskManagerMessage): void {
    const { listener } = run;
    switch (message.kind) {
      case "begun":
      case "items":
      case "returned":
      case "sized":
      case "heartbeat":
      case "idle": {
        const own = inNumbersOf(member, message);
        return own === null ? undefined : listener?.message(member.id, own);
      }
      case "memory":
        run.widths.heard(member.memory, message);
        return listener?.surroundings(message);
      case "hosts":
        return listener?.surroundings(message);
      case "log":
        if (message.level === "warn" || message.level === "error") member.warning = { text: message.message, atMs: performance.now() };
        return listener?.log(member.id, message.level, `${member.taskManager.name}: ${message.message}`);
      case "hello":
      case "need":
      case "configured":
      case "refused":
      case "bye":
        return undefined;
    }
  }

  function send(run: RunState, id: TaskManagerId, message: RunMessage): void {
    const member = run.members.get(id);
    if (member === undefined) return;
    const { taskManager, assignmentsFrom } = member;
    const assignment = assignmentsFrom + message.assignment;
    taskManager.assignmentsEnd = Math.max(taskManager.assignmentsEnd, assignment + 1);
    taskManager.send(assignmentsFrom === 0 ? message : { ...message, assignment });
  }

  function release(run: RunState, id: TaskManagerId, how: "keep" | "drain" | "kill"): void {
    run.launching.get(id)?.abort();
    run.launching.delete(id);
    const member = run.members.get(id);
    divideSoon();
    if (member === undefined) return;
    const { taskManager } = member;
    if (how === "drain") {
      member.draining = true;
      return stock.end(taskManager, "drain");
    }
    run.members.delete(id);
    taskManager.user = null;
    if (how === "keep") stock.keep(taskManager);
    else stock.end(taskManager, "now");
  }

  function gone(run: RunState, member: Member, exit: ExitInfo): void {
    divideSoon();
    if (!run.members.delete(member.id)) return;
    const ranOut = run.widths.gone(member.memory, exit);
    run.listener?.lost(member.id, lossOf(member, exit), ranOut);
  }

  function log(run: RunState, level: "debug" | "info" | "warn" | "error", message: string): void {
    if (run.listener !== undefined) run.listener.log(0, level, message);
    else if (run.earlyLines.length < earlyLinesMax) run.earlyLines.push(message);
  }

  function limitHosts(): void {
    manners.limit([...runs].map(({ needs }) => needs.hostLimits));
  }

  function close(run: RunState): void {
    runs.delete(run);
    limitHosts();
    run.listener = undefined;
    run.closed.abort();
    putBackWarm(run);
    for (const id of [...run.launching.keys()]) release(run, id, "keep");
    // What its scheduler has not given back may be in the middle of something.
    for (const { taskManager, draining } of run.members.values()) {
      taskManager.user = null;
      if (!draining) stock.end(taskManager, "gently");
    }
    divideSoon();
  }

  return {
    open(needs) {
      const run: RunState = {
        needs,
        key: keyOf(needs),
        members: new Map(),
        launching: new Map(),
        closed: new AbortController(),
        widths: new Widths(),
        warm: null,
        wanted: 1,
        limit: Infinity,
        allowance: 0,
        listener: undefined,
        logDirectory: null,
        earlyLines: [],
      };
      runs.add(run);
      limitHosts();
      divideSoon();
      return {
        get allowance() {
          return run.allowance;
        },
        listen(listener) {
          run.listener = listener;
          for (const line of run.earlyLines.splice(0)) listener.log(0, "info", line);
          for (const { host, itemsPerSecond } of manners.paces()) listener.paced(host, itemsPerSecond);
        },
        want(taskManagers) {
          run.wanted = Math.min(taskManagers, needs.taskManagersMax);
          divideSoon();
        },
        warm: () => warm(run).catch((error: unknown) => Promise.reject(refusalOf(error, needs.backend))),
        limit(taskManagers) {
          if (taskManagers === run.limit) return;
          run.limit = taskManagers;
          divideSoon();
        },
        logTo: (directory) => void (run.logDirectory = directory),
        launch: (id) => launch(run, id),
        send: (id, message) => send(run, id, message),
        release: (id, how) => release(run, id, how),
        close: () => close(run),
      };
    },
    async close() {
      clearTimeout(turnTimer);
      await stock.close();
      manners.close();
    },
  };
}

type RunMessage = Parameters<Pool["send"]>[1];

function contenderOf(run: RunState): Contender {
  const { share, priority, taskManagersMax } = run.needs;
  return { share, priority, wanted: Math.min(run.wanted, run.limit), taskManagersMax: Math.min(taskManagersMax, run.limit), held: heldBy(run), allowance: run.allowance };
}

/** Those that drain have been given back already. */
function heldBy({ members, launching, warm }: RunState): number {
  let held = launching.size + (warm === null ? 0 : 1);
  for (const { draining } of members.values()) if (!draining) held += 1;
  return held;
}

const backendNumbers = new WeakMap<Backend, number>();
let backends = 0;

/** Two of the same name may be of different functions or accounts. */
function numberOf(backend: Backend): number {
  const number = backendNumbers.get(backend) ?? backends++;
  backendNumbers.set(backend, number);
  return number;
}

/** In memory only: settings hold secrets. */
function keyOf({ backend, settings }: RunNeeds): string {
  return createHash("sha256").update(JSON.stringify([numberOf(backend), settings])).digest("hex");
}

/** As the run numbers its assignments; null: about none of its own. */
function inNumbersOf({ assignmentsFrom, cpuBeforeMs }: Member, message: ItemMessage): ItemMessage | null {
  if (assignmentsFrom === 0 && cpuBeforeMs === 0) return message;
  if (message.kind === "heartbeat" || message.kind === "idle") {
    const held = message.held
      .filter(({ assignment }) => assignment >= assignmentsFrom)
      .map(({ assignment, ended }) => ({ assignment: assignment - assignmentsFrom, ended }));
    return { ...message, held, cpuMs: message.cpuMs - cpuBeforeMs };
  }
  return message.assignment < assignmentsFrom ? null : { ...message, assignment: message.assignment - assignmentsFrom };
}

function launchFailure(error: unknown): "throttled" | "refused" | "died" {
  if (error instanceof LaunchError) return error.reason;
  return error instanceof DiedError ? "died" : "refused";
}

function refusalOf(error: unknown, backend: Backend): Error {
  if (error instanceof SplitrunError || error instanceof NotWantedError) return error;
  return new SplitrunError(messageOf(error), { code: "LAUNCH_FAILED", field: "backend", value: backend.name, cause: error });
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function lossOf({ taskManager, draining, warning }: Member, exit: ExitInfo): LossCause {
  const { name } = taskManager;
  const cause = { exitCode: exit.exitCode, signal: exit.signal };
  if (exit.refusal instanceof LaunchError && exit.refusal.reason === "throttled") return { ...cause, message: exit.refusal.message, turnedAway: true };
  const lastWords = warning !== null && performance.now() - warning.atMs < lastWordsMs ? `; it said: ${warning.text}` : "";
  return { ...cause, message: draining && exit.exitCode === 0 ? `${name} ended as asked` : `${name} ended (${exitText(exit)}${lastWords})` };
}
