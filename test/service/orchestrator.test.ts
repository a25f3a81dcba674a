import { existsSync } from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { createOrchestrator, type OrchestratorOptions } from "../../orchestrator/service/orchestrator.ts";
import type { Outcome } from "../../orchestrator/results/types.ts";
import { indexesOf, items, untilWith, upTo, workshop } from "./support.ts";

async function collected(outcomes: AsyncIterable<Outcome>): Promise<readonly Outcome[]> {
  const all: Outcome[] = [];
  for await (const outcome of outcomes) all.push(outcome);
  return all;
}

describe("several jobs in one process", () => {
  test("each has its own results, counts, logs and ids, and one that fails ends alone", async () => {
    const { orchestrator, job, lines, home } = await workshop({ maxTaskManagers: 2 });
    const good = orchestrator.enqueueJob(job("good", items(30, { ms: 2 })));
    const bad = orchestrator.enqueueJob(job("bad", [{ value: 1 }, { fail: true }], { attemptsMax: 1 }));
    const wrong = orchestrator.enqueueJob(job("wrong", [1], { task: { kind: "function", module: "./nowhere.mjs" } }));
    await expect(wrong.done).rejects.toMatchObject({ code: "MODULE_NOT_FOUND", field: "task.module" });
    expect(await good.done).toMatchObject({ state: "succeeded", counts: { items: 30, succeeded: 30, failed: 0 }, home: home("good") });
    expect(await bad.done).toMatchObject({ state: "finished-with-errors", counts: { items: 2, succeeded: 1, failed: 1 } });
    expect([good.state, bad.state, wrong.state]).toEqual(["succeeded", "finished-with-errors", "refused"]);
    expect(new Set([good.id, bad.id, wrong.id]).size).toBe(3);
    expect(existsSync(home("wrong"))).toBe(false);
    expect(indexesOf(await lines("good"))).toEqual(upTo(30));
    expect((await good.done).summary.runDir.startsWith(home("good"))).toBe(true);
    expect(existsSync(path.join((await bad.done).runDir, "logs", "orchestrator.log"))).toBe(true);
  });

  test("a job on a backend that is not offered is refused, and one that names none gets the first", async () => {
    const { orchestrator, job } = await workshop({ backends: ["sequential"], policy: "policy-1" });
    await expect(orchestrator.runJob(job("elsewhere", [1], { backend: "local" }))).rejects.toMatchObject({
      code: "BACKEND_NOT_OFFERED",
      field: "backend",
      message: expect.stringContaining('"local" is not among this orchestrator\'s backends (sequential)') as string,
    });
    expect(await orchestrator.runJob(job("here", items(3, { pid: true })))).toMatchObject({ state: "succeeded" });
    const [first] = await collected((await orchestrator.runJob(job("here too", items(1, { pid: true })))).items());
    expect(first?.output).toBe(process.pid);
  });

  test("options that are wrong, not known or not built are refused by name, with the way out", () => {
    const refusal = (options: object) => {
      try {
        createOrchestrator(options as OrchestratorOptions);
      } catch (error) {
        return error;
      }
      return null;
    };
    expect(refusal({ maxTaskManager: 3 })).toMatchObject({ code: "ORCHESTRATOR_INVALID", field: "maxTaskManager", message: expect.stringContaining("did you mean maxTaskManagers?") as string });
    expect(refusal({ maxJobs: 0 })).toMatchObject({ field: "maxJobs", message: expect.stringContaining("a whole number from 1") as string });
    expect(refusal({ backends: ["slurm"] })).toMatchObject({ field: "backends", message: expect.stringContaining("not built yet") as string });
    expect(refusal({ backends: [] })).toMatchObject({ field: "backends" });
    expect(refusal({ policy: "gided" })).toMatchObject({ field: "policy", message: expect.stringContaining('"gided" is not allowed; did you mean guided?') as string });
    expect(refusal({ policy: "policy-2" })).toBeNull();
    expect(refusal({ policy: () => ({}) })).toBeNull();
    expect(refusal({ runtime: "mine" })).toMatchObject({ field: "runtime", message: expect.stringContaining("an object such as") as string });
    expect(refusal({ initialize: "yes" })).toMatchObject({ field: "initialize", message: expect.stringContaining("true, false") as string });
    expect(refusal({ ec2HostMachine: 1 })).toMatchObject({ field: "ec2HostMachine" });
    expect(refusal({ runtime: { name: "mine", memoryMb: 2048 } })).toBeNull();
    expect(refusal({ initialize: false, ec2HostMachine: false })).toBeNull();
  });

  test("a small job behind a huge one does not wait for it, also where both want the only Task Manager", async () => {
    for (const maxTaskManagers of [2, 1]) {
      const { orchestrator, job, lines } = await workshop({ maxTaskManagers });
      const huge = orchestrator.enqueueJob(job("huge", items(100_000, { ms: 50 }), { taskManagers: maxTaskManagers }));
      await untilWith([huge], () => huge.progress.succeeded > 0);
      const small = await orchestrator.runJob(job("small", items(10, { ms: 50 }), { env: { SPLITRUN_TEST: "another task" } }));
      expect(small).toMatchObject({ state: "succeeded", counts: { succeeded: 10 } });
      expect(huge.state).toBe("running");
      huge.cancel();
      const { state, counts } = await huge.done;
      expect(state).toBe("cancelled");
      expect(counts.succeeded).toBeGreaterThan(0);
      expect(indexesOf(await lines("huge")).length).toBe(counts.succeeded);
    }
  });

  test("items() has every item once: as they are stored while the job runs, then those of an earlier run", async () => {
    const { orchestrator, job } = await workshop({ maxTaskManagers: 1 });
    const inputs = items(60, { ms: 5 });
    await orchestrator.runJob(job("twice", inputs.slice(0, 20)));
    const handle = orchestrator.enqueueJob(job("twice", inputs));
    const states: string[] = [];
    const seen: number[] = [];
    for await (const { index, output } of handle.items()) {
      states.push(handle.state);
      expect(output).toBe(index);
      seen.push(index);
    }
    expect(states[0]).toBe("running");
    expect(seen.slice(0, 40).sort((a, b) => a - b)).toEqual(upTo(60).slice(20));
    expect(seen.toSorted((a, b) => a - b)).toEqual(upTo(60));
    expect(await handle.done).toMatchObject({ state: "succeeded", counts: { items: 60, reused: 20 } });
    expect(await collected(handle.items())).toHaveLength(60);
  });

  test("items() of a job that is refused says why, and a rejection that nobody waits for disturbs nobody", async () => {
    const { orchestrator, job } = await workshop({ maxTaskManagers: 1 });
    const refused = orchestrator.enqueueJob(job("refused", "no-such-file.txt"));
    await expect(collected(refused.items())).rejects.toMatchObject({ code: "INPUT_NOT_FOUND" });
    orchestrator.enqueueJob(job("nobody waits", "no-such-file.txt"));
    expect(await orchestrator.runJob(job("next", [{ value: 1 }]))).toMatchObject({ state: "succeeded" });
  });

  test("with maxJobs 1, jobs run by priority, then in order; a queued one that is cancelled never starts", async () => {
    const { orchestrator, job, home } = await workshop({ maxJobs: 1, maxTaskManagers: 1 });
    const ends: string[] = [];
    const enqueue = (name: string, priority: number) => {
      const handle = orchestrator.enqueueJob(job(name, items(3, { ms: 20 }), { priority }));
      void handle.done.then(() => ends.push(name), () => undefined);
      return handle;
    };
    const first = enqueue("first", 0);
    await untilWith([first], () => first.state === "running");
    const handles = [enqueue("low", -1), enqueue("second", 0), enqueue("urgent", 5), enqueue("third", 0)];
    const gone = enqueue("gone", 9);
    gone.cancel();
    expect(await gone.done).toMatchObject({ state: "cancelled", counts: { items: 0 }, summary: { message: expect.stringContaining("nothing was started") as string } });
    expect(await collected(gone.items())).toEqual([]);
    expect(existsSync(home("gone"))).toBe(false);
    await Promise.all(handles.map(({ done }) => done));
    expect(ends).toEqual(["gone", "first", "urgent", "second", "third", "low"]);
  });

  test("a signal ends one job and not the others, and onProgress tells what is stored", async () => {
    const { orchestrator, job } = await workshop({ maxTaskManagers: 2 });
    const interrupt = new AbortController();
    const progress: number[] = [];
    const stopped = orchestrator.runJob(job("stopped", items(10_000, { ms: 5 })), {
      signal: interrupt.signal,
      onProgress: ({ succeeded }) => {
        progress.push(succeeded);
        if (succeeded > 0) interrupt.abort();
      },
    });
    const other = orchestrator.enqueueJob(job("other", items(40, { ms: 5 })));
    const { state, counts } = await stopped;
    expect(state).toBe("cancelled");
    expect(progress.at(-1)).toBe(counts.succeeded);
    expect(await other.done).toMatchObject({ state: "succeeded" });
    expect(other.progress).toMatchObject({ items: 40, succeeded: 40, failed: 0 });
    const never = await orchestrator.runJob(job("never", [1]), { signal: interrupt.signal });
    expect(never.state).toBe("cancelled");
  });

  test("two jobs with one home: the second is refused and says who has it", async () => {
    const { orchestrator, job, home } = await workshop({ maxTaskManagers: 2 });
    const first = orchestrator.enqueueJob(job("shared", items(100_000, { ms: 5 })));
    await untilWith([first], () => first.progress.succeeded > 0);
    await expect(orchestrator.runJob(job("shared", items(5, {})))).rejects.toMatchObject({
      code: "HOME_IN_USE",
      message: expect.stringContaining(`${home("shared")} is in use`) as string,
    });
    first.cancel();
    expect((await first.done).state).toBe("cancelled");
  });

  test("a Task Manager is used again by the next job with the same task, and by no other", async () => {
    const { orchestrator, job } = await workshop({ maxTaskManagers: 2 });
    const pidOf = async (name: string, env: Readonly<Record<string, string>>) => {
      // Two might share its items, where the second one starts soon enough.
      const result = await orchestrator.runJob(job(name, items(5, { pid: true }), { env, taskManagers: 1 }));
      const pids = new Set((await collected(result.items())).map(({ output }) => output));
      expect(pids.size).toBe(1);
      return [...pids][0];
    };
    const first = await pidOf("first", { COLOUR: "red" });
    expect(await pidOf("second", { COLOUR: "red" })).toBe(first);
    const other = await pidOf("other", { COLOUR: "blue" });
    expect(other).not.toBe(first);
    expect(await pidOf("third", { COLOUR: "red" })).toBe(first);
    // The places are taken by two that are kept: one of them makes room.
    expect([first, other]).not.toContain(await pidOf("new", { COLOUR: "green" }));
  });

  test("close() ends what it has, queued jobs too, then the Task Managers, and takes no more", async () => {
    const { orchestrator, job, lines } = await workshop({ maxJobs: 1, maxTaskManagers: 1 });
    const handles = ["one", "two", "three"].map((name) => orchestrator.enqueueJob(job(name, items(5, { pid: true }))));
    const closed = orchestrator.close();
    expect(() => orchestrator.enqueueJob(job("late", [1]))).toThrow(/takes no more jobs/);
    await expect(orchestrator.runJob(job("late", [1]))).rejects.toMatchObject({ code: "ORCHESTRATOR_CLOSED" });
    await closed;
    expect(handles.map(({ state }) => state)).toEqual(["succeeded", "succeeded", "succeeded"]);
    for (const { output } of await lines("three")) expect(() => process.kill(output as number, 0)).toThrow(/ESRCH/);
    await orchestrator.close();
  });
});
