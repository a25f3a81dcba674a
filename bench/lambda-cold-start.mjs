// What a cold start costs: node bench/lambda-cold-start.mjs [--rounds 10] [--runtime nodejs22.x] [--trace | --pieces]
import path from "node:path";

process.argv.splice(2, 0, path.join(import.meta.dirname, "lambda-cold-start.ts"));
await import("../scripts/run-ts.mjs");
