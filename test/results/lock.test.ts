import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { openHome } from "../../orchestrator/results/home.ts";
import { acquireLock } from "../../orchestrator/results/lock.ts";
import { bundled, homeOptions, temporaryFolder } from "./support.ts";

interface Owner {
  readonly host: string;
  readonly boot: string | null;
  readonly pid: number;
  readonly pidStart: string | null;
  readonly since: string;
  readonly nonce: string;
}

/** A lock of this process, changed, with nobody holding it. */
async function leaveLock(dir: string, change: Partial<Owner>): Promise<string> {
  const path = join(dir, "lock");
  const release = acquireLock(path, { dir, takeOver: false });
  const own = JSON.parse(await readFile(path, "utf8")) as Owner;
  release();
  await writeFile(path, JSON.stringify({ ...own, nonce: "left", ...change }));
  return path;
}

/** Takes the lock when told to, says how that went, and holds it until its end. */
const contender = `
  import { acquireLock } from "./orchestrator/results/lock.ts";
  const [path, dir] = process.argv.slice(2);
  process.stdin.once("data", () => {
    try {
      acquireLock(path, { dir, takeOver: false });
      console.log("got it");
    } catch (error) {
      console.log(error.code);
    }
  });
  process.stdin.on("end", () => process.exit());
  console.log("ready");
`;

async function startContender(program: string, args: readonly string[]) {
  const child = spawn(process.execPath, [program, ...args], { stdio: ["pipe", "pipe", "inherit"] });
  onTestFinished(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill("SIGKILL");
    await once(child, "exit");
  });
  const says = async (): Promise<string> => String((await once(child.stdout, "data"))[0]).trim();
  expect(await says()).toBe("ready");
  return {
    child,
    async tries(): Promise<string> {
      const answer = says();
      child.stdin.write("go\n");
      return answer;
    },
  };
}

describe("the lock of a home", () => {
  test("names the live owner, and is free again once given back", async () => {
    const dir = await temporaryFolder();
    const home = await openHome(homeOptions(dir));
    await expect(openHome(homeOptions(dir))).rejects.toMatchObject({
      code: "HOME_IN_USE",
      value: { pid: process.pid, host: hostname(), since: expect.stringMatching(/^\d{4}-/) as string },
      message: expect.stringContaining(`process ${process.pid} since`) as string,
    });
    await home.close();
    await (await openHome(homeOptions(dir))).close();
    expect((await readdir(dir)).filter((name) => name.startsWith("lock"))).toEqual([]);
  });

  test.each([
    ["whose process is gone", { pid: 2 ** 22 + 1 }],
    ["whose number another process has now", { pidStart: "1" }],
    ["from before the machine was started again", { boot: "another-boot" }],
  ])("of an owner %s is taken at once", async (_, change) => {
    const dir = await temporaryFolder();
    const path = await leaveLock(dir, change);
    const release = acquireLock(path, { dir, takeOver: false });
    expect(JSON.parse(await readFile(path, "utf8"))).toMatchObject({ pid: process.pid });
    release();
    expect(await readdir(dir)).toEqual([]);
  });

  test("of another machine is taken only when told to", async () => {
    const dir = await temporaryFolder();
    const path = await leaveLock(dir, { host: "elsewhere", pid: 2 ** 22 + 1 });
    expect(() => acquireLock(path, { dir, takeOver: false })).toThrow(expect.objectContaining({ code: "HOME_IN_USE", message: expect.stringContaining("--take-over") as string }));
    const release = acquireLock(path, { dir, takeOver: true });
    release();
    expect(await readdir(dir)).toEqual([]);
  });

  test("is not taken over from a live owner of this machine", async () => {
    const dir = await temporaryFolder();
    const release = acquireLock(join(dir, "lock"), { dir, takeOver: false });
    expect(() => acquireLock(join(dir, "lock"), { dir, takeOver: true })).toThrow(expect.objectContaining({ code: "HOME_IN_USE" }));
    release();
  });

  test("survives who died while taking over a dead owner's", async () => {
    const dir = await temporaryFolder();
    const path = await leaveLock(dir, { pid: 2 ** 22 + 1, nonce: "first" });
    await writeFile(`${path}.first.claim`, (await readFile(path, "utf8")).replace("first", "second"));
    acquireLock(path, { dir, takeOver: false })();
    expect(await readdir(dir)).toEqual([]);
  });

  test("goes to exactly one of several processes that start at the same time, left free or by one killed", async () => {
    const folder = await temporaryFolder();
    const program = await bundled(contender, folder, "contender");
    const dir = await temporaryFolder();
    const path = join(dir, "lock");
    for (let round = 0; round < 4; round++) {
      const contenders = await Promise.all([1, 2, 3].map(() => startContender(program, [path, dir])));
      const answers = await Promise.all(contenders.map(({ tries }) => tries()));
      expect(answers.toSorted()).toEqual(["HOME_IN_USE", "HOME_IN_USE", "got it"]);
      const ends = contenders.map(({ child }) => once(child, "exit"));
      for (const { child } of contenders) child.kill("SIGKILL");
      await Promise.all(ends);
    }
  });
});
