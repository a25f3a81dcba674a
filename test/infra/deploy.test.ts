import { randomBytes } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { DescribeLogGroupsCommand, CloudWatchLogsClient } from "@aws-sdk/client-cloudwatch-logs";
import { DeleteRoleCommand, DeleteRolePolicyCommand, GetRoleCommand, GetRolePolicyCommand, IAMClient } from "@aws-sdk/client-iam";
import {
  CreateAliasCommand, CreateFunctionCommand, DeleteFunctionCommand, GetAliasCommand, GetFunctionCommand, InvokeCommand, LambdaClient, ListVersionsByFunctionCommand, UpdateFunctionCodeCommand, waitUntilFunctionUpdatedV2,
} from "@aws-sdk/client-lambda";
import { afterAll, afterEach, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { deleteRuntime, deployRuntime, pingRuntime, redeployRuntime } from "../../infra/deploy.ts";
import type { DeployReport, StepReport } from "../../infra/deploy.ts";
import { completeSettings } from "../../infra/options.ts";
import type { RuntimeOptions } from "../../infra/options.ts";
import { zipPackage } from "../../infra/zip-package.ts";
import { protocolVersion } from "../../task-manager/protocol.ts";
import { until, waiting } from "../lambda/setup.ts";
import { zipOf } from "../support/lambda/zip.ts";
import { artifactOf, openAccount, resourcesOf } from "./setup.ts";
import type { Account } from "./setup.ts";

let account: Account;
let lambda: LambdaClient;
let iam: IAMClient;
let logs: CloudWatchLogsClient;

beforeAll(async () => {
  account = await openAccount();
  [lambda, iam, logs] = [new LambdaClient({}), new IAMClient({}), new CloudWatchLogsClient({})];
});

afterEach(async () => {
  account.emulator.denied.clear();
  await deleteRuntime({}, account.how());
  expect(resourcesOf(account.emulator)).toEqual([]);
});

afterAll(async () => {
  for (const client of [lambda, iam, logs]) client.destroy();
  await account.close();
});

function deploy(options: RuntimeOptions = {}, more: Parameters<Account["how"]>[0] = {}): Promise<DeployReport> {
  return deployRuntime(options, account.how(more));
}

function texts(steps: readonly StepReport[]): readonly string[] {
  return steps.map(({ action, resource }) => `${action} ${resource}`);
}

async function refusal(work: Promise<unknown>): Promise<{ readonly code: string; readonly message: string }> {
  return work.then(() => { throw new Error("it was not refused"); }, (error: unknown) => error as { code: string; message: string });
}

describe("deploying", () => {
  test("makes role, log group, function and alias, and the function answers", async () => {
    const done: StepReport[] = [];
    const report = await deploy({ environment: { COLOR: "green" }, tags: { team: "vision" }, ephemeralMb: 1024, read: ["s3://images/in/"], write: ["s3://images/out"] }, { onStep: (step) => done.push(step) });
    expect(texts(report.steps)).toEqual([
      "create role splitrun-role", "update role splitrun-role", "create log group /aws/lambda/splitrun", "create function splitrun", "create alias splitrun:live",
    ]);
    expect(done).toEqual(report.steps);
    expect(report).toMatchObject({ name: "splitrun", region: "us-east-1", memoryMb: 1769, alias: "live", changed: true, dryRun: false, package: { zip: { upload: "direct" } } });
    // 1769 MB of x86 in us-east-1 at $0.0000166667 a GB-s, and half a GB of /tmp at $0.0000000309.
    expect(report.cost.thousandSecondsUsd).toBeCloseTo(1000 * ((1769 / 1024) * 0.0000166667 + 0.5 * 0.0000000309), 6);
    expect(report.concurrency).toEqual({ account: 1000, unreserved: 1000 });
    expect(report.ping).toMatchObject({ qualifier: "live", version: "1", cold: true, memoryMb: 1769, compatible: true });

    const { Configuration, Tags } = await lambda.send(new GetFunctionCommand({ FunctionName: "splitrun", Qualifier: "live" }));
    expect(Configuration).toMatchObject({
      Version: "1", Runtime: "nodejs22.x", Handler: "lambda.handler", MemorySize: 1769, Timeout: 900, EphemeralStorage: { Size: 1024 }, Architectures: ["x86_64"],
      Environment: { Variables: { COLOR: "green" } }, LoggingConfig: { LogGroup: "/aws/lambda/splitrun" }, State: "Active", CodeSha256: report.package?.zip?.codeSha256,
    });
    expect(Tags).toEqual({ "splitrun:runtime": "splitrun", team: "vision" });
    const { logGroups = [] } = await logs.send(new DescribeLogGroupsCommand({}));
    expect(logGroups).toMatchObject([{ logGroupName: "/aws/lambda/splitrun", retentionInDays: 14 }]);
  });

  test("gives the function the leave that it needs, and no more", async () => {
    await deploy({ read: ["s3://images/in/"], write: ["s3://images/out"], stagingBucket: "staging", memoryStepUpMb: 4000 });
    const { Role } = await iam.send(new GetRoleCommand({ RoleName: "splitrun-role" }));
    expect(JSON.parse(decodeURIComponent(Role?.AssumeRolePolicyDocument ?? ""))).toMatchObject({ Statement: [{ Principal: { Service: "lambda.amazonaws.com" }, Action: "sts:AssumeRole" }] });
    const { PolicyDocument = "" } = await iam.send(new GetRolePolicyCommand({ RoleName: "splitrun-role", PolicyName: "task-manager" }));
    const { Statement } = JSON.parse(decodeURIComponent(PolicyDocument)) as { Statement: unknown };
    const group = "arn:aws:logs:us-east-1:123456789012:log-group:/aws/lambda/splitrun";
    expect(Statement).toEqual([
      { Effect: "Allow", Action: ["logs:CreateLogStream", "logs:PutLogEvents"], Resource: [`${group}:*`, `${group}-step-up:*`] },
      { Effect: "Allow", Action: ["s3:GetObject"], Resource: ["arn:aws:s3:::images/in/*", "arn:aws:s3:::staging/splitrun/splitrun/*"] },
      { Effect: "Allow", Action: ["s3:PutObject", "s3:AbortMultipartUpload"], Resource: ["arn:aws:s3:::images/out/*", "arn:aws:s3:::staging/splitrun/splitrun/responses/*"] },
      { Effect: "Allow", Action: ["s3:ListBucket"], Resource: "arn:aws:s3:::images", Condition: { StringLike: { "s3:prefix": "in/*" } } },
      { Effect: "Allow", Action: ["s3:ListBucket"], Resource: "arn:aws:s3:::staging", Condition: { StringLike: { "s3:prefix": "splitrun/splitrun/*" } } },
      { Effect: "Allow", Action: ["s3:ListBucket"], Resource: "arn:aws:s3:::images", Condition: { StringLike: { "s3:prefix": "out/*" } } },
    ]);
  });

  test("again, with nothing changed, changes nothing", async () => {
    const options: RuntimeOptions = { memoryStepUpMb: 3000, environment: { COLOR: "green" }, tags: { team: "vision" }, reservedConcurrency: 20, stagingBucket: "staging", vpc: { subnetIds: ["subnet-2", "subnet-1"], securityGroupIds: ["sg-1"] } };
    await deploy(options);
    const before = await lambda.send(new GetFunctionCommand({ FunctionName: "splitrun" }));
    const again = await deploy(options);
    expect(again).toMatchObject({ steps: [], changed: false, ping: { version: "1" } });
    const after = await lambda.send(new GetFunctionCommand({ FunctionName: "splitrun" }));
    expect(after.Configuration?.RevisionId).toBe(before.Configuration?.RevisionId);
  });

  test("the same content in another zip, as another machine may make it, changes nothing", async () => {
    await deploy();
    const files = await account.how().filesOf({ architecture: "x86_64", artifacts: [], cacheDir: account.cacheDir });
    const { path: file, codeSha256 } = await zipPackage(files, account.cacheDir);
    const original = await readFile(file);
    onTestFinished(() => writeFile(file, original));
    await writeFile(file, await zipOf({ "other.txt": "bytes" }));
    const again = await deploy();
    expect(again.package?.zip?.codeSha256).not.toBe(codeSha256);
    expect(again.steps).toEqual([]);
  });

  test("code that somebody else has put there is replaced", async () => {
    await deploy();
    await lambda.send(new UpdateFunctionCodeCommand({ FunctionName: "splitrun", ZipFile: await zipOf({ "lambda.js": "1" }) }));
    await waitUntilFunctionUpdatedV2({ client: lambda, ...waiting }, { FunctionName: "splitrun" });
    const again = await deploy();
    expect(texts(again.steps)).toContain("update function splitrun");
    const { Configuration } = await lambda.send(new GetFunctionCommand({ FunctionName: "splitrun" }));
    expect(Configuration?.CodeSha256).toBe(again.package?.zip?.codeSha256);
  });

  test("a dry run says what it would do, and does nothing", async () => {
    const plan = await deploy({ memoryStepUpMb: 3000 }, { dryRun: true });
    expect(plan).toMatchObject({ dryRun: true, changed: true, ping: null, functions: ["splitrun", "splitrun-step-up"] });
    expect(texts(plan.steps)).toContain("create function splitrun-step-up");
    expect(resourcesOf(account.emulator)).toEqual([]);
  });

  test("what is said otherwise is changed, and only that; values of the environment are not shown", async () => {
    await deploy({ environment: { TOKEN: "secret-1" } });
    const changed = await deploy({ environment: { TOKEN: "secret-2" }, memoryMb: 2048, retentionDays: 30, reservedConcurrency: 5 });
    expect(changed.steps).toMatchObject([
      { resource: "log group /aws/lambda/splitrun", detail: "keeps 30 days" },
      { resource: "function splitrun", detail: "memory 1769 MB → 2048 MB, environment TOKEN" },
      { resource: "function splitrun", detail: "at most and at least 5 invocations at once" },
      { resource: "alias splitrun:live" },
    ]);
    expect(JSON.stringify(changed)).not.toContain("secret");
    expect(changed.ping).toMatchObject({ version: "2", memoryMb: 2048, cold: true });
    expect(texts((await deploy({ environment: { TOKEN: "secret-2" }, memoryMb: 2048, retentionDays: 30 })).steps)).toEqual(["update function splitrun"]);
  });

  test("a second function with more memory comes and goes with its option", async () => {
    await deploy({ memoryStepUpMb: 3000 });
    expect(await lambda.send(new GetFunctionCommand({ FunctionName: "splitrun-step-up", Qualifier: "live" }))).toMatchObject({ Configuration: { MemorySize: 3000 } });
    expect(texts((await deploy()).steps)).toEqual([
      "update role splitrun-role", "delete function splitrun-step-up", "delete log group /aws/lambda/splitrun-step-up",
    ]);
    expect(account.emulator.functionNames).toEqual(["splitrun"]);
  });

  test("goes on where it failed: what is refused is named with its way out, and the next call does the rest", async () => {
    account.emulator.denied.add("lambda:PublishVersion");
    expect(await refusal(deploy())).toMatchObject({ code: "AWS_PERMISSION", message: expect.stringContaining("may not lambda:PublishVersion") as string });
    account.emulator.denied.clear();
    expect(texts((await deploy()).steps)).toEqual(["create alias splitrun:live"]);

    account.emulator.denied.add("lambda:UpdateFunctionConfiguration");
    await refusal(deploy({ memoryMb: 2048 }));
    account.emulator.denied.clear();
    expect((await deploy({ memoryMb: 2048 })).ping).toMatchObject({ memoryMb: 2048 });
  });

  test("waits until IAM has spread the role, and until the function is active and then updated", async () => {
    for (const work of [() => deploy(), () => deploy({ memoryMb: 2048 })]) {
      const goOn = account.emulator.stopClock();
      const timer = setTimeout(goOn, 700);
      onTestFinished(() => clearTimeout(timer));
      expect((await work()).ping).not.toBeNull();
    }
  });

  test("old versions go, the last three stay, and those that somebody has named", async () => {
    for (const memoryMb of [1024, 1025]) await deploy({ memoryMb });
    await lambda.send(new CreateAliasCommand({ FunctionName: "splitrun", Name: "somebody", FunctionVersion: "2" }));
    for (const memoryMb of [1026, 1027, 1028]) await deploy({ memoryMb });
    const { Versions = [] } = await lambda.send(new ListVersionsByFunctionCommand({ FunctionName: "splitrun" }));
    expect(Versions.map(({ Version }) => Version)).toEqual(["$LATEST", "2", "3", "4", "5"]);
    expect(await lambda.send(new GetAliasCommand({ FunctionName: "splitrun", Name: "live" }))).toMatchObject({ FunctionVersion: "5" });
  });

  test("what the account allows is said if it may be asked, and no reason to fail", async () => {
    account.emulator.denied.add("lambda:GetAccountSettings");
    expect(await deploy({ reservedConcurrency: 5 })).toMatchObject({ concurrency: null });
    account.emulator.denied.clear();
    expect(await deploy({ reservedConcurrency: 5 })).toMatchObject({ concurrency: { account: 1000, unreserved: 995 } });
  });

  test("a package above the limit of a request goes up through S3, and nothing of it stays there", async () => {
    const model = await artifactOf(account, "large.onnx", randomBytes(54e6));
    const before = account.s3.requests.length;
    const refused = await refusal(deploy({}, { artifacts: [model] }));
    expect(refused).toMatchObject({ code: "PACKAGE_TOO_LARGE", message: expect.stringMatching(/5\d\.\d MB zipped.*--staging-bucket/) as string });
    expect(resourcesOf(account.emulator)).toEqual([]);

    const report = await deploy({ stagingBucket: "s3://staging/team" }, { artifacts: [model] });
    expect(report.package?.zip?.upload).toBe("s3");
    expect(report.ping).toMatchObject({ cold: true });
    const keys = account.s3.requests.slice(before).filter(({ method }) => method !== "GET").map(({ method, key }) => `${method} ${key}`);
    expect(keys[0]).toMatch(/^PUT team\/splitrun\/splitrun\/code\/[0-9a-f]{64}\.zip$/);
    expect(account.s3.keysOf("staging")).toEqual([]);
    // What is staged later by jobs goes with the runtime, whose tag says where.
    account.s3.put("staging", "team/splitrun/splitrun/artifacts/1", "model");
    account.s3.put("staging", "team/splitrun/other/artifacts/1", "model");
    await deleteRuntime({}, account.how());
    expect(account.s3.keysOf("staging")).toEqual(["team/splitrun/other/artifacts/1"]);
  });
});

describe("redeploying", () => {
  test("gives new code while an invocation runs, which ends with the old; settings stay as they are", async () => {
    const [one, two] = [await artifactOf(account, "one.onnx", Buffer.from("one")), await artifactOf(account, "two.onnx", Buffer.from("two"))];
    await deploy({ memoryMb: 1024, environment: { COLOR: "green" }, reservedConcurrency: 7, memoryStepUpMb: 2048 }, { artifacts: [one] });
    const ended = account.emulator.invocations.length;
    const long = lambda.send(new InvokeCommand({ FunctionName: "splitrun", Qualifier: "live", Payload: JSON.stringify({ protocol: protocolVersion, kind: "ping", holdMs: 4000 }) }));
    const report = await redeployRuntime({}, account.how({ artifacts: [one, two] }));
    expect(texts(report.steps)).toEqual(["splitrun", "splitrun-step-up"].flatMap((name) =>
      [`update function ${name}`, `update function ${name}`, `update function ${name}`, `update alias ${name}:live`]));
    expect(report).toMatchObject({ memoryMb: 1024, ping: { version: "2", cold: true } });
    const { ExecutedVersion, FunctionError } = await long;
    expect([ExecutedVersion, FunctionError]).toEqual(["1", undefined]);
    await until(() => account.emulator.invocations.length >= ended + 2);
    const { Configuration, Concurrency } = await lambda.send(new GetFunctionCommand({ FunctionName: "splitrun" }));
    expect(Configuration).toMatchObject({ MemorySize: 1024, Environment: { Variables: { COLOR: "green" } } });
    expect(Concurrency).toEqual({ ReservedConcurrentExecutions: 7 });
    expect((await redeployRuntime({}, account.how({ artifacts: [one, two] }))).steps).toEqual([]);
  });

  test("does not take away a model that jobs may be using, unless told to", async () => {
    const model = await artifactOf(account, "used.onnx", Buffer.from("used"));
    await deploy({}, { artifacts: [model] });
    for (const work of [() => redeployRuntime({}, account.how()), () => deploy()]) {
      expect(await refusal(work())).toMatchObject({ code: "RUNTIME_ARTIFACTS", message: expect.stringContaining("used.onnx") as string });
    }
    expect((await redeployRuntime({}, account.how({ artifacts: [model] }))).steps).toEqual([]);
    expect((await redeployRuntime({}, account.how({ dropArtifacts: true }))).changed).toBe(true);
    expect((await redeployRuntime({}, account.how())).steps).toEqual([]);
  });

  test("of what is not there says how to make it", async () => {
    expect(await refusal(redeployRuntime({}, account.how()))).toMatchObject({ code: "RUNTIME_NOT_FOUND", message: expect.stringContaining("splitrun deploy") as string });
  });
});

describe("an image", () => {
  const uri = "111122223333.dkr.ecr.us-east-1.amazonaws.com/splitrun:1";

  async function imageOf(extra: Readonly<Record<string, string>> = {}): Promise<Buffer> {
    const files = await account.how().filesOf({ architecture: "x86_64", artifacts: [], cacheDir: account.cacheDir });
    const texts = await Promise.all(files.map(async ({ name, source }) => [name, "text" in source ? source.text : await readFile(source.path, "utf8")] as const));
    return zipOf({ ...Object.fromEntries(texts), ...extra });
  }

  test("is deployed in place of a zip, and renewed, also where its tag has moved", async () => {
    account.emulator.images.set(uri, await imageOf());
    expect(await deploy({ image: uri, memoryStepUpMb: 3000 })).toMatchObject({ package: null, image: uri, ping: { version: "1", compatible: true } });
    expect((await deploy({ image: uri, memoryStepUpMb: 3000 })).steps).toEqual([]);
    expect((await deploy({ image: uri, memoryStepUpMb: 3000, memoryMb: 2048 })).ping).toMatchObject({ memoryMb: 2048, version: "2" });
    account.emulator.images.set(uri, await imageOf({ "more.txt": "1" }));
    expect(await redeployRuntime({ image: uri }, account.how())).toMatchObject({ memoryMb: 2048, changed: true, ping: { version: "3", cold: true } });
  });

  test("does not become a zip, nor a zip an image; and a model goes into it when it is built", async () => {
    account.emulator.images.set(uri, await imageOf());
    await deploy({ image: uri });
    expect(await refusal(deploy())).toMatchObject({ code: "RUNTIME_INVALID", message: expect.stringContaining("give its --image") as string });
    await deleteRuntime({}, account.how());
    await deploy();
    expect(await refusal(redeployRuntime({ image: uri }, account.how()))).toMatchObject({ code: "RUNTIME_INVALID", message: expect.stringContaining("leave --image out") as string });
    const model = await artifactOf(account, "beside.onnx", Buffer.from("model"));
    expect(await refusal(deploy({ image: uri }, { artifacts: [model] }))).toMatchObject({ code: "RUNTIME_INVALID", message: expect.stringContaining("--package FOLDER") as string });
  });
});

describe("undeploying", () => {
  test("leaves nothing behind, and nothing of others is touched", async () => {
    await deploy({ name: "other" });
    onTestFinished(async () => void (await deleteRuntime({ name: "other" }, account.how())));
    const others = resourcesOf(account.emulator);
    await deploy({ memoryStepUpMb: 3000, vpc: { subnetIds: ["subnet-1"], securityGroupIds: ["sg-1"] } });
    const dry = await deleteRuntime({}, account.how({ dryRun: true }));
    expect(resourcesOf(account.emulator).length).toBe(others.length + 5);
    const done = await deleteRuntime({}, account.how());
    expect(done.steps).toEqual(dry.steps);
    expect(texts(done.steps)).toEqual([
      "update function splitrun", "delete function splitrun", "update function splitrun-step-up", "delete function splitrun-step-up",
      "delete role splitrun-role", "delete log group /aws/lambda/splitrun", "delete log group /aws/lambda/splitrun-step-up",
    ]);
    expect(resourcesOf(account.emulator)).toEqual(others);
    expect(await deleteRuntime({}, account.how())).toMatchObject({ steps: [], changed: false });
    await deleteRuntime({ name: "other" }, account.how());
  });

  test("clears every bucket that was staged in, also those of former deployments", async () => {
    const stagings = ["first", "s3://former/a/", "s3://former/b/"];
    for (const bucket of ["first", "former"]) account.s3.createBucket(bucket);
    for (const stagingBucket of stagings) await deploy({ stagingBucket });
    expect((await deploy({ stagingBucket: "s3://former/b/" })).steps).toEqual([]);
    await deploy();
    for (const [bucket, key] of [["first", ""], ["former", "a/"], ["former", "b/"]] as const) account.s3.put(bucket, `${key}splitrun/splitrun/artifacts/1`, "model");
    account.s3.put("former", "a/mine", "");
    await deleteRuntime({}, account.how());
    expect([...account.s3.keysOf("first"), ...account.s3.keysOf("former")]).toEqual(["a/mine"]);
  });

  test("removes all else where S3 refuses, and says how what is staged goes", async () => {
    account.s3.createBucket("refusing");
    await deploy({ stagingBucket: "refusing" });
    account.s3.put("refusing", "splitrun/splitrun/artifacts/1", "model");
    const fault = account.s3.fault({ kind: "error", status: 403, code: "AccessDenied" }, { times: Infinity, when: ({ bucket }) => bucket === "refusing" });
    const { code, message } = await refusal(deleteRuntime({}, account.how()));
    expect(code).toBe("S3_ACCESS_DENIED");
    expect(message).toContain("`splitrun undeploy --name splitrun --staging-bucket s3://refusing/`");
    expect(resourcesOf(account.emulator)).toEqual([]);
    fault.remove();
    await deleteRuntime({ stagingBucket: "refusing" }, account.how());
    expect(account.s3.keysOf("refusing")).toEqual([]);
  });

  test("goes on where it failed", async () => {
    await deploy();
    account.emulator.denied.add("iam:DeleteRole");
    expect(await refusal(deleteRuntime({}, account.how()))).toMatchObject({ code: "AWS_PERMISSION", message: expect.stringContaining("iam:DeleteRole") as string });
    account.emulator.denied.clear();
    expect(texts((await deleteRuntime({}, account.how())).steps)).toEqual(["delete role splitrun-role", "delete log group /aws/lambda/splitrun"]);
  });
});

describe("what is not ours", () => {
  test.each([["made by hand", {}, "take another --name"], ["made by a stack", { "aws:cloudformation:stack-name": "vision" }, "CloudFormation stack vision"]])(
    "a function %s is neither changed nor removed", async (_how, tags, words) => {
      await lambda.send(new CreateFunctionCommand({
        FunctionName: "taken", Runtime: "nodejs22.x", Handler: "a.b", Role: account.emulator.createRole(`hand-${Object.keys(tags).length}`), Code: { ZipFile: await zipOf({ "a.js": "" }) }, Tags: tags,
      }));
      for (const work of [() => deploy({ name: "taken" }), () => deleteRuntime({ name: "taken" }, account.how()), () => redeployRuntime({ name: "taken" }, account.how())]) {
        expect(await refusal(work())).toMatchObject({ code: "RUNTIME_FOREIGN", message: expect.stringContaining(words) as string });
      }
      expect(account.emulator.functionNames).toEqual(["taken"]);
      await lambda.send(new DeleteFunctionCommand({ FunctionName: "taken" }));
      await iam.send(new DeleteRolePolicyCommand({ RoleName: `hand-${Object.keys(tags).length}`, PolicyName: "logs" }));
      await iam.send(new DeleteRoleCommand({ RoleName: `hand-${Object.keys(tags).length}` }));
    },
  );
});

describe("pinging", () => {
  test("tells a cold start from warm answers, and can make one without touching what is live", async () => {
    await deploy();
    const warm = await pingRuntime({}, { times: 3, cold: false });
    expect(warm).toMatchObject({ name: "splitrun", region: "us-east-1", cold: null, pings: [{ cold: false, version: "1" }, {}, {}] });
    expect(warm.warmMs?.min).toBeLessThanOrEqual(warm.warmMs?.median ?? 0);
    account.emulator.reclaim();
    expect((await pingRuntime({}, { times: 1, cold: false })).cold).toMatchObject({ version: "1", initMs: expect.any(Number) as number, billedMs: expect.any(Number) as number });

    const forced = await pingRuntime({}, { times: 2, cold: true });
    expect(forced).toMatchObject({ cold: { version: "$LATEST", cold: true }, pings: [{ cold: true }, { cold: false }] });
    expect((await pingRuntime({}, { times: 1, cold: false })).cold).toBeNull();
    expect((await deploy()).steps).toEqual([]);
  });

  test("of what is not deployed says how to make it", async () => {
    expect(await refusal(pingRuntime({}, { times: 1, cold: false }))).toMatchObject({ code: "LAMBDA_NOT_DEPLOYED", message: expect.stringContaining("splitrun deploy") as string });
  });

  test("of code that does not load says so, with the end of its log", async () => {
    await deploy();
    await lambda.send(new UpdateFunctionCodeCommand({ FunctionName: "splitrun", ZipFile: await zipOf({ "lambda.js": "throw new TypeError('no native package here');" }), Publish: false }));
    await waitUntilFunctionUpdatedV2({ client: lambda, ...waiting }, { FunctionName: "splitrun" });
    expect(await refusal(pingRuntime({}, { times: 1, cold: true }))).toMatchObject({ code: "RUNTIME_BROKEN", message: expect.stringContaining("no native package here") as string });
  });
});

describe("a bucket to stage in that cannot be used", () => {
  beforeAll(() => account.s3.createBucket("forbidden"));

  test.each<[string, string]>([["is not there", "s3://absent/models/"], ["is forbidden", "forbidden"]])("%s: that is said before anything is made", async (_what, stagingBucket) => {
    const fault = account.s3.fault({ kind: "error", status: 403, code: "AccessDenied" }, { times: Infinity, when: ({ bucket }) => bucket === "forbidden" });
    onTestFinished(() => fault.remove());
    for (const dryRun of [true, false]) {
      const refused = await refusal(deploy({ stagingBucket }, { dryRun }));
      expect(refused).toMatchObject({ code: "RUNTIME_STAGING", message: expect.stringMatching(/cannot be used, nothing was done: .*aws s3 mb s3:/) as string });
    }
    expect(resourcesOf(account.emulator)).toEqual([]);
  });
});

describe("what AWS refuses is said with the way out", () => {
  /** Other values in this process's environment, for one attempt to deploy. */
  async function refusalWith(changes: Readonly<Record<string, string | undefined>>): Promise<{ readonly code: string; readonly message: string }> {
    const before = process.env;
    process.env = Object.fromEntries(Object.entries({ ...before, ...changes }).filter(([, value]) => value !== undefined));
    try {
      return await refusal(deploy());
    } finally {
      process.env = before;
    }
  }

  test("no credentials", async () => {
    expect(await refusalWith({ AWS_ACCESS_KEY_ID: undefined, AWS_SECRET_ACCESS_KEY: undefined })).toMatchObject({ code: "AWS_CREDENTIALS", message: expect.stringContaining("AWS_PROFILE") as string });
  });

  test("a key that AWS does not know, which is not shown", async () => {
    const { code, message } = await refusalWith({ AWS_ACCESS_KEY_ID: "AKIANOBODY", AWS_SECRET_ACCESS_KEY: "wrong-secret" });
    expect([code, message.includes("wrong-secret"), message.includes("log in")]).toEqual(["AWS_CREDENTIALS", false, true]);
  });

  test("no region", async () => {
    expect(await refusalWith({ AWS_REGION: undefined })).toMatchObject({ code: "AWS_REGION", message: expect.stringContaining("--region") as string });
  });

  test("nobody who answers", async () => {
    expect(await refusalWith({ AWS_ENDPOINT_URL: "http://127.0.0.1:9" })).toMatchObject({ code: "AWS_UNREACHABLE", message: expect.stringContaining("AWS_ENDPOINT_URL") as string });
  });

  test("more reserved concurrency than the account has left", async () => {
    expect(await refusal(deploy({ reservedConcurrency: 950 }))).toMatchObject({ code: "AWS_QUOTA", message: expect.stringContaining("reserve fewer") as string });
  });

  test.each(["lambda:GetFunction", "iam:CreateRole", "logs:PutRetentionPolicy"])("no leave to %s", async (action) => {
    account.emulator.denied.add(action);
    expect(await refusal(deploy())).toMatchObject({ code: "AWS_PERMISSION", message: expect.stringMatching(new RegExp(`user/emulated may not ${action}.*docs/backends/lambda.md`)) as string });
  });

  test("what Lambda reads of the environment, but does not set itself, may be set", () => {
    const environment = { AWS_LAMBDA_EXEC_WRAPPER: "/opt/wrapper" };
    expect(completeSettings({ environment })).toMatchObject({ environment });
    for (const name of ["AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_LOG_STREAM_NAME", "AWS_LAMBDA_RUNTIME_API", "LAMBDA_RUNTIME_DIR"]) {
      expect(() => completeSettings({ environment: { [name]: "x" } })).toThrow(`runtime.environment.${name}: Lambda sets this one itself`);
    }
  });

  test.each([
    [{ memoryMb: 100 }, "runtime.memoryMb: 100 is not allowed; allowed: a whole number from 128 to 10240"],
    [{ retentionDays: 8 }, "runtime.retentionDays: 8 is not allowed; allowed: 1, 3, 5, 7, 14"],
    [{ vpc: { subnetIds: ["subnet-1"], securityGroupIds: [] } }, "runtime.vpc.securityGroupIds: [] is not allowed; allowed: one or more"],
    [{ tags: { "aws:stage": "x" } }, "runtime.tags"],
    [{ name: "no spaces" }, "runtime.name"],
    [{ memoryMb: 2000, memoryStepUpMb: 2000 }, "is not more than the 2000 MB"],
    [{ read: ["http://images/"] }, "runtime.read.0"],
    [{ memory: 100 } as RuntimeOptions, "runtime.memory: is no option"],
    [{ environment: { "1A": "secret" } }, "runtime.environment"],
    // Lambda would refuse it, once the role and the log group are made.
    [{ environment: { AWS_REGION: "secret" } }, "runtime.environment.AWS_REGION: Lambda sets this one itself"],
    [{ environment: { LARGE: "secret".repeat(700) } }, "at most 4096 bytes"],
  ])("an option that is wrong: %j", async (options, words) => {
    const { code, message } = await refusal(deploy(options));
    expect([code, message.includes(words), message.includes("secret")]).toEqual(["RUNTIME_INVALID", true, false]);
  });
});
