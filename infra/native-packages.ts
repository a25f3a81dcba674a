import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdir, readFile, rename, rm, stat } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import { promisify } from "node:util";
import { SplitrunError } from "../orchestrator/errors.ts";
import type { Architecture } from "./options.ts";

/** A package as it is installed, and which of its files a function needs. */
export interface NativePackage {
  readonly name: string;
  readonly version: string;
  readonly directory: string;
  readonly needs: (file: string) => boolean;
}

/** What npm calls the processors. */
const cpus: Readonly<Record<Architecture, string>> = { x86_64: "x64", arm64: "arm64" };
const fetchTimeoutMs = 300_000;
const require = createRequire(import.meta.url);

/**
 * onnxruntime and sharp with what they load, for Linux with glibc on one architecture. Packages for another machine
 * than this one are fetched by npm into `cacheDir`, once a version.
 * @throws SplitrunError PACKAGE_FETCH
 */
export async function nativePackages(architecture: Architecture, cacheDir: string): Promise<readonly NativePackage[]> {
  const cpu = cpus[architecture];
  const onnx = await installed("onnxruntime-node", require.resolve("onnxruntime-node"));
  const sharp = await installed("sharp", require.resolve("sharp"));
  const ofOnnx = createRequire(path.join(onnx.directory, "package.json"));
  const ofSharp = createRequire(path.join(sharp.directory, "package.json"));
  const runsHere = /\.(c?js|mjs|json)$|^LICEN[CS]E/;
  const libraries = new RegExp(`^bin/napi-v\\d+/linux/${cpu}/(libonnxruntime\\.so\\.1|onnxruntime_binding\\.node)$`);
  const binaries = await sharpBinaries(sharp, cpu, cacheDir);
  return [
    { ...onnx, needs: (file) => libraries.test(file) || /^(package\.json|dist\/[^/]+\.js)$/.test(file) },
    { ...(await installed("onnxruntime-common", ofOnnx.resolve("onnxruntime-common"))), needs: (file) => /^(package\.json|dist\/(cjs|esm)\/[^/]+\.(js|json))$/.test(file) },
    { ...sharp, needs: (file) => /^(package\.json|LICENSE|dist\/[^/]+\.(cjs|mjs))$/.test(file) },
    ...(await Promise.all(["@img/colour", "detect-libc", "semver"].map(async (name) => ({ ...(await installed(name, ofSharp.resolve(name))), needs: (file: string) => runsHere.test(file) })))),
    ...binaries,
  ];
}

type Installed = Omit<NativePackage, "needs">;

/** The package that holds `file`. */
async function installed(name: string, file: string): Promise<Installed> {
  for (let directory = path.dirname(file); directory !== path.dirname(directory); directory = path.dirname(directory)) {
    const manifest = await manifestOf(directory);
    if (manifest?.name === name) return { name, version: manifest.version, directory };
  }
  throw new SplitrunError(`the package ${name} has no package.json above ${file}; install splitrun again`, { code: "PACKAGE_INCOMPLETE", value: name });
}

interface Manifest {
  readonly name: string;
  readonly version: string;
}

async function manifestOf(directory: string): Promise<Manifest | null> {
  const text = await readFile(path.join(directory, "package.json"), "utf8").catch(() => null);
  return text === null ? null : JSON.parse(text) as Manifest;
}

/** sharp's binary and libvips: beside sharp where this machine is of the same kind, else fetched. */
async function sharpBinaries(sharp: Installed, cpu: string, cacheDir: string): Promise<readonly NativePackage[]> {
  const names = [`@img/sharp-linux-${cpu}`, `@img/sharp-libvips-linux-${cpu}`];
  const found = (await binariesIn(names, nodeModulesOf(sharp))) ?? (await binariesIn(names, await fetched(sharp, cpu, cacheDir)));
  if (found !== null) return found;
  throw new SplitrunError(`sharp@${sharp.version} for linux/${cpu} lacks ${names.join(" or ")}; remove lambda-packages from ${cacheDir} and try again`, { code: "PACKAGE_INCOMPLETE", value: cpu });
}

function nodeModulesOf({ name, directory }: Installed): string {
  return directory.slice(0, -(name.length + 1));
}

/** null: not all of them are there. */
async function binariesIn(names: readonly string[], nodeModules: string): Promise<readonly NativePackage[] | null> {
  const found = await Promise.all(names.map(async (name) => {
    const directory = path.join(nodeModules, name);
    const manifest = await manifestOf(directory);
    return manifest === null ? null : { name, version: manifest.version, directory, needs: (file: string) => !/\.(h|md|d\.ts)$/.test(file) };
  }));
  return found.every((each) => each !== null) ? found : null;
}

/** @returns `node_modules` of an installation for the other machine */
async function fetched(sharp: Installed, cpu: string, cacheDir: string): Promise<string> {
  const place = path.join(cacheDir, "lambda-packages", `sharp-${sharp.version}-linux-${cpu}`);
  const nodeModules = path.join(place, "node_modules");
  if (await stat(nodeModules).then(() => true, () => false)) return nodeModules;
  // Under a name of its own first: npm can be interrupted.
  const temporary = `${place}.${randomBytes(4).toString("hex")}`;
  await mkdir(temporary, { recursive: true, mode: 0o700 });
  try {
    await install(`sharp@${sharp.version}`, cpu, temporary);
    await rename(temporary, place).catch(async (cause: unknown) => {
      // Another process was faster with the same.
      if (!(await stat(nodeModules).then(() => true, () => false))) throw cause;
    });
    return nodeModules;
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}

async function install(what: string, cpu: string, prefix: string): Promise<void> {
  const flags = ["--no-save", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error", "--os=linux", `--cpu=${cpu}`, "--libc=glibc"];
  try {
    await promisify(execFile)("npm", ["install", "--prefix", prefix, ...flags, what], {
      cwd: prefix, timeout: fetchTimeoutMs, env: { ...process.env, ONNXRUNTIME_NODE_INSTALL: "skip" },
    });
  } catch (cause) {
    const { stderr = "", message } = cause as Error & { readonly stderr?: string };
    const why = stderr.trim().split("\n").slice(-3).join(" ") || message;
    throw new SplitrunError(`${what} for linux/${cpu} could not be fetched by npm: ${why}; it is needed because this machine is of another kind`, { code: "PACKAGE_FETCH", value: what, cause });
  }
}
