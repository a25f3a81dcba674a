import { createHash } from "node:crypto";
import { appendFile, readFile } from "node:fs/promises";
import { S3Failure } from "../../../task-manager/s3-client.ts";
import { errorCode } from "../durable.ts";
import type { Lease } from "./lease.ts";
import { outputNames } from "./names.ts";
import type { OutputObjects } from "./objects.ts";
import { type PartRecord, partRecord } from "./records.ts";

const racesMax = 5;

export type PartToPut = Pick<PartRecord, "name" | "first" | "end" | "succeeded" | "failed">;

/**
 * The parts that are there. Each write says what it takes the place of, so that a run that has lost its output without
 * knowing cannot write over what its successor has put.
 */
export class PartStore {
  readonly #objects: OutputObjects;
  readonly #lease: Lease;
  readonly #file: string;
  readonly #etags: Map<string, string>;
  readonly #records: Map<string, PartRecord>;

  private constructor(objects: OutputObjects, lease: Lease, { file, etags, records }: { readonly file: string; readonly etags: Map<string, string>; readonly records: Map<string, PartRecord> }) {
    this.#objects = objects;
    this.#lease = lease;
    this.#file = file;
    this.#etags = etags;
    this.#records = records;
  }

  /** `file`: in which this home notes what it has put; what is not noted is put again. */
  static async open(objects: OutputObjects, lease: Lease, file: string): Promise<PartStore> {
    return new PartStore(objects, lease, { file, etags: await etagsOf(objects), records: await notedIn(file) });
  }

  record(name: string): PartRecord | undefined {
    return this.#records.get(name);
  }

  /** Puts a part, unless these very bytes are there. `pieces`: the bytes from the start, each time that it is called. */
  async put(part: PartToPut, pieces: () => AsyncIterable<Buffer>, signal: AbortSignal): Promise<PartRecord> {
    const { name } = part;
    const known = this.#records.get(name);
    if (known !== undefined && bare(known.etag) === bare(this.#etags.get(name)) && known.sha256 === (await sha256Of(pieces()))) return known;
    const record: PartRecord = { ...part, ...(await this.#write(name, pieces, signal)) };
    this.#etags.set(name, record.etag);
    this.#records.set(name, record);
    await appendFile(this.#file, `${JSON.stringify(record)}\n`, { mode: 0o600 });
    return record;
  }

  /** Names of parts that are there as somebody else has put them. */
  async changed(): Promise<readonly string[]> {
    const etags = await etagsOf(this.#objects);
    return [...this.#records.values()].filter(({ name, etag }) => bare(etags.get(name)) !== bare(etag)).map(({ name }) => {
      const etag = etags.get(name);
      if (etag === undefined) this.#etags.delete(name);
      else this.#etags.set(name, etag);
      return name;
    });
  }

  async #write(name: string, pieces: () => AsyncIterable<Buffer>, signal: AbortSignal): Promise<Pick<PartRecord, "bytes" | "sha256" | "etag">> {
    for (let races = 0; ; races++) {
      const etag = this.#etags.get(name);
      try {
        return await this.#objects.put(name, pieces(), { condition: etag === undefined ? "absent" : { etag }, signal });
      } catch (error) {
        if (!isRaced(error) || races === racesMax) throw error;
        // Another process has put something there: whose output is it?
        await this.#lease.check();
        const present = await this.#objects.stat(name);
        if (present === null) this.#etags.delete(name);
        else this.#etags.set(name, present.etag);
      }
    }
  }
}

/** Stores differ in where they put quotes around it. */
function bare(etag: string | undefined): string | undefined {
  return etag?.replaceAll('"', "");
}

function isRaced(error: unknown): boolean {
  return error instanceof S3Failure && (error.code === "S3_PRECONDITION" || error.code === "S3_NO_SUCH_KEY");
}

async function etagsOf(objects: OutputObjects): Promise<Map<string, string>> {
  const etags = new Map<string, string>();
  for (const folder of [outputNames.parts, outputNames.lines]) {
    for await (const [name, { etag }] of objects.list(folder)) etags.set(name, etag);
  }
  return etags;
}

/** The last record of a name counts; a line that was cut does not. */
async function notedIn(file: string): Promise<Map<string, PartRecord>> {
  const text = await readFile(file, "utf8").catch((error: unknown) => {
    if (errorCode(error) === "ENOENT") return "";
    throw error;
  });
  const records = new Map<string, PartRecord>();
  for (const line of text.split("\n")) {
    const record = recordOf(line);
    if (record !== null) records.set(record.name, record);
  }
  return records;
}

function recordOf(line: string): PartRecord | null {
  try {
    return partRecord.parse(JSON.parse(line));
  } catch {
    return null;
  }
}

async function sha256Of(pieces: AsyncIterable<Buffer>): Promise<string> {
  const hash = createHash("sha256");
  for await (const piece of pieces) hash.update(piece);
  return hash.digest("hex");
}
