import { describe, expect, onTestFinished, test } from "vitest";
import { temporaryFolder } from "../../support/function-task.ts";
import { emulated, runFunction } from "./support.ts";

describe("where Lambda takes fewer at once than a job may have", () => {
  emulated({ concurrency: 2 });

  test("the job has as many Task Managers as there is room for, with splits of their size", async () => {
    const folder = await temporaryFolder(onTestFinished);
    const { result, lines } = await runFunction(
      folder,
      "export default async (n) => { await new Promise((r) => setTimeout(r, 10)); return n + 1; };",
      Array.from({ length: 400 }, (_, n) => n),
      { taskManagers: 40 },
    );
    expect(result.state).toBe("succeeded");
    expect(result.summary.taskManagerLosses).toBe(0);
    expect(lines.every(({ output, attempts }, index) => output === index + 1 && attempts === 1)).toBe(true);
    // With splits for forty there would be about one an item.
    expect(result.summary.cost?.invocations).toBeLessThan(150);
    expect(result.summary.notes.join()).toMatch(/Lambda does not take as many invocations at once as taskManagers \(40\) asks for: \d+\.\d ran on average\. .*Service Quotas/);
  });
});
