import path from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import type { Backend } from "../../orchestrator/backends/types.ts";
import type { ItemMessage, PoolListener } from "../../orchestrator/run/pool.ts";
import type { LossCause } from "../../orchestrator/scheduler/types.ts";
import { createMetering } from "../../orchestrator/service/metering.ts";
import { createPool, type RunPool } from "../../orchestrator/service/pool.ts";
import type { ItemError, ItemResult, JsonValue } from "../../task-manager/protocol.ts";
import { functionTask, temporaryFolder, type FunctionTaskFixture } from "../support/function-task.ts";

/** What a backend cannot have, with the reason; the tests of it are left out by name. */
export interface ContractGaps {
  /** User code is on a thread or in a process of its own, so it can hang or end without taking the protocol along. */
  readonly isolation?: string;
  /** Each Task Manager has a folder and an environment of its own. */
  readonly ownFolder?: string;
  /** What was handed out can be had back or called off. */
  readonly wayBack?: string;
}

interface Heard {
  readonly pool: RunPool;
  readonly messages: ItemMessage[];
  readonly results: ItemResult[];
  readonly errors: ItemError[];
  readonly losses: LossCause[];
  readonly joined: number[];
  until(condition: () => boolean): Promise<void>;
}

/** One function that does what its item says. */
const source = `
import { readdirSync } from "node:fs";
export default async (item, context) => {
  if (item === "throw") throw new Error("no luck");
  if (item === "undefined") return undefined;
  if (item === "exit") process.exit(7);
  if (item === "hang") for (;;);
  if (item === "never") return new Promise(() => {});
  if (item === "kill") process.kill(process.pid, "SIGKILL");
  if (item === "slow") { await new Promise((r) => setTimeout(r, 150)); return "slow"; }
  if (item === "print") { for (let i = 0; i < 40; i++) console.log("x".repeat(100_000)); return "printed"; }
  if (item === "folder") return { cwd: process.cwd(), files: readdirSync(".") };
  if (item === "env") return process.env.SPLITRUN_TEST_VALUE ?? null;
  return { item, index: context.index };
};
`;

/** Every backend keeps this contract. */
export function backendContract(name: string, create: (options: { readonly artifactDirectory: string }) => Backend | Promise<Backend>, gaps: ContractGaps = {}): void {
  // What cannot be had is not a test left out: it is named by one of the last tests, with its reason.
  const leaveOut = () => undefined;
  const isolated = gaps.isolation === undefined ? test : leaveOut;
  const ownFolder = gaps.ownFolder === undefined ? test : leaveOut;
  const wayBack = gaps.wayBack === undefined ? test : leaveOut;

  async function start(options: { readonly itemTimeoutMs?: number; readonly threads?: number } = {}): Promise<Heard> {
    const folder = await temporaryFolder(onTestFinished);
    const fixture = await functionTask(folder, source, { threads: options.threads ?? 1 });
    return listen(open(await create({ artifactDirectory: path.join(folder, "cache") }), fixture, options.itemTimeoutMs ?? 60_000));
  }

  describe(`the ${name} backend`, () => {
    test("gives each item's result, after fetching the artifact that it lacks", async () => {
      const heard = await start();
      heard.pool.launch(1);
      await heard.until(() => heard.joined.length === 1);
      assign(heard, 0, ["a", { b: [1, null] }, 3]);
      await heard.until(() => heard.results.length === 3);
      expect(heard.results.sort(byIndex)).toEqual([
        { index: 0, output: { item: "a", index: 0 } },
        { index: 1, output: { item: { b: [1, null] }, index: 1 } },
        { index: 2, output: { item: 3, index: 2 } },
      ]);
    });

    test("two Task Managers work side by side", async () => {
      if ((await create({ artifactDirectory: "unused" })).taskManagersMax < 2) return expect(gaps.isolation).toBeDefined();
      const heard = await start();
      heard.pool.launch(1);
      heard.pool.launch(2);
      await heard.until(() => heard.joined.length === 2);
      expect([...heard.joined].sort()).toEqual([1, 2]);
    });

    test("one bad item is an error and its neighbours have results", async () => {
      const heard = await start();
      heard.pool.launch(1);
      await heard.until(() => heard.joined.length === 1);
      assign(heard, 0, ["a", "throw", "undefined", "b"]);
      await heard.until(() => heard.results.length + heard.errors.length === 4);
      expect(heard.results.map(({ index }) => index).sort()).toEqual([0, 3]);
      expect(heard.errors.sort(byIndex)).toMatchObject([
        { index: 1, code: "FUNCTION_THREW", stage: "function", message: "Error: no luck", retryable: true },
        { index: 2, code: "FUNCTION_RESULT", stage: "function", retryable: false },
      ]);
    });

    test("items are announced as begun before they end, at most 64 at once", async () => {
      const heard = await start();
      heard.pool.launch(1);
      await heard.until(() => heard.joined.length === 1);
      assign(heard, 0, Array.from({ length: 3000 }, (_, at) => at));
      await heard.until(() => heard.results.length === 3000);
      const begun = new Set<number>();
      for (const message of heard.messages) {
        if (message.kind === "begun") {
          expect(message.items.length).toBeLessThanOrEqual(64);
          for (const index of message.items) begun.add(index);
        } else if (message.kind === "items") {
          for (const { index } of message.results) expect(begun.has(index)).toBe(true);
        }
      }
      expect(begun.size).toBe(3000);
    });

    test("says that it is idle once everything is reported, and holds nothing", async () => {
      const heard = await start();
      heard.pool.launch(1);
      await heard.until(() => heard.joined.length === 1);
      assign(heard, 0, ["a"]);
      await heard.until(() => heard.messages.some(({ kind }) => kind === "idle"));
      expect(heard.messages.find(({ kind }) => kind === "idle")).toMatchObject({ held: [] });
    });

    wayBack("gives back what is not begun when asked to end, and ends", async () => {
      const heard = await start();
      heard.pool.launch(1);
      await heard.until(() => heard.joined.length === 1);
      assign(heard, 0, Array.from({ length: 100 }, () => "slow"));
      await heard.until(() => heard.messages.some(({ kind }) => kind === "begun"));
      heard.pool.release(1, "drain");
      await heard.until(() => heard.losses.length === 1);
      expect(heard.results.length + countReturned(heard, "DRAIN")).toBe(100);
      expect(countReturned(heard, "DRAIN")).toBeGreaterThan(50);
      expect(heard.losses[0]?.exitCode).toBe(0);
    });

    wayBack("gives back the end of an assignment when it is reclaimed", async () => {
      const heard = await start();
      heard.pool.launch(1);
      await heard.until(() => heard.joined.length === 1);
      assign(heard, 0, Array.from({ length: 40 }, () => "slow"));
      heard.pool.send(1, { kind: "reclaim", assignment: 0, items: 30 });
      await heard.until(() => countReturned(heard, "RECLAIMED") > 0);
      const returned = heard.messages.find((message) => message.kind === "returned");
      expect(returned).toMatchObject({ cause: "RECLAIMED", items: [10, 40] });
    });

    wayBack("says nothing more of an assignment that was cancelled", async () => {
      const heard = await start();
      heard.pool.launch(1);
      await heard.until(() => heard.joined.length === 1);
      assign(heard, 0, Array.from({ length: 20 }, () => "slow"));
      heard.pool.send(1, { kind: "cancel", assignment: 0 });
      assign(heard, 1, ["a"], 500);
      await heard.until(() => heard.results.some(({ index }) => index === 500));
      expect(heard.messages.filter((message) => message.kind === "items" && message.assignment === 0)).toEqual([]);
    });

    ownFolder("runs in an empty folder of its own, with the job's environment", async () => {
      const heard = await start();
      heard.pool.launch(1);
      await heard.until(() => heard.joined.length === 1);
      assign(heard, 0, ["folder", "env"]);
      await heard.until(() => heard.results.length === 2);
      const [folder, env] = heard.results.sort(byIndex);
      expect(folder?.output).toMatchObject({ files: [] });
      expect((folder?.output as { cwd: string }).cwd).not.toBe(process.cwd());
      expect(env?.output).toBe("given");
    });

    isolated("is lost with its exit code when an item ends the process, and the suspects are known", async () => {
      const heard = await start();
      heard.pool.launch(1);
      await heard.until(() => heard.joined.length === 1);
      assign(heard, 0, ["a", "exit", "b"]);
      await heard.until(() => heard.losses.length === 1);
      expect(heard.losses[0]).toMatchObject({ exitCode: 7, signal: null });
      const begun = heard.messages.flatMap((message) => (message.kind === "begun" ? message.items : []));
      expect(begun).toContain(1);
    });

    isolated("is lost with its signal when an item kills the process", async () => {
      const heard = await start();
      heard.pool.launch(1);
      await heard.until(() => heard.joined.length === 1);
      assign(heard, 0, ["kill"]);
      await heard.until(() => heard.losses.length === 1);
      expect(heard.losses[0]).toMatchObject({ exitCode: null, signal: "SIGKILL" });
    });

    isolated("heartbeats go on while an item blocks its thread", async () => {
      const heard = await start();
      heard.pool.launch(1);
      await heard.until(() => heard.joined.length === 1);
      assign(heard, 0, ["hang"]);
      await heard.until(() => heard.messages.some(({ kind }) => kind === "begun"));
      const before = heard.messages.length;
      await heard.until(() => heard.messages.slice(before).filter(({ kind }) => kind === "heartbeat").length >= 3);
      expect(heard.messages.at(-1)).toMatchObject({ kind: "heartbeat", held: [{ assignment: 0, ended: 0 }] });
    });

    isolated("an item past its time limit is an error, the others come back, and the process ends", async () => {
      const heard = await start({ itemTimeoutMs: 200 });
      heard.pool.launch(1);
      await heard.until(() => heard.joined.length === 1);
      assign(heard, 0, ["hang", "a", "b", "c"]);
      await heard.until(() => heard.losses.length === 1);
      expect(heard.errors).toMatchObject([{ index: 0, code: "ITEM_TIMEOUT", retryable: false }]);
      expect(heard.results.length + countReturned(heard, "RESTART")).toBe(3);
    });

    isolated("megabytes on stdout disturb nothing", async () => {
      const heard = await start();
      heard.pool.launch(1);
      await heard.until(() => heard.joined.length === 1);
      assign(heard, 0, ["print", "a"]);
      await heard.until(() => heard.results.length === 2);
      expect(heard.results.find(({ index }) => index === 0)?.output).toBe("printed");
    });

    isolated("a Task Manager that is killed is gone", async () => {
      const heard = await start();
      heard.pool.launch(1);
      await heard.until(() => heard.joined.length === 1);
      assign(heard, 0, ["hang"]);
      await heard.until(() => heard.messages.some(({ kind }) => kind === "begun"));
      const heartbeats = () => heard.messages.filter(({ kind }) => kind === "heartbeat").length;
      const before = heartbeats();
      heard.pool.release(1, "kill");
      const count = heard.messages.length;
      // The next one's place is the killed one's.
      heard.pool.launch(2);
      heard.pool.launch(3);
      await heard.until(() => heard.joined.length === 3);
      await heard.until(() => heartbeats() > before);
      const since = heard.messages.slice(count).map((message) => (message.kind === "heartbeat" || message.kind === "idle" ? message.held : message));
      expect(since.filter((held) => !Array.isArray(held) || held.length > 0)).toEqual([]);
    });

    test("a module without a default function is refused, naming the field", async () => {
      const folder = await temporaryFolder(onTestFinished);
      const pool = open(await create({ artifactDirectory: path.join(folder, "cache") }), await functionTask(folder, "export const wrong = 1;"), 1000);
      await expect(pool.warm()).rejects.toMatchObject({ code: "MODULE_INVALID", field: "task.module" });
    });

    for (const [gap, reason] of Object.entries(gaps)) {
      test(`has no ${gap}: ${reason as string}`, () => expect(reason).not.toBe(""));
    }
  });
}

/** A run's part of a pool with two places, closed after the test. */
function open(backend: Backend, { task, artifacts }: FunctionTaskFixture, itemTimeoutMs: number): RunPool {
  const service = createPool({ taskManagersMax: 2, keptMs: 10_000, metering: createMetering() });
  const settings = { task, env: { SPLITRUN_TEST_VALUE: "given" }, maxRamMb: null, reportMs: 20, heartbeatMs: 50, heartbeatTimeoutMs: 60_000, itemTimeoutMs, faults: null };
  const pool = service.open({ backend, settings, artifacts, taskManagersMax: 2, share: 1, priority: 0, hostLimits: { concurrency: null, requestsPerSecond: null }, account: { usage: () => undefined } });
  onTestFinished(async () => {
    pool.close();
    await service.close();
    await backend.close();
  });
  return pool;
}

function listen(pool: RunPool): Heard {
  const waiting = new Set<() => void>();
  const heard: Heard = {
    pool,
    messages: [],
    results: [],
    errors: [],
    losses: [],
    joined: [],
    until: (condition) =>
      new Promise((resolve) => {
        const check = () => {
          if (!condition()) return;
          waiting.delete(check);
          resolve();
        };
        waiting.add(check);
        check();
      }),
  };
  const changed = () => waiting.forEach((check) => check());
  const listener: PoolListener = {
    joined: (id) => (heard.joined.push(id), changed()),
    launchEnded: (_id, reason, message) => {
      throw new Error(`${reason}: ${message}`);
    },
    message(_id, message) {
      heard.messages.push(message);
      if (message.kind === "items") {
        heard.results.push(...message.results);
        heard.errors.push(...message.errors);
      }
      changed();
    },
    lost: (_id, cause) => (heard.losses.push(cause), changed()),
    log: () => undefined,
    paced: () => undefined,
    surroundings: () => undefined,
    allowance: () => undefined,
  };
  pool.listen(listener);
  return heard;
}

function assign(heard: Heard, assignment: number, inputs: readonly JsonValue[], first = 0): void {
  heard.pool.send(1, { kind: "assign", assignment, items: [first, first + inputs.length], inputs: [...inputs], endWithinMs: null, reversed: false });
}

function countReturned(heard: Heard, cause: string): number {
  let sum = 0;
  for (const message of heard.messages) {
    if (message.kind !== "returned" || message.cause !== cause) continue;
    for (let pair = 0; pair < message.items.length; pair += 2) sum += (message.items[pair + 1] ?? 0) - (message.items[pair] ?? 0);
  }
  return sum;
}

function byIndex(a: { readonly index: number }, b: { readonly index: number }): number {
  return a.index - b.index;
}
