// Kills, stops, starves and fills up real jobs on this machine: node scripts/torture.mjs --help
import path from "node:path";

process.argv.splice(2, 0, path.join(import.meta.dirname, "torture.ts"));
await import("./run-ts.mjs");
