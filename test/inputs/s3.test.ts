import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { gzipSync } from "node:zlib";
import { parquetWriteFile } from "hyparquet-writer";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { countS3ParquetRows, openS3Source } from "../../orchestrator/inputs/s3-source.ts";
import type { InputSpec } from "../../orchestrator/jobs/types.ts";
import type { S3Client } from "../../task-manager/s3-client.ts";
import { clientOf, forgetConfiguration, setCredentials } from "../support/s3/client.ts";
import { startS3Server } from "../support/s3/server.ts";
import type { S3Server } from "../support/s3/server.ts";
import { readAll, specOf } from "./support.ts";

let server: S3Server;
let client: S3Client;

beforeEach(async () => {
  forgetConfiguration();
  server = await startS3Server({ pageKeysMax: 5 });
  server.createBucket("b");
  setCredentials(server.credentials);
  client = clientOf(server.endpoint);
});
afterEach(async () => {
  client.close();
  await server.stop();
});

const open = (from: string, format: InputSpec["format"], rest: Partial<InputSpec> = {}, options: { readonly bucket?: string; readonly itemKind?: "image" | "value" } = {}) =>
  openS3Source(from, specOf(from, format, rest), { client, itemKind: options.itemKind ?? "image", bucket: options.bucket ?? null });
const inputsOf = async (...args: Parameters<typeof open>) => (await readAll(await open(...args))).map(({ input }) => input);

describe("objects below a prefix", () => {
  test("are the images among them, over pages, with size and version", async () => {
    const images = Array.from({ length: 17 }, (_, number) => `p/${String(number).padStart(2, "0")}.JPG`);
    for (const key of [...images, "p/", "p/notes.txt", "p/.hidden.jpg", "p/.cache/a.jpg", "p/_SUCCESS", "q/other.jpg", "p/z/deep.png"]) server.put("b", key, key);
    const items = await readAll(await open("s3://b/p/", "folder"), 4);
    expect(items.map(({ input }) => input)).toEqual([...images, "p/z/deep.png"].map((key) => `s3://b/${key}`));
    expect(items[0]).toEqual({ input: "s3://b/p/00.JPG", weight: 8, version: server.object("b", "p/00.JPG")?.etag.replaceAll('"', "") });
  });

  test("are those that a pattern matches; only what can match is asked for", async () => {
    for (const key of ["p/a1.jpg", "p/a2.txt", "p/b1.jpg", "p/x/a3.jpg", "q/a1.jpg"]) server.put("b", key, "");
    expect(await inputsOf("s3://b/p/a*", "glob")).toEqual(["s3://b/p/a1.jpg", "s3://b/p/a2.txt"]);
    expect(server.requests.at(-1)?.query.get("prefix")).toBe("p/a");
    expect(await inputsOf("s3://b/p/**/*.jpg", "glob")).toEqual(["s3://b/p/a1.jpg", "s3://b/p/b1.jpg", "s3://b/p/x/a3.jpg"]);
    expect(await inputsOf("s3://b/{p,q}/a1.jpg", "glob")).toEqual(["s3://b/p/a1.jpg", "s3://b/q/a1.jpg"]);
  });

  test("are none where there are none; a bucket that is not there is told before anything starts", async () => {
    expect(await inputsOf("s3://b/nothing/", "folder")).toEqual([]);
    await expect(open("s3://no-such-bucket/p/", "folder")).rejects.toMatchObject({ code: "INPUT_NOT_FOUND", field: "input", message: expect.stringContaining("no bucket no-such-bucket") });
    server.fault({ kind: "error", status: 403, code: "AccessDenied" });
    await expect(open("s3://b/p/", "folder")).rejects.toMatchObject({ code: "INPUT_UNREADABLE", message: expect.stringContaining("s3:ListBucket") });
  });

  test("ask for a page ahead and no more", async () => {
    for (let number = 0; number < 30; number += 1) server.put("b", `p/${number}.jpg`, "");
    const source = await open("s3://b/p/", "folder");
    await source.read(3);
    await source.read(2);
    expect(server.count("ListObjectsV2")).toBeLessThanOrEqual(2);
    expect(source.remaining()).toBeNull();
    await source.close();
  });
});

describe("a list that is an object", () => {
  const lines = Array.from({ length: 1000 }, (_, number) => `k/${number}.jpg`);
  const located = lines.map((line) => `s3://b/lists/${line}`);

  test("of text gives its lines; what is no URL stands next to it, or in the bucket that is named", async () => {
    server.put("b", "lists/a.txt", [...lines, "s3://other/x", "https://host/y.jpg"].join("\n"));
    expect(await inputsOf("s3://b/lists/a.txt", "text")).toEqual([...located, "s3://other/x", "https://host/y.jpg"]);
    expect((await inputsOf("s3://b/lists/a.txt", "text", {}, { bucket: "pictures" })).slice(0, 2)).toEqual(["s3://pictures/k/0.jpg", "s3://pictures/k/1.jpg"]);
  });

  test("is unpacked where it is packed", async () => {
    server.put("b", "lists/a.txt.gz", gzipSync(lines.join("\n")));
    expect(await inputsOf("s3://b/lists/a.txt.gz", "text")).toEqual(located);
  });

  test("may be CSV or JSONL", async () => {
    server.put("b", "lists/a.csv", `id,url\n${lines.map((line, number) => `${number},${line}`).join("\n")}\n`);
    const items = await readAll(await open("s3://b/lists/a.csv", "csv", { column: "url", id: "id" }));
    expect(items.at(-1)).toMatchObject({ input: "s3://b/lists/k/999.jpg", id: "999" });
    server.put("b", "lists/a.jsonl", lines.map((line) => JSON.stringify({ input: line })).join("\n"));
    expect(await inputsOf("s3://b/lists/a.jsonl", "jsonl")).toEqual(located);
  });

  test("may be Parquet, of which only the wanted column is read", async () => {
    const folder = await mkdtemp(path.join(tmpdir(), "splitrun-s3-"));
    try {
      const filename = path.join(folder, "a.parquet");
      parquetWriteFile({ filename, codec: "UNCOMPRESSED", rowGroupSize: 300, columnData: [
        { name: "url", data: lines },
        { name: "ballast", data: lines.map((line) => `${line}${Math.random()}`.repeat(100)), type: "STRING" },
      ] });
      server.put("b", "lists/a.parquet", await readFile(filename));
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
    expect(await inputsOf("s3://b/lists/a.parquet", "parquet", { column: "url" })).toEqual(located);
    expect(await countS3ParquetRows(client, "s3://b/lists/a.parquet")).toBe(located.length);
    const askedBytes = server.requests.filter(({ operation }) => operation === "GetObject").reduce((sum, { headers }) => {
      const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(headers.range ?? "") ?? [];
      return sum + Number(last) - Number(first) + 1;
    }, 0);
    expect(askedBytes).toBeLessThan((server.object("b", "lists/a.parquet")?.body.length ?? 0) / 2);
    await expect(open("s3://b/lists/a.parquet", "parquet", { column: "nothing" })).rejects.toMatchObject({ code: "INPUT_COLUMN" });
  });

  test("of many megabytes comes in pieces, whatever breaks in between", async () => {
    const long = Array.from({ length: 90_000 }, (_, number) => `${number}-${"x".repeat(100)}`);
    server.put("b", "lists/long.txt", long.join("\n"));
    server.fault({ kind: "cut-answer", afterBytes: 1_000_000 }, { operation: "GetObject", times: 2 });
    server.fault({ kind: "error", status: 503, code: "SlowDown" }, { operation: "GetObject", times: 2 });
    expect(await inputsOf("s3://b/lists/long.txt", "text", {}, { itemKind: "value" })).toEqual(long);
    expect(server.count("GetObject")).toBe(3 + 4);
  });

  test("that is replaced while it is read says so, instead of giving a bit of each", async () => {
    const long = Array.from({ length: 130_000 }, (_, number) => `${number}-${"x".repeat(100)}`).join("\n");
    server.put("b", "lists/long.txt", long);
    const source = await open("s3://b/lists/long.txt", "text", {}, { itemKind: "value" });
    server.put("b", "lists/long.txt", long.toUpperCase());
    await expect(readAll(source)).rejects.toMatchObject({ code: "INPUT_UNREADABLE", message: expect.stringContaining("replaced while it was read") });
    await source.close();
  });

  test("that is not there, or is not what it is said to be, is told before anything starts", async () => {
    server.put("b", "lists/a.bin", Buffer.from([0, 1, 2, 3]));
    await expect(open("s3://b/lists/nothing.txt", "text")).rejects.toMatchObject({ code: "INPUT_NOT_FOUND", message: expect.stringContaining("a / at its end") });
    await expect(open("s3://b/lists/a.bin", "text")).rejects.toMatchObject({ code: "INPUT_FORMAT" });
    await expect(open("s3://b/lists/a.bin", "parquet")).rejects.toMatchObject({ code: "INPUT_FORMAT", message: expect.stringContaining("not a Parquet file") });
    await expect(open("s3:/b", "text")).rejects.toMatchObject({ code: "INPUT_FORMAT" });
  });
});
