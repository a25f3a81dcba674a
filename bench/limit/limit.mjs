// What this machine can do at most: download, decode, preprocess (torchvision-imagenet), infer, a line an image. No
// retries, no limits, no checks: none of the machinery that it is the yardstick of; it shares the arithmetic only.
//   threads: one process downloads, decodes and preprocesses; two threads infer, batches handed over by transfer
//   procs: two processes, each the whole of it, inference on the main thread
// Usage: node bench/limit/limit.mjs --input urls.txt --model m.onnx --output f.jsonl [--arrangement threads|procs] [--batch 8]
import { spawn } from "node:child_process";
import { closeSync, openSync, readFileSync, writeSync } from "node:fs";
import http from "node:http";
import { parseArgs } from "node:util";
import { fileURLToPath } from "node:url";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";

const inFlight = 24;
const sessions = 2;
const slots = sessions + 2;
const length = 3 * 224 * 224;
const imagenet = {
  concurrency: 1,
  maxPixels: 268402689,
  resize: { width: 256, height: 256, fit: "shorter-side", kernel: "pillow-bilinear" },
  crop: { width: 224, height: 224 },
  colorOrder: "rgb",
  layout: "nchw",
  dtype: "float32",
  scale: 1 / 255,
  mean: [0.485, 0.456, 0.406],
  std: [0.229, 0.224, 0.225],
};

async function openSession(model) {
  const { default: ort } = await import("onnxruntime-node");
  const session = await ort.InferenceSession.create(model, { intraOpNumThreads: 1, interOpNumThreads: 1, graphOptimizationLevel: "all" });
  const [input] = session.inputNames;
  const [output] = session.outputNames;
  return async (pixels, rows) => {
    const tensor = new ort.Tensor("float32", pixels.subarray(0, rows * length), [rows, 3, 224, 224]);
    const { dims, data } = (await session.run({ [input]: tensor }))[output];
    return Array.from({ length: rows }, (_, row) => softmax(data.subarray(row * dims[1], (row + 1) * dims[1])));
  };
}

function softmax(logits) {
  const max = Math.max(...logits);
  const powers = Array.from(logits, (logit) => Math.exp(logit - max));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => power / sum);
}

function createDownload() {
  const agent = new http.Agent({ keepAlive: true, maxSockets: inFlight });
  return (url) =>
    new Promise((resolve, reject) => {
      http.get(url, { agent }, (response) => {
        const chunks = [];
        response.on("data", (chunk) => chunks.push(chunk));
        response.on("end", () => (response.statusCode === 200 ? resolve(Buffer.concat(chunks)) : reject(new Error(`${url}: ${response.statusCode}`))));
      }).on("error", reject);
    });
}

async function createPreprocess() {
  const compiled = new URL("../../node_modules/.cache/splitrun/limit/preprocess.mjs", import.meta.url);
  const { configureSharp, createPreprocessor } = await import(compiled.href);
  await configureSharp();
  return createPreprocessor(imagenet).run;
}

function lineOf(index, url, scores) {
  const label = scores.indexOf(Math.max(...scores));
  return `${JSON.stringify({ index, input: url, output: { label, score: scores[label], top: [{ label, score: scores[label] }] }, attempts: 1 })}\n`;
}

/** Fills batches from the lanes, hands each to `infer` and takes its buffer back. */
async function pipeline({ urls, first, step, batch, file, slotCount, infer }) {
  const download = createDownload();
  const preprocess = await createPreprocess();
  const free = Array.from({ length: slotCount }, () => new Float32Array(batch * length));
  const wanting = [];
  let next = first;
  let current;
  const running = [];

  async function reserve(index) {
    while (current === undefined || current.indexes.length === batch) {
      if (free.length > 0) current = { pixels: free.pop(), filled: 0, indexes: [] };
      else await new Promise((resolve) => wanting.push(resolve));
    }
    current.indexes.push(index);
    return { slot: current, row: current.indexes.length - 1 };
  }
  function leave(slot) {
    if (slot === current) current = undefined;
    running.push(
      infer(slot.pixels, slot.indexes.length).then(({ pixels, scores }) => {
        free.push(pixels);
        for (const resolve of wanting.splice(0)) resolve();
        writeSync(file, slot.indexes.map((index, row) => lineOf(index, urls[index], scores[row])).join(""));
      }),
    );
  }
  async function lane() {
    for (let index = next; index < urls.length; index = next) {
      next += step;
      const encoded = await download(urls[index]);
      const { slot, row } = await reserve(index);
      await preprocess(encoded, slot.pixels.subarray(row * length, (row + 1) * length));
      if (++slot.filled === batch) leave(slot);
    }
  }
  await Promise.all(Array.from({ length: inFlight }, lane));
  if (current !== undefined && current.indexes.length > 0) leave(current);
  await Promise.all(running);
}

async function inferOnThreads(model) {
  const workers = await Promise.all(
    Array.from({ length: sessions }, async () => {
      const worker = new Worker(fileURLToPath(import.meta.url), { workerData: { model } });
      await new Promise((resolve) => worker.once("message", resolve));
      return { worker, running: 0 };
    }),
  );
  const waiting = new Map();
  for (const each of workers) {
    each.worker.on("message", ({ id, pixels, scores }) => {
      each.running -= 1;
      waiting.get(id)({ pixels, scores });
      waiting.delete(id);
    });
  }
  let nextId = 0;
  const infer = (pixels, rows) =>
    new Promise((resolve) => {
      const idlest = workers.reduce((best, each) => (each.running < best.running ? each : best));
      idlest.running += 1;
      waiting.set(nextId, resolve);
      idlest.worker.postMessage({ id: nextId++, pixels, rows }, [pixels.buffer]);
    });
  return { infer, close: () => workers.forEach(({ worker }) => worker.postMessage("close")) };
}

async function inferThread() {
  const run = await openSession(workerData.model);
  let work = Promise.resolve();
  parentPort.on("message", (message) => {
    work = work.then(async () => {
      if (message === "close") return parentPort.close();
      const { id, pixels, rows } = message;
      const scores = await run(pixels, rows);
      parentPort.postMessage({ id, pixels, scores }, [pixels.buffer]);
    });
  });
  parentPort.postMessage("ready");
}

async function main() {
  const { values } = parseArgs({
    options: {
      input: { type: "string" },
      model: { type: "string" },
      output: { type: "string" },
      arrangement: { type: "string", default: "threads" },
      batch: { type: "string", default: "8" },
      share: { type: "string" },
    },
  });
  const urls = readFileSync(values.input, "utf8").split("\n").filter((line) => line !== "");
  const batch = Number(values.batch);
  if (values.share !== undefined) {
    const file = openSync(values.output, "a");
    const run = await openSession(values.model);
    const infer = async (pixels, rows) => ({ pixels, scores: await run(pixels, rows) });
    return pipeline({ urls, first: Number(values.share), step: sessions, batch, file, slotCount: 2, infer });
  }
  const file = openSync(values.output, "w");
  if (values.arrangement === "procs") {
    const codes = await Promise.all(
      Array.from({ length: sessions }, (_, share) => new Promise((resolve) => {
        spawn(process.execPath, [...process.argv.slice(1), "--share", String(share)], { stdio: "inherit" }).on("exit", resolve);
      })),
    );
    process.exitCode = codes.some((code) => code !== 0) ? 1 : 0;
    return;
  }
  const { infer, close } = await inferOnThreads(values.model);
  await pipeline({ urls, first: 0, step: 1, batch, file, slotCount: slots, infer });
  close();
  closeSync(file);
}

await (isMainThread ? main() : inferThread());
