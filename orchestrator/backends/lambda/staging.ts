import type { S3Place } from "../../../task-manager/s3-client.ts";

/**
 * Where a function's files lie in S3: all of them below one folder, which its role may read, of which it may write only
 * the responses, and which goes when the function does. One bucket serves any number of functions.
 */
export interface StagingPlaces {
  readonly folder: S3Place;
  artifact(sha256: string): S3Place;
  /** Where a response goes that is too large for one. */
  response(name: string): S3Place;
  /** Of a package that is too large for a request. */
  code(sha256: string): S3Place;
  /** Prefix of all responses. */
  readonly responses: S3Place;
}

/**
 * @param staging a bucket, or a prefix in one, which ends with `/`
 * @param functionName its name, or its ARN
 */
export function stagingPlaces({ bucket, key }: S3Place, functionName: string): StagingPlaces {
  const folder = `${key}splitrun/${functionName.split(":").at(-1) ?? ""}/`;
  return {
    folder: { bucket, key: folder },
    artifact: (sha256) => ({ bucket, key: `${folder}artifacts/${sha256}` }),
    response: (name) => ({ bucket, key: `${folder}responses/${name}` }),
    code: (sha256) => ({ bucket, key: `${folder}code/${sha256}.zip` }),
    responses: { bucket, key: `${folder}responses/` },
  };
}
