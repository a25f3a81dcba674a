import { createHash } from "node:crypto";
import { existsSync, mkdirSync } from "node:fs";
import { open, rename, rm, type FileHandle } from "node:fs/promises";
import path from "node:path";
import type { Artifact } from "./protocol.ts";

/** Files named by their content, in a directory that survives the process. */
export interface ArtifactStore {
  path(artifact: Artifact): string;
  has(artifact: Artifact): boolean;
  /** Chunks of one artifact, in order. Resolves true once the last is in place. @throws when the content has another hash. */
  write(artifact: Artifact, offset: number, data: Uint8Array, last: boolean): Promise<boolean>;
}

/** The name's extension is kept, since Node imports modules by it. */
export function artifactFileName(artifact: Artifact): string {
  return artifact.sha256 + path.extname(artifact.name);
}

export function createArtifactStore(directory: string): ArtifactStore {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const arriving = new Map<string, { file: FileHandle; temporary: string; hash: ReturnType<typeof createHash> }>();
  const pathOf = (artifact: Artifact) => path.join(directory, artifactFileName(artifact));

  return {
    path: pathOf,
    has: (artifact) => existsSync(pathOf(artifact)),
    async write(artifact, offset, data, last) {
      const place = pathOf(artifact);
      let entry = arriving.get(artifact.sha256);
      if (entry !== undefined && offset === 0) {
        // It broke off, and begins anew.
        await entry.file.close();
        entry = undefined;
      }
      if (entry === undefined) {
        const temporary = `${place}.${process.pid}.part`;
        entry = { file: await open(temporary, "w", 0o600), temporary, hash: createHash("sha256") };
        arriving.set(artifact.sha256, entry);
      }
      await entry.file.write(data, 0, data.length, offset);
      entry.hash.update(data);
      if (!last) return false;
      arriving.delete(artifact.sha256);
      await entry.file.close();
      if (entry.hash.digest("hex") !== artifact.sha256) {
        await rm(entry.temporary, { force: true });
        throw new Error(`artifact ${artifact.name} arrived damaged`);
      }
      await rename(entry.temporary, place);
      return true;
    },
  };
}
