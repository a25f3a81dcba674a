import { createHash } from "node:crypto";
import { createReadStream, existsSync } from "node:fs";
import { readdir, readFile, stat } from "node:fs/promises";
import path from "node:path";
import { pipeline } from "node:stream/promises";
import { fileURLToPath } from "node:url";
import { SplitrunError } from "../orchestrator/errors.ts";
import { nativePackages } from "./native-packages.ts";
import type { NativePackage } from "./native-packages.ts";
import type { Architecture } from "./options.ts";

/** A model or a module that jobs will ask for. */
export interface RuntimeArtifact {
  readonly sha256: string;
  readonly bytes: number;
  /** Shown to people. */
  readonly name: string;
  readonly path: string;
}

export interface PackageFile {
  /** In the package, with `/`. */
  readonly name: string;
  readonly part: PackagePart;
  readonly bytes: number;
  readonly sha256: string;
  readonly source: { readonly path: string } | { readonly text: string };
}

export const packageParts = ["task manager", "onnxruntime", "sharp", "artifacts"] as const;
export type PackagePart = (typeof packageParts)[number];

export interface PackageOptions {
  readonly architecture: Architecture;
  readonly artifacts: readonly RuntimeArtifact[];
  /** Where what npm fetches is kept. */
  readonly cacheDir: string;
}

export const handler = "lambda.handler";
const taskManagerFiles = ["task-manager.js", "task-manager-s3.js"];
/** Lambda's own files; in them, which versions of the native packages they have in one file each. */
const lambdaDirectory = "lambda";
const packedPackages = "packages.json";
const moduleEndings = /\.[cm]?js$/;

/** All that a function is made of, in the order of the names. */
export async function packageFiles({ architecture, artifacts, cacheDir }: PackageOptions): Promise<readonly PackageFile[]> {
  const natives = await nativePackages(architecture, cacheDir);
  const files = await Promise.all([
    ofText("package.json", manifestFor(artifacts)),
    ...taskManagerFiles.map((name) => ofFile(name, builtPath(name), "task manager")),
    ...(await lambdaFiles(natives)),
    ...artifacts.map((artifact) => ofFile(`artifacts/${artifact.sha256}`, artifact.path, "artifacts")),
    ...(await Promise.all(natives.map(filesOf))).flat(),
  ]);
  return files.sort((left, right) => (left.name < right.name ? -1 : 1));
}

/** With modules and no model, new environments need not get ready to decode and infer. */
function manifestFor(artifacts: readonly RuntimeArtifact[]): string {
  const forFunctions = artifacts.length > 0 && artifacts.every(({ name }) => moduleEndings.test(name));
  return `${JSON.stringify({ type: "module", private: true, ...(forFunctions ? { splitrun: { task: "function" } } : {}) })}\n`;
}

/** Of names and contents: equal wherever and however it is zipped. */
export function contentSha256Of(files: readonly PackageFile[]): string {
  const hash = createHash("sha256");
  for (const { name, sha256 } of files) hash.update(`${name}\0${sha256}\n`);
  return hash.digest("hex");
}

/** A native package of another version than it was built with is not taken from the one file that it was packed into. */
export async function lambdaFiles(natives: readonly Pick<NativePackage, "name" | "version">[]): Promise<readonly Promise<PackageFile>[]> {
  const directory = builtPath(lambdaDirectory);
  const packed = JSON.parse(await readFile(path.join(directory, packedPackages), "utf8")) as Readonly<Record<string, string>>;
  const others = Object.entries(packed).filter(([name, version]) => natives.find((native) => native.name === name)?.version !== version).map(([name]) => name);
  return (await readdir(directory)).filter((file) => file !== packedPackages).map((file) => {
    const name = others.find((other) => file === `${other}.cjs`);
    return name === undefined ? ofFile(file, path.join(directory, file), "task manager") : ofText(file, `module.exports = require(${JSON.stringify(name)});\n`);
  });
}

/** Beside this code where it is built, or in `dist/` when it runs from its sources. */
function builtPath(name: string): string {
  const candidates = [`./${name}`, `../dist/${name}`].map((place) => fileURLToPath(new URL(place, import.meta.url)));
  const found = candidates.find((place) => existsSync(place));
  if (found !== undefined) return found;
  throw new SplitrunError(`${name} is missing beside splitrun; run \`npm run build\`, or install it again`, { code: "PACKAGE_INCOMPLETE", value: name });
}

async function filesOf({ name, directory, needs }: NativePackage): Promise<readonly Promise<PackageFile>[]> {
  const part = name.startsWith("onnxruntime") ? "onnxruntime" : "sharp";
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(directory, path.join(entry.parentPath, entry.name)).split(path.sep).join("/"))
    .filter((file) => !file.startsWith("node_modules/") && needs(file))
    .map((file) => ofFile(`node_modules/${name}/${file}`, path.join(directory, file), part));
}

async function ofText(name: string, text: string): Promise<PackageFile> {
  return { name, part: "task manager", bytes: Buffer.byteLength(text), sha256: createHash("sha256").update(text).digest("hex"), source: { text } };
}

async function ofFile(name: string, file: string, part: PackagePart): Promise<PackageFile> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(file, { highWaterMark: 1 << 20 }), hash);
  return { name, part, bytes: (await stat(file)).size, sha256: hash.digest("hex"), source: { path: file } };
}
