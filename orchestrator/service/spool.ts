import { createReadStream, createWriteStream, openSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { pipeline } from "node:stream/promises";

/** A stream that can be read as often as wanted. */
export interface SpooledStream {
  read(): NodeJS.ReadableStream;
}

/** Copies a stream to a file that has no name any more, so that nothing is left behind whatever happens. */
export async function spool(stream: NodeJS.ReadableStream): Promise<SpooledStream> {
  const folder = await mkdtemp(path.join(tmpdir(), "splitrun-"));
  const file = path.join(folder, "stdin");
  try {
    await pipeline(stream, createWriteStream(file, { mode: 0o600 }));
    const fd = openSync(file, "r");
    return { read: () => createReadStream("", { fd, start: 0, autoClose: false }) };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
