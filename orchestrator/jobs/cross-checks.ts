import { nearestName } from "./nearest-name.ts";
import { shown, type Problem } from "./job-error.ts";
import { schemeOf } from "./paths.ts";
import { presetNamed, presetNames } from "./preset-named.ts";
import { isPlainObject, valueAt } from "./problems.ts";
import { parseS3Url } from "../../task-manager/s3-client.ts";

export const presetDefault = "torchvision-imagenet";

/** Defaults that another field is measured by. */
export const heartbeatDefaults = { reportMs: 250, everyMs: 2000, timeoutMs: 6000 } as const;

/** What no field alone can say. Looks only at values of the right type: the others are the schema's to complain about. */
export function crossChecks(job: unknown): readonly Problem[] {
  return [...heartbeat(job), ...faults(job), ...pull(job), ...addresses(job), ...preprocess(job), ...postprocess(job), ...output(job), ...keptInS3(job), ...inputFormat(job), ...bucket(job)];
}

function* heartbeat(job: unknown): Iterable<Problem> {
  if (valueAt(job, "keepAlive") === false) return;
  const everyMs = valueAt(job, "heartbeat.everyMs") ?? heartbeatDefaults.everyMs;
  const timeoutMs = valueAt(job, "heartbeat.timeoutMs") ?? heartbeatDefaults.timeoutMs;
  const reportMs = valueAt(job, "heartbeat.reportMs");
  if (typeof everyMs !== "number" || everyMs < 1) return;
  if (isLarger(reportMs, everyMs)) yield problem(job, "heartbeat.reportMs", reportMs, `at most heartbeat.everyMs (${everyMs})`);
  if (isLarger(2 * everyMs, timeoutMs)) yield problem(job, "heartbeat.timeoutMs", timeoutMs, `at least twice heartbeat.everyMs (${everyMs})`);
}

function* faults(job: unknown): Iterable<Problem> {
  const backend = valueAt(job, "backend.kind") ?? valueAt(job, "backend");
  for (const field of ["faults.killPercent", "faults.stallPercent"]) {
    const value = valueAt(job, field);
    if (backend === "sequential" && isLarger(value, 0)) {
      yield problem(job, field, value, "0 with backend sequential, whose Task Manager is this process; use backend local");
    }
  }
  const stallPercent = valueAt(job, "faults.stallPercent");
  if (backend !== "sequential" && isLarger(stallPercent, 0) && nobodyNoticesSilence(job)) {
    yield problem(job, "faults.stallPercent", stallPercent,
      "0 with keepAlive false and no timeouts.taskManagerMs or splitMs, where nobody would notice the silence; set one of them");
  }
}

function* pull(job: unknown): Iterable<Problem> {
  const value = valueAt(job, "backend.memoryStepUpMb") ?? null;
  if (value !== null && (valueAt(job, "backend.pull") ?? false) !== false) {
    yield problem(job, "backend.memoryStepUpMb", value, "null with backend.pull; leave one of them out");
  }
}

function nobodyNoticesSilence(job: unknown): boolean {
  return valueAt(job, "keepAlive") === false
    && valueAt(job, "timeouts.taskManagerMs") === null
    && (valueAt(job, "timeouts.splitMs") ?? null) === null;
}

function* addresses(job: unknown): Iterable<Problem> {
  yield* addressed(job, ["input", "input.from"], ["s3"], "a path, a glob, a folder, an s3:// URL, -, or a list of items; one http(s) URL is a list: [URL]");
  yield* addressed(job, ["output", "output.to"], ["s3"], "print, the path of a directory, or s3://bucket/prefix/");
  yield* addressed(job, ["task.model"], ["http", "https", "s3"], "a path, or an http(s) or s3:// URL");
  yield* addressed(job, ["task.module", "task.postprocess.labels"], ["s3"], "a path, or an s3:// URL");
}

function* addressed(job: unknown, fields: readonly string[], schemes: readonly string[], allowed: string): Iterable<Problem> {
  for (const field of fields) {
    const value = valueAt(job, field);
    if (typeof value !== "string") continue;
    const scheme = schemeOf(value);
    if (scheme !== null && !schemes.includes(scheme)) yield problem(job, field, value, allowed);
    else if (scheme === "s3") yield* inS3(job, field, value);
    else if (scheme !== null && !URL.canParse(value)) yield problem(job, field, value, "a well-formed URL");
  }
}

/** A bucket can be the input or the output; all else is one object. */
function* inS3(job: unknown, field: string, value: string): Iterable<Problem> {
  const place = parseS3Url(value);
  if (place === null || (place.key === "" && !/^(in|out)put/.test(field))) yield problem(job, field, value, "s3://bucket/key");
}

function* bucket(job: unknown): Iterable<Problem> {
  const value = valueAt(job, "bucket");
  if (typeof value === "string" && valueAt(job, "task.kind") === "function") {
    yield problem(job, "bucket", value, "none with a function, whose items are values; give it whole URLs");
  }
}

function* preprocess(job: unknown): Iterable<Problem> {
  const given = valueAt(job, "task.preprocess") ?? {};
  if (!isPlainObject(given)) return;
  const name = given["preset"] ?? presetDefault;
  if (typeof name !== "string") return;
  const base = presetNamed(name);
  if (base === undefined) {
    yield problem(job, "task.preprocess.preset", name, presetNames.join(", "), nearestName(name, presetNames));
    return;
  }
  const resize = { ...base.resize, ...(isPlainObject(given["resize"]) ? given["resize"] : {}) };
  const crop = given["crop"] === undefined ? base.crop : given["crop"];
  if (isPlainObject(crop) && (isLarger(crop["width"], resize.width) || isLarger(crop["height"], resize.height))) {
    yield problem(job, "task.preprocess.crop", crop, `at most what the image is resized to, ${resize.width} × ${resize.height}; or null for none`);
  }
  const order = given["colorOrder"] ?? base.colorOrder;
  const channels = order === "gray" ? 1 : 3;
  for (const field of ["mean", "std"] as const) {
    const values = given[field] ?? base[field];
    if (Array.isArray(values) && values.length !== channels) {
      yield problem(job, `task.preprocess.${field}`, values, `${channels === 1 ? "one number" : `${channels} numbers`} for colorOrder ${String(order)}`);
    }
  }
  if (Array.isArray(given["std"]) && given["std"].includes(0)) yield problem(job, "task.preprocess.std", given["std"], "numbers other than 0");
}

function* postprocess(job: unknown): Iterable<Problem> {
  if (valueAt(job, "task.postprocess.preset") !== "off-sample") return;
  for (const name of ["activation", "topK", "labels"]) {
    const field = `task.postprocess.${name}`;
    const value = valueAt(job, field);
    if (value !== undefined) yield problem(job, field, value, "nothing beside preset off-sample, which decides it; leave one of them out");
  }
}

function* output(job: unknown): Iterable<Problem> {
  const given = valueAt(job, "output.to") ?? valueAt(job, "output") ?? "print";
  const inS3 = typeof given === "string" && schemeOf(given) === "s3";
  for (const field of ["output.partItems", "output.checkpointMs"]) {
    const value = valueAt(job, field);
    if (value !== undefined && !inS3) yield problem(job, field, value, "nothing but with an output in S3; leave it out");
  }
  if (given !== "print") return;
  for (const [field, neutral] of [["output.format", "jsonl"], ["output.order", "completion"]] as const) {
    const value = valueAt(job, field);
    if (value !== undefined && value !== neutral) yield problem(job, field, value, `${neutral} when printing; give a directory to have a file written`);
  }
}

function* keptInS3(job: unknown): Iterable<Problem> {
  const value = valueAt(job, "s3.kmsKeyId");
  if (value !== undefined && valueAt(job, "s3.encryption") !== "kms") yield problem(job, "s3.kmsKeyId", value, "a key only with s3.encryption kms");
}

function* inputFormat(job: unknown): Iterable<Problem> {
  const [from, format] = [valueAt(job, "input.from"), valueAt(job, "input.format")];
  if (typeof format !== "string" || (typeof from !== "string" && !Array.isArray(from))) return;
  const [what, allowed] = Array.isArray(from)
    ? ["a list", ["list"]]
    : from === "-" ? ["stdin", ["stdin", "text", "csv", "jsonl"]] : [schemeOf(from) === "s3" ? "an s3:// URL" : "a path", ["text", "csv", "jsonl", "parquet", "glob", "folder"]];
  if (!allowed.includes(format)) yield problem(job, "input.format", format, `${allowed.join(", ")} for ${what}`);
}

function isLarger(value: unknown, than: unknown): boolean {
  return typeof value === "number" && typeof than === "number" && value > than;
}

function problem(job: unknown, field: string, value: unknown, allowed: string, meant: string | null = null): Problem {
  const origin = valueAt(job, field) === undefined ? " (the default)" : "";
  return { field, value, message: `${shown(field, value)}${origin} is not allowed${meant === null ? "" : `; did you mean ${meant}?`}; allowed: ${allowed}` };
}
