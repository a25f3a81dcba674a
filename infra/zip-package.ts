import { createHash, randomBytes } from "node:crypto";
import { createReadStream } from "node:fs";
import { cp, mkdir, open, readdir, rename, rm, stat, writeFile } from "node:fs/promises";
import path from "node:path";
import type { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { ZipFile } from "yazl";
import { SplitrunError } from "../orchestrator/errors.ts";
import { contentSha256Of, packageParts } from "./package-files.ts";
import type { PackageFile, PackagePart } from "./package-files.ts";

/** A function's code as one file. */
export interface ZipPackage {
  readonly path: string;
  /** As Lambda shows it: base64. */
  readonly codeSha256: string;
  /** Of what is inside; the zip's own differs where another zlib packed it. */
  readonly contentSha256: string;
  readonly zippedBytes: number;
  readonly unzippedBytes: number;
}

export interface PartSize {
  readonly part: PackagePart;
  readonly files: number;
  readonly bytes: number;
}

/** Lambda guide, quotas; the zip in the request, and what it may unpack to (with layers, of which there are none). */
export const directZipBytesMax = 52_428_800;
export const unzippedBytesMax = 262_144_000;
/** Files that not everyone may read are not there for a function. */
const mode = 0o100644;
const compressionLevel = 6;

/** Each can hold a model. */
const zipsKeptMax = 4;

/**
 * The same bytes for the same files on the same Node. Kept in `cacheDir`, so that deploying again takes no time.
 * @throws SplitrunError PACKAGE_TOO_LARGE when it would not fit unzipped, before anything is written
 */
export async function zipPackage(files: readonly PackageFile[], cacheDir: string): Promise<ZipPackage> {
  const unzippedBytes = bytesOf(files);
  refuseUnzipped(files, unzippedBytes);
  const contentSha256 = contentSha256Of(files);
  const directory = path.join(cacheDir, "lambda-zips");
  const file = path.join(directory, `${contentSha256}.zip`);
  const known = await zipIn(file);
  if (known !== null) return { ...known, contentSha256, unzippedBytes };
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const temporary = `${file}.${randomBytes(4).toString("hex")}`;
  try {
    await writeZip(files, temporary);
    await rename(temporary, file);
  } finally {
    await rm(temporary, { force: true });
  }
  await removeOldZips(directory);
  const written = await zipIn(file);
  if (written === null) throw new Error(`${file} was removed as it was written`);
  return { ...written, contentSha256, unzippedBytes };
}

/** null: it is not there. */
async function zipIn(file: string): Promise<Pick<ZipPackage, "path" | "codeSha256" | "zippedBytes"> | null> {
  const found = await stat(file).catch(() => null);
  if (found === null) return null;
  const hash = createHash("sha256");
  await pipeline(createReadStream(file, { highWaterMark: 1 << 20 }), hash);
  return { path: file, codeSha256: hash.digest("base64"), zippedBytes: found.size };
}

async function removeOldZips(directory: string): Promise<void> {
  const zips = await Promise.all((await readdir(directory)).filter((name) => name.endsWith(".zip")).map(async (name) => {
    const file = path.join(directory, name);
    return { file, madeMs: (await stat(file).catch(() => null))?.mtimeMs ?? 0 };
  }));
  for (const { file } of zips.sort((left, right) => right.madeMs - left.madeMs).slice(zipsKeptMax)) await rm(file, { force: true });
}

/** The package as a folder: what a container image is built from. */
export async function writePackageFolder(files: readonly PackageFile[], folder: string): Promise<void> {
  for (const { name, source } of files) {
    const target = path.join(folder, name);
    await mkdir(path.dirname(target), { recursive: true });
    if ("path" in source) await cp(source.path, target);
    else await writeFile(target, source.text);
  }
}

export function partSizes(files: readonly PackageFile[]): readonly PartSize[] {
  return packageParts
    .map((part) => ({ part, of: files.filter((file) => file.part === part) }))
    .filter(({ of }) => of.length > 0)
    .map(({ part, of }) => ({ part, files: of.length, bytes: bytesOf(of) }));
}

async function writeZip(files: readonly PackageFile[], file: string): Promise<void> {
  // Open before anything can fail: a stream that opens it by itself may do so after what is half was removed.
  const handle = await open(file, "wx", 0o600);
  const zip = new ZipFile();
  // Zips have local times: midnight here is the same bytes everywhere.
  const options = { mtime: new Date(1990, 0, 1), mode, forceDosTimestamp: true, compressionLevel };
  for (const { name, source } of files) {
    if ("path" in source) zip.addFile(source.path, name, options);
    else zip.addBuffer(Buffer.from(source.text), name, options);
  }
  zip.end();
  const content = zip.outputStream as Readable;
  // A file that cannot be read ends the zip's stream only if it is told so.
  zip.on("error", (error: Error) => content.destroy(error));
  await pipeline(content, handle.createWriteStream());
}

function refuseUnzipped(files: readonly PackageFile[], bytes: number): void {
  if (bytes <= unzippedBytesMax) return;
  const parts = partSizes(files).map(({ part, bytes: size }) => `${part} ${megabytes(size)}`).join(", ");
  throw new SplitrunError(
    `the package is ${megabytes(bytes)} unzipped (${parts}) and Lambda allows ${megabytes(unzippedBytesMax)}: leave the model out and let jobs stage it (--staging-bucket), ` +
    "or use a container image of up to 10 GB: `splitrun deploy --package FOLDER` writes what it is built from, infra/Dockerfile says how, --image deploys it",
    { code: "PACKAGE_TOO_LARGE", value: bytes },
  );
}

export function bytesOf(files: readonly PackageFile[]): number {
  return files.reduce((sum, { bytes }) => sum + bytes, 0);
}

export function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
