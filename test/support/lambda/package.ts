import { createHash } from "node:crypto";
import { createWriteStream } from "node:fs";
import { mkdir, symlink } from "node:fs/promises";
import path from "node:path";
import { buffer } from "node:stream/consumers";
import { pipeline } from "node:stream/promises";
import { fromBufferPromise } from "yauzl";
import type { Entry, ZipFile } from "yauzl";
import { ServiceError, errors } from "./errors.ts";

/** A function's code as it is laid out under `LAMBDA_TASK_ROOT`. */
export interface Package {
  /** SHA-256 of the zip in base64, as `CodeSha256`. */
  readonly sha256: string;
  readonly zipBytes: number;
  readonly root: string;
  /** Not readable by everyone: the function runs as a user of its own, for whom they are not there. */
  readonly unreadable: readonly string[];
}

export const unzippedBytesMax = 262_144_000;

const fileType = 0o170000;
const symbolicLink = 0o120000;
const readableByAll = 0o004;
const executableByAll = 0o001;

/** Unzips each content once. */
export class Packages {
  readonly #directory: string;
  readonly #bySha256 = new Map<string, Promise<Package>>();

  constructor(directory: string) {
    this.#directory = directory;
  }

  /** @throws ServiceError when it is no zip or too large unzipped */
  unpack(zip: Buffer): Promise<Package> {
    const digest = createHash("sha256").update(zip).digest();
    const sha256 = digest.toString("base64");
    const known = this.#bySha256.get(sha256);
    if (known !== undefined) return known;
    const unpacked = unpack(zip, sha256, path.join(this.#directory, digest.toString("hex")));
    this.#bySha256.set(sha256, unpacked);
    return unpacked;
  }
}

async function unpack(bytes: Buffer, sha256: string, root: string): Promise<Package> {
  try {
    const zip = await fromBufferPromise(bytes, { lazyEntries: true, autoClose: false });
    const unreadable = await writeEntries(zip, await entriesOf(zip), root);
    return { sha256, zipBytes: bytes.length, root, unreadable };
  } catch (error) {
    if (error instanceof ServiceError) throw error;
    throw errors.invalid("Could not unzip uploaded file. Please check your file, then try to upload again.");
  }
}

async function entriesOf(zip: ZipFile): Promise<readonly Entry[]> {
  const entries: Entry[] = [];
  for await (const entry of zip.eachEntry()) entries.push(entry);
  const bytes = entries.reduce((sum, { uncompressedSize }) => sum + uncompressedSize, 0);
  if (bytes > unzippedBytesMax) throw errors.invalid(`Unzipped size must be smaller than ${unzippedBytesMax} bytes`);
  return entries;
}

/** Gives the names of those that were left out. */
async function writeEntries(zip: ZipFile, entries: readonly Entry[], root: string): Promise<readonly string[]> {
  const unreadable: string[] = [];
  await mkdir(root, { recursive: true });
  for (const entry of entries) {
    const mode = modeOf(entry);
    if (mode !== null && (mode & readableByAll) === 0) unreadable.push(entry.fileName);
    else await writeEntry(zip, entry, mode, root);
  }
  return unreadable;
}

async function writeEntry(zip: ZipFile, entry: Entry, mode: number | null, root: string): Promise<void> {
  const target = path.join(root, entry.fileName);
  if (entry.fileName.endsWith("/")) return void (await mkdir(target, { recursive: true }));
  await mkdir(path.dirname(target), { recursive: true });
  const content = await zip.openReadStreamPromise(entry);
  if (mode !== null && (mode & fileType) === symbolicLink) return symlink((await buffer(content)).toString("utf8"), target);
  await pipeline(content, createWriteStream(target, { mode: mode !== null && (mode & executableByAll) !== 0 ? 0o755 : 0o644 }));
}

/** null: made by a system without Unix modes. */
function modeOf(entry: Entry): number | null {
  const mode = entry.externalFileAttributes >>> 16;
  return mode === 0 ? null : mode;
}
