import { execFileSync, spawn } from "node:child_process";
import { randomInt } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";

/** Ceph's S3 gateway: an S3 server that somebody else wrote. */
export interface Radosgw {
  readonly endpoint: string;
  readonly credentials: { readonly accessKeyId: string; readonly secretAccessKey: string };
  /** Requests at once above which SlowDown is answered. */
  limitConcurrency(requests: number): Promise<void>;
  /** SIGKILL. */
  kill(): Promise<void>;
  /** Starts it again, with what was put before. */
  revive(): Promise<void>;
  stop(): Promise<void>;
}

const script = path.resolve(import.meta.dirname, "../../../scripts/radosgw.sh");
const programs = ["radosgw", "radosgw-admin", "ceph", "ceph-mon", "ceph-osd", "monmaptool"];

/** Why it cannot be started here; null: it can. */
export function radosgwMissing(): string | null {
  const missing = programs.filter((program) => !isOnPath(program));
  return missing.length === 0 ? null : `left out: not installed: ${missing.join(", ")}; Debian's packages radosgw, ceph-mon and ceph-osd have them`;
}

/** Between the look at the ports and their use somebody else may take them. */
const startsMax = 4;

export async function startRadosgw(): Promise<Radosgw> {
  for (let starts = 1; ; starts += 1) {
    try {
      return await startOnce();
    } catch (error) {
      if (starts === startsMax || !String(error).includes("Address already in use")) throw error;
    }
  }
}

async function startOnce(): Promise<Radosgw> {
  const directory = await mkdtemp(path.join(tmpdir(), "splitrun-rgw-"));
  const child = spawn(script, [directory, String(await freePort())], { stdio: ["pipe", "pipe", "pipe"] });
  let complaints = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => { complaints += text; });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const nextLine = async (): Promise<string> => {
    const line = await lines.next();
    if (line.done !== true) return line.value;
    await rm(directory, { recursive: true, force: true });
    throw new Error(`scripts/radosgw.sh ended: ${complaints}`);
  };
  const order = async (command: string): Promise<void> => {
    child.stdin.write(`${command}\n`);
    if (await nextLine() !== "done") throw new Error(`scripts/radosgw.sh: ${command} failed: ${complaints}`);
  };
  const [, endpoint = "", accessKeyId = "", secretAccessKey = ""] = (await nextLine()).split(" ");
  return {
    endpoint,
    credentials: { accessKeyId, secretAccessKey },
    limitConcurrency: (requests) => order(`limit ${requests}`),
    kill: () => order("kill"),
    revive: () => order("revive"),
    async stop() {
      const ended = once(child, "exit");
      child.stdin.end();
      await ended;
      await rm(directory, { recursive: true, force: true });
    },
  };
}

function isOnPath(program: string): boolean {
  try {
    execFileSync("sh", ["-c", `command -v ${program}`], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

/** With a free neighbour, which the server takes too; below the ports that connections and servers of tests are given. */
async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(20_000, 32_000);
    if (await isFree(port) && await isFree(port + 1)) return port;
  }
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  const listening = once(server, "listening");
  server.listen(port, "127.0.0.1");
  try {
    await listening;
  } catch {
    return false;
  }
  server.close();
  await once(server, "close");
  return true;
}
