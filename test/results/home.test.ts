import { readdirSync } from "node:fs";
import { appendFile, mkdir, readdir, readFile, rename, rm, stat, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { ItemSource, SourceItem } from "../../orchestrator/inputs/types.ts";
import { openHome } from "../../orchestrator/results/home.ts";
import { verify } from "../../orchestrator/results/verify.ts";
import { failure, fingerprintA, fingerprintB, indexesIn, homeOptions, itemsOf, linesOf, outcomesOf, run, temporaryFolder, work } from "./support.ts";

const list = itemsOf("a", "b", "c", "d", "e");

async function newHome(): Promise<string> {
  return join(await temporaryFolder(), "out");
}

describe("a run into a home with results", () => {
  test("does only what is new or failed, and ends with one line an item", async () => {
    const dir = await newHome();
    const first = await run(homeOptions(dir), list, { end: (index) => (index === 1 ? failure : { output: index }) });
    expect(first.did).toEqual([0, 1, 2, 3, 4]);
    expect(await linesOf(join(dir, "failed.jsonl"))).toEqual([{ input: "b" }]);
    const second = await run(homeOptions(dir), itemsOf("new", ...["e", "b", "a", "c", "d"]));
    expect(second.did).toEqual([0, 2]);
    expect((await outcomesOf(dir)).map(({ index, input, output }) => [index, input, output])).toEqual([
      [0, "new", "done"], [1, "e", 4], [2, "b", "done"], [3, "a", 0], [4, "c", 2], [5, "d", 3],
    ]);
    expect(await linesOf(join(dir, "results.jsonl"))).toHaveLength(6);
    expect(await linesOf(join(dir, "failed.jsonl"))).toEqual([]);
    expect(await verify(dir)).toMatchObject({ ok: true, items: 6, succeeded: 6 });
  });

  test("keeps the lines of items that are no longer in the list in stale.jsonl", async () => {
    const dir = await newHome();
    await run(homeOptions(dir), list);
    await run(homeOptions(dir), itemsOf("d", "a"));
    await run(homeOptions(dir), itemsOf("a", "d"));
    expect((await linesOf(join(dir, "stale.jsonl"))).map((line) => (line as { input: string }).input)).toEqual(["b", "c", "e"]);
    expect((await outcomesOf(dir)).map(({ index, input }) => [index, input])).toEqual([[0, "a"], [1, "d"]]);
    expect((await verify(dir)).ok).toBe(true);
  });

  test("takes equal inputs for separate items, each with its line", async () => {
    const dir = await newHome();
    await run(homeOptions(dir), itemsOf("a", "a"));
    expect((await run(homeOptions(dir), itemsOf("a", "b", "a", "a"))).did).toEqual([1, 3]);
    expect(await linesOf(join(dir, "results.jsonl"))).toHaveLength(4);
    expect((await verify(dir)).ok).toBe(true);
  });

  test("does an item again whose version has changed", async () => {
    const dir = await newHome();
    await run(homeOptions(dir), [{ input: "a", version: "1" }, { input: "b", version: "1" }]);
    expect((await run(homeOptions(dir), [{ input: "a", version: "1" }, { input: "b", version: "2" }])).did).toEqual([1]);
    expect(await linesOf(join(dir, "stale.jsonl"))).toMatchObject([{ input: "b", version: "1" }]);
  });

  test("knows an item by its id, whatever its input has become", async () => {
    const dir = await newHome();
    await run(homeOptions(dir), [{ input: "http://old/a", id: "1" }]);
    expect((await run(homeOptions(dir), [{ input: "x", id: "2" }, { input: "http://new/a", id: "1" }])).did).toEqual([0]);
    expect((await verify(dir)).ok).toBe(true);
  });

  test("leaves a journal alone that is already as it has to be", async () => {
    const dir = await newHome();
    await run(homeOptions(dir), list);
    const before = await stat(join(dir, "results.jsonl"));
    expect((await run(homeOptions(dir), [...list, { input: "f" }])).did).toEqual([5]);
    expect((await stat(join(dir, "results.jsonl"))).ino).toBe(before.ino);
    expect((await verify(dir)).ok).toBe(true);
  });

  test("that is cut shows what it reused, before anything was compacted", async () => {
    const dir = await newHome();
    await run(homeOptions(dir), list, { end: (index) => ({ output: index }) });
    const moved = itemsOf("new", "e", "d", "c", "b", "a");
    await run(homeOptions(dir), moved, { reads: 4 });
    expect((await outcomesOf(dir)).map(({ index, input, output }) => [index, input, output])).toEqual([[0, "new", "done"], [1, "e", 4], [2, "d", 3], [3, "c", 2]]);
    expect((await verify(dir)).ok).toBe(false);
    expect((await run(homeOptions(dir, { mode: "resume" }), moved)).did).toEqual([]);
    expect((await outcomesOf(dir, "input")).map(({ input }) => input)).toEqual(["new", "e", "d", "c", "b", "a"]);
    expect((await verify(dir)).ok).toBe(true);
  });
});

describe("resume", () => {
  test("does what has no line, and leaves errors errors", async () => {
    const dir = await newHome();
    await run(homeOptions(dir), list, { end: (index) => (index === 0 ? failure : index === 3 ? undefined : { output: index }) });
    const home = await openHome(homeOptions(dir, { mode: "resume" }));
    expect(home.match(0, list)).toEqual({ done: [0, 3, 4, 5], failedDone: 1 });
    await home.close();
    expect((await run(homeOptions(dir, { mode: "resume" }), list)).did).toEqual([3]);
    expect(await verify(dir)).toMatchObject({ ok: true, succeeded: 4, failed: 1 });
    expect(await linesOf(join(dir, "failed.jsonl"))).toEqual([{ input: "a" }]);
  });

  test("tries errors again when asked, and the last line of an index wins", async () => {
    const dir = await newHome();
    await run(homeOptions(dir), list, { end: (index) => (index % 2 === 0 ? failure : { output: index }) });
    const retry = homeOptions(dir, { mode: "resume", retryFailed: true });
    expect((await run(retry, list, { end: (index) => (index === 2 ? failure : { output: "late" }) })).did).toEqual([0, 2, 4]);
    expect(await verify(dir)).toMatchObject({ ok: true, succeeded: 4, failed: 1, duplicates: 0 });
    expect(await linesOf(join(dir, "failed.jsonl"))).toEqual([{ input: "c" }]);
    await run(homeOptions(dir, { mode: "resume" }), list);
    expect(await linesOf(join(dir, "results.jsonl"))).toHaveLength(5);
  });

  test.each([
    ["HOME_EMPTY", {}, "empty", /splitrun run/],
    ["TASK_CHANGED", { fingerprint: fingerprintB }, "filled", /splitrun run/],
    ["SOURCE_CHANGED", { source: { kind: "text", from: "/list.txt", size: 2, modifiedMs: 1 } }, "filled", /changed \(1 bytes, now 2\).*splitrun run/],
    ["SOURCE_CHANGED", { source: { kind: "text", from: "/list.txt", size: 1, modifiedMs: 2 } }, "filled", /written again.*splitrun run/],
    ["SOURCE_CHANGED", { source: { kind: "text", from: "/other.txt", size: 1, modifiedMs: 1 } }, "filled", /splitrun run/],
  ] as const)("is refused with %s for %j in a home that is %s", async (code, change, state, message) => {
    const dir = await newHome();
    if (state === "filled") await run(homeOptions(dir), list);
    await expect(openHome(homeOptions(dir, { mode: "resume", ...change }))).rejects.toMatchObject({ code, message: expect.stringMatching(message) as string });
    expect(readdirSync(join(dir, "..")).length).toBe(state === "filled" ? 1 : 0);
    if (state === "filled") expect(await readdir(dir)).not.toContain("lock");
  });

  test("notices a list that changed though its size and time did not", async () => {
    const dir = await newHome();
    await run(homeOptions(dir), list);
    const home = await openHome(homeOptions(dir, { mode: "resume" }));
    expect(() => home.match(0, itemsOf("a", "x", "c"))).toThrow(expect.objectContaining({ code: "SOURCE_CHANGED" }));
    await home.close();
  });

  test("reads a list in S3 again, whose copy was cut, as long as it is the same", async () => {
    const dir = await newHome();
    const identity = { kind: "text", from: "s3://b/list.txt", size: 10, modifiedMs: 1 } as const;
    const source = (): ItemSource => {
      let taken = 0;
      return { identity, rereadable: false, read: async (count: number) => list.slice(taken, (taken += count)), remaining: () => null, close: async () => {} };
    };
    const home = await openHome(homeOptions(dir, { source: identity }));
    const copied = await home.list(source());
    home.match(0, await copied.read(2));
    await copied.close();
    await home.close();
    const resumed = await openHome(homeOptions(dir, { mode: "resume", source: identity }));
    const again = await resumed.list(source());
    expect(await again.read(9)).toEqual(list);
    await again.close();
    await resumed.close();
  });

  test("reads a list back that can be read only once", async () => {
    const dir = await newHome();
    const identity = { kind: "stdin", from: "-", size: null, modifiedMs: null } as const;
    const items: readonly SourceItem[] = [{ input: "a", id: "1", weight: 3 }, { input: { deep: ["ü", null] }, version: "v" }, { input: "", error: { code: "INPUT_INVALID", message: "line 3 is not JSON" } }];
    let taken = 0;
    const source = (given: readonly SourceItem[]): ItemSource => ({
      identity,
      rereadable: false,
      read: async (count: number) => given.slice(taken, (taken += count)),
      remaining: () => null,
      close: async () => {},
    });
    const home = await openHome(homeOptions(dir, { source: identity }));
    const copied = await home.list(source(items));
    expect([...(await copied.read(2)), ...(await copied.read(2))]).toEqual(items);
    home.match(0, items);
    await copied.close();
    await home.close();
    await expect(openHome(homeOptions(dir, { mode: "resume", source: identity }))).rejects.toMatchObject({ code: "LIST_CUT", message: expect.stringMatching(/splitrun run.* with the same list piped in again/) as string });

    taken = 0;
    const again = await openHome(homeOptions(dir, { source: identity }));
    const whole = await again.list(source(items));
    for (let read = await whole.read(2), first = 0; read.length > 0; first += read.length, read = await whole.read(2)) again.match(first, read);
    again.inputEnded();
    await again.finish({ complete: false });
    await again.close();

    const resumed = await openHome(homeOptions(dir, { mode: "resume", source: identity }));
    const back = await resumed.list(source([]));
    expect(back.remaining()).toBe(3);
    expect([...(await back.read(2)), ...(await back.read(2)), ...(await back.read(2))]).toEqual(items);
    expect(await back.read(2)).toEqual([]);
    await back.close();
    await truncate(join(dir, "inputs.jsonl"), 30);
    const cut = await resumed.list(source([]));
    await expect(cut.read(9).then(() => cut.read(9))).rejects.toMatchObject({ code: "LIST_CUT" });
    await cut.close();
    await resumed.close();
  });
});

describe("a prefix whose listing did not come to its end", () => {
  const identity = { kind: "folder", from: "s3://b/photos/", size: null, modifiedMs: null } as const;

  function listing(given: readonly SourceItem[]): ItemSource {
    let taken = 0;
    return { identity, rereadable: false, read: async (count) => given.slice(taken, (taken += count)), remaining: () => null, close: async () => {} };
  }

  async function begun(): Promise<string> {
    const dir = await newHome();
    const home = await openHome(homeOptions(dir, { source: identity }));
    const copied = await home.list(listing(list));
    home.match(0, await copied.read(2));
    const stored = new Promise<void>((resolve, reject) => {
      home.onStored(() => resolve());
      home.onStoreFailed((_, error) => reject(error));
    });
    home.append(0, [{ index: 0, input: "a", output: 1, attempts: 1 }, { index: 1, input: "b", error: { code: "DOWNLOAD_RESET", stage: "download", message: "" }, attempts: 1 }]);
    await stored;
    await copied.close();
    await home.close();
    return dir;
  }

  test("is listed anew by resume, which keeps what is done wherever it stands now, and tries errors again", async () => {
    const dir = await begun();
    const resumed = await openHome(homeOptions(dir, { mode: "resume", source: identity, listAgain: true }));
    expect(resumed.notes.join()).toMatch(/s3:\/\/b\/photos\/ is listed anew/);
    expect(resumed.isResumed).toBe(false);
    const now = [{ input: "new" }, ...list];
    const again = await resumed.list(listing(now));
    expect(resumed.match(0, await again.read(now.length))).toMatchObject({ done: [1, 2], failedDone: 0 });
    expect(await again.read(1)).toEqual([]);
    await again.close();
    resumed.inputEnded();
    await resumed.finish({ complete: false });
    await resumed.close();

    const third = await openHome(homeOptions(dir, { mode: "resume", source: identity, listAgain: true }));
    expect(third).toMatchObject({ notes: [], isResumed: true });
    await third.close();
  });

  test("is refused where its order counts", async () => {
    await expect(openHome(homeOptions(await begun(), { mode: "resume", source: identity }))).rejects.toMatchObject({ code: "LIST_CUT" });
  });
});

describe("another task", () => {
  test("reuses nothing, sets the journal aside, and takes it up again when it returns", async () => {
    const dir = await newHome();
    await run(homeOptions(dir), list);
    const other = await run(homeOptions(dir, { fingerprint: fingerprintB }), list, { reads: 2 });
    expect(other.did).toEqual([0, 1]);
    expect(other.notes.join()).toContain("results.aaaaaaaa.jsonl");
    expect(await linesOf(join(dir, "results.aaaaaaaa.jsonl"))).toHaveLength(5);
    const back = await run(homeOptions(dir), [...list, { input: "f" }]);
    expect(back.did).toEqual([5]);
    expect(back.notes.join()).toContain("taken up again from results.aaaaaaaa.jsonl");
    expect(await linesOf(join(dir, "results.bbbbbbbb.jsonl"))).toHaveLength(2);
    expect((await verify(dir)).ok).toBe(true);
    expect((await run(homeOptions(dir, { fingerprint: fingerprintB }), list)).did).toEqual([2, 3, 4]);
    expect(await readdir(dir)).not.toContain("results.bbbbbbbb.jsonl");
  });
});

describe("a change of the task", () => {
  const setAside = (dir: string): Promise<void> => rename(join(dir, "results.jsonl"), join(dir, "results.aaaaaaaa.jsonl"));

  test.each([
    ["behind the renaming of the old journal", setAside],
    ["before the renaming of the returning one", async (dir: string) => {
      await run(homeOptions(dir, { fingerprint: fingerprintB }), itemsOf("a", "b"));
      await (await openHome(homeOptions(dir))).close();
      await setAside(dir);
    }],
  ])("that is cut %s loses nothing, whichever task comes next", async (_, cut) => {
    for (const next of [fingerprintA, fingerprintB]) {
      const dir = await newHome();
      await run(homeOptions(dir), list);
      await cut(dir);
      await run(homeOptions(dir, { fingerprint: next }), list);
      expect((await verify(dir)).ok).toBe(true);
      expect((await run(homeOptions(dir), [...list, { input: "f" }])).did).toEqual([5]);
    }
  });

  test("that is cut behind the renaming of the old journal hides nothing from a reader", async () => {
    const dir = await newHome();
    await run(homeOptions(dir), list);
    await setAside(dir);
    expect((await verify(dir)).ok).toBe(true);
  });
});

describe("a home", () => {
  test("of a hundred thousand items does what is new when the list moves by one, and shows it in order", async () => {
    const dir = await newHome();
    const items = Array.from({ length: 100_000 }, (_, index) => ({ input: `http://host/${index % 7}/${index}` }));
    const many = async (given: readonly SourceItem[], mode: "run" | "resume"): Promise<readonly number[]> => {
      const home = await openHome(homeOptions(dir, { mode }));
      const done = indexesIn(home.match(0, given));
      home.inputEnded();
      const todo = given.flatMap((item, index) => (done.has(index) ? [] : [{ index, input: item.input, output: index, attempts: 1 }]));
      home.append(0, todo);
      await home.finish({ complete: true });
      await home.close();
      return todo.map(({ index }) => index);
    };
    expect(await many(items, "run")).toHaveLength(100_000);
    expect(await many(items, "resume")).toEqual([]);
    const moved = [{ input: "new" }, ...items.slice(0, -1).toReversed()];
    expect(await many(moved, "run")).toEqual([0]);
    expect((await outcomesOf(dir)).map(({ input }) => input)).toEqual(moved.map(({ input }) => input));
    expect(await verify(dir)).toMatchObject({ ok: true, succeeded: 100_000 });
    expect(await linesOf(join(dir, "stale.jsonl"))).toMatchObject([{ index: 99_999 }]);
  });

  test("can be started anew, what is ours set aside and the rest left alone", async () => {
    const dir = await newHome();
    await run(homeOptions(dir), list);
    await writeFile(join(dir, "notes.txt"), "mine");
    const { did, notes } = await run(homeOptions(dir, { fresh: true }), list);
    expect(did).toHaveLength(5);
    const aside = (await readdir(dir)).filter((name) => name.startsWith("set-aside-"));
    expect(aside).toHaveLength(1);
    expect(notes.join()).toContain(aside[0]);
    expect((await readdir(join(dir, aside[0] ?? ""))).sort()).toEqual(["failed.jsonl", "home.json", "results.jsonl"]);
    expect(await readFile(join(dir, "notes.txt"), "utf8")).toBe("mine");
  });

  test("is for its owner only", async () => {
    const dir = await newHome();
    const home = await openHome(homeOptions(dir, { source: { kind: "stdin", from: "-", size: null, modifiedMs: null } }));
    const copied = await home.list({ identity: { kind: "stdin", from: "-", size: null, modifiedMs: null }, rereadable: false, read: async () => [], remaining: () => null, close: async () => {} });
    await work(home, list, { end: (index) => (index === 0 ? failure : { output: 1 }) });
    const runDir = await home.createRunDir("20260101-000000-abcd", { input: "urls.txt" });
    await copied.close();
    await home.finish({ complete: true });
    const modes = new Map<string, number>();
    for (const name of await readdir(dir)) modes.set(name, (await stat(join(dir, name))).mode & 0o777);
    await home.close();
    expect((await stat(dir)).mode & 0o777).toBe(0o700);
    expect((await stat(runDir)).mode & 0o777).toBe(0o700);
    expect(modes.get("runs")).toBe(0o700);
    modes.delete("runs");
    expect([...modes.keys()].sort()).toEqual(["failed.jsonl", "home.json", "inputs.jsonl", "lock", "results.jsonl"]);
    expect(new Set(modes.values())).toEqual(new Set([0o600]));
    expect(await readdir(dir)).not.toContain("lock");
  });

  test.each([
    ["below a file", "file/out", "HOME_NOT_WRITABLE"],
    ["that is a file", "file", "HOME_NOT_WRITABLE"],
  ])("%s is refused before anything starts", async (_, name, code) => {
    const folder = await temporaryFolder();
    await writeFile(join(folder, "file"), "");
    await expect(openHome(homeOptions(join(folder, name)))).rejects.toMatchObject({ code, field: "output" });
  });

  test.each([
    ["of a later version", '{"schema":2}', /schema 2/],
    ["that is no JSON", "{", /not JSON/],
    ["that lacks a field", '{"schema":1}', /fingerprint/],
  ])("with a home.json %s is refused, and can be set aside", async (_, text, message) => {
    const dir = await newHome();
    await mkdir(dir);
    await writeFile(join(dir, "home.json"), text);
    await expect(openHome(homeOptions(dir))).rejects.toMatchObject({ code: "HOME_SCHEMA", message: expect.stringMatching(message) as string });
    expect((await run(homeOptions(dir, { fresh: true }), list)).did).toHaveLength(5);
  });

  test("does not write into a results.jsonl that no run made", async () => {
    const dir = await newHome();
    await mkdir(dir);
    await writeFile(join(dir, "results.jsonl"), "mine\n");
    await expect(openHome(homeOptions(dir))).rejects.toMatchObject({ code: "HOME_FOREIGN" });
    expect(await readFile(join(dir, "results.jsonl"), "utf8")).toBe("mine\n");
  });

  test("whose first run was killed while it was opening is taken as it is", async () => {
    const dir = await newHome();
    await mkdir(dir);
    await writeFile(join(dir, "results.jsonl"), "");
    expect((await run(homeOptions(dir), list)).did).toHaveLength(5);
  });

  test("keeps the good lines around damage, does the others again, and keeps the damaged bytes", async () => {
    const dir = await newHome();
    await run(homeOptions(dir), list);
    const journal = join(dir, "results.jsonl");
    const lines = (await readFile(journal, "utf8")).split("\n");
    lines[1] = "\0\0\0\0";
    lines[3] = lines[3]?.replace('"output"', '"outp') ?? "";
    await writeFile(journal, lines.join("\n"));
    expect((await verify(dir)).ok).toBe(false);
    const { did, notes } = await run(homeOptions(dir, { mode: "resume" }), list);
    expect(did).toEqual([1, 3]);
    expect(notes.join()).toMatch(/damaged in 2 places, the first at byte \d+/);
    expect((await verify(dir)).ok).toBe(true);
    expect(await readFile(join(dir, "damaged.txt"), "utf8")).toBe(`\0\0\0\0\n${lines[3]}\n`);
  });

  test("keeps a last line that only lacks its end", async () => {
    const dir = await newHome();
    await run(homeOptions(dir), list, { reads: 3 });
    const journal = join(dir, "results.jsonl");
    await writeFile(journal, (await readFile(journal, "utf8")).trimEnd());
    expect((await run(homeOptions(dir, { mode: "resume" }), list)).did).toEqual([3, 4]);
    expect((await verify(dir)).ok).toBe(true);
  });
});

describe("the receipt", () => {
  test.each([
    ["a line twice", (text: string) => text + text.split("\n")[0] + "\n", { duplicates: 1 }],
    ["a line of another list", (text: string) => text + '{"index":9,"input":"x","output":1,"attempts":1}\n', { foreign: 1 }],
    ["a missing line", (text: string) => text.slice(text.indexOf("\n") + 1), { missing: 1 }],
    ["an input that was changed", (text: string) => text.replace('"c"', '"x"'), { missing: 0 }],
    ["a line that is none", (text: string) => `what?\n${text}`, { missing: 0 }],
  ])("is refused for %s", async (_, change, counts) => {
    const dir = await newHome();
    await run(homeOptions(dir), list);
    const journal = join(dir, "results.jsonl");
    expect(await verify(dir)).toEqual({ ok: true, items: 5, succeeded: 5, failed: 0, missing: 0, duplicates: 0, foreign: 0, problems: [] });
    await writeFile(journal, change(await readFile(journal, "utf8")));
    const receipt = await verify(dir);
    expect(receipt).toMatchObject({ ok: false, ...counts });
    expect(receipt.problems).toHaveLength(1);
  });

  test("says so where there is no home", async () => {
    const dir = await newHome();
    await expect(verify(dir)).rejects.toMatchObject({ code: "HOME_EMPTY" });
    await expect(outcomesOf(dir)).rejects.toMatchObject({ code: "HOME_EMPTY" });
  });

  test("does not count what a compaction that was cut left in stale.jsonl", async () => {
    const dir = await newHome();
    await run(homeOptions(dir), list);
    await run(homeOptions(dir), itemsOf("a"), {});
    await appendFile(join(dir, "stale.jsonl"), "half");
    await writeFile(join(dir, "results.jsonl.compacted"), "waste");
    await run(homeOptions(dir), itemsOf("a"));
    expect(await linesOf(join(dir, "stale.jsonl"))).toHaveLength(4);
    await rm(join(dir, "stale.jsonl"));
    await run(homeOptions(dir), itemsOf("b"));
    expect(await linesOf(join(dir, "stale.jsonl"))).toHaveLength(1);
  });
});
