import { writeFile } from "node:fs/promises";
import path from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { jsonLines, splitrun } from "../support/cli.ts";
import { temporaryFolder } from "../support/function-task.ts";

/** Waits until no other child of its parent is esbuild, or for half a minute; names those that are left. */
const source = `
  import { readdirSync, readFileSync } from "node:fs";
  const bundlers = () => readdirSync("/proc").filter((pid) => /^\\d+$/.test(pid)).filter((pid) => {
    try {
      const [, name, ppid] = /^\\d+ \\((.*)\\) \\S (\\d+) /.exec(readFileSync("/proc/" + pid + "/stat", "latin1"));
      return name === "esbuild" && Number(ppid) === process.ppid;
    } catch {
      return false;
    }
  });
  export default async () => {
    for (let looks = 0; looks < 300 && bundlers().length > 0; looks++) await new Promise((resolve) => setTimeout(resolve, 100));
    return bundlers().length;
  };
`;

test.runIf(process.platform === "linux")("what bundled the function is gone while the job runs", async () => {
  const folder = await temporaryFolder(onTestFinished);
  await writeFile(path.join(folder, "function.mjs"), source);
  await writeFile(path.join(folder, "job.json"), JSON.stringify({ input: [1], task: { kind: "function", module: "function.mjs" }, output: "out" }));
  const { code, stderr } = await splitrun(["run", "job.json"], { cwd: folder });
  expect(code, stderr).toBe(0);
  expect(await jsonLines(path.join(folder, "out", "results.jsonl"))).toMatchObject([{ output: 0 }]);
});
