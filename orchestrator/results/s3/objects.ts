import { createHash } from "node:crypto";
import type * as z from "zod";
import { S3Failure, parseS3Url, s3Url } from "../../../task-manager/s3-client.ts";
import type { PutOptions, S3Client, S3FailureCode, S3Place, S3Requests } from "../../../task-manager/s3-client.ts";
import { SplitrunError } from "../../errors.ts";

/** A record of ours, the list's pieces aside, is far below it. */
const recordBytesMax = 64 * 2 ** 20;
/** A request for so much takes much longer than S3 takes to answer it. */
const pieceBytes = 16 * 2 ** 20;
/** Larger objects go in several parts of this size, of which S3 takes 10 000. */
export const putPartBytes = 8 * 2 ** 20;

export interface PutContent {
  readonly etag: string;
  readonly bytes: number;
  readonly sha256: string;
}

export interface ListedObject {
  readonly etag: string;
  readonly bytes: number;
}

/** The objects below an output's prefix, by their names there. Rejects with `S3Failure`. */
export class OutputObjects {
  readonly url: string;
  readonly #client: S3Client;
  readonly #root: S3Place;

  /** `url`: `s3://bucket/prefix/`. */
  constructor(client: S3Client, url: string) {
    const root = parseS3Url(url);
    if (root === null) throw new Error(`${url} is not of the form s3://bucket/prefix/`);
    this.#client = client;
    this.#root = root;
    this.url = url;
  }

  get requests(): S3Requests {
    return this.#client.requests;
  }

  urlOf(name: string): string {
    return s3Url(this.#placeOf(name));
  }

  /** null: there is no such object. */
  async read(name: string): Promise<{ readonly text: string; readonly etag: string } | null> {
    try {
      const { bytes, etag } = await this.#client.get(this.#placeOf(name), { maxBytes: recordBytesMax });
      return { text: bytes.toString("utf8"), etag };
    } catch (error) {
      if (error instanceof S3Failure && error.code === "S3_NO_SUCH_KEY") return null;
      throw error;
    }
  }

  /** @throws SplitrunError OUTPUT_DAMAGED when it is another thing */
  async readRecord<Value>(name: string, schema: z.ZodType<Value>): Promise<{ readonly value: Value; readonly etag: string } | null> {
    const found = await this.read(name);
    if (found === null) return null;
    return { value: parsed(found.text, schema, this.urlOf(name)), etag: found.etag };
  }

  /** In pieces, all of one version. @throws S3Failure S3_PRECONDITION: it was replaced meanwhile */
  async *chunks(name: string, { etag, bytes }: ListedObject): AsyncGenerator<Buffer, void> {
    for (let first = 0; first < bytes; first += pieceBytes) {
      const range = { first, last: Math.min(bytes, first + pieceBytes) - 1 };
      yield (await this.#client.get(this.#placeOf(name), { maxBytes: pieceBytes, range, etag })).bytes;
    }
  }

  async stat(name: string): Promise<ListedObject | null> {
    return this.#client.head(this.#placeOf(name));
  }

  putText(name: string, text: string, condition: PutOptions["condition"]): Promise<string> {
    return this.#client.put(this.#placeOf(name), Buffer.from(text), { condition, contentType: contentTypeOf(name) });
  }

  /** Pieces of `putPartBytes`, the last aside: as one object, which is seen once it is whole. */
  async put(name: string, pieces: AsyncIterable<Buffer>, { condition, signal }: Pick<PutOptions, "condition"> & { readonly signal: AbortSignal }): Promise<PutContent> {
    const place = this.#placeOf(name);
    const options = { condition, signal, contentType: contentTypeOf(name) };
    const hash = createHash("sha256");
    let bytes = 0;
    const seen = async function* (): AsyncGenerator<Buffer, void> {
      for await (const piece of pieces) {
        hash.update(piece);
        bytes += piece.length;
        yield piece;
      }
    };
    const rest = seen();
    const first = await rest.next();
    const second = first.done === true ? first : await rest.next();
    const etag = second.done === true
      ? await this.#client.put(place, first.done === true ? Buffer.alloc(0) : first.value, options)
      : await this.#client.putParts(place, chained([first.value ?? Buffer.alloc(0), second.value], rest), options);
    return { etag, bytes, sha256: hash.digest("hex") };
  }

  /** What is below a folder, by name. */
  async *list(folder: string): AsyncGenerator<readonly [name: string, object: ListedObject], void> {
    for await (const page of this.#client.list(this.#placeOf(folder), { startAfter: null })) {
      for (const { key, etag, bytes } of page) yield [key.slice(this.#root.key.length), { etag, bytes }];
    }
  }

  copy(from: string, to: string): Promise<void> {
    return this.#client.copy(this.#placeOf(from), this.#placeOf(to));
  }

  async delete(names: readonly string[]): Promise<void> {
    if (names.length > 0) await this.#client.delete(this.#root.bucket, names.map((name) => this.#placeOf(name).key));
  }

  close(): void {
    this.#client.close();
  }

  #placeOf(name: string): S3Place {
    return { bucket: this.#root.bucket, key: this.#root.key + name };
  }
}

const passing: ReadonlySet<S3FailureCode> = new Set(["S3_SLOW_DOWN", "S3_SERVER", "S3_TIMEOUT", "S3_UNREACHABLE", "S3_CUT", "S3_DAMAGED", "S3_CONFLICT", "S3_CLOCK"]);

/** Nobody has to do anything about it: another try, later, may end better. */
export function isPassing(error: unknown): boolean {
  return error instanceof S3Failure && passing.has(error.code);
}

/** What S3 refused before anything was started, as the output's fault. */
export function outputError(url: string, error: unknown): unknown {
  if (!(error instanceof S3Failure)) return error;
  return new SplitrunError(`output ${error.message}`, { code: "OUTPUT_UNUSABLE", field: "output", value: url, cause: error });
}

function parsed<Value>(text: string, schema: z.ZodType<Value>, url: string): Value {
  try {
    return schema.parse(JSON.parse(text));
  } catch (cause) {
    throw new SplitrunError(`${url} is not what splitrun writes there, or another version of splitrun wrote it; use that version, or name another prefix`, {
      code: "OUTPUT_DAMAGED", field: "output", value: url, cause,
    });
  }
}

async function* chained(first: readonly Buffer[], rest: AsyncIterable<Buffer>): AsyncGenerator<Buffer, void> {
  yield* first;
  yield* rest;
}

function contentTypeOf(name: string): string {
  if (name.endsWith(".json")) return "application/json";
  if (name.endsWith(".jsonl")) return "application/x-ndjson";
  if (name.endsWith(".csv")) return "text/csv; charset=utf-8";
  return "application/octet-stream";
}
