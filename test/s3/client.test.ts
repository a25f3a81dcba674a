import { readFile, rm, writeFile, mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { S3Failure, createS3Client, parseS3Url, s3Url } from "../../task-manager/s3-client.ts";
import type { PutOptions, S3Client, S3ClientOptions, S3ListedObject } from "../../task-manager/s3-client.ts";
import { clientOf, clientOptions, forgetConfiguration, setCredentials } from "../support/s3/client.ts";
import { radosgwMissing, startRadosgw } from "../support/s3/radosgw.ts";
import { startS3Server } from "../support/s3/server.ts";
import type { S3Server } from "../support/s3/server.ts";

const bucket = "pictures";
const once: PutOptions = { condition: "none", contentType: "application/octet-stream" };
const absent: PutOptions = { ...once, condition: "absent" };
const maxBytes = 50 * 2 ** 20;
const at = (key: string) => ({ bucket, key });
const impatient: Partial<S3ClientOptions> = { retries: { ...clientOptions.retries, attemptsMax: 1 } };

let server: S3Server;
const clients: S3Client[] = [];

function client(more: Partial<S3ClientOptions> = {}): S3Client {
  const created = clientOf(server.endpoint, more);
  clients.push(created);
  return created;
}

beforeEach(async () => {
  forgetConfiguration();
  server = await startS3Server({ partBytesMin: 10, pageKeysMax: 7 });
  server.createBucket(bucket);
  setCredentials(server.credentials);
});
afterEach(async () => {
  for (const each of clients.splice(0)) each.close();
  await server.stop();
});

describe("an s3:// URL", () => {
  test.each([
    ["s3://b/k", "b", "k"],
    ["s3://b/p/a b+%41?#.jpg", "b", "p/a b+%41?#.jpg"],
    ["s3://b", "b", ""],
    ["s3://b/", "b", ""],
    ["S3://b//x", "b", "/x"],
  ])("%s names bucket %s and the key as it stands: %s", (url, name, key) => {
    expect(parseS3Url(url)).toEqual({ bucket: name, key });
  });

  test.each(["s3:/b/k", "http://b/k", "s3:///k", "", "b/k"])("%j is none", (url) => {
    expect(parseS3Url(url)).toBeNull();
  });

  test("is written as it is read", () => {
    expect(s3Url({ bucket: "b", key: "a b/ü" })).toBe("s3://b/a b/ü");
  });
});

describe("reading", () => {
  test("gives the whole object, alone in its memory, and what it is called now", async () => {
    server.put(bucket, "a", Buffer.alloc(100_000, 7));
    const content = await client().get(at("a"), { maxBytes });
    expect(content.bytes.equals(Buffer.alloc(100_000, 7))).toBe(true);
    expect(content.bytes.buffer.byteLength).toBe(100_000);
    expect(content).toMatchObject({ objectBytes: 100_000, etag: server.object(bucket, "a")?.etag });
  });

  test("gives a part, and says how large the whole is", async () => {
    server.put(bucket, "a", "0123456789");
    const content = await client().get(at("a"), { maxBytes, range: { first: 2, last: 4 } });
    expect([content.bytes.toString(), content.objectBytes]).toEqual(["234", 10]);
  });

  test("does not begin what is too large, and leaves no socket behind", async () => {
    server.put(bucket, "large", Buffer.alloc(3_000_000));
    server.put(bucket, "small", "x");
    const narrow = client({ socketsMax: 1 });
    for (let round = 0; round < 3; round += 1) {
      await expect(narrow.get(at("large"), { maxBytes: 1000 })).rejects.toMatchObject({ code: "S3_TOO_LARGE", message: expect.stringContaining("3000000") });
    }
    expect((await narrow.get(at("small"), { maxBytes })).bytes.toString()).toBe("x");
  });

  test("of an object that was replaced meanwhile says so", async () => {
    server.put(bucket, "a", "first");
    const { etag } = await client().get(at("a"), { maxBytes });
    server.put(bucket, "a", "second");
    await expect(client().get(at("a"), { maxBytes, etag })).rejects.toMatchObject({ code: "S3_PRECONDITION", retryable: false });
  });

  test("begins again when the body breaks off, as often as it may", async () => {
    server.put(bucket, "a", Buffer.alloc(100_000, 7));
    server.fault({ kind: "cut-answer", afterBytes: 50_000 }, { times: 2 });
    expect((await client().get(at("a"), { maxBytes })).bytes.length).toBe(100_000);
    expect(server.count("GetObject")).toBe(3);
    server.fault({ kind: "cut-answer", afterBytes: 50_000 }, { times: Infinity });
    await expect(client().get(at("a"), { maxBytes })).rejects.toMatchObject({ code: "S3_CUT", retryable: true, message: expect.stringMatching(/of 100000 bytes/) });
    expect(server.count("GetObject")).toBe(8);
  });

  test.each(["stall-answer", "hang"] as const)("begins again when nothing comes any more (%s)", async (kind) => {
    server.put(bucket, "a", Buffer.alloc(100_000, 7));
    const fault = server.fault(kind === "hang" ? { kind } : { kind, afterBytes: 50_000 });
    expect((await client({ idleTimeoutMs: 200 }).get(at("a"), { maxBytes })).bytes.length).toBe(100_000);
    expect(fault.taken).toBe(1);
    // On a busy machine another answer may come too late, too.
    expect(server.count("GetObject")).toBeGreaterThanOrEqual(2);
  });

  test("begins again when a byte was changed on the way", async () => {
    const own = client();
    await own.put(at("a"), Buffer.alloc(1000, 7), once);
    server.fault({ kind: "damage-answer", atByte: 500 });
    expect((await own.get(at("a"), { maxBytes })).bytes.equals(Buffer.alloc(1000, 7))).toBe(true);
    server.fault({ kind: "damage-answer", atByte: 500 }, { times: Infinity });
    await expect(own.get(at("a"), { maxBytes })).rejects.toMatchObject({ code: "S3_DAMAGED" });
  });

  test("tries nothing twice where it is told so", async () => {
    server.put(bucket, "a", "text");
    for (const [fault, code] of [
      [{ kind: "cut-answer", afterBytes: 1 }, "S3_CUT"],
      [{ kind: "reset" }, "S3_UNREACHABLE"],
      [{ kind: "error", status: 503, code: "SlowDown" }, "S3_SLOW_DOWN"],
      [{ kind: "error", status: 500, code: "InternalError" }, "S3_SERVER"],
    ] as const) {
      const before = server.count("GetObject");
      server.fault(fault);
      await expect(client(impatient).get(at("a"), { maxBytes })).rejects.toMatchObject({ code, retryable: true });
      expect(server.count("GetObject")).toBe(before + 1);
    }
  });

  test("ends when it is told to end, and says that", async () => {
    server.put(bucket, "a", Buffer.alloc(100_000));
    server.fault({ kind: "stall-answer", afterBytes: 10 });
    const ending = new AbortController();
    const reading = client().get(at("a"), { maxBytes, signal: ending.signal });
    while (server.requests.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    ending.abort();
    await expect(reading).rejects.toMatchObject({ code: "S3_ABORTED", retryable: false });
    server.fault({ kind: "error", status: 503, code: "SlowDown" }, { times: Infinity });
    const pausing = client({ retries: { attemptsMax: 9, pauseMs: 60_000, pauseMsMax: 600_000 } })
      .get(at("a"), { maxBytes, signal: AbortSignal.timeout(200) });
    await expect(pausing).rejects.toMatchObject({ code: "S3_ABORTED" });
  });

  test("an object that is not there has no stat; one that is has its metadata", async () => {
    const own = client();
    expect(await own.head(at("nothing"))).toBeNull();
    await own.put(at("a"), Buffer.from("text"), { ...once, metadata: { k: "v" } });
    expect(await own.head(at("a"))).toMatchObject({ bytes: 4, metadata: { k: "v" } });
    await expect(own.head({ bucket: "no-such-bucket", key: "a" })).resolves.toBeNull();
  });
});

describe("listing", () => {
  async function all(of: S3Client, prefix: string, startAfter: string | null = null): Promise<readonly S3ListedObject[]> {
    const pages: S3ListedObject[][] = [];
    for await (const page of of.list({ bucket, key: prefix }, { startAfter })) pages.push([...page]);
    return pages.flat();
  }

  test("gives every object once, in order, whatever S3 makes of pages, and goes on behind a name", async () => {
    const keys = Array.from({ length: 40 }, (_, number) => `p/${String(number).padStart(3, "0")}`);
    for (const key of [...keys, "q/other"]) server.put(bucket, key, key);
    const listed = await all(client(), "p/");
    expect(listed.map(({ key }) => key)).toEqual(keys);
    expect(listed[3]).toMatchObject({ bytes: 5, etag: server.object(bucket, "p/003")?.etag });
    expect((await all(client(), "p/", "p/035")).map(({ key }) => key)).toEqual(keys.slice(36));
    expect(await all(client(), "none/")).toEqual([]);
  });

  test("gives keys of any characters", async () => {
    const keys = ["p/\u0001", "p/ a+b%41&<ü>", "p/～", "p/😀"];
    for (const key of keys) server.put(bucket, key, "");
    expect((await all(client(), "p/")).map(({ key }) => key)).toEqual(keys);
  });

  test("goes on where it was when S3 asks for fewer requests", async () => {
    for (let number = 0; number < 30; number += 1) server.put(bucket, `p/${number + 10}`, "");
    server.fault({ kind: "error", status: 503, code: "SlowDown" }, { times: 3, when: ({ query }) => query.has("continuation-token") });
    expect(await all(client(), "p/")).toHaveLength(30);
    expect(server.count("ListObjectsV2")).toBe(8);
  });
});

describe("putting", () => {
  test("puts bytes, their type and metadata", async () => {
    const etag = await client().put(at("a"), Buffer.from("text"), { ...once, contentType: "text/plain", metadata: { k: "v" } });
    expect(server.object(bucket, "a")).toMatchObject({ etag, headers: { "content-type": "text/plain", "x-amz-meta-k": "v" } });
  });

  test("where nothing may be yet finds what somebody else put", async () => {
    server.put(bucket, "a", "theirs");
    await expect(client().put(at("a"), Buffer.from("mine"), absent)).rejects.toMatchObject({ code: "S3_PRECONDITION" });
    expect(server.object(bucket, "a")?.body.toString()).toBe("theirs");
  });

  test("knows its own object again when the answer was lost", async () => {
    server.fault({ kind: "lose-answer" }, { operation: "PutObject" });
    const etag = await client().put(at("a"), Buffer.from("mine"), absent);
    expect(server.count("PutObject")).toBe(2);
    expect(server.object(bucket, "a")).toMatchObject({ etag, body: Buffer.from("mine") });
  });

  test("does not take an equal object of another for its own", async () => {
    const [mine, theirs] = [client(), client()];
    await theirs.put(at("a"), Buffer.from("same"), absent);
    await expect(mine.put(at("a"), Buffer.from("same"), absent)).rejects.toMatchObject({ code: "S3_PRECONDITION" });
  });

  test("swaps a value that is still the one that was read, and no other", async () => {
    const own = client();
    const first = await own.put(at("lease"), Buffer.from("a"), absent);
    server.fault({ kind: "lose-answer" }, { operation: "PutObject" });
    const second = await own.put(at("lease"), Buffer.from("b"), { ...once, condition: { etag: first } });
    await expect(own.put(at("lease"), Buffer.from("c"), { ...once, condition: { etag: first } })).rejects.toMatchObject({ code: "S3_PRECONDITION" });
    expect(server.object(bucket, "lease")).toMatchObject({ etag: second, body: Buffer.from("b") });
  });

  test.each([
    ["SlowDown", { kind: "error", status: 503, code: "SlowDown" }],
    ["a conflict", { kind: "error", status: 409, code: "ConditionalRequestConflict" }],
    ["an internal error", { kind: "error", status: 500, code: "InternalError" }],
    ["a reset", { kind: "reset" }],
    ["a connection cut in the middle", { kind: "cut-upload", afterBytes: 10_000 }],
    ["silence", { kind: "hang" }],
  ] as const)("is tried again after %s", async (_what, fault) => {
    server.fault(fault, { times: 2, operation: "PutObject" });
    await client({ idleTimeoutMs: 500 }).put(at("a"), Buffer.alloc(200_000, 7), absent);
    expect(server.object(bucket, "a")?.body.length).toBe(200_000);
    expect(server.count("PutObject")).toBeGreaterThanOrEqual(3);
  });

  test("pays where the requester pays, and encrypts as it is told", async () => {
    server.createBucket("paid", { requesterPays: true });
    await expect(client().put({ bucket: "paid", key: "a" }, Buffer.from("x"), once)).rejects.toMatchObject({ code: "S3_ACCESS_DENIED" });
    const paying = client({ requesterPays: true, encryption: { kind: "kms", keyId: "key-1" }, storageClass: "STANDARD_IA" });
    await paying.put({ bucket: "paid", key: "a" }, Buffer.from("x"), once);
    await paying.putParts({ bucket: "paid", key: "b" }, [Buffer.from("x")], once);
    for (const key of ["a", "b"]) {
      expect(server.object("paid", key)?.headers).toMatchObject({ "x-amz-server-side-encryption": "aws:kms", "x-amz-server-side-encryption-aws-kms-key-id": "key-1", "x-amz-storage-class": "STANDARD_IA" });
      expect((await paying.get({ bucket: "paid", key }, { maxBytes })).bytes.toString()).toBe("x");
    }
    for await (const page of paying.list({ bucket: "paid", key: "" }, { startAfter: null })) expect(page).toHaveLength(2);
    await paying.delete("paid", ["a", "b"]);
    expect(server.keysOf("paid")).toEqual([]);
  });

  test("sends checksums, or none to stores that know none", async () => {
    const sent = (): readonly string[] => Object.keys(server.requests.at(-1)?.headers ?? {}).filter((name) => name.startsWith("x-amz-checksum"));
    await client().put(at("a"), Buffer.from("x"), once);
    expect(sent()).toEqual(["x-amz-checksum-crc32"]);
    await client({ checksums: "when-required" }).put(at("a"), Buffer.from("x"), once);
    expect(sent()).toEqual([]);
  });

  test("deletes more objects than S3 takes at once, those among them that are gone too", async () => {
    const keys = Array.from({ length: 1100 }, (_, number) => `p/${number}`);
    for (const key of keys.slice(0, 1050)) server.put(bucket, key, "");
    server.fault({ kind: "reset" }, { operation: "DeleteObjects" });
    await client().delete(bucket, keys);
    expect(server.keysOf(bucket)).toEqual([]);
  });
});

describe("putting in parts", () => {
  const part = (number: number) => Buffer.alloc(1000 + number, number);
  const parts = (count: number) => Array.from({ length: count }, (_, number) => part(number));

  test("joins them in their order", async () => {
    const etag = await client().putParts(at("a"), parts(11), once);
    expect(server.object(bucket, "a")).toMatchObject({ etag, body: Buffer.concat(parts(11)) });
    expect(etag).toMatch(/-11"$/);
  });

  test("sends again whatever went wrong, each by itself", async () => {
    server.fault({ kind: "error", status: 503, code: "SlowDown" }, { operation: "CreateMultipartUpload" });
    server.fault({ kind: "reset" }, { operation: "UploadPart", times: 3 });
    server.fault({ kind: "lose-answer" }, { operation: "UploadPart", times: 2 });
    server.fault({ kind: "error-in-200", code: "InternalError" }, { operation: "CompleteMultipartUpload" });
    server.fault({ kind: "lose-answer" }, { operation: "CompleteMultipartUpload" });
    await client().putParts(at("a"), parts(6), once);
    expect(server.object(bucket, "a")?.body.equals(Buffer.concat(parts(6)))).toBe(true);
    expect(server.uploadsOf(bucket)).toBe(0);
  });

  test("leaves nothing behind when a part cannot be sent", async () => {
    server.fault({ kind: "error", status: 403, code: "AccessDenied" }, { operation: "UploadPart", when: ({ query }) => query.get("partNumber") === "3" });
    await expect(client().putParts(at("a"), parts(9), once)).rejects.toMatchObject({ code: "S3_ACCESS_DENIED" });
    expect([server.object(bucket, "a"), server.uploadsOf(bucket)]).toEqual([null, 0]);
  });

  test("leaves nothing behind when the parts' own source fails", async () => {
    async function* failing(): AsyncGenerator<Buffer> {
      yield* parts(5);
      throw new Error("no more");
    }
    await expect(client().putParts(at("a"), failing(), once)).rejects.toThrow("no more");
    expect([server.object(bucket, "a"), server.uploadsOf(bucket)]).toEqual([null, 0]);
  });

  test("asks for no more parts than are on their way", async () => {
    let asked = 0;
    let sent = 0;
    function* counted(): Generator<Buffer> {
      for (const each of parts(12)) {
        sent = server.requests.filter(({ operation }) => operation === "UploadPart").length;
        expect(asked - sent).toBeLessThanOrEqual(4);
        asked += 1;
        yield each;
      }
    }
    server.fault({ kind: "slow", delayMs: 10 }, { operation: "UploadPart", times: 12 });
    await client().putParts(at("a"), counted(), once);
    expect(asked).toBe(12);
  });

  test("loses to an object that came first, and leaves nothing behind; knows its own where the answer was lost", async () => {
    server.fault({ kind: "lose-answer" }, { operation: "CompleteMultipartUpload" });
    await client().putParts(at("own"), parts(2), absent);
    server.put(bucket, "a", "theirs");
    await expect(client().putParts(at("a"), parts(2), absent)).rejects.toMatchObject({ code: "S3_PRECONDITION" });
    expect([server.object(bucket, "a")?.body.toString(), server.uploadsOf(bucket)]).toEqual(["theirs", 0]);
  });
});

describe("what cannot work", () => {
  async function failure(of: S3Client, key = "a"): Promise<S3Failure> {
    const error: unknown = await of.get(at(key), { maxBytes }).then(() => null, (reason: unknown) => reason);
    if (!(error instanceof S3Failure)) throw new Error(`not an S3Failure: ${String(error)}`);
    return error;
  }

  test("is told at once, with the way out", async () => {
    const { accessKeyId, secretAccessKey } = server.credentials;
    server.put(bucket, "a", "text");
    expect(await failure(client(), "nothing")).toMatchObject({ code: "S3_NO_SUCH_KEY", message: "s3://pictures/nothing: there is no such object" });
    await expect(client().get({ bucket: "no-such-bucket", key: "a" }, { maxBytes })).rejects.toMatchObject({ code: "S3_NO_SUCH_BUCKET", message: expect.stringContaining("check its name") });
    server.fault({ kind: "error", status: 403, code: "AccessDenied" });
    expect(await failure(client())).toMatchObject({ code: "S3_ACCESS_DENIED", message: expect.stringContaining("s3:GetObject on arn:aws:s3:::pictures/a") });
    server.fault({ kind: "error", status: 403, code: "InvalidObjectState" });
    expect(await failure(client())).toMatchObject({ code: "S3_ARCHIVED", message: expect.stringContaining("restore") });
    server.fault({ kind: "error", status: 400, code: "KMS.DisabledException" });
    expect(await failure(client())).toMatchObject({ code: "S3_ENCRYPTION", message: expect.stringContaining("kms:Decrypt") });
    server.fault({ kind: "error", status: 501, code: "NotImplemented" });
    expect(await failure(client())).toMatchObject({ code: "S3_UNSUPPORTED", message: expect.stringContaining("when-required") });
    server.fault({ kind: "error", status: 400, code: "Surprise" });
    expect(await failure(client())).toMatchObject({ code: "S3_REFUSED", message: expect.stringContaining("400 Surprise: on order") });
    expect(server.count("GetObject")).toBe(7);

    setCredentials({ accessKeyId, secretAccessKey: "wrong-secret" });
    expect(await failure(client())).toMatchObject({ code: "S3_CREDENTIALS_REFUSED", message: expect.stringContaining("SignatureDoesNotMatch") });
    setCredentials({ accessKeyId: "AKIANOBODY", secretAccessKey });
    expect(await failure(client())).toMatchObject({ code: "S3_CREDENTIALS_REFUSED" });
    server.keys.set("ASIAOLD", { accessKeyId: "ASIAOLD", secretAccessKey, sessionToken: "token", expiresAtMs: 1 });
    setCredentials({ accessKeyId: "ASIAOLD", secretAccessKey, sessionToken: "token" });
    expect(await failure(client())).toMatchObject({ code: "S3_CREDENTIALS_EXPIRED", message: expect.stringContaining("renew") });
    await expect(client().head(at("a"))).rejects.toMatchObject({ code: "S3_CREDENTIALS_EXPIRED" });
    setCredentials({ accessKeyId: "ASIAOLD", secretAccessKey, sessionToken: "stale-token" });
    const refused = await failure(client());
    expect(refused).toMatchObject({ code: "S3_CREDENTIALS_REFUSED" });
    expect(refused.message).not.toMatch(/stale-token|ASIAOLD/);
    expect(refused.message).not.toContain(secretAccessKey);
  });

  test("for want of credentials, of a region or of a profile names what to set", async () => {
    forgetConfiguration();
    expect(await failure(client())).toMatchObject({ code: "S3_NO_CREDENTIALS", message: expect.stringMatching(/AWS_PROFILE/) });
    expect(await failure(client({ profile: "night-shift" }))).toMatchObject({ code: "S3_NO_CREDENTIALS", message: expect.stringMatching(/night-shift/) });
    setCredentials(server.credentials);
    process.env["AWS_DEFAULT_REGION"] = "us-east-1";
    expect(await failure(client({ region: null }))).toMatchObject({ code: "S3_NO_REGION", message: expect.stringMatching(/AWS_REGION.*AWS_DEFAULT_REGION is not read/) });
  });

  test("for want of a server says so, after as many tries as it has", async () => {
    const gone = await startS3Server();
    await gone.stop();
    const lonely = clientOf(gone.endpoint, { retries: { attemptsMax: 2, pauseMs: 1, pauseMsMax: 1 } });
    clients.push(lonely);
    await expect(lonely.get(at("a"), { maxBytes })).rejects.toMatchObject({ code: "S3_UNREACHABLE", retryable: true, message: expect.stringContaining("ECONNREFUSED") });
  });
});

describe("where things are", () => {
  test("a bucket of another region is found by the first answer, and asked there from then on", async () => {
    server.createBucket("far", { region: "eu-central-1" });
    server.put("far", "a", "text");
    const own = client();
    for (let round = 0; round < 3; round += 1) expect((await own.get({ bucket: "far", key: "a" }, { maxBytes })).bytes.toString()).toBe("text");
    expect(server.count("GetObject")).toBe(4);
  });

  test("an endpoint from the environment is used, with the bucket in the path", async () => {
    server.put(bucket, "a", "text");
    process.env["AWS_ENDPOINT_URL_S3"] = server.endpoint.replace("127.0.0.1", "localhost");
    const own = createS3Client({ ...clientOptions, region: null });
    clients.push(own);
    process.env["AWS_REGION"] = "us-east-1";
    expect((await own.get(at("a"), { maxBytes })).bytes.toString()).toBe("text");
  });

  describe("as a profile says", () => {
    let folder: string;
    beforeAll(async () => { folder = await mkdtemp(path.join(tmpdir(), "splitrun-profile-")); });
    afterAll(() => rm(folder, { recursive: true, force: true }));

    test("keys and region come from it", async () => {
      const { accessKeyId, secretAccessKey } = server.credentials;
      forgetConfiguration();
      process.env["AWS_CONFIG_FILE"] = path.join(folder, "config");
      process.env["AWS_SHARED_CREDENTIALS_FILE"] = path.join(folder, "credentials");
      await writeFile(path.join(folder, "config"), "[profile night]\nregion = us-east-1\n");
      await writeFile(path.join(folder, "credentials"), `[night]\naws_access_key_id = ${accessKeyId}\naws_secret_access_key = ${secretAccessKey}\n`);
      server.put(bucket, "a", "text");
      expect((await client({ region: null, profile: "night" }).get(at("a"), { maxBytes })).bytes.toString()).toBe("text");
    });
  });
});

test("a client that asks for nothing does not load the SDK", async () => {
  const source = await readFile(path.resolve(import.meta.dirname, "../../task-manager/s3-client.ts"), "utf8");
  const loaded = [...source.matchAll(/^import (?!type)[^;]*"([^"]+)";/gm)].map(([, from]) => from);
  expect(loaded).not.toContain("./s3/sdk.ts");
  expect(loaded.filter((from) => from?.startsWith("@aws-sdk"))).toEqual([]);
});

const missing = radosgwMissing();

describe.skipIf(missing !== null)(missing === null ? "the same client at Ceph radosgw" : `the same client at Ceph radosgw (${missing})`, () => {
  let gateway: Awaited<ReturnType<typeof startRadosgw>>;
  let own: S3Client;

  beforeAll(async () => { gateway = await startRadosgw(); });
  afterAll(() => gateway?.stop());
  beforeEach(() => {
    setCredentials(gateway.credentials);
    own = clientOf(gateway.endpoint);
    clients.push(own);
  });

  test("puts, reads, lists and deletes; loses races; swaps values; joins parts; waits its turn", async () => {
    const { CreateBucketCommand, S3Client: Sdk } = await import("@aws-sdk/client-s3");
    const sdk = new Sdk({ endpoint: gateway.endpoint, region: "us-east-1", forcePathStyle: true });
    await sdk.send(new CreateBucketCommand({ Bucket: bucket }));
    sdk.destroy();

    await own.put(at("a b+ü"), Buffer.from("text"), absent);
    await expect(own.put(at("a b+ü"), Buffer.from("other"), absent)).rejects.toMatchObject({ code: "S3_PRECONDITION" });
    expect((await own.get(at("a b+ü"), { maxBytes, range: { first: 1, last: 2 } })).bytes.toString()).toBe("ex");

    const first = await own.put(at("lease"), Buffer.from("a"), absent);
    await own.put(at("lease"), Buffer.from("b"), { ...once, condition: { etag: first } });
    await expect(own.put(at("lease"), Buffer.from("c"), { ...once, condition: { etag: first } })).rejects.toMatchObject({ code: "S3_PRECONDITION" });
    expect((await own.get(at("lease"), { maxBytes })).bytes.toString()).toBe("b");

    const parts = [Buffer.alloc(5 * 2 ** 20, 1), Buffer.alloc(100, 2)];
    const etag = await own.putParts(at("parts"), parts, once);
    expect((await own.head(at("parts")))?.etag).toBe(etag);
    expect(etag).toMatch(/-2"$/);

    await gateway.limitConcurrency(2);
    const patient = clientOf(gateway.endpoint, { retries: { attemptsMax: 30, pauseMs: 5, pauseMsMax: 200 } });
    clients.push(patient);
    const read = await Promise.all(Array.from({ length: 10 }, () => patient.get(at("a b+ü"), { maxBytes })));
    expect(read.every(({ bytes }) => bytes.toString() === "text")).toBe(true);
    expect((await own.get(at("parts"), { maxBytes })).bytes.equals(Buffer.concat(parts))).toBe(true);
    await gateway.limitConcurrency(1000);

    const keys: string[] = [];
    for await (const page of own.list({ bucket, key: "" }, { startAfter: null })) keys.push(...page.map(({ key }) => key));
    expect(keys).toEqual(["a b+ü", "lease", "parts"]);
    await own.delete(bucket, keys);
    expect(await own.head(at("parts"))).toBeNull();
    await expect(own.get({ bucket: "no-such-bucket", key: "a" }, { maxBytes })).rejects.toMatchObject({ code: "S3_NO_SUCH_BUCKET" });
  });
});
