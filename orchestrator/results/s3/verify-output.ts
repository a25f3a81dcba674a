import { createHash } from "node:crypto";
import { Bits } from "../identity.ts";
import { KeyDigest } from "../key.ts";
import type { Receipt } from "../verify.ts";
import { firstOfPart, outputNames } from "./names.ts";
import { type ListedObject, type OutputObjects, outputError } from "./objects.ts";
import { visitLines } from "./read-lines.ts";
import { recordOf } from "./read-parts.ts";
import { linesFolder } from "./rebuild.ts";
import { type Manifest, type PartRecord, type RunRecord, manifest } from "./records.ts";

/** Of these, the first so many are told. */
const problemsMax = 20;

/**
 * Checks an output in S3 against its own record of the list and its manifest: every line and every part's bytes. Reads
 * all parts once; holds a bit an item.
 * @throws SplitrunError HOME_EMPTY, OUTPUT_UNUSABLE, OUTPUT_DAMAGED
 */
export async function verifyOutput(objects: OutputObjects): Promise<Receipt> {
  const record = await recordOf(objects);
  try {
    const found = await objects.readRecord(outputNames.manifest, manifest);
    const check = new Check(objects, record, found?.value ?? null);
    await check.lines();
    await check.tables();
    return await check.receipt();
  } catch (error) {
    throw outputError(objects.url, error);
  }
}

class Check {
  readonly #objects: OutputObjects;
  readonly #record: RunRecord;
  readonly #manifest: Manifest | null;
  readonly #seen = new Bits();
  readonly #digest = new KeyDigest();
  readonly #problems: string[] = [];
  #succeeded = 0;
  #failed = 0;
  #duplicates = 0;
  #foreign = 0;
  #damaged = 0;

  constructor(objects: OutputObjects, record: RunRecord, found: Manifest | null) {
    this.#objects = objects;
    this.#record = record;
    this.#manifest = found;
  }

  async lines(): Promise<void> {
    const promised = this.#promised(this.#manifest?.lines ?? this.#manifest?.parts ?? []);
    for await (const [name, object] of this.#objects.list(linesFolder(this.#record.format))) {
      const first = firstOfPart(name);
      if (first === null || !name.endsWith(".jsonl")) continue;
      const sha256 = await this.#part(name, object, first);
      this.#compare(name, { ...object, sha256 }, promised);
    }
    this.#missing(promised);
  }

  /** The parts of another format: that they are as they were put. */
  async tables(): Promise<void> {
    if (this.#manifest?.lines === undefined) return;
    const promised = this.#promised(this.#manifest.parts);
    for await (const [name, object] of this.#objects.list(outputNames.parts)) {
      if (!name.endsWith(`.${this.#manifest.format}`)) continue;
      const hash = createHash("sha256");
      for await (const chunk of this.#objects.chunks(name, object)) hash.update(chunk);
      this.#compare(name, { ...object, sha256: hash.digest("hex") }, promised);
    }
    this.#missing(promised);
  }

  async receipt(): Promise<Receipt> {
    const { list } = this.#record;
    const { url } = this.#objects;
    const count = this.#succeeded + this.#failed;
    const missing = list === null ? 0 : list.count - count;
    if (list === null) this.#tell(`The list was not copied to its end, so that nobody knows what is missing: the run goes on, or was cut.`);
    if (missing > 0) this.#tell(`${missing} items are in no part: the run goes on, or was cut; \`splitrun resume ${url}\` ends it.`);
    if (this.#duplicates > 0) this.#tell(`${this.#duplicates} lines are for items that have another one.`);
    if (this.#foreign > 0) this.#tell(`${this.#foreign} lines are for items that belong in no part, or in another one.`);
    if (this.#damaged > 0) this.#tell(`${this.#damaged} lines are no results: damaged.`);
    if (missing === 0 && list !== null && this.#digest.toString() !== list.digest) this.#tell("The items of the parts are not those of the list.");
    if (this.#manifest === null) this.#tell(`There is no ${outputNames.manifest}: the run has not ended; \`splitrun resume ${url}\` ends it.`);
    else if ((await this.#objects.stat(outputNames.success)) === null) this.#tell(`There is no ${outputNames.success}.`);
    return {
      ok: this.#problems.length === 0,
      items: list?.count ?? count,
      succeeded: this.#succeeded,
      failed: this.#failed,
      missing,
      duplicates: this.#duplicates,
      foreign: this.#foreign,
      problems: this.#problems.slice(0, problemsMax),
    };
  }

  /** Returns its hash. */
  async #part(name: string, object: ListedObject, first: number): Promise<string> {
    const end = Math.min(first + this.#record.partItems, this.#record.list?.count ?? Infinity);
    const hash = createHash("sha256");
    const hashed = async function* (objects: OutputObjects): AsyncGenerator<Buffer, void> {
      for await (const chunk of objects.chunks(name, object)) {
        hash.update(chunk);
        yield chunk;
      }
    };
    const visitor: Parameters<typeof visitLines>[1] = {
      line: (line) => {
        if (line.index < first || line.index >= end) {
          this.#foreign += 1;
          return;
        }
        if (this.#seen.has(line.index)) {
          this.#duplicates += 1;
          return;
        }
        this.#seen.add(line.index);
        this.#digest.add(line.key());
        if (line.failed) this.#failed += 1;
        else this.#succeeded += 1;
      },
      damaged: () => {
        this.#damaged += 1;
      },
    };
    for await (const _ of visitLines(hashed(this.#objects), visitor));
    return hash.digest("hex");
  }

  #promised(parts: readonly PartRecord[]): Map<string, PartRecord> {
    return new Map(parts.map((part) => [part.name, part]));
  }

  #compare(name: string, { bytes, sha256 }: ListedObject & { readonly sha256: string }, promised: Map<string, PartRecord>): void {
    const part = promised.get(name);
    promised.delete(name);
    if (this.#manifest === null) return;
    if (part === undefined) this.#tell(`${this.#objects.urlOf(name)} is not in ${outputNames.manifest}.`);
    else if (part.bytes !== bytes || part.sha256 !== sha256) this.#tell(`${this.#objects.urlOf(name)} is not as it was put: its bytes have changed.`);
  }

  /** What is left of those that the manifest names. */
  #missing(promised: ReadonlyMap<string, PartRecord>): void {
    for (const name of promised.keys()) this.#tell(`${this.#objects.urlOf(name)} is gone.`);
  }

  #tell(problem: string): void {
    this.#problems.push(problem);
  }
}
