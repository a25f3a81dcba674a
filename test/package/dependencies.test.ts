import { readFile } from "node:fs/promises";
import path from "node:path";
import { expect, test } from "vitest";

const root = path.resolve(import.meta.dirname, "../..");

test("docs/dependencies.md says of every dependency what it is for, and of none that is gone", async () => {
  const manifest = JSON.parse(await readFile(path.join(root, "package.json"), "utf8")) as Record<"dependencies" | "devDependencies", Record<string, string>>;
  const page = await readFile(path.join(root, "docs/dependencies.md"), "utf8");
  const named = page.split("\n").flatMap((line) => {
    const [, packages = "", purpose = ""] = /^\| (`.+?) \| (.+?) \|/.exec(line) ?? [];
    return purpose === "" ? [] : [...packages.matchAll(/`([^`]+)`/g)].map(([, name]) => name);
  });
  expect(named.toSorted()).toEqual([...Object.keys(manifest.dependencies), ...Object.keys(manifest.devDependencies)].toSorted());
});
