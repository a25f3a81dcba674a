// A short run of what is built in dist/, with the Node that runs this script: a function task and a model on images.
// Usage: node scripts/smoke.mjs
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import sharp from "sharp";

const cli = fileURLToPath(new URL("../dist/cli.js", import.meta.url));
const demo = fileURLToPath(new URL("../examples/demo", import.meta.url));
const directory = await mkdtemp(path.join(tmpdir(), "splitrun-smoke-"));
try {
  await functionTask();
  await inferenceTask();
  console.log(`Node ${process.version}: a function task and a model on images ran as they should`);
} finally {
  await rm(directory, { recursive: true, force: true });
}

async function functionTask() {
  await writeFile(path.join(directory, "double.mjs"), "export default async (item) => item * 2;\n");
  await writeFile(path.join(directory, "numbers.jsonl"), "1\n2\n3\n");
  await writeFile(path.join(directory, "numbers.json"), JSON.stringify({
    input: "numbers.jsonl", task: { kind: "function", module: "double.mjs" }, output: "doubled",
  }));
  const { code, summary } = await splitrun(["run", "numbers.json"]);
  assert.equal(code, 0);
  assert.deepEqual(summary.counts, { items: 3, succeeded: 3, failed: 0, reused: 0, copied: 0, retried: 0 });
  assert.deepEqual((await outcomes("doubled")).map(({ output }) => output), [2, 4, 6]);
}

async function inferenceTask() {
  const jpeg = await sharp({ create: { width: 640, height: 480, channels: 3, background: "#ddd" } }).jpeg().toBuffer();
  const server = createServer(({ url }, response) => (url === "/ok.jpg" ? response.end(jpeg) : response.writeHead(404).end()));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  try {
    const origin = `http://127.0.0.1:${server.address().port}`;
    await writeFile(path.join(directory, "pictures.csv"), `id,url\ngood,${origin}/ok.jpg\ndead,${origin}/gone.jpg\n`);
    const { code, summary } = await splitrun([
      "run", path.join(demo, "job.yaml"), "--output", "labels",
      "--set", `input.from=${path.join(directory, "pictures.csv")}`,
    ]);
    assert.equal(code, 1);
    assert.equal(summary.state, "finished-with-errors");
    const [good, dead] = await outcomes("labels");
    assert.match(good.output.label, /^[0-9]$/);
    assert.equal(dead.error.code, "DOWNLOAD_STATUS");
  } finally {
    server.close();
    server.closeAllConnections();
  }
}

async function splitrun(args) {
  const options = { cwd: directory, env: { ...process.env, SPLITRUN_CACHE_DIR: path.join(directory, "cache") } };
  const { code, stdout, stderr } = await promisify(execFile)(process.execPath, [cli, ...args, "--json"], options)
    .then((end) => ({ code: 0, ...end }), (error) => error);
  if (stdout === undefined || stdout === "") throw new Error(`splitrun ${args.join(" ")} ended with ${code}:\n${stderr}`);
  return { code, summary: JSON.parse(stdout) };
}

/** The journal's lines in the order of the list. */
async function outcomes(home) {
  const text = await readFile(path.join(directory, home, "results.jsonl"), "utf8");
  return text.trim().split("\n").map((line) => JSON.parse(line)).sort((a, b) => a.index - b.index);
}
