import { fork, type ChildProcess } from "node:child_process";
import { mkdir } from "node:fs/promises";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { onTestFinished } from "vitest";
import type { ItemError, JsonValue, OrchestratorMessage, TaskManagerMessage, TaskSpec } from "../../task-manager/protocol.ts";
import { taskManagerMessage } from "../../task-manager/protocol.ts";
import { indexesOf } from "../../orchestrator/scheduler/ranges.ts";
import { taskManagerBundle } from "./bundle.ts";

type Configure = Extract<OrchestratorMessage, { kind: "configure" }>;
type Assign = Extract<OrchestratorMessage, { kind: "assign" }>;

export interface TaskManagerOptions {
  readonly task: TaskSpec;
  /** File of the task's artifact. */
  readonly artifact: string;
  readonly folder: string;
  readonly id?: string;
  readonly configure?: Partial<Omit<Configure, "kind" | "task">>;
}

/** A Task Manager in a process of its own, spoken to as an orchestrator would; keeps what it says. */
export interface TaskManagerProcess {
  readonly child: ChildProcess;
  readonly messages: TaskManagerMessage[];
  readonly results: Map<number, JsonValue>;
  readonly errors: Map<number, ItemError>;
  readonly ended: Promise<{ readonly exitCode: number | null; readonly signal: string | null }>;
  send(message: OrchestratorMessage): void;
  assign(inputs: readonly JsonValue[], changes?: Partial<Assign>): void;
  /** Resolves once the condition holds; it is looked at after every message and at the end. */
  until(condition: () => boolean): Promise<void>;
  begun(): number[];
  /** Indexes given back with the cause, a list for each message. */
  returned(cause: string): number[][];
  readonly gone: boolean;
}

export async function startTaskManagerProcess(options: TaskManagerOptions): Promise<TaskManagerProcess> {
  const cwd = path.join(options.folder, options.id ?? "tm-1");
  await mkdir(cwd, { recursive: true });
  const child = fork(await taskManagerBundle(), [options.id ?? "tm-1", path.join(cwd, "artifacts")], { cwd, stdio: ["ignore", "ignore", "inherit", "ipc"], execArgv: [] });
  onTestFinished(() => void child.kill("SIGKILL"));
  const waiters = new Set<() => void>();
  const news = () => waiters.forEach((check) => check());
  let gone = false;
  const started: TaskManagerProcess = {
    child,
    messages: [],
    results: new Map(),
    errors: new Map(),
    ended: new Promise((resolve) =>
      child.once("close", (exitCode, signal) => {
        gone = true;
        resolve({ exitCode, signal });
        news();
      }),
    ),
    send: (message) => void child.send(message),
    assign(inputs, changes = {}) {
      started.send({ kind: "assign", assignment: 1, items: [0, inputs.length], inputs: [...inputs], endWithinMs: null, reversed: false, ...changes });
    },
    until: (condition) =>
      new Promise((resolve, reject) => {
        const check = () => {
          const holds = condition();
          if (!holds && !gone) return;
          waiters.delete(check);
          if (holds) resolve();
          else reject(new Error(`the Task Manager ended before; its last words: ${JSON.stringify(started.messages.slice(-3))}`));
        };
        waiters.add(check);
        check();
      }),
    begun: () => started.messages.flatMap((message) => (message.kind === "begun" ? message.items : [])),
    returned: (cause) => started.messages.flatMap((message) => (message.kind === "returned" && message.cause === cause ? [[...indexesOf(message.items)]] : [])),
    get gone() {
      return gone;
    },
  };
  child.on("message", (raw) => {
    const message = taskManagerMessage.parse(raw);
    started.messages.push(message);
    if (message.kind === "items") {
      for (const { index, output } of message.results) once(started, index).results.set(index, output);
      for (const error of message.errors) once(started, error.index).errors.set(error.index, error);
    }
    news();
  });
  await configure(started, options);
  return started;
}

async function configure(started: TaskManagerProcess, { task, artifact, configure: changes }: TaskManagerOptions): Promise<void> {
  const heard = (kind: TaskManagerMessage["kind"]) => started.messages.some((message) => message.kind === kind);
  await started.until(() => heard("hello"));
  started.send({ kind: "configure", task, reportMs: 20, heartbeatMs: 50, itemTimeoutMs: 60_000, profile: "off", faults: null, memoryLimitMb: null, ...changes });
  await started.until(() => heard("need"));
  const { sha256 } = task.kind === "inference" ? task.model : task.module;
  started.send({ kind: "artifact", sha256, offset: 0, data: (await readFile(artifact)).toString("base64"), last: true });
  await started.until(() => heard("configured") || heard("refused"));
  const refusal = started.messages.find(({ kind }) => kind === "refused");
  if (refusal !== undefined) throw new Error(JSON.stringify(refusal));
}

function once(started: TaskManagerProcess, index: number): TaskManagerProcess {
  if (started.results.has(index) || started.errors.has(index)) throw new Error(`item ${index} ended twice`);
  return started;
}
