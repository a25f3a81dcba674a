import { createHash } from "node:crypto";
import type { FileHandle } from "node:fs/promises";
import { mkdir, open, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { SourceItem } from "../../inputs/types.ts";
import { makeDirectories, syncDirectory } from "../durable.ts";
import { homeFiles } from "../home-files.ts";
import { writeRecord } from "../home-record.ts";
import { Bits } from "../identity.ts";
import { KeyDigest, keyHash } from "../key.ts";
import { SplitrunError } from "../../errors.ts";
import { writeMarker } from "./marker.ts";
import { firstOfPart, inputsName, outputNames } from "./names.ts";
import type { ListedObject, OutputObjects } from "./objects.ts";
import { visitLines } from "./read-lines.ts";
import type { PartRecord, RunRecord, WholeList } from "./records.ts";

const lineEnd = Buffer.from("\n");

export interface RebuildOptions {
  readonly objects: OutputObjects;
  readonly record: RunRecord;
  /** New. */
  readonly dir: string;
  readonly homeId: string;
}

export interface Rebuilt {
  /** Items that have a line again. */
  readonly items: number;
  /** In words. */
  readonly notes: readonly string[];
}

/** The folder of an output's parts as lines. */
export function linesFolder(format: RunRecord["format"]): string {
  return format === "jsonl" ? outputNames.parts : outputNames.lines;
}

/**
 * A home from what is in S3, on a machine that has nothing else: the journal from the parts and what was put between
 * them, the list from its copy. home.json comes last, so that a rebuilding that was cut is no home.
 * @throws SplitrunError OUTPUT_DAMAGED; S3Failure
 */
export async function rebuildHome(options: RebuildOptions): Promise<Rebuilt> {
  const { record, dir, homeId, objects } = options;
  await makeDirectories(dir);
  const journal = await JournalCopy.create(dir);
  try {
    await copyParts(journal, options);
    for await (const [name, object] of objects.list(outputNames.tails)) await journal.copy(objects.chunks(name, object), null);
    await journal.sync();
  } finally {
    await journal.close();
  }
  if (record.list !== null) await copyList(record.list, options);
  const runDir = join(dir, homeFiles.runs, record.runId);
  await mkdir(runDir, { recursive: true, mode: 0o700 });
  await writeFile(join(runDir, "job.json"), `${JSON.stringify(await jobHere(options), null, 2)}\n`, { mode: 0o600 });
  await writeMarker(dir, { url: objects.url, homeId, list: record.list });
  await writeRecord(dir, {
    fingerprint: record.fingerprint,
    source: record.source,
    listStart: 0,
    list: record.list === null ? null : { count: record.list.count, digest: record.list.digest },
    beginning: null,
    staleBytes: 0,
    compacted: false,
  });
  await syncDirectory(dir);
  const notes = journal.damaged === 0 ? [] : [`${journal.damaged} lines in ${objects.url} were damaged or out of place; their items are done again.`];
  return { items: journal.items, notes };
}

/** Where a file of the first machine is not on this one, its content is taken from S3. */
async function jobHere({ objects, record }: RebuildOptions): Promise<unknown> {
  let job = record.job;
  for (const { field, name } of record.files) {
    const path = valueAt(job, field.split("."));
    if (typeof path !== "string" || (await isFile(path)) || (await objects.stat(name)) === null) continue;
    job = withValue(job, field.split("."), objects.urlOf(name));
  }
  return job;
}

function isFile(path: string): Promise<boolean> {
  return stat(path).then((found) => found.isFile(), () => false);
}

function valueAt(value: unknown, [name, ...rest]: readonly string[]): unknown {
  return name === undefined || !isObject(value) ? value : valueAt(value[name], rest);
}

function withValue(value: unknown, [name, ...rest]: readonly string[], to: string): unknown {
  return name === undefined || !isObject(value) ? to : { ...value, [name]: withValue(value[name], rest, to) };
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Notes them, too, so that they are not put once more. */
async function copyParts(journal: JournalCopy, { objects, record, dir }: RebuildOptions): Promise<void> {
  const noted = await open(join(dir, homeFiles.outputParts), "w", 0o600);
  try {
    for await (const [name, object] of objects.list(linesFolder(record.format))) {
      const first = firstOfPart(name);
      if (first === null || first % record.partItems !== 0) continue;
      const part = await copyPart(journal, { objects, name, object, first, itemsMax: record.partItems });
      await noted.appendFile(`${JSON.stringify(part)}\n`);
    }
  } finally {
    await noted.close();
  }
}

interface PartToCopy {
  readonly objects: OutputObjects;
  readonly name: string;
  readonly object: ListedObject;
  readonly first: number;
  readonly itemsMax: number;
}

async function copyPart(journal: JournalCopy, { objects, name, object, first, itemsMax }: PartToCopy): Promise<PartRecord> {
  const hash = createHash("sha256");
  const hashed = async function* (): AsyncGenerator<Buffer, void> {
    for await (const chunk of objects.chunks(name, object)) {
      hash.update(chunk);
      yield chunk;
    }
  };
  const { succeeded, failed } = await journal.copy(hashed(), { first, end: first + itemsMax });
  return { name, first, end: first + succeeded + failed, succeeded, failed, bytes: object.bytes, sha256: hash.digest("hex"), etag: object.etag };
}

class JournalCopy {
  readonly #handle: FileHandle;
  readonly #seen = new Bits();
  readonly #results = new Bits();
  items = 0;
  damaged = 0;

  private constructor(handle: FileHandle) {
    this.#handle = handle;
  }

  static async create(dir: string): Promise<JournalCopy> {
    return new JournalCopy(await open(join(dir, homeFiles.journal), "wx", 0o600));
  }

  /** A result counts more than an error, and what came first more than what came later. `range`: of the indexes. */
  async copy(chunks: AsyncIterable<Buffer>, range: { readonly first: number; readonly end: number } | null): Promise<{ readonly succeeded: number; readonly failed: number }> {
    const counts = { succeeded: 0, failed: 0 };
    let lines: Buffer[] = [];
    const visitor = {
      line: ({ index, failed }: { readonly index: number; readonly failed: boolean }, bytes: Buffer): void => {
        if (range !== null && (index < range.first || index >= range.end)) {
          this.damaged += 1;
          return;
        }
        if (this.#results.has(index) || (failed && this.#seen.has(index))) return;
        if (!this.#seen.has(index)) this.items += 1;
        this.#seen.add(index);
        if (!failed) this.#results.add(index);
        counts[failed ? "failed" : "succeeded"] += 1;
        lines.push(bytes, lineEnd);
      },
      damaged: (): void => {
        this.damaged += 1;
      },
    };
    for await (const _ of visitLines(chunks, visitor)) {
      await this.#handle.appendFile(Buffer.concat(lines));
      lines = [];
    }
    return counts;
  }

  sync(): Promise<void> {
    return this.#handle.datasync();
  }

  close(): Promise<void> {
    return this.#handle.close();
  }
}

async function copyList(list: WholeList, { objects, dir }: RebuildOptions): Promise<void> {
  const path = join(dir, homeFiles.inputs);
  const handle = await open(path, "w", 0o600);
  const digest = new KeyDigest();
  let count = 0;
  try {
    for (const first of list.pieces) {
      const found = await objects.read(inputsName(first));
      if (found === null || first !== count) throw damagedList(objects);
      for (const line of found.text.split("\n")) {
        if (line === "") continue;
        digest.add(keyHash(itemOf(line, objects)));
        count += 1;
      }
      await handle.appendFile(found.text);
    }
    await handle.datasync();
  } finally {
    await handle.close();
  }
  if (count !== list.count || digest.toString() !== list.digest) throw damagedList(objects);
}

function itemOf(line: string, objects: OutputObjects): SourceItem {
  try {
    return JSON.parse(line) as SourceItem;
  } catch {
    // The line may hold a presigned URL, so it is not shown.
    throw damagedList(objects);
  }
}

function damagedList(objects: OutputObjects): SplitrunError {
  const place = objects.urlOf(outputNames.inputs);
  return new SplitrunError(`the copy of the list in ${place} is damaged or not whole; run the job anew with another prefix`, { code: "OUTPUT_DAMAGED", field: "output", value: place });
}
