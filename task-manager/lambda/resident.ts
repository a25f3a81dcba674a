import { createHash } from "node:crypto";
import type { Channel, LambdaRequest, OrchestratorMessage, TaskManagerMessage } from "../protocol.ts";
import { startTaskManager, type EndSignal } from "../task-manager.ts";
import { createExecutor } from "../tasks/create-executor.ts";
import type { Executor } from "../tasks/types.ts";
import type { FunctionArtifacts } from "./artifacts.ts";
import { decodesHere, fittedTo, type FunctionMachine } from "./machine.ts";

export type TaskRequest = Exclude<LambdaRequest, { kind: "ping" }>;
type Configure = TaskRequest["configure"];
type Answer = Extract<TaskManagerMessage, { kind: "need" | "configured" | "refused" }>;

/** Takes what the Task Manager says during an invocation. */
export interface Ear {
  hear(message: TaskManagerMessage): Promise<void>;
  /** All that it held was reported or returned. */
  idle(message: Extract<TaskManagerMessage, { kind: "idle" }>): void;
  /** It wants its process to end. */
  exit(code: number): void;
  /** The same, whatever its threads are at. */
  kill(signal: EndSignal): void;
}

/** A Task Manager that stays with its task from one invocation to the next: threads and sessions outlast the freeze. */
export interface Resident {
  /** Requests with the same one find their task loaded. */
  readonly key: string;
  /** It has ended while nobody heard it, between two invocations: it would take no work. */
  readonly isOver: boolean;
  /** From now on it is heard by this one; null: by nobody. */
  listen(ear: Ear | null): void;
  /** Loads the task, if it is not loaded yet. */
  configure(): Promise<Answer>;
  send(message: OrchestratorMessage): void;
  /** It was frozen for a while. */
  thawed(): void;
  close(): Promise<void>;
}

/** One that has loaded its task. */
export interface Ready {
  readonly resident: Resident;
  readonly configured: Extract<TaskManagerMessage, { kind: "configured" }>;
}

export function keyOf({ configure, env, coresByMemory }: TaskRequest): string {
  // One that is there goes on as it is.
  const { width: _width, ...task } = configure;
  return createHash("sha256").update(JSON.stringify([task, env, coresByMemory])).digest("hex");
}

export function killProcess(signal: EndSignal): void {
  process.kill(process.pid, signal);
}

export interface ResidentOptions {
  readonly request: TaskRequest;
  readonly artifacts: FunctionArtifacts;
  readonly machine: FunctionMachine;
}

export function startResident({ request, artifacts, machine }: ResidentOptions): Resident {
  const key = keyOf(request);
  const configure = configureHere(request, machine);
  const listeners: ((message: OrchestratorMessage) => void)[] = [];
  const closeListeners: (() => void)[] = [];
  const env = applied(request.env);
  let ear: Ear | null = null;
  let executor: Executor | undefined;
  let configured: Answer | undefined;
  let isOver = false;
  let answer: (given: Answer) => void = () => undefined;

  async function send(message: TaskManagerMessage): Promise<void> {
    switch (message.kind) {
      // The invocation's first line has said it.
      case "hello":
        return;
      case "configured":
        configured = message;
        return answer(message);
      case "need":
      case "refused":
        return answer(message);
      case "idle":
        return ear?.idle(message);
      default:
        return ear?.hear(message);
    }
  }

  const channel: Channel<TaskManagerMessage, OrchestratorMessage> = {
    send,
    onMessage: (listener) => void listeners.push(listener),
    onClose: (listener) => void closeListeners.push(listener),
    close: () => undefined,
  };
  const tell = (message: OrchestratorMessage) => listeners.forEach((listener) => listener(message));
  startTaskManager({
    id: request.taskManager,
    channel,
    artifacts,
    threads: true,
    async createExecutor(task, context) {
      executor = await createExecutor(task, { ...context, decodesHere: request.coresByMemory && decodesHere(machine) });
      return executor;
    },
    exit(code) {
      if (ear === null) isOver = true;
      else ear.exit(code);
    },
    kill: (signal) => (ear === null ? killProcess(signal) : ear.kill(signal)),
  });

  return {
    key,
    get isOver() {
      return isOver;
    },
    listen: (next) => void (ear = next),
    configure() {
      if (configured !== undefined) return Promise.resolve(configured);
      const answered = new Promise<Answer>((resolve) => {
        answer = resolve;
      });
      tell(configure);
      return answered;
    },
    send: tell,
    thawed: () => executor?.thawed?.(),
    async close() {
      ear = null;
      for (const listener of closeListeners) listener();
      // At once: what hangs may end when another has its environment.
      env.restore();
      await executor?.close();
    },
  };
}

function configureHere({ configure, coresByMemory }: TaskRequest, { cores, memoryLimitMb }: FunctionMachine): Configure {
  return {
    ...configure,
    task: coresByMemory ? fittedTo(configure.task, cores) : configure.task,
    memoryLimitMb: configure.memoryLimitMb ?? memoryLimitMb,
  };
}

/** The next job's environment is another. */
function applied(env: Readonly<Record<string, string>>): { restore(): void } {
  const before = Object.keys(env).map((name) => [name, process.env[name]] as const);
  Object.assign(process.env, env);
  return {
    restore() {
      for (const [name, value] of before) {
        if (value === undefined) delete process.env[name];
        else process.env[name] = value;
      }
    },
  };
}
