import { execFile } from "node:child_process";
import path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openAccount, resourcesOf } from "./setup.ts";
import type { Account } from "./setup.ts";

let account: Account;

beforeAll(async () => {
  account = await openAccount();
});

afterAll(async () => {
  await account.close();
});

function smoke(...args: readonly string[]): Promise<{ readonly code: number; readonly output: string }> {
  const env = { ...process.env, ...account.variables, SPLITRUN_CACHE_DIR: account.cacheDir };
  return new Promise((resolve) => {
    execFile(process.execPath, [path.resolve(import.meta.dirname, "../../scripts/aws-smoke.mjs"), ...args], { env }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code ?? -1), output: stdout + stderr });
    });
  });
}

test("the check for a real account goes through against the emulator, and leaves nothing there", async () => {
  const { code, output } = await smoke("--images", "5");
  expect(code, output).toBe(0);
  expect(output.match(/^ok /gm)).toHaveLength(8);
  expect(output).toMatch(/the same results: byte for byte/);
  expect(resourcesOf(account.emulator)).toEqual([]);
  expect(account.s3.requests.at(-1)).toMatchObject({ operation: "DeleteBucket", status: 204 });
});

test("where it fails, it says at what, and removes what it has made all the same", async () => {
  account.emulator.denied.add("lambda:PublishVersion");
  const { code, output } = await smoke("--images", "1");
  account.emulator.denied.clear();
  expect(code).not.toBe(0);
  expect(output).toContain("FAIL  deploy");
  expect(output).toContain("may not lambda:PublishVersion");
  expect(resourcesOf(account.emulator)).toEqual([]);
  expect(account.s3.requests.at(-1)).toMatchObject({ operation: "DeleteBucket", status: 204 });
});

test("what cannot be removed is said, and the rest is removed", async () => {
  account.emulator.denied.add("lambda:PublishVersion");
  account.emulator.denied.add("iam:DeleteRole");
  const { code, output } = await smoke("--images", "1");
  account.emulator.denied.clear();
  expect(code).not.toBe(0);
  expect(output).toMatch(/FAIL {2}undeploy[\s\S]*ok {4}remove the bucket[\s\S]*Look for splitrun-smoke-/);
  expect(account.emulator.functionNames).toEqual([]);
  expect(account.s3.requests.at(-1)).toMatchObject({ operation: "DeleteBucket", status: 204 });
});
