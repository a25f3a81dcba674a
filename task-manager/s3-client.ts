import { randomUUID } from "node:crypto";
import type { Readable } from "node:stream";
import type { GetObjectCommandOutput, S3ClientConfig, StorageClass } from "@aws-sdk/client-s3";
import type { Connection } from "./s3/connection.ts";
import { S3Failure, abortedFailure, s3FailureOf } from "./s3/failure.ts";
import type { S3Operation } from "./s3/failure.ts";
import { putParts } from "./s3/put-parts.ts";
import type { S3Place } from "./s3/place.ts";
import { readBody } from "./s3/read-body.ts";
import { withRetries } from "./s3/retry.ts";
import type { RetryPolicy } from "./s3/retry.ts";
import type * as Sdk from "./s3/sdk.ts";

export { S3Failure } from "./s3/failure.ts";
export type { S3FailureCode } from "./s3/failure.ts";
export { parseS3Url, s3Url } from "./s3/place.ts";
export type { S3Place } from "./s3/place.ts";

/** What is null is found as the AWS SDK finds it: environment, then profile, then the machine's role. */
export interface S3ClientOptions {
  readonly region: string | null;
  readonly profile: string | null;
  readonly endpoint: string | null;
  /** The bucket in the path instead of the host name; null: wherever the endpoint is overridden, here or by AWS_ENDPOINT_URL(_S3). */
  readonly forcePathStyle: boolean | null;
  /** `when-required` for S3-compatible stores that know no checksums but MD5; null: as the SDK finds it. */
  readonly checksums: "when-supported" | "when-required" | null;
  /** Pays for requests to buckets whose owners want that. */
  readonly requesterPays: boolean;
  /** How objects are encrypted that are put; null: as the bucket has it. A `keyId` of null: the account's own key for S3. */
  readonly encryption: S3Encryption | null;
  /** Of objects that are put, by S3's name for it; null: as S3 has it. */
  readonly storageClass: string | null;
  readonly retries: RetryPolicy;
  /** Requests at once; more wait for a socket. */
  readonly socketsMax: number;
  readonly connectTimeoutMs: number;
  /** Without a byte in either direction. */
  readonly idleTimeoutMs: number;
}

/** `s3`: keys that S3 keeps (SSE-S3); `kms`: a key in KMS (SSE-KMS). */
export type S3Encryption = { readonly kind: "s3" } | { readonly kind: "kms"; readonly keyId: string | null };

export interface S3Content {
  /** Alone in its ArrayBuffer. */
  readonly bytes: Buffer<ArrayBuffer>;
  readonly etag: string;
  /** Of the whole object, where a part was asked for. */
  readonly objectBytes: number;
}

export interface S3Stat {
  readonly bytes: number;
  readonly etag: string;
  readonly modifiedMs: number;
  readonly metadata: Readonly<Record<string, string>>;
}

export interface S3ListedObject {
  readonly key: string;
  readonly bytes: number;
  readonly etag: string;
  readonly modifiedMs: number;
}

export interface GetOptions {
  /** Larger ones are refused before they are read. */
  readonly maxBytes: number;
  /** The last byte included. */
  readonly range?: { readonly first: number; readonly last: number };
  /** Only if it is still this one. */
  readonly etag?: string;
  readonly signal?: AbortSignal;
  /** Told how long the body is, before it comes. */
  readonly onLength?: (bytes: number) => void;
}

export interface PutOptions {
  /** `absent`: only where no object is. */
  readonly condition: "none" | "absent" | { readonly etag: string };
  readonly contentType: string;
  readonly metadata?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
}

/** By what S3 takes for them. What deletes is free. */
export interface S3Requests {
  /** GET and HEAD. */
  readonly reads: number;
  /** PUT, POST and LIST. */
  readonly writes: number;
}

/**
 * S3 through the official SDK, which is loaded by the first request. Its own retries are off: they know nothing of
 * bodies that break off, and a Task Manager must not try again at all. Rejects with `S3Failure`.
 */
export interface S3Client {
  /** Sent so far, tries that failed included. */
  readonly requests: S3Requests;
  get(place: S3Place, options: GetOptions): Promise<S3Content>;
  /** null: there is no such object. */
  head(place: S3Place, signal?: AbortSignal): Promise<S3Stat | null>;
  /** Pages of at most 1000, in the order of the keys' UTF-8 bytes. */
  list(prefix: S3Place, options: { readonly startAfter: string | null; readonly signal?: AbortSignal }): AsyncGenerator<readonly S3ListedObject[], void>;
  /** @returns the new object's ETag */
  put(place: S3Place, body: Buffer, options: PutOptions): Promise<string>;
  /**
   * As a multipart upload: nothing is seen before all of it is there, and nothing stays if it fails.
   * @param parts at least 5 MiB each, the last aside; the next is asked for once one of four is sent
   */
  putParts(place: S3Place, parts: AsyncIterable<Buffer> | Iterable<Buffer>, options: PutOptions): Promise<string>;
  /** Within S3, of at most 5 GiB. */
  copy(from: S3Place, to: S3Place, signal?: AbortSignal): Promise<void>;
  /** Deleting what is not there is no error. */
  delete(bucket: string, keys: readonly string[], signal?: AbortSignal): Promise<void>;
  close(): void;
}

/** Metadata of conditional writes, which tells a writer's own object from another's where the answer was lost. */
const writeMark = "splitrun-write";
const deletedAtOnceMax = 1000;

export function createS3Client(options: S3ClientOptions): S3Client {
  let sdk: Promise<typeof Sdk> | null = null;
  let closed = false;
  /** By region: a bucket of another one than ours is told by the first answer, and asked there from then on. */
  const clients = new Map<string | null, Sdk.SdkClient>();
  const regions = new Map<string, string>();
  const requests = { reads: 0, writes: 0 };
  const payer = options.requesterPays ? { RequestPayer: "requester" as const } : {};
  const kept = { ...encryptionFields(options.encryption), ...storageFields(options.storageClass) };

  async function connect(bucket: string): Promise<Connection> {
    sdk ??= import("./s3/sdk.ts");
    const loaded = await sdk;
    if (closed) throw new Error("the S3 client is closed");
    const region = regions.get(bucket) ?? options.region;
    const known = clients.get(region);
    if (known !== undefined) return { sdk: loaded, client: known };
    const client = new loaded.SdkClient(configOf(options, region));
    clients.set(region, client);
    return { sdk: loaded, client };
  }

  function count(operation: S3Operation): void {
    if (operation === "get" || operation === "head") requests.reads += 1;
    else if (operation !== "delete") requests.writes += 1;
  }

  /** One request, with its retries. */
  function request<T>(operation: S3Operation, place: S3Place, signal: AbortSignal | undefined, attempt: (connection: Connection, triesBefore: number) => Promise<T>): Promise<T> {
    const once = async (triesBefore: number): Promise<T> => {
      const knownRegion = regions.get(place.bucket);
      try {
        const connection = await connect(place.bucket);
        count(operation);
        return await attempt(connection, triesBefore);
      } catch (error) {
        if (signal?.aborted === true) throw abortedFailure(place, error);
        const failure = s3FailureOf(error, { operation, place, profile: options.profile });
        if (failure.code !== "S3_WRONG_REGION" || failure.bucketRegion === null || failure.bucketRegion === knownRegion) throw failure;
        regions.set(place.bucket, failure.bucketRegion);
        return once(triesBefore);
      }
    };
    return withRetries(once, options.retries, signal).catch((error: unknown) => {
      // In a pause between two tries it is not S3's error.
      throw error instanceof S3Failure ? error : abortedFailure(place, error);
    });
  }

  const get = (place: S3Place, { maxBytes, range, etag, signal, onLength }: GetOptions): Promise<S3Content> =>
    request("get", place, signal, async ({ sdk: { GetObjectCommand }, client }) => {
      const answer = await client.send(new GetObjectCommand({
        ...named(place), ...payer,
        ...(range !== undefined && { Range: `bytes=${range.first}-${range.last}` }),
        ...(etag !== undefined && { IfMatch: etag }),
      }), sending(signal));
      const length = answer.ContentLength ?? 0;
      onLength?.(length);
      const bytes = await readBody(answer.Body as Readable, { place, length, maxBytes });
      return { bytes, etag: answer.ETag ?? "", objectBytes: objectBytesOf(answer) };
    });

  const head = (place: S3Place, signal?: AbortSignal): Promise<S3Stat | null> =>
    request("head", place, signal, async ({ sdk: { HeadObjectCommand }, client }) => {
      const answer = await client.send(new HeadObjectCommand({ ...named(place), ...payer }), sending(signal));
      return {
        bytes: answer.ContentLength ?? 0,
        etag: answer.ETag ?? "",
        modifiedMs: answer.LastModified?.getTime() ?? 0,
        metadata: answer.Metadata ?? {},
      };
    }).catch(async (error: unknown) => {
      if (!(error instanceof S3Failure)) throw error;
      if (error.code === "S3_NO_SUCH_KEY") return null;
      // The answer to HEAD has no body, which would say why; that to GET has.
      if (error.status === 400 || error.status === 403) await get(place, { maxBytes: 1, range: { first: 0, last: 0 }, ...(signal !== undefined && { signal }) });
      throw error;
    });

  /** What is there after a condition did not hold; null: that was not the error. */
  async function presentAfter(place: S3Place, error: unknown, signal: AbortSignal | undefined): Promise<S3Stat | null> {
    return error instanceof S3Failure && error.code === "S3_PRECONDITION" ? head(place, signal) : null;
  }

  async function put(place: S3Place, body: Buffer, how: PutOptions): Promise<string> {
    const { condition, contentType, metadata, signal } = how;
    const mark = randomUUID();
    try {
      return await request("put", place, signal, async ({ sdk: { PutObjectCommand }, client }) => {
        const answer = await client.send(new PutObjectCommand({
          ...named(place), ...payer, ...kept, ...conditionFields(condition),
          Body: body, ContentType: contentType, Metadata: marked(metadata, condition, mark),
        }), sending(signal));
        return answer.ETag ?? "";
      });
    } catch (error) {
      const present = await presentAfter(place, error, signal);
      if (present === null) throw error;
      // A write whose answer was lost may have been done: its next try then finds an object that is its own.
      if (present.metadata[writeMark] === mark) return present.etag;
      // The condition does hold: older Ceph compares with the ETag without its quotes.
      if (typeof condition === "object" && present.etag === condition.etag && present.etag.startsWith('"')) {
        return put(place, body, { ...how, condition: { etag: present.etag.slice(1, -1) } });
      }
      throw error;
    }
  }

  return {
    requests,

    get,

    head,

    async *list(prefix, { startAfter, signal }) {
      let token: string | undefined;
      do {
        const page = await request("list", prefix, signal, ({ sdk: { ListObjectsV2Command }, client }) => client.send(new ListObjectsV2Command({
          Bucket: prefix.bucket, Prefix: prefix.key, ...payer,
          // Keys may have characters that XML cannot say.
          EncodingType: "url",
          ...(startAfter !== null && { StartAfter: startAfter }),
          ...(token !== undefined && { ContinuationToken: token }),
        }), sending(signal)));
        const objects = (page.Contents ?? []).map(({ Key = "", Size = 0, ETag = "", LastModified }): S3ListedObject =>
          ({ key: decodedKey(Key), bytes: Size, etag: ETag, modifiedMs: LastModified?.getTime() ?? 0 }));
        if (objects.length > 0) yield objects;
        token = page.NextContinuationToken;
      } while (token !== undefined);
    },

    put,

    async putParts(place, parts, { condition, contentType, metadata, signal }) {
      const mark = randomUUID();
      try {
        const etag = await putParts(place, parts, {
          request: (attempt) => request("put", place, signal, attempt),
          send: sending(signal),
          payer,
          create: { ...kept, ContentType: contentType, Metadata: marked(metadata, condition, mark) },
          complete: conditionFields(condition),
        });
        // Some S3-compatible stores do not say it.
        return etag === "" ? (await head(place, signal))?.etag ?? "" : etag;
      } catch (error) {
        const present = await presentAfter(place, error, signal);
        if (present?.metadata[writeMark] !== mark) throw error;
        return present.etag;
      }
    },

    async copy(from, to, signal) {
      await request("put", to, signal, ({ sdk: { CopyObjectCommand }, client }) => client.send(new CopyObjectCommand({
        ...named(to), ...payer, ...kept,
        CopySource: [from.bucket, ...from.key.split("/")].map(encodeURIComponent).join("/"),
      }), sending(signal)));
    },

    async delete(bucket, keys, signal) {
      for (let first = 0; first < keys.length; first += deletedAtOnceMax) {
        const chunk = keys.slice(first, first + deletedAtOnceMax);
        const place: S3Place = { bucket, key: chunk[0] ?? "" };
        await request("delete", place, signal, async ({ sdk: { DeleteObjectsCommand }, client }) => {
          const { Errors: [failed] = [] } = await client.send(new DeleteObjectsCommand({
            Bucket: bucket, ...payer, Delete: { Objects: chunk.map((key) => ({ Key: key })), Quiet: true },
          }), sending(signal));
          if (failed !== undefined) {
            throw s3FailureOf({ name: failed.Code, $metadata: { httpStatusCode: 400 } }, {
              operation: "delete", place: { bucket, key: failed.Key ?? "" }, profile: options.profile,
            });
          }
        });
      }
    },

    close() {
      closed = true;
      for (const client of clients.values()) client.destroy();
    },
  };
}

function configOf(options: S3ClientOptions, region: string | null): S3ClientConfig {
  const sockets = { keepAlive: true, maxSockets: options.socketsMax };
  return {
    ...(region !== null && { region }),
    ...(options.profile !== null && { profile: options.profile }),
    ...(options.endpoint !== null && { endpoint: options.endpoint }),
    forcePathStyle: options.forcePathStyle ?? isElsewhere(options),
    ...(options.checksums !== null && checksumFields(options.checksums)),
    maxAttempts: 1,
    logger: silent,
    requestHandler: {
      connectionTimeout: options.connectTimeoutMs,
      socketTimeout: options.idleTimeoutMs,
      httpAgent: sockets,
      httpsAgent: sockets,
    },
  };
}

/** Not at AWS. Of a profile's endpoint nothing is known here. */
function isElsewhere({ endpoint }: S3ClientOptions): boolean {
  if (endpoint !== null) return true;
  if (process.env["AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"] === "true") return false;
  return Boolean(process.env["AWS_ENDPOINT_URL_S3"] ?? process.env["AWS_ENDPOINT_URL"]);
}

function checksumFields(checksums: "when-supported" | "when-required"): Pick<S3ClientConfig, "requestChecksumCalculation" | "responseChecksumValidation"> {
  const when = checksums === "when-supported" ? "WHEN_SUPPORTED" as const : "WHEN_REQUIRED" as const;
  return { requestChecksumCalculation: when, responseChecksumValidation: when };
}

function encryptionFields(encryption: S3ClientOptions["encryption"]) {
  if (encryption === null) return {};
  if (encryption.kind === "s3") return { ServerSideEncryption: "AES256" as const };
  return { ServerSideEncryption: "aws:kms" as const, ...(encryption.keyId !== null && { SSEKMSKeyId: encryption.keyId }) };
}

/** The SDK knows the names by their type alone; which there are is for the store to say. */
function storageFields(storageClass: string | null): { StorageClass?: StorageClass } {
  return storageClass === null ? {} : { StorageClass: storageClass as StorageClass };
}

function conditionFields(condition: PutOptions["condition"]) {
  if (condition === "none") return {};
  return condition === "absent" ? { IfNoneMatch: "*" } : { IfMatch: condition.etag };
}

function marked(metadata: Readonly<Record<string, string>> = {}, condition: PutOptions["condition"], mark: string): Record<string, string> {
  return condition === "none" ? { ...metadata } : { ...metadata, [writeMark]: mark };
}

function named({ bucket, key }: S3Place) {
  return { Bucket: bucket, Key: key };
}

function sending(signal: AbortSignal | undefined) {
  return signal === undefined ? {} : { abortSignal: signal };
}

/** `bytes 0-9/100`: the last number; without it the answer is the whole object. */
function objectBytesOf({ ContentRange, ContentLength }: GetObjectCommandOutput): number {
  return Number(/\/(\d+)$/.exec(ContentRange ?? "")?.[1] ?? ContentLength ?? 0);
}

function decodedKey(key: string): string {
  return decodeURIComponent(key.replaceAll("+", " "));
}

const nothing = (): void => undefined;
/** The SDK warns on the console otherwise. */
const silent = { trace: nothing, debug: nothing, info: nothing, warn: nothing, error: nothing };
