import { mkdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { jsonLines, splitrun } from "../support/cli.ts";
import { startFaultServer } from "../support/fault-server.ts";
import { temporaryFolder } from "../support/function-task.ts";
import { colorPicture, colors } from "../support/inference-task.ts";
import { meanColorModel } from "../support/onnx.ts";

interface Line {
  readonly index: number;
  readonly id?: string;
  readonly input: string;
  readonly output?: { readonly label: string };
}

/** Pictures of one colour each, a model that tells the colours, and its labels. */
async function colorFolder(): Promise<string> {
  const folder = await temporaryFolder(onTestFinished);
  for (const color of ["red", "green", "blue"] as const satisfies readonly (keyof typeof colors)[]) await colorPicture(folder, color);
  await writeFile(path.join(folder, "model.onnx"), meanColorModel({ input: ["N", 3, "H", "W"] }));
  await writeFile(path.join(folder, "labels.txt"), "red\ngreen\nblue\n");
  return folder;
}

const nameOf = (index: number) => (["red", "green", "blue"] as const)[index % 3] ?? "red";
const run = (folder: string, list: string, ...more: readonly string[]) =>
  splitrun(["run", "--json", "--input", list, "--model", "model.onnx", "--labels", "labels.txt", "--output", "out", ...more], { cwd: folder });

async function linesOf(folder: string): Promise<Line[]> {
  return (await jsonLines<Line>(path.join(folder, "out", "results.jsonl"))).sort((a, b) => a.index - b.index);
}

describe("pictures on this machine", () => {
  test.each(["sequential", "local", "auto"])("are told apart on backend %s", async (backend) => {
    const folder = await colorFolder();
    await writeFile(path.join(folder, "list.txt"), Array.from({ length: 30 }, (_, n) => `${nameOf(n)}.png\n`).join(""));
    const end = await run(folder, "list.txt", "--backend", backend, "--set", "resources.maxRamPerWorkerMb=400");
    expect(end.code, end.stderr).toBe(0);
    expect((await linesOf(folder)).map(({ output }) => output?.label)).toEqual(Array.from({ length: 30 }, (_, n) => nameOf(n)));
  });

  test("of which the first were tried are not done again with the rest", async () => {
    const folder = await colorFolder();
    await writeFile(path.join(folder, "list.txt"), Array.from({ length: 30 }, (_, n) => `${nameOf(n)}.png\n`).join(""));
    expect(JSON.parse((await run(folder, "list.txt", "--limit", "10")).stdout)).toMatchObject({ counts: { items: 10, succeeded: 10, reused: 0 } });
    expect(JSON.parse((await run(folder, "list.txt")).stdout)).toMatchObject({ counts: { items: 30, succeeded: 30, reused: 10 } });
    expect((await linesOf(folder)).map(({ index }) => index)).toEqual(Array.from({ length: 30 }, (_, n) => n));
  });
});

test("ids of a table stand in the results, whatever the order that weights give", async () => {
  const folder = await colorFolder();
  const rows = Array.from({ length: 30 }, (_, n) => `picture-${n},${nameOf(n)}.png,${n + 1}`);
  await writeFile(path.join(folder, "table.csv"), `key,image,bytes\n${rows.join("\n")}\n`);
  const end = await run(folder, "table.csv", "--column", "image", "--set", "input.id=key", "--set", "input.weight=bytes");
  expect(end.code, end.stderr).toBe(0);
  expect((await linesOf(folder)).map(({ index, id, input, output }) => [index, id, path.basename(input), output?.label])).toEqual(
    Array.from({ length: 30 }, (_, n) => [n, `picture-${n}`, `${nameOf(n)}.png`, nameOf(n)]),
  );
  expect((await splitrun(["export", "out", "--to", "out.csv", "--order", "input"], { cwd: folder })).code).toBe(0);
});

test("a model that does not fit is refused before anything is downloaded", async () => {
  const folder = await temporaryFolder(onTestFinished);
  const server = await startFaultServer();
  onTestFinished(() => server.stop());
  await writeFile(path.join(folder, "model.onnx"), meanColorModel({ input: ["N", 3, 32, 32] }));
  await writeFile(path.join(folder, "labels.txt"), "red\ngreen\nblue\n");
  await writeFile(path.join(folder, "list.txt"), `${server.origin}/ok.jpg\n`);
  expect(await run(folder, "list.txt")).toMatchObject({ code: 2, stderr: expect.stringContaining("32 x 32") });
  expect(server.requestsTotal).toBe(0);
});

test("what the help of run gives as examples are jobs that can be planned", async () => {
  const folder = await colorFolder();
  await mkdir(path.join(folder, "photos"));
  for (const name of ["urls.txt", "lines.txt"]) await writeFile(path.join(folder, name), "http://127.0.0.1:9/a.jpg\n");
  await writeFile(path.join(folder, "table.csv"), "key,url\n1,http://127.0.0.1:9/a.jpg\n");
  await writeFile(path.join(folder, "mine.mjs"), "export default (line) => line.length;");
  await writeFile(path.join(folder, "job.yaml"), "input: urls.txt\ntask: { model: model.onnx }\n");
  const { stdout } = await splitrun(["run", "--help"], { cwd: folder });
  const examples = stdout.replaceAll("\\\n", " ").split("\n").filter((line) => /^ +splitrun run /.test(line));
  expect(examples).toHaveLength(7);
  for (const example of examples) {
    const args = [...example.replace("splitrun run", "").matchAll(/'([^']*)'|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain ?? "");
    const { code, stderr } = await splitrun(["plan", ...args], { cwd: folder, env: { TOKEN: "hush" } });
    expect({ example, code, stderr }).toEqual({ example, code: 0, stderr: "" });
  }
});
