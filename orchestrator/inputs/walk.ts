import { readdir } from "node:fs/promises";
import { join } from "node:path";

/** What a walk looks at: names are relative to its root, with `/` between the parts. */
export interface WalkFilter {
  enter(directory: string): boolean;
  take(file: string): boolean;
}

export interface WalkedFile {
  readonly path: string;
  /** A symbolic link: may still turn out to be no file. */
  readonly link: boolean;
  /** A directory that could not be listed, in place of what is in it. */
  readonly unreadable: boolean;
}

interface Frame {
  /** Relative to the root, with a `/` at its end; "" for the root itself. */
  readonly directory: string;
  readonly entries: readonly Entry[];
  next: number;
}

interface Entry {
  /** Ends in `/` for a directory, which puts whole paths, not only names, in order. */
  readonly name: string;
  readonly link: boolean;
}

/**
 * The files below a directory, in the order of their paths' UTF-16 units, so that every run finds the same order.
 * Holds the names of one directory and of those above it. Links to files count as files, links to directories are
 * not followed.
 */
export class Walk {
  readonly #root: string;
  readonly #filter: WalkFilter;
  readonly #stack: Frame[] = [];
  #started = false;
  #filesKnown = 0;
  #directoriesKnown = 1;

  constructor(root: string, filter: WalkFilter) {
    this.#root = root;
    this.#filter = filter;
  }

  /** At most `count`, none at the end. */
  async next(count: number): Promise<readonly WalkedFile[]> {
    const files: WalkedFile[] = [];
    while (files.length < count) {
      const file = await this.#step();
      if (file === null) break;
      if (file !== "directory") files.push(file);
    }
    return files;
  }

  /** Exact once every directory was listed; null before. */
  get remaining(): number | null {
    return this.#directoriesKnown === 0 ? this.#filesKnown : null;
  }

  async #step(): Promise<WalkedFile | "directory" | null> {
    if (!this.#started) {
      this.#started = true;
      return this.#descend("");
    }
    const frame = this.#stack.at(-1);
    if (frame === undefined) return null;
    const entry = frame.entries[frame.next];
    frame.next += 1;
    if (entry === undefined) {
      this.#stack.pop();
      return "directory";
    }
    const name = frame.directory + entry.name;
    if (entry.name.endsWith("/")) return this.#descend(name);
    this.#filesKnown -= 1;
    return { path: join(this.#root, name), link: entry.link, unreadable: false };
  }

  async #descend(directory: string): Promise<WalkedFile | "directory"> {
    const frame = await this.#open(directory);
    if (frame === null) return { path: join(this.#root, directory), link: false, unreadable: true };
    this.#stack.push(frame);
    return "directory";
  }

  async #open(directory: string): Promise<Frame | null> {
    this.#directoriesKnown -= 1;
    const entries = await this.#list(directory);
    if (entries === null) return null;
    for (const entry of entries) {
      if (entry.name.endsWith("/")) this.#directoriesKnown += 1;
      else this.#filesKnown += 1;
    }
    return { directory, entries, next: 0 };
  }

  async #list(directory: string): Promise<readonly Entry[] | null> {
    const listed = await readdir(join(this.#root, directory), { withFileTypes: true }).catch(() => null);
    if (listed === null) return null;
    const entries: Entry[] = [];
    for (const entry of listed) {
      const name = directory + entry.name;
      if (entry.isDirectory()) {
        if (this.#filter.enter(name)) entries.push({ name: `${entry.name}/`, link: false });
      } else if ((entry.isFile() || entry.isSymbolicLink()) && this.#filter.take(name)) {
        entries.push({ name: entry.name, link: entry.isSymbolicLink() });
      }
    }
    return entries.sort((left, right) => (left.name < right.name ? -1 : 1));
  }
}
