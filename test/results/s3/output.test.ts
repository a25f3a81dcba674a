import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import { parquetMetadata, parquetReadObjects } from "hyparquet";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { exportResults } from "../../../orchestrator/results/export.ts";
import { acquireLease, type Lease } from "../../../orchestrator/results/s3/lease.ts";
import { OutputObjects } from "../../../orchestrator/results/s3/objects.ts";
import { exportParts } from "../../../orchestrator/results/s3/read-parts.ts";
import { verifyOutput } from "../../../orchestrator/results/s3/verify-output.ts";
import { verify } from "../../../orchestrator/results/verify.ts";
import { clientOf, forgetConfiguration, setCredentials } from "../../support/s3/client.ts";
import { inOrder, linesOf, namesOf, partsOf, textOf, url } from "../../support/s3/output.ts";
import { type S3Server, startS3Server } from "../../support/s3/server.ts";
import { failure } from "../support.ts";
import { bucket, newDir, numbered, objectsAt, outputRun, rebuilt, receiptOf, root } from "./support.ts";

let server: S3Server;
beforeEach(async () => {
  forgetConfiguration();
  server = await startS3Server({ pageKeysMax: 7 });
  server.createBucket(bucket);
  setCredentials(server.credentials);
});
afterEach(() => server.stop());

const journalOf = (dir: string): Promise<string> => readFile(join(dir, "results.jsonl"), "utf8");
const part = (first: number, ending = "jsonl"): string => `parts/part-${String(first).padStart(12, "0")}.${ending}`;
const bodyOf = (name: string): Buffer => server.object(bucket, root + name)?.body ?? Buffer.alloc(0);
const changeTimes = (): ReadonlyMap<string, number | undefined> => new Map(server.keysOf(bucket).filter((key) => key.includes("/parts/")).map((key) => [key, server.object(bucket, key)?.modifiedMs]));

describe("an output in S3", () => {
  test("has the journal's very lines, a part a range of the input, and a manifest of them", async () => {
    const dir = await newDir();
    const { end } = await outputRun({ endpoint: server.endpoint, dir, items: numbered(123), end: (index) => (index % 9 === 4 ? failure : { output: { n: index, text: "ü\n" } }) });
    expect(end).toBeNull();
    const objects = objectsAt(server.endpoint);
    const journal = inOrder(await journalOf(dir));
    expect(await partsOf(objects)).toBe(journal);
    expect(await textOf(objects, part(30))).toBe(journal.split("\n").slice(30, 40).map((line) => `${line}\n`).join(""));
    const manifest = JSON.parse(await textOf(objects, "manifest.json")) as { readonly parts: readonly object[] };
    expect(manifest).toMatchObject({ items: 123, succeeded: 109, failed: 14, format: "jsonl", order: "input", partItems: 10 });
    expect(manifest.parts).toHaveLength(13);
    expect(manifest.parts[12]).toMatchObject({ name: part(120), first: 120, end: 123, succeeded: 2, failed: 1, bytes: bodyOf(part(120)).length, etag: server.object(bucket, root + part(120))?.etag });
    expect(await namesOf(objects)).toEqual(["_SUCCESS", "_splitrun/inputs/inputs-000000000000.jsonl", "_splitrun/lease.json", "_splitrun/run.json", "manifest.json", ...Array.from({ length: 13 }, (_, n) => part(n * 10))]);
    expect(await receiptOf(server.endpoint)).toMatchObject({ ok: true, items: 123, succeeded: 109, failed: 14, missing: 0, problems: [] });
  });

  test("is the same to the byte, whatever order items end in", async () => {
    const before = await newDir();
    await outputRun({ endpoint: server.endpoint, dir: before, items: numbered(60), seed: 2 });
    const parts = await partsOf(objectsAt(server.endpoint));
    for (const key of server.keysOf(bucket)) await objectsAt(server.endpoint).delete([key.slice(root.length)]);
    await outputRun({ endpoint: server.endpoint, dir: await newDir(), items: numbered(60), seed: 3 });
    expect(await partsOf(objectsAt(server.endpoint))).toBe(parts);
  });

  test("has a part's lines in the order of completion, when the job says so", async () => {
    const dir = await newDir();
    await outputRun({ endpoint: server.endpoint, dir, items: numbered(40), order: "completion" });
    const stored = linesOf(await journalOf(dir)).filter(({ index }) => index >= 20 && index < 30);
    expect(linesOf(bodyOf(part(20)).toString())).toEqual(stored);
    expect(await receiptOf(server.endpoint)).toMatchObject({ ok: true });
  });

  test.each(["csv", "parquet"] as const)("as %s has one table's columns in every part, and the rows of an export", async (format) => {
    const dir = await newDir();
    const end = (index: number) => (index === 7 ? failure : { output: index < 10 ? { early: index } : { late: index / 2, text: 'a,"b' } });
    expect((await outputRun({ endpoint: server.endpoint, dir, items: numbered(25), format, end })).end).toBeNull();
    const names = [0, 10, 20].map((first) => part(first, format));
    const objects = objectsAt(server.endpoint);
    expect(await namesOf(objects, "parts/")).toEqual(names);
    expect(await partsOf(objects, "_splitrun/parts/")).toBe(inOrder(await journalOf(dir)));
    const [fromHome, fromS3] = [join(dir, `home.${format}`), join(dir, `s3.${format}`)];
    await exportResults(dir, { to: fromHome, format, order: "input" });
    expect(await exportParts(objects, { to: fromS3, format })).toEqual({ items: 25, succeeded: 24, failed: 1 });
    const whole = await readFile(fromHome);
    expect((await readFile(fromS3)).equals(whole)).toBe(true);
    if (format === "csv") {
      const rows = names.map((name) => bodyOf(name).toString().split("\n"));
      expect(rows.map(([header]) => header)).toEqual(rows.map(() => whole.toString().split("\n", 1)[0]));
      expect(rows.flatMap(([, ...rest]) => rest.slice(0, -1)).join("\n")).toBe(whole.toString().split("\n").slice(1, -1).join("\n"));
    } else {
      const fileOf = (bytes: Buffer): ArrayBuffer => new Uint8Array(bytes).buffer;
      const rows = await Promise.all(names.map((name) => parquetReadObjects({ file: fileOf(bodyOf(name)) })));
      expect(rows.flat()).toEqual(await parquetReadObjects({ file: fileOf(whole) }));
      expect(new Set(names.map((name) => JSON.stringify(parquetMetadata(fileOf(bodyOf(name))).schema))).size).toBe(1);
    }
    expect(await receiptOf(server.endpoint)).toMatchObject({ ok: true });
  });

  test("of an empty list has a manifest and no part", async () => {
    expect((await outputRun({ endpoint: server.endpoint, dir: await newDir(), items: [] })).end).toBeNull();
    expect(await namesOf(objectsAt(server.endpoint))).toEqual(["_SUCCESS", "_splitrun/lease.json", "_splitrun/run.json", "manifest.json"]);
    expect(await receiptOf(server.endpoint)).toMatchObject({ ok: true, items: 0 });
  });

  test("puts a large part in several pieces", async () => {
    const dir = await newDir();
    const { end } = await outputRun({ endpoint: server.endpoint, dir, items: numbered(11), end: (index) => ({ output: String(index % 10).repeat(2_000_000) }) });
    expect(end).toBeNull();
    expect(server.object(bucket, root + part(0))?.partSizes).toHaveLength(2);
    expect(await partsOf(objectsAt(server.endpoint))).toBe(inOrder(await journalOf(dir)));
    expect(server.uploadsOf(bucket)).toBe(0);
  });

  test("keeps its objects encrypted, and in the storage class, as the job says", async () => {
    const client = { encryption: { kind: "kms", keyId: "key-1" }, storageClass: "STANDARD_IA" } as const;
    await outputRun({ endpoint: server.endpoint, dir: await newDir(), items: numbered(20), client });
    for (const name of await namesOf(objectsAt(server.endpoint))) {
      expect(server.object(bucket, root + name)?.headers, name).toMatchObject({
        "x-amz-server-side-encryption": "aws:kms", "x-amz-server-side-encryption-aws-kms-key-id": "key-1", "x-amz-storage-class": "STANDARD_IA",
      });
    }
    expect(await receiptOf(server.endpoint)).toMatchObject({ ok: true });
  });

  test("is none the worse for SlowDown, lost answers, cut uploads and errors of S3 on the way", async () => {
    let request = 0;
    const sometimes = (every: number) => ({ times: 30, when: () => request++ % every === 0 });
    server.fault({ kind: "error", status: 503, code: "SlowDown" }, sometimes(5));
    server.fault({ kind: "lose-answer" }, { ...sometimes(4), operation: "PutObject" });
    server.fault({ kind: "cut-upload", afterBytes: 100 }, { ...sometimes(7), operation: "PutObject" });
    server.fault({ kind: "error", status: 500, code: "InternalError" }, sometimes(11));
    const dir = await newDir();
    expect((await outputRun({ endpoint: server.endpoint, dir, items: numbered(200) })).end).toBeNull();
    expect(await partsOf(objectsAt(server.endpoint))).toBe(inOrder(await journalOf(dir)));
    expect(await receiptOf(server.endpoint)).toMatchObject({ ok: true });
  });
});

describe("a run that S3 refuses in the middle", () => {
  test("says what is lacking and where the results are; resume puts what is not there yet, and nothing else", async () => {
    const dir = await newDir();
    const denied = server.fault({ kind: "error", status: 403, code: "AccessDenied" }, { operation: "PutObject", times: Infinity, when: ({ key }) => key.endsWith("000020.jsonl") });
    const first = await outputRun({ endpoint: server.endpoint, dir, items: numbered(50) });
    expect(first.failure).toMatch(/s3:PutObject on arn:aws:s3:::results\/night\/run\/parts\/part-000000000020\.jsonl.*All results are in /s);
    denied.remove();
    const before = changeTimes();
    const second = await outputRun({ endpoint: server.endpoint, dir, mode: "resume", items: [] });
    expect(second.end).toBeNull();
    expect([...first.did, ...second.did].sort((a, b) => a - b)).toEqual(Array.from({ length: 50 }, (_, n) => n));
    for (const [key, modifiedMs] of before) expect(changeTimes().get(key), key).toBe(modifiedMs);
    expect(await receiptOf(server.endpoint)).toMatchObject({ ok: true, items: 50 });
  });

  test("at its end says so, too, and has not ended", async () => {
    server.fault({ kind: "error", status: 403, code: "AccessDenied" }, { operation: "PutObject", times: Infinity, when: ({ key }) => key.endsWith("manifest.json") });
    const { end } = await outputRun({ endpoint: server.endpoint, dir: await newDir(), items: numbered(50) });
    expect(end).toMatchObject({ reason: "output", message: expect.stringContaining("manifest.json") as string });
    expect(await namesOf(objectsAt(server.endpoint), "_SUCCESS")).toEqual([]);
  });
});

describe("a home that is made from S3 alone", () => {
  test("has all that ended, in whole parts or not, and goes on", async () => {
    const first = await outputRun({ endpoint: server.endpoint, dir: await newDir(), items: numbered(95), end: (index) => (index < 37 || index % 2 === 0 ? { output: index } : undefined) });
    const objects = objectsAt(server.endpoint);
    expect(await namesOf(objects, "parts/")).toEqual([0, 10, 20].map((at) => part(at)));
    expect((await namesOf(objects, "_splitrun/tails/")).length).toBe(1);
    const before = changeTimes();
    const { dir, items } = await rebuilt(server.endpoint);
    expect(items).toBe(first.did.length);
    const second = await outputRun({ endpoint: server.endpoint, dir, mode: "resume", items: [] });
    expect(second.end).toBeNull();
    expect([...first.did, ...second.did].sort((a, b) => a - b)).toEqual(Array.from({ length: 95 }, (_, n) => n));
    for (const [key, modifiedMs] of before) expect(changeTimes().get(key), key).toBe(modifiedMs);
    expect(await namesOf(objects, "_splitrun/tails/")).toEqual([]);
    expect(await receiptOf(server.endpoint)).toMatchObject({ ok: true, items: 95 });
    expect(await verify(dir)).toMatchObject({ ok: true, items: 95 });
  });

  test("is made again and again, each time from more", async () => {
    const did: number[] = [];
    let dir = await newDir();
    for (let round = 0; round < 5; round++) {
      const end = (index: number) => (index % 5 <= round ? { output: index } : undefined);
      did.push(...(await outputRun({ endpoint: server.endpoint, dir, mode: round === 0 ? "run" : "resume", items: numbered(80), end, seed: round })).did);
      await rm(dir, { recursive: true });
      const { dir: next, items } = await rebuilt(server.endpoint);
      // Lines that were put before their part was are there twice, and in the journal once.
      expect(linesOf(await journalOf(next))).toHaveLength(items);
      dir = next;
    }
    expect(did.sort((a, b) => a - b)).toEqual(Array.from({ length: 80 }, (_, n) => n));
    expect(await receiptOf(server.endpoint)).toMatchObject({ ok: true, items: 80 });
  });

  test("lacks no more than ended since the last checkpoint", async () => {
    const dir = await newDir();
    const checkpointed = async (done: number): Promise<void> => {
      if (done !== 30) return;
      while ((await namesOf(objectsAt(server.endpoint), "_splitrun/tails/")).length === 0) await new Promise((resolve) => setTimeout(resolve, 10));
      throw new Error("the machine is lost");
    };
    await expect(outputRun({ endpoint: server.endpoint, dir, items: numbered(60), partItems: 1000, checkpointMs: 20, between: checkpointed })).rejects.toThrow("the machine is lost");
    const { items } = await rebuilt(server.endpoint);
    expect(items).toBeGreaterThan(0);
    expect(items).toBeLessThanOrEqual(30);
  });

  test("with --retry-failed puts the parts again in which something was mended, and no other", async () => {
    await outputRun({ endpoint: server.endpoint, dir: await newDir(), items: numbered(50), end: (index) => (index === 25 || index === 31 ? failure : { output: index }) });
    const before = changeTimes();
    const { dir } = await rebuilt(server.endpoint);
    const again = await outputRun({ endpoint: server.endpoint, dir, mode: "resume", items: [], retryFailed: true, end: (index) => (index === 31 ? failure : { output: index }) });
    expect([again.did, again.end]).toEqual([[25, 31], null]);
    expect([...changeTimes()].filter(([key, modifiedMs]) => before.get(key) !== modifiedMs).map(([key]) => key.slice(root.length))).toEqual([part(20)]);
    expect(await receiptOf(server.endpoint)).toMatchObject({ ok: true, succeeded: 49, failed: 1 });
  });

  test("keeps what was mended and is in no part yet", async () => {
    await outputRun({ endpoint: server.endpoint, dir: await newDir(), items: numbered(20), end: (index) => (index === 5 || index === 6 ? failure : { output: index }) });
    const first = await rebuilt(server.endpoint);
    await outputRun({ endpoint: server.endpoint, dir: first.dir, mode: "resume", items: [], retryFailed: true, end: (index) => (index === 5 ? { output: "mended" } : undefined) });
    const { dir } = await rebuilt(server.endpoint);
    const last = await outputRun({ endpoint: server.endpoint, dir, mode: "resume", items: [], retryFailed: true });
    expect(last.did).toEqual([6]);
    expect(linesOf(bodyOf(part(0)).toString())[5]).toMatchObject({ index: 5, output: "mended" });
    expect(await receiptOf(server.endpoint)).toMatchObject({ ok: true, succeeded: 20 });
  });

  test("takes a file of the job from S3 where this machine lacks it", async () => {
    const here = join(await newDir(), "..", "labels.txt");
    await writeFile(here, "a\nb\n");
    const files = [{ field: "task.model", sha256: "0".repeat(64), ending: ".onnx", bytes: () => Readable.from([Buffer.from("the model")]) }, { field: "task.postprocess.labels", sha256: "1".repeat(64), ending: ".txt", bytes: () => Readable.from([Buffer.from("a\nb\n")]) }];
    const record = { task: { model: "/gone/model.onnx", postprocess: { labels: here, topK: 1 } } };
    await outputRun({ endpoint: server.endpoint, dir: await newDir(), items: numbered(4), files, record, end: (index) => (index === 3 ? undefined : { output: index }) });
    const { dir } = await rebuilt(server.endpoint);
    const name = `_splitrun/artifacts/${"0".repeat(64)}.onnx`;
    expect(JSON.parse(await readFile(join(dir, "runs/run-1/job.json"), "utf8"))).toEqual({ task: { model: `${url}${name}`, postprocess: { labels: here, topK: 1 } } });
    expect(bodyOf(name).toString()).toBe("the model");
  });

  test("does what is damaged in S3 again", async () => {
    await outputRun({ endpoint: server.endpoint, dir: await newDir(), items: numbered(40), end: (index) => (index === 39 ? undefined : { output: index }) });
    server.put(bucket, root + part(10), bodyOf(part(10)).toString().replace('{"index":15,', '{"index":15'));
    const { dir, notes } = await rebuilt(server.endpoint);
    expect(notes.join()).toContain("1 lines");
    expect((await outputRun({ endpoint: server.endpoint, dir, mode: "resume", items: [] })).did).toEqual([15, 39]);
    expect(await receiptOf(server.endpoint)).toMatchObject({ ok: true, items: 40 });
  });
});

describe("who may write there", () => {
  const another = { schema: 1, host: "elsewhere", boot: "b", pid: 1, pidStart: "1", nonce: "n", since: "2026-01-01T00:00:00.000Z", renewed: "2026-01-01T00:00:00.000Z", released: false };
  const leaseKey = `${root}_splitrun/lease.json`;

  test("of several who come at the same time is one; of those who take over, in the end", async () => {
    const holds = (lease: Lease): Promise<boolean> => lease.check().then(() => true, () => false);
    for (const takeOver of [false, true]) {
      if (takeOver) server.put(bucket, leaseKey, JSON.stringify(another));
      const outcomes = await Promise.allSettled(Array.from({ length: 6 }, () => acquireLease(objectsAt(server.endpoint), { takeOver })));
      const leases = outcomes.flatMap((outcome) => (outcome.status === "fulfilled" ? [outcome.value] : []));
      for (const outcome of outcomes) if (outcome.status === "rejected") expect(outcome.reason).toMatchObject({ code: "OUTPUT_IN_USE" });
      if (!takeOver) expect(leases).toHaveLength(1);
      expect((await Promise.all(leases.map(holds))).filter((held) => held)).toHaveLength(1);
      for (const lease of leases) await lease.release({ forget: false });
    }
  });

  test("is not who comes later, unless told that the other is gone", async () => {
    server.put(bucket, leaseKey, JSON.stringify(another));
    const run = { endpoint: server.endpoint, items: numbered(20) };
    await expect(outputRun({ ...run, dir: await newDir() })).rejects.toMatchObject({ code: "OUTPUT_IN_USE", message: expect.stringMatching(/process 1 on elsewhere .*--take-over/) as string });
    expect((await outputRun({ ...run, dir: await newDir(), takeOver: true })).end).toBeNull();
  });

  test("is found out by a lost answer's second try: the lease stays ours", async () => {
    const lease = await acquireLease(objectsAt(server.endpoint), { takeOver: false });
    server.fault({ kind: "lose-answer" }, { operation: "PutObject" });
    await lease.check();
    await lease.check();
    await lease.release({ forget: true });
    expect(server.keysOf(bucket)).toEqual([]);
  });

  test("stops once it has lost it, and writes over nothing of its successor's", async () => {
    const between = async (done: number): Promise<void> => {
      if (done !== 50) return;
      server.put(bucket, leaseKey, JSON.stringify(another));
      for (let first = 0; first < 200; first += 10) if (server.object(bucket, root + part(first)) === null) server.put(bucket, root + part(first), "the successor's");
    };
    const { failure: told } = await outputRun({ endpoint: server.endpoint, dir: await newDir(), items: numbered(200), between });
    expect(told).toMatch(/no longer this run's: process 1 on elsewhere has taken it over/);
    expect(server.keysOf(bucket).filter((key) => server.object(bucket, key)?.body.toString() === "the successor's").length).toBeGreaterThan(10);
    expect(await namesOf(objectsAt(server.endpoint), "_SUCCESS")).toEqual([]);
  });

  test("puts right what a predecessor wrote meanwhile, before the manifest", async () => {
    const between = async (done: number): Promise<void> => {
      if (done === 100) for (const first of [20, 30]) server.put(bucket, root + part(first), "the predecessor's");
    };
    const dir = await newDir();
    expect((await outputRun({ endpoint: server.endpoint, dir, items: numbered(100), between })).end).toBeNull();
    expect(await partsOf(objectsAt(server.endpoint))).toBe(inOrder(await journalOf(dir)));
    expect(await receiptOf(server.endpoint)).toMatchObject({ ok: true });
  });

  test("is refused where another run's results are, or a stranger's parts", async () => {
    await outputRun({ endpoint: server.endpoint, dir: await newDir(), items: numbered(5) });
    await expect(outputRun({ endpoint: server.endpoint, dir: await newDir(), items: numbered(5) })).rejects.toMatchObject({ code: "OUTPUT_TAKEN", message: expect.stringContaining(`splitrun resume ${url}`) as string });
    await objectsAt(server.endpoint).delete(["_splitrun/run.json"]);
    await expect(outputRun({ endpoint: server.endpoint, dir: await newDir(), items: numbered(5) })).rejects.toMatchObject({ code: "OUTPUT_TAKEN" });
  });

  describe("anew, with `fresh`", () => {
    /** All that is below the prefix but the lease, by what is behind the folder that it was set aside in. */
    const contents = (): ReadonlyMap<string, string> =>
      new Map(server.keysOf(bucket).filter((key) => !key.endsWith("lease.json")).map((key) => [key.slice(root.length), server.object(bucket, key)?.body.toString() ?? ""]));
    const first = () => newDir().then((dir) => outputRun({ endpoint: server.endpoint, dir, items: numbered(45), format: "csv" }));

    test("what is there is set aside whole, as an output of its own, and what others have put there stays", async () => {
      await first();
      const others = ["parts/readme.txt", "notes/a.txt", "other.json"];
      for (const name of others) server.put(bucket, root + name, `the owner's ${name}`);
      const before = contents();
      const { notes, end } = await outputRun({ endpoint: server.endpoint, dir: await newDir(), items: numbered(23), fresh: true });
      expect(end).toBeNull();
      const [, folder = ""] = /^What was in s3:\/\/results\/night\/run\/ was set aside in s3:\/\/results\/night\/run\/(set-aside-\d{8}T\d{6}Z\/)\.$/.exec(notes[0] ?? "") ?? [];
      const after = contents();
      for (const [name, text] of before) expect(after.get(others.includes(name) ? name : folder + name), name).toBe(text);
      expect(await receiptOf(server.endpoint)).toMatchObject({ ok: true, items: 23 });
      expect(await verifyOutput(new OutputObjects(clientOf(server.endpoint), `${url}${folder}`))).toMatchObject({ ok: true, items: 45, problems: [] });
    });

    test("where nothing is nothing is set aside, and nothing is said", async () => {
      const { notes } = await outputRun({ endpoint: server.endpoint, dir: await newDir(), items: numbered(5), fresh: true });
      expect(notes).toEqual([]);
      expect(await receiptOf(server.endpoint)).toMatchObject({ ok: true, items: 5 });
    });

    test("nothing is lost where it is cut, and it can be done again", async () => {
      await first();
      const before = contents();
      for (const [operation, after] of [["CopyObject", 3], ["DeleteObjects", 0], ["DeleteObjects", 1]] as const) {
        let seen = 0;
        const fault = server.fault({ kind: "error", status: 403, code: "AccessDenied" }, { operation, when: () => seen++ === after });
        await expect(outputRun({ endpoint: server.endpoint, dir: await newDir(), items: numbered(5), fresh: true })).rejects.toMatchObject({ code: "OUTPUT_UNUSABLE" });
        expect(fault.taken).toBe(1);
        const kept = new Set(contents().values());
        for (const [name, text] of before) expect(kept.has(text), name).toBe(true);
      }
      await outputRun({ endpoint: server.endpoint, dir: await newDir(), items: numbered(5), fresh: true });
      expect(await receiptOf(server.endpoint)).toMatchObject({ ok: true, items: 5 });
      const kept = new Set(contents().values());
      for (const [name, text] of before) expect(kept.has(text), name).toBe(true);
    });

    test("is refused while another process writes there, and all stays where it is", async () => {
      await first();
      await objectsAt(server.endpoint).delete(["_splitrun/lease.json"]);
      const lease = await acquireLease(objectsAt(server.endpoint), { takeOver: false });
      const before = contents();
      await expect(outputRun({ endpoint: server.endpoint, dir: await newDir(), items: numbered(5), fresh: true })).rejects.toMatchObject({ code: "OUTPUT_IN_USE" });
      expect(contents()).toEqual(before);
      await lease.release({ forget: false });
    });
  });

  test("is refused with a home that was left behind, or another layout", async () => {
    const left = await newDir();
    await outputRun({ endpoint: server.endpoint, dir: left, items: numbered(25), end: (index) => (index < 20 ? { output: index } : undefined) });
    const { dir } = await rebuilt(server.endpoint);
    await expect(outputRun({ endpoint: server.endpoint, dir: left, mode: "resume", items: [] })).rejects.toMatchObject({ code: "OUTPUT_MOVED" });
    await expect(outputRun({ endpoint: server.endpoint, dir, mode: "resume", items: [], partItems: 5 })).rejects.toMatchObject({ code: "OUTPUT_UNUSABLE", field: "output.partItems" });
  });
});

describe("verify", () => {
  test("notices a byte that has changed, a part that is gone and one that belongs to nobody", async () => {
    await outputRun({ endpoint: server.endpoint, dir: await newDir(), items: numbered(45) });
    server.put(bucket, root + part(10), bodyOf(part(10)).toString().replace('"output":12', '"output":13'));
    await objectsAt(server.endpoint).delete([part(20)]);
    server.put(bucket, root + part(50), '{"index":50,"input":"x","output":1,"attempts":1}\n');
    const receipt = await receiptOf(server.endpoint);
    expect(receipt).toMatchObject({ ok: false, items: 45, missing: 10, foreign: 1 });
    expect(receipt.problems.join("\n")).toMatch(/000010\.jsonl is not as it was put[\s\S]*000050\.jsonl is not in manifest\.json[\s\S]*000020\.jsonl is gone/);
  });

  test("notices items that are not the list's", async () => {
    await outputRun({ endpoint: server.endpoint, dir: await newDir(), items: numbered(10) });
    server.put(bucket, root + part(0), bodyOf(part(0)).toString().replace("item 3", "item x"));
    expect((await receiptOf(server.endpoint)).problems.join()).toContain("not those of the list");
  });

  test("of a run that was cut says what is missing", async () => {
    await outputRun({ endpoint: server.endpoint, dir: await newDir(), items: numbered(45), end: (index) => (index < 30 ? { output: index } : undefined) });
    expect(await receiptOf(server.endpoint)).toMatchObject({ ok: false, items: 45, succeeded: 30, missing: 15 });
  });
});
