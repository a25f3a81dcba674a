import { existsSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import path from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { functionTask, temporaryFolder } from "../support/function-task.ts";
import { colorPicture, inferenceTask, type InferenceTaskOptions } from "../support/inference-task.ts";
import { startTaskManagerProcess, type TaskManagerOptions, type TaskManagerProcess } from "../support/task-manager-process.ts";

/** Does what its item says; "hold" blocks its thread until the file is there, and says so by another file. */
const source = `
import { existsSync, writeFileSync } from "node:fs";
const nap = new Int32Array(new SharedArrayBuffer(4));
export default async (item) => {
  if (typeof item === "object") writeFileSync(item.hold + ".held", "");
  if (typeof item === "object") while (!existsSync(item.hold)) Atomics.wait(nap, 0, 0, 5);
  if (item === "slow") await new Promise((resolve) => setTimeout(resolve, 100));
  return item;
};
`;

type Configure = NonNullable<TaskManagerOptions["configure"]>;

async function startFunction(configure: Configure = {}): Promise<{ readonly manager: TaskManagerProcess; readonly gate: string }> {
  const folder = await temporaryFolder(onTestFinished);
  const { task, artifacts } = await functionTask(folder, source);
  const [artifact] = artifacts.values();
  const manager = await startTaskManagerProcess({ folder, task, artifact: artifact?.path ?? "", configure });
  return { manager, gate: path.join(folder, "gate") };
}

/** Items of a host that answers when it is told to. */
async function startInference(options: InferenceTaskOptions = {}, configure: Configure = {}) {
  const answers = new Map<number, ServerResponse>();
  const aborted: number[] = [];
  const server = createServer((request, response) => {
    const number = Number(request.url?.slice(1));
    answers.set(number, response);
    response.on("close", () => {
      if (!response.writableEnded) aborted.push(number);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const folder = await temporaryFolder(onTestFinished);
  const { task, modelPath } = await inferenceTask(folder, options);
  const manager = await startTaskManagerProcess({ folder, task, artifact: modelPath, configure });
  const url = (number: number) => `http://127.0.0.1:${(server.address() as AddressInfo).port}/${number}`;
  return { manager, folder, answers, aborted, url, asked: (count: number) => soon(() => answers.size >= count) };
}

async function soon(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
}

const texts = (count: number) => Array.from({ length: count }, (_, n) => `item ${n}`);

describe("an assignment", () => {
  test("is worked on from its end when that is asked for, also where it comes in two messages", async () => {
    const { manager, gate } = await startFunction();
    manager.assign([{ hold: gate }], { assignment: 9, items: [500, 501] });
    await manager.until(() => manager.begun().length === 1);
    manager.assign(texts(3), { reversed: true, items: [0, 2, 10, 11] });
    manager.assign(texts(2), { reversed: true, items: [20, 22] });
    manager.assign(["slow"], { assignment: 2, items: [30, 31] });
    await writeFile(gate, "");
    await manager.until(() => manager.results.size === 7);
    // The thread had the last of the first message at hand before the second one came.
    expect(manager.begun().filter((index) => index < 500)).toEqual([10, 21, 20, 1, 0, 30]);
    expect(manager.results.get(21)).toBe("item 1");
    expect(manager.results.get(10)).toBe("item 2");
  });

  test("gives back what is not begun when its time is over, and what is begun ends", async () => {
    const { manager, gate } = await startFunction();
    const back = () => manager.returned("DEADLINE");
    // A busy machine may not get to the first one in that time: then all of it comes back, and has more time.
    for (let endWithinMs = 500; !existsSync(`${gate}.held`); endWithinMs *= 2) {
      const before = back().length;
      manager.assign([{ hold: gate }, ...texts(99)], { assignment: endWithinMs, endWithinMs });
      await manager.until(() => back().length > before);
    }
    expect(back().at(-1)).toEqual(Array.from({ length: 99 }, (_, n) => n + 1));
    await writeFile(gate, "");
    await manager.until(() => manager.messages.some(({ kind }) => kind === "idle"));
    expect([...manager.results.keys()]).toEqual([0]);
  });

  test("whose time is over when it comes goes back whole", async () => {
    const { manager, gate } = await startFunction();
    manager.assign([{ hold: gate }], { assignment: 2, items: [90, 91] });
    manager.assign(texts(5), { endWithinMs: 0 });
    await manager.until(() => manager.returned("DEADLINE").flat().length === 5);
    expect(manager.returned("DEADLINE").flat()).toEqual([0, 1, 2, 3, 4]);
  });

  test("tried apart has one item begun at a time", async () => {
    const { manager } = await startFunction();
    manager.assign(texts(50), { apart: true });
    await manager.until(() => manager.results.size === 50);
    for (const message of manager.messages) if (message.kind === "begun") expect(message.items).toHaveLength(1);
    expect(manager.begun()).toEqual(Array.from({ length: 50 }, (_, n) => n));
  });

  test("of images tried apart does not wait for batches to fill up", async () => {
    const { manager, folder } = await startInference({ infer: { batch: 8, batchWaitMs: 3_600_000 } });
    const red = await colorPicture(folder, "red");
    manager.assign(Array.from({ length: 5 }, () => red), { apart: true });
    await manager.until(() => manager.results.size === 5);
    for (const message of manager.messages) if (message.kind === "begun") expect(message.items).toHaveLength(1);
  });
});

describe("a reclaim", () => {
  test("is answered while user code blocks its thread, with the last that it has not seen", async () => {
    const { manager, gate } = await startFunction();
    manager.assign([...texts(200), { hold: gate }, ...texts(300)]);
    await soon(() => existsSync(`${gate}.held`));
    manager.send({ kind: "reclaim", assignment: 1, items: 250 });
    await manager.until(() => manager.returned("RECLAIMED").length === 1);
    expect(manager.returned("RECLAIMED")).toEqual([Array.from({ length: 250 }, (_, n) => n + 251)]);
    // Announced or not: what is behind the one that blocks is still to be had.
    manager.send({ kind: "reclaim", assignment: 1, items: 4096 });
    await manager.until(() => manager.returned("RECLAIMED").length === 2);
    expect(manager.returned("RECLAIMED")[1]).toEqual(Array.from({ length: 50 }, (_, n) => n + 201));
    await writeFile(gate, "");
    await manager.until(() => manager.results.size === 201);
    await manager.until(() => manager.messages.some(({ kind }) => kind === "idle"));
  });

  test("of an assignment in reverse order gives back its first items", async () => {
    const { manager, gate } = await startFunction();
    manager.assign([...texts(20), { hold: gate }], { reversed: true });
    await manager.until(() => manager.begun().length > 0);
    manager.send({ kind: "reclaim", assignment: 1, items: 5 });
    await manager.until(() => manager.returned("RECLAIMED").length === 1);
    expect(manager.returned("RECLAIMED")).toEqual([[0, 1, 2, 3, 4]]);
  });

  test("is answered for an assignment that is over, or never was", async () => {
    const { manager } = await startFunction();
    manager.assign(texts(1));
    await manager.until(() => manager.results.size === 1);
    manager.send({ kind: "reclaim", assignment: 1, items: 1 });
    manager.send({ kind: "reclaim", assignment: 77, items: 1 });
    await manager.until(() => manager.returned("RECLAIMED").length === 2);
    expect(manager.returned("RECLAIMED")).toEqual([[], []]);
  });

  test("gives back what is being downloaded or was downloaded already, and ends the downloads", async () => {
    const { manager, folder, answers, aborted, url, asked } = await startInference({ downloads: 4, infer: { batch: 1 } });
    const red = await colorPicture(folder, "red");
    manager.assign([red, ...Array.from({ length: 10 }, (_, n) => url(n))]);
    await asked(4);
    manager.send({ kind: "reclaim", assignment: 1, items: 8 });
    await manager.until(() => manager.returned("RECLAIMED").length === 1);
    expect(manager.returned("RECLAIMED")).toEqual([[3, 4, 5, 6, 7, 8, 9, 10]]);
    await soon(() => aborted.length === 2);
    expect(aborted.sort()).toEqual([2, 3]);
    for (const number of [0, 1]) answers.get(number)?.writeHead(404).end();
    await manager.until(() => manager.errors.size === 2);
    expect([...manager.errors.keys()].sort()).toEqual([1, 2]);
    await manager.until(() => manager.messages.some(({ kind }) => kind === "idle"));
    expect([...manager.results.keys()]).toEqual([0]);
  });
});

describe("a cancelled assignment", () => {
  test("is not heard of again, its downloads end, and the next one goes on", async () => {
    const { manager, folder, aborted, url, asked } = await startInference({ downloads: 4 });
    const red = await colorPicture(folder, "red");
    manager.assign(Array.from({ length: 50 }, (_, n) => url(n)));
    await asked(4);
    manager.send({ kind: "cancel", assignment: 1 });
    await soon(() => aborted.length === 4);
    await manager.until(() => manager.messages.some(({ kind }) => kind === "idle"));
    manager.assign([red], { assignment: 2, items: [900, 901] });
    await manager.until(() => manager.results.has(900));
    expect(manager.messages.filter((message) => "assignment" in message && message.assignment === 1)).toEqual([]);
  });

  test("suppresses what its begun items come to", async () => {
    const { manager, gate } = await startFunction();
    manager.assign([{ hold: gate }, ...texts(9)]);
    await manager.until(() => manager.begun().length > 0);
    manager.send({ kind: "cancel", assignment: 1 });
    manager.assign(texts(1), { assignment: 2, items: [900, 901] });
    await writeFile(gate, "");
    await manager.until(() => manager.results.size > 0);
    expect([...manager.results.keys()]).toEqual([900]);
  });
});

describe("a size", () => {
  test("well above those before is told once, while the item is on its way", async () => {
    const { manager, answers, url, asked } = await startInference({ downloads: 12 });
    manager.assign(Array.from({ length: 12 }, (_, n) => url(n)));
    await asked(8);
    for (let n = 0; n < 6; n++) answers.get(n)?.writeHead(200, { "content-length": 1000 }).end(Buffer.alloc(1000));
    await manager.until(() => manager.errors.size === 6);
    answers.get(6)?.writeHead(200, { "content-length": 5_000_000 }).write("x");
    await manager.until(() => manager.messages.some(({ kind }) => kind === "sized"));
    const [sized, ...more] = manager.messages.filter((message) => message.kind === "sized");
    expect(sized?.bytes).toEqual([[6, 5_000_000]]);
    expect(sized?.meanBytes).toBeGreaterThan(5_000_000 / 8);
    expect(sized?.meanBytes).toBeLessThan(5_000_000);
    expect(more).toEqual([]);
  });

  test("of what ends within the same report is not told", async () => {
    const { manager, answers, url, asked } = await startInference({ downloads: 12 }, { reportMs: 3_600_000 });
    manager.assign(Array.from({ length: 3 }, (_, n) => url(n)));
    await asked(3);
    answers.get(0)?.writeHead(200, { "content-length": 3 }).end("abc");
    await manager.until(() => manager.begun().length === 1);
    for (const n of [1, 2]) answers.get(n)?.writeHead(200, { "content-length": 400_000 }).end(Buffer.alloc(400_000));
    await manager.until(() => manager.errors.size === 3);
    expect(manager.messages.filter(({ kind }) => kind === "sized")).toEqual([]);
  });
});

test("the CPU time that is told is that of the work, not of what it took to start", async () => {
  const { manager } = await startInference();
  const startMs = await processCpuMs(manager.child.pid ?? 0);
  await manager.until(() => manager.messages.some(({ kind }) => kind === "heartbeat"));
  const told = manager.messages.find((message) => message.kind === "heartbeat");
  expect(told?.cpuMs).toBeLessThan(startMs / 2);
});

/** All of a process's so far, as Linux counts it: in hundredths of a second (proc(5), fields 14 and 15 of stat). */
async function processCpuMs(pid: number): Promise<number> {
  const fields = (await readFile(`/proc/${pid}/stat`, "latin1")).split(") ").at(-1)?.split(" ") ?? [];
  return (Number(fields[11]) + Number(fields[12])) * 10;
}
