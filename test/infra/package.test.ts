import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readFile, readdir, rm, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { env } from "onnxruntime-node";
import sharp from "sharp";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { contentSha256Of, lambdaFiles, packageFiles } from "../../infra/package-files.ts";
import type { PackageFile } from "../../infra/package-files.ts";
import { directZipBytesMax, partSizes, unzippedBytesMax, writePackageFolder, zipPackage } from "../../infra/zip-package.ts";
import { SplitrunError } from "../../orchestrator/errors.ts";
import { codeFiles } from "../support/lambda/code-files.ts";

let directory: string;

beforeAll(async () => {
  directory = await mkdtemp(path.join(tmpdir(), "splitrun-test-"));
});

afterAll(async () => {
  await rm(directory, { recursive: true, force: true });
});

describe.each([["x86_64", "x64", "arm64"], ["arm64", "arm64", "x64"]] as const)("the package for %s", (architecture, own, other) => {
  test("fits into a request without a model, and has the native files of this architecture alone", async (context) => {
    const files = await packageFiles({ architecture, artifacts: [], cacheDir: directory }).catch((error: unknown) => {
      if (!(error instanceof SplitrunError) || error.code !== "PACKAGE_FETCH") throw error;
      return context.skip(`npm could not fetch packages here: ${error.message}`);
    });
    const names = files.map(({ name }) => name);
    expect(names.filter((name) => !name.startsWith("node_modules/"))).toEqual([...(await codeFiles()).map(({ name }) => name), "package.json"].sort());
    expect(names.filter((name) => /\.(node|so\S*|dll|dylib)$/.test(name)).map((name) => name.replace(/\d+(\.\d+)*\.?(?=$|node$)/, "…"))).toEqual([
      `node_modules/@img/sharp-libvips-linux-${own}/lib/libvips-cpp.so.…`,
      `node_modules/@img/sharp-linux-${own}/lib/sharp-linux-${own}-…node`,
      `node_modules/onnxruntime-node/bin/napi-v6/linux/${own}/libonnxruntime.so.…`,
      `node_modules/onnxruntime-node/bin/napi-v6/linux/${own}/onnxruntime_binding.node`,
    ]);
    expect(names.filter((name) => name.includes(other) || /orchestrator|aws-sdk|adm-zip|global-agent|\.(ts|map|h|cc|exe)$/.test(name))).toEqual([]);
    for (const needed of ["sharp", "semver", "detect-libc", "@img/colour", "onnxruntime-common"]) expect(names).toContain(`node_modules/${needed}/package.json`);

    const zip = await zipPackage(files, directory);
    console.info(`${architecture}: ${zip.zippedBytes} bytes zipped, ${zip.unzippedBytes} unzipped, ${JSON.stringify(partSizes(files))}`);
    expect(zip.zippedBytes).toBeLessThan(directZipBytesMax);
    expect(zip.unzippedBytes).toBeLessThan(unzippedBytesMax);
    // Room is left for a model of the usual size.
    expect(directZipBytesMax - zip.zippedBytes).toBeGreaterThan(20e6);
  });
});

test("a native package of another version than splitrun was built with comes from its own files", async () => {
  const textsWith = async (versions: Readonly<Record<string, string>>) => {
    const files = await Promise.all(await lambdaFiles(Object.entries(versions).map(([name, version]) => ({ name, version }))));
    return files.flatMap(({ name, source }) => ("text" in source ? [{ name, text: source.text }] : []));
  };
  const built = { sharp: sharp.versions.sharp ?? "", "onnxruntime-node": env.versions.node ?? "" };
  expect(await textsWith(built)).toEqual([]);
  expect(await textsWith({ ...built, sharp: "99.0.0" })).toEqual([{ name: "sharp.cjs", text: 'module.exports = require("sharp");\n' }]);
});

function ofText(name: string, text: string, more: Partial<PackageFile> = {}): PackageFile {
  return { name, part: "task manager", bytes: Buffer.byteLength(text), sha256: createHash("sha256").update(text).digest("hex"), source: { text }, ...more };
}

describe("the zip", () => {
  test("is the same bytes for the same files, whatever their times, modes and places and whatever the time zone", async () => {
    const zones = ["UTC", "Pacific/Auckland"];
    const hashes: string[] = [];
    for (const [at, zone] of zones.entries()) {
      const place = path.join(directory, `zone-${at}`);
      await mkdir(place);
      const file = path.join(place, "model");
      await writeFile(file, "weights", { mode: at === 0 ? 0o600 : 0o755 });
      await utimes(file, at * 1e9, at * 1e9);
      const before = process.env["TZ"];
      process.env["TZ"] = zone;
      try {
        const zip = await zipPackage([ofText("a.js", "1"), { ...ofText("artifacts/model", "weights"), source: { path: file } }], place);
        expect(createHash("sha256").update(await readFile(zip.path)).digest("base64")).toBe(zip.codeSha256);
        hashes.push(zip.codeSha256);
      } finally {
        if (before === undefined) delete process.env["TZ"];
        else process.env["TZ"] = before;
      }
    }
    expect(hashes[0]).toBe(hashes[1]);
  });

  test("is another one when one byte, or one name, is another", () => {
    const hashes = [[ofText("a", "1")], [ofText("a", "2")], [ofText("b", "1")], [ofText("a", "1"), ofText("b", "1")]].map(contentSha256Of);
    expect(new Set(hashes).size).toBe(4);
  });

  test("is kept for the next time, and old ones go", async () => {
    const cache = path.join(directory, "kept");
    const made = [];
    for (const text of ["1", "2", "3", "4", "5", "6"]) made.push(await zipPackage([ofText("a", text)], cache));
    const names = await readdir(path.join(cache, "lambda-zips"));
    expect(names).toHaveLength(4);
    expect(names).toContain(path.basename(made[5]?.path ?? ""));
    await expect(zipPackage([ofText("a", "6")], cache)).resolves.toEqual(made[5]);
  });

  test("is refused when it would be too large unzipped, before anything is written, with what takes the room and the ways out", async () => {
    const cache = path.join(directory, "refused");
    const error = await zipPackage([ofText("lambda.js", "1"), ofText("artifacts/m", "", { part: "artifacts", bytes: 300e6 })], cache).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: "PACKAGE_TOO_LARGE" });
    expect(String(error)).toMatch(/300\.0 MB unzipped.*artifacts 300\.0 MB.*--staging-bucket.*container image/);
    await expect(readdir(cache)).rejects.toThrow("ENOENT");
  });

  test("of a file that is gone is an error, and leaves nothing half", async () => {
    const cache = path.join(directory, "gone");
    const files = [{ ...ofText("a", "1"), source: { path: path.join(directory, "not-there") } }];
    await expect(zipPackage(files, cache)).rejects.toThrow("ENOENT");
    expect(await readdir(path.join(cache, "lambda-zips"))).toEqual([]);
  });
});

test("the folder for a container image has the files of the zip", async () => {
  const folder = path.join(directory, "image");
  await writeFile(path.join(directory, "weights"), "weights");
  await writePackageFolder([ofText("lambda.js", "1"), { ...ofText("artifacts/m", "weights"), source: { path: path.join(directory, "weights") } }], folder);
  expect((await readdir(folder, { recursive: true })).sort()).toEqual(["artifacts", "artifacts/m", "lambda.js"]);
  expect(await readFile(path.join(folder, "artifacts/m"), "utf8")).toBe("weights");
});
