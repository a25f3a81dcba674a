import { existsSync } from "node:fs";
import { readFile, readdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { CreateBucketCommand, S3Client as SdkClient } from "@aws-sdk/client-s3";
import sharp from "sharp";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, onTestFinished, test } from "vitest";
import type { S3Client } from "../../task-manager/s3-client.ts";
import type { CliEnd } from "../support/cli.ts";
import { jsonLines, splitrun, startSplitrun } from "../support/cli.ts";
import { temporaryFolder } from "../support/function-task.ts";
import { colors } from "../support/inference-task.ts";
import { meanColorModel } from "../support/onnx.ts";
import { clientOf, forgetConfiguration, setCredentials } from "../support/s3/client.ts";
import type { Credentials } from "../support/s3/client.ts";
import { radosgwMissing, startRadosgw } from "../support/s3/radosgw.ts";
import { startS3Server } from "../support/s3/server.ts";
import type { S3Request, S3Server } from "../support/s3/server.ts";

type Color = "red" | "green" | "blue";
const colorNames: readonly Color[] = ["red", "green", "blue"];

interface Line {
  readonly index: number;
  readonly input: string;
  readonly version?: string;
  readonly output?: { readonly label: string };
  readonly error?: { readonly code: string; readonly message: string };
  readonly attempts: number;
}

interface Summary {
  readonly state: string;
  readonly counts: { readonly items: number; readonly succeeded: number; readonly failed: number; readonly reused: number };
}

interface Store {
  readonly endpoint: string;
  readonly credentials: Credentials;
}

const shrink = ["task.preprocess.resize.width=8", "task.preprocess.resize.height=8", "task.preprocess.resize.fit=fill", "task.preprocess.crop=null"];
const ownModel = ["--model", "model.onnx", "--set", 'task.postprocess.labels=["red","green","blue"]'];

function environmentOf({ endpoint, credentials }: Store, region = "us-east-1"): Readonly<Record<string, string>> {
  return {
    AWS_ENDPOINT_URL_S3: endpoint,
    AWS_REGION: region,
    AWS_ACCESS_KEY_ID: credentials.accessKeyId,
    AWS_SECRET_ACCESS_KEY: credentials.secretAccessKey,
  };
}

async function picture(color: Color): Promise<Buffer> {
  return sharp({ create: { width: 24, height: 16, channels: 3, background: colors[color] } }).png().toBuffer();
}

/** A folder with a model, in which `splitrun` runs on a store. */
interface Workplace {
  readonly folder: string;
  run(flags: readonly string[], settings?: readonly string[], env?: Readonly<Record<string, string>>): Promise<CliEnd>;
  /** What is in the journal of its output, by index. */
  lines(): Promise<readonly Line[]>;
}

async function workplaceOn(store: Store): Promise<Workplace> {
  const folder = await temporaryFolder(onTestFinished);
  await writeFile(path.join(folder, "model.onnx"), meanColorModel({ input: ["N", 3, "H", "W"] }));
  return {
    folder,
    run: (flags, settings = [], env = environmentOf(store)) => splitrun(argumentsOf(flags, settings), { cwd: folder, env }),
    async lines() {
      const lines = await jsonLines<Line>(path.join(folder, "out", "results.jsonl"));
      return lines.toSorted((a, b) => a.index - b.index);
    },
  };
}

function argumentsOf(flags: readonly string[], settings: readonly string[]): readonly string[] {
  return ["run", "--json", "--output", "out", ...flags, ...[...shrink, ...settings].flatMap((each) => ["--set", each])];
}

function summaryOf(end: CliEnd): Summary {
  return JSON.parse(end.stdout) as Summary;
}

async function until(condition: () => Promise<boolean>): Promise<void> {
  while (!await condition()) await delay(20);
}

const labelsOf = (lines: readonly Line[]): readonly unknown[] => lines.map(({ output, error }) => output?.label ?? error?.code);

/** Pictures below `p/`, a third of them of each colour, and the model. */
async function fill(client: S3Client, bucket: string, count: number): Promise<void> {
  const pictures = await Promise.all(colorNames.map(picture));
  const put = (key: string, body: Buffer) => client.put({ bucket, key }, body, { condition: "none", contentType: "application/octet-stream" });
  for (let n = 0; n < count; n += 1) await put(keyOf(n), pictures[n % 3] ?? Buffer.alloc(0));
  await put("p/notes.txt", Buffer.from("no picture"));
  await put("models/colors.onnx", meanColorModel({ input: ["N", 3, "H", "W"] }));
  await put("models/labels.txt", Buffer.from("rot\ngruen\nblau\n"));
}

const keyOf = (n: number): string => `p/${String(n).padStart(3, "0")} ${colorNames[n % 3] ?? ""}+%41.png`;
const numbers = (count: number): readonly number[] => Array.from({ length: count }, (_, n) => n);
const colorOf = (n: number): string => colorNames[n % 3] ?? "";

function jobsOn(name: string, missing: string | null, start: () => Promise<{ readonly store: Store; createBucket(bucket: string): Promise<void>; stop(): Promise<void> }>): void {
  describe.skipIf(missing !== null)(`a job on ${name}${missing === null ? "" : ` (${missing})`}`, () => {
    const count = 12;
    let started: Awaited<ReturnType<typeof start>>;
    let store: Store;
    let client: S3Client;

    beforeAll(async () => {
      forgetConfiguration();
      started = await start();
      store = started.store;
      setCredentials(store.credentials);
      client = clientOf(store.endpoint);
      await started.createBucket("pictures");
      await fill(client, "pictures", count);
    });
    afterAll(async () => {
      client.close();
      await started.stop();
    });

    const put = (key: string, body: Buffer | string) =>
      client.put({ bucket: "pictures", key }, Buffer.from(body), { condition: "none", contentType: "text/plain" });

    test("takes the pictures below a prefix, and model and labels from there; a changed one is done again, and no other", async () => {
      const { run, lines } = await workplaceOn(store);
      const flags = ["--input", "s3://pictures/p/", "--model", "s3://pictures/models/colors.onnx", "--labels", "s3://pictures/models/labels.txt"];
      const german = ["rot", "gruen", "blau"];
      const first = await run(flags);
      expect(first.code, first.stderr).toBe(0);
      const done = await lines();
      expect(done.map(({ input }) => input)).toEqual(numbers(count).map((n) => `s3://pictures/${keyOf(n)}`));
      expect(labelsOf(done)).toEqual(numbers(count).map((n) => german[n % 3]));
      expect(done.every(({ version }) => version !== undefined && /^[0-9a-f]{32}$/.test(version))).toBe(true);

      await put(keyOf(0), await picture("blue"));
      const second = await run(flags);
      expect(summaryOf(second).counts).toMatchObject({ items: count, succeeded: count, reused: count - 1 });
      expect(labelsOf(await lines())).toEqual(["blau", ...numbers(count).slice(1).map((n) => german[n % 3])]);
      await put(keyOf(0), await picture("red"));
    });

    test("takes a list that is an object, counted first where the policy wants it", async () => {
      await put("list.csv", `name,image\n${numbers(count).map((n) => `n${n},${keyOf(n)}\n`).join("")}`);
      const { run, lines } = await workplaceOn(store);
      const end = await run([...ownModel, "--input", "s3://pictures/list.csv", "--column", "image", "--policy", "default"], ["bucket=pictures"]);
      expect(end.code, end.stderr).toBe(0);
      expect(labelsOf(await lines())).toEqual(numbers(count).map(colorOf));
    });

    test("takes the plain keys of a local list as keys of its bucket; one that is not there is that item's error", async () => {
      const { folder, run, lines } = await workplaceOn(store);
      await writeFile(path.join(folder, "keys.txt"), [keyOf(0), "p/none.png", keyOf(1), `s3://pictures/${keyOf(2)}`, "s3://none-such/x.png", ""].join("\n"));
      const end = await run([...ownModel, "--input", "keys.txt"], ["bucket=pictures"]);
      expect(end.code, end.stderr).toBe(1);
      const done = await lines();
      expect(labelsOf(done)).toEqual(["red", "INPUT_NOT_FOUND", "green", "blue", "INPUT_NOT_FOUND"]);
      expect(done[1]).toMatchObject({ input: "s3://pictures/p/none.png", attempts: 1 });
      expect(done[4]?.error?.message).toContain("no bucket none-such");
    });
  });
}

jobsOn("our own server", null, async () => {
  const server = await startS3Server({ pageKeysMax: 5 });
  return { store: server, createBucket: async (bucket) => server.createBucket(bucket), stop: () => server.stop() };
});

jobsOn("Ceph radosgw", radosgwMissing(), async () => {
  const gateway = await startRadosgw();
  return {
    store: gateway,
    async createBucket(Bucket) {
      const client = new SdkClient({ endpoint: gateway.endpoint, region: "us-east-1", forcePathStyle: true });
      await client.send(new CreateBucketCommand({ Bucket }));
      client.destroy();
    },
    stop: () => gateway.stop(),
  };
});

describe("with S3 in trouble", () => {
  let server: S3Server;

  beforeEach(async () => {
    forgetConfiguration();
    server = await startS3Server();
    server.createBucket("pictures");
    setCredentials(server.credentials);
    const client = clientOf(server.endpoint);
    await fill(client, "pictures", 24);
    client.close();
    // What a run is to know of it, it is told.
    forgetConfiguration();
  });
  afterEach(() => server.stop());

  const isPicture = ({ key }: S3Request): boolean => key.endsWith(".png");

  test("what asks for fewer requests gets its items done, and no try is spent", async () => {
    const { run, lines } = await workplaceOn(server);
    const fault = server.fault({ kind: "error", status: 503, code: "SlowDown" }, { operation: "GetObject", times: 9, when: isPicture });
    const end = await run([...ownModel, "--input", "s3://pictures/p/"]);
    expect(end.code, end.stderr).toBe(0);
    expect(fault.taken).toBe(9);
    const done = await lines();
    expect(labelsOf(done)).toEqual(numbers(24).map(colorOf));
    expect(done.filter(({ attempts }) => attempts !== 1)).toEqual([]);
  });

  test("a bucket that answers nothing else ends its own items, and holds up no other's", async () => {
    server.createBucket("busy");
    server.fault({ kind: "error", status: 503, code: "SlowDown" }, { times: Infinity, when: ({ bucket }) => bucket === "busy" });
    const { folder, run, lines } = await workplaceOn(server);
    const list = numbers(24).map((n) => `s3://${n % 4 === 0 ? "busy" : "pictures"}/${keyOf(n)}`);
    await writeFile(path.join(folder, "list.txt"), list.join("\n"));
    const end = await run([...ownModel, "--input", "list.txt"], ["task.download.hostBlockedMs=1500"]);
    expect(end.code, end.stderr).toBe(1);
    expect(labelsOf(await lines())).toEqual(numbers(24).map((n) => (n % 4 === 0 ? "HOST_BLOCKED" : colorOf(n))));
  });

  test("bodies that break off, and errors of the server, are tried again", async () => {
    const { run, lines } = await workplaceOn(server);
    server.fault({ kind: "cut-answer", afterBytes: 20 }, { when: ({ key }) => key === keyOf(3) });
    server.fault({ kind: "error", status: 500, code: "InternalError" }, { when: ({ key }) => key === keyOf(4) });
    const end = await run([...ownModel, "--input", "s3://pictures/p/*.png"]);
    expect(end.code, end.stderr).toBe(0);
    const done = await lines();
    expect(labelsOf(done)).toEqual(numbers(24).map(colorOf));
    expect(done.filter(({ attempts }) => attempts > 1).map(({ index }) => index)).toEqual([3, 4]);
  });

  test("an orchestrator that is killed goes on from the list that it had, and does nothing twice that was stored", async () => {
    const { folder, lines } = await workplaceOn(server);
    const slow = server.fault({ kind: "slow", delayMs: 150 }, { times: Infinity, when: isPicture });
    const env = environmentOf(server);
    const running = startSplitrun(argumentsOf([...ownModel, "--input", "s3://pictures/p/"], ["task.download.perHost.concurrency=2"]), { cwd: folder, env });
    await until(async () => (await lines().catch(() => [])).length >= 4);
    running.child.kill("SIGKILL");
    await running.ended;
    const stored = (await lines()).map(({ input }) => input);
    slow.remove();
    server.put("pictures", "p/000 a new one.png", await picture("blue"));
    const before = server.requests.length;
    const end = await splitrun(["resume", "out", "--json"], { cwd: folder, env });
    expect(end.code, end.stderr).toBe(0);
    expect(labelsOf(await lines())).toEqual(numbers(24).map(colorOf));
    const again = server.requests.slice(before).filter(({ operation, key }) => operation === "GetObject" && stored.includes(`s3://pictures/${key}`));
    expect(again).toEqual([]);
    expect(summaryOf(await splitrun(["verify", "out", "--json"], { cwd: folder }))).toMatchObject({ ok: true });
  });

  test("a list that may not be read is refused before anything starts, with the way out", async () => {
    const { folder, run } = await workplaceOn(server);
    const env = environmentOf(server);
    const { AWS_ACCESS_KEY_ID: _id, AWS_SECRET_ACCESS_KEY: _secret, ...nobody } = env;
    const { AWS_REGION: _region, ...nowhere } = env;
    const refusals: readonly (readonly [string, Readonly<Record<string, string>>, string, string])[] = [
      ["s3://pictures/p/", { ...env, AWS_SECRET_ACCESS_KEY: "wrong" }, "INPUT_UNREADABLE", "are refused"],
      ["s3://pictures/p/", nobody, "INPUT_UNREADABLE", "AWS_PROFILE"],
      ["s3://pictures/p/", nowhere, "INPUT_UNREADABLE", "AWS_REGION"],
      ["s3://none-such/p/", env, "INPUT_NOT_FOUND", "no bucket none-such"],
      ["s3://pictures/p", env, "INPUT_NOT_FOUND", "a / at its end"],
    ];
    await Promise.all(refusals.map(async ([input, environment, code, wayOut]) => {
      const end = await run([...ownModel, "--input", input], [], environment);
      expect(end.code, end.stderr).toBe(2);
      expect(JSON.parse(end.stdout)).toMatchObject({ error: { code, field: "input", message: expect.stringContaining(wayOut) } });
    }));
    expect(existsSync(path.join(folder, "out"))).toBe(false);
  });

  test("items that may not be read are errors that say why, and the secret is nowhere", async () => {
    const { folder, run, lines } = await workplaceOn(server);
    await writeFile(path.join(folder, "list.txt"), `s3://pictures/${keyOf(0)}\ns3://pictures/${keyOf(1)}\n`);
    const wrong = { ...environmentOf(server), AWS_SECRET_ACCESS_KEY: "a-wrong-secret-0123456789" };
    const end = await run([...ownModel, "--input", "list.txt"], [], wrong);
    expect(end.code, end.stderr).toBe(1);
    expect(labelsOf(await lines())).toEqual(["DOWNLOAD_CREDENTIALS", "DOWNLOAD_CREDENTIALS"]);
    const texts = await Promise.all((await readdir(path.join(folder, "out"), { recursive: true, withFileTypes: true }))
      .filter((entry) => entry.isFile()).map((entry) => readFile(path.join(entry.parentPath, entry.name), "latin1")));
    expect(texts.join("\n")).not.toContain("a-wrong-secret");
    expect(end.stderr + end.stdout).not.toContain("a-wrong-secret");
    const resumed = await splitrun(["resume", "out", "--json", "--retry-failed"], { cwd: folder, env: environmentOf(server) });
    expect(resumed.code, resumed.stderr).toBe(0);
  });

  test("a bucket whose owner wants the requester to pay is read where the job says so", async () => {
    server.createBucket("paid", { requesterPays: true });
    server.put("paid", "a.png", await picture("green"));
    const { run, lines } = await workplaceOn(server);
    const refused = await run([...ownModel, "--input", "s3://paid/"]);
    expect(refused.code, refused.stderr).toBe(2);
    const end = await run([...ownModel, "--input", "s3://paid/"], ["s3.requesterPays=true"]);
    expect(end.code, end.stderr).toBe(0);
    expect(labelsOf(await lines())).toEqual(["green"]);
  });
});
