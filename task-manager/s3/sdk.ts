/** What of the AWS SDK is used, so that bundles hold that and no more. Loaded by the first request to S3. */
export {
  AbortMultipartUploadCommand, CompleteMultipartUploadCommand, CreateMultipartUploadCommand, DeleteObjectsCommand, GetObjectCommand,
  HeadObjectCommand, ListObjectsV2Command, PutObjectCommand, S3Client as SdkClient, UploadPartCommand,
} from "@aws-sdk/client-s3";
