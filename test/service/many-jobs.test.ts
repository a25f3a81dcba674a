import { randomInt } from "node:crypto";
import { describe, expect, test } from "vitest";
import { processesMarked } from "../support/cli.ts";
import { createRandom } from "../support/random.ts";
import { indexesOf, items, until, untilWith, upTo, workshop } from "./support.ts";

const resultsAKill = 25;

describe("twenty jobs at once", () => {
  test("with Task Managers killed at random: all end, and every input has exactly one result, in its own job's home", async () => {
    const seed = Number(process.env["SPLITRUN_SEED"] ?? randomInt(2 ** 31));
    console.log(`kills among twenty jobs: SPLITRUN_SEED=${seed}`);
    const random = createRandom(seed);
    const mark = `twenty-${process.pid}-${seed}`;
    const { orchestrator, job, lines } = await workshop({ maxJobs: 20, maxTaskManagers: 4 });
    const size = 20;
    const jobs = Array.from({ length: 20 }, (_, at) => ({
      name: `job-${at}`,
      // Four tasks: Task Managers of one job are given to others.
      handle: orchestrator.enqueueJob(job(`job-${at}`, items(size, { ms: 5, pid: true }), { env: { SPLITRUN_MARK: mark, TASK: String(at % 4) }, share: 1 + (at % 3), taskManagers: 2 })),
    }));
    const worked = new Set<unknown>();
    let results = 0;
    let kills = 0;
    let owed = 0;
    // One that starts is killed seldom: a job whose first Task Manager dies three times in a row is refused.
    const killOne = async () => {
      const all = await processesMarked(mark);
      const victims = kills % 5 === 4 ? all : all.filter((pid) => worked.has(pid));
      const victim = victims[random.between(0, victims.length)];
      if (victim === undefined) return;
      owed -= 1;
      process.kill(victim, "SIGKILL");
      kills += 1;
    };
    await Promise.all(jobs.map(async ({ handle }) => {
      for await (const { output } of handle.items()) {
        worked.add(output);
        results += 1;
        // Whoever is at work may have gone before its results are seen: then one of those that follow is killed.
        if (results % resultsAKill === 0) owed += 1;
        if (owed > 0) await killOne().catch(() => undefined);
      }
    }));
    // How many of those that were owed found somebody is up to the machine.
    expect(kills).toBeGreaterThan(0);
    for (const { name, handle } of jobs) {
      expect(await handle.done, name).toMatchObject({ state: "succeeded", counts: { items: size, succeeded: size, failed: 0 } });
      expect(indexesOf(await lines(name)), name).toEqual(upTo(size));
    }
    await orchestrator.close();
    await until(async () => (await processesMarked(mark)).length === 0);
  });

  test("each has its share of the Task Managers while all have work, and what one leaves goes to the others", async () => {
    const { orchestrator, job } = await workshop({ maxTaskManagers: 6 });
    const handles = [1, 2, 3].map((share) =>
      orchestrator.enqueueJob(job(`share-${share}`, items(20_000, { ms: 10 }), { share, taskManagers: 6, env: { SHARE: String(share) } })),
    );
    const counts = () => handles.map(({ progress }) => progress.taskManagers);
    const settled = async (working: typeof handles, wanted: readonly number[]) => untilWith(working, () => counts().every((count, at) => count === wanted[at]));
    await settled(handles, [1, 2, 3]);
    handles[2]?.cancel();
    await handles[2]?.done;
    await settled(handles.slice(0, 2), [2, 4, 0]);
  });

  test("a higher priority gets all that it can use, and the others go on when it has ended", async () => {
    const { orchestrator, job } = await workshop({ maxTaskManagers: 2 });
    const low = orchestrator.enqueueJob(job("low", items(20_000, { ms: 10 }), { taskManagers: 2, env: { JOB: "low" } }));
    await untilWith([low], () => low.progress.taskManagers === 2);
    const high = orchestrator.enqueueJob(job("high", items(20_000, { ms: 10 }), { taskManagers: 2, priority: 1, env: { JOB: "high" } }));
    await untilWith([high], () => high.progress.taskManagers === 2);
    expect(low.progress.taskManagers).toBe(0);
    high.cancel();
    expect(await high.done).toMatchObject({ state: "cancelled" });
    const { succeeded } = low.progress;
    await untilWith([low], () => low.progress.succeeded > succeeded);
  });
});
