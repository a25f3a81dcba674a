import { execFileSync } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { onTestFinished } from "vitest";

/** Whether a test can have a filesystem of its own, to fill it. */
export const ownDisk: boolean = process.getuid?.() === 0 && mountable();

/** A disk of that size, gone when the test has finished. */
export async function mountOwnDisk(size: "256k"): Promise<string> {
  const disk = await mkdtemp(path.join(tmpdir(), "splitrun-disk-"));
  execFileSync("mount", ["-t", "tmpfs", "-o", `size=${size}`, "tmpfs", disk]);
  onTestFinished(async () => {
    execFileSync("umount", ["-l", disk]);
    await rm(disk, { recursive: true, force: true });
  });
  return disk;
}

function mountable(): boolean {
  try {
    execFileSync("unshare", ["-m", "mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tmpdir()], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}
