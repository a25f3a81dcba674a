/** An object, or with an empty key a bucket. */
export interface S3Place {
  readonly bucket: string;
  /** As it is stored: nothing in it is percent-encoded. */
  readonly key: string;
}

/** `s3://bucket/key`; null: it is not of that form. The key is taken as it stands, as the AWS command line does. */
export function parseS3Url(url: string): S3Place | null {
  const [, bucket, key = ""] = /^s3:\/\/([^/?#]+)(?:\/([\s\S]*))?$/i.exec(url) ?? [];
  return bucket === undefined ? null : { bucket, key };
}

export function s3Url({ bucket, key }: S3Place): string {
  return `s3://${bucket}/${key}`;
}
