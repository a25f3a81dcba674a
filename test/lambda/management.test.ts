import { randomBytes } from "node:crypto";
import {
  CreateLogGroupCommand, CloudWatchLogsClient, DeleteLogGroupCommand, DescribeLogGroupsCommand, FilterLogEventsCommand, GetLogEventsCommand, PutRetentionPolicyCommand,
} from "@aws-sdk/client-cloudwatch-logs";
import {
  CreateRoleCommand, DeleteRoleCommand, DeleteRolePolicyCommand, GetRoleCommand, GetRolePolicyCommand, IAMClient, ListRolePoliciesCommand, PutRolePolicyCommand, waitUntilRoleExists,
} from "@aws-sdk/client-iam";
import {
  CreateAliasCommand, CreateFunctionCommand, DeleteAliasCommand, DeleteFunctionCommand, DeleteFunctionConcurrencyCommand, GetAccountSettingsCommand, GetAliasCommand,
  GetFunctionCommand, GetFunctionConcurrencyCommand, GetFunctionConfigurationCommand, InvokeCommand, LambdaClient, ListTagsCommand, ListVersionsByFunctionCommand, PublishVersionCommand,
  PutFunctionConcurrencyCommand, TagResourceCommand, UntagResourceCommand, UpdateAliasCommand, UpdateFunctionCodeCommand, UpdateFunctionConfigurationCommand, waitUntilFunctionActiveV2, waitUntilFunctionUpdatedV2,
} from "@aws-sdk/client-lambda";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { startLambdaEmulator } from "../support/lambda/emulator.ts";
import type { LambdaEmulator } from "../support/lambda/emulator.ts";
import { zipOf } from "../support/lambda/zip.ts";
import { startS3Server } from "../support/s3/server.ts";
import type { S3Server } from "../support/s3/server.ts";
import { clientOf, invoke, until, waiting } from "./setup.ts";

let emulator: LambdaEmulator;
let s3: S3Server;
let client: LambdaClient;
let iam: IAMClient;
let logs: CloudWatchLogsClient;
let role: string;

beforeAll(async () => {
  s3 = await startS3Server();
  s3.createBucket("code");
  emulator = await startLambdaEmulator({ s3: { endpoint: s3.endpoint, credentials: s3.credentials }, creatingMs: 60, updatingMs: 60, rolePropagationMs: 100 });
  client = clientOf(emulator);
  const common = { endpoint: emulator.endpoint, region: emulator.region, credentials: emulator.credentials, maxAttempts: 1 };
  iam = new IAMClient(common);
  logs = new CloudWatchLogsClient(common);
  role = emulator.createRole("functions");
});

afterAll(async () => {
  for (const each of [client, iam, logs]) each.destroy();
  await emulator.stop();
  await s3.stop();
});

function answering(text: string): Promise<Buffer> {
  return zipOf({ "index.mjs": `export const handler = async () => ({ text: ${JSON.stringify(text)}, color: process.env.COLOR ?? null });` });
}

async function create(name: string, more: Partial<ConstructorParameters<typeof CreateFunctionCommand>[0]> = {}): Promise<void> {
  await client.send(new CreateFunctionCommand({
    FunctionName: name, Runtime: "nodejs24.x", Handler: "index.handler", Role: role, Timeout: 20, MemorySize: 256, Code: { ZipFile: await answering("one") }, ...more,
  }));
  await waitUntilFunctionActiveV2({ client, ...waiting }, { FunctionName: name });
}

/** A role's propagation. */
function known(): Promise<unknown> {
  return new Promise((resolve) => setTimeout(resolve, 120));
}

function updated(name: string): Promise<unknown> {
  return waitUntilFunctionUpdatedV2({ client, ...waiting }, { FunctionName: name });
}

describe("functions", () => {
  test("are Pending at first, cannot run yet, then Active, with what was asked for and what was not", async () => {
    const code = await answering("one");
    const goOn = emulator.stopClock();
    onTestFinished(goOn);
    const created = await client.send(new CreateFunctionCommand({
      FunctionName: "new", Runtime: "nodejs24.x", Handler: "index.handler", Role: role, Code: { ZipFile: code }, Tags: { a: "1" }, EphemeralStorage: { Size: 1024 },
    }));
    expect(created).toMatchObject({
      State: "Pending", StateReasonCode: "Creating", LastUpdateStatus: "Successful", Version: "$LATEST", Timeout: 3, MemorySize: 128, CodeSize: code.length,
      Architectures: ["x86_64"], EphemeralStorage: { Size: 1024 }, FunctionArn: "arn:aws:lambda:us-east-1:123456789012:function:new", PackageType: "Zip",
    });
    await expect(invoke(client, "new", {})).rejects.toMatchObject({ name: "ResourceConflictException", $metadata: { httpStatusCode: 409 } });
    goOn();
    await waitUntilFunctionActiveV2({ client, ...waiting }, { FunctionName: "new" });
    const { Configuration, Tags } = await client.send(new GetFunctionCommand({ FunctionName: "new" }));
    expect(Configuration).toMatchObject({ State: "Active", CodeSha256: created.CodeSha256 });
    expect(Tags).toEqual({ a: "1" });
    expect((await invoke(client, "new", {})).payload).toEqual({ text: "one", color: null });
  });

  test("that exist are not made again, and those that do not are not found", async () => {
    await create("twice");
    await expect(create("twice")).rejects.toMatchObject({ name: "ResourceConflictException", message: "Function already exist: twice" });
    for (const command of [new GetFunctionCommand({ FunctionName: "none" }), new InvokeCommand({ FunctionName: "none" }), new DeleteFunctionCommand({ FunctionName: "none" })]) {
      await expect(client.send(command as GetFunctionCommand)).rejects.toMatchObject({ name: "ResourceNotFoundException", $metadata: { httpStatusCode: 404 } });
    }
  });

  test("take new code after a while, and serve the old until then; nothing else can be changed meanwhile", async () => {
    await create("changing");
    expect((await invoke(client, "changing", {})).payload["text"]).toBe("one");
    const goOn = emulator.stopClock();
    onTestFinished(goOn);
    const update = await client.send(new UpdateFunctionCodeCommand({ FunctionName: "changing", ZipFile: await answering("two") }));
    expect(update.LastUpdateStatus).toBe("InProgress");
    const meanwhile = client.send(new UpdateFunctionConfigurationCommand({ FunctionName: "changing", Timeout: 9 }));
    await expect(meanwhile).rejects.toMatchObject({
      name: "ResourceConflictException", message: "The operation cannot be performed at this time. An update is in progress for resource: arn:aws:lambda:us-east-1:123456789012:function:changing",
    });
    expect((await invoke(client, "changing", {})).payload["text"]).toBe("one");
    goOn();
    await updated("changing");
    expect((await invoke(client, "changing", {})).payload["text"]).toBe("two");
  });

  test("are cold after a change of their configuration", async () => {
    await create("configured");
    await invoke(client, "configured", {});
    await client.send(new UpdateFunctionConfigurationCommand({ FunctionName: "configured", Environment: { Variables: { COLOR: "red" } }, MemorySize: 300 }));
    await updated("configured");
    const { payload, log } = await invoke(client, "configured", {});
    expect(payload["color"]).toBe("red");
    expect(log).toMatch(/Memory Size: 300 MB.*Init Duration/);
    await until(() => emulator.environments.filter(({ deployment }) => deployment.functionName === "configured").length === 1);
  });

  test("are changed only at the revision that was asked for", async () => {
    await create("revised");
    const { RevisionId } = await client.send(new GetFunctionConfigurationCommand({ FunctionName: "revised" }));
    await client.send(new UpdateFunctionConfigurationCommand({ FunctionName: "revised", Timeout: 8, RevisionId }));
    await updated("revised");
    for (const command of [new UpdateFunctionConfigurationCommand({ FunctionName: "revised", RevisionId }), new PublishVersionCommand({ FunctionName: "revised", RevisionId })]) {
      await expect(client.send(command as PublishVersionCommand)).rejects.toMatchObject({ name: "PreconditionFailedException", $metadata: { httpStatusCode: 412 } });
    }
  });

  test("have the same hash for the same code, so that a deployment can leave it alone", async () => {
    await create("hashed");
    const { CodeSha256 } = await client.send(new GetFunctionConfigurationCommand({ FunctionName: "hashed" }));
    const dry = await client.send(new UpdateFunctionCodeCommand({ FunctionName: "hashed", ZipFile: await answering("one"), DryRun: true }));
    expect(dry.CodeSha256).toBe(CodeSha256);
    expect(dry.LastUpdateStatus).toBe("Successful");
  });

  test("take their code from S3, too", async () => {
    s3.put("code", "a b/function.zip", await answering("from S3"));
    await create("stored", { Code: { S3Bucket: "code", S3Key: "a b/function.zip" } });
    expect((await invoke(client, "stored", {})).payload["text"]).toBe("from S3");
    await expect(create("missing", { Code: { S3Bucket: "code", S3Key: "none.zip" } })).rejects.toMatchObject({
      name: "InvalidParameterValueException", message: expect.stringMatching(/^Error occurred while GetObject\. S3 Error Code: NoSuchKey\. S3 Error Message: /) as string,
    });
  });

  test("are gone when they are deleted, with their processes", async () => {
    await create("passing");
    await invoke(client, "passing", {});
    const pids = emulator.environments.filter(({ deployment }) => deployment.functionName === "passing").map(({ pid }) => pid);
    expect(pids).toHaveLength(1);
    await client.send(new DeleteFunctionCommand({ FunctionName: "passing" }));
    expect(emulator.functionNames).not.toContain("passing");
    await until(() => emulator.environments.every(({ deployment }) => deployment.functionName !== "passing"));
  });

  test.each([
    ["an old runtime", { Runtime: "nodejs20.x" as const }, /nodejs20\.x is no longer supported/],
    ["too little memory", { MemorySize: 64 }, /memorySize/],
    ["too long a time-out", { Timeout: 901 }, /timeout/],
    ["a variable of Lambda's own", { Environment: { Variables: { AWS_REGION: "x" } } }, /reserved keys.*AWS_REGION/],
    ["more than 4 KB of variables", { Environment: { Variables: { LONG: "x".repeat(4096) } } }, /exceeded the 4KB limit/],
    ["no zip", { Code: { ZipFile: Buffer.from("not a zip") } }, /Could not unzip uploaded file/],
    ["no code", { Code: {} }, /provide a source/],
    ["a role that there is not", { Role: "arn:aws:iam::123456789012:role/none" }, /cannot be assumed by Lambda/],
  ])("with %s are refused", async (_what, more, message) => {
    await expect(create("refused", more)).rejects.toMatchObject({ $metadata: { httpStatusCode: 400 }, message: expect.stringMatching(message) as string });
    expect(emulator.functionNames).not.toContain("refused");
  });

  test("of more than 50 MB in the request are refused", async () => {
    await expect(create("large", { Code: { ZipFile: Buffer.alloc(52_428_801) } })).rejects.toMatchObject({
      name: "RequestEntityTooLargeException", message: "Request must be smaller than 69905067 bytes for the CreateFunction operation", $metadata: { httpStatusCode: 413 },
    });
  });

  test("of more than 250 MB unzipped are refused, however small the zip", async () => {
    const code = await answering("one");
    // The size that its directory gives (PKWARE's APPNOTE, 4.3.12): read before anything is unzipped.
    code.writeUInt32LE(262_144_001, code.indexOf("PK\x01\x02") + 24);
    await expect(create("large", { Code: { ZipFile: code } })).rejects.toMatchObject({
      name: "InvalidParameterValueException", message: "Unzipped size must be smaller than 262144000 bytes",
    });
  });

  test("for another processor can be deployed, not invoked", async () => {
    const other = process.arch === "arm64" ? "x86_64" : "arm64";
    await create("other", { Architectures: [other] });
    expect(await client.send(new GetFunctionConfigurationCommand({ FunctionName: "other" }))).toMatchObject({ Architectures: [other] });
    await expect(invoke(client, "other", {})).rejects.toMatchObject({ name: "NotEmulatedException" });
  });
});

describe("versions and aliases", () => {
  test("a version keeps its code while the function changes, an alias moves from one to the next", async () => {
    await create("released");
    const first = await client.send(new PublishVersionCommand({ FunctionName: "released" }));
    expect(first.Version).toBe("1");
    expect((await client.send(new PublishVersionCommand({ FunctionName: "released" }))).Version).toBe("1");
    await client.send(new CreateAliasCommand({ FunctionName: "released", Name: "live", FunctionVersion: "1" }));

    await client.send(new UpdateFunctionCodeCommand({ FunctionName: "released", ZipFile: await answering("two"), Publish: true }));
    await updated("released");
    expect((await invoke(client, "released:live", {})).payload["text"]).toBe("one");
    expect((await invoke(client, "released", {}, { Qualifier: "1" })).version).toBe("1");
    await client.send(new UpdateAliasCommand({ FunctionName: "released", Name: "live", FunctionVersion: "2" }));
    const moved = await invoke(client, `arn:aws:lambda:us-east-1:123456789012:function:released:live`, {});
    expect(moved).toMatchObject({ version: "2", payload: { text: "two" } });

    expect(await client.send(new GetAliasCommand({ FunctionName: "released", Name: "live" }))).toMatchObject({ FunctionVersion: "2", AliasArn: expect.stringMatching(/:released:live$/) as string });
    const { Versions } = await client.send(new ListVersionsByFunctionCommand({ FunctionName: "released" }));
    expect(Versions?.map(({ Version }) => Version)).toEqual(["$LATEST", "1", "2"]);
    await expect(client.send(new DeleteFunctionCommand({ FunctionName: "released", Qualifier: "2" }))).rejects.toMatchObject({ name: "ResourceConflictException" });
    await client.send(new DeleteFunctionCommand({ FunctionName: "released", Qualifier: "1" }));
    await expect(invoke(client, "released:1", {})).rejects.toMatchObject({ name: "ResourceNotFoundException" });
    await client.send(new DeleteAliasCommand({ FunctionName: "released", Name: "live" }));
    await expect(invoke(client, "released:live", {})).rejects.toMatchObject({ name: "ResourceNotFoundException" });
  });

  test("an invocation that is under way ends on the code that it began with", async () => {
    const slow = (text: string): Promise<Buffer> => zipOf({ "index.mjs": `export const handler = async () => { await new Promise((done) => setTimeout(done, 500)); return { text: "${text}" }; };` });
    await create("pinned", { Code: { ZipFile: await slow("old") } });
    const underWay = invoke(client, "pinned", {});
    await until(() => emulator.environments.some(({ deployment, state }) => deployment.functionName === "pinned" && state === "running"));
    await client.send(new UpdateFunctionCodeCommand({ FunctionName: "pinned", ZipFile: await slow("new") }));
    await updated("pinned");
    expect((await invoke(client, "pinned", {})).payload["text"]).toBe("new");
    expect((await underWay).payload["text"]).toBe("old");
    await until(() => emulator.environments.filter(({ deployment }) => deployment.functionName === "pinned").length === 1);
  });
});

describe("concurrency, tags and the account", () => {
  test("a reservation is taken from the account, which keeps 100", async () => {
    await create("reserving");
    expect(await client.send(new PutFunctionConcurrencyCommand({ FunctionName: "reserving", ReservedConcurrentExecutions: 300 }))).toMatchObject({ ReservedConcurrentExecutions: 300 });
    expect((await client.send(new GetAccountSettingsCommand({}))).AccountLimit).toMatchObject({ ConcurrentExecutions: 1000, UnreservedConcurrentExecutions: 700 });
    await expect(client.send(new PutFunctionConcurrencyCommand({ FunctionName: "reserving", ReservedConcurrentExecutions: 901 }))).rejects.toMatchObject({
      name: "InvalidParameterValueException", message: expect.stringContaining("below its minimum value of [100]") as string,
    });
    await client.send(new DeleteFunctionConcurrencyCommand({ FunctionName: "reserving" }));
    expect((await client.send(new GetFunctionConcurrencyCommand({ FunctionName: "reserving" }))).ReservedConcurrentExecutions).toBeUndefined();
    expect((await client.send(new GetAccountSettingsCommand({}))).AccountLimit?.UnreservedConcurrentExecutions).toBe(1000);
  });

  test("tags come and go", async () => {
    await create("tagged", { Tags: { a: "1" } });
    const Resource = "arn:aws:lambda:us-east-1:123456789012:function:tagged";
    await client.send(new TagResourceCommand({ Resource, Tags: { b: "2 3" } }));
    await client.send(new UntagResourceCommand({ Resource, TagKeys: ["a"] }));
    expect((await client.send(new ListTagsCommand({ Resource }))).Tags).toEqual({ b: "2 3" });
  });
});

describe("roles", () => {
  const trust = JSON.stringify({ Version: "2012-10-17", Statement: [{ Effect: "Allow", Principal: { Service: "lambda.amazonaws.com" }, Action: "sts:AssumeRole" }] });
  const policy = JSON.stringify({ Version: "2012-10-17", Statement: [{ Effect: "Allow", Action: ["logs:CreateLogStream", "logs:PutLogEvents"], Resource: "arn:aws:logs:*:*:log-group:/aws/lambda/quiet:*" }] });

  test("a new role cannot be taken on at once, though IAM knows it", async () => {
    const goOn = emulator.stopClock();
    onTestFinished(goOn);
    const { Role } = await iam.send(new CreateRoleCommand({ RoleName: "young", AssumeRolePolicyDocument: trust, Description: "a <role> & more" }));
    await waitUntilRoleExists({ client: iam, ...waiting }, { RoleName: "young" });
    await expect(create("hasty", { Role: Role?.Arn ?? "" })).rejects.toMatchObject({
      name: "InvalidParameterValueException", message: "The role defined for the function cannot be assumed by Lambda.",
    });
    goOn();
    await known();
    await create("patient", { Role: Role?.Arn ?? "" });
    expect((await iam.send(new GetRoleCommand({ RoleName: "young" }))).Role).toMatchObject({ Arn: Role?.Arn, Description: "a <role> & more" });
  });

  test("a role that does not trust Lambda is never taken on", async () => {
    const { Role } = await iam.send(new CreateRoleCommand({ RoleName: "foreign", AssumeRolePolicyDocument: trust.replace("lambda.", "ec2.") }));
    await known();
    await expect(create("foreign", { Role: Role?.Arn ?? "" })).rejects.toMatchObject({ message: "The role defined for the function cannot be assumed by Lambda." });
  });

  test("policies are put, read and deleted; a role goes only without them", async () => {
    await iam.send(new CreateRoleCommand({ RoleName: "policies", AssumeRolePolicyDocument: trust }));
    await expect(iam.send(new CreateRoleCommand({ RoleName: "policies", AssumeRolePolicyDocument: trust }))).rejects.toMatchObject({ name: "EntityAlreadyExistsException" });
    await iam.send(new PutRolePolicyCommand({ RoleName: "policies", PolicyName: "logs", PolicyDocument: policy }));
    const { PolicyDocument } = await iam.send(new GetRolePolicyCommand({ RoleName: "policies", PolicyName: "logs" }));
    expect(decodeURIComponent(PolicyDocument ?? "")).toBe(policy);
    expect((await iam.send(new ListRolePoliciesCommand({ RoleName: "policies" }))).PolicyNames).toEqual(["logs"]);
    await expect(iam.send(new DeleteRoleCommand({ RoleName: "policies" }))).rejects.toMatchObject({ name: "DeleteConflictException" });
    await iam.send(new DeleteRolePolicyCommand({ RoleName: "policies", PolicyName: "logs" }));
    await iam.send(new DeleteRoleCommand({ RoleName: "policies" }));
    await expect(iam.send(new GetRoleCommand({ RoleName: "policies" }))).rejects.toMatchObject({ name: "NoSuchEntityException" });
    await expect(iam.send(new PutRolePolicyCommand({ RoleName: "none", PolicyName: "x", PolicyDocument: policy }))).rejects.toMatchObject({ name: "NoSuchEntityException" });
  });

  test("without leave to make its log group, a function's logs need one that is there", async () => {
    const { Role } = await iam.send(new CreateRoleCommand({ RoleName: "quiet", AssumeRolePolicyDocument: trust }));
    await iam.send(new PutRolePolicyCommand({ RoleName: "quiet", PolicyName: "logs", PolicyDocument: policy }));
    await known();
    await create("quiet", { Role: Role?.Arn ?? "" });
    await invoke(client, "quiet", {});
    expect(emulator.logGroupNames).not.toContain("/aws/lambda/quiet");
    await logs.send(new CreateLogGroupCommand({ logGroupName: "/aws/lambda/quiet" }));
    const { requestId } = await invoke(client, "quiet", {});
    const { events } = await logs.send(new FilterLogEventsCommand({ logGroupName: "/aws/lambda/quiet", filterPattern: `REPORT "${requestId}"` }));
    expect(events).toHaveLength(1);
    expect(events?.[0]?.message).toMatch(/^REPORT RequestId: .*Billed Duration: \d+ ms/);
  });
});

describe("log groups", () => {
  test("are made with a retention, listed, and deleted", async () => {
    await logs.send(new CreateLogGroupCommand({ logGroupName: "/aws/lambda/kept", tags: { a: "1" } }));
    await expect(logs.send(new CreateLogGroupCommand({ logGroupName: "/aws/lambda/kept" }))).rejects.toMatchObject({ name: "ResourceAlreadyExistsException" });
    await logs.send(new PutRetentionPolicyCommand({ logGroupName: "/aws/lambda/kept", retentionInDays: 14 }));
    await expect(logs.send(new PutRetentionPolicyCommand({ logGroupName: "/aws/lambda/kept", retentionInDays: 2 }))).rejects.toMatchObject({ name: "InvalidParameterException" });
    const { logGroups } = await logs.send(new DescribeLogGroupsCommand({ logGroupNamePrefix: "/aws/lambda/kept" }));
    expect(logGroups).toMatchObject([{ logGroupName: "/aws/lambda/kept", retentionInDays: 14 }]);
    await logs.send(new DeleteLogGroupCommand({ logGroupName: "/aws/lambda/kept" }));
    await expect(logs.send(new DeleteLogGroupCommand({ logGroupName: "/aws/lambda/kept" }))).rejects.toMatchObject({ name: "ResourceNotFoundException" });
  });

  test("hold what functions wrote, stream by stream, in pages", async () => {
    await create("talking");
    await invoke(client, "talking", {});
    const logStreamName = emulator.environments.find(({ deployment }) => deployment.functionName === "talking")?.logStream ?? "";
    const all = await logs.send(new GetLogEventsCommand({ logGroupName: "/aws/lambda/talking", logStreamName, startFromHead: true }));
    expect(all.events?.length).toBeGreaterThanOrEqual(4);
    const again = await logs.send(new GetLogEventsCommand({ logGroupName: "/aws/lambda/talking", logStreamName, nextToken: all.nextForwardToken }));
    expect(again).toMatchObject({ events: [], nextForwardToken: all.nextForwardToken });
    const first = await logs.send(new FilterLogEventsCommand({ logGroupName: "/aws/lambda/talking", limit: 1 }));
    expect(first.events).toHaveLength(1);
    expect(first.nextToken).toBeDefined();
  });
});

describe("signatures", () => {
  const wrong = { accessKeyId: "AKIA0000000000000000", secretAccessKey: "wrong" };

  test("a key that nobody knows, and a wrong secret, are refused in each service's own words", async () => {
    const { accessKeyId } = emulator.credentials;
    const secret = { accessKeyId, secretAccessKey: "wrong" };
    const list = new GetAccountSettingsCommand({});
    await expect(clientOf(emulator, wrong).send(list)).rejects.toMatchObject({ name: "UnrecognizedClientException", message: "The security token included in the request is invalid.", $metadata: { httpStatusCode: 403 } });
    await expect(clientOf(emulator, secret).send(list)).rejects.toMatchObject({ name: "InvalidSignatureException", $metadata: { httpStatusCode: 403 } });
    const options = { endpoint: emulator.endpoint, region: emulator.region, maxAttempts: 1 };
    await expect(new IAMClient({ ...options, credentials: wrong }).send(new GetRoleCommand({ RoleName: "x" }))).rejects.toMatchObject({ name: "InvalidClientTokenId" });
    await expect(new IAMClient({ ...options, credentials: secret }).send(new GetRoleCommand({ RoleName: "x" }))).rejects.toMatchObject({ name: "SignatureDoesNotMatch" });
    await expect(new CloudWatchLogsClient({ ...options, credentials: secret }).send(new DescribeLogGroupsCommand({}))).rejects.toMatchObject({ name: "InvalidSignatureException" });
  });

  test("temporary credentials need their token, and end", async () => {
    const sessionToken = randomBytes(20).toString("base64");
    const key = { accessKeyId: "ASIA0000000000000001", secretAccessKey: "secret" };
    emulator.keys.set(key.accessKeyId, { ...key, sessionToken });
    const list = new GetAccountSettingsCommand({});
    const options = { endpoint: emulator.endpoint, region: emulator.region, maxAttempts: 1 };
    await expect(new LambdaClient({ ...options, credentials: { ...key, sessionToken } }).send(list)).resolves.toBeDefined();
    await expect(new LambdaClient({ ...options, credentials: key }).send(list)).rejects.toMatchObject({ name: "UnrecognizedClientException" });
    emulator.keys.set(key.accessKeyId, { ...key, sessionToken, expiresAtMs: Date.now() - 1 });
    await expect(new LambdaClient({ ...options, credentials: { ...key, sessionToken } }).send(list)).rejects.toMatchObject({ name: "ExpiredTokenException" });
  });

  test("a request without a signature, and one whose body was changed on the way, are refused", async () => {
    const bare = await fetch(`${emulator.endpoint}/2015-03-31/functions`);
    expect([bare.status, bare.headers.get("x-amzn-errortype")]).toEqual([403, "MissingAuthenticationTokenException"]);

    const tampering = clientOf(emulator);
    tampering.middlewareStack.add((next) => (args) => {
      (args.request as { body: Buffer }).body = Buffer.from('{"b":2}');
      return next(args);
    }, { step: "finalizeRequest", priority: "low" });
    await expect(tampering.send(new InvokeCommand({ FunctionName: "new", Payload: '{"a":1}' }))).rejects.toMatchObject({ name: "InvalidSignatureException" });
  });
});
