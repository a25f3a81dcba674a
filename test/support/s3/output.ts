import { readFile, readdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { onTestFinished } from "vitest";
import { OutputObjects } from "../../../orchestrator/results/s3/objects.ts";
import { type CliEnd, type StartedCli, splitrun, startSplitrun } from "../cli.ts";
import { temporaryFolder } from "../function-task.ts";
import { type Credentials, clientOf } from "./client.ts";

export interface Store {
  readonly endpoint: string;
  readonly credentials: Credentials;
}

export interface Line {
  readonly index: number;
  readonly input: unknown;
  readonly output?: unknown;
  readonly error?: unknown;
}

export interface Counts {
  readonly items: number;
  readonly succeeded: number;
  readonly failed: number;
  readonly reused: number;
}

export interface Summary {
  readonly state: string;
  readonly reason: string | null;
  readonly message: string;
  readonly counts: Counts;
  readonly home: string;
  readonly output: string;
  readonly notes: readonly string[];
}

export function environmentOf({ endpoint, credentials }: Store): Readonly<Record<string, string>> {
  return {
    AWS_ENDPOINT_URL_S3: endpoint,
    AWS_REGION: "us-east-1",
    AWS_ACCESS_KEY_ID: credentials.accessKeyId,
    AWS_SECRET_ACCESS_KEY: credentials.secretAccessKey,
  };
}

export const url = "s3://results/night/run/";

/** A folder with a function and a list, in which `splitrun` runs with its output in S3. */
export class OutputPlace {
  readonly folder: string;
  readonly store: Store;

  private constructor(folder: string, store: Store) {
    this.folder = folder;
    this.store = store;
  }

  static async make(store: Store, { source, items }: { readonly source: string; readonly items: number }): Promise<OutputPlace> {
    const place = await OutputPlace.empty(store);
    await writeFile(path.join(place.folder, "task.mjs"), source);
    await writeFile(path.join(place.folder, "list.jsonl"), Array.from({ length: items }, (_, n) => `${n}\n`).join(""));
    return place;
  }

  /** Another machine's: nothing is there. */
  static async empty(store: Store): Promise<OutputPlace> {
    return new OutputPlace(await temporaryFolder(onTestFinished), store);
  }

  start(args: readonly string[], env: Readonly<Record<string, string>> = {}, stdin = ""): StartedCli {
    return startSplitrun(args, { cwd: this.folder, stdin, env: { ...environmentOf(this.store), ...env } });
  }

  cli(...args: readonly string[]): Promise<CliEnd> {
    return splitrun(args, { cwd: this.folder, env: environmentOf(this.store) });
  }

  runArgs(settings: readonly string[] = []): readonly string[] {
    const all = ["task.kind=function", "task.module=./task.mjs", "task.threads=1", "taskManagers=2", "heartbeat.reportMs=20", "output.partItems=100", "output.checkpointMs=200", ...settings];
    return ["run", "--json", "--input", "list.jsonl", "--output", url, ...all.flatMap((each) => ["--set", each])];
  }

  run(settings: readonly string[] = []): Promise<CliEnd> {
    return this.cli(...this.runArgs(settings));
  }

  async home(): Promise<string> {
    const [name = ""] = await readdir(path.join(this.folder, ".splitrun")).catch(() => []);
    return path.join(this.folder, ".splitrun", name);
  }

  async journal(): Promise<string> {
    return readFile(path.join(await this.home(), "results.jsonl"), "utf8").catch(() => "");
  }

  async untilStored(lines: number): Promise<void> {
    await until(async () => (await this.journal().catch(() => "")).split("\n").length > lines);
  }
}

export async function until(condition: () => Promise<boolean>): Promise<void> {
  for (let tries = 0; !(await condition()); tries++) {
    if (tries > 3000) throw new Error("it never came to be");
    await delay(20);
  }
}

export function summaryOf(end: CliEnd): Summary {
  return JSON.parse(end.stdout) as Summary;
}

export function objectsOf(store: Store): OutputObjects {
  const objects = new OutputObjects(clientOf(store.endpoint), url);
  onTestFinished(() => objects.close());
  return objects;
}

/** All objects below the prefix, by name. */
export async function namesOf(objects: OutputObjects, folder = ""): Promise<readonly string[]> {
  const names: string[] = [];
  for await (const [name] of objects.list(folder)) names.push(name);
  return names;
}

export async function textOf(objects: OutputObjects, name: string): Promise<string> {
  const found = await objects.read(name);
  if (found === null) throw new Error(`there is no ${name}`);
  return found.text;
}

/** The parts one after the other. */
export async function partsOf(objects: OutputObjects, folder = "parts/"): Promise<string> {
  let text = "";
  for (const name of await namesOf(objects, folder)) text += await textOf(objects, name);
  return text;
}

export function linesOf(text: string): readonly Line[] {
  return text.split("\n").filter((line) => line !== "").map((line) => JSON.parse(line) as Line);
}

/** Lines in the order of the input, whose number of attempts tells only how often it went wrong. */
export function inOrder(text: string): string {
  const lines = text.split("\n").filter((line) => line !== "");
  const indexOf = (line: string): number => (JSON.parse(line) as Line).index;
  return lines.toSorted((a, b) => indexOf(a) - indexOf(b)).map((line) => `${line}\n`).join("");
}

export function withoutAttempts(text: string): string {
  return text.replace(/,"attempts":\d+\}$/gm, "}");
}

/** What is below the prefix is what a run left alone leaves: every item once, whole, and nothing that only a resume needs more of. */
export async function expectWhole(place: OutputPlace, objects: OutputObjects, expected: string): Promise<void> {
  const parts = withoutAttempts(await partsOf(objects));
  if (parts !== expected) throw new Error(`the parts are not those of a run left alone:\n${parts.slice(0, 500)}`);
  const end = await place.cli("verify", url, "--json");
  if (end.code !== 0) throw new Error(`verify: ${end.stdout}${end.stderr}`);
}

/** The parts' lines of `n => ({ twice: n * 2 })` over so many numbers. */
export function doubled(items: number): string {
  return Array.from({ length: items }, (_, n) => `{"index":${n},"input":${n},"output":{"twice":${n * 2}}}\n`).join("");
}
