import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { writeFile } from "node:fs/promises";
import path from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import sharp from "sharp";
import { expect, onTestFinished, test } from "vitest";
import { jsonLines, splitrun } from "../support/cli.ts";
import { temporaryFolder } from "../support/function-task.ts";
import { meanColorModel } from "../support/onnx.ts";

interface Line {
  readonly index: number;
  readonly input: string;
  readonly error?: { readonly code: string };
  readonly attempts: number;
}

interface RunSummary {
  readonly waitedAsideMs: number;
  readonly hosts: readonly { readonly host: string; readonly refused: number }[];
}

interface Host {
  readonly url: string;
  readonly answered: number;
  readonly refused: number;
  /** Most requests at once. */
  readonly mostAtOnce: number;
  /** When it was asked, ms. */
  readonly askedMs: readonly number[];
}

/** Pictures, as long as it is asked for no more than `perSecond` in any second; so many in all while `isShut` holds. */
async function startHost(perSecond: number, isShut: () => boolean = () => false): Promise<Host> {
  const picture = await sharp({ create: { width: 24, height: 16, channels: 3, background: "#f00" } }).png().toBuffer();
  const askedMs: number[] = [];
  const host = { url: "", answered: 0, refused: 0, mostAtOnce: 0, askedMs };
  let atOnce = 0;
  let first = 0;
  const server = createServer((_request, response) => {
    const nowMs = performance.now();
    askedMs.push(nowMs);
    while ((askedMs[first] ?? nowMs) <= nowMs - 1000) first += 1;
    atOnce += 1;
    host.mostAtOnce = Math.max(host.mostAtOnce, atOnce);
    if (askedMs.length - first > perSecond || (host.answered >= perSecond && isShut())) {
      host.refused += 1;
      atOnce -= 1;
      response.writeHead(429, { "retry-after": "1" }).end();
      return;
    }
    host.answered += 1;
    setTimeout(() => {
      // Once it is sent the next may be asked for.
      atOnce -= 1;
      response.writeHead(200, { "content-type": "image/png", "content-length": picture.length }).end(picture);
    }, 10);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  host.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return host;
}

async function run(list: readonly string[], settings: readonly string[]): Promise<{ readonly lines: readonly Line[]; readonly summary: RunSummary }> {
  const folder = await temporaryFolder(onTestFinished);
  await writeFile(path.join(folder, "list.txt"), list.map((line) => `${line}\n`).join(""));
  await writeFile(path.join(folder, "model.onnx"), meanColorModel({ input: ["N", 3, "H", "W"] }));
  const set = ["resources.workersPerNode=2", "taskManagers=2", "task.preprocess.resize.width=8", "task.preprocess.resize.height=8", "task.preprocess.resize.fit=fill", "task.preprocess.crop=null", ...settings];
  const end = await splitrun(["run", "--json", "--input", "list.txt", "--model", "model.onnx", "--output", "out", ...set.flatMap((each) => ["--set", each])], { cwd: folder });
  expect(end.code, end.stderr).toBe(0);
  return { lines: await jsonLines<Line>(path.join(folder, "out", "results.jsonl")), summary: JSON.parse(end.stdout) as RunSummary };
}

test("a host that refuses what is too much gets all its items done in time, spending no tries, and holds up no other host's", async () => {
  const fine = await startHost(Infinity);
  const strict = await startHost(20, () => fine.answered < 120);
  const { lines, summary } = await run(Array.from({ length: 180 }, (_, n) => `${n % 3 === 0 ? strict.url : fine.url}/${n}.png`), []);
  expect(lines).toHaveLength(180);
  expect(lines.filter(({ attempts }) => attempts !== 1)).toEqual([]);
  // The fine host's were all there while the strict one's still waited: most of those it gives only then.
  const lastFine = lines.findLastIndex(({ input }) => input.startsWith(fine.url));
  expect(lines.slice(lastFine + 1).length).toBeGreaterThan(15);
  // Each once; one whose Task Manager was late may have been fetched by another, too.
  expect(strict.answered).toBeGreaterThanOrEqual(60);
  expect(strict.answered).toBeLessThanOrEqual(66);
  // Before it is known, both Task Managers may have eight on their way to it, and later now and then one too many. Nobody
  // who asks for all that it can gets by with so few.
  expect(strict.refused).toBeLessThanOrEqual(30);
  expect(fine.refused).toBe(0);
  expect(summary.waitedAsideMs).toBeGreaterThan(0);
  expect(summary.hosts.map(({ host }) => host)).toEqual([new URL(strict.url).host]);
  expect(summary.hosts[0]?.refused).toBeGreaterThan(0);
  expect(summary.hosts[0]?.refused).toBeLessThanOrEqual(strict.refused);
});

test("what the job allows a host holds over all Task Managers, from the first request on", async () => {
  const host = await startHost(Infinity);
  const list = Array.from({ length: 24 }, (_, n) => `${host.url}/${n}.png`);
  await run(list, ["task.download.perHost.concurrency=3"]);
  // While a share changes hands, what was begun by the old one ends. Without a limit all 24 would be under way.
  expect(host.mostAtOnce).toBeLessThanOrEqual(5);
  const paced = await startHost(Infinity);
  // What is late to look at the first request sees it nearer to the last.
  const lateness = monitorEventLoopDelay({ resolution: 5 });
  lateness.enable();
  await run(list.map((_, n) => `${paced.url}/${n}.png`), ["task.download.perHost.requestsPerSecond=15"]);
  expect(paced.askedMs).toHaveLength(24);
  // Two Task Managers may have a request or two saved up at the beginning.
  const spanMs = Math.max(...paced.askedMs) - Math.min(...paced.askedMs);
  expect(spanMs + lateness.max / 1e6).toBeGreaterThan(((24 - 4) / 15) * 1000 * 0.9);
});
