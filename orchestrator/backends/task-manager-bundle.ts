import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** The Task Manager's bundle: beside the built orchestrator, or in `dist/` when that runs from its sources. */
export function taskManagerBundlePath(): string {
  const candidates = ["./task-manager.js", "../../dist/task-manager.js"].map((place) => fileURLToPath(new URL(place, import.meta.url)));
  const found = candidates.find((place) => existsSync(place));
  if (found === undefined) throw new Error("the Task Manager's bundle is missing: run `npm run build`");
  return found;
}
