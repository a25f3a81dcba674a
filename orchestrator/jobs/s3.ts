import { createHash } from "node:crypto";
import { open } from "node:fs/promises";
import type { S3Settings } from "../../task-manager/protocol.ts";
import type { S3Client, S3Place, S3Stat } from "../../task-manager/s3-client.ts";
import type { S3Keeping } from "./types.ts";

/** A request for so much takes much longer than S3 takes to answer it. */
const pieceBytes = 16 * 2 ** 20;

/** The orchestrator's own requests: few, and worth some patience. Region, credentials and endpoint are the environment's. */
export function connectS3(settings: S3Settings): Promise<S3Client> {
  return connectS3ToPut(settings, { encryption: null, storageClass: null });
}

/** The same, where objects are put as the job wants them kept. */
export async function connectS3ToPut(settings: S3Settings, keeping: S3Keeping): Promise<S3Client> {
  const { createS3Client } = await import("../../task-manager/s3-client.ts");
  return createS3Client({
    region: null,
    profile: null,
    endpoint: null,
    checksums: null,
    ...keeping,
    ...settings,
    retries: { attemptsMax: 6, pauseMs: 200, pauseMsMax: 10_000 },
    socketsMax: 16,
    connectTimeoutMs: 10_000,
    idleTimeoutMs: 30_000,
  });
}

/**
 * One version of an object to a new file, in pieces, so that a broken connection costs one of them.
 * @throws S3Failure; S3_PRECONDITION: the object was replaced meanwhile
 */
export async function downloadS3Object(client: S3Client, place: S3Place, { bytes, etag }: S3Stat, file: string): Promise<{ readonly sha256: string; readonly bytes: number }> {
  const hash = createHash("sha256");
  const handle = await open(file, "wx", 0o600);
  try {
    for (let first = 0; first < bytes; first += pieceBytes) {
      const range = { first, last: Math.min(bytes, first + pieceBytes) - 1 };
      const piece = await client.get(place, { maxBytes: pieceBytes, range, etag });
      hash.update(piece.bytes);
      await handle.writeFile(piece.bytes);
    }
  } finally {
    await handle.close();
  }
  return { sha256: hash.digest("hex"), bytes };
}
