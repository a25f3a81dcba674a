import { open } from "node:fs/promises";
import type { Channel, OrchestratorMessage } from "../../task-manager/protocol.ts";
import { LaunchError, type ArtifactFiles } from "./types.ts";

const chunkBytes = 512 * 1024;

/** Over the Task Manager's own carrier, a piece at a time. @throws LaunchError when it asks for what is not its task's */
export async function sendArtifacts(channel: Pick<Channel<OrchestratorMessage, unknown>, "send">, artifacts: ArtifactFiles, needed: readonly string[]): Promise<void> {
  for (const sha256 of needed) {
    const artifact = artifacts.get(sha256);
    if (artifact === undefined) throw new LaunchError(`an artifact that is not of this task was asked for: ${sha256}`, { reason: "refused" });
    const file = await open(artifact.path);
    try {
      const { size } = await file.stat();
      const buffer = Buffer.alloc(chunkBytes);
      for (let offset = 0; offset < size; ) {
        const { bytesRead } = await file.read(buffer, 0, buffer.length, offset);
        const data = buffer.toString("base64", 0, bytesRead);
        await channel.send({ kind: "artifact", sha256, offset, data, last: offset + bytesRead >= size });
        offset += bytesRead;
      }
    } finally {
      await file.close();
    }
  }
}
