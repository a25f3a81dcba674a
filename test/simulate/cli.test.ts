import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { splitrun } from "../support/cli.ts";
import { parseWorkload } from "../../orchestrator/cli/parse-workload.ts";

let folder = "";

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "splitrun-simulate-"));
  const parameters = { items: 500, workers: 10, slow: [{ share: 0.2, factor: 3 }] };
  const classes = [
    { name: "small", seed: 1, seeds: 3, parameters },
    { name: "<b>&\"several\"", seed: 1, seeds: 1, parameters: { workers: 4, jobs: [{ items: 100 }, { items: 50, share: 2 }] } },
  ];
  await writeFile(path.join(folder, "workload.json"), JSON.stringify({ classes }));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe("splitrun simulate", () => {
  test("--json prints one object with the figures of each class", async () => {
    const { code, stdout } = await splitrun(["simulate", "workload.json", "--json"], { cwd: folder });
    expect(code).toBe(0);
    const { classes } = JSON.parse(stdout) as { classes: readonly Record<string, unknown>[] };
    expect(classes.map(({ name, seeds }) => [name, seeds])).toEqual([["small", 3], ["<b>&\"several\"", 1]]);
    for (const figures of classes) {
      for (const field of ["ratioMedian", "ratioP95", "wastePercent", "boundS", "makespanS", "assignments", "messages"]) {
        expect(figures[field], field).toEqual(expect.any(Number));
      }
      expect(figures["ratioMedian"]).toBeGreaterThanOrEqual(1);
    }
    expect(classes[1]?.["jobsS"]).toHaveLength(2);
  });

  test("--compare has a row for each rule, and flags replace what the class says", async () => {
    const args = ["simulate", "workload.json", "--class", "small", "--compare", "--seeds", "1", "--lanes", "8", "--supports", "none", "--json"];
    const { code, stdout } = await splitrun(args, { cwd: folder });
    expect(code).toBe(0);
    const { classes } = JSON.parse(stdout) as { classes: readonly { readonly rule: string; readonly seeds: number }[] };
    expect(classes.map(({ rule }) => rule)).toEqual(["splitrun", "original", "original-speculation", "late", "spark", "z"]);
    expect(classes.every(({ seeds }) => seeds === 1)).toBe(true);
  });

  test("every policy and every kind of speculation can be tried", async () => {
    const runs = [["--policy", "policy-3"], ["--policy", "none", "--split-size", "8", "--speculation", "false"], ["--speculation", "quartile", "--policy", "default"]];
    for (const flags of runs) {
      const { code, stderr } = await splitrun(["simulate", "workload.json", "--class", "small", "--seeds", "1", ...flags], { cwd: folder });
      expect(code, `${flags.join(" ")}: ${stderr}`).toBe(0);
    }
  });

  test("--html writes one page that takes nothing from elsewhere and runs only its own script", async () => {
    const { code } = await splitrun(["simulate", "workload.json", "--class", "<b>&\"several\"", "--html", "gantt.html"], { cwd: folder });
    expect(code).toBe(0);
    const page = await readFile(path.join(folder, "gantt.html"), "utf8");
    expect(page).toMatch(/Content-Security-Policy" content="default-src 'none'; script-src 'sha256-/);
    expect(page).not.toContain("<b>");
    expect(page).not.toMatch(/https?:\/\//);
  });

  test("what is wrong with the command line is said, with exit code 2", async () => {
    for (const [args, message] of [
      [["nowhere.json"], /nowhere\.json cannot be read: .*nowhere\.json does not exist/],
      [["workload.json", "--class", "smal"], /did you mean small\?/],
      [["workload.json", "--supports", "prefetch,recall"], /recall is none of prefetch, reclaim, cancel/],
      [["workload.json", "--seeds", "0"], /whole number from 1/],
      [["workload.json", "--rule", "sparky"], /splitrun, original/],
    ] as const) {
      const { code, stderr } = await splitrun(["simulate", ...args], { cwd: folder });
      expect(stderr).toMatch(message);
      expect(code).toBe(2);
    }
  });
});

describe("a workload that is wrong", () => {
  const withParameters = (parameters: object) => JSON.stringify({ classes: [{ name: "x", seed: 1, seeds: 1, parameters }] });

  test("an unknown parameter is named with the one that was meant", () => {
    expect(() => parseWorkload("w.json", withParameters({ item: 5 }))).toThrow(/classes\.0\.parameters\.item: unknown; did you mean items\?/);
    expect(() => parseWorkload("w.json", withParameters({ tail: { shares: 0.1 } }))).toThrow(/tail\.shares: unknown; did you mean share\?/);
    expect(() => parseWorkload("w.json", withParameters({ jobs: [{ prio: 1 }] }))).toThrow(/jobs\.0\.prio: unknown.*allowed: items,/);
  });

  test("every wrong value is named, with the value", () => {
    expect(() => parseWorkload("w.json", withParameters({ coldShare: 2, workers: 0.5 }))).toThrow(/coldShare: 2;[^]*workers: 0\.5|workers: 0\.5;[^]*coldShare: 2/);
  });

  test("what would have been right is said", () => {
    expect(() => parseWorkload("w.json", withParameters({ items: 0, workers: "5", lanes: 1.5, coldShare: 2, warmS: 3 }))).toThrow(
      /items: 0; allowed: a number above 0[^]*workers: "5"; allowed: a number[^]*lanes: 1\.5; allowed: a whole number[^]*coldShare: 2; allowed: a number up to 1[^]*warmS: 3; allowed: a list of two/,
    );
    expect(() => parseWorkload("w.json", JSON.stringify({ classes: [] }))).toThrow(/classes: \[\]; allowed: a list that is not empty/);
  });

  test("something else than JSON is said to be", () => {
    expect(() => parseWorkload("w.json", "classes: []")).toThrow(/w\.json is not JSON/);
  });

  test("without classes there is nothing to do", () => {
    expect(() => parseWorkload("w.json", "{}")).toThrow(/classes: is missing/);
  });
});
