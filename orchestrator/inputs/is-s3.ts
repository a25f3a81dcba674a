/** Is it the name of something in S3, and not of a file, a directory or a URL? */
export function isS3(name: string): boolean {
  return /^s3:\/\//i.test(name);
}
