// What the AWS SDK takes by itself: invocations as its documentation has them, so many at once, their answers parsed and
// counted, and nothing else. Run by `lambda-stub.mjs --bare`.
//   node bench/lambda-bare.mjs --items 2000000 --in-flight 1000 --split 100
import { InvokeWithResponseStreamCommand, LambdaClient } from "@aws-sdk/client-lambda";
import { parseArgs } from "node:util";

const { values } = parseArgs({ options: { items: { type: "string" }, "in-flight": { type: "string" }, split: { type: "string" } } });
const items = Number(values.items);
const split = Number(values.split);
const inFlight = Number(values["in-flight"]);
const client = new LambdaClient({ maxAttempts: 1, requestHandler: { httpAgent: { maxSockets: inFlight, maxFreeSockets: inFlight, keepAlive: true } } });
let next = 0;
let ended = 0;

async function invoke(assignment, first, end) {
  const inputs = Array.from({ length: end - first }, (_, at) => `photos/2026/11/21/${String(first + at).padStart(9, "0")}.jpg`);
  const Payload = Buffer.from(JSON.stringify({ protocol: 3, kind: "work", assigns: [{ assignment, items: [first, end], inputs }] }));
  const { EventStream } = await client.send(new InvokeWithResponseStreamCommand({ FunctionName: "splitrun", Qualifier: "live", LogType: "Tail", Payload }));
  for await (const { PayloadChunk } of EventStream) {
    if (PayloadChunk === undefined) continue;
    for (const line of Buffer.from(PayloadChunk.Payload).toString().trimEnd().split("\n")) ended += JSON.parse(line).results?.length ?? 0;
  }
}

const startedMs = performance.now();
await Promise.all(Array.from({ length: inFlight }, async () => {
  while (next < items) {
    const first = next;
    next += split;
    await invoke(first / split, first, Math.min(items, first + split));
  }
}));
if (ended !== items) throw new Error(`${ended} results of ${items} items`);
console.log(JSON.stringify({ makespanMs: performance.now() - startedMs }));
process.exit(0);
