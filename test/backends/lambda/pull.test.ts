import { existsSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import type { LambdaSpec } from "../../../orchestrator/jobs/types.ts";
import type { Usage } from "../../../orchestrator/backends/types.ts";
import type { TaskManagerMessage } from "../../../task-manager/protocol.ts";
import { functionTask, temporaryFolder } from "../../support/function-task.ts";
import { backendContract } from "../contract.ts";
import { createRandom, type Random } from "../../support/random.ts";
import { startTcpProxy, type TcpProxy } from "../../support/tcp-proxy.ts";
import { indexesOf } from "../../../orchestrator/scheduler/ranges.ts";
import { backendWith, emulated, runFunction } from "./support.ts";

const loopback = { address: "127.0.0.1", host: null, port: 0 };
const pulling = { kind: "lambda", pull: { address: "127.0.0.1" } } as const;
const emulator = emulated({ lateMs: 3000 }, [{}, { name: "short", timeoutSeconds: 4 }, { name: "short-too", timeoutSeconds: 4 }]);

backendContract("lambda, dialed by its functions,", () => backendWith({ pull: loopback }));

/** No time that a slow machine could take. */
const patient = { reportMs: 20, everyMs: 200, timeoutMs: 600_000 };
const numbers = Array.from({ length: 120 }, (_, at) => at);
const doubled = (ms: number) => `export default async (item) => { await new Promise((r) => setTimeout(r, ${ms})); return item * 2; };`;
const isPull = (payload: Buffer) => payload.includes('"kind":"pull"');

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 10));
}

/** The same, and held up at the tenth item until the test lets it go on. */
function held(folder: string) {
  const [begun, gate] = [path.join(folder, "begun"), path.join(folder, "gate")];
  return {
    source: `
      import { existsSync, writeFileSync } from "node:fs";
      export default async (item) => {
        if (item === 10) writeFileSync(${JSON.stringify(begun)}, String(process.ppid) + " " + process.pid);
        do await new Promise((r) => setTimeout(r, 5)); while (item >= 10 && !existsSync(${JSON.stringify(gate)}));
        return item * 2;
      };`,
    /** The function's process, and that one's parent. */
    async inItsMiddle(): Promise<readonly number[]> {
      await until(() => existsSync(begun) && readFileSync(begun, "utf8") !== "");
      return readFileSync(begun, "utf8").split(" ").map(Number);
    },
    letGo: () => writeFileSync(gate, ""),
  };
}

/** Chance that can be had again. */
function replayable(): Random {
  const seed = Number(process.env["SPLITRUN_SEED"] ?? Math.floor(Math.random() * 2 ** 31));
  console.log(`SPLITRUN_SEED=${seed}`);
  return createRandom(seed);
}

function expectDoubled(lines: Awaited<ReturnType<typeof runFunction>>["lines"]): void {
  expect(lines.map(({ output }) => output)).toEqual(numbers.map((item) => item * 2));
}

describe("a job whose functions dial in", () => {
  test("does every item once, in one invocation for each Task Manager, whose token is in no log", async () => {
    const folder = await temporaryFolder(onTestFinished);
    const tokens: string[] = [];
    emulator.lambda.faults.push({ kind: "throttle", when: (payload) => {
      tokens.push(/"token":"([^"]+)"/.exec(String(payload))?.[1] ?? "");
      return false;
    } });
    const before = emulator.lambda.invocations.length;
    const { result, lines } = await runFunction(folder, doubled(2), numbers, { backend: pulling });
    expectDoubled(lines);
    expect(new Set(lines.map(({ attempts }) => attempts))).toEqual(new Set([1]));
    await until(() => emulator.lambda.invocations.length >= before + tokens.length);
    expect(emulator.lambda.invocations.slice(before).every(({ streamed }) => streamed)).toBe(true);
    // One that finds nothing to do for a second ends by itself, and work starts another.
    const idled = emulator.lambda.invocations.slice(before).filter(({ durationMs }) => durationMs >= 1000).length;
    expect(tokens.length).toBeLessThanOrEqual(3 + idled);
    const logged = emulator.lambda.logMessages("/aws/lambda/splitrun").join("\n") + JSON.stringify(result);
    expect(tokens.filter((token) => token === "" || logged.includes(token))).toEqual([]);
  });

  test("redoes what was lost when an environment is killed", async () => {
    const kill = emulator.lambda.faults.push({ kind: "kill", afterMs: 600, when: isPull });
    const { result, lines } = await runFunction(await temporaryFolder(onTestFinished), doubled(20), numbers, { backend: pulling });
    expectDoubled(lines);
    expect(kill.taken).toBe(1);
    expect(result.counts).toMatchObject({ succeeded: 120, failed: 0 });
  });

  test("loses nothing and tries nothing twice when its connections break, time and again, and come back", async () => {
    const { proxy, backend } = await badLine();
    const random = replayable();
    // Enough for a handshake and a little work; in the end for any message.
    proxy.lifeBytes = () => (proxy.count < 30 ? random.between(6_000, 40_000) : Infinity);
    const before = emulator.lambda.invocations.length;
    const folder = await temporaryFolder(onTestFinished);
    const source = `const weight = "x".repeat(2_000); ${doubled(5).replace("item * 2", "[item * 2, weight]")}`;
    const { result, lines } = await runFunction(folder, source, numbers, { backend, taskManagers: 2, heartbeat: patient });
    expect(lines.map(({ output }) => (output as [number, string])[0])).toEqual(numbers.map((item) => item * 2));
    expect(new Set(lines.map(({ attempts }) => attempts))).toEqual(new Set([1]));
    expect(result.counts).toMatchObject({ succeeded: 120, failed: 0, retried: 0 });
    expect(emulator.lambda.invocations.slice(before).filter(({ error }) => error !== null)).toEqual([]);
    expect(proxy.count).toBeGreaterThan(4);
  });

  test("takes another connection for one that went dead without a word", async () => {
    const { proxy, backend } = await badLine();
    const folder = await temporaryFolder(onTestFinished);
    const { source, inItsMiddle, letGo } = held(folder);
    const running = runFunction(folder, source, numbers, { backend, taskManagers: 1, heartbeat: { ...patient, timeoutMs: 6_000 } });
    await inItsMiddle();
    proxy.stall();
    await until(() => proxy.count > 1);
    letGo();
    expectDoubled((await running).lines);
  });

  test("redoes what was lost when a connection does not come back in time, and the function that lost it does not go on", async () => {
    const { proxy, backend } = await badLine();
    const folder = await temporaryFolder(onTestFinished);
    const { source, inItsMiddle, letGo } = held(folder);
    let invocations = 0;
    emulator.lambda.faults.push({ kind: "throttle", when: (payload) => {
      // The next one is invoked once this one is lost.
      if (payload.includes(`"port":${proxy.port},`) && ++invocations > 1) proxy.mode = "pass";
      return false;
    } });
    const running = runFunction(folder, source, numbers, { backend, taskManagers: 1, heartbeat: { ...patient, everyMs: 500, timeoutMs: 2_000 } });
    const pids = await inItsMiddle();
    proxy.mode = "refuse";
    proxy.cut("reset");
    await until(() => proxy.mode === "pass");
    await until(() => !emulator.lambda.environments.some(({ pid }) => pid !== null && pids.includes(pid)));
    letGo();
    const { result, lines } = await running;
    expectDoubled(lines);
    expect(result.counts).toMatchObject({ succeeded: 120, failed: 0 });
  });

  test("goes on in a new invocation when the time of one comes to its end, and nothing is lost or tried twice", async () => {
    const { result, lines } = await runFunction(await temporaryFolder(onTestFinished), doubled(50), numbers, {
      backend: { ...pulling, functionName: "short" }, taskManagers: 1, task: { kind: "function", module: "function.mjs", threads: 1, concurrency: 1 },
    });
    expectDoubled(lines);
    expect(new Set(lines.map(({ attempts }) => attempts))).toEqual(new Set([1]));
    expect(result.counts).toMatchObject({ retried: 0 });
    const invocations = emulator.lambda.invocations.filter(({ functionName }) => functionName === "short");
    expect(invocations.length).toBeGreaterThan(1);
    expect(invocations.filter(({ error }) => error !== null)).toEqual([]);
  });

  test("sends a module of any size over the connection, where requests could not hold it", async () => {
    const source = `const weight = "${"x".repeat(4_000_000)}"; export default (item) => item + weight.length;`;
    const { lines } = await runFunction(await temporaryFolder(onTestFinished), source, numbers, { backend: pulling, taskManagers: 2 });
    expect(lines[7]?.output).toBe(4_000_007);
  });

  test("works where responses cannot be streamed", async () => {
    const { lines } = await runFunction(await temporaryFolder(onTestFinished), doubled(1), numbers, { backend: { ...pulling, buffered: true } });
    expectDoubled(lines);
  });
});

async function launched(source: string, changes: Partial<LambdaSpec> = {}, heartbeatMs = 100) {
  const backend = await backendWith({ pull: loopback, ...changes });
  onTestFinished(() => backend.close());
  const { task, artifacts } = await functionTask(await temporaryFolder(onTestFinished), source);
  const usages: Usage[] = [];
  backend.meter?.onUsage((usage) => usages.push(usage));
  const { channel, exited } = await backend.launch({ name: "tm-1", env: {}, logPath: null, maxRamMb: null, artifacts, comeBackWithinMs: 60_000 });
  const heard: TaskManagerMessage[] = [];
  channel.onMessage((message) => heard.push(message));
  void channel.send({ kind: "configure", task, reportMs: 20, heartbeatMs, itemTimeoutMs: 60_000, profile: "off", faults: null, memoryLimitMb: null });
  return { backend, channel, exited, heard, usages };
}

test("what is handed out while an invocation comes to its end waits for the next one, and does not go to and fro", async () => {
  const { channel, heard, usages } = await launched(doubled(100), { functionName: "short-too" });
  await until(() => heard.some(({ kind }) => kind === "configured"));
  let assignment = 0;
  const assign = (items: readonly number[]) => void channel.send({ kind: "assign", assignment: ++assignment, items: [...items], inputs: [...indexesOf(items)], endWithinMs: null, reversed: false });
  channel.onMessage((message) => {
    if (message.kind === "returned") assign(message.items);
  });
  assign([0, 45]);
  await until(() => heard.at(-1)?.kind === "idle");
  const ends = heard.filter(({ kind }) => kind === "returned");
  expect(ends.length).toBeGreaterThan(0);
  expect(ends.length).toBeLessThanOrEqual(usages.length + 1);
  const results = heard.flatMap((message) => (message.kind === "items" ? message.results.map(({ index }) => index) : []));
  expect(results.sort((a, b) => a - b)).toEqual([...indexesOf([0, 45])]);
});

test("while its connection is lost a Task Manager begins no more than it can keep, and goes on when it is back", async () => {
  const { proxy, backend: { pull } } = await badLine();
  const folder = await temporaryFolder(onTestFinished);
  const [begun, gate] = [path.join(folder, "begun"), path.join(folder, "gate")];
  const { channel, heard } = await launched(`
    import { appendFileSync, existsSync } from "node:fs";
    const output = "x".repeat(1_000_000);
    export default async () => {
      appendFileSync(${JSON.stringify(begun)}, "x");
      do await new Promise((r) => setTimeout(r, 20)); while (!existsSync(${JSON.stringify(gate)}));
      return output;
    };`, { pull });
  await until(() => heard.some(({ kind }) => kind === "configured"));
  void channel.send({ kind: "assign", assignment: 1, items: [0, 60], inputs: [...numbers.slice(0, 60)], endWithinMs: null, reversed: false });
  await until(() => existsSync(begun));
  proxy.mode = "refuse";
  proxy.cut("reset");
  await until(() => proxy.count > 1);
  writeFileSync(gate, "");
  const begunItems = () => readFileSync(begun, "utf8").length;
  await until(() => begunItems() >= 8);
  // Time for more.
  const triesBefore = proxy.count;
  await until(() => proxy.count > triesBefore + 1);
  expect(begunItems()).toBeLessThan(20);
  proxy.mode = "pass";
  await until(() => heard.at(-1)?.kind === "idle");
  const results = heard.flatMap((message) => (message.kind === "items" ? message.results.map(({ index }) => index) : []));
  expect(results.sort((a, b) => a - b)).toEqual(numbers.slice(0, 60));
});

test("an answer that breaks while its connection is up is told as that, not as a connection that was closed", async () => {
  emulator.lambda.faults.push({ kind: "cut-stream", afterBytes: 4000, when: isPull });
  const { exited } = await launched("export default () => new Promise(() => undefined);", {}, 10);
  const { message } = await exited;
  expect(message).toMatch(/broke|cut|reset|ended/);
  expect(message).not.toContain("closed from this side");
});

test("with nothing to do an invocation ends, and work starts the next; neither is wasted", async () => {
  const { backend, channel, exited, heard, usages } = await launched(doubled(1));
  await until(() => usages.length === 1);
  expect(heard.map(({ kind }) => kind)).toContain("configured");
  const silentSince = heard.length;
  await until(() => heard.length > silentSince + 2);
  expect(heard.at(-1)).toMatchObject({ kind: "heartbeat", held: [] });
  expect(backend.meter?.inFlight()).toEqual([]);
  void channel.send({ kind: "assign", assignment: 1, items: [0, 2], inputs: [1, 2], endWithinMs: null, reversed: false });
  await until(() => heard.at(-1)?.kind === "idle");
  void channel.send({ kind: "stop", how: "drain" });
  expect(await exited).toEqual({ exitCode: 0, signal: null });
  await until(() => usages.length === 2);
  expect(usages).toMatchObject([{ source: "report", wasted: false, taskManager: "tm-1" }, { source: "report", wasted: false, taskManager: "tm-1" }]);
  expect(heard.filter(({ kind }) => kind === "configured" || kind === "hello")).toHaveLength(2);
});

describe("where functions cannot reach this machine", () => {
  test("a function that does not get through says so, with the way out", async () => {
    const folder = await temporaryFolder(onTestFinished);
    const running = runFunction(folder, doubled(1), numbers, { backend: { kind: "lambda", pull: { address: "127.0.0.3", host: "127.0.0.1" } } });
    await expect(running).rejects.toMatchObject({
      code: "LAMBDA_PULL",
      message: expect.stringMatching(/^backend\.pull: the function splitrun did not dial in: from the function, 127\.0\.0\.3:\d+ could not be connected to \(ECONNREFUSED\); .*security group .*TCP port \d+ /) as string,
    });
    await expect(import("node:fs/promises").then(({ access }) => access(path.join(folder, "out", "results.jsonl")))).rejects.toThrow();
  });

  test("without an address, elsewhere than on EC2, nothing starts", async () => {
    await expect(backendWith({ pull: { address: null, host: null, port: 0 } })).rejects.toMatchObject({ code: "LAMBDA_PULL", field: "backend.pull.address" });
    await expect(backendWith({ pull: { address: "192.0.2.1", host: null, port: 0 } })).rejects.toMatchObject({ code: "LAMBDA_PULL", message: expect.stringContaining("backend.pull.host") as string });
  });
});

/** A line between functions at 127.0.0.2 and the same port at 127.0.0.1. */
async function badLine(): Promise<{ readonly proxy: TcpProxy; readonly backend: { readonly kind: "lambda"; readonly pull: { readonly address: string; readonly host: string; readonly port: number } } }> {
  const proxy = await startTcpProxy({ host: "127.0.0.2", toPort: null });
  onTestFinished(() => proxy.close());
  return { proxy, backend: { kind: "lambda", pull: { address: "127.0.0.2", host: "127.0.0.1", port: proxy.port } } };
}
