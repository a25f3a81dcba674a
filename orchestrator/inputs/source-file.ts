import { opendir, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { SplitrunError } from "../errors.ts";
import { nearestName } from "../jobs/nearest-name.ts";

/** What `stat` says of the file that the items are read from. */
export interface SourceFile {
  readonly path: string;
  readonly size: number;
  readonly modifiedMs: number;
  readonly directory: boolean;
  /** Can be read again, unlike a pipe. */
  readonly regular: boolean;
}

/** Directory entries looked at for a suggestion. */
const candidatesMax = 10_000;

/**
 * @throws SplitrunError INPUT_NOT_FOUND, INPUT_UNREADABLE
 */
export async function statSource(path: string): Promise<SourceFile> {
  try {
    const stats = await stat(path);
    return {
      path,
      size: stats.size,
      modifiedMs: stats.mtimeMs,
      directory: stats.isDirectory(),
      regular: stats.isFile(),
    };
  } catch (error) {
    const code = errorCode(error);
    if (code === "ENOENT" || code === "ENOTDIR") throw await notFound(path);
    throw unreadable(path, error);
  }
}

/**
 * A file, where one is needed.
 * @throws SplitrunError INPUT_NOT_FOUND, INPUT_UNREADABLE, INPUT_IS_FOLDER
 */
export async function statSourceFile(path: string, format: string): Promise<SourceFile> {
  const file = await statSource(path);
  if (!file.directory) return file;
  throw new SplitrunError(
    `input ${path} is a folder, and format ${format} needs a file; without a format its images are taken`,
    { code: "INPUT_IS_FOLDER", field: "input", value: path },
  );
}

export function unreadable(path: string, cause: unknown): SplitrunError {
  if (cause instanceof SplitrunError) return cause;
  return new SplitrunError(`input ${path} cannot be read: ${reasonOf(cause)}`, {
    code: "INPUT_UNREADABLE",
    field: "input",
    value: path,
    cause,
  });
}

async function notFound(path: string): Promise<SplitrunError> {
  const missing = await firstMissing(path);
  const nearest = nearestName(basename(missing), await namesIn(dirname(missing)));
  const what = missing === path ? `input ${path} does not exist` : `input ${path} does not exist: there is no ${missing}`;
  const hint = nearest === null ? "" : `; did you mean ${join(dirname(missing), nearest)}?`;
  return new SplitrunError(what + hint, { code: "INPUT_NOT_FOUND", field: "input", value: path });
}

/** The topmost part of the path that does not exist. */
async function firstMissing(path: string): Promise<string> {
  const parent = dirname(path);
  if (parent === path) return path;
  const found = await stat(parent).then(() => true, () => false);
  return found ? path : firstMissing(parent);
}

async function namesIn(directory: string): Promise<readonly string[]> {
  const names: string[] = [];
  try {
    for await (const entry of await opendir(directory)) {
      names.push(entry.name);
      if (names.length === candidatesMax) break;
    }
  } catch {
    // Only a hint is lost.
  }
  return names;
}

function errorCode(error: unknown): string | undefined {
  return error instanceof Error && "code" in error ? String(error.code) : undefined;
}

const reasons: Readonly<Record<string, string>> = {
  EACCES: "permission denied",
  EPERM: "permission denied",
  ELOOP: "too many symbolic links",
  ENAMETOOLONG: "the name is too long",
  Z_DATA_ERROR: "its gzip data is damaged",
  Z_BUF_ERROR: "its gzip data ends too early",
};

function reasonOf(cause: unknown): string {
  const reason = reasons[errorCode(cause) ?? ""];
  return reason ?? (cause instanceof Error ? cause.message : String(cause));
}
