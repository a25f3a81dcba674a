import { mkdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createOrchestrator } from "../../orchestrator/index.ts";
import { openAccount, resourcesOf } from "./setup.ts";
import type { Account } from "./setup.ts";

let account: Account;

beforeAll(async () => {
  account = await openAccount();
  process.env["SPLITRUN_CACHE_DIR"] = account.cacheDir;
});

afterAll(async () => {
  await account.close();
});

test("an orchestrator makes, asks, renews and removes its runtime", async () => {
  const orchestrator = createOrchestrator({ runtime: { name: "mine", memoryMb: 2048, region: "us-east-1" } });
  try {
    await expect(orchestrator.pingRuntime()).rejects.toMatchObject({ code: "LAMBDA_NOT_DEPLOYED" });
    expect(await orchestrator.deployRuntime()).toMatchObject({ name: "mine", memoryMb: 2048, changed: true });
    expect(await orchestrator.deployRuntime()).toMatchObject({ changed: false });
    expect(await orchestrator.pingRuntime({ times: 2 })).toMatchObject({ name: "mine", pings: [{ memoryMb: 2048 }, {}] });
    expect(await orchestrator.redeployRuntime()).toMatchObject({ changed: false });
    expect(await orchestrator.deployRuntime({ memoryMb: 1024 })).toMatchObject({ memoryMb: 1024, changed: true });
    expect(await orchestrator.deleteRuntime()).toMatchObject({ changed: true });
    expect(resourcesOf(account.emulator)).toEqual([]);
    await expect(orchestrator.deployRuntime({ memoryMb: 1 })).rejects.toMatchObject({ code: "RUNTIME_INVALID", field: "runtime.memoryMb" });
  } finally {
    await orchestrator.close();
  }
});

test("with `initialize`, the first job on Lambda deploys the runtime, and the next finds it there", async () => {
  const module = path.join(account.cacheDir, "double.mjs");
  await writeFile(module, "export default async (item) => item * 2;\n");
  const options = { backends: ["lambda"], runtime: { name: "initialized", memoryMb: 1024, module, stagingBucket: "staging" }, initialize: true, maxTaskManagers: 2 } as const;
  for (const round of ["first", "second"]) {
    const orchestrator = createOrchestrator(options);
    try {
      const output = path.join(account.cacheDir, round);
      await mkdir(output);
      const result = await orchestrator.runJob({ input: [1, 2, 3], task: { kind: "function", module }, output });
      expect(result).toMatchObject({ state: "succeeded", counts: { items: 3, succeeded: 3 } });
      const outputs = [];
      for await (const item of result.inOrder()) outputs.push(item.output);
      expect(outputs).toEqual([2, 4, 6]);
      expect(await orchestrator.pingRuntime({ times: 1 })).toMatchObject({ pings: [{ version: "1", memoryMb: 1024 }] });
      if (round === "second") await orchestrator.deleteRuntime();
    } finally {
      await orchestrator.close();
    }
  }
  expect(resourcesOf(account.emulator)).toEqual([]);
});
