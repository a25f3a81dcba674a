import { writeFile } from "node:fs/promises";
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

test("with `initialize`, the first job on Lambda deploys the runtime, the next finds it there; it is asked, renewed, changed and removed by methods", async () => {
  const module = path.join(account.cacheDir, "double.mjs");
  await writeFile(module, "export default async (item) => item * 2;\n");
  const orchestrator = createOrchestrator({
    backends: ["lambda"], runtime: { name: "mine", memoryMb: 1024, region: "us-east-1", module, stagingBucket: "staging" }, initialize: true, maxTaskManagers: 2,
  });
  try {
    await expect(orchestrator.pingRuntime()).rejects.toMatchObject({ code: "LAMBDA_NOT_DEPLOYED" });
    for (const round of ["first", "second"]) {
      const result = await orchestrator.runJob({ input: [1, 2, 3], task: { kind: "function", module }, output: path.join(account.cacheDir, round) });
      expect(result).toMatchObject({ state: "succeeded", counts: { items: 3, succeeded: 3 } });
      const outputs = [];
      for await (const item of result.inOrder()) outputs.push(item.output);
      expect(outputs).toEqual([2, 4, 6]);
    }
    expect(await orchestrator.deployRuntime()).toMatchObject({ name: "mine", changed: false });
    expect(await orchestrator.redeployRuntime()).toMatchObject({ changed: false });
    expect(await orchestrator.deployRuntime({ memoryMb: 2048 })).toMatchObject({ changed: true });
    expect(await orchestrator.pingRuntime({ times: 2 })).toMatchObject({ name: "mine", pings: [{ version: "2", memoryMb: 2048 }, {}] });
    await expect(orchestrator.deployRuntime({ memoryMb: 1 })).rejects.toMatchObject({ code: "RUNTIME_INVALID", field: "runtime.memoryMb" });
    expect(await orchestrator.deleteRuntime()).toMatchObject({ changed: true });
    expect(resourcesOf(account.emulator)).toEqual([]);
  } finally {
    await orchestrator.close();
  }
});
