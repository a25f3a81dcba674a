import { createHash } from "node:crypto";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { writeFile } from "node:fs/promises";
import path from "node:path";
import { beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { createInferenceExecutor } from "../../task-manager/tasks/inference.ts";
import { TaskRefused, type Executor } from "../../task-manager/tasks/types.ts";
import { setThreadEntry } from "../../task-manager/threads.ts";
import { threadBundle } from "../support/bundle.ts";
import { temporaryFolder } from "../support/function-task.ts";
import { colorPicture, executorContext, inferenceTask, stretchSpec, type Here, type InferenceTaskOptions } from "../support/inference-task.ts";
import { countingModel, pickyModel } from "../support/onnx.ts";
import { createRecordingHost, type RecordingHost, type RecordingHostOptions } from "../support/recording-host.ts";

beforeAll(async () => setThreadEntry(await threadBundle()));

interface Started {
  readonly executor: Executor;
  readonly host: RecordingHost;
  readonly folder: string;
}

async function start(here: Here, options: InferenceTaskOptions = {}, hostOptions: RecordingHostOptions = {}): Promise<Started> {
  const folder = await temporaryFolder(onTestFinished);
  const host = createRecordingHost(hostOptions);
  const { task, modelPath } = await inferenceTask(folder, options);
  const executor = await createInferenceExecutor(task, executorContext(host, modelPath, here));
  onTestFinished(() => executor.close());
  return { executor, host, folder };
}

async function pictures(folder: string) {
  const [red, green, blue, black] = await Promise.all((["red", "green", "blue", "black"] as const).map((color) => colorPicture(folder, color)));
  const broken = path.join(folder, "broken.jpg");
  await writeFile(broken, Buffer.concat([Buffer.from([0xff, 0xd8, 0xff, 0xe0]), Buffer.alloc(64)]));
  return { red: red ?? "", green: green ?? "", blue: blue ?? "", black: black ?? "", broken };
}

const labelOf = (output: unknown) => (output as { label?: unknown } | undefined)?.label;

const places = [["on threads", "nothing"], ["decoding on the caller's thread", "decoding"], ["on the caller's thread", "everything"]] as const;

describe.each(places)("inference %s", (_name, here) => {
  test("ends every item with its own result, also where batches do not fill up", async () => {
    const { executor, host, folder } = await start(here, { infer: { sessions: 2 } });
    const { red, green, blue } = await pictures(folder);
    const inputs = Array.from({ length: 30 }, (_, index) => [red, green, blue][index % 3] ?? "");
    host.add(inputs);
    executor.wake(false);
    await host.allEnded();
    expect(host.errors.size).toBe(0);
    expect([...Array(30).keys()].map((index) => labelOf(host.results.get(index)))).toEqual(inputs.map((input) => path.basename(input, ".png")));
    for (const stage of ["download", "preprocess", "infer", "postprocess"] as const) expect(host.stages[stage]?.items).toBe(30);
  });

  test("one bad item is an error of its own, and its neighbours get their results", async () => {
    const { executor, host, folder } = await start(here);
    const { red, green, broken } = await pictures(folder);
    host.add([red, broken, path.join(folder, "missing.png"), green, 17]);
    executor.wake(false);
    await host.allEnded();
    expect([labelOf(host.results.get(0)), labelOf(host.results.get(3))]).toEqual(["red", "green"]);
    expect(host.errors.get(1)).toMatchObject({ stage: "preprocess", retryable: false });
    expect(host.errors.get(2)).toMatchObject({ code: "INPUT_NOT_FOUND", stage: "download" });
    expect(host.errors.get(4)).toMatchObject({ code: "INPUT_INVALID" });
  });

  test("an image that the model chokes on takes no neighbour of its batch with it", async () => {
    const { executor, host, folder } = await start(here, {
      model: pickyModel("N"),
      preprocess: stretchSpec(8, { scale: 1 / 51 }),
      postprocess: { activation: "none", labels: null },
    });
    const { red, black } = await pictures(folder);
    const white = path.join(folder, "white.png");
    const { default: sharp } = await import("sharp");
    await sharp({ create: { width: 9, height: 9, channels: 3, background: "#fff" } }).png().toFile(white);
    host.add([black, white, red, black]);
    executor.wake(false);
    await host.allEnded();
    expect([...host.results].sort()).toEqual([[0, { values: [10] }], [2, { values: [20] }], [3, { values: [10] }]]);
    expect(host.errors.get(1)).toMatchObject({ code: "INFERENCE_FAILED", stage: "infer" });
  });

  test("every item is announced before it is preprocessed, at most 64 at a time, and waits for that", async () => {
    const opened: (() => void)[] = [];
    const { executor, host, folder } = await start(here, { downloads: 100, infer: { batch: 80 } }, { onBegun: () => new Promise((resolve) => opened.push(resolve)) });
    const { broken } = await pictures(folder);
    host.add(Array.from({ length: 100 }, () => broken));
    executor.wake(false);
    await host.until(() => host.groups.length > 0);
    // Long enough for an image to fail, if it did not wait.
    await new Promise((resolve) => setTimeout(resolve, 150));
    expect(host.errors.size).toBe(0);
    const open = () => {
      for (const resolve of opened.splice(0)) resolve();
    };
    const opening = setInterval(open, 5);
    onTestFinished(() => clearInterval(opening));
    await host.allEnded();
    expect(Math.max(...host.groups.map(({ length }) => length))).toBeLessThanOrEqual(64);
    expect(host.groups.flat().sort((a, b) => a - b)).toEqual([...Array(100).keys()]);
  });

  test("a host that asks for fewer requests gets its items back, those not yet asked for without a request", async () => {
    let requests = 0;
    const server = createServer((_request, response) => {
      requests += 1;
      response.writeHead(429, { "retry-after": "60" }).end();
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    onTestFinished(() => void server.close());
    const { port } = server.address() as AddressInfo;
    const { executor, host, folder } = await start(here, { downloads: 2 });
    const { red } = await pictures(folder);
    host.add([...Array.from({ length: 20 }, (_, n) => `http://127.0.0.1:${port}/${n}.png`), red]);
    executor.wake(false);
    await host.allEnded();
    expect(labelOf(host.results.get(20))).toBe("red");
    expect(host.returns.map(({ cause, name }) => `${cause} ${name}`)).toEqual(Array.from({ length: 20 }, () => `HOST_BUSY 127.0.0.1:${port}`));
    expect(requests).toBeLessThanOrEqual(2);
  });

  test("what is not begun can be taken back, and is not heard of again", async () => {
    const answers: (() => void)[] = [];
    const server = createServer((_request, response) => {
      answers.push(() => response.writeHead(404).end());
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    onTestFinished(() => void server.close());
    const { port } = server.address() as AddressInfo;
    const { executor, host, folder } = await start(here, { downloads: 4 });
    const { red } = await pictures(folder);
    host.add(Array.from({ length: 3 }, (_, n) => `http://127.0.0.1:${port}/${n}.png`));
    executor.wake(false);
    while (answers.length < 3) await new Promise((resolve) => setTimeout(resolve, 2));
    const back = executor.unbegun((item) => item.index !== 1);
    expect(back.map(({ index }) => index).sort()).toEqual([0, 2]);
    for (const answer of answers) answer();
    host.add([red]);
    executor.wake(true);
    await host.until(() => host.results.size + host.errors.size === 2);
    expect([...host.errors.keys()]).toEqual([1]);
    expect([...host.results.keys()]).toEqual([3]);
  });

  test("a part-full batch leaves at once when nothing is coming", async () => {
    const { executor, host, folder } = await start(here, { infer: { batch: 64, batchWaitMs: 3_600_000 } });
    const { red } = await pictures(folder);
    host.add([red, red, red]);
    executor.wake(true);
    await host.allEnded();
    expect(host.results.size).toBe(3);
  });

  test("a task that does not fit is refused with the field to change", async () => {
    const starting = start(here, { postprocess: { labels: ["only one"] } });
    const error = await starting.then(() => null, (thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(TaskRefused);
    expect(error).toMatchObject({ code: "LABELS_COUNT", field: "task.postprocess.labels" });
  });

  test("it can be closed with runs under way", async () => {
    const { executor, host, folder } = await start(here, { infer: { sessions: 2, batch: 2 } });
    const { red, green } = await pictures(folder);
    host.add(Array.from({ length: 200 }, (_, index) => (index % 2 === 0 ? red : green)));
    executor.wake(false);
    await host.until(() => host.results.size > 4);
    await executor.close();
    const heard = host.results.size;
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(host.results.size).toBe(heard);
    expect(host.fatals).toEqual([]);
  });
});

test("batches and downloads become smaller when memory is short, and larger again", async () => {
  const { executor, host, folder } = await start("nothing", { model: countingModel("N"), downloads: 16, infer: { batch: 8, batchWaitMs: 1000 }, postprocess: { activation: "none", labels: null } });
  const { red } = await pictures(folder);
  const largest = async (share: number) => {
    host.results.clear();
    executor.narrow(share);
    host.add(Array.from({ length: 40 }, () => red));
    executor.wake(false);
    await host.until(() => host.results.size === 40);
    return Math.max(...[...host.results.values()].map((output) => (output as { values: number[] }).values[0] ?? 0));
  };
  expect(await largest(1)).toBeGreaterThan(2);
  // Of its own width: what was begun before.
  await largest(1 / 4);
  expect(await largest(1 / 4)).toBeLessThanOrEqual(2);
  expect(await largest(1 / 64)).toBe(1);
  await largest(1);
  expect(await largest(1)).toBeGreaterThan(2);
});

test("the process cannot be trusted once a thread of it has died", async () => {
  const folder = await temporaryFolder(onTestFinished);
  const bundle = await threadBundle();
  const entry = path.join(folder, "dies.mjs");
  await writeFile(entry, `
    import { parentPort, workerData } from "node:worker_threads";
    if (workerData.splitrunRole === "infer") parentPort.on("message", ({ kind }) => { if (kind === "batch") throw new Error("out of luck"); });
    await import(${JSON.stringify(bundle)});
  `);
  setThreadEntry(entry);
  onTestFinished(() => setThreadEntry(bundle));
  const { executor, host } = await start("nothing");
  const { red } = await pictures(folder);
  host.add([red]);
  executor.wake(true);
  await host.until(() => host.fatals.length > 0);
  expect(host.fatals[0]).toMatch(/infer thread ended.*out of luck/);
});

test("threads and the caller's thread give the same results to the bit", async () => {
  const outputs: string[] = [];
  for (const [, here] of places) {
    const { executor, host, folder } = await start(here, { postprocess: { activation: "none", labels: null } });
    const { red, green, blue } = await pictures(folder);
    host.add([red, green, blue]);
    executor.wake(true);
    await host.allEnded();
    outputs.push(createHash("sha256").update(JSON.stringify([...host.results].sort())).digest("hex"));
  }
  expect(new Set(outputs).size).toBe(1);
});
