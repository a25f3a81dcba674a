import type { CompletedPart, CompleteMultipartUploadCommandInput, CreateMultipartUploadCommandInput } from "@aws-sdk/client-s3";
import type { Connection } from "./connection.ts";
import { S3Failure } from "./failure.ts";
import { s3Url } from "./place.ts";
import type { S3Place } from "./place.ts";

export interface PutPartsOptions {
  readonly request: <T>(attempt: (connection: Connection) => Promise<T>) => Promise<T>;
  readonly send: { readonly abortSignal?: AbortSignal };
  readonly payer: { readonly RequestPayer?: "requester" };
  readonly create: Partial<CreateMultipartUploadCommandInput>;
  readonly complete: Partial<CompleteMultipartUploadCommandInput>;
}

const partsAtOnce = 4;
const partsMax = 10_000;

/** @returns the ETag of the whole */
export async function putParts(place: S3Place, parts: AsyncIterable<Buffer> | Iterable<Buffer>, options: PutPartsOptions): Promise<string> {
  const { request, send, payer } = options;
  const named = { Bucket: place.bucket, Key: place.key, ...payer };
  const UploadId = await request(async ({ sdk: { CreateMultipartUploadCommand }, client }) =>
    (await client.send(new CreateMultipartUploadCommand({ ...named, ...options.create }), send)).UploadId ?? "");
  try {
    const Parts = await sendAll(place, parts, (PartNumber, Body) => request(async ({ sdk: { UploadPartCommand }, client }) => {
      const answer = await client.send(new UploadPartCommand({ ...named, UploadId, PartNumber, Body }), send);
      return completedPart(PartNumber, answer);
    }));
    return await request(async ({ sdk: { CompleteMultipartUploadCommand }, client }) =>
      (await client.send(new CompleteMultipartUploadCommand({ ...named, UploadId, MultipartUpload: { Parts }, ...options.complete }), send)).ETag ?? "");
  } catch (error) {
    // Parts that nobody completes are paid for until they are aborted. Not with the caller's signal, which may be why.
    await request(({ sdk: { AbortMultipartUploadCommand }, client }) => client.send(new AbortMultipartUploadCommand({ ...named, UploadId })))
      .catch(() => undefined);
    throw error;
  }
}

/** A few at once, in any order; the first failure ends it, after those under way. */
async function sendAll(place: S3Place, parts: AsyncIterable<Buffer> | Iterable<Buffer>, send: (number: number, body: Buffer) => Promise<CompletedPart>): Promise<CompletedPart[]> {
  const sent: CompletedPart[] = [];
  const failures: unknown[] = [];
  const underWay = new Set<Promise<void>>();
  let number = 0;
  try {
    for await (const body of parts) {
      number += 1;
      if (number > partsMax) throw tooManyParts(place);
      const sending: Promise<void> = send(number, body)
        .then((part) => { sent.push(part); }, (error: unknown) => { failures.push(error); })
        .finally(() => underWay.delete(sending));
      underWay.add(sending);
      if (underWay.size === partsAtOnce) await Promise.race(underWay);
      if (failures.length > 0) break;
    }
  } finally {
    // Aborting while parts are under way can leave them behind.
    await Promise.all(underWay);
  }
  if (failures.length > 0) throw failures[0];
  return sent.toSorted((a, b) => (a.PartNumber ?? 0) - (b.PartNumber ?? 0));
}

function tooManyParts(place: S3Place): S3Failure {
  return new S3Failure(`${s3Url(place)}: more than ${partsMax} parts; make them larger`, { code: "S3_TOO_LARGE", retryable: false, status: null, cause: undefined });
}

/** The checksum goes into the completion, which S3 wants of uploads that have them. */
function completedPart(PartNumber: number, { ETag, ChecksumCRC32 }: { readonly ETag?: string | undefined; readonly ChecksumCRC32?: string | undefined }): CompletedPart {
  return { PartNumber, ...(ETag !== undefined && { ETag }), ...(ChecksumCRC32 !== undefined && { ChecksumCRC32 }) };
}
