import { describe, expect, onTestFinished, test } from "vitest";
import { createFaultMaker } from "../../task-manager/faults.ts";
import type { FaultSpec } from "../../task-manager/protocol.ts";
import { functionTask, temporaryFolder } from "../support/function-task.ts";
import { colorPicture, inferenceTask } from "../support/inference-task.ts";
import { startTaskManagerProcess, type TaskManagerProcess } from "../support/task-manager-process.ts";

const none: FaultSpec = { exceptionPercent: 0, delayPercent: 0, delayMaxMs: 0, killPercent: 0, stallPercent: 0, seed: 1 };
const indexes = Array.from({ length: 10_000 }, (_, n) => n);

async function start(faults: Partial<FaultSpec>, options: { readonly id?: string; readonly source?: string } = {}): Promise<TaskManagerProcess> {
  const folder = await temporaryFolder(onTestFinished);
  const { task, artifacts } = await functionTask(folder, options.source ?? "export default (item) => item;");
  const [artifact] = artifacts.values();
  return startTaskManagerProcess({
    folder,
    task,
    artifact: artifact?.path ?? "",
    id: options.id ?? "tm-1",
    configure: { faults: { ...none, ...faults } },
  });
}

describe("which items are struck", () => {
  const spec: FaultSpec = { exceptionPercent: 10, delayPercent: 10, delayMaxMs: 100, killPercent: 10, stallPercent: 10, seed: 7 };
  const fates = (seed: number) => indexes.map((index) => createFaultMaker({ ...spec, seed }).fate({ index }));

  test("is the same for the same seed, and other for another", () => {
    expect(fates(7)).toEqual(fates(7));
    expect(fates(8)).not.toEqual(fates(7));
  });

  test("is the share that was asked for", () => {
    const maker = createFaultMaker(spec);
    const strikes = indexes.map((index) => maker.strike({ index }));
    const fate = fates(7);
    // Of 10 000 draws at 10 %, 5 standard deviations are 150.
    for (const kind of ["exception", "delay"] as const) expect(Math.abs(strikes.filter((strike) => strike?.kind === kind).length - 1000)).toBeLessThan(250);
    for (const kind of ["kill", "stall"] as const) expect(Math.abs(fate.filter((each) => each === kind).length - 1000)).toBeLessThan(250);
    for (const strike of strikes) if (strike?.kind === "delay") expect(strike.delayMs).toBeLessThan(100);
  });

  test("an item is struck at its first try only, and until that has ended", () => {
    const maker = createFaultMaker({ ...spec, exceptionPercent: 100, killPercent: 100 });
    for (const index of indexes) {
      expect([maker.strike({ index }), maker.strike({ index }), maker.fate({ index })]).toEqual([{ kind: "exception" }, { kind: "exception" }, "kill"]);
      expect([maker.strike({ index, triedBefore: true }), maker.fate({ index, triedBefore: true })]).toEqual([null, null]);
    }
  });

  test("an item that comes back unbegun is not held up again", () => {
    const maker = createFaultMaker({ ...none, delayPercent: 100, delayMaxMs: 10 });
    expect(maker.strike({ index: 3 })?.kind).toBe("delay");
    expect(maker.strike({ index: 3 })).toBeNull();
  });

  test("nothing happens at 0 %", () => {
    const maker = createFaultMaker(none);
    expect(indexes.every((index) => maker.strike({ index }) === null && maker.fate({ index }) === null)).toBe(true);
  });
});

describe("a Task Manager with faults", () => {
  test("ends struck items as retryable errors of a code of their own, and the next try well", async () => {
    const manager = await start({ exceptionPercent: 30 });
    manager.assign(indexes.slice(0, 200));
    await manager.until(() => manager.results.size + manager.errors.size === 200);
    const struck = [...manager.errors.values()];
    expect(struck.length).toBeGreaterThan(20);
    expect(struck.length).toBeLessThan(120);
    for (const error of struck) expect(error).toMatchObject({ code: "INJECTED_FAULT", stage: "run", retryable: true });
    const [first] = struck;
    manager.errors.clear();
    const again = [first?.index ?? 0, (first?.index ?? 0) + 1];
    manager.assign(["again"], { assignment: 2, items: again, triedBefore: again });
    await manager.until(() => manager.results.get(first?.index ?? 0) === "again");
  });

  test("holds items up, and those can be taken back meanwhile", async () => {
    const manager = await start({ delayPercent: 100, delayMaxMs: 3_600_000 });
    manager.assign(indexes.slice(0, 50));
    manager.send({ kind: "reclaim", assignment: 1, items: 50 });
    await manager.until(() => manager.returned("RECLAIMED").length === 1);
    expect(manager.returned("RECLAIMED")).toEqual([indexes.slice(0, 50)]);
    expect(manager.begun()).toEqual([]);
  });

  test("works on what it held up once that is over", async () => {
    const manager = await start({ delayPercent: 50, delayMaxMs: 5 });
    manager.assign(indexes.slice(0, 200));
    await manager.until(() => manager.results.size === 200);
  });

  test("is killed by an item that it has announced, and another Task Manager is not, once it knows", async () => {
    const first = await start({ killPercent: 100 }, { id: "tm-1" });
    first.assign(["a"], { items: [5, 6] });
    expect(await first.ended).toEqual({ exitCode: null, signal: "SIGKILL" });
    expect(first.begun()).toEqual([5]);
    const second = await start({ killPercent: 100 }, { id: "tm-2" });
    second.assign(["a"], { items: [5, 6], triedBefore: [5, 6] });
    await second.until(() => second.results.has(5));
  });

  test("that stalls says nothing more, heartbeats included, and is there until it is killed", async () => {
    const manager = await start({ stallPercent: 100 });
    manager.assign(["a", "b"]);
    await manager.until(() => manager.begun().length > 0);
    // What was on its way comes; then nothing does, for longer than many heartbeats.
    for (let heard = -1; heard !== manager.messages.length; ) {
      heard = manager.messages.length;
      await new Promise((resolve) => setTimeout(resolve, 400));
    }
    expect(manager.gone).toBe(false);
    manager.child.kill("SIGKILL");
    expect((await manager.ended).signal).toBe("SIGKILL");
    expect(manager.results.size).toBe(0);
  });

  test("does the same to images", async () => {
    const folder = await temporaryFolder(onTestFinished);
    const { task, modelPath } = await inferenceTask(folder);
    const red = await colorPicture(folder, "red");
    const manager = await startTaskManagerProcess({ folder, task, artifact: modelPath, configure: { faults: { ...none, exceptionPercent: 30, delayPercent: 30, delayMaxMs: 20 } } });
    manager.assign(Array.from({ length: 60 }, () => red));
    await manager.until(() => manager.results.size + manager.errors.size === 60);
    expect(manager.errors.size).toBeGreaterThan(3);
    for (const { code } of manager.errors.values()) expect(code).toBe("INJECTED_FAULT");
  });
});
