import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { pathToFileURL } from "node:url";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { browserMissing, openFile, startBrowser } from "../support/browser.ts";
import { jsonLines, splitrun } from "../support/cli.ts";

const demo = path.resolve(import.meta.dirname, "../../examples/demo/demo.mjs");
const digits = 2000;
const broken = 30;
const accuracyMin = 0.97;
const sampleCount = 120;

interface Line {
  readonly id: string;
  readonly output?: { readonly label: string };
  readonly error?: { readonly code: string };
}

let folder: string;
let end: { readonly code: number; readonly stdout: string; readonly stderr: string };

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "splitrun-demo-"));
  const env = { ...process.env, SPLITRUN_CACHE_DIR: path.join(folder, "cache") };
  end = await new Promise((resolve) => {
    execFile(process.execPath, [demo, "--directory", folder], { cwd: folder, env, maxBuffer: 10_000_000 }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code ?? -1), stdout, stderr });
    });
  });
}, 300_000);

afterAll(() => rm(folder, { recursive: true, force: true }));

describe("the demo", () => {
  test("ends well, says how good it was and where to look", () => {
    expect(end.code, end.stdout + end.stderr).toBe(0);
    expect(end.stderr).toContain("Where the time went");
    expect(end.stdout).toMatch(/[\d,]+ of 2,000 digits read right: \d\d\.\d\d %/);
    expect(end.stdout).toContain("30 of 30 dead links and broken files ended as the error that they should.");
    expect(end.stdout).toContain(pathToFileURL(path.join(folder, "page.html")).href);
  });

  test("leaves one line for every link, and reads nearly all digits right", async () => {
    const lines = await jsonLines<Line>(path.join(folder, "results/results.jsonl"));
    expect(new Set(lines.map(({ id }) => id)).size).toBe(digits + broken);
    expect(lines).toHaveLength(digits + broken);
    const truth = await truthById();
    const right = lines.filter(({ id, output }) => output !== undefined && output.label === truth.get(id)?.digit).length;
    expect(right / digits).toBeGreaterThanOrEqual(accuracyMin);
    expect(lines.filter(({ error }) => error !== undefined).every(({ id }) => truth.get(id)?.fault !== "")).toBe(true);
  });

  test("leaves results that verify", async () => {
    const { code, stdout, stderr } = await splitrun(["verify", path.join(folder, "results")], { cwd: folder });
    expect(code, stdout + stderr).toBe(0);
  });
});

async function truthById(): Promise<ReadonlyMap<string, { readonly digit: string; readonly fault: string }>> {
  const [, ...rows] = (await readFile(path.join(folder, "truth.csv"), "utf8")).trimEnd().split("\n");
  return new Map(rows.map((row) => {
    const [id = "", digit = "", fault = ""] = row.split(",");
    return [id, { digit, fault }];
  }));
}

describe.skipIf(browserMissing !== null)(`the demo's page in a browser${browserMissing === null ? "" : ` (${browserMissing})`}`, () => {
  let browser: Browser;
  let page: Page;
  let complaints: readonly string[];

  beforeAll(async () => {
    browser = await startBrowser();
    ({ page, complaints } = await openFile(browser, path.join(folder, "page.html")));
  });

  afterAll(() => browser?.close());

  test("needs nothing from elsewhere and breaks none of its own rules", () => {
    expect(complaints).toEqual([]);
  });

  test("shows every wrong answer, a sample of right ones and every error, each with its own label", async () => {
    const truth = await truthById();
    const lines = await jsonLines<Line>(path.join(folder, "results/results.jsonl"));
    const byId = new Map(lines.map((line) => [line.id, line]));
    const tiles = await inPage<Tile[]>(
      '[...document.querySelectorAll(".tile")].map((tile) => ({ ...tile.dataset, kind: tile.classList[1], text: tile.querySelector("b")?.textContent }))',
    );
    const ofKind = (kind: string) => tiles.filter((tile) => tile.kind === kind);

    const wrong = lines.filter(({ id, output }) => output !== undefined && output.label !== truth.get(id)?.digit);
    const failed = lines.filter(({ error }) => error !== undefined);
    expect(ids(ofKind("wrong"))).toEqual(ids(wrong));
    expect(ids(ofKind("failed"))).toEqual(ids(failed));
    expect(ofKind("right")).toHaveLength(sampleCount);
    for (const tile of [...ofKind("wrong"), ...ofKind("right")]) {
      expect(tile.text).toBe(byId.get(tile.id)?.output?.label);
      expect(tile.truth).toBe(truth.get(tile.id)?.digit);
    }
    for (const tile of ofKind("failed")) expect(tile.code).toBe(byId.get(tile.id)?.error?.code);
  });

  test("shows pictures, with its styles applied", async () => {
    const widths = await inPage<number[]>('[...document.querySelectorAll(".tile img")].map((image) => image.naturalWidth)');
    expect(new Set(widths)).toEqual(new Set([240]));
    expect(await inPage<string>('getComputedStyle(document.querySelector(".tile.right")).borderTopWidth')).toBe("4px");
  });

  /** As text: the repository's types know no browser. */
  function inPage<Value>(expression: string): Promise<Value> {
    return page.evaluate(expression);
  }
});

interface Tile {
  readonly id: string;
  readonly kind: string;
  readonly text: string;
  readonly truth?: string;
  readonly code?: string;
}

function ids(list: readonly { readonly id: string }[]): readonly string[] {
  return list.map(({ id }) => id).sort();
}
