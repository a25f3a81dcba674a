import { execFile } from "node:child_process";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { openEventsLog } from "../../orchestrator/observe/events-log.ts";
import { openRunLog } from "../../orchestrator/observe/run-log.ts";
import type { SchedulerPlan } from "../../orchestrator/scheduler/types.ts";

const run = promisify(execFile);

/** Linux's file that has no room for a single byte. */
const full = "/dev/full";

test("the record of events ends where the disk is full, and closes", async () => {
  const problems: string[] = [];
  const log = openEventsLog(full, {} as SchedulerPlan, (message) => problems.push(message));
  // More than is gathered for one write.
  for (let step = 0; step < 10_000; step++) log.stepped({ kind: "clock" }, step, []);
  while (problems.length === 0) await sleep(5);
  await log.close();
  expect(problems).toEqual([expect.stringMatching(/^events\.jsonl ends here: ENOSPC/)]);
});

test("the log of a run closes where the disk is full", async () => {
  const log = openRunLog(full);
  log.log("warn", "something");
  await log.close();
});

test("a process whose log met a full disk ends by itself", async () => {
  const runner = path.resolve(import.meta.dirname, "../../scripts/run-ts.mjs");
  const { stderr } = await run(process.execPath, [runner, path.resolve(import.meta.dirname, "../fixtures/log-to-full-disk.ts")], { timeout: 60_000 });
  expect(stderr).toBe("");
});
