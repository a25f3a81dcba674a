// splitrun on a real AWS account: deploy → ping → run → compare with a run here → undeploy. Needs credentials (AWS_PROFILE
// or keys) with the rights in docs/backends/lambda.md and those to make a bucket, and nothing else; makes a function, a
// role, a log group and a bucket with names of their own, and removes all of them, also after a failure.
// Costs about a cent; stops at --max-cost-usd. Never run in CI.
// Usage: npm run build && node scripts/aws-smoke.mjs [--region eu-central-1] [--arch arm64] [--images 200] [--max-cost-usd 0.25]
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { CreateBucketCommand, DeleteBucketCommand, DeleteObjectsCommand, ListObjectsV2Command, PutObjectCommand, S3Client } from "@aws-sdk/client-s3";
import sharp from "sharp";
import { parse } from "yaml";

const { values } = parseArgs({
  options: {
    region: { type: "string" }, arch: { type: "string", default: "x86_64" }, images: { type: "string", default: "200" }, "max-cost-usd": { type: "string", default: "0.25" },
  },
});
const maxCostUsd = Number(values["max-cost-usd"]);
const imagesCount = Number(values.images);
const cli = fileURLToPath(new URL("../dist/cli.js", import.meta.url));
const demo = fileURLToPath(new URL("../examples/demo", import.meta.url));

if (values.region !== undefined) process.env.AWS_REGION = values.region;
const emulated = Boolean(process.env.AWS_ENDPOINT_URL_S3 ?? process.env.AWS_ENDPOINT_URL);
// Which versions of Node are good enough is for splitrun to say.
process.env.AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED ??= "true";
const s3 = new S3Client({ forcePathStyle: emulated });
const name = `splitrun-smoke-${randomBytes(4).toString("hex")}`;
const directory = await mkdtemp(path.join(tmpdir(), "splitrun-aws-smoke-"));
let spentUsd = 0;

try {
  await step(`bucket ${name} with ${imagesCount} images`, makeBucket);
  await step("deploy", deploy);
  await step("deploy again: nothing to do", deployAgain);
  await step("ping, cold and warm", ping);
  await step("a model on images: here and on Lambda, the same results", images);
  await step("a function, sent with the request", numbers);
  console.log(`Everything worked. It cost about $${spentUsd.toFixed(4)} by the price list.`);
} finally {
  await cleanUp();
}

/** What cannot be removed keeps nothing else there. */
async function cleanUp() {
  const failures = [];
  for (const [what, work] of [["undeploy", undeploy], [`remove the bucket ${name}`, removeBucket]]) {
    await step(what, work).catch((error) => failures.push(error));
  }
  await rm(directory, { recursive: true, force: true });
  s3.destroy();
  if (failures.length > 0) throw new AggregateError(failures, `Look for ${name} in the account: not all of it could be removed`);
}

async function step(what, work) {
  const startedMs = performance.now();
  try {
    const said = await work();
    console.log(`ok    ${what}${said === undefined ? "" : `: ${said}`} (${((performance.now() - startedMs) / 1000).toFixed(1)} s)`);
  } catch (error) {
    console.log(`FAIL  ${what}`);
    throw error;
  }
}

async function makeBucket() {
  const region = await s3.config.region();
  await s3.send(new CreateBucketCommand({ Bucket: name, ...(region === "us-east-1" ? {} : { CreateBucketConfiguration: { LocationConstraint: region } }) }));
  for (let index = 0; index < imagesCount; index += 1) {
    const colour = (shift) => (index * 37 + shift * 91) % 256;
    const { data } = await sharp({ create: { width: 64 + index, height: 64, channels: 3, background: { r: colour(1), g: colour(2), b: colour(3) } } }).jpeg().toBuffer({ resolveWithObject: true });
    await s3.send(new PutObjectCommand({ Bucket: name, Key: `images/${String(index).padStart(6, "0")}.jpg`, Body: data }));
  }
  // One that is no image: its error has to be the same, too.
  await s3.send(new PutObjectCommand({ Bucket: name, Key: "images/broken.jpg", Body: "no image" }));
}

function deploySettings() {
  return ["--name", name, "--arch", values.arch, "--model", path.join(demo, "digits.onnx"), "--read", `s3://${name}/images/`, "--staging-bucket", `s3://${name}/staging/`];
}

async function deploy() {
  const { report } = await splitrun(["deploy", ...deploySettings()]);
  assert.equal(report.changed, true);
  return `${(report.package.zip.bytes / 1e6).toFixed(1)} MB, $${report.cost.thousandSecondsUsd.toFixed(4)} per 1000 s, first cold start ${Math.round(report.ping.roundTripMs)} ms`;
}

async function deployAgain() {
  const { report } = await splitrun(["deploy", ...deploySettings()]);
  assert.deepEqual(report.steps, []);
}

async function ping() {
  const { report } = await splitrun(["ping", "--name", name, "--cold", "--times", "10"]);
  assert.notEqual(report.cold, null);
  return `cold ${Math.round(report.cold.roundTripMs)} ms (init ${Math.round(report.cold.initMs)} ms), warm ${Math.round(report.warmMs.median)} ms`;
}

async function images() {
  const { task } = parse(await readFile(path.join(demo, "job.yaml"), "utf8"));
  await writeFile(path.join(directory, "digits.json"), JSON.stringify({ input: `s3://${name}/images/`, task: { ...task, model: path.join(demo, task.model) } }));
  const job = ["digits.json"];
  const here = await run([...job, "--backend", "sequential", "--output", "here"], 1);
  const there = await run([...job, ...onLambda(), "--output", "there"], 1);
  assert.deepEqual(there.report.counts, here.report.counts);
  const [ours, theirs] = [await outcomes("here"), await outcomes("there")];
  assert.equal(theirs.length, imagesCount + 1);
  const exact = JSON.stringify(ours) === JSON.stringify(theirs);
  // Another processor may round the last digit otherwise.
  if (!exact) assertClose(theirs, ours);
  return `${exact ? "byte for byte" : "to 1e-5 (another processor)"}, ${there.report.itemsPerSecond.toFixed(1)} items/s`;
}

async function numbers() {
  await writeFile(path.join(directory, "square.mjs"), "export default async (item) => item * item;\n");
  await writeFile(path.join(directory, "numbers.jsonl"), Array.from({ length: 500 }, (_, index) => `${index}\n`).join(""));
  await writeFile(path.join(directory, "numbers.json"), JSON.stringify({ input: "numbers.jsonl", task: { kind: "function", module: "square.mjs" }, output: "squares" }));
  const { report } = await run(["numbers.json", ...onLambda()], 0);
  assert.equal(report.counts.succeeded, 500);
  assert.deepEqual((await outcomes("squares")).map(({ output }) => output), Array.from({ length: 500 }, (_, index) => index * index));
}

async function undeploy() {
  await splitrun(["undeploy", "--name", name, "--staging-bucket", `s3://${name}/staging/`]);
  const { report } = await splitrun(["undeploy", "--name", name, "--dry-run"]);
  assert.deepEqual(report.steps, []);
}

async function removeBucket() {
  try {
    for (;;) {
      const { Contents: objects = [] } = await s3.send(new ListObjectsV2Command({ Bucket: name }));
      if (objects.length === 0) break;
      await s3.send(new DeleteObjectsCommand({ Bucket: name, Delete: { Objects: objects.map(({ Key }) => ({ Key })) } }));
    }
    await s3.send(new DeleteBucketCommand({ Bucket: name }));
  } catch (error) {
    if (error.name !== "NoSuchBucket") throw error;
  }
}

function onLambda() {
  const leftUsd = Math.max(0, maxCostUsd - spentUsd);
  return ["--backend", "lambda", "--set", `backend.functionName=${name}`, "--set", `budget.maxCostUsd=${leftUsd}`, "--task-managers", "4"];
}

async function run(args, exitCode) {
  const ended = await splitrun(["run", ...args], exitCode);
  spentUsd += ended.report.cost?.usd ?? 0;
  return ended;
}

function splitrun(args, exitCode = 0) {
  return new Promise((resolve, reject) => {
    execFile(process.execPath, [cli, ...args, "--json"], { cwd: directory, maxBuffer: 100_000_000 }, (error, stdout, stderr) => {
      const code = error === null ? 0 : error.code;
      if (code !== exitCode) return reject(new Error(`splitrun ${args.join(" ")} ended with ${code} instead of ${exitCode}:\n${stderr}`));
      resolve({ report: JSON.parse(stdout), stderr });
    });
  });
}

async function outcomes(home) {
  const text = await readFile(path.join(directory, home, "results.jsonl"), "utf8");
  return text.trimEnd().split("\n").map((line) => JSON.parse(line)).sort((left, right) => left.index - right.index);
}

function assertClose(theirs, ours) {
  for (const [at, own] of ours.entries()) {
    const other = theirs[at];
    assert.deepEqual([other.index, other.input, other.error, other.output?.label], [own.index, own.input, own.error, own.output?.label]);
    if (own.output !== undefined) assert.ok(Math.abs(other.output.score - own.output.score) < 1e-5, `item ${own.index}: ${other.output.score} is not ${own.output.score}`);
  }
}
