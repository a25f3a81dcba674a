// Good manners: one host of four answers 429 with `Retry-After: 1` above 50 requests in any second, four Task Managers.
// Prints the part of 429s among its answers after the first 10 s, how many of its images came in, and how long the
// items of the other hosts took against runs without it, in turn.
// Usage: node bench/hosts.mjs [--pairs 5] [--images 1500] [--others 4000] [--limit 50] [--latency 80] [--others-latency 300]
// Needs a build. `--images` of the strict host, `--others` of each other one; `--latency`: ms until the strict host
// answers, `--others-latency` until the others do. A model that costs next to nothing, and hosts that take their time:
// downloads are what the runs wait for. Prints the processor's share too: near 100 % the images of the strict host cost
// the others time by being worked on at all, which is no matter of manners.
import { fork } from "node:child_process";
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { build } from "esbuild";
import sharp from "sharp";
import { median } from "./measure.mjs";

const { values } = parseArgs({
  options: {
    pairs: { type: "string", default: "5" },
    images: { type: "string", default: "1500" },
    others: { type: "string", default: "4000" },
    limit: { type: "string", default: "50" },
    latency: { type: "string", default: "80" },
    "others-latency": { type: "string", default: "300" },
    taskManagers: { type: "string", default: "4" },
  },
});
const root = path.resolve(import.meta.dirname, "..");
const hosts = 4;
const settledMs = 10_000;

/** The hosts, in a process of their own; the first one is strict. Tells what it answered when asked. */
async function serve() {
  const picture = await sharp({ create: { width: 64, height: 48, channels: 3, background: { r: 200, g: 30, b: 90 } } }).jpeg().toBuffer();
  const limit = Number(values.limit);
  const latenciesMs = [values.latency, values["others-latency"]].map(Number);
  let recent = [];
  let answers = [];
  const servers = [];
  for (let host = 0; host < hosts; host++) {
    const server = createServer((request, response) => {
      const nowMs = performance.now();
      if (host === 0) {
        recent = recent.filter((atMs) => atMs > nowMs - 1000);
        recent.push(nowMs);
        const refused = recent.length > limit;
        answers.push([nowMs, refused]);
        if (refused) return response.writeHead(429, { "retry-after": "1", "content-length": 0 }).end();
      }
      setTimeout(() => response.writeHead(200, { "content-type": "image/jpeg", "content-length": picture.length }).end(picture), latenciesMs[Math.min(host, 1)]);
    });
    server.keepAliveTimeout = 60_000;
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    servers.push(server);
  }
  process.on("message", () => {
    process.send({ answers });
    answers = [];
    recent = [];
  });
  process.on("disconnect", () => process.exit());
  process.send({ ports: servers.map((server) => server.address().port) });
}

async function makeModel() {
  const { outputFiles } = await build({ entryPoints: [path.join(root, "test/support/onnx.ts")], bundle: true, platform: "node", format: "esm", write: false });
  const { meanColorModel } = await import(`data:text/javascript;base64,${Buffer.from(outputFiles[0].contents).toString("base64")}`);
  return meanColorModel({ input: ["N", 3, "H", "W"] });
}

if (process.send !== undefined) await serve();
else await measure();

async function measure() {
  const { runJob } = await import(path.join(root, "dist/index.js"));
  const folder = await mkdtemp(path.join(tmpdir(), "splitrun-hosts-"));
  const model = path.join(folder, "model.onnx");
  await writeFile(model, await makeModel());
  const child = fork(import.meta.filename, process.argv.slice(2), { execArgv: [] });
  const message = () => new Promise((resolve) => child.once("message", resolve));
  const { ports } = await message();
  const answersSoFar = async () => {
    child.send("answers");
    return (await message()).answers;
  };

  /** Items of the hosts in turn, as a list of pages would have them; the strict one's spread over the whole list. */
  function inputs(strict) {
    const list = [];
    const others = Number(values.others);
    const images = strict ? Number(values.images) : 0;
    let asked = 0;
    for (let n = 0; n < others; n++) {
      for (let host = 1; host < hosts; host++) list.push(`http://127.0.0.1:${ports[host]}/${n}.jpg`);
      for (; asked < Math.ceil((images * (n + 1)) / others); asked++) list.push(`http://127.0.0.1:${ports[0]}/${asked}.jpg`);
    }
    return list;
  }

  /** When each host's items were stored, by the journal. */
  function watch(journal) {
    let offset = 0;
    let rest = "";
    const seen = { strict: { succeeded: 0, failed: 0, firstMs: 0, lastMs: 0 }, others: { succeeded: 0, failed: 0, firstMs: 0, lastMs: 0 } };
    const look = () => {
      let descriptor;
      try {
        descriptor = openSync(journal, "r");
      } catch {
        return;
      }
      const { size } = fstatSync(descriptor);
      const bytes = Buffer.alloc(size - offset);
      readSync(descriptor, bytes, 0, bytes.length, offset);
      closeSync(descriptor);
      offset = size;
      const lines = (rest + bytes.toString()).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        const kind = line.includes(`:${ports[0]}/`) ? seen.strict : seen.others;
        if (line.includes('"output":')) kind.succeeded += 1;
        else kind.failed += 1;
        kind.firstMs ||= performance.now();
        kind.lastMs = performance.now();
      }
    };
    const timer = setInterval(look, 50);
    return () => {
      clearInterval(timer);
      look();
      return seen;
    };
  }

  async function run(strict) {
    const output = path.join(folder, `${strict ? "with" : "without"}-${Math.round(performance.now())}`);
    const seen = watch(path.join(output, "results.jsonl"));
    await answersSoFar();
    const { state, summary } = await runJob({
      input: inputs(strict),
      task: {
        kind: "inference",
        model,
        download: { concurrency: 32 },
        preprocess: { resize: { width: 8, height: 8, fit: "fill", kernel: "linear" }, crop: null },
        infer: { batch: 8, sessions: 1, batchWaitMs: 5 },
      },
      backend: "local",
      taskManagers: Number(values.taskManagers),
      resources: { workersPerNode: Number(values.taskManagers) },
      output,
    });
    return { ...seen(), state, processorShare: summary.processorShare, answers: await answersSoFar() };
  }

  /** 429s among the answers once the host was known for a while. */
  function refusals(answers) {
    const [first] = answers[0];
    const settled = answers.filter(([atMs]) => atMs > first + settledMs);
    const refused = settled.filter(([, wasRefused]) => wasRefused).length;
    const lastMs = answers.at(-1)[0];
    return {
      answers: settled.length,
      refused,
      percent: (100 * refused) / Math.max(1, settled.length),
      refusedBefore: answers.filter(([atMs, wasRefused]) => wasRefused && atMs <= first + settledMs).length,
      perSecond: (1000 * (settled.length - refused)) / Math.max(1, lastMs - first - settledMs),
    };
  }

  const ratios = [];
  for (let pair = 0; pair < Number(values.pairs); pair++) {
    const order = pair % 2 === 0 ? [true, false] : [false, true];
    const times = new Map();
    for (const strict of order) {
      const { others, strict: strictSeen, state, processorShare, answers } = await run(strict);
      const othersMs = others.lastMs - others.firstMs;
      times.set(strict, othersMs);
      console.log(`${strict ? "with   " : "without"} ${state}: others ${others.succeeded} in ${(othersMs / 1000).toFixed(2)} s (${others.failed} failed), processor ${Math.round(100 * (processorShare ?? 0))} %`);
      if (!strict) continue;
      const { answers: count, refused, percent, refusedBefore, perSecond } = refusals(answers);
      const images = Number(values.images);
      console.log(`        strict host: ${strictSeen.succeeded} of ${images} images (${((100 * strictSeen.succeeded) / images).toFixed(2)} %) in ${((strictSeen.lastMs - others.firstMs) / 1000).toFixed(1)} s; `
        + `after 10 s ${refused} of ${count} answers were 429 (${percent.toFixed(2)} %; ${refusedBefore} before), ${perSecond.toFixed(1)} images/s of ${values.limit}`);
    }
    ratios.push(times.get(true) / times.get(false));
  }
  const slowed = ratios.map((ratio) => `${(100 * (ratio - 1)).toFixed(1)} %`).join(", ");
  console.log(`other hosts' items slowed by ${(100 * (median(ratios) - 1)).toFixed(1)} % (median of ${ratios.length} pairs: ${slowed})`);
  child.disconnect();
  await rm(folder, { recursive: true, force: true });
}
