import { stat } from "node:fs/promises";
import { basename, dirname, extname } from "node:path";
import picomatch from "picomatch";
import { SplitrunError } from "../errors.ts";
import { statSource, unreadable } from "./source-file.ts";
import type { ItemSource, SourceItem } from "./types.ts";
import type { WalkedFile, WalkFilter } from "./walk.ts";
import { Walk } from "./walk.ts";

/** The files of a folder that are taken for images; a glob takes every file that it matches. */
export const imageExtensions: ReadonlySet<string> = new Set([
  ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".tif", ".tiff", ".avif",
]);

/** Files asked for their size at once: a few for each of the four threads that do it. */
const statsAtOnce = 64;

/**
 * Images below a folder. Hidden files and folders are left out.
 * @throws SplitrunError INPUT_NOT_FOUND, INPUT_IS_FILE, INPUT_UNREADABLE
 */
export async function openFolderSource(path: string): Promise<ItemSource> {
  const visible = (name: string): boolean => !basename(name).startsWith(".");
  return openWalk("folder", path, path, {
    enter: visible,
    take: (name) => visible(name) && imageExtensions.has(extname(name).toLowerCase()),
  });
}

/**
 * Files that a pattern matches (`*`, `?`, `[…]`, `{a,b}`, `**`), hidden ones only where the pattern has the dot.
 * @throws SplitrunError INPUT_NOT_FOUND, INPUT_IS_FILE, INPUT_UNREADABLE
 */
export async function openGlobSource(pattern: string): Promise<ItemSource> {
  const { root, glob } = splitPattern(pattern);
  const matches = picomatch(glob);
  const entered = directoryFilter(glob);
  return openWalk("glob", pattern, root, { enter: entered, take: (name) => matches(name) });
}

async function openWalk(kind: "folder" | "glob", from: string, root: string, filter: WalkFilter): Promise<ItemSource> {
  const folder = await statSource(root);
  if (!folder.directory) {
    throw new SplitrunError(`input ${root} is a file, not a folder`, { code: "INPUT_IS_FILE", field: "input", value: from });
  }
  const walk = new Walk(root, filter);
  return {
    identity: { kind, from, size: null, modifiedMs: null },
    rereadable: false,
    async read(count) {
      for (;;) {
        const files = await walk.next(count);
        const items = await measureAll(files, root);
        if (items.length > 0 || files.length === 0) return items;
      }
    },
    remaining: () => walk.remaining,
    close: async () => {},
  };
}

async function measureAll(files: readonly WalkedFile[], root: string): Promise<readonly SourceItem[]> {
  const items: SourceItem[] = [];
  for (let first = 0; first < files.length; first += statsAtOnce) {
    const measured = await Promise.all(files.slice(first, first + statsAtOnce).map((file) => measure(file, root)));
    for (const item of measured) {
      if (item !== null) items.push(item);
    }
  }
  return items;
}

async function measure(file: WalkedFile, root: string): Promise<SourceItem | null> {
  if (file.unreadable) {
    if (file.path === root) throw unreadable(root, new Error("it cannot be listed"));
    return { input: file.path, error: { code: "INPUT_UNREADABLE", message: "the folder cannot be listed" } };
  }
  const stats = await stat(file.path).catch(() => null);
  // Gone, or a link to nothing: the item's own error, told when it is read.
  if (stats === null) return { input: file.path };
  if (!stats.isFile()) return null;
  return { input: file.path, weight: stats.size, version: `${stats.size}-${stats.mtimeMs}` };
}

/** The part of a pattern that is plain, and the rest. */
function splitPattern(pattern: string): { readonly root: string; readonly glob: string } {
  const { base, glob } = picomatch.scan(pattern);
  if (glob === "") return { root: unescaped(dirname(pattern)), glob: basename(pattern) };
  return { root: base === "" ? "/" : unescaped(base), glob };
}

function unescaped(pattern: string): string {
  return pattern.replace(/\\(.)/g, "$1");
}

/** Keeps the walk out of directories in which nothing can match. */
function directoryFilter(glob: string): (directory: string) => boolean {
  const parts = glob.split("/");
  const hidden = parts.some((part) => part.startsWith("."));
  // A `/` may stand inside of braces or parentheses, where parts mean nothing.
  const plain = !/[{(]/.test(glob);
  const deep = parts.indexOf("**");
  const matchers = parts.slice(0, -1).map((part) => picomatch(part));
  return (directory) => {
    const names = directory.split("/");
    const name = names.at(-1) ?? "";
    if (name.startsWith(".") && !hidden) return false;
    if (!plain || (deep !== -1 && names.length > deep)) return true;
    return matchers[names.length - 1]?.(name) ?? false;
  };
}
