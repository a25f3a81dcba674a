/**
 * S3 for tests: one process, in memory, on loopback. It holds clients to what the real one holds them to (signatures,
 * checksums, conditions, the rules of multipart uploads, pages), and goes wrong on order. Path-style addresses only.
 * What it does is held to a real server's behaviour by test/s3/contract.test.ts.
 */
import { once } from "node:events";
import { createServer } from "node:http";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { randomBytes } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { ClientGone, checkBody, receive, refuseUnknownLength } from "./body.ts";
import { S3Error, errors } from "./error.ts";
import { FaultOrders, type ActiveFault, type FaultOrder } from "../fault-orders.ts";
import type { Fault } from "./faults.ts";
import { listObjects } from "./listing.ts";
import { abortUpload, completeUpload, createUpload, listParts, listUploads, uploadPart } from "./multipart.ts";
import { copyObject, deleteObject, deleteObjects, getObject, preconditionOf, putObject } from "./objects.ts";
import type { Answer } from "./objects.ts";
import { header, parseRequest } from "./request.ts";
import type { Operation, S3Request } from "./request.ts";
import { verifySignature } from "./signature.ts";
import type { AccessKey, Signed } from "./signature.ts";
import { Store } from "./store.ts";
import type { Bucket, StoredObject } from "./store.ts";
import { xmlDocument, xmlText } from "./xml.ts";

export type { Fault } from "./faults.ts";
export type { Operation, S3Request } from "./request.ts";
export type { AccessKey } from "./signature.ts";

export interface S3ServerOptions {
  /** @default 0: a free one */
  readonly port?: number;
  /** All objects and parts together; more is refused. @default 512 MiB */
  readonly bytesMax?: number;
  /** Of every part but the last. @default 5 MiB, as in S3 */
  readonly partBytesMin?: number;
  /** Keys a page at most; S3 may send fewer than were asked for. @default 1000 */
  readonly pageKeysMax?: number;
}

/** A request that was answered, or ended otherwise. */
export interface RequestRecord extends S3Request {
  /** null: no answer was sent. */
  readonly status: number | null;
  /** Of the error that was sent. */
  readonly code: string | null;
}

export interface FaultOptions {
  /** @default 1 */
  readonly times?: number;
  /** @default any */
  readonly operation?: Operation;
  readonly when?: (request: S3Request) => boolean;
}

export interface S3Server {
  /** `http://127.0.0.1:PORT`. */
  readonly endpoint: string;
  /** A key that the server knows; more can be made known. */
  readonly credentials: { readonly accessKeyId: string; readonly secretAccessKey: string };
  readonly keys: Map<string, AccessKey>;
  /** The last 10 000, in the order in which they ended. */
  readonly requests: readonly RequestRecord[];
  /** Requests of one kind so far. */
  count(operation: Operation): number;
  createBucket(name: string, options?: { readonly region?: string; readonly requesterPays?: boolean }): void;
  /** Puts an object without a request. */
  put(bucket: string, key: string, body: Buffer | string): void;
  /** null: there is none. */
  object(bucket: string, key: string): StoredObject | null;
  keysOf(bucket: string): readonly string[];
  /** Multipart uploads that were neither completed nor aborted. */
  uploadsOf(bucket: string): number;
  fault(fault: Fault, options?: FaultOptions): ActiveFault;
  /** Requests at once above which SlowDown is answered. */
  limitConcurrency(requests: number): void;
  /** Ends all connections, as the crash of a server would; what was not put whole is not there. */
  dropConnections(): void;
  stop(): Promise<void>;
}

const recordsMax = 10_000;
const objectBytesMax = 5 * 2 ** 30;

export async function startS3Server(options: S3ServerOptions = {}): Promise<S3Server> {
  const { port: wantedPort = 0, bytesMax = 512 * 2 ** 20, partBytesMin = 5 * 2 ** 20, pageKeysMax = 1000 } = options;
  const store = new Store(bytesMax);
  const faults = new FaultOrders<Fault, S3Request>();
  const keys = new Map<string, AccessKey>();
  const credentials = { accessKeyId: `AKIA${randomBytes(8).toString("hex").toUpperCase()}`, secretAccessKey: randomBytes(20).toString("hex") };
  keys.set(credentials.accessKeyId, credentials);
  const requests: RequestRecord[] = [];
  const counts = new Map<Operation, number>();
  let concurrency = Infinity;
  let underWay = 0;

  const server = createServer((message, response) => {
    underWay += 1;
    response.on("close", () => { underWay -= 1; });
    void answer(message, response);
  });
  server.keepAliveTimeout = 60_000;
  server.listen(wantedPort, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;

  async function answer(message: IncomingMessage, response: ServerResponse): Promise<void> {
    const request = requestOrNull(message);
    if (request === null) return void response.writeHead(400).end();
    counts.set(request.operation, (counts.get(request.operation) ?? 0) + 1);
    const sent = await exchange(request, message, response).catch((error: unknown) => {
      if (error instanceof ClientGone) return null;
      throw error;
    });
    requests.push({ ...request, status: sent?.status ?? null, code: sent?.code ?? null });
    if (requests.length > recordsMax) requests.shift();
  }

  /** null: nothing was sent. */
  async function exchange(request: S3Request, message: IncomingMessage, response: ServerResponse): Promise<Sent | null> {
    const tooMany = underWay > concurrency;
    const fault = faults.take(request);
    if (fault?.kind === "slow") await delay(fault.delayMs);
    if (fault?.kind === "hang") return null;
    if (fault?.kind === "reset") return reset(message);
    try {
      if (tooMany) throw errors.slowDown();
      if (fault?.kind === "error") throw new S3Error(fault.status, fault.code, fault.message ?? "on order", { headers: fault.headers ?? {} });
      const done = await perform(request, message, fault);
      if (done === null || fault?.kind === "lose-answer") return await reset(message);
      return await deliver(response, request, done, fault);
    } catch (error) {
      if (error instanceof ClientGone) throw error;
      // What is left of the body would be read as the next request.
      message.resume();
      return deliver(response, request, errorAnswer(error, request), null);
    }
  }

  /** null: the upload was cut. */
  async function perform(request: S3Request, message: IncomingMessage, fault: Fault | null): Promise<Answer | null> {
    const signed = verifySignature(request, keys, Date.now());
    refuseUnknownLength(request);
    const before = bucketOrNull(request.bucket);
    const precondition = before === null ? { deletions: 0 } : preconditionOf(before, request.key);
    if (fault?.kind === "cut-upload") return await cutUpload(message, fault.afterBytes);
    const body = checkBody(await receive(message, Math.min(objectBytesMax, bytesMax + 2 ** 20)), request, signed.payload);
    if (fault?.kind === "error-in-200") return errorIn200(fault.code);

    if (request.operation === "CreateBucket") {
      const region = xmlText(body.bytes.toString("utf8"), "LocationConstraint") ?? "us-east-1";
      store.create(request.bucket, { region, requesterPays: false });
      return { status: 200, headers: { location: `/${request.bucket}` }, body: null };
    }
    const bucket = allowedBucket(request, signed);
    switch (request.operation) {
      case "HeadBucket": return { status: 200, headers: { "x-amz-bucket-region": bucket.region }, body: null };
      case "DeleteBucket":
        store.delete(bucket.name);
        return { status: 204, headers: {}, body: null };
      case "GetBucketLocation": return { status: 200, headers: {}, body: xmlDocument("LocationConstraint", []) };
      case "ListObjectsV2": return { status: 200, headers: {}, body: listObjects(bucket, request.query, pageKeysMax) };
      case "ListMultipartUploads": return listUploads(request, bucket);
      case "DeleteObjects": return deleteObjects(request, bucket, body);
      case "PutObject": return putObject(request, bucket, body, precondition);
      case "CopyObject": return copyObject(request, bucket, (name) => store.bucket(name));
      case "GetObject":
      case "HeadObject": return getObject(request, bucket);
      case "DeleteObject": return deleteObject(request, bucket);
      case "CreateMultipartUpload": return createUpload(request, bucket);
      case "UploadPart": return uploadPart(request, bucket, body);
      case "CompleteMultipartUpload": return completeUpload(request, bucket, body, { partBytesMin, before: precondition });
      case "AbortMultipartUpload": return abortUpload(request, bucket);
      case "ListParts": return listParts(request, bucket);
      case "Unknown": throw errors.notImplemented(`${request.method} ${request.path} ${[...request.query.keys()].join()}`);
    }
  }

  function bucketOrNull(name: string): Bucket | null {
    try {
      return store.bucket(name);
    } catch {
      return null;
    }
  }

  function allowedBucket(request: S3Request, signed: Signed): Bucket {
    const bucket = store.bucket(request.bucket);
    if (signed.region !== bucket.region) {
      throw new S3Error(301, "PermanentRedirect", "The bucket you are attempting to access must be addressed using the specified endpoint. Please send all future requests to this endpoint.", {
        details: { Bucket: bucket.name, Endpoint: `${bucket.name}.s3.${bucket.region}.amazonaws.com` },
        headers: { "x-amz-bucket-region": bucket.region },
      });
    }
    const pays = header(request, "x-amz-request-payer") ?? request.query.get("x-amz-request-payer");
    if (bucket.requesterPays && pays !== "requester") throw errors.accessDenied();
    return bucket;
  }

  return {
    endpoint: `http://127.0.0.1:${port}`,
    credentials,
    keys,
    requests,
    count: (operation) => counts.get(operation) ?? 0,
    createBucket: (name, { region = "us-east-1", requesterPays = false } = {}) => { store.create(name, { region, requesterPays }); },
    put: (bucket, key, body) => {
      const bytes = Buffer.from(body);
      const request: S3Request = { operation: "PutObject", method: "PUT", path: "", bucket, key, query: new Map(), headers: {} };
      putObject(request, store.bucket(bucket), { bytes, checksum: null }, { deletions: 0 });
    },
    object: (bucket, key) => store.bucket(bucket).find(key),
    keysOf: (bucket) => store.bucket(bucket).sortedKeys.map(({ key }) => key),
    uploadsOf: (bucket) => store.bucket(bucket).uploads.size,
    fault: (fault, { times = 1, operation, when = () => true } = {}) => {
      const order: FaultOrder<Fault, S3Request> = { fault, times, when: (request) => (operation === undefined || request.operation === operation) && when(request) };
      return faults.add(order);
    },
    limitConcurrency: (limit) => { concurrency = limit; },
    dropConnections: () => { server.closeAllConnections(); },
    async stop() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}

function requestOrNull(message: IncomingMessage): S3Request | null {
  try {
    return parseRequest(message);
  } catch {
    return null;
  }
}

interface Sent {
  readonly status: number;
  readonly code: string | null;
}

async function deliver(response: ServerResponse, request: S3Request, { status, headers, body, code = null }: Answer & { readonly code?: string | null }, fault: Fault | null): Promise<Sent> {
  response.writeHead(status, {
    "x-amz-request-id": randomBytes(8).toString("hex").toUpperCase(),
    "x-amz-id-2": randomBytes(12).toString("base64"),
    "server": "splitrun-test",
    ...(body !== null && { "content-type": "application/xml", "content-length": body.length }),
    ...(body === null && status !== 204 && status !== 304 && { "content-length": 0 }),
    ...(header(request, "x-amz-request-payer") === null || status >= 400 ? {} : { "x-amz-request-charged": "requester" }),
    ...headers,
  });
  if (request.method === "HEAD" || body === null) response.end();
  else if (fault?.kind === "cut-answer") response.write(body.subarray(0, fault.afterBytes), () => response.socket?.resetAndDestroy());
  else if (fault?.kind === "stall-answer") response.write(body.subarray(0, fault.afterBytes));
  else if (fault?.kind === "damage-answer") response.end(damaged(body, fault.atByte));
  else response.end(body);
  return { status, code };
}

function damaged(body: Buffer, atByte: number): Buffer {
  const copy = Buffer.from(body);
  copy[atByte] = (copy[atByte] ?? 0) ^ 0xff;
  return copy;
}

function reset(message: IncomingMessage): null {
  // Null once it is closed, whatever its type says.
  (message.socket as Socket | null)?.resetAndDestroy();
  return null;
}

/** Not by iteration, whose end would close the connection properly. */
function cutUpload(message: IncomingMessage, afterBytes: number): Promise<null> {
  let received = 0;
  return new Promise((resolve) => {
    message.on("data", (chunk: Buffer) => {
      received += chunk.length;
      if (received >= afterBytes) resolve(reset(message));
    });
    message.on("close", () => { resolve(null); });
  });
}

function errorIn200(code: string): Answer {
  return { status: 200, headers: {}, body: xmlDocument("Error", [["Code", code], ["Message", "on order"]]) };
}

function errorAnswer(error: unknown, request: S3Request): Answer & { readonly code: string } {
  const refusal = error instanceof S3Error ? error : new S3Error(500, "InternalError", `the test server failed: ${String(error)}`);
  return {
    status: refusal.status,
    code: refusal.code,
    headers: refusal.headers,
    body: xmlDocument("Error", [
      ["Code", refusal.code],
      ["Message", refusal.message],
      ...Object.entries(refusal.details).map(([name, value]) => [name, value] as const),
      ["Resource", request.path],
      ["RequestId", "TEST"],
    ]),
  };
}
