import { createHash } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import type { FunctionTask } from "../../task-manager/protocol.ts";

export interface FunctionTaskFixture {
  readonly task: FunctionTask;
  readonly artifacts: ReadonlyMap<string, { readonly path: string }>;
}

/** A folder that is gone after the test. */
export async function temporaryFolder(onTestFinished: (clean: () => Promise<void>) => void): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), "splitrun-test-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/**
 * A module that doubles its number; from the item `heldFrom` on it waits until there is the file `gate`. So a run is in
 * its middle for as long as a test wants it to be.
 */
export function doublingBehindGate(gate: string, heldFrom: number): string {
  return `
    import { existsSync } from "node:fs";
    import { setTimeout as sleep } from "node:timers/promises";
    export default async (n, { index }) => {
      do await sleep(2); while (index >= ${heldFrom} && !existsSync(${JSON.stringify(gate)}));
      return { twice: n * 2 };
    };`;
}

/** A function task from its source text, as an artifact in a folder that no Task Manager knows. */
export async function functionTask(folder: string, source: string, options: Partial<Pick<FunctionTask, "concurrency" | "threads">> = {}): Promise<FunctionTaskFixture> {
  const sha256 = createHash("sha256").update(source).digest("hex");
  const file = path.join(folder, `${sha256.slice(0, 8)}.mjs`);
  await writeFile(file, source);
  return {
    task: {
      kind: "function",
      module: { sha256, bytes: Buffer.byteLength(source), name: "function.mjs" },
      concurrency: options.concurrency ?? 1,
      threads: options.threads ?? 1,
    },
    artifacts: new Map([[sha256, { path: file }]]),
  };
}
