import { execFile } from "node:child_process";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { once } from "node:events";
import path from "node:path";
import { promisify } from "node:util";
import { describe, expect, onTestFinished, test } from "vitest";
import { splitrun } from "../support/cli.ts";
import { temporaryFolder } from "../support/function-task.ts";
import { colorPicture } from "../support/inference-task.ts";
import { meanColorModel } from "../support/onnx.ts";

const examples = path.resolve(import.meta.dirname, "../../examples");

/** Runs an example as its first line says, in `folder`, and returns the lines that it prints. */
async function runExample(name: string, args: readonly string[], folder: string): Promise<readonly string[]> {
  const { stdout } = await promisify(execFile)(process.execPath, [path.join(examples, name), ...args], {
    cwd: folder,
    env: { ...process.env, SPLITRUN_CACHE_DIR: path.join(folder, ".cache") },
  });
  return stdout.trimEnd().split("\n");
}

/** A web server on this machine with the files of `folder`. */
async function serve(folder: string): Promise<string> {
  const server = createServer(async ({ url }, response) => {
    const body = await readFile(path.join(folder, path.basename(url ?? ""))).catch(() => null);
    if (body === null) response.writeHead(404).end();
    else response.end(body);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => {
    server.close();
    server.closeAllConnections();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

describe("the examples do what their first line says", () => {
  test("classify.mjs prints labels of URLs and paths, and what is wrong with a dead link", async () => {
    const folder = await temporaryFolder(onTestFinished);
    const pictures = path.join(folder, "pictures");
    await mkdir(pictures);
    const red = await colorPicture(pictures, "red");
    await colorPicture(pictures, "blue");
    const origin = await serve(pictures);
    await writeFile(path.join(folder, "color.onnx"), meanColorModel({ input: ["N", 3, "H", "W"] }));
    await writeFile(path.join(folder, "labels.txt"), "red\ngreen\nblue\n");

    const lines = await runExample("classify.mjs", ["color.onnx", "labels.txt", red, `${origin}/blue.png`, `${origin}/gone.png`], folder);

    expect(lines[0]).toMatch(new RegExp(`^${red}: red \\d+\\.\\d %, `));
    expect(lines[1]).toMatch(/\/blue\.png: blue \d+\.\d %, /);
    expect(lines[2]).toMatch(/\/gone\.png: DOWNLOAD_STATUS, .*404/);
    expect(lines[3]).toMatch(/^finished-with-errors: 2 of 3; all of it is in /);
  });

  test("function-task.mjs prints the function's results, and its error for what is no text", async () => {
    const folder = await temporaryFolder(onTestFinished);
    expect(await runExample("function-task.mjs", [], folder)).toEqual([
      "Two words: 2 words, 8 letters",
      "A somewhat longer line of text: 6 words, 25 letters",
      "42: FUNCTION_THREW, TypeError: item 2 is no text",
      "Ein Satz, in dem ein ß steht: 7 words, 21 letters",
      "finished-with-errors",
    ]);
  });

  test("go-on.mjs stops in the middle and does only the rest in the second call", async () => {
    const folder = await temporaryFolder(onTestFinished);
    expect(await runExample("go-on.mjs", ["out"], folder)).toEqual([
      "first call: cancelled",
      "second call: succeeded, 2000 of 2000 items have a result",
      "done in the first call and not again: all",
    ]);
  });

  test("enqueue-jobs.mjs has a small job's results while a large one runs", async () => {
    const folder = await temporaryFolder(onTestFinished);
    expect(await runExample("enqueue-jobs.mjs", ["out"], folder)).toEqual([
      "small: succeeded, the squares of 0 to 9 add up to 285",
      "large: running",
      "large: cancelled; what is stored stays, and the same job goes on from there",
    ]);
  });

  test("faults.mjs loses Task Managers, tries items again, and has the same results", async () => {
    const folder = await temporaryFolder(onTestFinished);
    expect(await runExample("faults.mjs", [], folder)).toEqual([
      "without faults: succeeded",
      "with faults: succeeded, 300 of 300 items have a result",
      "Task Managers were lost: yes; items were tried again: yes",
      "the results are the same: yes",
    ]);
  });

  test("job.yaml runs by the command line, its paths relative to itself", async () => {
    const folder = await temporaryFolder(onTestFinished);
    const { code, stdout } = await splitrun(["run", path.join(examples, "job.yaml")], { cwd: folder });
    expect(code).toBe(0);
    const lines = stdout.trimEnd().split("\n").map((line) => JSON.parse(line) as { readonly index: number; readonly output: unknown });
    expect(lines.toSorted((a, b) => a.index - b.index).map(({ output }) => output)).toEqual([
      { words: 11, letters: 32 },
      { words: 9, letters: 33 },
      { words: 13, letters: 50 },
      { words: 12, letters: 51 },
    ]);
  });
});
