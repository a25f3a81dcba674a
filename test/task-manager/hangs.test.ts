import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import sharp from "sharp";
import { describe, expect, onTestFinished, test } from "vitest";
import { downloadSpec } from "../support/download-spec.ts";
import { pixelBomb } from "../support/fault-server.ts";
import { functionTask, temporaryFolder } from "../support/function-task.ts";
import { colorPicture, inferenceTask, stretchSpec } from "../support/inference-task.ts";
import { loopingModel } from "../support/onnx.ts";
import { startTaskManagerProcess, type TaskManagerProcess } from "../support/task-manager-process.ts";

interface Fixture {
  readonly manager: TaskManagerProcess;
  readonly black: string;
  readonly white: string;
}

/** Black pictures are quick; the run of a white one never ends. */
async function startLooping(batch: number, itemTimeoutMs: number): Promise<Fixture> {
  const folder = await temporaryFolder(onTestFinished);
  const { task, modelPath } = await inferenceTask(folder, {
    model: loopingModel("N"),
    preprocess: stretchSpec(8),
    infer: { batch, sessions: 1 },
    postprocess: { activation: "none", labels: null },
  });
  const white = path.join(folder, "white.png");
  await sharp({ create: { width: 9, height: 9, channels: 3, background: "#fff" } }).png().toFile(white);
  const manager = await startTaskManagerProcess({ folder, task, artifact: modelPath, configure: { itemTimeoutMs } });
  return { manager, white, black: await colorPicture(folder, "black") };
}

/** Items that were begun and are neither ended nor given back: what a loss makes suspect. */
function suspects({ begun, results, errors, returned }: TaskManagerProcess): number[] {
  const back = new Set(returned("RESTART").flat());
  return begun().filter((index) => !results.has(index) && !errors.has(index) && !back.has(index)).sort((a, b) => a - b);
}

describe("native code that hangs", () => {
  test("alone in its batch ends as its error, the others come back, and the process ends", async () => {
    const { manager, white, black } = await startLooping(1, 2000);
    manager.assign([black, white, black, black]);
    expect(await manager.ended).toMatchObject({ signal: "SIGTERM" });
    expect([...manager.errors.values()]).toMatchObject([{ index: 1, code: "ITEM_TIMEOUT", stage: "infer", retryable: false }]);
    expect([...manager.results.keys(), ...manager.returned("RESTART").flat()].sort()).toEqual([0, 2, 3]);
    expect(suspects(manager)).toEqual([]);
    expect(manager.messages.at(-1)?.kind).toBe("bye");
  });

  test("in a batch makes suspects of that batch, and of no other item", async () => {
    const { manager, white, black } = await startLooping(4, 2000);
    manager.assign([black, white, black, black, ...Array.from({ length: 40 }, () => black)]);
    await manager.ended;
    expect(manager.errors.size).toBe(0);
    expect(suspects(manager)).toContain(1);
    expect(suspects(manager).length).toBeLessThanOrEqual(4);
    expect(manager.results.size + manager.returned("RESTART").flat().length + suspects(manager).length).toBe(44);
  });

  test("heartbeats go on meanwhile, and what is not begun can be taken back", async () => {
    const { manager, white, black } = await startLooping(1, 60_000);
    manager.assign([white, ...Array.from({ length: 300 }, () => black)]);
    await manager.until(() => manager.begun().includes(0));
    const before = manager.messages.length;
    await manager.until(() => manager.messages.slice(before).filter(({ kind }) => kind === "heartbeat").length >= 3);
    manager.send({ kind: "reclaim", assignment: 1, items: 1000 });
    await manager.until(() => manager.returned("RECLAIMED").length === 1);
    expect(manager.returned("RECLAIMED")[0]).toContain(300);
    expect(manager.results.has(0)).toBe(false);
  });

  test("tried apart names itself at once, and those before it have their results", async () => {
    const { manager, white, black } = await startLooping(8, 2000);
    manager.assign([black, black, white, black], { apart: true });
    await manager.ended;
    expect([...manager.results.keys()]).toEqual([0, 1]);
    expect([...manager.errors.keys()]).toEqual([2]);
    expect(manager.returned("RESTART").flat()).toEqual([3]);
  });
});

test("a picture whose decoding does not end is blamed alone, and what was begun beside it ends or comes back", async () => {
  const folder = await temporaryFolder(onTestFinished);
  // Of 40 billion pixels: ten times the limit of libvips' time where cores are fast, and hardly any memory.
  const endless = path.join(folder, "endless.png");
  await writeFile(endless, pixelBomb(200_000));
  const black = await colorPicture(folder, "black");
  const { task, modelPath } = await inferenceTask(folder, { preprocess: stretchSpec(8, { maxPixels: 50_000_000_000 }) });
  const manager = await startTaskManagerProcess({
    folder,
    task: { ...task, download: downloadSpec({ concurrency: 4, maxBytes: 50_000_000 }) },
    artifact: modelPath,
    configure: { itemTimeoutMs: 3000 },
  });
  manager.assign([black, black, endless, ...Array.from({ length: 40 }, () => black)]);
  expect(await manager.ended).toMatchObject({ signal: "SIGTERM" });
  expect([...manager.errors.values()]).toMatchObject([{ index: 2, code: "ITEM_TIMEOUT", stage: "preprocess", retryable: false }]);
  expect(manager.results.size + manager.returned("RESTART").flat().length).toBe(42);
  expect(suspects(manager)).toEqual([]);
});

test("a function that hangs is blamed alone, and what was announced behind it comes back", async () => {
  const folder = await temporaryFolder(onTestFinished);
  const { task, artifacts } = await functionTask(folder, "export default (item) => { if (item === 'hang') for (;;); return item; };");
  const [artifact] = artifacts.values();
  const manager = await startTaskManagerProcess({ folder, task, artifact: artifact?.path ?? "", configure: { itemTimeoutMs: 2000 } });
  manager.assign([...Array.from({ length: 500 }, (_, n) => n), "hang", ...Array.from({ length: 499 }, (_, n) => n)]);
  await manager.ended;
  expect([...manager.errors.values()]).toMatchObject([{ index: 500, code: "ITEM_TIMEOUT", stage: "function" }]);
  expect(manager.results.size + manager.returned("RESTART").flat().length).toBe(999);
});

test("the time for which the whole process was stopped counts for no item", async () => {
  const folder = await temporaryFolder(onTestFinished);
  const source = `
    import { existsSync, writeFileSync } from "node:fs";
    export default async (gate) => {
      writeFileSync(gate + ".held", "");
      while (!existsSync(gate)) await new Promise((resolve) => setTimeout(resolve, 50));
      return "through";
    };`;
  const { task, artifacts } = await functionTask(folder, source);
  const [artifact] = artifacts.values();
  const gate = path.join(folder, "gate");
  const manager = await startTaskManagerProcess({ folder, task, artifact: artifact?.path ?? "", configure: { itemTimeoutMs: 4000 } });
  manager.assign([gate]);
  while (!existsSync(`${gate}.held`)) await sleep(5);
  manager.child.kill("SIGSTOP");
  await sleep(6000);
  manager.child.kill("SIGCONT");
  // Several looks at what is overdue.
  const before = manager.messages.length;
  await manager.until(() => manager.messages.length > before + 6);
  await writeFile(gate, "");
  await manager.until(() => manager.results.size + manager.errors.size === 1);
  expect([...manager.results.values()]).toEqual(["through"]);
});
