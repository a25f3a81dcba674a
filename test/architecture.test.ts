import { readdir, readFile } from "node:fs/promises";
import path from "node:path";
import { describe, expect, test } from "vitest";

const root = path.resolve(import.meta.dirname, "..");

interface Import {
  readonly from: string;
  readonly to: string;
}

async function importsOf(folder: string): Promise<readonly Import[]> {
  const files = (await readdir(path.join(root, folder), { recursive: true })).filter((name) => name.endsWith(".ts"));
  const lists = await Promise.all(
    files.map(async (name) => {
      const from = path.join(folder, name);
      const text = await readFile(path.join(root, from), "utf8");
      return [...text.matchAll(/(?:from|import)\s*\(?\s*"(\.[^"]+)"/g)].map((match) => ({
        from,
        to: path.join(path.dirname(from), match[1] ?? ""),
      }));
    }),
  );
  return lists.flat();
}

/** What each room may import of its own side, beside itself, `errors.ts` and `globals.d.ts`. */
const allowed: Readonly<Record<string, readonly string[]>> = {
  cli: ["jobs", "service", "observe", "results", "scheduler", "inputs", "simulate"],
  simulate: ["scheduler"],
  service: ["jobs", "run", "inputs", "scheduler", "backends", "results", "observe"],
  run: ["inputs", "scheduler", "results", "observe"],
  observe: ["scheduler", "results", "inputs"],
  results: ["inputs", "scheduler"],
  inputs: ["jobs"],
  backends: ["jobs", "scheduler"],
  jobs: [],
  scheduler: [],
};

describe("the arrows point down", () => {
  test("a Task Manager imports nothing of the orchestrator", async () => {
    const wrong = (await importsOf("task-manager")).filter(({ to }) => !to.startsWith("task-manager/"));
    expect(wrong).toEqual([]);
  });

  test("the orchestrator imports only the protocol, what carries it over WebSockets, and the clients for HTTP and S3 of the Task Manager", async () => {
    const shared = new Set([
      "task-manager/protocol.ts", "task-manager/channel/resumable.ts", "task-manager/channel/web-socket-wire.ts",
      "task-manager/http-client.ts", "task-manager/s3-client.ts",
    ]);
    const wrong = (await importsOf("orchestrator")).filter(
      ({ from, to }) =>
        to.startsWith("task-manager/") &&
        !shared.has(to) &&
        // `sequential` is the Task Manager's entry point, loaded from its bundle; only its type is known here.
        !(from === "orchestrator/backends/sequential.ts" && to === "task-manager/main.ts"),
    );
    expect(wrong).toEqual([]);
  });

  test("each room imports only those below it", async () => {
    const wrong = (await importsOf("orchestrator")).filter(({ from, to }) => {
      const [, room = "", ...rest] = from.split("/");
      const [side, target = "", ...inTarget] = to.split("/");
      if (side !== "orchestrator" || inTarget.length === 0 || rest.length === 0 || room === target) return false;
      return !(allowed[room] ?? []).includes(target);
    });
    expect(wrong).toEqual([]);
  });

  test("what deploys imports the errors, Lambda's own part of the backends, and the protocol and S3 client of the Task Manager", async () => {
    const wrong = (await importsOf("infra")).filter(({ to }) =>
      !to.startsWith("infra/") && !to.startsWith("orchestrator/backends/lambda/") &&
      !["orchestrator/errors.ts", "task-manager/protocol.ts", "task-manager/s3-client.ts"].includes(to));
    expect(wrong).toEqual([]);
  });

  test("one module leads to what deploys", async () => {
    const callers = new Set((await importsOf("orchestrator")).filter(({ to }) => to.startsWith("infra/")).map(({ from }) => from));
    expect([...callers]).toEqual(["orchestrator/service/runtime.ts"]);
  });

  test("only the pool calls backends", async () => {
    const callers = (await importsOf("orchestrator")).filter(({ from, to }) => to.startsWith("orchestrator/backends/") && !from.startsWith("orchestrator/backends/"));
    expect(callers.every(({ from }) => from.startsWith("orchestrator/service/"))).toBe(true);
  });

  test("the Task Manager's bundle contains nothing of the orchestrator", async () => {
    const bundle = await readFile(path.join(root, "dist/task-manager.js"), "utf8");
    for (const word of ["results.jsonl", "createScheduler", "commander", "SplitrunError"]) expect(bundle).not.toContain(word);
  });

  test("the AWS SDK is loaded by nothing but the first use of it", async () => {
    const loaded = new Set<string>();
    const load = async (file: string): Promise<void> => {
      if (loaded.has(file)) return;
      loaded.add(file);
      const text = await readFile(path.join(root, "dist", file), "utf8");
      for (const [, name = ""] of text.matchAll(/(?:\bfrom|^import)\s*"([^"]+)"/gm)) {
        if (name.startsWith("./")) await load(name.slice(2));
        else loaded.add(name);
      }
    };
    for (const entry of ["cli.js", "index.js", "task-manager.js"]) await load(entry);
    expect([...loaded]).toContain("zod");
    expect([...loaded].filter((name) => name.includes("aws") || name.includes("s3"))).toEqual([]);
    const holdsSdk = async (file: string): Promise<boolean> => (await readFile(path.join(root, "dist", file), "utf8")).includes("AwsRestXmlProtocol");
    expect([await holdsSdk("task-manager-s3.js"), await holdsSdk("task-manager.js")]).toEqual([true, false]);
  });

  test("the scheduler has no clock, no input or output and no chance of its own", async () => {
    const files = (await readdir(path.join(root, "orchestrator/scheduler"))).filter((name) => name.endsWith(".ts"));
    for (const name of files) {
      const text = await readFile(path.join(root, "orchestrator/scheduler", name), "utf8");
      expect(text, name).not.toMatch(/\bDate\.now\b|new Date\b|performance\.now|Math\.random|setTimeout|setInterval|from "node:(?!assert)/);
    }
  });
});
