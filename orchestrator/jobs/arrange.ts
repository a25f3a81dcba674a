import { JobInvalidError } from "./job-error.ts";
import type { BackendName } from "./names.ts";

/** The machine that Task Managers run on. */
export interface Machine {
  readonly cores: number;
  readonly freeMemoryMb: number;
}

export interface ArrangeRequest {
  readonly backend: BackendName;
  readonly machine: Machine;
  readonly maxRamPerWorkerMb: number | null;
  readonly coresPerWorker: number | null;
  readonly workersPerNode: number | null;
}

export interface Value {
  readonly value: number;
  /** Where it came from, for `splitrun plan`. */
  readonly rule: string;
}

/** What pays off on a machine: the defaults where the job is silent, and the maximum. */
export interface Arrangement {
  readonly taskManagers: Value;
  readonly taskManagersMax: Value;
  /** Cores for one of `count` Task Managers: its inference sessions, its threads for a function. */
  coresEach(count: number): Value;
}

/** MB that `auto` leaves to a worker unless the job says otherwise, and needs at least. */
export const ramPerWorkerMbDefault = 2000;

/**
 * How Task Managers are laid out on this machine. One Task Manager with a session a core does as well as a process a
 * core, and holds one set of queues.
 * @throws JobInvalidError when `auto` finds too little memory
 */
export function arrange(request: ArrangeRequest): Arrangement {
  switch (request.backend) {
    case "sequential":
      return {
        taskManagers: { value: 1, rule: "backend sequential: this process" },
        taskManagersMax: { value: 1, rule: "maximum of backend sequential: 1" },
        coresEach: () => ({ value: 1, rule: "backend sequential: one thing after the other" }),
      };
    case "local":
      return local(request);
    case "auto":
      return auto(request);
    case "lambda":
      return lambda(request);
  }
}

/** Well below what an account may have, and enough for a million images within the hour. */
const lambdaTaskManagersDefault = 100;
const lambdaTaskManagersMax = 10_000;

function lambda({ coresPerWorker }: ArrangeRequest): Arrangement {
  return {
    taskManagers: { value: lambdaTaskManagersDefault, rule: "default of backend lambda: invocations at once" },
    taskManagersMax: { value: lambdaTaskManagersMax, rule: `maximum of backend lambda: ${lambdaTaskManagersMax}; the account's quota is found while it runs` },
    coresEach: () => coresPerWorker === null
      ? { value: 1, rule: "backend lambda: found by the function, one for each 1769 MB of its memory" }
      : { value: coresPerWorker, rule: "resources.coresPerWorker" },
  };
}

function local({ machine: { cores }, coresPerWorker, workersPerNode }: ArrangeRequest): Arrangement {
  const taskManagersMax = workersPerNode === null
    ? { value: cores, rule: `maximum of this machine: ${coresText(cores)}` }
    : { value: workersPerNode, rule: `maximum of the job: resources.workersPerNode ${workersPerNode}` };
  const taskManagers = workersPerNode !== null
    ? { value: workersPerNode, rule: "resources.workersPerNode" }
    : coresPerWorker !== null
      ? { value: Math.max(1, Math.floor(cores / coresPerWorker)), rule: `${coresText(cores)} / resources.coresPerWorker ${coresPerWorker}` }
      : { value: 1, rule: "default of backend local: one with all cores" };
  return { taskManagers, taskManagersMax, coresEach: (count) => coresEach(cores, coresPerWorker, count) };
}

function auto({ machine: { cores, freeMemoryMb }, maxRamPerWorkerMb, coresPerWorker, workersPerNode }: ArrangeRequest): Arrangement {
  const ramMb = maxRamPerWorkerMb ?? ramPerWorkerMbDefault;
  if (freeMemoryMb < ramMb) {
    throw new JobInvalidError([{
      field: "backend",
      value: "auto",
      message: `"auto" needs ${ramMb} MB for a worker, and ${Math.floor(freeMemoryMb)} MB are free; free some, lower resources.maxRamPerWorkerMb, or use backend local`,
    }]);
  }
  const byMemory = Math.floor(freeMemoryMb / ramMb);
  const byCores = Math.max(1, Math.floor(cores / (coresPerWorker ?? 1)));
  const value = Math.min(byMemory, byCores, workersPerNode ?? Infinity);
  const rule = `backend auto: ${Math.floor(freeMemoryMb)} MB free at ${ramMb} MB a worker, ${coresText(cores)}`;
  return {
    taskManagers: { value, rule },
    taskManagersMax: { value, rule: `maximum of this machine: ${Math.floor(freeMemoryMb)} MB free at ${ramMb} MB a worker, ${coresText(cores)}` },
    coresEach: (count) => coresEach(cores, coresPerWorker, count),
  };
}

function coresEach(cores: number, coresPerWorker: number | null, taskManagers: number): Value {
  if (coresPerWorker !== null) return { value: coresPerWorker, rule: "resources.coresPerWorker" };
  const value = Math.max(1, Math.floor(cores / taskManagers));
  return { value, rule: `${coresText(cores)} of this machine / ${taskManagers === 1 ? "1 Task Manager" : `${taskManagers} Task Managers`}` };
}

/** Cores that one decoding thread keeps busy: the decoding itself is on libvips' own threads. */
const coresPerDecodingThread = 4;

/** Decoding threads of a Task Manager; a second one on two cores gained nothing and cost 45 MB. */
export function decodingThreads(cores: Value): Value {
  return { value: Math.ceil(cores.value / coresPerDecodingThread), rule: `${cores.rule}; one for every ${coresPerDecodingThread} cores` };
}

function coresText(cores: number): string {
  return cores === 1 ? "1 core" : `${cores} cores`;
}
