import { mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parse } from "csv-parse/sync";
import * as fc from "fast-check";
import { asyncBufferFromFile, parquetMetadataAsync, parquetReadObjects } from "hyparquet";
import { afterAll, describe, expect, test } from "vitest";
import type { ExportFormat } from "../../orchestrator/results/export-outcomes.ts";
import { exportOutcomes } from "../../orchestrator/results/export-outcomes.ts";
import type { Outcome } from "../../orchestrator/results/types.ts";
import type { JsonValue } from "../../task-manager/protocol.ts";

const seed = Number(process.env.SPLITRUN_SEED ?? Math.floor(Math.random() * 2 ** 31));
console.info(`SPLITRUN_SEED=${seed}`);

const directory = await mkdtemp(join(tmpdir(), "splitrun-export-"));
afterAll(() => rm(directory, { recursive: true, force: true }));

const error = { code: "DOWNLOAD_STATUS", stage: "download", message: '404, "Not Found"\r\n' } as const;

function outcomeOf(index: number, output: JsonValue): Outcome {
  return { index, input: `http://h/${index}`, output, attempts: 1 };
}

async function written(outcomes: Iterable<Outcome>, format: ExportFormat): Promise<string> {
  const to = join(directory, `results.${format}`);
  await exportOutcomes(async function* () { yield* outcomes; }, { to, format });
  return to;
}

async function csvOf(outcomes: Iterable<Outcome>): Promise<Record<string, string>[]> {
  return parse(await readFile(await written(outcomes, "csv")), { columns: true }) as Record<string, string>[];
}

async function parquetOf(outcomes: Iterable<Outcome>): Promise<Record<string, unknown>[]> {
  return parquetReadObjects({ file: await asyncBufferFromFile(await written(outcomes, "parquet")) });
}

const outcome = fc.record({
  index: fc.nat(),
  id: fc.string({ minLength: 1 }),
  input: fc.string({ unit: "grapheme", minLength: 1 }),
  output: fc.record({ label: fc.string({ unit: "grapheme" }), score: fc.double({ noNaN: true, noDefaultInfinity: true }), top: fc.array(fc.record({ label: fc.string() })) }),
  attempts: fc.nat({ max: 9 }),
}, { requiredKeys: ["index", "input", "output", "attempts"] }) as fc.Arbitrary<Outcome>;
const withErrors = fc.array(fc.oneof(outcome, outcome.map(({ output: _, ...rest }): Outcome => ({ ...rest, error }))));

/** What a row must say, as text. */
function expectedText({ index, id, input, output, error: failure, attempts }: Outcome): Record<string, string> {
  const { label, score, top } = (output ?? {}) as Record<string, JsonValue>;
  const text = (value: JsonValue | undefined): string => (value === undefined ? "" : typeof value === "string" ? value : JSON.stringify(value));
  return {
    index: String(index), id: id ?? "", input: String(input), label: text(label), score: text(score), top: text(top),
    error_code: failure?.code ?? "", error_stage: failure?.stage ?? "", error_message: failure?.message ?? "", attempts: String(attempts),
  };
}

describe("results written to another file", () => {
  test("as CSV are read back the same", async () => {
    await fc.assert(fc.asyncProperty(withErrors, async (outcomes) => {
      const rows = await csvOf([outcomeOf(0, { label: "", score: 0.5, top: [] }), ...outcomes]);
      expect(rows.slice(1)).toEqual(outcomes.map(expectedText));
    }), { seed, numRuns: 60 });
  });

  test("as Parquet are read back the same, with types", async () => {
    await fc.assert(fc.asyncProperty(withErrors, async (outcomes) => {
      const rows = await parquetOf([outcomeOf(0, { label: "", score: 0.5, top: [] }), ...outcomes]);
      expect(rows[0]).toEqual({
        index: 0n, id: null, input: "http://h/0", label: "", score: 0.5, top: "[]",
        error_code: null, error_stage: null, error_message: null, attempts: 1n,
      });
      expect(rows.slice(1).map(asText)).toEqual(outcomes.map(expectedText));
    }), { seed, numRuns: 60 });
  });

  test("as JSONL are the lines of the journal", async () => {
    await fc.assert(fc.asyncProperty(withErrors, async (outcomes) => {
      const text = await readFile(await written(outcomes, "jsonl"), "utf8");
      expect(text).toBe(outcomes.map((one) => `${JSON.stringify(one)}\n`).join(""));
    }), { seed, numRuns: 30 });
  });

  test("have the keys of all outputs as columns, also those that come late", async () => {
    const rows = await parquetOf([outcomeOf(0, { a: 1 }), outcomeOf(1, { b: true, a: 2 }), outcomeOf(2, { c: null, a: 0.5 }), outcomeOf(3, { b: null })]);
    expect(rows.map(({ a, b, c }) => ({ a, b, c }))).toEqual([
      { a: 1, b: null, c: null }, { a: 2, b: true, c: null }, { a: 0.5, b: null, c: null }, { a: null, b: null, c: null },
    ]);
    expect(Object.keys(rows[0] ?? {})).toEqual(["index", "id", "input", "a", "b", "c", "error_code", "error_stage", "error_message", "attempts"]);
  });

  test("put what is no object into a column of its own, and keep names apart", async () => {
    const rows = await csvOf([outcomeOf(0, 7), outcomeOf(1, ["x"]), outcomeOf(2, { output: 1, index: "i", output_index: 2 }), outcomeOf(3, "=1+1")]);
    expect(rows.map((row) => row.output)).toEqual(["7", '["x"]', "", "=1+1"]);
    expect(rows[2]).toMatchObject({ index: "2", output_output: "1", output_index: "i", output_output_index: "2" });
  });

  test("mix types in a column as text", async () => {
    const rows = await parquetOf([outcomeOf(0, { v: 1 }), outcomeOf(1, { v: "1" }), outcomeOf(2, { v: [1] }), outcomeOf(3, { v: 2 ** 60 })]);
    expect(rows.map(({ v }) => v)).toEqual(["1", "1", "[1]", JSON.stringify(2 ** 60)]);
  });

  test("stay whole where keys are data", async () => {
    const rows = await csvOf(Array.from({ length: 300 }, (_, index) => outcomeOf(index, { [`key-${index}`]: index })));
    expect(Object.keys(rows[0] ?? {})).toEqual(["index", "id", "input", "output", "error_code", "error_stage", "error_message", "attempts"]);
    expect(rows[299]?.output).toBe('{"key-299":299}');
  });

  test("tell empty text from nothing in CSV", async () => {
    const text = await readFile(await written([outcomeOf(0, { a: "", b: null })], "csv"), "utf8");
    expect(text).toBe('index,id,input,a,b,error_code,error_stage,error_message,attempts\n0,,http://h/0,"",,,,,1\n');
  });

  test("quote what would end a CSV cell or line", async () => {
    const text = await readFile(await written([outcomeOf(0, ["a", "b"]), ...["c\nd", "e\rf", "g,h", 'i"j', "k l"].map((one) => outcomeOf(1, one))], "csv"), "utf8");
    expect(text.split("http://h/").slice(1).map((line) => line.slice(2, line.lastIndexOf(",,,,")))).toEqual([
      '"[""a"",""b""]"', '"c\nd"', '"e\rf"', '"g,h"', '"i""j"', "k l",
    ]);
  });

  test("may be none", async () => {
    expect(await csvOf([])).toEqual([]);
    expect(await parquetOf([])).toEqual([]);
    expect(await readFile(await written([], "jsonl"), "utf8")).toBe("");
  });

  test("are counted, and readable by their owner only", async () => {
    const to = join(directory, "counted.jsonl");
    const counts = await exportOutcomes(async function* () {
      yield outcomeOf(0, 1);
      yield { index: 1, input: "b", error, attempts: 3 };
    }, { to, format: "jsonl" });
    expect(counts).toEqual({ items: 2, succeeded: 1, failed: 1 });
    expect((await stat(to)).mode & 0o777).toBe(0o600);
  });

  test("many of them are held a part at a time", async () => {
    function* many(): Generator<Outcome> {
      for (let index = 0; index < 100_000; index += 1) {
        yield outcomeOf(index, { label: `label ${index % 1000}`, score: index / 7, text: `${index} `.repeat(60) });
      }
    }
    const to = join(directory, "many.parquet");
    const before = process.memoryUsage().rss;
    let peak = 0;
    const counts = await exportOutcomes(async function* () {
      for (const one of many()) {
        if (one.index % 5_000 === 0) peak = Math.max(peak, process.memoryUsage().rss);
        yield one;
      }
    }, { to, format: "parquet" });
    expect(counts.items).toBe(100_000);
    expect(peak - before).toBeLessThan(250_000_000);
    const file = await asyncBufferFromFile(to);
    const metadata = await parquetMetadataAsync(file);
    expect(metadata.row_groups.map((group) => Number(group.num_rows))).toEqual(Array.from({ length: 10 }, () => 10_000));
    const rows = await parquetReadObjects({ file, metadata, rowStart: 99_999, rowEnd: 100_000 });
    expect(rows).toMatchObject([{ index: 99_999n, label: "label 999", score: 99_999 / 7 }]);
  });
});

describe("a file that cannot be written", () => {
  test("is refused by name", async () => {
    const none = async function* (): AsyncGenerator<Outcome> {};
    await expect(exportOutcomes(none, { to: directory, format: "csv" })).rejects.toMatchObject({ code: "EXPORT_TARGET", field: "to" });
    await expect(exportOutcomes(none, { to: join(directory, "no/such.csv"), format: "csv" })).rejects.toMatchObject({ code: "EXPORT_TARGET" });
  });

  test("is not left with columns of an earlier moment when results come while it is written", async () => {
    const to = join(directory, "moving.csv");
    for (const later of [[outcomeOf(0, 1), outcomeOf(1, { late: 1 })], [outcomeOf(0, "text")]]) {
      for (const format of ["csv", "parquet"] as const) {
        let passes = 0;
        const growing = async function* (): AsyncGenerator<Outcome> {
          yield* (passes += 1) === 1 ? [outcomeOf(0, 1)] : later;
        };
        await expect(exportOutcomes(growing, { to, format })).rejects.toMatchObject({ code: "EXPORT_CHANGED" });
      }
    }
  });

  test("leaves what was there, and nothing half written, when reading fails", async () => {
    const to = join(directory, "kept.csv");
    await writeFile(to, "kept");
    const failing = async function* (): AsyncGenerator<Outcome> {
      yield outcomeOf(0, 1);
      throw new Error("journal gone");
    };
    for (const format of ["jsonl", "csv", "parquet"] as const) {
      await expect(exportOutcomes(failing, { to, format })).rejects.toThrow("journal gone");
    }
    expect(await readFile(to, "utf8")).toBe("kept");
    expect((await readdir(directory)).filter((name) => name.includes("partial"))).toEqual([]);
  });
});

function asText(row: Record<string, unknown>): Record<string, string> {
  const text = (value: unknown): string => (value === null ? "" : typeof value === "number" ? JSON.stringify(value) : String(value));
  return Object.fromEntries(Object.entries(row).map(([name, value]) => [name, text(value)]));
}
