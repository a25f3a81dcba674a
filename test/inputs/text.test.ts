import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import { gzipSync } from "node:zlib";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { countItems } from "../../orchestrator/inputs/count-items.ts";
import { openSource } from "../../orchestrator/inputs/open-source.ts";
import { cuts, inPieces, lineEnd, lineText, optionsOf, randomly, readAll, specOf, temporaryDirectory } from "./support.ts";

const directory = await temporaryDirectory();

async function fileWith(name: string, content: string | Buffer): Promise<string> {
  const path = join(directory, name);
  await writeFile(path, content);
  return path;
}

async function readText(content: string | Buffer, name: string): Promise<readonly unknown[]> {
  const path = await fileWith(name, content);
  return readAll(await openSource(specOf(path, "text"), optionsOf()));
}

describe("a list of lines", () => {
  test("is the same however it comes in pieces", async () => {
    await fc.assert(fc.asyncProperty(
      fc.array(fc.tuple(lineText, lineEnd, fc.constantFrom("", "\n", "  \r\n", "\t\n"))),
      cuts, fc.boolean(), fc.boolean(), fc.integer({ min: 1, max: 5 }),
      async (lines, places, mark, lastEnded, count) => {
        const text = lines.map(([line, end, blank]) => line + end + blank).join("");
        const content = (mark ? "\uFEFF" : "") + (lastEnded ? text : text.replace(/\r?\n[\s]*$/, ""));
        const stdin = inPieces(Buffer.from(content), places);
        const source = await openSource(specOf("-", "text"), optionsOf({ stdin }));
        expect(await readAll(source, count)).toEqual(lines.map(([line]) => ({ input: line })));
      },
    ), randomly);
  });

  test("has no end of line, blank line, or byte order mark in it", async () => {
    expect(await readText("\uFEFFa b.jpg\r\n\r\n   \n# ü.jpg\n\t\nlast\r", "ends.txt"))
      .toEqual([{ input: "a b.jpg" }, { input: "# ü.jpg" }, { input: "last" }]);
  });

  test("may be empty, or hold nothing but blank lines", async () => {
    expect(await readText("", "empty.txt")).toEqual([]);
    expect(await readText("\n\r\n  \n", "blank.txt")).toEqual([]);
    expect(await readText("\uFEFF", "mark.txt")).toEqual([]);
  });

  test("longer than a chunk comes whole, counted, and with an estimate that ends at nothing", async () => {
    const names = Array.from({ length: 60_000 }, (_, place) => `http://host/ä/${place}.jpg`);
    const path = await fileWith("long.txt", names.join("\r\n"));
    const source = await openSource(specOf(path, "text"), optionsOf({ itemKind: "image" }));
    const first = await source.read(10_000);
    const estimate = source.remaining() ?? 0;
    expect(estimate).toBeGreaterThan(25_000);
    expect(estimate).toBeLessThan(100_000);
    const rest = await readAll(source, 4096);
    expect([...first, ...rest].map((item) => item.input)).toEqual(names);
    expect(source.remaining()).toBe(0);
    expect(await countItems(specOf(path, "text"), optionsOf())).toBe(names.length);
    expect(await countItems(specOf(path, "text", { limit: 7 }), optionsOf())).toBe(7);
  });

  test("packed with gzip reads the same", async () => {
    const names = Array.from({ length: 30_000 }, (_, place) => `${place} ü`);
    const path = await fileWith("packed.txt.gz", gzipSync(names.join("\n")));
    const source = await openSource(specOf(path, "text"), optionsOf());
    expect((await readAll(source)).map((item) => item.input)).toEqual(names);
    expect(await countItems(specOf(path, "text"), optionsOf())).toBe(30_000);
  });

  test("stops at the limit", async () => {
    const path = await fileWith("limit.txt", "a\nb\nc\n");
    const source = await openSource(specOf(path, "text", { limit: 2 }), optionsOf());
    expect(await source.read(1)).toEqual([{ input: "a" }]);
    expect(source.remaining()).toBe(1);
    expect(await source.read(5)).toEqual([{ input: "b" }]);
    expect(await source.read(5)).toEqual([]);
    await source.close();
    const none = await openSource(specOf(path, "text", { limit: 0 }), optionsOf());
    expect(await readAll(none)).toEqual([]);
  });

  test("says what file it was", async () => {
    const path = await fileWith("identity.txt", "a\n");
    const source = await openSource(specOf(path, "text"), optionsOf());
    expect(source.identity).toMatchObject({ kind: "text", from: path, size: 2, modifiedMs: expect.any(Number) });
    expect(source.rereadable).toBe(true);
    await source.close();
  });
});

describe("a line that cannot be an item", () => {
  test("is an error of its own when it is not UTF-8, and its neighbours go on", async () => {
    const content = Buffer.concat([Buffer.from("ä\n"), Buffer.from([0x66, 0xfc, 0x72]), Buffer.from("\nb\n")]);
    expect(await readText(content, "latin1.txt")).toEqual([
      { input: "ä" },
      { input: "", error: { code: "INPUT_INVALID", message: "line 2 is not UTF-8" } },
      { input: "b" },
    ]);
  });

  test("is too large above a million bytes of JSON, and shown by its beginning", async () => {
    const largest = "x".repeat(999_998);
    expect(await readText(`${largest}\n${largest}x\nb`, "large.txt")).toEqual([
      { input: largest },
      { input: `${"x".repeat(200)}…`, error: { code: "INPUT_TOO_LARGE", message: "line 2 is larger than 1000000 bytes" } },
      { input: "b" },
    ]);
  });

  test("may be endless without being held", async () => {
    const piece = Buffer.alloc(1_000_000, "x");
    const stdin = Readable.from((function* () {
      yield Buffer.from("a\n");
      for (let i = 0; i < 300; i += 1) yield piece;
      yield Buffer.from("x\nb\n");
    })());
    const source = await openSource(specOf("-", "text"), optionsOf({ stdin }));
    const before = process.memoryUsage().rss;
    const items = await readAll(source);
    expect(items.map((item) => item.error?.code ?? item.input)).toEqual(["a", "INPUT_TOO_LARGE", "b"]);
    expect(process.memoryUsage().rss - before).toBeLessThan(150_000_000);
  });
});

describe("items that are images", () => {
  test("are relative to the directory of their list; URLs and absolute paths stay", async () => {
    const lists = join(directory, "lists");
    await mkdir(lists);
    await writeFile(join(lists, "a.txt"), "images/a b.jpg\n../c.jpg\n/abs/d.jpg\nhttp://host/e.jpg?x=../y\ns3://bucket/f\n");
    const source = await openSource(specOf(join(lists, "a.txt"), "text"), optionsOf({ itemKind: "image" }));
    expect((await readAll(source)).map((item) => item.input)).toEqual([
      join(lists, "images/a b.jpg"), join(directory, "c.jpg"), "/abs/d.jpg", "http://host/e.jpg?x=../y", "s3://bucket/f",
    ]);
  });

  test("are keys of a bucket where one is named, all that are no URLs", async () => {
    const path = await fileWith("keys.txt", "a b.jpg\n/c.jpg\nhttp://host/d.jpg\ns3://other/e\n");
    const source = await openSource(specOf(path, "text"), optionsOf({ itemKind: "image", bucket: "b" }));
    expect((await readAll(source)).map(({ input }) => input)).toEqual(["s3://b/a b.jpg", "s3://b//c.jpg", "http://host/d.jpg", "s3://other/e"]);
    const listed = await openSource(specOf(["a.jpg"], "list"), optionsOf({ itemKind: "image", bucket: "b" }));
    expect(await readAll(listed)).toEqual([{ input: "s3://b/a.jpg" }]);
  });

  test("from standard input are relative to the base directory", async () => {
    const source = await openSource(specOf("-", "stdin"), optionsOf({ itemKind: "image", stdin: Readable.from(["a.jpg\n"]) }));
    expect(await readAll(source)).toEqual([{ input: "/base/a.jpg" }]);
  });
});

describe("what cannot be opened is refused by name", () => {
  test("a file that does not exist, with the nearest one that does", async () => {
    const path = await fileWith("pictures.txt", "a");
    await expect(openSource(specOf(join(directory, "picturs.txt"), "text"), optionsOf())).rejects.toMatchObject({
      code: "INPUT_NOT_FOUND",
      field: "input",
      message: `input ${join(directory, "picturs.txt")} does not exist; did you mean ${path}?`,
    });
    await expect(openSource(specOf(join(directory, "pictures.txt/a/b"), "text"), optionsOf())).rejects.toMatchObject({
      code: "INPUT_NOT_FOUND",
    });
    await expect(openSource(specOf("/no-such-place/x/urls.txt", "csv"), optionsOf())).rejects.toThrow("there is no /no-such-place");
  });

  test("a folder where a file is needed", async () => {
    await expect(openSource(specOf(directory, "text"), optionsOf())).rejects.toMatchObject({ code: "INPUT_IS_FOLDER" });
    await expect(openSource(specOf(directory, "parquet"), optionsOf())).rejects.toMatchObject({ code: "INPUT_IS_FOLDER" });
  });

  test("UTF-16 and what is no text", async () => {
    const utf16 = await fileWith("utf16.txt", Buffer.from("\uFEFFa.jpg\n", "utf16le"));
    await expect(openSource(specOf(utf16, "text"), optionsOf())).rejects.toThrow("is UTF-16; save it as UTF-8");
    const binary = await fileWith("binary.txt", Buffer.from([1, 2, 0, 3]));
    await expect(openSource(specOf(binary, "csv"), optionsOf())).rejects.toMatchObject({ code: "INPUT_FORMAT" });
  });

  test("damaged gzip", async () => {
    const cutOff = await fileWith("cut.txt.gz", gzipSync("a\n".repeat(100_000)).subarray(0, 50));
    const read = openSource(specOf(cutOff, "text"), optionsOf()).then(readAll);
    await expect(read).rejects.toMatchObject({ code: "INPUT_UNREADABLE", message: `input ${cutOff} cannot be read: its gzip data ends too early` });
  });
});

describe("standard input", () => {
  const read = async (text: string, rest = {}): Promise<readonly unknown[]> =>
    readAll(await openSource(specOf("-", "stdin", rest), optionsOf({ stdin: Readable.from([...text]) })));

  test("shows its format by how it begins", async () => {
    expect(await read("\uFEFF\n a\nb\n")).toEqual([{ input: " a" }, { input: "b" }]);
    expect(await read('{"input":"a","id":1}\n{"input":2}')).toEqual([{ input: "a", id: "1" }, { input: 2 }]);
    expect(await read('[1]\n"x"\n')).toEqual([{ input: [1] }, { input: "x" }]);
    expect(await read('"a"\n')).toEqual([{ input: "a" }]);
    expect(await read('"n",m\n1,2\n', { column: "m" })).toEqual([{ input: "2" }]);
    expect(await read("")).toEqual([]);
  });

  test("cannot be read twice, nor counted", async () => {
    const source = await openSource(specOf("-", "stdin"), optionsOf());
    expect(source.rereadable).toBe(false);
    expect(source.identity).toEqual({ kind: "stdin", from: "-", size: null, modifiedMs: null });
    await source.close();
    expect(await countItems(specOf("-", "stdin"), optionsOf())).toBeNull();
  });

  test("hands over what there is without waiting for more, and can be closed while it is silent", async () => {
    const stdin = new Readable({ read() {} });
    stdin.push("a\nb\nc");
    const source = await openSource(specOf("-", "stdin"), optionsOf({ stdin }));
    expect(await source.read(100)).toEqual([{ input: "a" }, { input: "b" }]);
    const waiting = source.read(100);
    await source.close();
    expect(await waiting.then((items) => items.length, () => 0)).toBeLessThanOrEqual(1);
  });
});
