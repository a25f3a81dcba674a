import { mkdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { memoryGauge } from "../../task-manager/memory-gauge.ts";
import { createMemoryGuard, type MemoryAdvice } from "../../task-manager/memory-guard.ts";
import { functionTask, temporaryFolder } from "../support/function-task.ts";
import { startTaskManagerProcess, type TaskManagerProcess } from "../support/task-manager-process.ts";

describe("the limit of memory", () => {
  async function machine(files: Readonly<Record<string, string>>) {
    const folder = await temporaryFolder(onTestFinished);
    for (const [name, text] of Object.entries(files)) {
      await mkdir(path.dirname(path.join(folder, name)), { recursive: true });
      await writeFile(path.join(folder, name), text);
    }
    return { controlGroups: path.join(folder, "cgroup"), memberships: path.join(folder, "memberships"), machine: path.join(folder, "meminfo") };
  }
  const meminfo = "MemTotal:        1000 kB\nMemFree:          100 kB\nMemAvailable:     600 kB\n";

  test("that was asked for is measured against this process alone", () => {
    const gauge = memoryGauge(1_000_000);
    expect(gauge?.own).toBe(true);
    expect(gauge?.read()).toBeGreaterThan(0);
    expect(gauge?.read()).toBeLessThan(0.01);
  });

  test("is else that of the control group, pages that can be dropped left out", async () => {
    const files = await machine({
      memberships: "0::/job/one\n",
      "cgroup/job/one/memory.max": "1000000\n",
      "cgroup/job/one/memory.current": "700000\n",
      "cgroup/job/one/memory.stat": "anon 1\ninactive_file 200000\nactive_file 5\n",
      meminfo,
    });
    expect(memoryGauge(null, files)?.own).toBe(false);
    expect(memoryGauge(null, files)?.read()).toBe(0.5);
  });

  test("is found where a container has its group as the root, and in the first version's files", async () => {
    const files = await machine({
      memberships: "5:cpu:/\n4:memory:/docker/abc\n0::/\n",
      "cgroup/memory/memory.limit_in_bytes": "1000000\n",
      "cgroup/memory/memory.usage_in_bytes": "900000\n",
      "cgroup/memory/memory.stat": "inactive_file 1\ntotal_inactive_file 100000\n",
      meminfo,
    });
    expect(memoryGauge(null, files)?.read()).toBe(0.8);
  });

  test("is the machine's where the group has none", async () => {
    const files = await machine({ memberships: "4:memory:/\n0::/\n", "cgroup/memory.max": "max\n", "cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n", meminfo });
    expect(memoryGauge(null, files)?.read()).toBeCloseTo(0.4);
  });

  test("is unknown where nothing tells", async () => {
    expect(memoryGauge(null, await machine({}))).toBeNull();
  });
});

describe("near the limit", () => {
  const looks = (used: readonly number[], options: Partial<Parameters<typeof createMemoryGuard>[0]> = {}): MemoryAdvice[] => {
    const guard = createMemoryGuard({ base: 0.2, own: true, width: 1, jitter: 0.5, ...options });
    return used.map((each) => guard.look(each));
  };
  const times = (count: number, used: number) => Array.from({ length: count }, () => used);

  test("batches are halved first, then a little is given back, then a process that has grown is replaced", () => {
    const advice = looks(times(16, 0.85));
    expect(advice.slice(0, 4).map(({ width }) => width)).toEqual([0.5, 0.25, 0.125, 0.0625]);
    expect(advice.flatMap(({ giveBack }, at) => (giveBack ? [at] : []))).toEqual([3, 7]);
    expect(advice.flatMap(({ end }, at) => (end === null ? [] : [`${end} ${at}`]))).toEqual(["restart 15"]);
  });

  test("nothing is done below, and the width comes back once there is room, slowly from where it was too much", () => {
    expect(looks(times(20, 0.7)).every(({ width, giveBack, end }) => width === 1 && !giveBack && end === null)).toBe(true);
    const widths = looks([0.9, 0.9, ...times(110, 0.5)]).map(({ width }) => width);
    expect(widths[1]).toBe(0.25);
    expect(widths[8]).toBe(0.25);
    expect([widths[26], widths[60]]).toEqual([0.75, 0.75]);
    expect(widths.at(-1)).toBe(1);
  });

  test("one that begins narrow, since others ran out of memory, grows slowly", () => {
    const widths = looks(times(81, 0.5), { width: 0.25 }).map(({ width }) => width);
    expect([widths[0], widths[38], widths[40], widths[80]]).toEqual([0.25, 0.25, 0.3125, 0.390625]);
  });

  test("what ends says how much at once would have fitted, and that it was not too much where doing less did not help", () => {
    const [, killed] = looks([1.2, 1.4]);
    expect(killed).toMatchObject({ end: "kill" });
    expect(killed?.fits).toBeCloseTo((0.67 - 0.2) / (1.4 - 0.2));
    expect(looks(times(16, 0.85)).at(-1)).toMatchObject({ end: "restart", fits: 1 });
  });

  test("over the limit the process ends at once, where the memory is its own", () => {
    expect(looks(times(2, 1.2)).map(({ end }) => end)).toEqual([null, "kill"]);
    expect(looks(times(50, 1.2), { own: false }).every(({ end }) => end === null)).toBe(true);
  });

  test("a limit that the process reaches with no item leaves room for some all the same", () => {
    expect(looks(times(50, 0.99), { base: 0.98 }).every(({ width, end }) => width === 1 && end === null)).toBe(true);
  });

  test("processes differ in when they act", () => {
    const acts = [0, 0.5, 0.99].map((jitter) => looks([0.77, 0.8], { jitter }).map(({ width }) => width));
    expect(acts).toEqual([[1, 1], [1, 0.5], [0.5, 0.25]]);
  });
});

describe("a real Task Manager", () => {
  const source = `
    const kept = [];
    export default async (item) => {
      if (typeof item === "number") kept.push(Buffer.alloc(item * 1e6, 1));
      await new Promise((resolve) => setTimeout(resolve, 30));
      return kept.length;
    };
  `;

  async function start(memoryLimitMb: number): Promise<TaskManagerProcess> {
    const folder = await temporaryFolder(onTestFinished);
    const { task, artifacts } = await functionTask(folder, source);
    const [artifact] = artifacts.values();
    return startTaskManagerProcess({ folder, task, artifact: artifact?.path ?? "", configure: { memoryLimitMb } });
  }

  test("that leaks gives a few items back for lack of memory, then ends and blames no item", async () => {
    // Between the level at which something is done and that at which it ends at once there are 80 MB of these.
    const manager = await start(800);
    await manager.until(() => manager.messages.some(({ kind }) => kind === "heartbeat"));
    const rssMb = manager.messages.flatMap((message) => (message.kind === "heartbeat" ? [message.rssMb] : []));
    manager.assign([680 - (rssMb.at(-1) ?? 90), ...Array.from({ length: 2000 }, () => "work")]);
    expect(await manager.ended).toEqual({ exitCode: 0, signal: null });
    const forMemory = manager.returned("MEMORY").flat();
    expect(forMemory.length).toBeGreaterThan(0);
    expect(forMemory.length).toBeLessThanOrEqual(32);
    expect(manager.errors.size).toBe(0);
    expect(manager.results.size + forMemory.length + manager.returned("RESTART").flat().length).toBe(2001);
  });

  test("that an item takes over the limit is killed, with that item begun and the others given back", async () => {
    const manager = await start(300);
    manager.assign(["work", 900, ...Array.from({ length: 200 }, () => "work")]);
    await manager.until(() => manager.begun().includes(1));
    expect((await manager.ended).signal).toBe("SIGKILL");
    const open = manager.begun().filter((index) => !manager.results.has(index) && !manager.returned("RESTART").flat().includes(index));
    expect(open.length).toBeLessThanOrEqual(2);
  });
});
