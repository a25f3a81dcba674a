import { mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parse } from "csv-parse/sync";
import { asyncBufferFromFile, parquetReadObjects } from "hyparquet";
import { afterAll, expect, test } from "vitest";
import { exportResults } from "../../orchestrator/results/export.ts";
import { writeRecord } from "../../orchestrator/results/home-record.ts";
import type { Outcome } from "../../orchestrator/results/types.ts";

const parent = await mkdtemp(join(tmpdir(), "splitrun-export-"));
afterAll(() => rm(parent, { recursive: true, force: true }));

const outcomes: readonly Outcome[] = [
  { index: 2, input: "c", output: { label: "cat", score: 0.25 }, attempts: 1 },
  { index: 0, id: "first", input: "a", error: { code: "DOWNLOAD_DNS", stage: "download", message: "no such host" }, attempts: 3 },
  { index: 1, input: "b", output: { label: "dog", score: 1 }, attempts: 1 },
  // Tried again by a later run: the last line of an index counts.
  { index: 0, id: "first", input: "a", output: { label: "owl", score: 0.5 }, attempts: 1 },
  { index: 3, input: "d", error: { code: "DECODE_FAILED", stage: "preprocess", message: "bad" }, attempts: 1 },
];

async function homeWith(lines: readonly Outcome[]): Promise<string> {
  const home = await mkdtemp(join(parent, "home-"));
  await writeFile(join(home, "results.jsonl"), lines.map((line) => `${JSON.stringify(line)}\n`).join(""));
  await writeRecord(home, {
    fingerprint: "f",
    source: { kind: "list", from: "x", size: null, modifiedMs: null },
    listStart: 0,
    list: null,
    beginning: null,
    staleBytes: 0,
    compacted: false,
  });
  return home;
}

test("a home's results can be written in both orders, each item once", async () => {
  const home = await homeWith(outcomes);
  for (const [order, inputs] of [["input", ["a", "b", "c", "d"]], ["completion", ["c", "b", "a", "d"]]] as const) {
    const csv = join(parent, `${order}.csv`);
    expect(await exportResults(home, { to: csv, format: "csv", order })).toEqual({ items: 4, succeeded: 3, failed: 1 });
    const rows = parse(await readFile(csv), { columns: true }) as Record<string, string>[];
    expect(rows.map((row) => row.input)).toEqual(inputs);
    expect(rows.find((row) => row.input === "a")).toEqual({
      index: "0", id: "first", input: "a", label: "owl", score: "0.5", error_code: "", error_stage: "", error_message: "", attempts: "1",
    });
    const parquet = join(parent, `${order}.parquet`);
    await exportResults(home, { to: parquet, format: "parquet", order });
    const read = await parquetReadObjects({ file: await asyncBufferFromFile(parquet) });
    expect(read.map((row) => row.input as unknown)).toEqual(inputs);
    const jsonl = join(parent, `${order}.jsonl`);
    await exportResults(home, { to: jsonl, format: "jsonl", order });
    const lines = (await readFile(jsonl, "utf8")).trimEnd().split("\n").map((line) => JSON.parse(line) as Outcome);
    expect(lines.map((line) => line.input)).toEqual(inputs);
  }
});

test("a hundred thousand results are written in input order", async () => {
  const count = 100_000;
  const neighboursSwapped = Array.from({ length: count }, (_, place) => place ^ 1);
  const home = await homeWith(neighboursSwapped.map((index) => ({ index, input: `i${index}`, output: index, attempts: 1 })));
  const to = join(parent, "large.parquet");
  const before = process.memoryUsage().rss;
  expect(await exportResults(home, { to, format: "parquet", order: "input" })).toMatchObject({ items: count });
  expect(process.memoryUsage().rss - before).toBeLessThan(250_000_000);
  const rows = await parquetReadObjects({ file: await asyncBufferFromFile(to), rowStart: 99_998, rowEnd: 100_000 });
  expect(rows.map((row) => row.output as unknown)).toEqual([99_998n, 99_999n]);
});

test("the journal is not replaced by its own projection, by whatever name its home goes", async () => {
  const home = await homeWith(outcomes);
  await symlink(home, `${home}-link`);
  for (const to of [join(home, "results.jsonl"), join(`${home}-link`, "results.jsonl"), join(home, "home.json"), join(home, "results.0123abcd.jsonl")]) {
    await expect(exportResults(home, { to, format: "jsonl", order: "input" })).rejects.toMatchObject({ code: "EXPORT_TARGET", field: "to" });
  }
  expect(await readFile(join(home, "results.jsonl"), "utf8")).toContain('"owl"');
  await exportResults(home, { to: join(home, "results.csv"), format: "csv", order: "input" });
});
