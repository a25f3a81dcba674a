import { readdir } from "node:fs/promises";
import path from "node:path";

const dist = path.resolve(import.meta.dirname, "../../../dist");

/** What the build made for a function's code, without packages: a deployment adds those. */
export async function codeFiles(): Promise<readonly { readonly name: string; readonly path: string }[]> {
  const ofLambda = (await readdir(path.join(dist, "lambda"))).filter((name) => name !== "packages.json").map((name) => ({ name, path: path.join(dist, "lambda", name) }));
  return [...ofLambda, ...["task-manager.js", "task-manager-s3.js"].map((name) => ({ name, path: path.join(dist, name) }))];
}
