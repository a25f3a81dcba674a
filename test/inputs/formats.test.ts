import { chmod, mkdir, symlink, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import { gzipSync } from "node:zlib";
import * as fc from "fast-check";
import { parquetWriteFile } from "hyparquet-writer";
import { describe, expect, test } from "vitest";
import { countItems } from "../../orchestrator/inputs/count-items.ts";
import { openSource } from "../../orchestrator/inputs/open-source.ts";
import type { InputSpec } from "../../orchestrator/jobs/types.ts";
import type { JsonValue } from "../../task-manager/protocol.ts";
import { asOrdinaryUser } from "../support/ordinary-user.ts";
import { cuts, inPieces, lineEnd, optionsOf, randomly, readAll, specOf, temporaryDirectory } from "./support.ts";

const directory = await temporaryDirectory();
let files = 0;

async function fileWith(ending: string, content: string | Buffer): Promise<string> {
  const path = join(directory, `${files += 1}${ending}`);
  await writeFile(path, content);
  return path;
}

async function readPath(path: string, format: InputSpec["format"], rest: Partial<InputSpec> = {}, itemKind: "image" | "value" = "value") {
  return readAll(await openSource(specOf(path, format, rest), optionsOf({ itemKind })));
}

const jsonValue = fc.jsonValue({ noUnicodeString: false }) as fc.Arbitrary<JsonValue>;
/** JSON text has no -0. */
const sameAsJson = (value: JsonValue): JsonValue => JSON.parse(JSON.stringify(value)) as JsonValue;

describe("JSONL", () => {
  test("gives back the items written to it, however it comes in pieces", async () => {
    const item = fc.record({ input: jsonValue, id: fc.string({ minLength: 1 }), weight: fc.nat() }, { requiredKeys: ["input"] });
    await fc.assert(fc.asyncProperty(fc.array(item), lineEnd, cuts, async (items, end, places) => {
      const text = items.map((one) => JSON.stringify(one)).join(end);
      const stdin = inPieces(Buffer.from(text), places);
      const source = await openSource(specOf("-", "jsonl"), optionsOf({ stdin }));
      expect(await readAll(source, 3)).toEqual(items.map((one) => ({ ...one, input: sameAsJson(one.input) })));
    }), randomly);
  });

  test("takes the line's value, the field input, or the field that was named", async () => {
    const path = await fileWith(".jsonl", '"a"\n7\nnull\n{"x":1,"id":"kept"}\n{"input":["b"],"id":5,"weight":"2.5","x":1}\n');
    expect(await readPath(path, "jsonl")).toEqual([
      { input: "a" }, { input: 7 }, { input: null }, { input: { x: 1, id: "kept" } }, { input: ["b"], id: "5", weight: 2.5 },
    ]);
    expect(await readPath(path, "jsonl", { column: "x", id: "id" })).toEqual([
      ...[1, 2, 3].map((line) => ({ input: expect.any(String), error: { code: "INPUT_INVALID", message: `line ${line} has no field "x"` } })),
      { input: 1, id: "kept" }, { input: 1, id: "5" },
    ]);
  });

  test("with a bad line goes on behind it, and the message does not repeat the line", async () => {
    const path = await fileWith(".jsonl", '"a"\n{"input":"http://h/?X-Amz-Signature=secret"\n\n"b"\n[1]\n""\n{"input":"c","id":{}}\n');
    const items = await readPath(path, "jsonl", {}, "image");
    expect(items.map((item) => item.error?.message ?? item.input)).toEqual([
      join(directory, "a"), "line 2 is not JSON", join(directory, "b"), "line 5 must be a URL or a path, not a list",
      "line 6 must be a URL or a path, not empty", expect.stringMatching(/^line 7 has an id/),
    ]);
    expect(await countItems(specOf(path, "jsonl"), optionsOf())).toBe(6);
  });

  test("measures an item by its JSON", async () => {
    const half = "\u0001".repeat(160_000);
    const path = await fileWith(".jsonl", `${JSON.stringify([half])}\n${JSON.stringify([half, half])}\n${JSON.stringify({ input: 1, more: "x".repeat(2_000_000) })}\n1e999`);
    const items = await readPath(path, "jsonl");
    expect(items.map((item) => item.error?.code ?? "fine")).toEqual(["fine", "INPUT_TOO_LARGE", "fine", "INPUT_INVALID"]);
    expect(JSON.stringify(items[1]).length).toBeLessThan(2_000);
  });
});

describe("CSV", () => {
  const cell = fc.string({ unit: "binary", maxLength: 15 }).filter((text) => !/[\0\uFEFF\uFFFD]/.test(text));
  const quoted = (text: string): string => `"${text.replaceAll('"', '""')}"`;

  test("gives back the cells written to it, however it comes in pieces", async () => {
    await fc.assert(fc.asyncProperty(fc.array(fc.tuple(cell, cell, fc.nat())), lineEnd, cuts, fc.boolean(), async (rows, end, places, mark) => {
      const lines = [["name", "weight", "input"], ...rows.map(([id, input, weight]) => [quoted(id), weight, quoted(input)])];
      const content = (mark ? "\uFEFF" : "") + lines.map((line) => line.join(",")).join(end);
      const stdin = inPieces(Buffer.from(content), places);
      const source = await openSource(specOf("-", "csv", { id: "name", weight: "weight" }), optionsOf({ stdin }));
      expect(await readAll(source, 4)).toEqual(rows.map(([id, input, weight]) => ({ input, ...(id !== "" && { id }), weight })));
    }), randomly);
  });

  test("has its items in the column that was named, in input, in url, or in the only one", async () => {
    expect(await readPath(await fileWith(".csv", "a,input,url\n1,2,3\n"), "csv")).toEqual([{ input: "2" }]);
    expect(await readPath(await fileWith(".csv", "a, url \n1,2\n"), "csv")).toEqual([{ input: "2" }]);
    expect(await readPath(await fileWith(".csv", "image\r\na.jpg\r\n"), "csv", {}, "image")).toEqual([{ input: join(directory, "a.jpg") }]);
    expect(await readPath(await fileWith(".csv", "a,b\n1,2\n"), "csv", { column: "b" })).toEqual([{ input: "2" }]);
    expect(await readPath(await fileWith(".tsv", "a\tinput\n1\tx,y\n"), "csv")).toEqual([{ input: "x,y" }]);
  });

  test("without a clear column is refused with the columns that there are", async () => {
    const path = await fileWith(".csv", "image,size\na,1\n");
    await expect(readPath(path, "csv")).rejects.toMatchObject({ code: "INPUT_COLUMN", field: "input.column", message: expect.stringContaining('"image", "size"') });
    await expect(readPath(path, "csv", { column: "imag" })).rejects.toThrow('did you mean "image"?');
    await expect(readPath(path, "csv", { column: "image", id: "key" })).rejects.toMatchObject({ field: "input.id" });
    await expect(readPath(await fileWith(".csv", "http://h/a.jpg\nhttp://h/b.jpg\n"), "csv")).rejects.toThrow("looks like an item");
  });

  test("may be empty, or have nothing but a header", async () => {
    expect(await readPath(await fileWith(".csv", ""), "csv")).toEqual([]);
    expect(await readPath(await fileWith(".csv", "input\n"), "csv")).toEqual([]);
  });

  test("with a short row or bytes that are not UTF-8 goes on behind them", async () => {
    const content = Buffer.concat([Buffer.from("id,input\n1\n2,b\n3,"), Buffer.from([0xfc]), Buffer.from('\n4,say "d"\n')]);
    const items = await readPath(await fileWith(".csv", content), "csv");
    expect(items.map((item) => item.error?.message ?? item.input)).toEqual([
      "line 2 has 1 columns, its item belongs in column 2", "b", "line 4 is not UTF-8", 'say "d"',
    ]);
  });

  test("with a quote that is never closed ends as an error, at once where it is endless", async () => {
    const path = await fileWith(".csv", 'input\na\n"b\nc\n');
    await expect(readPath(path, "csv")).rejects.toMatchObject({ code: "INPUT_FORMAT", message: `input ${path} opens a quote that is never closed, after line 2` });
    let given = 0;
    const stdin = Readable.from((function* () {
      yield 'input\n"';
      for (; ; given += 1) yield "x".repeat(1_000_000);
    })());
    const source = await openSource(specOf("-", "csv"), optionsOf({ stdin }));
    await expect(source.read(1)).rejects.toThrow("record of more than 8000000 bytes");
    await source.close();
    expect(given).toBeLessThan(40);
  });

  test("stops at the limit, and is counted by records", async () => {
    const path = await fileWith(".csv", 'input\n"a\n1"\nb\nc\n');
    expect(await readPath(path, "csv", { limit: 2 })).toEqual([{ input: "a\n1" }, { input: "b" }]);
    expect(await countItems(specOf(path, "csv"), optionsOf())).toBe(3);
    expect(await countItems(specOf(path, "csv", { limit: 2 }), optionsOf())).toBe(2);
  });
});

/** A zstd frame with one raw block (RFC 8878, 3.1.1), since Node 20 cannot write zstd. */
function zstdStored(bytes: Uint8Array): Uint8Array {
  const header = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 0, 0, 0, 0, 0, 0]);
  header.writeUInt32LE(bytes.length, 5);
  header.writeUIntLE((bytes.length << 3) | 1, 9, 3);
  return Buffer.concat([header, bytes]);
}

describe("Parquet", () => {
  test("gives back the items written to it, over row groups and reads of any size", async () => {
    const row = fc.record({ value: fc.string({ unit: "binary" }), id: fc.bigInt({ min: 1n, max: 2n ** 60n }), weight: fc.nat() });
    await fc.assert(fc.asyncProperty(fc.array(row, { minLength: 1 }), fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 30 }), async (rows, rowGroupSize, count) => {
      const path = join(directory, "round.parquet");
      parquetWriteFile({
        filename: path,
        rowGroupSize,
        columnData: [
          { name: "other", data: rows.map(() => 1), type: "INT32" },
          { name: "key", data: rows.map((one) => one.id), type: "INT64" },
          { name: "input", data: rows.map((one) => one.value), type: "STRING" },
          { name: "cost", data: rows.map((one) => one.weight), type: "DOUBLE" },
        ],
      });
      const source = await openSource(specOf(path, "parquet", { id: "key", weight: "cost" }), optionsOf());
      expect(source.remaining()).toBe(rows.length);
      expect(await readAll(source, count)).toEqual(rows.map((one) => ({ input: Buffer.from(one.value).toString(), id: String(one.id), weight: one.weight })));
      expect(await countItems(specOf(path, "parquet"), optionsOf())).toBe(rows.length);
    }), { ...randomly, numRuns: 40 });
  });

  test("values become JSON, and those that cannot are their own errors", async () => {
    const path = join(directory, "values.parquet");
    parquetWriteFile({ filename: path, columnData: [{ name: "v", type: "JSON", data: [{ a: [1] }, "x", null] }] });
    expect((await readPath(path, "parquet")).map((item) => item.input)).toEqual([{ a: [1] }, "x", null]);
    parquetWriteFile({ filename: path, columnData: [{ name: "v", type: "TIMESTAMP", data: [new Date(0)] }] });
    expect(await readPath(path, "parquet")).toEqual([{ input: "1970-01-01T00:00:00.000Z" }]);
    parquetWriteFile({ filename: path, columnData: [{ name: "v", type: "DOUBLE", data: [1.5, NaN] }] });
    expect((await readPath(path, "parquet")).map((item) => item.error?.message ?? item.input)).toEqual([1.5, "row 2 has a value that JSON cannot hold"]);
    expect((await readPath(path, "parquet", {}, "image")).map((item) => item.error?.code)).toEqual(["INPUT_INVALID", "INPUT_INVALID"]);
    parquetWriteFile({ filename: path, columnData: [{ name: "v", type: "INT64", data: [2n ** 60n + 1n, 3n] }] });
    expect((await readPath(path, "parquet")).map((item) => item.input)).toEqual([String(2n ** 60n + 1n), 3]);
  });

  test("may be compressed with zstd or gzip", async () => {
    const path = join(directory, "packed.parquet");
    const compressors = { ZSTD: zstdStored, GZIP: (bytes: Uint8Array) => gzipSync(bytes) };
    for (const codec of ["ZSTD", "GZIP"] as const) {
      parquetWriteFile({ filename: path, codec, compressors, columnData: [{ name: "v", type: "STRING", data: ["a", "b"] }] });
      expect((await readPath(path, "parquet")).map((item) => item.input)).toEqual(["a", "b"]);
    }
  });

  test("that is none is refused", async () => {
    const text = await fileWith(".parquet", "a\nb\nccccccccccccccccccc\n");
    await expect(readPath(text, "parquet")).rejects.toMatchObject({ code: "INPUT_FORMAT", message: `input ${text} is not a Parquet file` });
    const empty = await fileWith(".parquet", "");
    await expect(readPath(empty, "parquet")).rejects.toMatchObject({ code: "INPUT_FORMAT" });
  });
});

describe("files of a folder", async () => {
  const root = join(directory, "pictures");
  for (const folder of ["", "a", "a/deep", ".hidden", "b", "empty"]) await mkdir(join(root, folder), { recursive: true });
  const names = ["a.jpg", "a/2.PNG", "a/10.webp", "a/deep/x y.jpeg", "b/ü.tif", "notes.txt", ".hidden/no.jpg", "b/.no.jpg", "b/a.json"];
  for (const name of names) await writeFile(join(root, name), "12345");
  await utimes(join(root, "a.jpg"), 1_000, 1_000);
  await symlink(join(root, "a.jpg"), join(root, "b/link.jpg"));
  await symlink(join(root, "nothing"), join(root, "b/lost.jpg"));
  await symlink(join(root, "a"), join(root, "b/loop.jpg"));
  const relative = (items: readonly { readonly input: JsonValue }[]): string[] => items.map((item) => String(item.input).slice(root.length + 1));

  test("are its images, in the order of their paths, with size and version", async () => {
    const source = await openSource(specOf(root, "folder"), optionsOf({ itemKind: "image" }));
    expect(source.remaining()).toBeNull();
    const items = await readAll(source, 2);
    expect(relative(items)).toEqual(["a.jpg", "a/10.webp", "a/2.PNG", "a/deep/x y.jpeg", "b/link.jpg", "b/lost.jpg", "b/ü.tif"]);
    expect(items[0]).toEqual({ input: join(root, "a.jpg"), weight: 5, version: "5-1000000" });
    expect(items[5]).toEqual({ input: join(root, "b/lost.jpg") });
    expect(source.remaining()).toBe(0);
    expect(source.rereadable).toBe(false);
    expect(await countItems(specOf(root, "folder", { limit: 3 }), optionsOf())).toBe(3);
  });

  test("are what a glob matches, whatever their kind", async () => {
    const matched = async (glob: string): Promise<string[]> => relative(await readPath(join(root, glob), "glob"));
    expect(await matched("*.jpg")).toEqual(["a.jpg"]);
    expect(await matched("**/*.{txt,json}")).toEqual(["b/a.json", "notes.txt"]);
    expect(await matched("a/*/*.jpeg")).toEqual(["a/deep/x y.jpeg"]);
    expect(await matched("{a,b}/*[0-9]*")).toEqual(["a/10.webp", "a/2.PNG"]);
    expect(await matched("**/a*")).toEqual(["a.jpg", "b/a.json"]);
    expect(await matched(".hidden/*")).toEqual([".hidden/no.jpg"]);
    expect(await matched("b/.*")).toEqual(["b/.no.jpg"]);
    expect(await matched("**/none")).toEqual([]);
  });

  test("may lie below a folder with a pattern's own characters in its name", async () => {
    const odd = join(root, "empty/a (1) [x]{y}+");
    await mkdir(odd);
    await writeFile(join(odd, "1.dat"), "1");
    expect(relative(await readPath(`${odd.replace(/[[\]{}()+]/g, "\\$&")}/*.dat`, "glob"))).toEqual(["empty/a (1) [x]{y}+/1.dat"]);
    expect(relative(await readPath(`${root}/a/../empty/**/*.dat`, "glob"))).toEqual(["empty/a (1) [x]{y}+/1.dat"]);
  });

  test("need a folder that exists", async () => {
    await expect(readPath(join(root, "c"), "folder")).rejects.toMatchObject({ code: "INPUT_NOT_FOUND" });
    await expect(readPath(join(root, "nope/*.jpg"), "glob")).rejects.toMatchObject({ code: "INPUT_NOT_FOUND" });
    await expect(readPath(join(root, "a.jpg"), "folder")).rejects.toMatchObject({ code: "INPUT_IS_FILE" });
  });

  test("that cannot be listed are an error in their place", async () => {
    await chmod(join(root, "empty"), 0o000);
    const items = await asOrdinaryUser([directory, join(root, "empty")], () => readPath(root, "folder"));
    await chmod(join(root, "empty"), 0o700);
    expect(items.find((item) => item.error)?.error?.code).toBe("INPUT_UNREADABLE");
  });
});

describe("a list in the job", () => {
  test("holds values, or objects with input, id and weight", async () => {
    const list: JsonValue[] = ["a", { input: "b", id: "k", weight: 3 }, { input: "http://h/c" }, 4];
    const source = await openSource(specOf(list, "list"), optionsOf({ itemKind: "image" }));
    expect(source.identity.kind).toBe("list");
    expect(source.rereadable).toBe(true);
    expect(source.remaining()).toBe(4);
    expect(await readAll(source, 3)).toEqual([
      { input: "/base/a" }, { input: "/base/b", id: "k", weight: 3 }, { input: "http://h/c" },
      { input: "4", error: { code: "INPUT_INVALID", message: "item 4 must be a URL or a path, not a number" } },
    ]);
    expect(await countItems(specOf(list, "list", { limit: 3 }), optionsOf())).toBe(3);
    const other = await openSource(specOf(["a"], "list"), optionsOf());
    expect(other.identity.from).not.toBe(source.identity.from);
  });
});
