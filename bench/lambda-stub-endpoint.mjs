// A stub of Lambda's endpoint, in a process of its own: each invocation takes a fixed time and streams a result for each of
// its items back in the real encoding, some at a time, as a function does. It runs nothing.
//   node bench/lambda-stub-endpoint.mjs [--seconds 1] [--reports 4]     prints its address; at the end (SIGTERM) what it saw
import { createServer } from "node:http";
import { parseArgs } from "node:util";
import { crc32 } from "node:zlib";

const { values } = parseArgs({ options: { seconds: { type: "string", default: "1" }, reports: { type: "string", default: "4" } } });
const invocationMs = Number(values.seconds) * 1000;
const reports = Number(values.reports);
const protocol = 2;

const payloadHeaders = eventHeaders({ ":event-type": "PayloadChunk", ":content-type": "application/octet-stream", ":message-type": "event" });
const completeHeaders = eventHeaders({ ":event-type": "InvokeComplete", ":content-type": "application/json", ":message-type": "event" });
const seen = { invocations: 0, items: 0, inFlight: 0, inFlightMax: 0, cut: 0 };
let requests = 0;

const server = createServer((request, response) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    if (!request.url.includes("/response-streaming-invocations")) return response.writeHead(404, { "x-amzn-errortype": "ResourceNotFoundException" }).end("{}");
    answer(JSON.parse(Buffer.concat(chunks)), response);
  });
});
server.keepAliveTimeout = 60_000;
server.listen(0, "127.0.0.1", 4096, () => console.log(`http://127.0.0.1:${server.address().port}`));
process.on("SIGTERM", () => {
  console.log(JSON.stringify(seen));
  process.exit(0);
});

function answer(event, response) {
  requests += 1;
  const requestId = `00000000-0000-4000-8000-${String(requests).padStart(12, "0")}`;
  const startedMs = performance.now();
  response.writeHead(200, { "content-type": "application/vnd.amazon.eventstream", "x-amzn-requestid": requestId, "x-amz-executed-version": "1" });
  // What a function writes at once reaches Lambda together, and goes on as one event.
  const write = (...lines) => response.write(frame(payloadHeaders, Buffer.from(lines.map((line) => `${JSON.stringify(line)}\n`).join(""))));
  const end = () => {
    const durationMs = performance.now() - startedMs;
    write({ kind: "invocation-ended", durationMs, rssMb: 150, cpuMs: durationMs, leaves: false });
    const report = `REPORT RequestId: ${requestId}\tDuration: ${durationMs.toFixed(2)} ms\tBilled Duration: ${Math.ceil(durationMs)} ms\tMemory Size: 1769 MB\tMax Memory Used: 150 MB\t\n`;
    response.end(frame(completeHeaders, Buffer.from(JSON.stringify({ LogResult: Buffer.from(report).toString("base64") }))));
  };
  const began = {
    kind: "invocation-began", protocol, environment: `stub/${requests}`, cold: false, initMs: null, memoryMb: 1769, ephemeralMb: 512, architecture: "x86_64",
    region: "us-east-1", functionVersion: "1", remainingMs: 900_000, versions: { splitrun: "stub", node: process.version },
  };
  write(began, ...(event.kind === "ping" ? [] : [{ kind: "configured", room: 2, lanes: 1, stageLanes: { function: 1 }, inputs: [], outputs: [] }]));
  if (event.kind !== "work") return end();

  seen.invocations += 1;
  seen.inFlight += 1;
  seen.inFlightMax = Math.max(seen.inFlightMax, seen.inFlight);
  response.on("close", () => {
    seen.inFlight -= 1;
    if (!response.writableFinished) seen.cut += 1;
  });
  const items = event.assigns.flatMap(({ assignment, items }) => indexesOf(items).map((index) => ({ assignment, index })));
  let report = 0;
  const next = () => {
    if (response.destroyed) return;
    const part = items.slice(Math.floor((items.length * report) / reports), Math.floor((items.length * (report + 1)) / reports));
    report += 1;
    const lines = [];
    for (const [assignment, indexes] of byAssignment(part)) {
      for (let at = 0; at < indexes.length; at += 64) lines.push({ kind: "begun", assignment, items: indexes.slice(at, at + 64) });
      lines.push({
        kind: "items", assignment, errors: [],
        results: indexes.map((index) => ({ index, output: { label: "tabby", score: 0.9321, top: [{ label: "tabby", score: 0.9321 }] } })),
        stages: { function: { items: indexes.length, busyMs: invocationMs / reports, waitMs: 0 } },
      });
    }
    write(...lines);
    seen.items += part.length;
    if (report < reports) return setTimeout(next, invocationMs / reports);
    end();
  };
  setTimeout(next, invocationMs / reports);
}

function byAssignment(items) {
  const groups = new Map();
  for (const { assignment, index } of items) groups.set(assignment, [...(groups.get(assignment) ?? []), index]);
  return groups;
}

function indexesOf(ranges) {
  const indexes = [];
  for (let at = 0; at < ranges.length; at += 2) for (let index = ranges[at]; index < ranges[at + 1]; index++) indexes.push(index);
  return indexes;
}

/** https://docs.aws.amazon.com/lexv2/latest/dg/event-stream-encoding.html: lengths, headers, payload, two checksums. */
function frame(headers, payload) {
  const total = 16 + headers.length + payload.length;
  const bytes = Buffer.allocUnsafe(total);
  bytes.writeUInt32BE(total, 0);
  bytes.writeUInt32BE(headers.length, 4);
  bytes.writeUInt32BE(crc32(bytes.subarray(0, 8)), 8);
  headers.copy(bytes, 12);
  payload.copy(bytes, 12 + headers.length);
  bytes.writeUInt32BE(crc32(bytes.subarray(0, total - 4)), total - 4);
  return bytes;
}

function eventHeaders(headers) {
  return Buffer.concat(Object.entries(headers).map(([name, value]) => {
    const bytes = Buffer.alloc(4 + name.length + value.length);
    bytes[0] = name.length;
    bytes.write(name, 1);
    // A string.
    bytes[1 + name.length] = 7;
    bytes.writeUInt16BE(value.length, 2 + name.length);
    bytes.write(value, 4 + name.length);
    return bytes;
  }));
}
