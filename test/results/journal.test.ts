import { spawn } from "node:child_process";
import { once } from "node:events";
import { open, readFile, stat } from "node:fs/promises";
import { randomInt } from "node:crypto";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { Journal } from "../../orchestrator/results/journal.ts";
import type { Outcome } from "../../orchestrator/results/types.ts";
import { mountOwnDisk, ownDisk } from "../support/own-disk.ts";
import { createRandom } from "../support/random.ts";
import { bundled, homeOptions, linesOf, outcomesOf, run, temporaryFolder } from "./support.ts";

const outcome = (index: number): Outcome => ({ index, input: `http://host/${index}`, output: { label: "é\n", score: index }, attempts: 1 });

async function openJournal(path: string): Promise<Journal> {
  return new Journal({ handle: await open(path, "w+"), path, size: 0 });
}

/** Appends for ever; says what is stored, once it is. Its arguments: directory, items a batch, batches at a time. */
const appender = `
  import { writeSync } from "node:fs";
  import { openHome } from "./orchestrator/results/home.ts";
  const [dir, items, ahead] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];
  const home = await openHome({ dir, mode: "run", fingerprint: "aaaaaaaa11111111", source: { kind: "text", from: "/list.txt", size: 1, modifiedMs: 1 }, fresh: false, retryFailed: false, takeOver: false, listAgain: false });
  let batch = 0;
  const next = () => {
    const first = batch * items;
    const list = Array.from({ length: items }, (_, at) => ({ input: "http://host/" + (first + at) }));
    home.match(first, list);
    home.append(batch++, list.map(({ input }, at) => ({ index: first + at, input, output: "x".repeat((first + at) % 50), attempts: 1 })));
  };
  home.onStored((stored) => {
    writeSync(1, stored + "\\n");
    setImmediate(next);
  });
  home.onStoreFailed(async (failed, error) => {
    writeSync(1, "failed " + failed + " " + error.cause.code + "\\n");
    await home.finish({ complete: false });
    await home.close();
    process.exit();
  });
  for (let at = 0; at < ahead; at++) next();
`;

interface Appending {
  readonly lines: readonly string[];
  readonly pid: number;
}

/** Runs the appender until it ends, or is killed once it said so many lines. */
async function append(program: string, args: readonly string[], options: { readonly killAfterLines: number; readonly shell?: string }): Promise<Appending> {
  const command = [process.execPath, program, ...args];
  const child = options.shell === undefined
    ? spawn(command[0] ?? "", command.slice(1), { stdio: ["ignore", "pipe", "inherit"] })
    : spawn("sh", ["-c", `${options.shell}; exec "$0" "$@"`, ...command], { stdio: ["ignore", "pipe", "inherit"] });
  onTestFinished(() => void child.kill("SIGKILL"));
  let said = "";
  let count = 0;
  child.stdout.setEncoding("utf8");
  child.stdout.on("data", (text: string) => {
    said += text;
    count += text.split("\n").length - 1;
    if (count >= options.killAfterLines) child.kill("SIGKILL");
  });
  await once(child, "close");
  return { lines: said.split("\n").filter((line) => line !== ""), pid: child.pid ?? -1 };
}

describe("the journal", () => {
  test("acknowledges batches in order, once they are in the file, empty ones too", async () => {
    const path = join(await temporaryFolder(), "journal");
    const journal = await openJournal(path);
    const stored: number[] = [];
    const sizes: number[] = [];
    journal.onStored((batch) => stored.push(batch));
    journal.append(0, [outcome(0)]);
    journal.append(1, []);
    expect(journal.pendingBytes).toBeGreaterThan(0);
    await journal.drained();
    sizes.push((await stat(path)).size);
    journal.append(2, []);
    await journal.drained();
    for (let batch = 3; batch < 300; batch++) journal.append(batch, [outcome(batch), outcome(batch + 1000)]);
    await journal.close();
    expect(stored).toEqual(Array.from({ length: 300 }, (_, batch) => batch));
    expect(journal.pendingBytes).toBe(0);
    expect(await linesOf(path)).toHaveLength(1 + 297 * 2);
    expect((await linesOf(path))[0]).toEqual(outcome(0));
  });

  test("takes what is appended while it stores into the next group", async () => {
    const path = join(await temporaryFolder(), "journal");
    const journal = await openJournal(path);
    const stored: number[] = [];
    journal.onStored((batch) => {
      stored.push(batch);
      if (batch < 50) journal.append(batch + 1, [outcome(batch + 1)]);
    });
    journal.append(0, [outcome(0)]);
    await journal.drained();
    expect(stored).toHaveLength(51);
    await journal.close();
  });

  test("has all that it acknowledged after kill -9, and at most whole lines more", async () => {
    const seed = Number(process.env["SPLITRUN_SEED"] ?? randomInt(2 ** 31));
    console.log(`kills of an appender: SPLITRUN_SEED=${seed}`);
    const random = createRandom(seed);
    const folder = await temporaryFolder();
    const program = await bundled(appender, folder, "appender");
    for (let round = 0; round < 4; round++) {
      const dir = join(folder, `home-${round}`);
      const items = random.between(1, 200);
      const { lines } = await append(program, [dir, String(items), String(random.between(1, 5))], { killAfterLines: random.between(1, 60) });
      const acknowledged = lines.length * items;
      const list = Array.from({ length: acknowledged + 1000 }, (_, index) => ({ input: `http://host/${index}` }));
      expect(lines).toEqual(lines.map((_, at) => String(at)));
      const { did } = await run(homeOptions(dir, { mode: "resume" }), list);
      expect(did.every((index) => index >= acknowledged)).toBe(true);
      expect((await outcomesOf(dir)).map(({ input }) => input)).toEqual(list.map(({ input }) => input));
    }
  });

  test("says once that a file may grow no further, and keeps what was stored (a process's own limit, not a full disk)", async () => {
    const folder = await temporaryFolder();
    const program = await bundled(appender, folder, "appender");
    const dir = join(folder, "home");
    const { lines } = await append(program, [dir, "50", "3"], { killAfterLines: 10_000, shell: "ulimit -f 64" });
    await keepsWhatItSaid(dir, lines, "EFBIG");
  });

  test.skipIf(!ownDisk)("says once that the disk is full, and keeps what was stored (needs root, for a filesystem of its own)", async () => {
    const folder = await temporaryFolder();
    const program = await bundled(appender, folder, "appender");
    const disk = await mountOwnDisk("256k");
    const dir = join(disk, "home");
    const { lines } = await append(program, [dir, "50", "3"], { killAfterLines: 10_000 });
    await keepsWhatItSaid(dir, lines, "ENOSPC");
  });
});

async function keepsWhatItSaid(dir: string, lines: readonly string[], code: string): Promise<void> {
  const stored = lines.slice(0, -1);
  expect(lines.at(-1)).toBe(`failed ${stored.length} ${code}`);
  expect(stored.length).toBeGreaterThan(0);
  expect(stored).toEqual(stored.map((_, at) => String(at)));
  const text = await readFile(join(dir, "results.jsonl"), "utf8");
  expect(text.endsWith("\n")).toBe(true);
  expect(text.split("\n")).toHaveLength(stored.length * 50 + 1);
  expect(await outcomesOf(dir)).toHaveLength(stored.length * 50);
}
