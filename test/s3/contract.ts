import {
  AbortMultipartUploadCommand, CompleteMultipartUploadCommand, CopyObjectCommand, CreateBucketCommand, CreateMultipartUploadCommand,
  DeleteObjectCommand, DeleteObjectsCommand, GetObjectCommand, HeadObjectCommand, ListMultipartUploadsCommand, ListObjectsV2Command,
  ListPartsCommand, PutObjectCommand, S3Client, UploadPartCommand,
} from "@aws-sdk/client-s3";
import type { CompletedPart, GetObjectCommandOutput, PutObjectCommandInput, S3ClientConfig } from "@aws-sdk/client-s3";
import { getSignedUrl } from "@aws-sdk/s3-request-presigner";
import { once } from "node:events";
import { request as httpRequest } from "node:http";
import type { ClientRequest } from "node:http";
import { Readable } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

/** An S3 server under test. */
export interface Subject {
  readonly endpoint: string;
  readonly credentials: { readonly accessKeyId: string; readonly secretAccessKey: string };
  limitConcurrency(requests: number): void | Promise<void>;
  /** Breaks whatever is under way, and is back with all that was put. */
  crash(): void | Promise<void>;
  stop(): Promise<void>;
}

/** Where a server is not like S3, and how. The tests of it are left out by name. */
export interface Differences {
  readonly framedStreams?: string;
  readonly checksums?: string;
  readonly quotedIfMatch?: string;
  readonly conditionalComplete?: string;
  readonly completeEtag?: string;
  readonly partRules?: string;
  readonly partNumber?: string;
  readonly conditionalDelete?: string;
}

const mebibyte = 2 ** 20;
const partBytes = 5 * mebibyte;
const wrongEtag = '"00000000000000000000000000000000"';

/** What S3 does and splitrun relies on, asked through the official client. */
export function s3Contract(name: string, start: () => Promise<Subject>, options: { readonly missing: string | null; readonly differences: Differences }): void {
  const { missing, differences } = options;
  const like = (difference: keyof Differences) => (title: string, body: () => Promise<void>): void => {
    const reason = differences[difference];
    if (reason === undefined) test(title, body);
    else test(`${title}: not ${name}, ${reason}`, () => expect(body(), `${name} does that by now: it is no difference any more`).rejects.toThrow());
  };

  describe.skipIf(missing !== null)(missing === null ? name : `${name} (${missing})`, () => {
    let subject: Subject;
    let s3: S3Client;
    const Bucket = "contract";
    const clients: S3Client[] = [];

    const clientWith = (config: S3ClientConfig = {}): S3Client => {
      const client = new S3Client({
        endpoint: subject.endpoint, region: "us-east-1", forcePathStyle: true, credentials: subject.credentials, maxAttempts: 1, ...config,
      });
      clients.push(client);
      return client;
    };

    beforeAll(async () => {
      subject = await start();
      s3 = clientWith();
      await s3.send(new CreateBucketCommand({ Bucket }));
    });
    afterAll(async () => {
      for (const client of clients) client.destroy();
      await subject?.stop();
    });

    const put = (Key: string, body: Buffer | Readable | string, more: Partial<PutObjectCommandInput> = {}, client = s3) =>
      client.send(new PutObjectCommand({ Bucket, Key, Body: typeof body === "string" ? Buffer.from(body) : body, ...more }));
    const get = (Key: string, client = s3) => client.send(new GetObjectCommand({ Bucket, Key }));
    const textOf = async (Key: string): Promise<string> => (await bytesOf(await get(Key))).toString();
    const exists = (Key: string) => s3.send(new HeadObjectCommand({ Bucket, Key })).then(() => true, () => false);

    describe("keys and signatures", () => {
      test("a wrong secret, an unknown key and no signature at all are refused", async () => {
        await put("keys/a", "text");
        const { accessKeyId, secretAccessKey } = subject.credentials;
        const wrong = clientWith({ credentials: { accessKeyId, secretAccessKey: `${secretAccessKey}x` } });
        const unknown = clientWith({ credentials: { accessKeyId: "AKIANOBODY", secretAccessKey } });
        expect(await refusal(get("keys/a", wrong))).toBe("403 SignatureDoesNotMatch");
        expect(await refusal(put("keys/b", "x", {}, wrong))).toBe("403 SignatureDoesNotMatch");
        expect(await refusal(get("keys/a", unknown))).toBe("403 InvalidAccessKeyId");
        expect((await fetch(`${subject.endpoint}/${Bucket}/keys/a`)).status).toBe(403);
        expect(await exists("keys/b")).toBe(false);
      });

      test("a clock that is 20 minutes off is refused", async () => {
        await put("keys/clock", "text");
        expect(await refusal(get("keys/clock", clientWith({ systemClockOffset: -20 * 60_000 })))).toBe("403 RequestTimeTooSkewed");
        expect(await refusal(get("keys/clock", clientWith({ systemClockOffset: 20 * 60_000 })))).toBe("403 RequestTimeTooSkewed");
      });

      test("a header or a body changed on the way is noticed", async () => {
        const tampering = (tamper: (request: { body: unknown; headers: Record<string, string> }) => void): S3Client => {
          const client = clientWith({ requestChecksumCalculation: "WHEN_REQUIRED" });
          client.middlewareStack.add((next) => (args) => {
            tamper(args.request as { body: unknown; headers: Record<string, string> });
            return next(args);
          }, { step: "finalizeRequest", priority: "low", name: "tamper" });
          return client;
        };
        const header = tampering((request) => { request.headers["x-amz-meta-k"] = "changed"; });
        const body = tampering((request) => { request.body = "xyz"; });
        expect(await refusal(put("keys/tampered", "abc", { Metadata: { k: "v" } }, header))).toBe("403 SignatureDoesNotMatch");
        expect(await refusal(put("keys/tampered", "abc", {}, body))).toBe("400 XAmzContentSHA256Mismatch");
        expect(await exists("keys/tampered")).toBe(false);
      });

      test("a presigned URL opens one object for a while, and nothing else", async () => {
        await put("keys/a b+ü.txt", "signed");
        await put("keys/other", "other");
        const object = new GetObjectCommand({ Bucket, Key: "keys/a b+ü.txt" });
        const url = await getSignedUrl(s3, object, { expiresIn: 60 });
        const answer = await fetch(url);
        expect([answer.status, await answer.text()]).toEqual([200, "signed"]);
        expect((await fetch(url.replace(/keys\/[^?]+/, "keys/other"))).status).toBe(403);
        expect((await fetch(url.replace("X-Amz-Expires=60", "X-Amz-Expires=600"))).status).toBe(403);
        const expired = await getSignedUrl(s3, object, { expiresIn: 60, signingDate: new Date(Date.now() - 120_000) });
        expect((await fetch(expired)).status).toBe(403);
      });

      test("a presigned URL for a PUT takes a body that was not known when it was signed", async () => {
        const signer = clientWith({ requestChecksumCalculation: "WHEN_REQUIRED" });
        const url = await getSignedUrl(signer, new PutObjectCommand({ Bucket, Key: "keys/put" }), { expiresIn: 60 });
        expect((await fetch(url, { method: "PUT", body: "later" })).status).toBe(200);
        expect(await textOf("keys/put")).toBe("later");
      });
    });

    describe("objects", () => {
      test("come back byte for byte, with their type and metadata", async () => {
        const body = Buffer.from(Array.from({ length: 70_000 }, (_, at) => at % 251));
        const written = await put("objects/a", body, { ContentType: "image/jpeg", Metadata: { attempt: "17", k: "v" } });
        const read = await get("objects/a");
        expect((await bytesOf(read)).equals(body)).toBe(true);
        expect(read).toMatchObject({ ContentType: "image/jpeg", Metadata: { attempt: "17", k: "v" }, ContentLength: 70_000, ETag: written.ETag });
      });

      test("may be empty", async () => {
        await put("objects/empty", "");
        expect(await textOf("objects/empty")).toBe("");
      });

      test("are replaced whole, and seen at once by readers and listings", async () => {
        await Promise.all(Array.from({ length: 100 }, (_, at) => put(`objects/many/${at}`, String(at))));
        await put("objects/many/7", "seven");
        const listed = await s3.send(new ListObjectsV2Command({ Bucket, Prefix: "objects/many/" }));
        expect(listed.KeyCount).toBe(100);
        expect(await textOf("objects/many/7")).toBe("seven");
      });

      test("are read in part: a range, an end, never beyond", async () => {
        await put("objects/range", "0123456789");
        const part = async (Range: string) => {
          const read = await s3.send(new GetObjectCommand({ Bucket, Key: "objects/range", Range }));
          return [read.$metadata.httpStatusCode, read.ContentRange, (await bytesOf(read)).toString()];
        };
        expect(await part("bytes=2-5")).toEqual([206, "bytes 2-5/10", "2345"]);
        expect(await part("bytes=8-")).toEqual([206, "bytes 8-9/10", "89"]);
        expect(await part("bytes=-3")).toEqual([206, "bytes 7-9/10", "789"]);
        expect(await part("bytes=8-99")).toEqual([206, "bytes 8-9/10", "89"]);
        expect(await refusal(part("bytes=10-20"))).toBe("416 InvalidRange");
      });

      test("are not sent where the reader has them already, or has others in mind", async () => {
        const { ETag = "" } = await put("objects/condition", "text");
        const read = (condition: object) => s3.send(new GetObjectCommand({ Bucket, Key: "objects/condition", ...condition }));
        expect(await refusal(read({ IfNoneMatch: ETag }))).toMatch(/^304/);
        expect(await refusal(read({ IfMatch: wrongEtag }))).toMatch(/^412/);
        expect((await bytesOf(await read({ IfMatch: ETag }))).toString()).toBe("text");
      });

      test("have any key", async () => {
        const keys = ["objects/odd/a b+c&d=ü%41?#.txt", "objects/odd/..", "objects/odd//double", "objects/odd/😀", "objects/odd/<&>\"'", "objects/odd/trailing/", "objects/odd/(a)*!~"];
        for (const key of keys) await put(key, key);
        for (const key of keys) expect(await textOf(key)).toBe(key);
        const listed = await s3.send(new ListObjectsV2Command({ Bucket, Prefix: "objects/odd/" }));
        expect((listed.Contents ?? []).map(({ Key }) => Key).toSorted()).toEqual(keys.toSorted());
      });

      test("that are not there, and buckets, are told apart", async () => {
        expect(await refusal(get("objects/nothing"))).toBe("404 NoSuchKey");
        expect(await refusal(s3.send(new GetObjectCommand({ Bucket: "no-such-bucket", Key: "a" })))).toBe("404 NoSuchBucket");
        expect(await refusal(s3.send(new ListObjectsV2Command({ Bucket: "no-such-bucket" })))).toBe("404 NoSuchBucket");
      });

      test("are deleted, singly and together, and deleting nothing is no error", async () => {
        await Promise.all(["a", "b", "c d", "<&>"].map((key) => put(`objects/gone/${key}`, "x")));
        await s3.send(new DeleteObjectCommand({ Bucket, Key: "objects/gone/a" }));
        await s3.send(new DeleteObjectCommand({ Bucket, Key: "objects/gone/a" }));
        await s3.send(new DeleteObjectsCommand({ Bucket, Delete: { Objects: ["b", "c d", "<&>", "never"].map((key) => ({ Key: `objects/gone/${key}` })) } }));
        expect((await s3.send(new ListObjectsV2Command({ Bucket, Prefix: "objects/gone/" }))).KeyCount).toBe(0);
      });

      test("are copied", async () => {
        await put("objects/from", "text", { Metadata: { k: "v" } });
        await s3.send(new CopyObjectCommand({ Bucket, Key: "objects/to", CopySource: `${Bucket}/objects/from` }));
        const copy = await get("objects/to");
        expect([(await bytesOf(copy)).toString(), copy.Metadata]).toEqual(["text", { k: "v" }]);
      });

      test("with a wrong Content-MD5 are refused and leave nothing", async () => {
        expect(await refusal(put("objects/md5", "text", { ContentMD5: "AAAAAAAAAAAAAAAAAAAAAA==" }))).toBe("400 BadDigest");
        expect(await exists("objects/md5")).toBe(false);
      });

      like("checksums")("with a wrong CRC32 are refused and leave nothing; a right one is kept", async () => {
        expect(await refusal(put("objects/crc", "text", { ChecksumCRC32: "AAAAAA==" }))).toMatch(/^400/);
        expect(await exists("objects/crc")).toBe(false);
        const { ChecksumCRC32 } = await put("objects/crc", "text");
        const head = await s3.send(new HeadObjectCommand({ Bucket, Key: "objects/crc", ChecksumMode: "ENABLED" }));
        expect(head.ChecksumCRC32).toBe(ChecksumCRC32);
        expect(ChecksumCRC32).toMatch(/^[\w+/]{6}==$/);
      });

      like("framedStreams")("are put from a stream, whose frames are not stored", async () => {
        const body = Buffer.alloc(300_000, 7);
        await put("objects/stream", Readable.from([body.subarray(0, 100_000), body.subarray(100_000)]), { ContentLength: body.length });
        expect((await bytesOf(await get("objects/stream"))).equals(body)).toBe(true);
      });

      test("are put from a stream of known length without frames where the client is told so", async () => {
        const body = Buffer.alloc(300_000, 7);
        const plain = clientWith({ requestChecksumCalculation: "WHEN_REQUIRED" });
        await put("objects/plain", Readable.from([body]), { ContentLength: body.length }, plain);
        expect((await bytesOf(await get("objects/plain"))).equals(body)).toBe(true);
      });
    });

    describe("conditional writes", () => {
      test("If-None-Match: * never replaces", async () => {
        await put("conditions/new", "first", { IfNoneMatch: "*" });
        expect(await refusal(put("conditions/new", "second", { IfNoneMatch: "*" }))).toBe("412 PreconditionFailed");
        expect(await textOf("conditions/new")).toBe("first");
        await s3.send(new DeleteObjectCommand({ Bucket, Key: "conditions/new" }));
        await put("conditions/new", "third", { IfNoneMatch: "*" });
        expect(await textOf("conditions/new")).toBe("third");
      });

      test.each([0, 50_000, mebibyte])("of ten that race with If-None-Match: * and %d bytes, one wins and its bytes are there", async (bytes) => {
        for (let round = 0; round < 5; round += 1) {
          const Key = `conditions/race/${bytes}/${round}`;
          const bodies = Array.from({ length: 10 }, (_, at) => Buffer.alloc(bytes, at));
          const ended = await Promise.allSettled(bodies.map((body) => put(Key, body, { IfNoneMatch: "*" })));
          const won = ended.flatMap(({ status }, at) => (status === "fulfilled" ? [at] : []));
          expect(won).toHaveLength(1);
          const losers = await Promise.all(ended.filter(({ status }) => status === "rejected").map((end) => refusal(Promise.reject((end as PromiseRejectedResult).reason))));
          expect(losers.filter((loser) => !/^(412 PreconditionFailed|409 ConditionalRequestConflict)$/.test(loser))).toEqual([]);
          expect((await bytesOf(await get(Key))).equals(bodies[won[0] ?? 0] ?? Buffer.alloc(0))).toBe(true);
        }
      });

      test("If-Match with another ETag, and If-Match on nothing, write nothing", async () => {
        await put("conditions/match", "first");
        expect(await refusal(put("conditions/match", "second", { IfMatch: wrongEtag }))).toBe("412 PreconditionFailed");
        expect(await textOf("conditions/match")).toBe("first");
        expect(await refusal(put("conditions/nothing", "x", { IfMatch: wrongEtag }))).toMatch(/^(404|412)/);
        expect(await exists("conditions/nothing")).toBe(false);
      });

      like("quotedIfMatch")("If-Match takes the ETag as it was told", async () => {
        const { ETag = "" } = await put("conditions/quoted", "first");
        await put("conditions/quoted", "second", { IfMatch: ETag });
        expect(await textOf("conditions/quoted")).toBe("second");
      });

      test("of ten that swap one value by If-Match, one wins", async () => {
        for (let round = 0; round < 10; round += 1) {
          const { ETag = "" } = await put("conditions/swap", `round ${round}`);
          const swaps = Array.from({ length: 10 }, (_, at) => put("conditions/swap", `round ${round} by ${at}`, { IfMatch: ETag.replaceAll('"', "") }));
          const ended = await Promise.allSettled(swaps);
          const won = ended.flatMap(({ status }, at) => (status === "fulfilled" ? [at] : []));
          expect(won).toHaveLength(1);
          expect(await textOf("conditions/swap")).toBe(`round ${round} by ${won[0]}`);
        }
      });

      like("conditionalDelete")("a delete by If-Match leaves what is another one by now", async () => {
        await put("conditions/delete", "x");
        expect(await refusal(s3.send(new DeleteObjectCommand({ Bucket, Key: "conditions/delete", IfMatch: wrongEtag })))).toBe("412 PreconditionFailed");
        expect(await exists("conditions/delete")).toBe(true);
      });
    });

    describe("multipart uploads", () => {
      const fill = (number: number, bytes = partBytes): Buffer => Buffer.alloc(bytes, number);
      const create = async (Key: string): Promise<string> => (await s3.send(new CreateMultipartUploadCommand({ Bucket, Key }))).UploadId ?? "";
      const upload = async (Key: string, UploadId: string, PartNumber: number, Body: Buffer): Promise<CompletedPart> => {
        const { ETag, ChecksumCRC32 } = await s3.send(new UploadPartCommand({ Bucket, Key, UploadId, PartNumber, Body }));
        return { PartNumber, ...(ETag !== undefined && { ETag }), ...(ChecksumCRC32 !== undefined && { ChecksumCRC32 }) };
      };
      const complete = (Key: string, UploadId: string, Parts: readonly CompletedPart[], more: object = {}) =>
        s3.send(new CompleteMultipartUploadCommand({ Bucket, Key, UploadId, MultipartUpload: { Parts: [...Parts] }, ...more }));
      const abort = (Key: string, UploadId: string) => s3.send(new AbortMultipartUploadCommand({ Bucket, Key, UploadId }));

      test("appear whole, once completed, in the order of their numbers, however they were sent", async () => {
        const Key = "parts/order";
        const id = await create(Key);
        const last = await upload(Key, id, 7, fill(7, 100));
        const first = await upload(Key, id, 2, fill(2));
        expect(await exists(Key)).toBe(false);
        const listed = await s3.send(new ListPartsCommand({ Bucket, Key, UploadId: id }));
        expect(listed.Parts?.map(({ PartNumber, Size }) => [PartNumber, Size])).toEqual([[2, partBytes], [7, 100]]);
        const open = await s3.send(new ListMultipartUploadsCommand({ Bucket }));
        expect(open.Uploads?.map(({ UploadId }) => UploadId)).toContain(id);
        await complete(Key, id, [first, last]);
        const read = await get(Key);
        expect(read.ETag).toMatch(/^"[0-9a-f]{32}-2"$/);
        expect((await bytesOf(read)).equals(Buffer.concat([fill(2), fill(7, 100)]))).toBe(true);
        expect((await complete(Key, id, [first, last])).$metadata.httpStatusCode).toBe(200);
      });

      like("completeEtag")("tell their ETag when they are completed", async () => {
        const id = await create("parts/etag");
        const { ETag } = await complete("parts/etag", id, [await upload("parts/etag", id, 1, fill(1, 10))]);
        expect(ETag).toBe((await s3.send(new HeadObjectCommand({ Bucket, Key: "parts/etag" }))).ETag);
      });

      test("a part sent again replaces the one before", async () => {
        const id = await create("parts/again");
        await upload("parts/again", id, 1, fill(1, 10));
        await complete("parts/again", id, [await upload("parts/again", id, 1, fill(9, 12))]);
        expect((await bytesOf(await get("parts/again"))).equals(fill(9, 12))).toBe(true);
      });

      test("are refused with a part that was not sent, or is another one", async () => {
        const id = await create("parts/wrong");
        const part = await upload("parts/wrong", id, 1, fill(1, 10));
        expect(await refusal(complete("parts/wrong", id, [part, { ...part, PartNumber: 9 }]))).toBe("400 InvalidPart");
        expect(await refusal(complete("parts/wrong", id, [{ ...part, ETag: wrongEtag }]))).toBe("400 InvalidPart");
        expect(await exists("parts/wrong")).toBe(false);
        await abort("parts/wrong", id);
      });

      test("are refused with a small part that is not the last", async () => {
        const id = await create("parts/small");
        const parts = [await upload("parts/small", id, 1, fill(1, 10)), await upload("parts/small", id, 2, fill(2, 10))];
        expect(await refusal(complete("parts/small", id, parts))).toBe("400 EntityTooSmall");
        await abort("parts/small", id);
      });

      like("partRules")("are refused with parts out of order, may leave one out, and end with their abortion", async () => {
        const id = await create("parts/rules");
        const parts = [await upload("parts/rules", id, 1, fill(1)), await upload("parts/rules", id, 2, fill(2, 10))];
        expect(await refusal(complete("parts/rules", id, parts.toReversed()))).toBe("400 InvalidPartOrder");
        await complete("parts/rules", id, parts.slice(0, 1));
        expect((await bytesOf(await get("parts/rules"))).length).toBe(partBytes);
        const aborted = await create("parts/aborted");
        const part = await upload("parts/aborted", aborted, 1, fill(1, 10));
        await abort("parts/aborted", aborted);
        expect(await refusal(complete("parts/aborted", aborted, [part]))).toBe("404 NoSuchUpload");
      });

      test("that were aborted leave nothing and take nothing", async () => {
        const id = await create("parts/abort");
        await upload("parts/abort", id, 1, fill(1, 10));
        await abort("parts/abort", id);
        expect(await refusal(upload("parts/abort", id, 2, fill(2, 10)))).toBe("404 NoSuchUpload");
        expect(await exists("parts/abort")).toBe(false);
        const open = await s3.send(new ListMultipartUploadsCommand({ Bucket }));
        expect((open.Uploads ?? []).map(({ UploadId }) => UploadId)).not.toContain(id);
      });

      like("conditionalComplete")("of two that complete with If-None-Match: *, one wins", async () => {
        const Key = "parts/condition";
        const ids = await Promise.all([create(Key), create(Key)]);
        const parts = await Promise.all(ids.map((id, at) => upload(Key, id, 1, fill(at, 10))));
        const ended = await Promise.allSettled(ids.map((id, at) => complete(Key, id, parts.slice(at, at + 1), { IfNoneMatch: "*" })));
        expect(ended.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
      });

      like("partNumber")("are read by part", async () => {
        const id = await create("parts/read");
        await complete("parts/read", id, [await upload("parts/read", id, 1, fill(1)), await upload("parts/read", id, 2, fill(2, 10))]);
        const part = await s3.send(new GetObjectCommand({ Bucket, Key: "parts/read", PartNumber: 2 }));
        expect([(await bytesOf(part)).equals(fill(2, 10)), part.PartsCount]).toEqual([true, 2]);
      });
    });

    describe("listings", () => {
      const keysOf = async (input: object): Promise<readonly string[]> =>
        ((await s3.send(new ListObjectsV2Command({ Bucket, ...input }))).Contents ?? []).map(({ Key = "" }) => Key);
      const names = Array.from({ length: 1105 }, (_, at) => `listing/many/${String(at).padStart(5, "0")}`);

      beforeAll(async () => {
        for (let at = 0; at < names.length; at += 100) await Promise.all(names.slice(at, at + 100).map((name) => put(name, "")));
      });

      test("of many pages give every key once, in order", async () => {
        const seen: string[] = [];
        let pages = 0;
        let ContinuationToken: string | undefined;
        do {
          const page = await s3.send(new ListObjectsV2Command({ Bucket, Prefix: "listing/many/", MaxKeys: 100, ...(ContinuationToken !== undefined && { ContinuationToken }) }));
          seen.push(...(page.Contents ?? []).map(({ Key = "" }) => Key));
          expect(page.IsTruncated).toBe(page.NextContinuationToken !== undefined);
          ContinuationToken = page.NextContinuationToken;
          pages += 1;
        } while (ContinuationToken !== undefined);
        expect(seen).toEqual(names);
        expect(pages).toBe(12);
      });

      test("have a thousand keys a page at most", async () => {
        expect(await keysOf({ Prefix: "listing/many/", MaxKeys: 5000 })).toHaveLength(1000);
      });

      test("go on behind any name", async () => {
        expect(await keysOf({ Prefix: "listing/many/", StartAfter: "listing/many/01102" })).toEqual(names.slice(1103));
        expect(await keysOf({ Prefix: "listing/many/", StartAfter: "listing/many/01102x" })).toEqual(names.slice(1103));
      });

      test("fold what follows a delimiter, over pages too", async () => {
        for (const key of ["a/1", "a/2", "b", "c/1", "c/2/3", "d"]) await put(`listing/tree/${key}`, "");
        const seen: string[] = [];
        let ContinuationToken: string | undefined;
        do {
          const page = await s3.send(new ListObjectsV2Command({
            Bucket, Prefix: "listing/tree/", Delimiter: "/", MaxKeys: 1, ...(ContinuationToken !== undefined && { ContinuationToken }),
          }));
          seen.push(...(page.Contents ?? []).map(({ Key = "" }) => Key), ...(page.CommonPrefixes ?? []).map(({ Prefix = "" }) => Prefix));
          ContinuationToken = page.NextContinuationToken;
        } while (ContinuationToken !== undefined);
        expect(seen.map((key) => key.slice("listing/tree/".length))).toEqual(["a/", "b", "c/", "d"]);
      });

      test("are in the order of UTF-8 bytes, not of UTF-16 units", async () => {
        // U+FF5E stands before U+1F600 as code points and bytes; as UTF-16 units it stands behind.
        const ordered = ["Z", "a", "ü", "～", "😀"];
        for (const name of ordered.toReversed()) await put(`listing/order/${name}`, "");
        expect((await keysOf({ Prefix: "listing/order/" })).map((key) => key.slice("listing/order/".length))).toEqual(ordered);
      });

      test("have keys of every character where the client asks for them encoded", async () => {
        const key = "listing/encoded/a b+\u0001%41<ü>";
        await put(key, "");
        const [listed = ""] = await keysOf({ Prefix: "listing/encoded/", EncodingType: "url" });
        expect(decodeURIComponent(listed.replaceAll("+", " "))).toBe(key);
      });

      test("that are empty are no error", async () => {
        expect(await keysOf({ Prefix: "listing/nothing/" })).toEqual([]);
      });
    });

    describe("under stress", () => {
      test("an upload that its client breaks off leaves nothing", async () => {
        const sending = await halfAnUpload("stress/cut");
        sending.on("error", () => undefined);
        sending.destroy();
        await delay(50);
        expect(await exists("stress/cut")).toBe(false);
      });

      test("too many requests at once are told to slow down; those that do get what they want", async () => {
        const body = Buffer.alloc(2 * mebibyte, 1);
        await put("stress/slow", body);
        await subject.limitConcurrency(2);
        const held = await Promise.all([halfAnUpload("stress/held"), halfAnUpload("stress/held-too")]);
        for (const upload of held) upload.on("error", () => undefined);
        while (await bytesRefused(get("stress/slow")) !== "503 SlowDown");
        for (const upload of held) upload.destroy();
        while (await bytesRefused(get("stress/slow")) !== String(body.length));
        await subject.limitConcurrency(1000);
        const later = await Promise.all(Array.from({ length: 40 }, () => bytesRefused(get("stress/slow"))));
        expect(new Set(later)).toEqual(new Set([String(body.length)]));
      });

      test("a server that dies in the middle of a download is noticed: nobody takes a part for the whole", async () => {
        await put("stress/download", Buffer.alloc(32 * mebibyte, 1));
        const { Body } = await get("stress/download");
        const chunks = (Body as Readable)[Symbol.asyncIterator]();
        await chunks.next();
        await subject.crash();
        await expect((async () => { while ((await chunks.next()).done !== true); })()).rejects.toThrow();
      });

      test("a server that dies in the middle of a put has nothing of it, and all of the others", async () => {
        await put("stress/before", "text");
        const sending = await halfAnUpload("stress/mid-put");
        const broken = once(sending, "response").catch((error: unknown) => error);
        await subject.crash();
        expect(await broken).toBeInstanceOf(Error);
        expect(await exists("stress/mid-put")).toBe(false);
        expect(await textOf("stress/before")).toBe("text");
        await put("stress/mid-put", "whole");
        expect(await textOf("stress/mid-put")).toBe("whole");
      });

      /** A put of 8 MiB of which 4 are on their way. */
      async function halfAnUpload(Key: string): Promise<ClientRequest> {
        const signer = clientWith({ requestChecksumCalculation: "WHEN_REQUIRED" });
        const url = await getSignedUrl(signer, new PutObjectCommand({ Bucket, Key }), { expiresIn: 60 });
        const sending = httpRequest(url, { method: "PUT", headers: { "content-length": 8 * mebibyte } });
        await new Promise<void>((resolve, reject) => {
          sending.once("error", reject);
          sending.write(Buffer.alloc(4 * mebibyte), () => {
            sending.off("error", reject);
            resolve();
          });
        });
        return sending;
      }
    });
  });
}

async function bytesOf({ Body }: GetObjectCommandOutput): Promise<Buffer> {
  return Buffer.from(await Body?.transformToByteArray() ?? []);
}

/** The status and code that a request was refused with. */
async function refusal(request: Promise<unknown>): Promise<string> {
  try {
    await request;
  } catch (error) {
    const { name, $metadata } = error as { name?: string; $metadata?: { httpStatusCode?: number } };
    if ($metadata?.httpStatusCode !== undefined) return `${$metadata.httpStatusCode} ${name ?? ""}`;
    throw error;
  }
  throw new Error("it was not refused");
}

/** The bytes that came, or how they were refused. */
async function bytesRefused(request: Promise<GetObjectCommandOutput>): Promise<string> {
  const answer = await request.catch((error: unknown) => refusal(Promise.reject(error)));
  return typeof answer === "string" ? answer : String((await bytesOf(answer)).length);
}
