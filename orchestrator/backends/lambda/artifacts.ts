import { open, readFile } from "node:fs/promises";
import type { Artifact, LambdaArtifact, TaskSpec } from "../../../task-manager/protocol.ts";
import { parseS3Url, S3Failure, s3Url, type S3Client, type S3Place } from "../../../task-manager/s3-client.ts";
import { SplitrunError } from "../../errors.ts";
import type { ArtifactFiles } from "../types.ts";
import type { StagingPlaces } from "./staging.ts";

/** Small enough to be in every request: asking for it would cost an invocation. */
const alwaysInlineBytesMax = 65_536;
/** In base64 it leaves room for a full assignment within Lambda's 6 MB. */
export const inlineBytesMax = 3_500_000;
const partBytes = 16 * 2 ** 20;

export interface ArtifactSource {
  /** The task's artifacts as a request has them; those of `needed` are not where the function looked for them. */
  of(task: TaskSpec, files: ArtifactFiles, needed: ReadonlySet<string>): Promise<readonly LambdaArtifact[]>;
}

/** By hash, once for all invocations. */
export function createArtifactSource(staging: StagingPlaces | null, s3: () => S3Client): ArtifactSource {
  const staged = new Map<string, Promise<S3Place>>();
  const inlined = new Map<string, Promise<string>>();

  async function one(artifact: Artifact, files: ArtifactFiles, needed: boolean): Promise<LambdaArtifact> {
    const { sha256, bytes, name } = artifact;
    const file = files.get(sha256);
    if (file === undefined) throw new Error(`the artifact ${name} (${sha256}) is not there`);
    if (bytes <= alwaysInlineBytesMax) return { ...artifact, inline: await inlineOf(sha256, file.path), s3: null };
    if (!needed && !staged.has(sha256)) return { ...artifact, inline: null, s3: null };
    if (staging !== null) return { ...artifact, inline: null, s3: await stagedAt(artifact, file.path, staging) };
    if (bytes <= inlineBytesMax) return { ...artifact, inline: (await readFile(file.path)).toString("base64"), s3: null };
    throw new SplitrunError(
      `${name} (${megabytes(bytes)}) is not in the function, and does not fit into a request (${megabytes(inlineBytesMax)}); deploy it (splitrun deploy ${name.endsWith(".onnx") ? "--model" : "--module"} …), or give backend.stagingBucket`,
      { code: "LAMBDA_ARTIFACT", field: "backend.stagingBucket", value: null },
    );
  }

  function inlineOf(sha256: string, path: string): Promise<string> {
    const known = inlined.get(sha256) ?? readFile(path).then((content) => content.toString("base64"));
    inlined.set(sha256, known);
    return known;
  }

  function stagedAt(artifact: Artifact, path: string, places: StagingPlaces): Promise<S3Place> {
    const known = staged.get(artifact.sha256);
    if (known !== undefined) return known;
    const place = places.artifact(artifact.sha256);
    const staging = stage(s3(), place, path, artifact.bytes).catch((error: unknown) => {
      // Another job may have better luck.
      staged.delete(artifact.sha256);
      throw stagingError(place, error);
    });
    staged.set(artifact.sha256, staging);
    return staging;
  }

  return {
    of: (task, files, needed) => Promise.all(artifactsOf(task).map((artifact) => one(artifact, files, needed.has(artifact.sha256)))),
  };
}

/** @throws SplitrunError JOB_INVALID */
export function placeOf(stagingBucket: string): S3Place {
  const place = parseS3Url(stagingBucket.includes("://") ? stagingBucket : `s3://${stagingBucket}/`);
  if (place === null) throw new SplitrunError(`backend.stagingBucket: ${stagingBucket} is not allowed; allowed: a bucket, or s3://bucket/prefix/`, { code: "JOB_INVALID", field: "backend.stagingBucket", value: stagingBucket });
  return { ...place, key: place.key === "" || place.key.endsWith("/") ? place.key : `${place.key}/` };
}

export function artifactsOf(task: TaskSpec): readonly Artifact[] {
  switch (task.kind) {
    case "inference":
      return [task.model];
    case "function":
      return [task.module];
  }
}

async function stage(s3: S3Client, place: S3Place, path: string, bytes: number): Promise<S3Place> {
  if ((await s3.head(place))?.bytes === bytes) return place;
  try {
    await s3.putParts(place, partsOf(path), { condition: "absent", contentType: "application/octet-stream" });
  } catch (error) {
    if (!(error instanceof S3Failure && error.code === "S3_PRECONDITION")) throw error;
  }
  return place;
}

async function* partsOf(path: string): AsyncGenerator<Buffer> {
  const file = await open(path);
  try {
    for (;;) {
      const part = Buffer.alloc(partBytes);
      const { bytesRead } = await file.read(part, 0, partBytes, null);
      if (bytesRead > 0) yield part.subarray(0, bytesRead);
      if (bytesRead < partBytes) return;
    }
  } finally {
    await file.close();
  }
}

function stagingError(place: S3Place, error: unknown): SplitrunError {
  return new SplitrunError(`backend.stagingBucket: ${s3Url(place)} cannot be written: ${error instanceof Error ? error.message : String(error)}`, {
    code: "LAMBDA_STAGING", field: "backend.stagingBucket", value: place.bucket, cause: error,
  });
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
