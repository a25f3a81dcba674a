// Bundles the product: the command line and the library, the Task Manager in one file, then the types.
import { build } from "esbuild";
import { chmod, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { execFile } from "node:child_process";
import { createRequire } from "node:module";
import { promisify } from "node:util";
import path from "node:path";

const root = path.resolve(import.meta.dirname, "..");
const dist = path.join(root, "dist");
const require = createRequire(import.meta.url);
// createRequire reads the manifest without an import assertion, which Node 20 spells otherwise than 22.
const { dependencies, version } = require("../package.json");

await rm(dist, { recursive: true, force: true });
const common = {
  bundle: true,
  platform: "node",
  target: "node20",
  format: "esm",
  sourcemap: false,
  legalComments: "none",
  logLevel: "warning",
  define: { __SPLITRUN_VERSION__: JSON.stringify(version) },
  absWorkingDir: root,
};

// A static import of a native package would load it in every thread, needed or not: as CommonJS it loads on first use.
const lazyNative = {
  name: "lazy-native",
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^(sharp|onnxruntime-node)$/ }, ({ path: name, namespace }) =>
      namespace === "lazy-native" ? { path: name, external: true } : { path: name, namespace: "lazy-native" },
    );
    onLoad({ filter: /.*/, namespace: "lazy-native" }, ({ path: name }) => ({
      contents: `module.exports = require(${JSON.stringify(name)});`,
      loader: "js",
    }));
  },
};

const nativePackages = ["sharp", "onnxruntime-node"];

// In Lambda, a package's JavaScript is one file: to find and read its 90 files takes longer than to run them.
const nativeInFiles = {
  name: "native-in-files",
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^(sharp|onnxruntime-node)$/ }, ({ path: name }) => ({ path: name, namespace: "native-in-files" }));
    onLoad({ filter: /.*/, namespace: "native-in-files" }, ({ path: name }) => ({ contents: `module.exports = require("./${name}.cjs");`, loader: "js" }));
    onResolve({ filter: /^\.\/(sharp|onnxruntime-node)\.cjs$/ }, ({ path: name }) => ({ path: name, external: true }));
  },
};

// Which native files they load is known in Lambda: Linux with glibc. What sharp asks to find it out serves its installation.
const nativeFiles = {
  name: "native-files",
  setup({ onLoad, onResolve }) {
    onResolve({ filter: /\.node$/ }, ({ path: name }) => ({ path: name, external: true }));
    onLoad({ filter: /[\\/]sharp[\\/]dist[\\/]sharp\.cjs$/ }, () => ({ contents: "module.exports = require(`@img/sharp-linux-${process.arch}/sharp.node`);", loader: "js" }));
    onLoad({ filter: /[\\/]sharp[\\/]dist[\\/]libvips\.cjs$/ }, () => ({ contents: "module.exports = { runtimePlatformArch: () => `linux-${process.arch}` };", loader: "js" }));
    onLoad({ filter: /[\\/]detect-libc[\\/]lib[\\/]detect-libc\.js$/ }, () => ({ contents: 'module.exports = { GLIBC: "glibc", MUSL: "musl", familySync: () => "glibc" };', loader: "js" }));
    // Names of colours, which nothing here has.
    onLoad({ filter: /[\\/]@img[\\/]colour[\\/]index\.cjs$/ }, () => ({ contents: 'module.exports = (...words) => require("./color.cjs").default(...words);', loader: "js" }));
    onLoad({ filter: /[\\/]onnxruntime-node[\\/]dist[\\/]binding\.js$/ }, async ({ path: file }) => ({
      contents: (await readFile(file, "utf8")).replace("require(`../bin/", "require(`onnxruntime-node/bin/"),
      loader: "js",
    }));
  },
};

// Imported as an ES module, a built-in module has all its exports read: of node:http and node:crypto some are getters that
// load Node's own fetch and WebSockets, half of what a start would cost.
const requiredBuiltins = {
  name: "required-builtins",
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^node:/ }, ({ path: name, kind }) =>
      kind === "import-statement" ? { path: name, namespace: "builtin" } : { path: name, external: true },
    );
    onLoad({ filter: /.*/, namespace: "builtin" }, ({ path: name }) => ({
      contents: `module.exports = require(${JSON.stringify(name)});`,
      loader: "js",
    }));
  },
};

// What a Task Manager downloads with, and not the rest of undici: fetch, WebSockets, caches and HTTP/2 (which is never
// asked for) cost a start four times as much.
const downloadsOfUndici = {
  name: "downloads-of-undici",
  setup({ onLoad }) {
    const parts = { Agent: "dispatcher/agent", Pool: "dispatcher/pool", EnvHttpProxyAgent: "dispatcher/env-http-proxy-agent", buildConnector: "core/connect" };
    const getters = Object.entries(parts).map(([name, file]) => `get ${name}() { return require("./lib/${file}"); }`);
    // What tunnels through a proxy asks it by a method that undici's index gives to all dispatchers.
    const tunnels = 'require("./lib/dispatcher/dispatcher").prototype.connect = function (...words) { return require("./lib/api").connect.apply(this, words); };';
    onLoad({ filter: /[\\/]undici[\\/]index\.js$/ }, () => ({ contents: `${tunnels} module.exports = { ${getters.join(", ")} };`, loader: "js" }));
    onLoad({ filter: /[\\/]undici[\\/]lib[\\/]dispatcher[\\/]client-h2\.js$/ }, () => ({
      contents: 'module.exports = () => { throw new Error("HTTP/2 is not built in"); };',
      loader: "js",
    }));
    // Its parser for processors without SIMD, on which sharp does not load either.
    onLoad({ filter: /[\\/]undici[\\/]lib[\\/]llhttp[\\/]llhttp-wasm\.js$/ }, () => ({
      contents: 'throw new Error("the processor lacks SIMD, which splitrun needs to download and decode");',
      loader: "js",
    }));
  },
};

// Threads that do native work start from a source of their own inside the Task Manager's one file: a small one compiles
// at once. It has no place on disk, so it is told from where to find packages.
const nativeThread = await build({
  ...common,
  entryPoints: ["task-manager/native-thread.ts"],
  write: false,
  plugins: [lazyNative, requiredBuiltins],
  minify: true,
  keepNames: true,
  banner: { js: 'import { createRequire as __createRequire } from "node:module"; const require = __createRequire(process.getBuiltinModule("node:worker_threads").workerData.splitrunFile);' },
});

const requireBanner = 'import { createRequire as __createRequire } from "node:module"; const require = __createRequire(import.meta.url);';

// As large as the rest, and needed by few jobs: every start of a Task Manager or one of its threads would read it.
const s3Apart = {
  name: "s3-apart",
  setup({ onResolve }) {
    onResolve({ filter: /\/s3\/sdk\.ts$/ }, () => ({ path: "./task-manager-s3.js", external: true }));
  },
};

// The Task Manager travels alone to machines that have nothing of ours: all but the native packages is inside these two.
await build({
  ...common,
  entryPoints: { "task-manager": "task-manager/main.ts" },
  outdir: dist,
  plugins: [lazyNative, requiredBuiltins, downloadsOfUndici, s3Apart],
  define: { ...common.define, __SPLITRUN_NATIVE_THREAD__: JSON.stringify(nativeThread.outputFiles[0].text) },
  minify: true,
  keepNames: true,
  banner: { js: requireBanner },
});
await build({
  ...common,
  entryPoints: { "task-manager-s3": "task-manager/s3/sdk.ts" },
  outdir: dist,
  minify: true,
  keepNames: true,
  banner: { js: requireBanner },
});
// Lambda reads what it needs from files of their own, since a cold start compiles all that it reads; threads for functions
// start from the Task Manager's file.
const lambda = path.join(dist, "lambda");
await build({
  ...common,
  splitting: true,
  entryPoints: { lambda: "task-manager/lambda.ts" },
  outdir: lambda,
  plugins: [nativeInFiles, requiredBuiltins, downloadsOfUndici, s3Apart],
  define: { ...common.define, __SPLITRUN_NATIVE_THREAD_FILE__: '"./native-thread.cjs"', __SPLITRUN_THREAD_FILE__: '"./task-manager.js"' },
  minify: true,
  banner: { js: requireBanner },
});
await build({
  ...common,
  format: "cjs",
  entryPoints: { "native-thread": "task-manager/native-thread.ts" },
  outdir: lambda,
  outExtension: { ".js": ".cjs" },
  plugins: [nativeInFiles],
  minify: true,
});
await build({
  ...common,
  format: "cjs",
  entryPoints: Object.fromEntries(nativePackages.map((name) => [name, require.resolve(name)])),
  outdir: lambda,
  outExtension: { ".js": ".cjs" },
  plugins: [nativeFiles],
  minify: true,
});
// What they were made of: with other versions installed, a deployment takes the packages themselves.
await writeFile(path.join(lambda, "packages.json"), JSON.stringify(Object.fromEntries(await Promise.all(nativePackages.map(async (name) => [name, await versionOf(name)])))));

// What is imported where it is needed stays in files of its own: in one file, its packages would be loaded at every start.
await build({
  ...common,
  splitting: true,
  entryPoints: { cli: "orchestrator/cli/main.ts", index: "orchestrator/index.ts" },
  outdir: dist,
  external: Object.keys(dependencies),
});
await chmod(path.join(dist, "cli.js"), 0o755);

const tsc = path.join(path.dirname(require.resolve("typescript/package.json")), "bin", "tsc");
await promisify(execFile)(process.execPath, [tsc, "-p", path.join(root, "scripts/tsconfig.types.json")]);
await keepReachable(path.join(dist, "types"), "orchestrator/index.d.ts");

async function versionOf(name) {
  const { version: found } = JSON.parse(await readFile(path.join(root, "node_modules", name, "package.json"), "utf8"));
  return found;
}

/** tsc writes the types of every file it looked at; only those that the entry speaks of are shipped. */
async function keepReachable(folder, entry) {
  const reachable = new Set();
  const visit = async (file) => {
    if (reachable.has(file)) return;
    reachable.add(file);
    const text = await readFile(path.join(folder, file), "utf8");
    for (const [, target] of text.matchAll(/(?:from |import\()"(\.[^"]+)\.(?:ts|js)"/g)) {
      await visit(path.join(path.dirname(file), `${target}.d.ts`));
    }
  };
  await visit(entry);
  for (const file of await readdir(folder, { recursive: true, withFileTypes: true })) {
    const place = path.join(file.parentPath, file.name);
    if (file.isFile() && !reachable.has(path.relative(folder, place))) await rm(place);
  }
}
