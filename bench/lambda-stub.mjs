// The orchestrator alone, against a stub of Lambda's endpoint in a process of its own: 1000 invocations in flight, 1 s
// each, 100 items an invocation, journal and events on disk; the orchestrator on one core, the stub on another.
//   node bench/lambda-stub.mjs [--items 2000000] [--in-flight 1000] [--split 100] [--seconds 1] [--rounds 1] [--bare]
// `--bare`: not the orchestrator, but a program that does nothing but to invoke by the AWS SDK and to parse the answers.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createWriteStream } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import { measure } from "./measure.mjs";

const { values } = parseArgs({
  options: {
    items: { type: "string", default: "2000000" }, "in-flight": { type: "string", default: "1000" }, split: { type: "string", default: "100" },
    seconds: { type: "string", default: "1" }, rounds: { type: "string", default: "1" }, bare: { type: "boolean", default: false },
    /** Options of the orchestrator's node, such as --cpu-prof. */
    node: { type: "string", default: "" },
  },
});
const items = Number(values.items);
const here = import.meta.dirname;
const folder = await mkdtemp(path.join(tmpdir(), "splitrun-bench-"));
try {
  const list = path.join(folder, "items.txt");
  const out = createWriteStream(list);
  for (let n = 0; n < items; n += 10_000) {
    let text = "";
    for (let k = n; k < Math.min(items, n + 10_000); k++) text += `photos/2026/11/21/${String(k).padStart(9, "0")}.jpg\n`;
    if (!out.write(text)) await once(out, "drain");
  }
  out.end();
  await once(out, "close");
  for (let round = 0; round < Number(values.rounds); round++) await runOnce(list, path.join(folder, `out-${round}`));
} finally {
  await rm(folder, { recursive: true, force: true });
}

async function runOnce(list, home) {
  const stub = spawn("taskset", ["-c", "1", process.execPath, path.join(here, "lambda-stub-endpoint.mjs"), "--seconds", values.seconds], { stdio: ["ignore", "pipe", "inherit"] });
  const lines = createInterface({ input: stub.stdout })[Symbol.asyncIterator]();
  try {
    const { value: endpoint } = await lines.next();
    const loop = path.join(folder, "loop.json");
    const program = values.bare ? bareArgs() : orchestratorArgs(list, home);
    const args = ["-c", "0", process.execPath, ...values.node.split(" ").filter(Boolean), "--import", path.join(here, "loop-delay.mjs"), ...program];
    const run = await measure("taskset", args, {
      env: {
        AWS_ENDPOINT_URL_LAMBDA: endpoint, AWS_REGION: "us-east-1", AWS_ACCESS_KEY_ID: "AKIAEXAMPLE", AWS_SECRET_ACCESS_KEY: "example", AWS_EC2_METADATA_DISABLED: "true",
        SPLITRUN_BENCH_LOOP: loop, SPLITRUN_CACHE_DIR: path.join(folder, "cache"),
      },
    });
    if (run.code !== 0) throw new Error(`exit ${run.code}: ${run.stderr}${run.stdout.slice(0, 2000)}`);
    const summary = JSON.parse(run.stdout);
    const { p50Ms, p99Ms, maxMs, cpuMs } = JSON.parse(await readFile(loop, "utf8"));
    stub.kill("SIGTERM");
    const { value: told } = await lines.next();
    const { invocations, inFlightMax, cut } = JSON.parse(told);
    console.log(
      `${items} items, ${invocations} invocations, at most ${inFlightMax} in flight, ${cut} cut: ` +
        `${Math.round((items * 1000) / run.wallMs)} items/s over the whole process (${(run.wallMs / 1000).toFixed(1)} s), ${Math.round((items * 1000) / summary.makespanMs)} over the run, ` +
        `${Math.round((items * 1000) / cpuMs)} a CPU second; peak RSS ${Math.round(run.peakRssMb)} MB; event loop delay p50 ${p50Ms.toFixed(1)}, p99 ${p99Ms.toFixed(1)}, max ${maxMs.toFixed(0)} ms`,
    );
    await rm(home, { recursive: true, force: true });
  } finally {
    stub.kill("SIGKILL");
  }
}

function orchestratorArgs(list, home) {
  const settings = ["task.kind=function", `task.module=${path.join(here, "no-op.mjs")}`, `splitSize=${values.split}`];
  return [
    path.resolve(here, "../dist/cli.js"), "run", "--json", "--quiet", "--input", list, "--output", home, "--backend", "lambda", "--policy", "none",
    "--task-managers", values["in-flight"], ...settings.flatMap((set) => ["--set", set]),
  ];
}

function bareArgs() {
  return [path.join(here, "lambda-bare.mjs"), "--items", values.items, "--in-flight", values["in-flight"], "--split", values.split];
}
