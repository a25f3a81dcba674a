import { mkdir, readFile, readdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import type { DeployReport, PingReport, RemovalReport } from "../../infra/deploy.ts";
import { splitrun } from "../support/cli.ts";
import type { CliEnd } from "../support/cli.ts";
import { openAccount, resourcesOf } from "./setup.ts";
import type { Account } from "./setup.ts";

// The real package, many times the size of others in the tests.
vi.setConfig({ testTimeout: 240_000 });

let account: Account;
let cwd: string;

beforeAll(async () => {
  account = await openAccount();
  cwd = path.join(account.cacheDir, "work");
  await mkdir(cwd);
  await writeFile(path.join(cwd, "double.mjs"), "export default async (item) => item * 2;\n");
});

afterAll(async () => {
  await account.close();
});

function run(...args: readonly string[]): Promise<CliEnd> {
  return splitrun(args, { cwd, env: account.variables, cacheDir: account.cacheDir });
}

async function runJson<T>(...args: readonly string[]): Promise<T> {
  const { code, stdout, stderr } = await run(...args, "--json");
  expect([code, stderr.includes("Warning")]).toEqual([0, false]);
  return JSON.parse(stdout) as T;
}

test("from nothing to a function in which jobs run, and back to nothing", async () => {
  const dry = await run("deploy", "--dry-run", "--module", "double.mjs");
  expect(dry).toMatchObject({ code: 0, stderr: "" });
  expect(dry.stdout).toMatch(/^Package: 2\d\.\d MB zipped \(goes up directly.*onnxruntime 4\d\.\d MB, sharp 1\d\.\d MB.*linux x86_64\nWould do:\n {2}create {2}role splitrun-role/);
  expect(resourcesOf(account.emulator)).toEqual([]);

  const deployed = await run("deploy", "--module", "double.mjs", "--memory-mb", "3538", "--env", "TOKEN=secret-1", "--tag", "team=vision");
  expect(deployed.stderr).toContain("  create  function splitrun: 3538 MB, 900 s, x86_64, nodejs22.x\n");
  expect(deployed.stdout).toMatch(/splitrun in us-east-1: 3538 MB \(2\.0 cores\), 900 s, x86_64\nCost: \$0\.05\d\d per 1000 s .*idle: nothing\nAccount: at most 1000 invocations at once in this region\nsplitrun:live \(version 1\) answers: cold start, /);
  expect(deployed.stdout + deployed.stderr).not.toContain("secret");

  const again = await runJson<DeployReport>("deploy", "--module", "double.mjs", "--memory-mb", "3538", "--env", "TOKEN=secret-1", "--tag", "team=vision");
  expect(again).toMatchObject({ changed: false, steps: [], package: { parts: [{ part: "task manager" }, { part: "onnxruntime" }, { part: "sharp" }, { part: "artifacts", files: 1 }] } });

  const pinged = await runJson<PingReport>("ping", "--times", "2", "--cold");
  expect(pinged).toMatchObject({ cold: { cold: true, memoryMb: 3538 }, pings: [{ cold: true }, { cold: false }] });
  expect((await run("ping")).stdout).toMatch(/Warm: median/);
  expect(await runJson<DeployReport>("redeploy", "--module", "double.mjs")).toMatchObject({ changed: false, memoryMb: 3538 });

  expect((await run("undeploy", "--dry-run")).stdout).toContain("delete  role splitrun-role");
  expect(await runJson<RemovalReport>("undeploy")).toMatchObject({ changed: true, steps: [{ resource: "function splitrun" }, { resource: "role splitrun-role" }, { resource: "log group /aws/lambda/splitrun" }] });
  expect(resourcesOf(account.emulator)).toEqual([]);
  expect((await run("undeploy")).stdout).toBe("Nothing to remove: there is no splitrun in us-east-1\n");
});

test("the rights that the documentation asks for are enough, and each of them is used", async () => {
  const before = new Set(account.emulator.actions);
  // What a whole life of a runtime asks for beside what the test above did.
  await run("deploy", "--module", "double.mjs", "--name", "life", "--memory-step-up-mb", "3000", "--reserved-concurrency", "5", "--staging-bucket", "staging");
  await run("deploy", "--module", "double.mjs", "--name", "life", "--memory-mb", "2048", "--retention-days", "30");
  await run("undeploy", "--name", "life");
  const page = await readFile(path.resolve(import.meta.dirname, "../../docs/backends/lambda.md"), "utf8");
  const policy = JSON.parse(/```json\n([\s\S]*?)```/.exec(page)?.[1] ?? "{}") as { readonly Statement: readonly { readonly Action: readonly string[] }[] };
  const documented = new Set(policy.Statement.flatMap(({ Action }) => Action));
  const asked = [...new Set([...before, ...account.emulator.actions])];
  expect(asked.filter((action) => !documented.has(action))).toEqual([]);
  // Lambda and IAM ask for these themselves where tags or a role are given; logs are read after jobs, trust and code change seldom.
  const implied = ["lambda:ListTags", "iam:TagRole", "iam:PassRole", "logs:FilterLogEvents", "iam:UpdateAssumeRolePolicy", "lambda:UpdateFunctionCode", "lambda:TagResource"];
  expect([...documented].filter((action) => !action.startsWith("s3:") && !account.emulator.actions.has(action) && !implied.includes(action))).toEqual([]);
  expect(resourcesOf(account.emulator)).toEqual([]);
});

test("only the package: as a zip, or as a folder that the Dockerfile copies", async () => {
  await run("deploy", "--module", "double.mjs", "--package", "function.zip");
  expect((await readFile(path.join(cwd, "function.zip"))).subarray(0, 2).toString()).toBe("PK");
  expect(await runJson("deploy", "--module", "double.mjs", "--package", "image")).toMatchObject({ zip: null, architecture: "x86_64" });
  const files = await readdir(path.join(cwd, "image"), { recursive: true });
  expect(files).toEqual(expect.arrayContaining(["lambda.js", "artifacts", "node_modules/sharp"]));
  const dockerfile = await readFile(path.resolve(import.meta.dirname, "../../infra/Dockerfile"), "utf8");
  expect(dockerfile).toMatch(/^FROM public\.ecr\.aws\/lambda\/nodejs:22$/m);
  expect(dockerfile).toMatch(/^COPY \. \$\{LAMBDA_TASK_ROOT\}\/$/m);
  expect(dockerfile).toMatch(/^CMD \["lambda\.handler"\]$/m);
  expect(resourcesOf(account.emulator)).toEqual([]);
});

test.each([
  [["deploy", "--memory-mb", "64"], "RUNTIME_INVALID", "runtime.memoryMb: 64 is not allowed"],
  [["deploy", "--model", "absent.onnx"], "MODEL_NOT_FOUND", "absent.onnx does not exist"],
  [["ping", "--name", "absent"], "LAMBDA_NOT_DEPLOYED", "splitrun deploy"],
  [["redeploy", "--name", "absent"], "RUNTIME_NOT_FOUND", "splitrun deploy"],
])("%j is refused with %s and the way out", async (args, code, words) => {
  const { code: exitCode, stdout, stderr } = await run(...args, "--json");
  expect([exitCode, (JSON.parse(stdout) as { error: { code: string } }).error.code]).toEqual([2, code]);
  expect(stderr).toContain(words);
});

test.each(["deploy", "redeploy", "undeploy", "ping"])("splitrun %s --help says what it does", async (command) => {
  const { code, stdout } = await run(command, "--help");
  expect(code).toBe(0);
  expect(stdout).toMatch(/--name <name>[\s\S]*--region <region>[\s\S]*--json/);
});
