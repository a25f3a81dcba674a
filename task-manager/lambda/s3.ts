import { createS3Client, type S3Client } from "../s3-client.ts";

const retries = { attemptsMax: 4, pauseMs: 100, pauseMsMax: 5_000 } as const;
const socketsMax = 4;

/** With the role of the function, for artifacts and for responses that are too large. */
export function functionS3(): S3Client {
  return createS3Client({
    region: null, profile: null, endpoint: null, forcePathStyle: null, checksums: null, requesterPays: false, encryption: null, storageClass: null,
    retries, socketsMax, connectTimeoutMs: 5_000, idleTimeoutMs: 20_000,
  });
}
