import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { jsonLines } from "../support/cli.ts";
import { startFaultServer, type FaultServer } from "../support/fault-server.ts";

const root = path.resolve(import.meta.dirname, "../..");
const unpackedBytesMax = 3_000_000;

interface Packed {
  readonly filename: string;
  readonly unpackedSize: number;
  readonly files: readonly { readonly path: string }[];
}

let folder: string;
let packed: Packed;
let server: FaultServer;

/** What a user types, in an empty directory of their own. Their npm has no settings of this repository. */
function type(command: string, args: readonly string[]): Promise<{ readonly code: number; readonly stdout: string; readonly stderr: string }> {
  return new Promise((resolve) => {
    const env = { ...userEnvironment(), ONNXRUNTIME_NODE_INSTALL: "skip", SPLITRUN_CACHE_DIR: path.join(folder, "cache") };
    execFile(command, args, { cwd: folder, env, maxBuffer: 100_000_000 }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code ?? -1), stdout, stderr });
    });
  });
}

/** npm tells its scripts, this test among them, about the package that they run in. */
function userEnvironment(): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^npm_|^INIT_CWD$/i.test(name)));
}

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "splitrun-package-"));
  server = await startFaultServer();
  // Without the package's own scripts: dist/ is built already, and other tests use it at this moment.
  const pack = await promisify(execFile)("npm", ["pack", "--json", "--ignore-scripts", "--pack-destination", folder], { cwd: root });
  const [first] = JSON.parse(pack.stdout) as Packed[];
  if (first === undefined) throw new Error(`npm pack printed no package: ${pack.stdout}`);
  packed = first;
  await writeFile(path.join(folder, "package.json"), '{ "private": true, "type": "module" }\n');
  const install = await type("npm", ["install", "--prefer-offline", "--no-audit", "--no-fund", `./${packed.filename}`]);
  if (install.code !== 0) throw new Error(`npm install failed:\n${install.stderr}`);
}, 300_000);

afterAll(async () => {
  await server.stop();
  await rm(folder, { recursive: true, force: true });
});

describe("the package", () => {
  test("holds what it needs and nothing else", () => {
    const files = packed.files.map((file) => file.path);
    expect(files).toEqual(expect.arrayContaining([
      "LICENSE", "README.md", "package.json",
      "dist/cli.js", "dist/index.js", "dist/task-manager.js", "dist/task-manager-s3.js", "dist/lambda/lambda.js", "dist/types/orchestrator/index.d.ts",
      "infra/Dockerfile", "infra/template.yaml",
    ]));
    const needed = /^(LICENSE|README\.md|package\.json|dist\/(cli|index|task-manager(-s3)?|[\w-]+-[A-Z0-9]{8})\.js|dist\/lambda\/((lambda|[\w-]+-[A-Z0-9]{8})\.js|(native-thread|sharp|onnxruntime-node)\.cjs|packages\.json)|dist\/types\/(orchestrator|task-manager|infra)\/.+\.d\.ts|infra\/(Dockerfile|template\.yaml))$/;
    expect(files.filter((file) => !needed.test(file))).toEqual([]);
    expect(packed.unpackedSize).toBeLessThan(unpackedBytesMax);
  });

  test("installed elsewhere, runs a function task by npx", async () => {
    await writeFile(path.join(folder, "double.mjs"), "export default async (item) => item * 2;\n");
    await writeFile(path.join(folder, "numbers.jsonl"), "1\n2\n3\n");
    await writeFile(path.join(folder, "numbers.json"), JSON.stringify({ input: "numbers.jsonl", task: { kind: "function", module: "double.mjs" }, output: "doubled" }));

    const { code, stdout, stderr } = await type("npx", ["--no-install", "splitrun", "run", "numbers.json", "--json"]);

    expect(code, stderr).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ state: "succeeded", counts: { items: 3, succeeded: 3, failed: 0 } });
    const lines = await jsonLines<{ readonly index: number; readonly output: number }>(path.join(folder, "doubled/results.jsonl"));
    expect(lines.toSorted((a, b) => a.index - b.index).map(({ output }) => output)).toEqual([2, 4, 6]);
  });

  test("installed elsewhere, runs a model on images by npx", async () => {
    const demo = path.join(root, "examples/demo");
    await writeFile(path.join(folder, "pictures.csv"), `id,url\ngood,${server.origin}/ok.jpg\ndead,${server.origin}/status/404/gone.jpg\n`);

    const { code, stderr } = await type("npx", [
      "--no-install", "splitrun", "run", path.join(demo, "job.yaml"),
      "--set", `input.from=${path.join(folder, "pictures.csv")}`, "--output", "labels",
    ]);

    expect(code, stderr).toBe(1);
    const lines = await jsonLines<{ readonly id: string }>(path.join(folder, "labels/results.jsonl"));
    expect(lines.toSorted((a, b) => b.id.localeCompare(a.id))).toMatchObject([
      { id: "good", output: { label: expect.stringMatching(/^[0-9]$/) } },
      { id: "dead", error: { code: "DOWNLOAD_STATUS" } },
    ]);
  });

  test("installed elsewhere, builds the package for Lambda by npx", async () => {
    const { code, stdout, stderr } = await type("npx", ["--no-install", "splitrun", "deploy", "--package", "function.zip", "--json"]);
    expect(code, stderr).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ architecture: "x86_64", zip: { upload: "direct" }, parts: [{ part: "task manager" }, { part: "onnxruntime" }, { part: "sharp" }] });
  });

  test("installed elsewhere, is a library with types", async () => {
    await writeFile(path.join(folder, "use.ts"), [
      'import { runJob, SplitrunError, type Job, type Outcome } from "splitrun";',
      'const job: Job = { input: [2, 3], task: { kind: "function", module: "double.mjs" }, output: "by-library" };',
      "const result = await runJob(job);",
      "const outcomes: Outcome[] = [];",
      "for await (const outcome of result.inOrder()) outcomes.push(outcome);",
      'const refused = await runJob({ ...job, policy: "unknown" as "none" }).catch((error: unknown) => error);',
      "console.log(JSON.stringify([result.state, outcomes.map(({ output }) => output), refused instanceof SplitrunError]));",
      "",
    ].join("\n"));
    await writeFile(path.join(folder, "double.mjs"), "export default async (item) => item * 2;\n");
    await writeFile(path.join(folder, "tsconfig.json"), JSON.stringify({
      compilerOptions: {
        target: "ES2023", module: "NodeNext", strict: true, outDir: "compiled",
        types: ["node"], typeRoots: [path.join(root, "node_modules/@types")],
      },
      files: ["use.ts"],
    }));
    const compiler = path.join(path.dirname(createRequire(import.meta.url).resolve("typescript/package.json")), "bin/tsc");

    const compiled = await type(process.execPath, [compiler]);
    expect(compiled.stdout).toBe("");
    await writeFile(path.join(folder, "use.mjs"), await readFile(path.join(folder, "compiled/use.js")));
    const { stdout, stderr } = await type(process.execPath, ["use.mjs"]);

    expect(stdout, stderr).toBe('["succeeded",[4,6],true]\n');
  });
});
