import path from "node:path";
import { describe, expect, test } from "vitest";
import { formatPlan, planJson } from "../../orchestrator/jobs/plan.ts";
import { jobForRecord } from "../../orchestrator/jobs/record.ts";
import { taskManagerEnvironment } from "../../orchestrator/jobs/references.ts";
import type { LambdaBackend } from "../../orchestrator/jobs/schema.ts";
import type { LambdaSpec, ResolvedFunctionTask, ResolvedInferenceTask } from "../../orchestrator/jobs/types.ts";
import { directoryWith, resolve, smallJob } from "./jobs-fixture.ts";

const functionJob = { input: [1, 2], task: { kind: "function", module: "mine.mjs" } };
const imageNet = { colorOrder: "rgb", layout: "nchw", dtype: "float32", scale: 1 / 255, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };

async function ruleOf(field: string, job: unknown, options = {}): Promise<unknown> {
  const { provenance } = await resolve(job, options);
  const entry = provenance.find((each) => each.field === field);
  return entry && [entry.value, entry.rule];
}

test("a job that says only input and task becomes complete, with the defaults of the documentation", async () => {
  const { job } = await resolve(smallJob);
  expect(job).toEqual({
    name: "job",
    baseDir: "/base",
    input: { from: ["a.jpg", "b.jpg"], format: "list", column: null, id: null, weight: null, limit: null },
    bucket: null,
    s3: { requesterPays: false, forcePathStyle: null },
    s3Keeping: { encryption: null, storageClass: null },
    task: {
      kind: "inference",
      model: "/models/m.onnx",
      download: { concurrency: 32, timeoutMs: 30_000, idleTimeoutMs: 5000, maxBytes: 52_428_800, redirectsMax: 10, headers: {}, certificateAuthorities: [], perHost: { concurrency: null, requestsPerSecond: null } },
      preprocess: {
        concurrency: 1, maxPixels: 268_402_689, ...imageNet,
        resize: { width: 256, height: 256, fit: "shorter-side", kernel: "pillow-bilinear" }, crop: { width: 224, height: 224 },
      },
      infer: { batch: 8, sessions: 4, intraOpThreads: 1, interOpThreads: 1, batchWaitMs: 50, executionProviders: ["cpu"] },
      postprocess: { activation: "softmax", topK: 1 },
      labels: null,
    },
    backend: { kind: "local" },
    policy: "guided",
    sizing: { kind: "guided" },
    taskManagers: 1,
    resources: { maxRamPerWorkerMb: null, coresPerWorker: null, maxTasksPerWorker: null, minTaskManagers: 1 },
    env: {},
    keepAlive: true,
    heartbeat: { reportMs: 250, everyMs: 2000, timeoutMs: 6000 },
    speculation: { kind: "remainder", maxExtraPercent: 10 },
    attemptsMax: 3,
    tolerate: { failedItemsPercent: 50 },
    timeouts: { itemMs: 300_000, taskManagerMs: 600_000, splitMs: null, jobMs: null },
    hostBlockedMs: 300_000,
    budget: { maxCostUsd: null },
    prices: null,
    faults: null,
    share: 1,
    priority: 0,
    output: { kind: "print" },
  });
});

describe("input in S3", () => {
  test.each([
    ["s3://b", "folder", "the objects below a prefix"],
    ["s3://b/p/", "folder", "the objects below a prefix"],
    ["s3://b/p/*.jpg", "glob", "a pattern"],
    ["S3://b/list.CSV.gz", "csv", "the file's ending .csv"],
    ["s3://b/list.jsonl", "jsonl", "the file's ending .jsonl"],
    ["s3://b/list.parquet", "parquet", "the file's ending .parquet"],
    ["s3://b/list.txt", "text", "the file's ending .txt"],
    ["s3://b/list", "text", "default"],
  ])("%s is of format %s", async (input, format, rule) => {
    expect(await ruleOf("input.format", { ...smallJob, input })).toEqual([format, rule]);
    expect((await resolve({ ...smallJob, input })).job.input.from).toBe(input);
  });

  test("is not mixed up with a bucket for plain keys", async () => {
    await expect(resolve({ ...smallJob, input: "s3://b/p/", bucket: "b" })).rejects.toThrow("bucket: \"b\" is not allowed: input of format folder names its files whole; leave it out, or for objects of the bucket give input: s3://b/prefix/");
    expect((await resolve({ ...smallJob, input: "s3://b/list.csv", bucket: "c" })).job.bucket).toBe("c");
  });

  test("is recorded as it was given", async () => {
    const given = { ...smallJob, input: "s3://b/list.csv", bucket: "c", s3: { requesterPays: true, forcePathStyle: false } };
    const { job } = await resolve(given);
    expect(jobForRecord(job)).toMatchObject({ input: { from: "s3://b/list.csv", format: "csv" }, bucket: "c", s3: given.s3 });
    expect((await resolve(jobForRecord(job))).job).toEqual(job);
  });
});

describe("a list on the command line in place of the job's", () => {
  const origins = { "input.from": "the command line" };

  test.each(["s3://b/p/", "s3://b/list.txt"])("leaves aside the columns that the job names where it has none: %s", async (from) => {
    const { job } = await resolve({ ...smallJob, input: { from, column: "url", id: "id", weight: "bytes", limit: 7 } }, { origins });
    expect(job.input).toMatchObject({ from, column: null, id: null, weight: null, limit: 7 });
  });

  test("keeps them where it has columns, too, and is refused with columns that the command line names", async () => {
    const { job } = await resolve({ ...smallJob, input: { from: "s3://b/list.csv", column: "url", id: "id" } }, { origins });
    expect(job.input).toMatchObject({ column: "url", id: "id" });
    const both = { ...origins, "input.column": "the command line" };
    await expect(resolve({ ...smallJob, input: { from: "s3://b/p/", column: "url", id: "id" } }, { origins: both })).rejects.toThrow(/wrong: input\.column: "url" is not allowed/);
  });
});

describe("an output in S3", () => {
  test("is complete, with the defaults of the documentation", async () => {
    const { job } = await resolve({ ...smallJob, output: "s3://b/p" });
    expect(job.output).toEqual({ kind: "s3", url: "s3://b/p/", format: "jsonl", order: "input", partItems: 10_000, checkpointMs: 60_000 });
  });

  test("is recorded as it was given", async () => {
    const s3 = { requesterPays: true, forcePathStyle: true, encryption: "kms", kmsKeyId: "k", storageClass: "STANDARD_IA" } as const;
    const { job } = await resolve({ ...smallJob, s3, output: { to: "s3://b/", format: "csv", order: "completion", partItems: 7, checkpointMs: 9 } });
    expect(job.s3Keeping).toEqual({ encryption: { kind: "kms", keyId: "k" }, storageClass: "STANDARD_IA" });
    expect((await resolve(jobForRecord(job))).job).toEqual(job);
  });
});

describe("every value names the rule that it came from", () => {
  test("each value of the complete job is in the plan, once", async () => {
    const { job, provenance } = await resolve({ ...smallJob, output: "out" });
    const fields = provenance.map(({ field }) => field);
    expect(new Set(fields).size).toBe(fields.length);
    const { task, output, s3Keeping: _keeping, ...rest } = job;
    const leaves = (value: unknown, at: string): string[] =>
      typeof value === "object" && value !== null && !Array.isArray(value) && Object.keys(value).length > 0 && !at.endsWith("crop")
        ? Object.entries(value).flatMap(([name, part]) => leaves(part, at === "" ? name : `${at}.${name}`))
        : [at];
    const expected = [...leaves(rest, ""), ...leaves(task, "task")]
      .filter((field) => field !== "baseDir" && !field.startsWith("sizing"))
      .map((field) => ({ "task.labels": "task.postprocess.labels", hostBlockedMs: "task.download.hostBlockedMs" })[field] ?? field);
    expect(fields).toEqual(expect.arrayContaining([...expected, "splitSize", "s3.encryption", "s3.kmsKeyId", "s3.storageClass", "output.to", "output.format", "output.order"]));
    expect(output).toEqual({ kind: "directory", dir: "/base/out", format: "jsonl", order: "completion" });
    expect(provenance.every(({ rule }) => rule !== "")).toBe(true);
  });

  test.each<[string, unknown, object, unknown]>([
    ["attemptsMax", { ...smallJob, attemptsMax: 5 }, {}, [5, "the job"]],
    ["attemptsMax", smallJob, {}, [3, "default"]],
    ["task.infer.batch", { ...smallJob, task: { ...smallJob.task, infer: { batch: 16 } } }, { origins: { "task.infer.batch": "flag --set" } }, [16, "flag --set"]],
    ["task.infer.batch", { ...smallJob, task: { ...smallJob.task, infer: { batch: 16 } } }, { origins: { task: "the command line" } }, [16, "the command line"]],
    ["name", { ...smallJob, name: "night" }, { origins: { name: "the job file's name" } }, ["night", "the job file's name"]],
    ["task.infer.sessions", smallJob, {}, [4, "4 cores of this machine / 1 Task Manager"]],
    ["task.infer.sessions", { ...smallJob, taskManagers: 2 }, {}, [2, "4 cores of this machine / 2 Task Managers"]],
    ["task.preprocess.crop", smallJob, {}, [{ width: 224, height: 224 }, "preset torchvision-imagenet"]],
    ["taskManagers", { ...smallJob, taskManagers: 9 }, {}, [4, "maximum of this machine: 4 cores"]],
    ["taskManagers", { ...smallJob, taskManagers: 9 }, { taskManagersMax: 6 }, [6, "maximum of the orchestrator: 6"]],
    ["taskManagers", { ...smallJob, policy: "default", splitSize: 50 }, { items: 100 }, [2, "policy default"]],
    ["splitSize", { ...smallJob, policy: "policy-1", taskManagers: 2 }, { items: 100 }, [50, "policy policy-1"]],
    ["splitSize", { ...smallJob, policy: "none" }, {}, [32, "default"]],
    ["splitSize", { ...smallJob, policy: "none", splitSize: 9 }, {}, [9, "the job"]],
    ["splitSize", smallJob, {}, [null, "policy guided: sized when a split is asked for"]],
    ["splitSize", { ...smallJob, splitSize: 9 }, {}, [null, "policy guided: sized when a split is asked for; the job's 9 is for the other policies"]],
    ["splitSize", { ...smallJob, heterogeneousSplits: [3, 2, 1] }, {}, [[3, 2, 1], "heterogeneousSplits, in turn"]],
    ["speculation.kind", smallJob, {}, ["remainder", "default"]],
    ["speculation.maxExtraPercent", { ...smallJob, speculation: { kind: "remainder", maxExtraPercent: 0 } }, {}, [0, "the job"]],
    ["speculation.quartile", { ...smallJob, speculation: { kind: "quartile" } }, {}, [0.75, "default"]],
    ["speculation", { ...smallJob, speculation: false }, { origins: { speculation: "flag --set" } }, [false, "flag --set"]],
    ["faults", smallJob, {}, [null, "default"]],
    ["faults.delayMaxMs", { ...smallJob, faults: { delayPercent: 5 } }, {}, [1000, "default"]],
    ["heartbeat.reportMs", { ...smallJob, heartbeat: { everyMs: 100 } }, {}, [100, "heartbeat.everyMs"]],
    ["task.download.perHost.concurrency", { ...smallJob, task: { ...smallJob.task, download: { perHost: { concurrency: 4 } } } }, {}, [4, "the job"]],
    ["task.download.perHost.requestsPerSecond", smallJob, {}, [null, "default: found while it runs, by what each host bears"]],
    ["share", { ...smallJob, share: 2 }, {}, [2, "the job"]],
    ["priority", smallJob, {}, [0, "default"]],
  ])("%s", async (field, job, options, expected) => {
    expect(await ruleOf(field, job, options)).toEqual(expected);
  });

  test("heterogeneousSplits fix the sizes with any policy", async () => {
    expect((await resolve({ ...smallJob, heterogeneousSplits: [3, 2, 1] })).job.sizing).toEqual({ kind: "fixed", sizes: [3, 2, 1] });
  });
});

describe("speculation and faults", () => {
  test("the original's rule has its parameters", async () => {
    expect((await resolve({ ...smallJob, speculation: { kind: "quartile", multiplier: 3 } })).job.speculation).toEqual({
      kind: "quartile", quartile: 0.75, multiplier: 3, intervalMs: 500, maxRetries: 1, extraTaskManagers: true,
    });
  });
  test("true is the default, false is off", async () => {
    expect((await resolve({ ...smallJob, speculation: true })).job.speculation).toEqual({ kind: "remainder", maxExtraPercent: 10 });
    expect((await resolve({ ...smallJob, speculation: false })).job.speculation).toBe(false);
  });
  test("faults are complete, or none", async () => {
    expect((await resolve({ ...smallJob, faults: { killPercent: 2 } })).job.faults).toEqual({
      exceptionPercent: 0, delayPercent: 0, delayMaxMs: 1000, killPercent: 2, stallPercent: 0, seed: 0,
    });
    expect((await resolve({ ...smallJob, faults: { seed: 7, killPercent: 0 } })).job.faults).toBeNull();
  });
});

describe("presets", () => {
  const preprocess = async (given: object) => ((await resolve({ ...smallJob, task: { ...smallJob.task, preprocess: given } })).job.task as ResolvedInferenceTask).preprocess;

  test("are spelled out", async () => {
    expect(await preprocess({ preset: "off-sample" })).toMatchObject({ ...imageNet, resize: { width: 224, height: 224, fit: "fill", kernel: "align-corners" }, crop: null });
  });
  test("give way to what is said beside them, field by field", async () => {
    expect(await preprocess({ resize: { kernel: "lanczos3" }, crop: null, layout: "nhwc", mean: [0, 0, 0] })).toMatchObject({
      ...imageNet, layout: "nhwc", mean: [0, 0, 0], resize: { width: 256, height: 256, fit: "shorter-side", kernel: "lanczos3" }, crop: null,
    });
  });
  test("of postprocessing decide the activation", async () => {
    const { job } = await resolve({ ...smallJob, task: { ...smallJob.task, postprocess: { preset: "off-sample" } } });
    expect(job.task).toMatchObject({ postprocess: { activation: "off-sample" }, labels: null });
  });
});

describe("the arrangement on the machine", () => {
  const arranged = async (more: object, machine = { cores: 4, freeMemoryMb: 9000 }) => {
    const { job } = await resolve({ ...smallJob, ...more }, { machine });
    const task = job.task as ResolvedInferenceTask;
    return { taskManagers: job.taskManagers, sessions: task.infer.sessions, decoding: task.preprocess.concurrency };
  };

  test("local: one Task Manager with a session a core", async () => {
    expect(await arranged({})).toEqual({ taskManagers: 1, sessions: 4, decoding: 1 });
  });
  test("local: a decoding thread for every four cores", async () => {
    expect(await arranged({}, { cores: 9, freeMemoryMb: 9000 })).toEqual({ taskManagers: 1, sessions: 9, decoding: 3 });
  });
  test("local: more Task Managers share the cores", async () => {
    expect(await arranged({ taskManagers: 3 })).toEqual({ taskManagers: 3, sessions: 1, decoding: 1 });
  });
  test("local: coresPerWorker and workersPerNode", async () => {
    expect(await arranged({ resources: { coresPerWorker: 2 } })).toEqual({ taskManagers: 2, sessions: 2, decoding: 1 });
    expect(await arranged({ resources: { workersPerNode: 2 }, taskManagers: 4 })).toEqual({ taskManagers: 2, sessions: 2, decoding: 1 });
  });
  test("sequential: one of each, whatever the job says", async () => {
    expect(await arranged({ backend: "sequential", taskManagers: 3 })).toEqual({ taskManagers: 1, sessions: 1, decoding: 1 });
  });
  test("auto: as many workers as free memory and cores allow, at 2000 MB each", async () => {
    expect(await arranged({ backend: "auto" })).toEqual({ taskManagers: 4, sessions: 1, decoding: 1 });
    expect(await arranged({ backend: "auto" }, { cores: 8, freeMemoryMb: 5999 })).toEqual({ taskManagers: 2, sessions: 4, decoding: 1 });
    expect(await arranged({ backend: "auto", resources: { maxRamPerWorkerMb: 1000 } }, { cores: 8, freeMemoryMb: 5999 })).toEqual({ taskManagers: 5, sessions: 1, decoding: 1 });
    expect(await arranged({ backend: "auto", resources: { maxRamPerWorkerMb: 300 } }, { cores: 1, freeMemoryMb: 400 })).toEqual({ taskManagers: 1, sessions: 1, decoding: 1 });
  });
  test("auto: too little memory is refused with the numbers", async () => {
    await expect(arranged({ backend: "auto" }, { cores: 8, freeMemoryMb: 1999.5 })).rejects.toThrow(
      'backend: "auto" needs 2000 MB for a worker, and 1999 MB are free; free some, lower resources.maxRamPerWorkerMb, or use backend local');
  });
  test("a function runs on a thread a core, one call at a time on each", async () => {
    const { job } = await resolve(functionJob);
    expect(job.task as ResolvedFunctionTask).toEqual({ kind: "function", module: "/base/mine.mjs", concurrency: 1, threads: 4 });
  });
  test("more Task Managers at least than at most are refused", async () => {
    await expect(resolve({ ...smallJob, resources: { minTaskManagers: 3 } })).rejects.toMatchObject({ code: "JOB_INVALID", field: "resources.minTaskManagers", value: 3 });
  });
});

describe("input", () => {
  test.each([
    ["urls.txt", "text"], ["urls", "text"], ["a.csv", "csv"], ["a.TSV", "csv"], ["a.jsonl", "jsonl"], ["a.ndjson", "jsonl"], ["a.parquet", "parquet"], ["a.csv.gz", "csv"],
    ["*.jpg", "glob"], [".", "folder"], ["-", "stdin"], ["we[i]rd.txt", "text"],
  ])("%s is read as %s", async (from, format) => {
    const baseDir = await directoryWith(Object.fromEntries(["urls.txt", "urls", "a.csv", "a.TSV", "a.jsonl", "a.ndjson", "a.parquet", "a.csv.gz", "we[i]rd.txt"].map((name) => [name, ""])));
    const { job } = await resolve({ ...smallJob, input: from }, { baseDir });
    expect(job.input.format).toBe(format);
    if (from !== "-") expect(job.input.from).toMatch(/^\//);
  });

  test("a pattern's directory does not become a part of the pattern", async () => {
    const { job } = await resolve({ ...smallJob, input: "*.jpg" }, { baseDir: "/pictures [2024] (new)" });
    expect(job.input).toMatchObject({ format: "glob", from: "/pictures \\[2024\\] \\(new\\)/*.jpg" });
  });

  test("a file that is not there is named, with the nearest one", async () => {
    const baseDir = await directoryWith({ "urls.txt": "" });
    await expect(resolve({ ...smallJob, input: "photos@2x (new)+1!.txt" }, { baseDir })).rejects.toMatchObject({ code: "INPUT_NOT_FOUND" });
    await expect(resolve({ ...smallJob, input: "url.txt" }, { baseDir })).rejects.toMatchObject({
      code: "INPUT_NOT_FOUND", field: "input", message: `input: ${path.join(baseDir, "url.txt")} does not exist; did you mean ${path.join(baseDir, "urls.txt")}?`,
    });
  });

  test("columns of what has none are refused", async () => {
    const baseDir = await directoryWith({ "urls.txt": "" });
    await expect(resolve({ ...smallJob, input: { from: "urls.txt", column: "url" } }, { baseDir })).rejects.toMatchObject({ code: "JOB_INVALID", field: "input.column" });
  });

  test("what cannot be counted is refused by a policy that counts", async () => {
    await expect(resolve({ ...smallJob, input: "-", policy: "policy-1" })).rejects.toMatchObject({ code: "INPUT_UNCOUNTED", field: "policy" });
  });
});

describe("secrets", () => {
  const secretive = {
    ...smallJob,
    env: { LEVEL: "3", API_TOKEN: "literal-1", OTHER: { env: "THE_OTHER" } },
    task: { ...smallJob.task, model: "https://h/m.onnx?X-Amz-Signature=sig", download: { headers: { Accept: "image/*", Authorization: "literal-2", "X-Who": { env: "WHO" } } } },
  };
  const environment = { THE_OTHER: "value-1", WHO: "value-2" };

  test("are looked up when a Task Manager is started", async () => {
    const { job } = await resolve(secretive, { environment });
    expect(taskManagerEnvironment(job, environment)).toEqual({ LEVEL: "3", API_TOKEN: "literal-1", OTHER: "value-1" });
  });

  test("a variable that is not set is named", async () => {
    await expect(resolve(secretive, { environment: { WHO: "x" } })).rejects.toMatchObject({
      code: "ENV_MISSING", field: "env.OTHER", message: "env.OTHER: the environment variable THE_OTHER is not set; set it",
    });
  });

  test("are recorded as references only", async () => {
    const { job } = await resolve(secretive, { environment });
    const record = jobForRecord(job);
    expect(JSON.stringify(record)).not.toMatch(/literal|value-/);
    expect(record.env).toEqual({ LEVEL: "3", API_TOKEN: { env: "API_TOKEN" }, OTHER: { env: "THE_OTHER" } });
    expect(record.task).toMatchObject({ download: { headers: { Accept: "image/*", Authorization: { env: "SPLITRUN_HEADER_AUTHORIZATION" }, "X-Who": { env: "WHO" } } } });
  });

  test("are in no plan", async () => {
    const resolution = await resolve(secretive, { environment });
    expect(formatPlan(resolution) + JSON.stringify(planJson(resolution))).not.toMatch(/literal|value-|sig/);
  });
});

const remoteJob = { ...smallJob, input: ["https://h/a.jpg"] };

test.each([
  { ...smallJob, output: { to: "out", format: "csv", order: "input" }, resources: { maxRamPerWorkerMb: 500, maxTasksPerWorker: 10 }, timeouts: { splitMs: 5000, taskManagerMs: null } },
  { ...smallJob, policy: "policy-1", taskManagers: 3, backend: "auto" },
  { ...smallJob, heterogeneousSplits: [5, 3], policy: "none" },
  { ...smallJob, task: { ...smallJob.task, download: { hostBlockedMs: 77 }, preprocess: { preset: "fast", resize: { width: 300 } }, postprocess: { preset: "off-sample" } } },
  { ...smallJob, task: { ...smallJob.task, postprocess: { labels: ["x", "y"], topK: 2, activation: "sigmoid" } } },
  { ...smallJob, speculation: { kind: "quartile", intervalMs: 100 }, faults: { stallPercent: 1, seed: 5 }, share: 0.5, priority: -3 },
  { ...smallJob, speculation: false, keepAlive: false, heartbeat: { everyMs: 100 }, task: { ...smallJob.task, download: { perHost: { requestsPerSecond: 0.5 } } } },
  functionJob,
  { ...remoteJob, backend: "lambda" },
  { ...remoteJob, backend: { kind: "lambda", region: "eu-central-1", stagingBucket: "s3://b/p/", memoryStepUpMb: 3538, keepWarm: { taskManagers: 3 }, splitSeconds: 30 }, taskManagers: 500 },
  { ...remoteJob, backend: "lambda", resources: { coresPerWorker: 2 } },
  { ...remoteJob, backend: { kind: "lambda", pull: true } },
  { ...remoteJob, backend: { kind: "lambda", pull: { address: "10.0.0.7", port: 7443 } } },
  { ...functionJob, backend: { kind: "lambda", buffered: true, forceColdStart: true, sharedFilesystem: true } },
])("the record of a job, resolved again elsewhere, is the same job: %j", async (written) => {
  const { job } = await resolve(written, { items: 100 });
  const again = await resolve(JSON.parse(JSON.stringify(jobForRecord(job))), { items: 100, baseDir: job.baseDir });
  expect(again.job).toEqual(job);
});

describe("backend lambda", () => {
  test("is complete from its name alone, and the plan shows it", async () => {
    const resolution = await resolve({ ...remoteJob, backend: "lambda" });
    const { job } = resolution;
    expect(job.backend).toEqual({
      kind: "lambda", functionName: "splitrun", qualifier: "live", region: null, stagingBucket: null, memoryStepUpMb: null, buffered: false,
      keepWarm: null, forceColdStart: false, splitSeconds: 60, sharedFilesystem: false, pull: null, coresByMemory: true,
    });
    expect(job.taskManagers).toBe(100);
    const lines = formatPlan(resolution).split("\n");
    expect(lines).toContainEqual(expect.stringMatching(/^backend\.functionName {2,}splitrun {2,}default$/));
    expect(lines).toContainEqual(expect.stringMatching(/^task\.infer\.sessions {2,}1 {2,}backend lambda: found by the function/));
  });

  test("leaves sessions and threads to the function's memory only where the job says none of them", async () => {
    const coresByMemory = async (changes: object) => ((await resolve({ ...remoteJob, backend: "lambda", ...changes })).job.backend as { coresByMemory: boolean }).coresByMemory;
    expect(await coresByMemory({})).toBe(true);
    expect(await coresByMemory({ task: { ...smallJob.task, infer: { batch: 4 } } })).toBe(true);
    expect(await coresByMemory({ task: { ...smallJob.task, infer: { sessions: 1 } } })).toBe(false);
    expect(await coresByMemory({ resources: { coresPerWorker: 2 } })).toBe(false);
  });

  test("listens where it is told to, and only then", async () => {
    const pull = async (given: LambdaBackend["pull"]) => ((await resolve({ ...remoteJob, backend: { kind: "lambda", pull: given ?? null } })).job.backend as LambdaSpec).pull;
    expect(await pull(false)).toBeNull();
    expect(await pull(null)).toBeNull();
    expect(await pull(true)).toEqual({ address: null, host: null, port: 0 });
    expect(await pull({ address: "fd00::1", host: "::", port: 7443 })).toEqual({ address: "fd00::1", host: "::", port: 7443 });
    await expect(pull({ address: "http://10.0.0.7" })).rejects.toThrow(/backend\.pull\.address: "http:\/\/10\.0\.0\.7" is not allowed; allowed: an IP address or a host name/);
    await expect(resolve({ ...remoteJob, backend: { kind: "lambda", pull: true, memoryStepUpMb: 3538 } })).rejects.toThrow("backend.memoryStepUpMb: 3538 is not allowed; allowed: null with backend.pull; leave one of them out");
  });

  test("refuses what it does not have by name", async () => {
    await expect(resolve({ ...smallJob, backend: { kind: "lambda", memory: 1 } as never })).rejects.toThrow(/backend\.memory: unknown field/);
    await expect(resolve({ ...smallJob, backend: { kind: "lambda", splitSeconds: 1000 } })).rejects.toThrow("backend.splitSeconds: 1000 is not allowed; allowed: a whole number from 1 to 890");
    await expect(resolve({ ...smallJob, backend: { kind: "local", functionName: "x" } as never })).rejects.toThrow(/backend\.functionName: unknown field with the value "x"; did you mean backend\.kind lambda\?/);
  });
});

test("the plan is a table of values and rules", async () => {
  const resolution = await resolve({ ...smallJob, attemptsMax: 5 });
  const { provenance } = resolution;
  const lines = formatPlan(resolution).split("\n");
  expect(lines).toHaveLength(provenance.length);
  expect(lines[0]).toMatch(/^name {2,}job {2,}default$/);
  expect(lines).toContainEqual(expect.stringMatching(/^attemptsMax {2,}5 {2,}the job$/));
  expect(lines).toContainEqual(expect.stringMatching(/^timeouts\.jobMs {2,}none {2,}default$/));
  expect(planJson(resolution)).toMatchObject({ job: { attemptsMax: 5 }, values: provenance, withoutEffect: [] });
});

describe("what a job says and nothing comes of", () => {
  const local = { ...smallJob, backend: "local" } as const;
  test.each([
    [{ ...smallJob, splitSize: 10 }, "splitSize (10) has no effect: policy guided sizes a split when it is asked for"],
    [{ ...smallJob, splitSize: 10, heterogeneousSplits: [5] }, "splitSize (10) has no effect: heterogeneousSplits says the sizes"],
    [{ ...smallJob, splitSize: 10, policy: "policy-1" }, "splitSize (10) has no effect: policy-1 decides it"],
    [{ ...smallJob, taskManagers: 3, policy: "default" }, "taskManagers (3) has no effect: policy default decides it"],
    [{ ...smallJob, taskManagers: 3, backend: "sequential" }, "taskManagers (3) has no effect: backend sequential"],
    [{ ...smallJob, keepAlive: false, heartbeat: { timeoutMs: 9000 } }, "heartbeat.timeoutMs (9000) has no effect: keepAlive is false"],
    [{ ...smallJob, backend: "sequential", resources: { maxRamPerWorkerMb: 500 } }, "resources.maxRamPerWorkerMb (500) has no effect: backend sequential"],
    [{ ...remoteJob, backend: "lambda", resources: { workersPerNode: 2 } }, "resources.workersPerNode (2) has no effect: backend lambda has no nodes"],
    [{ ...local, budget: { maxCostUsd: 5 } }, "budget.maxCostUsd (5) has no effect: backend local costs nothing"],
    [{ ...smallJob, task: { ...smallJob.task, postprocess: { activation: "none", topK: 3 } } }, "task.postprocess.topK (3) has no effect: activation none"],
    [{ ...smallJob, faults: { killPercent: 1, delayMaxMs: 50 } }, "faults.delayMaxMs (50) has no effect: faults.delayPercent is 0"],
  ])("is said: %j", async (job, note) => {
    const resolution = await resolve(job, { items: 100 });
    expect(resolution.withoutEffect).toEqual([expect.stringContaining(note)]);
    expect(formatPlan(resolution)).toContain(`\nNote: ${note}`);
  });

  test("is nothing where all of it is used, and where a list of the defaults is written out", async () => {
    for (const job of [smallJob, { ...smallJob, splitSize: 10, policy: "none", taskManagers: 3 }, { ...smallJob, splitSize: 32, taskManagers: 2, heartbeat: { timeoutMs: 6000 }, budget: {}, faults: {} }]) {
      expect((await resolve(job, { items: 100 })).withoutEffect).toEqual([]);
    }
  });
});
