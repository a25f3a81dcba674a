import { createHash, randomBytes } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { chmod, mkdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import path from "node:path";
import { pipeline } from "node:stream/promises";
import { SplitrunError } from "../errors.ts";
import { noteUse, pruneCache } from "./prune-cache.ts";
import type { Environment } from "./references.ts";

/** A file in the cache; its name is its content's sha256, with the ending that it came with. */
export interface CachedFile {
  readonly sha256: string;
  readonly bytes: number;
  readonly path: string;
}

/** `SPLITRUN_CACHE_DIR`, else `splitrun` in the user's cache (XDG Base Directory Specification). */
export function defaultCacheDir(environment: Environment): string {
  if (environment["SPLITRUN_CACHE_DIR"]) return path.resolve(environment["SPLITRUN_CACHE_DIR"]);
  const caches = environment["XDG_CACHE_HOME"];
  return path.join(caches && path.isAbsolute(caches) ? caches : path.join(homedir(), ".cache"), "splitrun");
}

/**
 * Files by content, for this user alone: what is in there is run. Task Managers on this machine read the same
 * directory, so nothing has to travel to them.
 */
export interface ContentCache {
  /** Keeps a copy, so that the file may change while the job runs. Read only once until it changes. */
  keepFile(file: string): Promise<CachedFile>;
  keepText(text: string, ending: string): Promise<CachedFile>;
  /** Keeps what `write` writes to the path it is given. */
  keepWritten(ending: string, write: WriteFile): Promise<CachedFile>;
  /** The same, once a version of what goes by that name. */
  keepVersion(source: { readonly name: string; readonly version: string; readonly bytes: number }, ending: string, write: WriteFile): Promise<CachedFile>;
}

type WriteFile = (file: string) => Promise<{ readonly sha256: string; readonly bytes: number }>;

/** @throws SplitrunError CACHE_UNUSABLE */
export async function openContentCache(directory: string): Promise<ContentCache> {
  await privateDirectory(directory);
  await pruneCache(directory);
  const placeOf = (sha256: string, ending: string) => path.join(directory, sha256 + ending);

  const noteOf = (name: string) => path.join(directory, "index", `${createHash("sha256").update(name).digest("hex")}.json`);

  /** null: it is not there any more, or another one. */
  async function kept(note: string, { text, bytes }: Pick<Identity, "text" | "bytes">, ending: string): Promise<CachedFile | null> {
    const known = await knownHash(note, text);
    if (known === null) return null;
    const place = placeOf(known, ending);
    await Promise.all([noteUse(note), noteUse(place)]);
    return (await sizeOf(place)) === bytes ? { sha256: known, bytes, path: place } : null;
  }

  async function keepWritten(ending: string, write: WriteFile): Promise<CachedFile> {
    const temporary = path.join(directory, `.${randomBytes(8).toString("hex")}.tmp`);
    try {
      const { sha256, bytes } = await write(temporary);
      await chmod(temporary, 0o600);
      await rename(temporary, placeOf(sha256, ending));
      return { sha256, bytes, path: placeOf(sha256, ending) };
    } catch (cause) {
      if (!isFull(cause)) throw cause;
      throw new SplitrunError(`the cache ${directory} is full: ${cause.message}; make room, or set SPLITRUN_CACHE_DIR to another disk`, { code: "CACHE_UNUSABLE", value: directory, cause });
    } finally {
      await rm(temporary, { force: true });
    }
  }

  return {
    keepWritten,
    keepText: (text, ending) => keepWritten(ending, async (temporary) => {
      await writeFile(temporary, text, { mode: 0o600, flag: "wx" });
      return { sha256: createHash("sha256").update(text).digest("hex"), bytes: Buffer.byteLength(text) };
    }),
    async keepFile(file) {
      const identity = await identityOf(file);
      const note = noteOf(file);
      const known = await kept(note, identity, path.extname(file));
      if (known !== null) return known;

      const copy = await keepWritten(path.extname(file), (temporary) => copyHashed(file, temporary));
      if ((await identityOf(file)).text !== identity.text) {
        throw new SplitrunError(`${file} changed while it was read; start again once it is complete`, { code: "FILE_CHANGED", value: file });
      }
      // A change right after reading could leave size and time as they were (as in git's index): young files are not noted.
      if (Date.now() - identity.modifiedMs >= settledMs) await noteHash(note, identity.text, copy.sha256);
      return copy;
    },
    async keepVersion({ name, version, bytes }, ending, write) {
      const note = noteOf(name);
      const known = await kept(note, { text: version, bytes }, ending);
      if (known !== null) return known;
      const copy = await keepWritten(ending, write);
      await noteHash(note, version, copy.sha256);
      return copy;
    },
  };
}

async function privateDirectory(directory: string): Promise<void> {
  try {
    await mkdir(path.join(directory, "index"), { recursive: true, mode: 0o700 });
    const { uid, mode } = await stat(directory);
    const owner = process.getuid?.() ?? uid;
    if (uid !== owner) throw new Error(`it belongs to another user (uid ${uid})`);
    if ((mode & 0o077) !== 0) await chmod(directory, 0o700);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new SplitrunError(`the cache ${directory} cannot be used: ${why}; set SPLITRUN_CACHE_DIR to a directory of yours`, { code: "CACHE_UNUSABLE", value: directory, cause });
  }
}

function isFull(cause: unknown): cause is Error {
  return cause instanceof Error && "code" in cause && (cause.code === "ENOSPC" || cause.code === "EDQUOT");
}

async function copyHashed(from: string, to: string): Promise<{ readonly sha256: string; readonly bytes: number }> {
  const hash = createHash("sha256");
  let bytes = 0;
  await pipeline(
    createReadStream(from, { highWaterMark: 1 << 20 }),
    async function* (chunks: AsyncIterable<Buffer>) {
      for await (const chunk of chunks) {
        hash.update(chunk);
        bytes += chunk.length;
        yield chunk;
      }
    },
    createWriteStream(to, { flags: "wx", mode: 0o600 }),
  );
  return { sha256: hash.digest("hex"), bytes };
}

interface Identity {
  readonly text: string;
  readonly bytes: number;
  readonly modifiedMs: number;
}

async function identityOf(file: string): Promise<Identity> {
  const { dev, ino, size, mtimeNs, ctimeNs, mtimeMs } = await stat(file, { bigint: true });
  return { text: [dev, ino, size, mtimeNs, ctimeNs].join(":"), bytes: Number(size), modifiedMs: Number(mtimeMs) };
}

const settledMs = 2000;

async function noteHash(note: string, identity: string, sha256: string): Promise<void> {
  const temporary = `${note}.${randomBytes(6).toString("hex")}.tmp`;
  await writeFile(temporary, JSON.stringify({ identity, sha256 }), { mode: 0o600 });
  await rename(temporary, note);
}

async function knownHash(note: string, identity: string): Promise<string | null> {
  try {
    const noted = JSON.parse(await readFile(note, "utf8")) as { readonly identity?: unknown; readonly sha256?: unknown };
    return noted.identity === identity && typeof noted.sha256 === "string" && /^[0-9a-f]{64}$/.test(noted.sha256) ? noted.sha256 : null;
  } catch {
    // Not noted, or half a note: the file is read again.
    return null;
  }
}

async function sizeOf(file: string): Promise<number | null> {
  return stat(file).then(({ size }) => size, () => null);
}
