import { createHash, randomBytes } from "node:crypto";
import { createReadStream } from "node:fs";
import { chmod, mkdir, open, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import path from "node:path";
import { pipeline } from "node:stream/promises";
import { z } from "zod";
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
  /** The same, once a version of what goes by that name: whoever writes it tells that it has not changed by writing nothing. */
  keepChanging(name: string, ending: string, write: WriteIfChanged): Promise<CachedFile>;
}

interface Written {
  readonly sha256: string;
  readonly bytes: number;
}

type WriteFile = (file: string) => Promise<Written>;
/** `known` is the version of the copy that is kept. null: that is still the one. A version of null is not kept. */
type WriteIfChanged = (file: string, known: string | null) => Promise<(Written & { readonly version: string | null }) | null>;

/** @throws SplitrunError CACHE_UNUSABLE */
export async function openContentCache(directory: string): Promise<ContentCache> {
  await privateDirectory(directory);
  await pruneCache(directory);
  const placeOf = (sha256: string, ending: string) => path.join(directory, sha256 + ending);

  const noteOf = (name: string) => path.join(directory, "index", `${createHash("sha256").update(name).digest("hex")}.json`);

  /** The copy that was noted, if it is still there and whole. */
  async function kept(note: string, ending: string): Promise<(CachedFile & { readonly version: string }) | null> {
    const noted = await readNote(note);
    if (noted === null) return null;
    const { sha256, bytes, version } = noted;
    const place = placeOf(sha256, ending);
    await Promise.all([noteUse(note), noteUse(place)]);
    return (await sizeOf(place)) === bytes ? { sha256, bytes, path: place, version } : null;
  }

  const copyOf = ({ sha256, bytes }: Written, ending: string): CachedFile => ({ sha256, bytes, path: placeOf(sha256, ending) });

  /** Appears under its name whole or not at all. null: nothing was written. */
  async function intoPlace<Result extends Written | null>(ending: string, write: (file: string) => Promise<Result>): Promise<Result> {
    const temporary = path.join(directory, `.${randomBytes(8).toString("hex")}.tmp`);
    try {
      const written = await write(temporary);
      if (written === null) return written;
      await chmod(temporary, 0o600);
      await rename(temporary, placeOf(written.sha256, ending));
      return written;
    } catch (cause) {
      throw asFull(cause);
    } finally {
      await rm(temporary, { force: true });
    }
  }

  async function keepWritten(ending: string, write: WriteFile): Promise<CachedFile> {
    return copyOf(await intoPlace(ending, write), ending);
  }

  async function noteCopy(note: string, version: string, { sha256, bytes }: CachedFile): Promise<void> {
    await writeNote(note, { version, sha256, bytes }).catch((cause: unknown) => {
      throw asFull(cause);
    });
  }

  function asFull(cause: unknown): unknown {
    if (!isFull(cause)) return cause;
    return new SplitrunError(`the cache ${directory} is full: ${cause.message}; make room, or set SPLITRUN_CACHE_DIR to another disk`, { code: "CACHE_UNUSABLE", value: directory, cause });
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
      const known = await kept(note, path.extname(file));
      if (known?.version === identity.text) return known;

      const copy = await keepWritten(path.extname(file), (temporary) => copyHashed(file, temporary));
      if ((await identityOf(file)).text !== identity.text) {
        throw new SplitrunError(`${file} changed while it was read; start again once it is complete`, { code: "FILE_CHANGED", value: file });
      }
      // A change right after reading could leave size and time as they were (as in git's index): young files are not noted.
      if (Date.now() - identity.modifiedMs >= settledMs) await noteCopy(note, identity.text, copy);
      return copy;
    },
    async keepChanging(name, ending, write) {
      const note = noteOf(name);
      const known = await kept(note, ending);
      const written = await intoPlace(ending, (temporary) => write(temporary, known?.version ?? null));
      if (written === null && known !== null) return known;
      if (written === null) throw new TypeError(`${name} is said not to have changed, and was never there`);
      const copy = copyOf(written, ending);
      if (written.version !== null) await noteCopy(note, written.version, copy);
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

async function copyHashed(from: string, to: string): Promise<Written> {
  const hash = createHash("sha256");
  let bytes = 0;
  // Open before anything can fail: a stream that opens it by itself may do so after what is half was removed.
  const handle = await open(to, "wx", 0o600);
  await pipeline(
    createReadStream(from, { highWaterMark: 1 << 20 }),
    async function* (chunks: AsyncIterable<Buffer>) {
      for await (const chunk of chunks) {
        hash.update(chunk);
        bytes += chunk.length;
        yield chunk;
      }
    },
    handle.createWriteStream(),
  );
  return { sha256: hash.digest("hex"), bytes };
}

interface Identity {
  readonly text: string;
  readonly modifiedMs: number;
}

async function identityOf(file: string): Promise<Identity> {
  const { dev, ino, size, mtimeNs, ctimeNs, mtimeMs } = await stat(file, { bigint: true });
  return { text: [dev, ino, size, mtimeNs, ctimeNs].join(":"), modifiedMs: Number(mtimeMs) };
}

const settledMs = 2000;

const noteSchema = z.object({ version: z.string(), sha256: z.string().regex(/^[0-9a-f]{64}$/), bytes: z.number() });
/** Of what goes by a name: which copy is of which version. */
type Note = z.infer<typeof noteSchema>;

async function writeNote(file: string, note: Note): Promise<void> {
  const temporary = `${file}.${randomBytes(6).toString("hex")}.tmp`;
  try {
    await writeFile(temporary, JSON.stringify(note), { mode: 0o600 });
    await rename(temporary, file);
  } finally {
    await rm(temporary, { force: true });
  }
}

async function readNote(file: string): Promise<Note | null> {
  try {
    return noteSchema.parse(JSON.parse(await readFile(file, "utf8")));
  } catch {
    // Not noted, or half a note: the file is read again.
    return null;
  }
}

async function sizeOf(file: string): Promise<number | null> {
  return stat(file).then(({ size }) => size, () => null);
}
