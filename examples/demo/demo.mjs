// The main job on this machine: photographs of handwritten digits behind a web server, read by a model, judged
// against the truth. Usage: node examples/demo/demo.mjs [--directory .splitrun/demo]
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createReadStream } from "node:fs";
import { copyFile, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { createPainter } from "./draw.mjs";
import { renderPage } from "./page.mjs";
import { faults, listPictures } from "./pictures.mjs";
import { servePictures } from "./serve.mjs";

const here = import.meta.dirname;
const cli = fileURLToPath(new URL("../../dist/cli.js", import.meta.url));
const accuracyMin = 0.97;
const sampleCount = 120;
const drawnAtOnce = 4;

const { values: flags } = parseArgs({ options: { directory: { type: "string", default: ".splitrun/demo" } } });
const directory = path.resolve(flags.directory);
const inDirectory = (name) => path.join(directory, name);
const shown = (file) => path.relative(process.cwd(), file) || ".";

const pictures = listPictures();
await prepareDirectory();
await drawPictures();
const server = await servePictures(pictures, inDirectory("photos"));
await writeLists(server);
const summary = await run().finally(() => server.close());
const judged = await judge(summary);
await writePage(judged, summary);
process.exitCode = report(judged);

/** What an earlier demo left goes; foreign files stay. */
async function prepareDirectory() {
  for (const name of ["photos", "results", "page.html"]) await rm(inDirectory(name), { recursive: true, force: true });
  await mkdir(inDirectory("photos"), { recursive: true });
  for (const name of ["job.yaml", "digits.onnx"]) await copyFile(path.join(here, name), inDirectory(name));
}

async function drawPictures() {
  const digits = pictures.filter(({ fault }) => fault === null);
  say(`Drawing ${count(digits.length)} real handwritten digits as photographs of 640 × 480 into ${shown(inDirectory("photos"))}`);
  const paint = createPainter();
  const waiting = digits.entries();
  await Promise.all(Array.from({ length: drawnAtOnce }, async () => {
    for (const [at, { id, pixels, seed }] of waiting) {
      await writeFile(inDirectory(`photos/${id}.jpg`), await paint(pixels, seed));
      if (process.stderr.isTTY && at % 20 === 0) process.stderr.write(`\r${count(at)} drawn`);
    }
  }));
  if (process.stderr.isTTY) process.stderr.write("\r\x1b[K");
}

/** What the job is given, and what only the judge sees. */
async function writeLists({ urlOf }) {
  const table = (rows) => rows.map((row) => `${row.join(",")}\n`).join("");
  await writeFile(inDirectory("pictures.csv"), table([["id", "url"], ...pictures.map((picture) => [picture.id, urlOf(picture)])]));
  await writeFile(inDirectory("truth.csv"), table([["id", "digit", "fault"], ...pictures.map(({ id, digit, fault }) => [id, digit ?? "", fault ?? ""])]));
}

/** The product as its users call it: progress and summary on the terminal, the same as JSON for this program. */
async function run() {
  // Ctrl-C reaches both; splitrun knows how to stop, and this program waits for it.
  process.on("SIGINT", () => {});
  say(`\n$ npx splitrun run ${shown(inDirectory("job.yaml"))}`);
  const child = spawn(process.execPath, [cli, "run", inDirectory("job.yaml"), "--json"], { stdio: ["ignore", "pipe", "inherit"] });
  const stdout = [];
  child.stdout.on("data", (chunk) => stdout.push(chunk));
  const [code] = await once(child, "close");
  if (code !== 0 && code !== 1) process.exit(code ?? 1);
  return JSON.parse(Buffer.concat(stdout).toString());
}

/** Every item with its truth and the verdict: right, wrong or failed. */
async function judge({ home }) {
  const outcomes = new Map();
  for await (const line of createInterface({ input: createReadStream(path.join(home, "results.jsonl")) })) {
    const outcome = JSON.parse(line);
    if (outcomes.has(outcome.id)) throw new Error(`${outcome.id} has more than one line in results.jsonl`);
    outcomes.set(outcome.id, outcome);
  }
  return pictures.map(({ id, digit, fault }) => {
    const outcome = outcomes.get(id) ?? { error: { code: "NO LINE", message: "results.jsonl says nothing about it" }, attempts: 0 };
    if (fault !== null) return { ...outcome, id, fault, verdict: "failed", error: outcome.error ?? { code: "A RESULT", message: outcome.output.label } };
    const truth = String(digit);
    if (outcome.error !== undefined) return { ...outcome, id, fault, verdict: "failed" };
    return { ...outcome, id, fault, truth, verdict: outcome.output.label === truth ? "right" : "wrong" };
  });
}

async function writePage(judged, summary) {
  const jpegOf = ({ id }) => readFile(inDirectory(`photos/${id}.jpg`));
  const faultText = ({ fault }) => faults[fault]?.text ?? "nothing: this picture was good";
  await writeFile(inDirectory("page.html"), await renderPage(judged, { summary, jpegOf, faultText, sampleCount }));
}

/** @returns the exit code: 0 when every good picture has an answer, every fault its error, and the answers are good */
function report(judged) {
  const digits = judged.filter(({ fault }) => fault === null);
  const broken = judged.filter(({ fault }) => fault !== null);
  const right = digits.filter(({ verdict }) => verdict === "right").length;
  const accuracy = right / digits.length;
  const lost = digits.filter(({ verdict }) => verdict === "failed");
  const misnamed = broken.filter(({ fault, error }) => error.code !== faults[fault].code);
  const home = shown(inDirectory("results"));
  say(`
Judged against the truth
  ${count(right)} of ${count(digits.length)} digits read right: ${(100 * accuracy).toFixed(2)} %. The model was trained on other digits.
  ${count(broken.length - misnamed.length)} of ${count(broken.length)} dead links and broken files ended as the error that they should.

See for yourself: open ${pathToFileURL(inDirectory("page.html"))}

What next
  The receipt:            npx splitrun verify ${home}
  A table, in order:      npx splitrun export ${home} --to digits.csv --order input
  What the job says:      npx splitrun plan ${shown(inDirectory("job.yaml"))}
  Your images and model:  npx splitrun run --input urls.txt --model model.onnx --output out`);
  for (const { id, fault, error } of [...lost, ...misnamed]) {
    say(`Not as it should be: ${id} (${fault ?? "a good picture"}) ended as ${error.code}: ${error.message}`);
  }
  if (accuracy < accuracyMin) say(`Not as it should be: less than ${100 * accuracyMin} % were read right`);
  return lost.length + misnamed.length === 0 && accuracy >= accuracyMin ? 0 : 1;
}

function say(text) {
  process.stdout.write(`${text}\n`);
}

function count(value) {
  return value.toLocaleString("en-US");
}
