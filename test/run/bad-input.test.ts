import { mkdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { jsonLines, splitrun } from "../support/cli.ts";
import { startFaultServer } from "../support/fault-server.ts";
import { temporaryFolder } from "../support/function-task.ts";
import { meanColorModel } from "../support/onnx.ts";

interface Line {
  readonly index: number;
  readonly input: string;
  readonly output?: { readonly label: string; readonly score: number };
  readonly error?: { readonly code: string; readonly stage: string; readonly message: string };
  readonly attempts: number;
}

const attemptsMax = 2;

test("every kind of bad image ends as its own error, and all the others have results", async () => {
  const folder = await temporaryFolder(onTestFinished);
  const server = await startFaultServer();
  onTestFinished(() => server.stop());
  // A host that refuses everybody holds up its own items only.
  const busy = await startFaultServer();
  onTestFinished(() => busy.stop());
  const { origin } = server;

  await mkdir(path.join(folder, "pictures"));
  const spaced = path.join(folder, "pictures", "ein Bild mit Ümläut.jpg");
  await writeFile(spaced, server.okJpeg);
  await writeFile(path.join(folder, "pictures", "empty.jpg"), "");
  await writeFile(path.join(folder, "model.onnx"), meanColorModel({ input: ["N", 3, "H", "W"] }));

  const bad: readonly (readonly [input: string, code: string, stage: string, attempts: number])[] = [
    ["http://no-such-host.invalid/a.jpg", "DOWNLOAD_DNS", "download", 0],
    ["http://127.0.0.1:9/a.jpg", "DOWNLOAD_CONNECT", "download", attemptsMax],
    [`${origin}/reset-mid-body/a`, "DOWNLOAD_RESET", "download", attemptsMax],
    [`${origin}/short-body/a`, "DOWNLOAD_RESET", "download", attemptsMax],
    [`${origin}/status/404/a`, "DOWNLOAD_STATUS", "download", 1],
    [`${origin}/status/500/a`, "DOWNLOAD_STATUS", "download", attemptsMax],
    [`${origin}/never/a`, "DOWNLOAD_IDLE", "download", attemptsMax],
    [`${origin}/headers-then-silence/a`, "DOWNLOAD_IDLE", "download", attemptsMax],
    [`${origin}/byte-a-second/a?everyMs=100`, "DOWNLOAD_TIMEOUT", "download", attemptsMax],
    [`${origin}/redirect-loop`, "DOWNLOAD_REDIRECTS", "download", 1],
    [`${origin}/redirect-to-metadata`, "DOWNLOAD_FORBIDDEN_ADDRESS", "download", 1],
    ["http://169.254.169.254/latest/meta-data/", "DOWNLOAD_FORBIDDEN_ADDRESS", "download", 1],
    [`${origin}/huge-content-length/a`, "DOWNLOAD_TOO_LARGE", "download", 1],
    [`${origin}/endless/a`, "DOWNLOAD_TOO_LARGE", "download", 1],
    [`${origin}/gzip-bomb`, "DOWNLOAD_TOO_LARGE", "download", 1],
    [`${origin}/empty`, "DOWNLOAD_EMPTY", "download", 1],
    [`${origin}/truncated.jpg`, "DECODE_TRUNCATED", "preprocess", 1],
    [`${origin}/text.jpg`, "DECODE_FORMAT", "preprocess", 1],
    [`${origin}/html`, "DECODE_FORMAT", "preprocess", 1],
    [`${origin}/pixel-bomb.png`, "DECODE_TOO_MANY_PIXELS", "preprocess", 1],
    ["ftp://127.0.0.1/a.jpg", "INPUT_SCHEME", "download", 1],
    ["http://", "INPUT_INVALID", "download", 1],
    ["pictures/not-there.jpg", "INPUT_NOT_FOUND", "download", 1],
    ["pictures/empty.jpg", "DOWNLOAD_EMPTY", "download", 1],
    [`${busy.origin}/status/429/a`, "HOST_BLOCKED", "run", 0],
    [`${busy.origin}/status/429/b?retryAfter=1`, "HOST_BLOCKED", "run", 0],
  ];
  const good = [
    ...Array.from({ length: 40 }, (_, n) => `${origin}/ok/${n}.jpg`),
    `${origin}/1x1.png`,
    `${origin}/4000x3.png`,
    `${origin}/gzip-ok`,
    `${origin}/redirect/3`,
    `${origin}/then-ok/500/1/once`,
    `${origin}/then-ok/503/1/busy-once?retryAfter=1`,
    spaced,
    "pictures/ein Bild mit Ümläut.jpg",
  ];
  const list = interleaved(good, bad.map(([input]) => input));
  await writeFile(path.join(folder, "list.txt"), `${list.join("\n")}\n`);
  await writeFile(
    path.join(folder, "job.yaml"),
    `input: list.txt
task:
  kind: inference
  model: model.onnx
  download: { timeoutMs: 8000, idleTimeoutMs: 3000, maxBytes: 5000000, hostBlockedMs: 3500 }
attemptsMax: ${attemptsMax}
output: out
`,
  );
  const end = await splitrun(["run", "job.yaml", "--json"], { cwd: folder });
  expect(end.code, end.stderr).toBe(1);
  expect(JSON.parse(end.stdout)).toMatchObject({
    state: "finished-with-errors",
    counts: { items: list.length, succeeded: good.length, failed: bad.length },
  });

  const lines = (await jsonLines<Line>(path.join(folder, "out", "results.jsonl"))).sort((a, b) => a.index - b.index);
  expect(lines.map(({ index }) => index)).toEqual(list.map((_, index) => index));
  const expected = new Map(bad.map(([input, code, stage, attempts]) => [input, { code, stage, attempts }]));
  for (const line of lines) {
    const input = list[line.index] ?? "";
    const fault = expected.get(input);
    if (fault === undefined) {
      expect(line.output, `${input}: ${JSON.stringify(line.error)}`).toBeDefined();
      continue;
    }
    expect({ input, code: line.error?.code, stage: line.error?.stage }).toEqual({ input, code: fault.code, stage: fault.stage });
    expect(line.error?.message.length, input).toBeGreaterThan(5);
    if (fault.code !== "DOWNLOAD_DNS") expect({ input, attempts: line.attempts }).toEqual({ input, attempts: fault.attempts });
  }
  expect(server.requests("/status/404/a")).toBe(1);
  expect(server.requests("/status/500/a")).toBe(attemptsMax);

  const failed = await jsonLines<{ readonly input: string }>(path.join(folder, "out", "failed.jsonl"));
  expect(failed.length).toBe(bad.length);
  expect((await splitrun(["verify", "out"], { cwd: folder })).code).toBe(0);
  for (const { code } of lines.flatMap(({ error }) => error ?? [])) expect(end.stderr).toContain(code);
});

function interleaved(first: readonly string[], second: readonly string[]): readonly string[] {
  const all: string[] = [];
  for (let at = 0; at < Math.max(first.length, second.length); at++) {
    for (const list of [first, second]) {
      const item = list[at];
      if (item !== undefined) all.push(item);
    }
  }
  return all;
}
