import { existsSync } from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import type { BuildFailure, BuildOptions, Plugin } from "esbuild";
import { SplitrunError } from "../errors.ts";

export interface BundledModule {
  /** An ES module that imports nothing but Node's own modules; its source map names the user's files. */
  readonly code: string;
  /** The same without names, places and comments: equal wherever the folder is. For fingerprints. */
  readonly normalised: string;
  readonly exports: readonly string[];
}

/**
 * A user's module with all that it imports, for Node 20 on any machine. Native packages cannot travel: they are
 * looked for where the module came from, then where the Task Manager is installed.
 * @throws SplitrunError MODULE_INVALID with file and line
 */
export async function bundleModule(file: string): Promise<BundledModule> {
  const { build } = await loadEsbuild();
  const directory = path.dirname(file);
  const options = {
    entryPoints: [file],
    absWorkingDir: directory,
    outdir: directory,
    bundle: true,
    write: false as const,
    metafile: true as const,
    format: "esm" as const,
    platform: "node" as const,
    target: "node20",
    legalComments: "none" as const,
    logLevel: "silent" as const,
    outExtension: { ".js": ".mjs" },
  } satisfies BuildOptions;
  try {
    const [readable, normalised] = await Promise.all([
      build({
        ...options,
        plugins: [nativePackages(loadedFrom(file))],
        sourcemap: "inline",
        sourceRoot: `${pathToFileURL(directory).href}/`,
        banner: { js: requireBanner },
      }),
      build({ ...options, plugins: [nativePackages((name) => `module.exports = ${JSON.stringify(name)}`)], minify: true }),
    ]);
    return {
      code: readable.outputFiles[0]?.text ?? "",
      normalised: normalised.outputFiles[0]?.text ?? "",
      exports: Object.values(readable.metafile.outputs)[0]?.exports ?? [],
    };
  } catch (cause) {
    throw bundlingError(file, cause);
  }
}

let esbuild: Promise<typeof import("esbuild")> | undefined;

/** Its first use starts a process of its own. */
export function loadEsbuild(): Promise<typeof import("esbuild")> {
  return (esbuild ??= import("esbuild"));
}

/**
 * Ends esbuild's process, which would stay as long as this one. For a process of our own that bundles nothing more: what
 * anybody else in this process has esbuild do would fail.
 */
export async function endBundling(): Promise<void> {
  await (await esbuild)?.stop();
}

// CommonJS dependencies require Node's modules; an ES module has no `require` of its own. esbuild's own shim looks
// for this name.
const requireBanner = 'import { createRequire as __splitrunCreateRequire } from "node:module"; var require = __splitrunCreateRequire(import.meta.url);';

const alwaysNative = new Set(["sharp", "onnxruntime-node"]);

/** Leaves out packages with native code. `load` gives the module that takes the place of one. */
function nativePackages(load: (name: string) => string): Plugin {
  return {
    name: "native-packages",
    setup(build) {
      build.onResolve({ filter: /^[^./]|\.node$/ }, async ({ path: name, kind, importer, resolveDir, pluginData }) => {
        if (kind === "entry-point" || pluginData === resolving || name.startsWith("node:")) return undefined;
        if (!alwaysNative.has(packageName(name))) {
          const resolved = await build.resolve(name, { kind, importer, resolveDir, pluginData: resolving });
          if (resolved.errors.length > 0 || resolved.external || !isNative(resolved.path, packageName(name))) return undefined;
        }
        return { path: name.startsWith(".") ? path.resolve(resolveDir, name) : name, namespace: "native" };
      });
      build.onLoad({ filter: /./, namespace: "native" }, ({ path: name }) => ({ contents: load(name), loader: "js" }));
    },
  };
}

const resolving = Symbol("resolving");

function packageName(specifier: string): string {
  return specifier.split("/").slice(0, specifier.startsWith("@") ? 2 : 1).join("/");
}

function isNative(file: string, name: string): boolean {
  if (file.endsWith(".node")) return true;
  const folder = `${path.sep}node_modules${path.sep}${name.replaceAll("/", path.sep)}`;
  const at = file.lastIndexOf(`${folder}${path.sep}`);
  if (at < 0) return false;
  const root = file.slice(0, at + folder.length);
  return existsSync(path.join(root, "binding.gyp")) || existsSync(path.join(root, "prebuilds"));
}

function loadedFrom(file: string): (name: string) => string {
  return (name) => `
    const { createRequire } = require("node:module");
    const { realpathSync } = require("node:fs");
    const places = [${JSON.stringify(file)}, process.argv[1] ? realpathSync(process.argv[1]) : process.cwd() + "/"];
    let first;
    for (const place of places) {
      try {
        module.exports = createRequire(place)(${JSON.stringify(name)});
        first = undefined;
        break;
      } catch (error) {
        first ??= error;
      }
    }
    if (first) throw first;
  `;
}

function bundlingError(file: string, cause: unknown): SplitrunError {
  const [first] = (cause as Partial<BuildFailure>).errors ?? [];
  const location = first?.location ?? null;
  const place = location === null ? file : `${path.resolve(path.dirname(file), location.file)}:${location.line}:${location.column + 1}`;
  const what = first?.text ?? (cause instanceof Error ? cause.message : String(cause));
  return new SplitrunError(`task.module: ${place}: ${what}`, { code: "MODULE_INVALID", field: "task.module", value: file, cause });
}
