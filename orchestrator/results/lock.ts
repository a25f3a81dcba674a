import { randomUUID } from "node:crypto";
import { closeSync, constants, copyFileSync, fsyncSync, linkSync, openSync, readFileSync, renameSync, rmSync, unlinkSync, writeSync } from "node:fs";
import * as z from "zod";
import { SplitrunError } from "../errors.ts";
import { errorCode } from "./durable.ts";
import { hasEnded, processIdentity, thisProcess } from "./process-identity.ts";

const owner = processIdentity.extend({
  since: z.string(),
  /** Tells this lock from every other. */
  nonce: z.string(),
});
type Owner = z.infer<typeof owner>;

export interface LockOptions {
  /** Take the lock even from an owner of another machine, which cannot be asked whether it lives. */
  readonly takeOver: boolean;
  /** For messages. */
  readonly dir: string;
}

/**
 * Takes the lock or throws; a dead owner of this machine loses it. Of any number of processes that try at the same
 * time, one gets it. Returns the way to give it back.
 *
 * The file appears with its content in it (a link to a file already written), so nobody reads half of one. Only who
 * holds the claim of a dead owner, a lock named by that owner's nonce, may put its own file in its place, and only
 * while the lock is still that dead owner's: so a slow process cannot remove what a faster one has just taken.
 *
 * @throws SplitrunError HOME_IN_USE
 */
export function acquireLock(path: string, options: LockOptions): () => void {
  const me: Owner = { ...thisProcess(), since: new Date().toISOString(), nonce: randomUUID() };
  const own = `${path}.${me.nonce}`;
  writeSynced(own, `${JSON.stringify(me)}\n`);
  try {
    take(path, own, { ...options, me });
  } finally {
    rmSync(own, { force: true });
  }
  return () => {
    if (readOwner(path)?.nonce === me.nonce) unlinkSync(path);
  };
}

interface Taking extends LockOptions {
  readonly me: Owner;
}

function take(path: string, own: string, options: Taking): void {
  for (;;) {
    if (created(path, own)) return;
    const found = readOwner(path);
    if (found === null) continue;
    if (!mayBeReplaced(found, options)) throw inUse(found, options);
    const claim = `${path}.${found.nonce}.claim`;
    take(claim, own, options);
    try {
      if (readOwner(path)?.nonce !== found.nonce) continue;
      // A rename between two links of one file does nothing, so the claim must not be what is renamed.
      const copy = `${own}.copy`;
      copyFileSync(own, copy);
      renameSync(copy, path);
      return;
    } finally {
      rmSync(claim, { force: true });
    }
  }
}

/** False: somebody has it. */
function created(path: string, own: string): boolean {
  try {
    linkSync(own, path);
    return true;
  } catch (error) {
    if (errorCode(error) === "EEXIST") return false;
    if (errorCode(error) !== "EPERM" && errorCode(error) !== "ENOTSUP" && errorCode(error) !== "ENOSYS") throw error;
  }
  // A filesystem without hard links.
  try {
    copyFileSync(own, path, constants.COPYFILE_EXCL);
    return true;
  } catch (error) {
    if (errorCode(error) === "EEXIST") return false;
    throw error;
  }
}

function mayBeReplaced(found: Owner, { me, takeOver }: Taking): boolean {
  if (found.host !== me.host) return takeOver;
  if (found.boot !== me.boot) return true;
  return hasEnded(found);
}

function inUse(found: Owner, { dir, me }: Taking): SplitrunError {
  const where = found.host === me.host ? `process ${found.pid}` : `process ${found.pid} on ${found.host}`;
  const way = found.host === me.host ? "wait for it, or stop it" : "if that machine is gone for good, use --take-over";
  return new SplitrunError(`${dir} is in use by ${where} since ${found.since}; ${way}`, {
    code: "HOME_IN_USE",
    value: { pid: found.pid, host: found.host, since: found.since },
  });
}

/** null: there is none (any more). */
function readOwner(path: string): Owner | null {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    if (errorCode(error) === "ENOENT") return null;
    throw error;
  }
  try {
    return owner.parse(JSON.parse(text));
  } catch {
    // Not written by us; nobody can be asked.
    return { host: "an unknown machine", boot: null, pid: 0, pidStart: null, since: "an unknown time", nonce: "unreadable" };
  }
}

function writeSynced(path: string, text: string): void {
  const fd = openSync(path, "wx", 0o600);
  try {
    writeSync(fd, text);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
