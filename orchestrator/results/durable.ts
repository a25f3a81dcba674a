import { mkdir, open, rename, stat } from "node:fs/promises";
import { dirname } from "node:path";

/** What was created, renamed or removed in a directory survives a power cut only after this. */
export async function syncDirectory(dir: string): Promise<void> {
  const handle = await open(dir, "r");
  try {
    await handle.sync();
  } catch (error) {
    // Some network filesystems cannot do it, and have nothing to be synced.
    if (errorCode(error) !== "EINVAL") throw error;
  } finally {
    await handle.close();
  }
}

/**
 * Makes a directory and those above it. Node's own `recursive` never returns where the filesystem says ENOENT for a
 * directory whose parent exists, as /proc does.
 */
export async function makeDirectories(dir: string): Promise<void> {
  try {
    await mkdir(dir, { mode: 0o700 });
  } catch (error) {
    const code = errorCode(error);
    if (code === "EEXIST" && (await stat(dir)).isDirectory()) return;
    if (code !== "ENOENT" || (await exists(dirname(dir)))) throw error;
    await makeDirectories(dirname(dir));
    await makeDirectories(dir);
  }
}

async function exists(place: string): Promise<boolean> {
  return stat(place).then(
    () => true,
    () => false,
  );
}

/** Replaces a file so that a reader, or whoever comes after a crash, finds the old text or the new one, whole. */
export async function replaceFile(path: string, text: string): Promise<void> {
  const temporary = `${path}.next`;
  const handle = await open(temporary, "w", 0o600);
  try {
    await handle.writeFile(text);
    await handle.datasync();
  } finally {
    await handle.close();
  }
  await rename(temporary, path);
  await syncDirectory(dirname(path));
}

export function errorCode(error: unknown): string | undefined {
  return error instanceof Error && "code" in error ? String(error.code) : undefined;
}
