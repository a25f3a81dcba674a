import { createReadStream, createWriteStream, openSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { pipeline } from "node:stream/promises";

/**
 * The same stream twice, by way of a file that has no name any more, so that nothing is left behind whatever happens.
 * Each has a descriptor of its own, since a stream that is destroyed closes its.
 */
export async function twice(stream: NodeJS.ReadableStream): Promise<readonly [NodeJS.ReadableStream, NodeJS.ReadableStream]> {
  const folder = await mkdtemp(path.join(tmpdir(), "splitrun-"));
  const file = path.join(folder, "stdin");
  try {
    await pipeline(stream, createWriteStream(file, { mode: 0o600 }));
    return [createReadStream("", { fd: openSync(file, "r") }), createReadStream("", { fd: openSync(file, "r") })];
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
