/** What of the AWS SDK is used, so that bundles hold that and no more. Loaded by the first request to S3. */
export {
  AbortMultipartUploadCommand, CompleteMultipartUploadCommand, CopyObjectCommand, CreateMultipartUploadCommand, DeleteObjectsCommand, GetObjectCommand,
  HeadObjectCommand, ListObjectsV2Command, PutObjectCommand, S3Client as SdkClient, UploadPartCommand,
} from "@aws-sdk/client-s3";

// Which versions of Node are good enough is for this package to say, not for one that it uses to warn of in every run.
process.env["AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED"] ??= "true";
