import { createHash } from "node:crypto";
import { mkdtemp, readFile, readdir, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { artifactFileName, createArtifactStore } from "../../task-manager/artifact-store.ts";
import type { Artifact } from "../../task-manager/protocol.ts";

const content = Buffer.from("weights ".repeat(1000));
const artifact: Artifact = { sha256: createHash("sha256").update(content).digest("hex"), bytes: content.length, name: "model.onnx" };

let parent: string;
let directory: string;

beforeEach(async () => {
  parent = await mkdtemp(path.join(tmpdir(), "splitrun-test-"));
  directory = path.join(parent, "artifacts");
});

afterEach(async () => {
  await rm(parent, { recursive: true, force: true });
});

/** In pieces, as they come over a carrier; the last of them may be left out. */
async function arrive(store: ReturnType<typeof createArtifactStore>, bytes: Buffer, { whole }: { readonly whole: boolean }): Promise<void> {
  const half = bytes.length / 2;
  expect(await store.write(artifact, 0, bytes.subarray(0, half), false)).toBe(false);
  if (whole) expect(await store.write(artifact, half, bytes.subarray(half), true)).toBe(true);
}

describe("artifacts in a directory that outlives the process", () => {
  test("are there once they are whole, by their content, for this user alone", async () => {
    const store = createArtifactStore(directory);
    await arrive(store, content, { whole: false });
    expect(store.has(artifact)).toBe(false);
    await store.write(artifact, content.length / 2, content.subarray(content.length / 2), true);
    expect(store.has(artifact)).toBe(true);
    expect(await readFile(store.path(artifact))).toEqual(content);
    expect(await readdir(directory)).toEqual([`${artifact.sha256}.onnx`]);
    expect([(await stat(directory)).mode & 0o777, (await stat(store.path(artifact))).mode & 0o777]).toEqual([0o700, 0o600]);
  });

  test("are found by the next process, and what the one before left half is no artifact of it", async () => {
    const crashed = createArtifactStore(directory);
    await arrive(crashed, content, { whole: false });
    const next = createArtifactStore(directory);
    expect(next.has(artifact)).toBe(false);
    await arrive(next, content, { whole: true });
    expect(await readFile(next.path(artifact))).toEqual(content);
    expect(createArtifactStore(directory).has(artifact)).toBe(true);
  });

  test("that broke off and come anew are whole", async () => {
    const store = createArtifactStore(directory);
    await arrive(store, Buffer.alloc(content.length, "x"), { whole: false });
    await arrive(store, content, { whole: true });
    expect(await readFile(store.path(artifact))).toEqual(content);
  });

  test("that came damaged are refused, and nothing of them stays", async () => {
    const store = createArtifactStore(directory);
    const damaged = Buffer.from(content);
    damaged[17] = 0;
    await expect(arrive(store, damaged, { whole: true })).rejects.toThrow("model.onnx arrived damaged");
    expect(store.has(artifact)).toBe(false);
    expect(await readdir(directory)).toEqual([]);
  });
});

test("modules keep the ending that Node imports them by", async () => {
  const module = { ...artifact, name: "mine.mjs" };
  expect(artifactFileName(module)).toBe(`${artifact.sha256}.mjs`);
  const store = createArtifactStore(directory);
  await writeFile(path.join(directory, `${artifact.sha256}.mjs`), "");
  expect(store.has(module)).toBe(true);
});
