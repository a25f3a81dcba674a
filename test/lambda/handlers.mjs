// What the functions of the emulator's tests do, as the event says.
import { spawn } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";

console.log("the module is loaded");
let calls = 0;
let ticks = 0;
let tickMs = performance.now();
/** Between two ticks, since the last call of `streamed` began: longer when nothing went on. */
let longestTickMs = 0;
setInterval(() => {
  ticks += 1;
  const nowMs = performance.now();
  longestTickMs = Math.max(longestTickMs, nowMs - tickMs);
  tickMs = nowMs;
}, 5).unref();

class ItemError extends Error {
  name = "ItemError";
}

export async function buffered(event, context) {
  calls += 1;
  console.log("call", calls, "\nof this process");
  if (event.sleepMs !== undefined) await delay(event.sleepMs);
  if (event.gate !== undefined) await opened(event.gate);
  if (event.throw !== undefined) throw new ItemError(event.throw);
  if (event.exit !== undefined) process.exit(event.exit);
  if (event.abort === true) process.abort();
  if (event.hoardMb !== undefined) await hoard(event.hoardMb);
  if (event.answerBytes !== undefined) return "x".repeat(event.answerBytes - 2);
  if (event.mark !== undefined) mark(event.mark);
  if (event.child === true) return { child: spawn("sleep", ["1000"], { stdio: "ignore" }).pid };
  return {
    event, calls, ticks, pid: process.pid, node: process.version, remainingMs: context.getRemainingTimeInMillis(), requestId: context.awsRequestId,
    arn: context.invokedFunctionArn, version: context.functionVersion, stream: context.logStreamName,
    home: process.env.HOME, tmp: tmpdir(), color: process.env.COLOR, region: process.env.AWS_REGION, root: process.env.LAMBDA_TASK_ROOT,
    kept: existsSync(path.join(tmpdir(), "kept")) ? readFileSync(path.join(tmpdir(), "kept"), "utf8") : null,
  };
}

export const streamed = awslambda.streamifyResponse(async (event, out) => {
  tickMs = performance.now();
  longestTickMs = 0;
  if (event.throwFirst !== undefined) throw new ItemError(event.throwFirst);
  for (let index = 0; index < event.lines; index += 1) {
    out.write(`${JSON.stringify({ index, padding: "x".repeat(event.padding ?? 0) })}\n`);
    if (event.mark !== undefined) mark(event.mark);
    await delay(event.everyMs ?? 5);
    if (event.throwAfter === index) throw new ItemError("in the middle");
    if (event.exitAfter === index) process.exit(3);
    if (event.gate !== undefined && index === event.lines - 2) await opened(event.gate);
  }
  while (longestTickMs < (event.stoppedMs ?? 0)) await delay(5);
  out.end();
});

/** For as long as a test keeps it in its middle. */
async function opened(gate) {
  while (!existsSync(gate)) await delay(5);
}

/** Outside of the environment, for the test to see. */
function mark(file) {
  writeFileSync(file, "x", { flag: "a" });
  writeFileSync(path.join(tmpdir(), "kept"), "from before");
}

async function hoard(megabytes) {
  const hoarded = [];
  for (let megabyte = 0; megabyte < megabytes; megabyte += 1) {
    hoarded.push(Buffer.alloc(2 ** 20, megabyte % 251));
    if (megabyte % 8 === 0) await delay(5);
  }
  // What is too much is held until it is noticed.
  if (megabytes > 100) await delay(60_000);
  return hoarded.length;
}
