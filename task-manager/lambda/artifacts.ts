import { copyFileSync, existsSync, renameSync } from "node:fs";
import path from "node:path";
import { artifactFileName, createArtifactStore, type ArtifactStore } from "../artifact-store.ts";
import type { Artifact, LambdaArtifact } from "../protocol.ts";
import type { S3Client } from "../s3-client.ts";
import { functionS3 } from "./s3.ts";

/** Of a staged artifact, at once; the next is on its way meanwhile. */
const pieceBytes = 8 * 2 ** 20;
const moduleEndings = new Set([".mjs", ".cjs", ".js"]);

/** Artifacts in /tmp, which outlives a crash of the process, and in the function's code. */
export interface FunctionArtifacts extends ArtifactStore {
  /** Keeps those that the request brings along or names a place of; what it does neither of is asked for later. */
  receive(artifacts: readonly LambdaArtifact[]): Promise<void>;
  /** Requests to S3 so far. */
  readonly storageReads: number;
}

export function createFunctionArtifacts(directory: string, codeRoot: string): FunctionArtifacts {
  const store = createArtifactStore(directory);
  let s3: S3Client | undefined;

  /** null: it was not deployed. */
  function inCode(artifact: Artifact): string | null {
    const places = [artifactFileName(artifact), artifact.sha256].map((name) => path.join(codeRoot, "artifacts", name));
    return places.find((place) => existsSync(place)) ?? null;
  }

  /** Node imports modules by the ending of their names. */
  function withItsEnding(artifact: Artifact, deployed: string): string {
    if (!moduleEndings.has(path.extname(artifact.name)) || path.extname(deployed) !== "") return deployed;
    const place = store.path(artifact);
    if (!existsSync(place)) {
      copyFileSync(deployed, `${place}.part`);
      renameSync(`${place}.part`, place);
    }
    return place;
  }

  async function fetch(artifact: LambdaArtifact, place: { readonly bucket: string; readonly key: string }): Promise<void> {
    s3 ??= functionS3();
    const client = s3;
    const piece = (offset: number) =>
      client.get(place, { maxBytes: pieceBytes, range: { first: offset, last: Math.min(artifact.bytes, offset + pieceBytes) - 1 } });
    let next = piece(0);
    for (let offset = 0; offset < artifact.bytes; offset += pieceBytes) {
      const { bytes } = await next;
      const after = offset + pieceBytes;
      if (after < artifact.bytes) {
        next = piece(after);
        // It is waited for in the next round.
        next.catch(() => undefined);
      }
      await store.write(artifact, offset, bytes, after >= artifact.bytes);
    }
  }

  return {
    path(artifact) {
      const deployed = inCode(artifact);
      return deployed === null ? store.path(artifact) : withItsEnding(artifact, deployed);
    },
    has: (artifact) => inCode(artifact) !== null || store.has(artifact),
    write: store.write,
    get storageReads() {
      return s3?.requests.reads ?? 0;
    },
    async receive(artifacts) {
      for (const artifact of artifacts) {
        if (this.has(artifact)) continue;
        if (artifact.inline !== null) await store.write(artifact, 0, Buffer.from(artifact.inline, "base64"), true);
        else if (artifact.s3 !== null) await fetch(artifact, artifact.s3);
      }
    },
  };
}
