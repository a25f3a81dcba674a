import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { JobInvalidError } from "../../orchestrator/jobs/job-error.ts";
import { editDistance } from "../../orchestrator/jobs/nearest-name.ts";
import { jobSchema, parseJob, type Job } from "../../orchestrator/jobs/schema.ts";
import { refusal, seed, smallJob } from "./jobs-fixture.ts";

const inference = smallJob.task;
const withTask = (more: object) => ({ ...smallJob, task: { ...inference, ...more } });

describe("a wrong job names the field, the value, what is allowed, and the nearest right name", () => {
  const policies = "guided, default, none, policy-1, policy-2, policy-3";
  test.each<[string, unknown, string]>([
    ["a misspelt field", { ...smallJob, taskManager: 4 }, "taskManager: unknown field with the value 4; did you mean taskManagers?; allowed: name, input, bucket, s3, task, "],
    ["another style of names", { ...smallJob, split_size: 4 }, "split_size: unknown field with the value 4; did you mean splitSize?; allowed: "],
    ["a field in the wrong place", { ...smallJob, batch: 4 }, "batch: unknown field with the value 4; did you mean task.infer.batch?; allowed: "],
    ["a nested field", withTask({ infer: { bacth: 4 } }), "task.infer.bacth: unknown field with the value 4; did you mean batch?; allowed: batch, sessions, "],
    ["a field of another task", withTask({ module: "m.mjs" }), 'task.module: unknown field with the value "m.mjs"; did you mean task.kind function?; allowed: kind, model, '],
    ["a field like no other", { ...smallJob, xyzzy: true }, "xyzzy: unknown field with the value true; allowed: name, "],
    ["a number out of bounds", withTask({ infer: { batch: 0 } }), "task.infer.batch: 0 is not allowed; allowed: a whole number from 1 to 4096"],
    ["a broken number", { ...smallJob, splitSize: 1.5 }, "splitSize: 1.5 is not allowed; allowed: a whole number from 1 to 1000000000"],
    ["a time beyond Node's timers", { ...smallJob, timeouts: { jobMs: 2 ** 31 } }, "timeouts.jobMs: 2147483648 is not allowed; allowed: a whole number from 1 to 2147483647"],
    ["text for a number", { ...smallJob, attemptsMax: "3" }, 'attemptsMax: "3" is not allowed; allowed: a whole number from 1 to 100'],
    ["a misspelt value", { ...smallJob, policy: "guidd" }, `policy: "guidd" is not allowed; did you mean guided?; allowed: ${policies}, or your own as module.mjs#function`],
    ["a misspelt kind", { ...smallJob, task: { kind: "funktion" } }, 'task.kind: "funktion" is not allowed; did you mean function?; allowed: inference, function'],
    ["an s3 URL without a bucket", { ...smallJob, input: "s3://" }, 'input: "s3://" is not allowed; allowed: s3://bucket/key'],
    ["a bucket as the model", withTask({ model: "s3://b/" }), 'task.model: "s3://b/" is not allowed; allowed: s3://bucket/key'],
    ["a URL as the bucket", { ...smallJob, bucket: "s3://b/" }, 'bucket: "s3://b/" is not allowed; allowed: the name of a bucket in S3, without s3://'],
    ["a bucket of values", { input: [1], bucket: "b", task: { kind: "function", module: "m.mjs" } }, 'bucket: "b" is not allowed; allowed: none with a function, whose items are values; give it whole URLs'],
    ["a misspelt option of S3", { ...smallJob, s3: { requesterPay: true } }, "s3.requesterPay: unknown field with the value true; did you mean requesterPays?; allowed: requesterPays, forcePathStyle"],
    ["a misspelt preset", withTask({ preprocess: { preset: "torchvision-imagnet" } }), 'task.preprocess.preset: "torchvision-imagnet" is not allowed; did you mean torchvision-imagenet?; allowed: torchvision-imagenet, off-sample, fast'],
    ["no input", { task: inference }, "input: is missing; allowed: a path, a glob, "],
    ["no task", { input: [] }, "task: is missing; allowed: an object { model, … } for inference, or { kind: function, module }"],
    ["no model", { input: [], task: {} }, "task.model: is missing; allowed: the path, http(s) or s3:// URL of an ONNX file"],
    ["an item that is not JSON", { ...smallJob, input: ["a", Number.NaN] }, "input.1: null is not allowed; allowed: a JSON value"],
    ["a URL as the list", { ...smallJob, input: "https://user:pw@host/list.txt?token=abc" }, 'input: "https://host/list.txt?…" is not allowed; allowed: a path, a glob, a folder, an s3:// URL, -, or a list of items; one http(s) URL is a list: [URL]'],
    ["a model of another scheme", withTask({ model: "ftp://host/m.onnx" }), 'task.model: "ftp://host/m.onnx" is not allowed; allowed: a path, or an http(s) or s3:// URL'],
    ["a header that would start another", withTask({ download: { headers: { A: "x\r\nB: y" } } }), "task.download.headers.A: (hidden) is not allowed; allowed: text without line breaks, or { env: NAME }"],
    ["a header's name", withTask({ download: { headers: { "a b": "x" } } }), "task.download.headers.a b: (hidden) is not allowed; allowed: header names of "],
    ["a heartbeat that cannot arrive in time", { ...smallJob, heartbeat: { everyMs: 5000 } }, "heartbeat.timeoutMs: 6000 (the default) is not allowed; allowed: at least twice heartbeat.everyMs (5000)"],
    ["reports rarer than heartbeats", { ...smallJob, heartbeat: { reportMs: 2500 } }, "heartbeat.reportMs: 2500 is not allowed; allowed: at most heartbeat.everyMs (2000)"],
    ["a misspelt kind of speculation", { ...smallJob, speculation: { kind: "quartil" } }, 'speculation.kind: "quartil" is not allowed; did you mean quartile?; allowed: remainder, quartile'],
    ["a field of another speculation", { ...smallJob, speculation: { multiplier: 2 } }, "speculation.multiplier: unknown field with the value 2; did you mean speculation.kind quartile?; allowed: kind, maxExtraPercent"],
    ["a name for speculation", { ...smallJob, speculation: "quartile" }, 'speculation: "quartile" is not allowed; allowed: true, false, { kind: remainder, … } or { kind: quartile, … }'],
    ["more extra work than there is work", { ...smallJob, speculation: { maxExtraPercent: 101 } }, "speculation.maxExtraPercent: 101 is not allowed; allowed: a number from 0 to 100"],
    ["a quartile of all splits", { ...smallJob, speculation: { kind: "quartile", quartile: 1 } }, "speculation.quartile: 1 is not allowed; allowed: a number above 0, below 1"],
    ["late before the median", { ...smallJob, speculation: { kind: "quartile", multiplier: 0.5 } }, "speculation.multiplier: 0.5 is not allowed; allowed: a number from 1 to 1000"],
    ["more faults than items", { ...smallJob, faults: { killPercent: 101 } }, "faults.killPercent: 101 is not allowed; allowed: a number from 0 to 100"],
    ["no time-out in another word than null", { ...smallJob, timeouts: { taskManagerMs: 0 } }, "timeouts.taskManagerMs: 0 is not allowed; allowed: a whole number from 1 to 2147483647, or null for none"],
    ["a part of a name", { ...smallJob, timeouts: { item: 5 } }, "timeouts.item: unknown field with the value 5; did you mean itemMs?; allowed: itemMs, taskManagerMs, splitMs, jobMs"],
    ["a misspelt fault", { ...smallJob, faults: { killPercnt: 1 } }, "faults.killPercnt: unknown field with the value 1; did you mean killPercent?; allowed: exceptionPercent, delayPercent, "],
    ["a fault that kills this process", { ...smallJob, backend: "sequential", faults: { killPercent: 1 } }, "faults.killPercent: 1 is not allowed; allowed: 0 with backend sequential, whose Task Manager is this process; use backend local"],
    ["a fault that silences this process", { ...smallJob, backend: { kind: "sequential" }, faults: { stallPercent: 1 } }, "faults.stallPercent: 1 is not allowed; allowed: 0 with backend sequential"],
    ["silence that nobody would notice", { ...smallJob, keepAlive: false, timeouts: { taskManagerMs: null }, faults: { stallPercent: 1 } }, "faults.stallPercent: 1 is not allowed; allowed: 0 with keepAlive false and no timeouts.taskManagerMs or splitMs"],
    ["a share of nothing", { ...smallJob, share: 0 }, "share: 0 is not allowed; allowed: a number above 0, up to 1000000"],
    ["half a priority", { ...smallJob, priority: 0.5 }, "priority: 0.5 is not allowed; allowed: a whole number from -1000000 to 1000000"],
    ["no request at all", withTask({ download: { perHost: { requestsPerSecond: 0 } } }), "task.download.perHost.requestsPerSecond: 0 is not allowed; allowed: a number above 0, up to 1000000"],
    ["a crop beyond the image", withTask({ preprocess: { resize: { width: 100 } } }), 'task.preprocess.crop: {"width":224,"height":224} (the default) is not allowed; allowed: at most what the image is resized to, 100 × 256; or null for none'],
    ["three means for gray", withTask({ preprocess: { colorOrder: "gray", std: [1] } }), "task.preprocess.mean: [0.485,0.456,0.406] (the default) is not allowed; allowed: one number for colorOrder gray"],
    ["a division by zero", withTask({ preprocess: { std: [1, 0, 1] } }), "task.preprocess.std: [1,0,1] is not allowed; allowed: numbers other than 0"],
    ["two that decide the output", withTask({ postprocess: { preset: "off-sample", topK: 3 } }), "task.postprocess.topK: 3 is not allowed; allowed: nothing beside preset off-sample"],
    ["an http URL as the output", { ...smallJob, output: "http://b/p/" }, 'output: "http://b/p/" is not allowed; allowed: print, the path of a directory, or s3://bucket/prefix/'],
    ["an output in S3 without a bucket", { ...smallJob, output: "s3://" }, 'output: "s3://" is not allowed; allowed: s3://bucket/key'],
    ["parts without S3", { ...smallJob, output: { to: "out", partItems: 5 } }, "output.partItems: 5 is not allowed; allowed: nothing but with an output in S3"],
    ["a key without KMS", { ...smallJob, s3: { encryption: "s3", kmsKeyId: "k" } }, 's3.kmsKeyId: "k" is not allowed; allowed: a key only with s3.encryption kms'],
    ["a format that is not written when printing", { ...smallJob, output: { to: "print", format: "csv" } }, 'output.format: "csv" is not allowed; allowed: jsonl when printing; give a directory'],
    ["a format that is none of stdin", { ...smallJob, input: { from: "-", format: "parquet" } }, 'input.format: "parquet" is not allowed; allowed: stdin, text, csv, jsonl for stdin'],
    ["something else altogether", 17, ": 17 is not allowed; allowed: an object with at least input and task"],
  ])("%s", (_name, job, expected) => {
    const lines = refusal(job);
    expect(lines).toHaveLength(1);
    expect(lines[0]?.slice(0, expected.length)).toBe(expected);
  });

  test("all problems come in one error, a line each", () => {
    const wrong = { ...smallJob, taskManager: 4, splitSize: 0, backend: "slurm", heartbeat: { timeoutMs: 1 } };
    expect(refusal(wrong).map((line) => line.split(":")[0])).toEqual(["backend", "splitSize", "taskManager", "heartbeat.timeoutMs"]);
    expect(() => parseJob(wrong)).toThrow(JobInvalidError);
    try {
      parseJob(wrong);
    } catch (error) {
      const { code, field, value, message } = error as JobInvalidError;
      expect({ code, field, value }).toEqual({ code: "JOB_INVALID", field: "backend", value: "slurm" });
      expect(message.split("\n")).toHaveLength(5);
      expect(message).toMatch(/^the job is wrong in 4 places:\n {2}backend: /);
    }
  });

  test("no secret and no signature is in a message", () => {
    const wrong = {
      ...smallJob,
      env: ["hush-1"],
      output: { to: 3, headers: { a: "hush-2" } },
      task: { ...inference, model: "s3://b/m.onnx?X-Amz-Signature=hush-3", download: { headers: { Authorization: { env: 1, x: "hush-4" } } }, extra: "https://h/?sig=hush-5" },
    };
    const message = refusal(wrong).join("\n");
    expect(refusal(wrong).length).toBeGreaterThan(4);
    expect(message).not.toContain("hush");
  });
});

describe("what is not built yet is refused with one message each", () => {
  test.each<[object, string]>([
    ...["ssh", "slurm", "pbs", "sge", "lsf"].map((kind): [object, string] => [{ backend: kind }, `backend: "${kind}" is not built yet; allowed now: sequential, local, auto, lambda`]),
    [{ backend: { kind: "ssh", hosts: ["a"] } }, 'backend.kind: "ssh" is not built yet; allowed now: sequential, local, auto, lambda'],
    [{ policy: "auto" }, 'policy: "auto" is not built yet; allowed now: guided, default, none, policy-1, policy-2, policy-3'],
    [{ tune: true }, "tune: true is not built yet; leave it out"],
    [{ deadlineMs: 5000 }, "deadlineMs: 5000 is not built yet; leave it out"],
    [{ profile: "cpu" }, 'profile: "cpu" is not built yet; allowed now: off'],
    [{ task: { kind: "command", argv: ["cp", "{input}"] } }, 'task.kind: "command" is not built yet; allowed now: inference, function'],
  ])("%j", (more, expected) => {
    expect(refusal({ ...smallJob, ...more })).toEqual([expected]);
  });

  test("their neutral values are accepted", () => {
    const job = {
      ...smallJob,
      task: { ...inference, download: { kind: "async" }, preprocess: { kind: "thread" } },
      profile: "off",
    };
    expect(refusal(job)).toEqual([]);
    expect(parseJob(job)).not.toHaveProperty("profile");
  });

  test("none of their names is among what is allowed", () => {
    const allowed = refusal({ ...smallJob, xyzzy: 1, backend: "x", policy: "x", task: { ...inference, download: { xyzzy: 1 } } }).join("\n").replace(/unknown field with the value.*?;/g, "");
    expect(allowed).not.toMatch(/slurm|ssh|\bpbs\b|\bsge\b|\blsf\b|policy.*\bauto, |tune|deadlineMs|profile|command/);
  });
});

test("what a JS caller leaves undefined is absent", () => {
  expect(parseJob({ ...smallJob, name: undefined, input: { from: "x", limit: undefined } })).toEqual({ ...smallJob, input: { from: "x" } });
});

test("speculation without a kind is remainder", () => {
  expect(parseJob({ ...smallJob, speculation: { maxExtraPercent: 5 } }).speculation).toEqual({ kind: "remainder", maxExtraPercent: 5 });
});

test("silence on purpose is accepted where a time-out ends it", () => {
  for (const timeouts of [{}, { taskManagerMs: null, splitMs: 5000 }]) {
    expect(refusal({ ...smallJob, keepAlive: false, timeouts, faults: { stallPercent: 1 } })).toEqual([]);
  }
});

test("a task without a kind is inference", () => {
  expect(parseJob({ input: [], task: { model: "m.onnx" } }).task).toEqual({ kind: "inference", model: "m.onnx" });
});

test("a list of 200 000 inputs is accepted as it is", () => {
  const input = Array.from({ length: 200_000 }, (_, index) => `http://host/${index}.jpg`);
  expect(parseJob({ ...smallJob, input }).input).toEqual(input);
});

// ---- properties ----

const whole = (max: number) => fc.integer({ min: 1, max });
const some = <Fields extends Record<string, fc.Arbitrary<unknown>>>(fields: Fields) => fc.record(fields, { requiredKeys: [] });
const name = fc.stringMatching(/^[A-Za-z_][A-Za-z0-9_]{0,8}$/).filter((text) => text !== "__proto__");
const reference = fc.oneof(fc.stringMatching(/^[ -~]{0,10}$/), fc.record({ env: name }));
const percent = fc.double({ min: 0, max: 100, noNaN: true });
const filename = fc.stringMatching(/^[a-z]{1,8}\.[a-z]{1,4}$/);

const validTask = fc.oneof(
  fc.record({
    kind: fc.constant("inference"),
    model: filename,
    download: some({
      kind: fc.constant("async"), concurrency: whole(1024), timeoutMs: whole(10 ** 6), idleTimeoutMs: whole(10 ** 6),
      maxBytes: whole(10 ** 9), redirectsMax: fc.integer({ min: 0, max: 100 }), hostBlockedMs: whole(10 ** 6),
      perHost: some({ concurrency: whole(1000), requestsPerSecond: fc.double({ min: 0.01, max: 1000, noNaN: true }) }),
      headers: fc.dictionary(name, reference, { noNullPrototype: true }), certificateAuthorities: fc.array(filename, { maxLength: 2 }),
    }),
    preprocess: some({
      preset: fc.constantFrom("torchvision-imagenet", "off-sample", "fast"), kind: fc.constant("thread"), concurrency: whole(64), maxPixels: whole(10 ** 9),
      resize: some({ width: fc.integer({ min: 224, max: 999 }), height: fc.integer({ min: 224, max: 999 }), fit: fc.constantFrom("shorter-side", "fill") }),
      crop: fc.constantFrom(null, { width: 10, height: 20 }), colorOrder: fc.constantFrom("rgb", "bgr"), layout: fc.constantFrom("nchw", "nhwc"),
      scale: fc.double({ noNaN: true, min: 0.001, max: 1 }), mean: fc.constant([0, 0, 0]), std: fc.constant([1, 1, 1]),
    }),
    infer: some({ batch: whole(4096), sessions: whole(256), batchWaitMs: whole(60_000), executionProviders: fc.constant(["cpu"]) }),
    postprocess: fc.oneof(some({ activation: fc.constantFrom("softmax", "sigmoid", "none"), topK: whole(10), labels: fc.oneof(filename, fc.constant(["a", "b"])) }), fc.constant({ preset: "off-sample" })),
  }, { requiredKeys: ["kind", "model"] }),
  fc.record({ kind: fc.constant("function"), module: filename, concurrency: whole(1024), threads: whole(256) }, { requiredKeys: ["kind", "module"] }),
);

const validJob = fc.record({
  name: fc.stringMatching(/^[ -~]{1,20}$/),
  input: fc.oneof(filename, fc.constant("-"), fc.array(fc.jsonValue(), { maxLength: 3 }), fc.record({ from: filename, limit: whole(10 ** 9), column: name, id: name, weight: name }, { requiredKeys: ["from"] })),
  task: validTask,
  backend: fc.oneof(fc.constantFrom("sequential", "local", "auto"), fc.record({ kind: fc.constantFrom("sequential", "local", "auto") })),
  policy: fc.constantFrom("guided", "default", "none", "policy-1", "policy-2", "policy-3", "mine.mjs#policy"),
  splitSize: whole(10 ** 9),
  taskManagers: whole(10_000),
  heterogeneousSplits: fc.array(whole(1000), { maxLength: 4 }),
  resources: some({ maxRamPerWorkerMb: whole(10 ** 6), coresPerWorker: whole(64), workersPerNode: whole(64), maxTasksPerWorker: whole(1000), minTaskManagers: whole(64) }),
  env: fc.dictionary(name, reference, { noNullPrototype: true }),
  keepAlive: fc.boolean(),
  heartbeat: some({ reportMs: whole(500), everyMs: fc.integer({ min: 500, max: 2000 }), timeoutMs: fc.integer({ min: 4000, max: 9000 }) }),
  speculation: fc.oneof(
    fc.boolean(),
    fc.record({ kind: fc.constant("remainder"), maxExtraPercent: percent }, { requiredKeys: ["kind"] }),
    fc.record({
      kind: fc.constant("quartile"), quartile: fc.double({ min: 0.01, max: 0.99, noNaN: true }), multiplier: fc.double({ min: 1, max: 100, noNaN: true }),
      intervalMs: whole(10 ** 6), maxRetries: whole(100), extraTaskManagers: fc.boolean(),
    }, { requiredKeys: ["kind"] }),
  ),
  faults: some({ exceptionPercent: percent, delayPercent: percent, delayMaxMs: whole(10 ** 6), seed: fc.nat() }),
  share: fc.double({ min: 0.001, max: 1000, noNaN: true }),
  priority: fc.integer({ min: -1000, max: 1000 }),
  attemptsMax: whole(100),
  tolerate: some({ failedItemsPercent: fc.double({ min: 0, max: 100, noNaN: true }) }),
  timeouts: some({ itemMs: whole(10 ** 9), taskManagerMs: fc.option(whole(10 ** 9)), splitMs: fc.option(whole(10 ** 9)), jobMs: fc.option(whole(10 ** 9)) }),
  output: fc.oneof(fc.constant("print"), filename, fc.record({ to: filename, format: fc.constantFrom("jsonl", "csv", "parquet"), order: fc.constantFrom("completion", "input") }, { requiredKeys: ["to"] })),
}, { requiredKeys: ["input", "task"] });

test("every valid job is accepted as it is, again and again, and survives JSON", () => {
  fc.assert(fc.property(validJob, (job) => {
    const parsed = parseJob(job);
    expect(parsed).toEqual(job);
    expect(parseJob(JSON.parse(JSON.stringify(parsed)))).toEqual(JSON.parse(JSON.stringify(job)));
  }), { seed, numRuns: 150 });
});

const nested: readonly (readonly [string, (field: object) => unknown])[] = [
  ...Object.keys(jobSchema.shape).map((field) => [field, (mutated: object) => ({ ...smallJob, ...mutated })] as const),
  ...["concurrency", "timeoutMs", "maxBytes", "headers"].map((field) => [field, (mutated: object) => withTask({ download: mutated })] as const),
  ...["preset", "maxPixels", "resize", "colorOrder", "layout", "dtype"].map((field) => [field, (mutated: object) => withTask({ preprocess: mutated })] as const),
  ...["batch", "sessions", "intraOpThreads", "interOpThreads"].map((field) => [field, (mutated: object) => withTask({ infer: mutated })] as const),
  ...["concurrency", "requestsPerSecond"].map((field) => [field, (mutated: object) => withTask({ download: { perHost: mutated } })] as const),
  ...["exceptionPercent", "delayPercent", "delayMaxMs", "killPercent", "stallPercent", "seed"].map((field) => [field, (mutated: object) => ({ ...smallJob, faults: mutated })] as const),
  ...["quartile", "multiplier", "intervalMs", "maxRetries"].map((field) => [field, (mutated: object) => ({ ...smallJob, speculation: { kind: "quartile", ...mutated } })] as const),
  ...["itemMs", "taskManagerMs", "splitMs", "jobMs"].map((field) => [field, (mutated: object) => ({ ...smallJob, timeouts: mutated })] as const),
];

test("a field's name with one letter wrong is refused, and the right one is suggested", () => {
  const mutation = fc.record({ target: fc.constantFrom(...nested), at: fc.nat(30), letter: fc.constantFrom(..."abcxyzQ_"), how: fc.constantFrom("insert", "delete", "replace", "swap") });
  fc.assert(fc.property(mutation, ({ target: [field, put], at, letter, how }) => {
    const place = at % field.length;
    const [head, tail] = [field.slice(0, place), field.slice(place)];
    const mutated = {
      insert: head + letter + tail,
      delete: head + tail.slice(1),
      replace: head + letter + tail.slice(1),
      swap: head + (tail[1] ?? "") + (tail[0] ?? "") + tail.slice(2),
    }[how];
    fc.pre(mutated !== "" && editDistance(mutated, field) === 1);
    const lines = refusal(put({ [mutated]: 1 }));
    const line = lines.find((text) => text.includes("unknown field"));
    if (line === undefined) {
      // Another field's name, or one that is not built yet: then it is not taken for this one.
      expect(put({ [mutated]: 1 }) as Job).not.toHaveProperty(field, 1);
      return;
    }
    const meant = /did you mean (\S+)\?/.exec(line)?.[1] ?? "";
    expect(editDistance(mutated.toLowerCase().replaceAll("_", ""), (meant.split(".").at(-1) ?? "").toLowerCase())).toBeLessThanOrEqual(1);
  }), { seed, numRuns: 300 });
});

test("whatever is given as a job, it is accepted or refused with the field", () => {
  fc.assert(fc.property(fc.anything(), fc.constantFrom(...Object.keys(jobSchema.shape)), (value, field) => {
    for (const job of [value, { ...smallJob, [field]: value }]) {
      try {
        parseJob(job);
      } catch (error) {
        expect(error).toBeInstanceOf(JobInvalidError);
        expect((error as JobInvalidError).problems.length).toBeGreaterThan(0);
      }
    }
  }), { seed, numRuns: 300 });
});
