import { randomBytes } from "node:crypto";
import type { Checksum, ChecksumAlgorithm } from "./body.ts";
import { S3Error, errors } from "./error.ts";

export interface StoredObject {
  readonly body: Buffer;
  /** With its quotes. */
  readonly etag: string;
  readonly modifiedMs: number;
  /** Sent back as they came: content type, user metadata, encryption. */
  readonly headers: Readonly<Record<string, string>>;
  readonly checksum: Checksum | null;
  /** Sizes of the parts, of an object put in parts. */
  readonly partSizes: readonly number[] | null;
}

export interface Part {
  readonly number: number;
  readonly body: Buffer;
  readonly etag: string;
  readonly modifiedMs: number;
  readonly checksum: Checksum | null;
}

export interface Upload {
  readonly id: string;
  readonly key: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly checksumAlgorithm: ChecksumAlgorithm | null;
  readonly startedMs: number;
  readonly parts: Map<number, Part>;
}

/** In memory, bounded. */
export class Store {
  readonly #buckets = new Map<string, Bucket>();
  readonly #bytesMax: number;
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  create(name: string, options: BucketOptions): Bucket {
    if (this.#buckets.has(name)) {
      throw new S3Error(409, "BucketAlreadyOwnedByYou", "Your previous request to create the named bucket succeeded and you already own it.");
    }
    const bucket = new Bucket(name, options, (change) => { this.#account(change); });
    this.#buckets.set(name, bucket);
    return bucket;
  }

  /** @throws S3Error NoSuchBucket */
  bucket(name: string): Bucket {
    const bucket = this.#buckets.get(name);
    if (bucket === undefined) throw errors.noSuchBucket(name);
    return bucket;
  }

  delete(name: string): void {
    if (this.bucket(name).size > 0) throw new S3Error(409, "BucketNotEmpty", "The bucket you tried to delete is not empty");
    this.#buckets.delete(name);
  }

  #account(change: number): void {
    if (change > 0 && this.#bytes + change > this.#bytesMax) throw new S3Error(507, "InsufficientStorage", `The test server holds at most ${this.#bytesMax} bytes`);
    this.#bytes += change;
  }
}

export interface BucketOptions {
  readonly region: string;
  readonly requesterPays: boolean;
}

export class Bucket {
  readonly name: string;
  readonly region: string;
  readonly requesterPays: boolean;
  readonly uploads = new Map<string, Upload>();
  /** ETags of uploads that were completed, by their id: completing again is no error for a while. */
  readonly #completed = new Map<string, StoredObject>();
  readonly #objects = new Map<string, StoredObject>();
  readonly #account: (change: number) => void;
  /** Times that a key was deleted: tells a conditional write that something went on meanwhile. */
  readonly #deletions = new Map<string, number>();
  #sorted: readonly SortedKey[] | null = null;

  constructor(name: string, options: BucketOptions, account: (change: number) => void) {
    this.name = name;
    this.region = options.region;
    this.requesterPays = options.requesterPays;
    this.#account = account;
  }

  get size(): number {
    return this.#objects.size;
  }

  find(key: string): StoredObject | null {
    return this.#objects.get(key) ?? null;
  }

  /** @throws S3Error NoSuchKey */
  get(key: string): StoredObject {
    const object = this.#objects.get(key);
    if (object === undefined) throw errors.noSuchKey(key);
    return object;
  }

  put(key: string, object: StoredObject): void {
    const before = this.#objects.get(key);
    this.#account(object.body.length - (before?.body.length ?? 0));
    if (before === undefined) this.#sorted = null;
    this.#objects.set(key, object);
  }

  delete(key: string): void {
    const before = this.#objects.get(key);
    if (before === undefined) return;
    this.#account(-before.body.length);
    this.#objects.delete(key);
    this.#deletions.set(key, this.deletionsOf(key) + 1);
    this.#sorted = null;
  }

  deletionsOf(key: string): number {
    return this.#deletions.get(key) ?? 0;
  }

  startUpload(upload: Omit<Upload, "id" | "parts">): Upload {
    const started: Upload = { ...upload, id: randomBytes(16).toString("base64url"), parts: new Map() };
    this.uploads.set(started.id, started);
    return started;
  }

  /** @throws S3Error NoSuchUpload */
  upload(id: string, key: string): Upload {
    const upload = this.uploads.get(id);
    if (upload === undefined || upload.key !== key) throw errors.noSuchUpload();
    return upload;
  }

  addPart(upload: Upload, part: Part): void {
    this.#account(part.body.length - (upload.parts.get(part.number)?.body.length ?? 0));
    upload.parts.set(part.number, part);
  }

  /** Forgets an upload and its parts. */
  endUpload(upload: Upload, completedAs: StoredObject | null): void {
    this.uploads.delete(upload.id);
    for (const part of upload.parts.values()) this.#account(-part.body.length);
    if (completedAs !== null) this.#completed.set(upload.id, completedAs);
  }

  completedUpload(id: string): StoredObject | null {
    return this.#completed.get(id) ?? null;
  }

  /** In the order of their UTF-8 bytes. */
  get sortedKeys(): readonly SortedKey[] {
    this.#sorted ??= [...this.#objects.keys()]
      .map((key) => ({ key, bytes: byteString(key) }))
      .toSorted((a, b) => (a.bytes < b.bytes ? -1 : a.bytes > b.bytes ? 1 : 0));
    return this.#sorted;
  }
}

export interface SortedKey {
  readonly key: string;
  readonly bytes: string;
}

/** A character a byte, so that strings compare as their UTF-8 bytes do. */
export function byteString(text: string): string {
  return Buffer.from(text, "utf8").toString("latin1");
}
