import { describe, onTestFinished, test } from "vitest";
import { cliPath } from "../support/cli.ts";
import { temporaryFolder } from "../support/function-task.ts";
import { strikeKinds, Torture, type StrikeKind } from "./kills.ts";

/** A sample, the same each time; `npm run torture` takes new seeds, for as long as asked. */
const strikesMin = Number(process.env["SPLITRUN_STRIKES"] ?? 20);
const roundsMax: Readonly<Record<StrikeKind, number>> = { orchestrator: 40, "task-managers": 20, stops: 3, leak: 2, disk: 4 };

const names: Readonly<Record<StrikeKind, string>> = {
  orchestrator: "kill -9 of the orchestrator loses nothing acknowledged, repeats nothing, leaves no process, and resume ends the job",
  "task-managers": "kill -9 of Task Managers costs no item its result",
  stops: "a Task Manager that is stopped and comes back late, or never, costs no item its result",
  leak: "a Task Manager that leaks until it is killed costs no item its result",
  disk: "a full disk stops the run, and resume ends it when there is room again",
};

describe.each(strikeKinds)("%s", (kind) => {
  test(names[kind], async () => {
    const firstSeed = Number(process.env["SPLITRUN_SEED"] ?? 7_000);
    console.log(`${kind}: SPLITRUN_SEED=${firstSeed}`);
    const torture = new Torture(await temporaryFolder(onTestFinished), cliPath);
    let strikes = 0;
    // A quick machine may be through with a job before it is struck: then further ones are.
    for (let round = 0; strikes === 0 || (round < roundsMax[kind] && strikes < strikesMin); round++) {
      const seed = firstSeed + round;
      const end = await torture.round(kind, { seed, strikesMax: kind === "leak" ? 100 : 5, say: () => undefined }).catch((cause: unknown) => {
        throw new Error(`SPLITRUN_SEED=${seed}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
      });
      strikes += end.strikes;
    }
  }, 300_000);
});
