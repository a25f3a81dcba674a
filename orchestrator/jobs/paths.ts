import { existsSync } from "node:fs";
import { readdir } from "node:fs/promises";
import path from "node:path";
import { nearestName } from "./nearest-name.ts";
import { isPlainObject } from "./problems.ts";

const scheme = /^[a-z][a-z0-9+.-]*:\/\//i;
/** A lone `+`, `@` or `(` is common in file names. */
const globPattern = /[*?]|\[.*\]|\{.*\}|[!@+]\(/;

/** `https`, `s3`; null: a path. */
export function schemeOf(text: string): string | null {
  return scheme.test(text) ? text.slice(0, text.indexOf(":")).toLowerCase() : null;
}

export function looksLikeGlob(text: string): boolean {
  return globPattern.test(text);
}

/** The job with its paths made absolute. Looks at nothing else: the job may still be wrong in every way. */
export function absolutePaths(job: unknown, baseDir: string): unknown {
  if (!isPlainObject(job)) return job;
  const inPlace = (text: string) => (schemeOf(text) === null ? path.resolve(baseDir, text) : text);
  const input = (text: string) => (text === "-" || schemeOf(text) !== null ? text : absoluteInput(text, baseDir));
  const output = (text: string) => (text === "print" ? text : inPlace(text));
  const policy = (text: string) => (text.indexOf("#") > 0 ? path.resolve(baseDir, text) : text);
  return mapped(job, {
    input: either(input, { from: ofText(input) }),
    output: either(output, { to: ofText(output) }),
    policy: ofText(policy),
    prices: ofText(inPlace),
    task: inside({
      model: ofText(inPlace),
      module: ofText(inPlace),
      download: inside({ certificateAuthorities: ofList(inPlace) }),
      postprocess: inside({ labels: ofText(inPlace) }),
    }),
  });
}

/** The name of a file in the same folder that was probably meant, or null. */
export async function nearestFile(file: string): Promise<string | null> {
  const names = await readdir(path.dirname(file)).catch(() => []);
  const name = nearestName(path.basename(file), names);
  return name === null ? null : path.join(path.dirname(file), name);
}

/** A pattern's own special characters must stay special, those of the directory must not become it. */
function absoluteInput(text: string, baseDir: string): string {
  const file = path.resolve(baseDir, text);
  if (path.isAbsolute(text) || !looksLikeGlob(text) || existsSync(file)) return file;
  return `${baseDir.replace(/[*?[\]{}()!@+|\\]/g, "\\$&")}/${text.replace(/^\.\//, "")}`;
}

type Change = (value: unknown) => unknown;

const ofText = (change: (text: string) => string): Change => (value) => (typeof value === "string" && value !== "" ? change(value) : value);
const ofList = (change: (text: string) => string): Change => (value) => (Array.isArray(value) ? value.map(ofText(change)) : value);
const inside = (changes: Readonly<Record<string, Change>>): Change => (value) => (isPlainObject(value) ? mapped(value, changes) : value);
const either = (change: (text: string) => string, changes: Readonly<Record<string, Change>>): Change => (value) =>
  typeof value === "string" ? ofText(change)(value) : inside(changes)(value);

function mapped(value: Readonly<Record<string, unknown>>, changes: Readonly<Record<string, Change>>): Readonly<Record<string, unknown>> {
  return Object.fromEntries(
    Object.entries(value).map(([key, part]) => {
      const change = Object.hasOwn(changes, key) ? changes[key] : undefined;
      return [key, change === undefined ? part : change(part)];
    }),
  );
}
