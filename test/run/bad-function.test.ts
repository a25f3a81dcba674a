import { writeFile } from "node:fs/promises";
import path from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { jsonLines, splitrun } from "../support/cli.ts";
import { temporaryFolder } from "../support/function-task.ts";

interface Line {
  readonly index: number;
  readonly input: string;
  readonly output?: unknown;
  readonly error?: { readonly code: string; readonly stage: string; readonly message: string };
  readonly attempts: number;
}

const source = `
let calls = new Map();
export default async (item) => {
  switch (item) {
    case "throw": throw new Error("always");
    case "throw-final": throw Object.assign(new Error("final"), { retryable: false });
    case "not-json": return { when: new Date() };
    case "nan": return NaN;
    case "cycle": { const a = {}; a.a = a; return a; }
    case "never": return new Promise(() => {});
    case "loop": for (;;);
    case "exit": process.exit(9);
    case "kill": process.kill(process.pid, "SIGSEGV"); await new Promise(() => {}); break;
    case "print": for (let i = 0; i < 30; i++) console.log("y".repeat(100_000)); return "printed";
  }
  return item.toUpperCase();
};
`;

test("a function that throws, hangs, exits, dies, or answers what is not JSON fails on that item alone", async () => {
  const folder = await temporaryFolder(onTestFinished);
  const bad: Readonly<Record<string, string>> = {
    throw: "FUNCTION_THREW",
    "throw-final": "FUNCTION_THREW",
    "not-json": "FUNCTION_RESULT",
    nan: "FUNCTION_RESULT",
    cycle: "FUNCTION_RESULT",
    never: "ITEM_TIMEOUT",
    loop: "ITEM_TIMEOUT",
    exit: "TASK_MANAGER_LOST",
    kill: "TASK_MANAGER_LOST",
  };
  const list: string[] = [];
  for (const name of [...Object.keys(bad), "print"]) list.push(...Array.from({ length: 20 }, (_, n) => `good ${name} ${n}`), name);
  await writeFile(path.join(folder, "items.txt"), `${list.join("\n")}\n`);
  await writeFile(path.join(folder, "task.mjs"), source);
  const end = await splitrun(
    ["run", "--json", "--input", "items.txt", "--output", "out", "--set", "task.kind=function", "--set", "task.module=./task.mjs",
      "--set", "timeouts.itemMs=3000", "--set", "attemptsMax=2", "--set", "heartbeat.reportMs=20"],
    { cwd: folder },
  );
  expect(end.code, end.stderr).toBe(1);
  const lines = (await jsonLines<Line>(path.join(folder, "out", "results.jsonl"))).sort((a, b) => a.index - b.index);
  expect(lines.map(({ index }) => index)).toEqual(list.map((_, index) => index));
  for (const line of lines) {
    const code = bad[line.input];
    if (code === undefined) expect(line.output, JSON.stringify(line)).toBe(line.input === "print" ? "printed" : line.input.toUpperCase());
    else expect(line.error?.code, line.input).toBe(code);
  }
  const byInput = new Map(lines.map((line) => [line.input, line]));
  expect(byInput.get("throw")?.attempts).toBe(2);
  expect(byInput.get("throw-final")?.attempts).toBe(1);
  expect(byInput.get("exit")?.error?.message).toMatch(/exit code 9/);
  expect(byInput.get("kill")?.error?.message).toMatch(/SIGSEGV/);
});
