import path from "node:path";
import { describe, expect, test } from "vitest";
import { loadJob } from "../../orchestrator/jobs/load.ts";
import { jobForRecord } from "../../orchestrator/jobs/record.ts";
import { directoryWith, resolve, smallJob } from "./jobs-fixture.ts";

const load = (source: unknown, overrides = {}, cwd = "/base") => loadJob(source, overrides, { cwd });

async function loadFile(name: string, text: string, overrides = {}) {
  const directory = await directoryWith({ [name]: text });
  return { directory, ...(await loadJob(path.join(directory, name), overrides, { cwd: "/elsewhere" })) };
}

const yaml = `
input: urls.txt
task: { model: m.onnx, postprocess: { labels: labels.txt } }
output: { to: out, format: csv }
`;

describe("a job can be written as", () => {
  test.each([
    ["night-run.yaml", yaml],
    ["night-run.yml", yaml],
    ["night-run.json", '{"input":"urls.txt","task":{"model":"m.onnx","postprocess":{"labels":"labels.txt"}},"output":{"to":"out","format":"csv"}}'],
    ["night-run.mjs", 'export default { input: "urls.txt", task: { model: "m.onnx", postprocess: { labels: "labels.txt" } }, output: { to: "out", format: "csv" } };'],
    ["night-run.ts", 'type Text = string; const model: Text = "m.onnx"; export default { input: "urls.txt", task: { model, postprocess: { labels: "labels.txt" } }, output: { to: "out", format: "csv" as const } };'],
  ])("%s, with paths relative to it and its name", async (name, text) => {
    const { directory, job, baseDir } = await loadFile(name, text);
    const at = (file: string) => path.join(directory, file);
    expect(baseDir).toBe(directory);
    expect(job).toEqual({
      name: "night-run",
      input: at("urls.txt"),
      task: { kind: "inference", model: at("m.onnx"), postprocess: { labels: at("labels.txt") } },
      output: { to: at("out"), format: "csv" },
    });
  });

  test("TypeScript that imports from its neighbours", async () => {
    const directory = await directoryWith({
      "job.ts": 'import { items } from "./items.ts"; export default { input: items, task: { kind: "function", module: "./mine.mjs" } };',
      "items.ts": "export const items: number[] = [1, 2, 3];",
    });
    const { job } = await load(path.join(directory, "job.ts"));
    expect(job).toEqual({ name: "job", input: [1, 2, 3], task: { kind: "function", module: path.join(directory, "mine.mjs") } });
  });

  test("an object, with paths relative to the working directory and functions as they are", async () => {
    const policy = () => ({ splitSize: 1 });
    const { job, baseDir } = await load({ ...smallJob, input: "-", policy, task: { model: "m.onnx" } });
    expect(baseDir).toBe("/base");
    expect(job).toEqual({ input: "-", policy, task: { kind: "inference", model: "/base/m.onnx" } });
  });

  test("flags alone", async () => {
    const { job, origins } = await load(null, { flags: { input: { from: "urls.txt", limit: 10 }, task: { model: "https://h/m.onnx" }, output: "out" } });
    expect(job).toEqual({ input: { from: "/base/urls.txt", limit: 10 }, task: { kind: "inference", model: "https://h/m.onnx" }, output: { to: "/base/out" } });
    expect(origins).toEqual({ "input.from": "the command line", "input.limit": "the command line", "task.model": "the command line", "output.to": "the command line" });
  });

  test("the record of a run, which keeps its directory", async () => {
    const { job: resolved } = await resolve(smallJob, { baseDir: "/pictures" });
    const { job, baseDir } = await loadFile("job.json", JSON.stringify(jobForRecord(resolved)));
    expect(baseDir).toBe("/pictures");
    expect((await resolve(job, { baseDir })).job).toEqual(resolved);
  });
});

describe("the command line is put over the job", () => {
  test("field by field; its paths are relative to the working directory", async () => {
    const { job, directory, origins } = await loadFile("job.yaml", yaml, { flags: { task: { model: "other.onnx" } }, set: ["task.infer.batch=16", "output=results", "env.NAME=text"] });
    expect(job).toMatchObject({
      input: path.join(directory, "urls.txt"),
      task: { model: "/elsewhere/other.onnx", infer: { batch: 16 }, postprocess: { labels: path.join(directory, "labels.txt") } },
      output: { to: "/elsewhere/results", format: "csv" },
      env: { NAME: "text" },
    });
    expect(origins).toEqual({ name: "the job file's name", "task.model": "the command line", "task.infer.batch": "flag --set", "output.to": "flag --set", "env.NAME": "flag --set" });
  });

  test.each<[unknown, unknown]>([
    ["urls.txt", { from: "/base/urls.txt", limit: 3 }],
    [["a", "b"], { from: ["a", "b"], limit: 3 }],
    [{ from: "a.csv", column: "url" }, { from: "/base/a.csv", column: "url", limit: 3 }],
  ])("a limit goes with an input of any form: %j", async (input, expected) => {
    expect((await load({ ...smallJob, input }, { flags: { input: { limit: 3 } } })).job.input).toEqual(expected);
    expect((await load({ ...smallJob, input }, { set: ["input.limit=3"] })).job.input).toEqual(expected);
  });

  test("another list keeps the columns", async () => {
    expect((await load({ ...smallJob, input: { from: "a.csv", column: "url" } }, { flags: { input: "b.csv" } })).job.input).toEqual({ from: "/base/b.csv", column: "url" });
  });

  test.each<[string, Record<string, unknown>, readonly string[], Record<string, unknown>]>([
    ["a backend", { backend: { kind: "lambda", functionName: "f", splitSeconds: 5 } }, ["backend=local"], { backend: { kind: "local" } }],
    ["a backend, and what it is to be", { backend: { kind: "local" } }, ["backend.functionName=f", "backend=lambda", "backend.pull.port=7443"], { backend: { kind: "lambda", functionName: "f", pull: { port: 7443 } } }],
    ["the same backend", { backend: { kind: "lambda", functionName: "f" } }, ["backend=lambda"], { backend: { kind: "lambda", functionName: "f" } }],
    ["speculation", { speculation: { maxExtraPercent: 5 } }, ["speculation.kind=quartile", "speculation.quartile=0.5"], { speculation: { kind: "quartile", quartile: 0.5 } }],
    ["the same speculation", { speculation: { maxExtraPercent: 5 } }, ["speculation.kind=remainder"], { speculation: { kind: "remainder", maxExtraPercent: 5 } }],
  ])("%s of another kind leaves behind what belonged to the first", async (_what, job, set, expected) => {
    for (const [field, value] of Object.entries(expected)) expect((await load({ ...smallJob, ...job }, { set })).job).toHaveProperty(field, value);
  });

  test("the last one wins, and values are JSON, else text", async () => {
    const set = ["taskManagers=2", "taskManagers=3", 'name="5"', "heterogeneousSplits=[4,2]", "keepAlive=false", "timeouts.jobMs=null", "policy=none", "env.EMPTY=", "env.EQUATION=a=b"];
    expect((await load(smallJob, { set })).job).toMatchObject({
      taskManagers: 3, name: "5", heterogeneousSplits: [4, 2], keepAlive: false, timeouts: { jobMs: null }, policy: "none", env: { EMPTY: "", EQUATION: "a=b" },
    });
  });

  test.each([
    ["taskManager=2", "taskManager: unknown field with the value 2; did you mean taskManagers?"],
    ["task.infer.bach=2", "task.infer.bach: unknown field with the value 2; did you mean batch?"],
    ["task.infer.batch=many", 'task.infer.batch: "many" is not allowed; allowed: a whole number'],
    ["name.first=x", 'name: {"first":"x"} is not allowed; allowed: text'],
    ["__proto__.polluted=1", '__proto__: unknown field with the value {"polluted":1}'],
    ["batch", '--set: "batch" is not allowed; allowed: field=value, such as task.infer.batch=16'],
    ["=5", '--set: "=5" is not allowed'],
    ["a..b=5", '--set: "a..b=5" is not allowed'],
  ])("--set %s is refused", async (assignment, message) => {
    await expect(load(smallJob, { set: [assignment] })).rejects.toMatchObject({ code: "JOB_INVALID", message: expect.stringContaining(message) });
    expect({}).not.toHaveProperty("polluted");
  });
});

describe("a job file that cannot be read names the place", () => {
  test.each([
    ["a.json", '{\n  "input": "x",\n  "task": }', ":3:11: "],
    ["a.json", '{"input": "x",}', ":1:14: JSON does not support trailing commas"],
    ["a.json", "", ":1:1: "],
    ["a.yaml", "input: x\ntask: {model: [}\n", ":2:16: "],
    ["a.yaml", "input: x\ninput: y\n", ":2:1: Map keys must be unique"],
    ["a.mjs", "export default {\n  input: 'x\n};", ":2:12: Unterminated string literal"],
    ["a.ts", "export default {\n  input: number: 3,\n};", ':2:16: Expected "}" but found ":"'],
  ])("%s %#", async (name, text, place) => {
    const directory = await directoryWith({ [name]: text });
    await expect(load(path.join(directory, name))).rejects.toMatchObject({ code: "JOB_SYNTAX", message: expect.stringContaining(path.join(directory, name) + place) });
  });

  test.each([
    ["a.mjs", "throw new Error('not today');", "not today"],
    ["a.mjs", "export const job = {};", "has no default export"],
    ["a.ts", "import './missing.ts'; export default {};", "./missing.ts"],
    ["a.toml", "", "a job file ends in .json, .yaml, .yml, .js, .mjs or .ts"],
  ])("%s that cannot be loaded %#", async (name, text, message) => {
    const directory = await directoryWith({ [name]: text });
    await expect(load(path.join(directory, name))).rejects.toMatchObject({ code: "JOB_UNREADABLE", message: expect.stringContaining(message) });
  });

  test("an empty YAML file is no job", async () => {
    await expect(loadFile("a.yaml", "# nothing\n")).rejects.toThrow("the job is wrong: null is not allowed; allowed: an object with at least input and task");
  });

  test("a missing one is named, with the nearest", async () => {
    const directory = await directoryWith({ "night.yaml": yaml });
    await expect(load("nigth.yaml", {}, directory)).rejects.toMatchObject({
      code: "JOB_NOT_FOUND", message: `the job file ${path.join(directory, "nigth.yaml")} does not exist; did you mean ${path.join(directory, "night.yaml")}?`,
    });
  });
});
