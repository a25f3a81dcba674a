import path from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { localBackend } from "../../orchestrator/backends/local.ts";
import type { Backend } from "../../orchestrator/backends/types.ts";
import type { ItemMessage, PoolListener } from "../../orchestrator/run/pool.ts";
import { createMetering } from "../../orchestrator/service/metering.ts";
import { createPool, type RunNeeds, type RunPool } from "../../orchestrator/service/pool.ts";
import { processesMarked } from "../support/cli.ts";
import { functionTask, temporaryFolder } from "../support/function-task.ts";
import { until } from "./support.ts";

const source = `export default async (item) => { await new Promise((resolve) => setTimeout(resolve, item)); return process.pid; };`;

interface Setting {
  /** Numbers of assignments as Task Managers hear them. */
  readonly assignments: readonly number[];
  readonly mark: string;
  open(more?: Partial<RunNeeds>): HeardRun;
}

interface HeardRun {
  readonly pool: RunPool;
  readonly messages: ItemMessage[];
  readonly joined: number[];
  readonly lost: number[];
  readonly allowances: number[];
  pids(): readonly unknown[];
}

let settings = 0;

async function start(taskManagersMax: number, keptMs = 10_000): Promise<Setting> {
  const folder = await temporaryFolder(onTestFinished);
  const { task, artifacts } = await functionTask(folder, source);
  const assignments: number[] = [];
  const backend = overheard(localBackend({ artifactDirectory: path.join(folder, "cache"), taskManagersMax }), assignments);
  const service = createPool({ taskManagersMax, keptMs, metering: createMetering() });
  const runs: RunPool[] = [];
  onTestFinished(async () => {
    for (const run of runs) run.close();
    await service.close();
    await backend.close();
  });
  const mark = `pool-${process.pid}-${++settings}`;
  return {
    assignments,
    mark,
    open(more = {}) {
      const pool = service.open({
        backend,
        settings: { task, env: { SPLITRUN_MARK: mark }, maxRamMb: null, reportMs: 20, heartbeatMs: 50, heartbeatTimeoutMs: 60_000, itemTimeoutMs: 60_000, faults: null },
        artifacts,
        taskManagersMax,
        share: 1,
        priority: 0,
        hostLimits: { concurrency: null, requestsPerSecond: null },
        account: { usage: () => undefined },
        ...more,
      });
      runs.push(pool);
      return listen(pool);
    },
  };
}

/** The same backend; notes which assignments are given. */
function overheard(backend: Backend, assignments: number[]): Backend {
  return {
    ...backend,
    async launch(spec) {
      const launched = await backend.launch(spec);
      const { channel } = launched;
      const send: typeof channel.send = (message) => {
        if (message.kind === "assign") assignments.push(message.assignment);
        return channel.send(message);
      };
      // What stops it is known by the object that it gave.
      return Object.assign(launched, { channel: { ...channel, send } });
    },
  };
}

function listen(pool: RunPool): HeardRun {
  const messages: ItemMessage[] = [];
  const joined: number[] = [];
  const lost: number[] = [];
  const allowances: number[] = [];
  const listener: PoolListener = {
    joined: (id) => void joined.push(id),
    launchEnded: (_id, reason, message) => {
      throw new Error(`${reason}: ${message}`);
    },
    message: (_id, message) => void messages.push(message),
    lost: (id) => void lost.push(id),
    log: () => undefined,
    paced: () => undefined,
    surroundings: () => undefined,
    allowance: (taskManagers) => void allowances.push(taskManagers),
  };
  pool.listen(listener);
  return {
    pool,
    messages,
    joined,
    lost,
    allowances,
    pids: () => messages.flatMap((message) => (message.kind === "items" ? message.results.map(({ output }) => output) : [])),
  };
}

function assign({ pool }: HeardRun, id: number, inputs: readonly number[], first = 0): void {
  pool.send(id, { kind: "assign", assignment: 0, items: [first, first + inputs.length], inputs: [...inputs], endWithinMs: null, reversed: false });
}

const about = (run: HeardRun) => run.messages.filter(({ kind }) => kind === "begun" || kind === "items" || kind === "returned");

describe("the pool of a service", () => {
  test("a Task Manager that is given back goes to the next run with the same task, and what it says of the former is not heard", async () => {
    const { open, assignments } = await start(1);
    const former = open();
    former.pool.launch(1);
    await until(() => former.joined.length === 1);
    assign(former, 1, [0, 50, 50, 50]);
    await until(() => former.pids().length > 0);
    // In the middle of an item, and without a word about what it holds.
    former.pool.release(1, "keep");
    former.pool.close();
    const next = open();
    next.pool.launch(7);
    await until(() => next.joined.length === 1);
    assign(next, 7, [0, 0], 100);
    await until(() => next.pids().length === 2);
    expect(new Set(next.pids())).toEqual(new Set(former.pids()));
    for (const message of about(next)) {
      expect(message).toMatchObject({ assignment: 0 });
      if (message.kind === "begun") expect(message.items.every((index) => index >= 100)).toBe(true);
    }
    await until(() => next.messages.some((message) => message.kind === "idle" && message.held.length === 0));
    // Both runs call theirs 0.
    expect(assignments).toEqual([0, 1]);
  });

  test("one that nobody needs ends after a while", async () => {
    const { open, mark } = await start(1, 100);
    const run = open();
    run.pool.launch(1);
    await until(() => run.joined.length === 1);
    expect(await processesMarked(mark)).toHaveLength(1);
    run.pool.release(1, "keep");
    await until(async () => (await processesMarked(mark)).length === 0);
    run.pool.launch(2);
    await until(() => run.joined.length === 2);
  });

  test("a run is allowed more only once another has given back, and there are never more processes than places", async () => {
    const { open, mark } = await start(2);
    const first = open();
    first.pool.want(2);
    await until(() => first.allowances.at(-1) === 2);
    first.pool.launch(1);
    first.pool.launch(2);
    await until(() => first.joined.length === 2);
    const second = open();
    second.pool.want(2);
    await until(() => first.allowances.at(-1) === 1);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(second.allowances.filter((allowance) => allowance > 0)).toEqual([]);
    first.pool.release(2, "keep");
    await until(() => second.allowances.at(-1) === 1);
    second.pool.launch(1);
    await until(() => second.joined.length === 1);
    expect(await processesMarked(mark)).toHaveLength(2);
    second.pool.close();
    await until(() => first.allowances.at(-1) === 2);
  });

  test("what another run waits for is not kept: a launch that has no place ends one of those", async () => {
    const { open, mark } = await start(1);
    const first = open();
    first.pool.launch(1);
    await until(() => first.joined.length === 1);
    assign(first, 1, [0]);
    await until(() => first.pids().length === 1);
    first.pool.release(1, "keep");
    first.pool.close();
    const { task, artifacts } = await functionTask(await temporaryFolder(onTestFinished), `${source}\n// another one`);
    const second = open({
      settings: { task, env: { SPLITRUN_MARK: mark }, maxRamMb: null, reportMs: 20, heartbeatMs: 50, heartbeatTimeoutMs: 60_000, itemTimeoutMs: 60_000, faults: null },
      artifacts,
    });
    second.pool.launch(1);
    await until(() => second.joined.length === 1);
    const pids = await processesMarked(mark);
    expect(pids).toHaveLength(1);
    expect(first.pids()).not.toContain(pids[0]);
  });

  test("one that dies while it is kept is not handed out, or is lost at once", async () => {
    const { open, mark } = await start(1);
    const run = open();
    run.pool.launch(1);
    await until(() => run.joined.length === 1);
    run.pool.release(1, "keep");
    const [pid = 0] = await processesMarked(mark);
    process.kill(pid, "SIGKILL");
    await until(async () => (await processesMarked(mark)).length === 0);
    // Whether its end is known already is chance.
    for (let id = 2; run.pids().length === 0; id++) {
      run.pool.launch(id);
      await until(() => run.joined.includes(id));
      assign(run, id, [0]);
      await until(() => run.pids().length === 1 || run.lost.includes(id));
    }
    expect(run.pids()).not.toContain(pid);
  });

  test("a task that is known to work needs no turn to be accepted", async () => {
    const { open } = await start(1);
    const first = open();
    const ready = await first.pool.warm();
    first.pool.launch(1);
    await until(() => first.joined.length === 1);
    expect(await open().pool.warm()).toEqual(ready);
  });
});
