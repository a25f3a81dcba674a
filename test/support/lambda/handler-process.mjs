// Calls a function's handler once, as Lambda would, and tells what became of the process on the way.
// Usage: node handler-process.mjs FOLDER REQUEST.json, with the function's code in FOLDER.
import { readFile } from "node:fs/promises";
import path from "node:path";
import { Writable } from "node:stream";
import { pathToFileURL } from "node:url";
import threads from "node:worker_threads";

const [folder, requestFile] = process.argv.slice(2);
const event = JSON.parse(await readFile(requestFile, "utf8"));

const started = [];
const ends = [];
threads.Worker = class extends threads.Worker {
  constructor(entry, options) {
    super(entry, options);
    started.push(options.name);
    ends.push(new Promise((resolve) => this.once("exit", () => resolve(options.name))));
  }
};
globalThis.awslambda = { streamifyResponse: (handler) => handler };
process.env.LAMBDA_TASK_ROOT = folder;
process.env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE ??= "1769";

const { handler } = await import(pathToFileURL(path.join(folder, "lambda.js")).href);
const startedAtInit = [...started];
let text = "";
const stream = new Writable({
  write(chunk, _encoding, done) {
    text += chunk;
    done();
  },
});
await handler(event, stream, { getRemainingTimeInMillis: () => 300_000 });
const builtins = process.moduleLoadList.filter((name) => name.startsWith("NativeModule ")).map((name) => name.slice("NativeModule ".length));
// With a function task, those that were started for a model end by themselves.
const ended = event.configure.task.kind === "function" ? await Promise.all(ends.slice(0, startedAtInit.length)) : [];
process.stdout.write(JSON.stringify({ startedAtInit, started, ended, builtins, lines: text.trimEnd().split("\n").map((line) => JSON.parse(line)) }), () => process.exit(0));
