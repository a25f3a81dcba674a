import { copyFile, mkdir, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import path from "node:path";
import type { Browser } from "playwright-core";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { browserMissing, openFile, startBrowser } from "../support/browser.ts";
import { splitrun } from "../support/cli.ts";
import { temporaryFolder } from "../support/function-task.ts";

const name = `night <b>"run"</b>`;
const source = `
export default (item) => {
  if (item.endsWith("bad")) throw Object.assign(new Error("<script>alert(1)</script> of " + item), { retryable: false });
  return item.length;
};
`;
const good = Array.from({ length: 300 }, (_, at) => `item ${at}`);
const signed = "https://user:password@photos.example/a.jpg?X-Amz-Signature=5ec2e7&bad";

interface Ran {
  readonly home: string;
  readonly runDir: string;
  readonly stdout: string;
  readonly stderr: string;
}

async function ran(folder: string, input: readonly string[]): Promise<Ran> {
  await writeFile(path.join(folder, "function.mjs"), source);
  await writeFile(path.join(folder, "job.json"), JSON.stringify({ name, input, task: { kind: "function", module: "function.mjs" }, taskManagers: 2, output: "out" }));
  const { stdout, stderr } = await splitrun(["run", "job.json"], { cwd: folder });
  const home = path.join(folder, "out");
  const [run = ""] = await readdir(path.join(home, "runs"));
  return { home, runDir: path.join(home, "runs", run), stdout, stderr };
}

const dataOf = (page: string) => JSON.parse(/<script type="application\/json" id="data">(.*?)<\/script>/s.exec(page)?.[1] ?? "null") as { bars: unknown[]; slots: unknown[] };

describe("report.html", () => {
  test("is written at the end of a run, for its owner alone, and named by it; `splitrun report` draws the same from what was recorded", async () => {
    const folder = await temporaryFolder(onTestFinished);
    const { home, runDir, stderr } = await ran(folder, [...good, "bad"]);
    const file = path.join(runDir, "report.html");
    expect(stderr).toContain(`Report:  ${file}`);
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    const written = await readFile(file, "utf8");
    expect(dataOf(written).bars.length).toBeGreaterThan(0);
    for (const place of [home, runDir]) {
      await rm(file);
      const { code, stdout } = await splitrun(["report", place, "--json"], { cwd: folder });
      expect(code).toBe(0);
      expect(JSON.parse(stdout)).toEqual({ runDir, report: file, note: null });
      expect(await readFile(file, "utf8")).toBe(written);
    }
  });

  test("shows no secret and no markup of an input, and links only what can be shown whole", async () => {
    const folder = await temporaryFolder(onTestFinished);
    const { runDir } = await ran(folder, [signed]);
    const page = await readFile(path.join(runDir, "report.html"), "utf8");
    for (const secret of ["5ec2e7", "password", "night <b>", "<script>alert"]) expect(page.includes(secret), secret).toBe(false);
    expect(page.includes("href=")).toBe(false);
    expect(page).toContain("https://photos.example/a.jpg?…");
  });

  test("links an image that can be looked at, and nothing but http(s)", async () => {
    for (const [input, linked] of [["https://photos.example/bad", true], ["javascript:alert(1)//bad", false]] as const) {
      const { runDir } = await ran(await temporaryFolder(onTestFinished), [input]);
      const page = await readFile(path.join(runDir, "report.html"), "utf8");
      expect(page.includes("href=")).toBe(linked);
      expect(page.includes(`href="${input}" rel="noreferrer noopener"`)).toBe(linked);
    }
  });

  test("is made of a run that was killed, too, as far as it got", async () => {
    const folder = await temporaryFolder(onTestFinished);
    const { runDir } = await ran(folder, good);
    const killed = path.join(folder, "killed");
    await mkdir(killed);
    await copyFile(path.join(runDir, "job.json"), path.join(killed, "job.json"));
    const events = await readFile(path.join(runDir, "events.jsonl"), "utf8");
    const lines = events.trimEnd().split("\n");
    await writeFile(path.join(killed, "events.jsonl"), `${lines.slice(0, -3).join("\n")}\n${lines.at(-3)?.slice(0, 20) ?? ""}`);
    const { code, stdout } = await splitrun(["report", killed], { cwd: folder });
    expect([code, stdout.trim()]).toEqual([0, path.join(killed, "report.html")]);
    const page = await readFile(path.join(killed, "report.html"), "utf8");
    expect(page).toContain("did not come to its end, or has not yet");
    expect(dataOf(page).slots.length).toBeGreaterThan(0);
  });

  test("says where another version of splitrun would have decided otherwise", async () => {
    const folder = await temporaryFolder(onTestFinished);
    const { home, runDir } = await ran(folder, good);
    const file = path.join(runDir, "events.jsonl");
    const lines = (await readFile(file, "utf8")).trimEnd().split("\n");
    const at = lines.length - 2;
    await writeFile(file, `${lines.with(at, (lines[at] ?? "").replace(/,\d+\]$/, ",1]")).join("\n")}\n`);
    const { code, stdout } = await splitrun(["report", home, "--json"], { cwd: folder });
    expect(code).toBe(0);
    expect((JSON.parse(stdout) as { note: string }).note).toMatch(/decided otherwise from step \d+ .*is not shown/);
    expect(await readFile(path.join(runDir, "report.html"), "utf8")).toContain("decided otherwise");
  });

  test("of what has none is refused, with the way out", async () => {
    const folder = await temporaryFolder(onTestFinished);
    for (const [place, message] of [
      ["nowhere", /nowhere is no directory; name the output directory of a run/],
      ["s3://bucket/out/", /the home of the machine that ran the job; name that directory/],
      [".", /has no events\.jsonl; name a directory of <home>\/runs\//],
    ] as const) {
      const { code, stderr } = await splitrun(["report", place], { cwd: folder });
      expect(stderr).toMatch(message);
      expect(code).toBe(2);
    }
  });
});

describe.skipIf(browserMissing !== null)(`the report in a browser${browserMissing === null ? "" : ` (${browserMissing})`}`, () => {
  let browser: Browser;
  beforeAll(async () => {
    browser = await startBrowser();
  });
  afterAll(() => browser?.close());

  test("breaks none of its own rules, asks for nothing, and shows the figures of the run and what happened when, wide and narrow", async () => {
    const { runDir } = await ran(await temporaryFolder(onTestFinished), [...good, signed, "bad"]);
    for (const width of [1280, 390]) {
      const { page, complaints } = await openFile(browser, path.join(runDir, "report.html"), width);
      const text = await page.evaluate<string>("document.body.innerText");
      expect(text).toContain(name);
      const figures = await page.evaluate<string[]>('[...document.querySelectorAll(".figures li")].map((each) => each.innerText.replace(/\\s+/g, " "))');
      expect(figures).toEqual(expect.arrayContaining(["302 items", "300 with a result", "2 errors"]));
      for (const shown of ["Why it took so long", "Preparing", "Stages", "FUNCTION_THREW", "<script>alert(1)</script> of"]) expect(text).toContain(shown);
      // Both pictures have something in the colour of work.
      const painted = await page.evaluate<number[]>(`["rates", "chart"].map((id) => {
        const canvas = document.getElementById(id), probe = document.createElement("canvas").getContext("2d");
        probe.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--work-a").trim(); probe.fillRect(0, 0, 1, 1);
        const [r, g, b] = probe.getImageData(0, 0, 1, 1).data, pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        let count = 0; for (let at = 0; at < pixels.length; at += 4) if (pixels[at] === r && pixels[at + 1] === g && pixels[at + 2] === b) count += 1;
        return count;
      })`);
      for (const pixels of painted) expect(pixels).toBeGreaterThan(10);
      expect(await page.evaluate<number>("document.documentElement.scrollWidth")).toBe(width);
      for (const id of ["tail", "whole"]) await page.click(`#${id}`);
      await page.selectOption("#order", "last");
      await page.hover("#chart");
      expect(complaints).toEqual([]);
      await page.close();
    }
  });

  test("has nothing to complain of either where nothing was assigned, as of a run that found everything done", async () => {
    const folder = await temporaryFolder(onTestFinished);
    const first = await ran(folder, good);
    expect((await splitrun(["resume", "out"], { cwd: folder })).code).toBe(0);
    const [again = ""] = (await readdir(path.join(first.home, "runs"))).filter((run) => run !== path.basename(first.runDir));
    const { page, complaints } = await openFile(browser, path.join(first.home, "runs", again, "report.html"));
    expect(await page.evaluate<string>("document.body.innerText")).toContain("300 of them from earlier runs");
    expect(await page.evaluate<number>("document.scripts.length")).toBe(0);
    expect(complaints).toEqual([]);
    await page.close();
  });
});
